"""A store that stands still for longer than anybody's ttl: fifty processes, and nobody goes down."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

import pytest

from tests.processes.town import INTERVAL, STARTING, Town, until

CROWD = 50
TTL = 2.0
SOON = 20.0


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
    crowd = town.start("m*", crowd=CROWD, ttl=TTL, watch=watch)
    until(lambda: len(crowd.said("joined")) == CROWD, lambda: len(crowd.said("joined")), 2 * STARTING)

    def unseen(since: float) -> set[str]:
        """Who has not beaten since."""
        last = town.store.last_seen("workers")
        names = [f"m*-{number:02}" for number in range(CROWD)]
        return {name for name in names if name not in last or last[name].timestamp() <= since}

    def all_beat(since: float) -> None:
        until(lambda: not unseen(since), lambda: unseen(since), SOON)

    # Fifty interpreters that start at once starve each other of the processor for longer than this ttl;
    # what is asked here is what a store that stands still does to those who are well.
    for _ in range(2):
        all_beat(time.time())
    lives = {row.key: row.incarnation for row in town.snapshot().rows if row.live}
    assert len(lives) == CROWD
    with blocked(town, *ends):
        number = town.ticking.tick().number
        time.sleep(2 * TTL)  # how long it is blocked is the point
        assert (town.ticking.tick().number == number) == ("-beats" in ends), "the clock stands, or goes on"
        released = time.time()
        seen = crowd.heard

    all_beat(released)
    number = town.ticking.tick().number
    passed = 2 * TTL / INTERVAL
    until(lambda: town.ticking.tick().number > number + passed, lambda: town.ticking.tick(), SOON)
    rows = town.snapshot().rows
    assert {row.key: row.state.value for row in rows} == dict.fromkeys(lives, "up")
    assert {row.key: row.incarnation for row in rows} == lives
    assert crowd.said("change", seen, kind="down") == []
    assert crowd.said("change", seen, kind="lost") == []
