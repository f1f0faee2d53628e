"""What each of our stores brings to the suite. A driver that is added gets a class here and a module of
five lines beside it."""

from __future__ import annotations

from collections.abc import Collection

from headcount.model import Seconds, SessionId
from headcount.stores import memory
from headcount.stores.memory import MemoryServer, MemoryStore
from headcount.testing.conformance.harness import Harness, TickingHarness


class MemoryHarness(Harness):
    """One server in this process; it is unreachable when its clients are told so."""

    server: MemoryServer

    def connect(self) -> MemoryStore:
        return MemoryStore(self.server)

    def break_(self) -> None:
        self._reach(False)

    def mend(self) -> None:
        self._reach(True)

    def _reach(self, reachable: bool) -> None:
        for store in self.made:
            assert isinstance(store, MemoryStore)
            store.reachable = reachable

    def forget(self) -> None:
        self.server.begin()


class MemoryTicks(MemoryHarness, TickingHarness):
    guarantees = memory.TICKS

    def __init__(self) -> None:
        super().__init__()
        self.server = MemoryServer()


class MemorySessions(MemoryHarness):
    guarantees = memory.SESSIONS

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.server = MemoryServer(mode="sessions", clock=lambda: self.now)

    def pass_time(self, seconds: Seconds, *, kept: Collection[SessionId] = ()) -> None:
        """In steps of a quarter of a ttl, so that those who are kept can beat in between."""
        heart, end = self.connect(), self.now + seconds
        while self.now < end:
            heart.beat(list(kept))
            self.now = min(end, self.now + self.ttl / 4)
