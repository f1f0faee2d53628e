"""A store that stands still for longer than anybody's ttl: fifty processes, and nobody goes down."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

import pytest

from tests.processes.crowd import LONGER, Crowd
from tests.processes.town import Town

CROWD = 50
TTL = 3.0  # another test may be at work beside this one


@contextlib.contextmanager
def blocked(town: Town, *ends: str) -> Iterator[None]:
    """Nobody else can write to these files: a backup, a full disk, a process stopped in a transaction."""
    cons = []
    try:
        for end in ends:
            con = sqlite3.connect(f"{town.path}{end}", isolation_level=None, timeout=30)
            cons.append(con)
            con.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        for con in cons:
            con.close()


@pytest.fixture(scope="module", params=["joining", "watching"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    """One crowd for all that their store has to go through: to start fifty processes takes long."""
    town = Town(f"sqlite:///{tmp_path_factory.mktemp('town')}/town.db")
    try:
        yield Crowd(town, CROWD, ttl=TTL, watch=request.param == "watching")
    finally:
        town.close()


@pytest.fixture
def crowd(place: Crowd) -> Iterator[Crowd]:
    """Whatever happened in the story before, in this one all is well at first."""
    place.is_well()
    yield place
    print(place.process.tail())


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(("", "-beats"), id="both"),
        pytest.param(("",), id="register"),
        pytest.param(("-beats",), id="beats"),
    ],
)
def test_a_store_that_stands_still_kills_nobody(crowd: Crowd, ends: tuple[str, ...]) -> None:
    """Blocked for longer than their ttl, fifty processes are the same lives as before, and beat again."""
    town = crowd.town
    with blocked(town, *ends):
        number = town.ticking.tick().number
        time.sleep(LONGER * TTL)  # how long it is blocked is the point
        assert (town.ticking.tick().number == number) == ("-beats" in ends), "the clock stands, or goes on"
        released = time.time()
    crowd.is_unharmed(released)
