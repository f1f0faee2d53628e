"""A store that stands still for longer than anybody's ttl: fifty processes, and nobody goes down."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

import pytest

from tests.processes.crowd import Crowd
from tests.processes.town import Town

CROWD = 50
TTL = 2.0


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


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(("", "-beats"), id="both"),
        pytest.param(("",), id="register"),
        pytest.param(("-beats",), id="beats"),
    ],
)
@pytest.mark.parametrize("watch", [False, True], ids=["joining", "watching"])
def test_a_store_that_stands_still_kills_nobody(town: Town, ends: tuple[str, ...], watch: bool) -> None:
    """Blocked for twice their ttl, fifty processes are the same lives as before, and beat again."""
    crowd = Crowd(town, CROWD, ttl=TTL, watch=watch)
    with blocked(town, *ends):
        number = town.ticking.tick().number
        time.sleep(2 * TTL)  # how long it is blocked is the point
        assert (town.ticking.tick().number == number) == ("-beats" in ends), "the clock stands, or goes on"
        released = time.time()
    crowd.is_unharmed(released)
