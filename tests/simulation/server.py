"""The store of the town: the memory store, with somebody who writes down all that truly happened.

`Server` and `Client` add nothing to what `MemoryServer` and `MemoryStore` do: they call them, so that
a bug planted there is a bug here, and tell `Truth` what came of it. A beat that was
kept waiting inside the store has read the tick when it came in, and writes its deadline when it gets
its lock, as a statement of SQL does.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import TYPE_CHECKING, Any

from headcount.core.work import DoAdvance, DoBeat
from headcount.engine.errands import beat, do
from headcount.errors import HeadcountError
from headcount.model import Beat, Granted, Session, SessionId, Tick
from headcount.register import Ledger, replace
from headcount.stores.memory import MemoryServer, MemoryStore
from tests.simulation.truth import Truth
from tests.simulation.world import HostClock

if TYPE_CHECKING:
    from tests.simulation.process import Flight, Process


class Server(MemoryServer):
    def __init__(self, truth: Truth, mode: str, interval: float, clock: HostClock) -> None:
        self.truth = truth
        self.waiters: list[Any] = []
        """Whoever waits at a doorbell: told when something has changed."""
        self.closing: SessionId | None = None
        super().__init__(mode, interval=interval, clock=clock.boot, wall=lambda: clock.moment().wall)
        truth.server = self

    def begin(self, interval: float | None = None) -> None:
        super().begin(interval)
        self.truth.began(self)
        self.chime()

    def write(self, name: str, ledger: Ledger) -> None:
        before = self.groups[name].revision
        super().write(name, ledger)
        group = self.groups[name]
        if group.revision != before or ledger.revision != before:
            self.noted(name)

    def noted(self, name: str) -> None:
        """A group is another than it was."""
        group = self.groups.get(name)
        if group is None:
            self.truth.deleted(name)
        else:
            self.truth.wrote(name, group.revision, group.rows, group.marks, group.claims)

    def ring(self, name: str) -> None:
        super().ring(name)
        self.chime()

    def chime(self) -> None:
        for waiter in self.waiters:
            waiter.rung()

    def end(self, ended: Collection[SessionId]) -> None:
        if ended:
            self.truth.ended_early(sorted(s for s in ended if s in self.early))
            self.truth.fences(sorted(s for s in ended if s != self.closing and s not in self.early))
        super().end(ended)

    def heal(self) -> None:
        """Whatever was wrong with it, is not any more."""

    def connect(self, owner: Process) -> Client:
        """One process's connection."""
        del owner
        return Client(self)


class Client(MemoryStore):
    """One process's connection."""

    server: Server

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.truth = server.truth
        self.arrived: tuple[float, Tick] | None = None
        """When the beat that is now carried out came in, and the tick that it read then."""

    def open_session(self, session: Session) -> Granted:
        fresh = session.id not in self.server.sessions
        granted = super().open_session(session)
        if fresh or self.server.alive(session.id):
            self.truth.took(session.id, session)
        return granted

    def close_session(self, session: SessionId) -> None:
        self.server.closing = session
        try:
            super().close_session(session)
        finally:
            self.server.closing = None

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        server, now = self.server, self.server.clock_row
        at, seen = self.arrived or (self.truth.world.now, now)
        stale = server.mode == "ticks" and seen.epoch == now.epoch and seen.number < now.number
        if stale:
            server.clock_row = replace(now, number=seen.number)
        try:
            answer = super().beat(sessions)
        finally:
            if stale:
                server.clock_row = now
        for session, notice in answer.notices.items():
            if notice is not None:
                self.truth.took(session, at=at)
        return answer

    def advance(self, seen: Tick, ticker: SessionId) -> Tick:
        before = self.server.clock_row.at
        answer = super().advance(seen, ticker)
        if self.server.clock_row.at != before:
            self.truth.ticked(before, ticker)
        return answer

    def create_group(self, group: str) -> bool:
        created = super().create_group(group)
        if created:
            self.server.noted(group)
        return created

    def delete_group(self, group: str) -> bool:
        deleted = super().delete_group(group)
        if deleted:
            self.server.noted(group)
        return deleted

    def listening(self) -> None:
        """Its owner begins to wait at the doorbell."""

    def serve(self, flight: Flight) -> Generator[float, None, Any]:
        """What has arrived is carried out, in as many steps as it takes: here, in one."""
        yield from ()
        return self.carry_out(flight.request)

    def carry_out(self, request: Any) -> Any:
        """What the hand of a process has asked for; the error, if there is one."""
        try:
            hand = beat if isinstance(request, DoBeat | DoAdvance) else do
            return hand(self, request)
        except HeadcountError as error:
            return error
