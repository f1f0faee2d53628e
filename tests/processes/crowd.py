"""Many member processes in one town, of whom a story wants to know that it did nobody any harm."""

from __future__ import annotations

import time

from headcount.errors import StoreUnavailable
from headcount.model import Snapshot, deadline_ticks
from tests.processes.town import INTERVAL, STARTING, Town, until

SOON = 20.0

A_FEW = 4
"""Ticks in which whoever is overdue has been fenced, and the others have been told."""

LONGER = 1.5
"""For so many ttls a crowd's store is away: all that it knew of the crowd is too old by then."""


class Crowd:
    """`size` processes, all of them members, all forked from one. `watch`: they watch their group as well."""

    def __init__(self, town: Town, size: int, *, ttl: float, watch: bool, prefix: str = "m") -> None:
        self.town, self.ttl = town, ttl
        self.names = [f"{prefix}*-{number:02}" for number in range(size)]
        self.process = town.start(f"{prefix}*", crowd=size, ttl=ttl, watch=watch)
        joined = lambda: len(self.process.said("joined"))  # noqa: E731 - asked twice below
        until(lambda: joined() == size, joined, 2 * STARTING)
        # Fifty interpreters that start at once starve each other of the processor for longer than a short
        # ttl; what is asked here is what a store that fails does to those who are well.
        self.all_beat(time.time())
        self.is_well()

    def is_well(self) -> None:
        """Whatever was before: all beat, and from here on nothing is to happen to them."""
        self.all_beat(time.time())
        self.remember()

    def remember(self) -> None:
        """From here on, nothing is to happen to anybody."""
        self.heard = self.process.heard
        self.lives = {name: row.incarnation for name, row in self.rows().items() if row.live}
        assert len(self.lives) == len(self.names)

    def rows(self):
        found = self.town.store.read("workers")
        assert isinstance(found, Snapshot)
        return {row.key: row for row in found.rows if row.key in self.names}

    def unseen(self, since: float) -> set[str]:
        """Who has not beaten since, by the wall clock; everybody, while the store cannot be asked."""
        try:
            last = self.town.store.last_seen("workers")
        except StoreUnavailable:
            return set(self.names)
        return {name for name in self.names if name not in last or last[name].timestamp() <= since}

    def all_beat(self, since: float) -> None:
        until(lambda: not self.unseen(since), lambda: self.unseen(since), SOON)

    def is_unharmed(self, since: float) -> None:
        """All have beaten since, and when every deadline from before has passed they are the same lives."""
        self.all_beat(since)
        number = self.town.ticking.tick().number
        passed = deadline_ticks(self.ttl, INTERVAL) + A_FEW
        until(lambda: self.town.ticking.tick().number > number + passed, self.town.ticking.tick, SOON)
        rows = self.rows()
        assert {name: row.state.value for name, row in rows.items()} == dict.fromkeys(self.names, "up")
        assert {name: row.incarnation for name, row in rows.items()} == self.lives
        for kind in ("down", "lost", "superseded", "left"):
            assert self.process.said("change", self.heard, kind=kind) == []
