"""The rules of ZooKeeper, and what our store of it does about them (ADR 0012).

    a write      goes through the leader. The server that passed it on has applied it when it answers, and
                 all that was before it
    a read       is what its server has applied; after a `sync`, all that the leader has. A leader that is cut
                 off does not know it, and answers for a while as if nothing had happened
    a beat       is a write that changes nothing, and checks the versions of the sessions' nodes: the notices
    who is heard a server tells the leader whom it has heard of twice in a `tickTime`, when the leader pings
                 it; what it has not told is lost with it. Asked over another server, the leader hears at once
    who ends     the leader looks once in a tickTime. One that was just elected gives everybody the whole ttl

One session of ZooKeeper for each ttl of a process has all of ours in it. Whoever is not beaten for its ttl
while others in it are, is ended by the beat of those. One of ours that begins in it is sure of no more than
the beats of the others that were surely told (`Granted.late`); if they are too long ago, it begins in
another one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import replace

from headcount.errors import GroupNotFound, HeadcountError, StoreUnavailable
from headcount.model import Beat, Granted, Outcome, Session, SessionId, Wish
from headcount.register import Ledger
from headcount.stores.memory import SESSIONS
from tests.simulation.engines.engine import AGAIN, POLL, Engine, EngineClient, Life, Link, Steps, writes
from tests.simulation.engines.journal import Seen
from tests.simulation.engines.machines import BLIND_FAITH, Machine
from tests.simulation.process import Flight, Process
from tests.simulation.truth import Truth
from tests.simulation.world import HostClock


class ZooKeeperLike(Engine):
    def __init__(self, truth: Truth, interval: float, clock: HostClock, ttls: Collection[float]) -> None:
        tick = min(ttls) / truth.world.rng.choice((2, 3, 6))
        super().__init__(truth, interval, clock, ttls, tick)
        self.guarantees = replace(SESSIONS, deltas=True, precision=1.6 * tick + 0.1)
        truth.blur = POLL + BLIND_FAITH[1] + 2.0
        self._pings = {
            machine.name: self.world.rng.uniform(0, tick / 2) for machine in self.ensemble.machines
        }

    def connect(self, owner: Process) -> ZooKeeperClient:
        return ZooKeeperClient(self, owner)

    def find_over(self, machine: Machine, over: list[str]) -> None:
        if machine is self.ensemble.leader:
            self.end_lives(over)  # of any other, nobody takes it

    def heard_of(self, machine: Machine, life: str) -> None:
        """By this server; if it is not the leader, that is told when the leader asks next."""
        if machine is self.ensemble.leader:
            self.touch(life)
            return
        every = self.round / 2
        since = (self.world.now - self._pings[machine.name]) % every
        self.world.after(every - since, self._told, machine, machine.term, life)

    def _told(self, machine: Machine, term: int, life: str) -> None:
        if self.ensemble.in_touch(machine) and self.ensemble.term == term:
            self.touch(life)
        else:
            self.world.faults["a beat that was told to nobody"] += 1

    def touch(self, life: str) -> None:
        """The leader has heard of it."""
        leader, found = self.ensemble.leader, self.lives.get(life)
        if leader is not None and found is not None:
            leader.expiries[life] = leader.clock.boot() + found.ttl
            found.heard = self.world.now
            for session in found.members:
                self.truth.counts(session)


class Heart:
    """The sessions of one ttl, as their process knows them."""

    def __init__(self, link: Link, life: Life) -> None:
        self.link = link
        self.life = life
        self.beaten: dict[SessionId, float] = {}
        self._taken: deque[float] = deque(maxlen=10)
        """When the beats were asked that were taken last."""
        self._served_since: float | None = None

    def served(self, at: float | None) -> None:
        if at is not None:
            self._taken.append(at)
        if at is None or self._served_since is None:
            self._served_since = at

    def late(self, now: float) -> float:
        """How long ago the last beat was that the leader has surely heard of: for that, a third of the ttl is
        time enough."""
        return now - max((at for at in self._taken if at <= now - self.life.ttl / 3), default=-math.inf)

    def overdue(self, now: float, besides: Collection[SessionId] = ()) -> list[SessionId]:
        """Who was not beaten for the ttl, while others were. The time of an outage does not count."""
        since = self._served_since
        if since is None:
            return []
        beaten = [(one, at) for one, at in self.beaten.items() if one not in besides]
        return [one for one, at in beaten if now - max(at, since) >= self.life.ttl]


class ZooKeeperClient(EngineClient):
    server: ZooKeeperLike

    def __init__(self, server: ZooKeeperLike, owner: Process) -> None:
        super().__init__(server, owner)
        self._hearts: dict[float, Heart] = {}

    def links(self) -> list[Link]:
        return [self.eyes, *(heart.link for heart in self._hearts.values())]

    def _of(self, session: SessionId) -> Heart | None:
        return next((heart for heart in self._hearts.values() if session in heart.beaten), None)

    def _over(self, heart: Heart) -> bool:
        """Whether its session of ZooKeeper is over; then it is not used again."""
        over = heart.life.id not in self.server.lives
        if over:
            self._hearts = {ttl: one for ttl, one in self._hearts.items() if one is not heart}
        return over

    def _write(self, heart: Heart, until: float) -> Steps[Machine]:
        """Over this connection. When it comes to another server, that one asks the leader for it."""
        machine = yield from self.reach(heart.link, until)
        self.server.heard_of(machine, heart.life.id)
        machine = yield from self.through(heart.link, until, writes=True)
        if heart.link.moved:
            heart.link.moved = False
            self.server.touch(heart.life.id)
        machine.applied = self.server.changes
        return machine

    # ── sessions ──

    def opens(self, sessions: list[Session], flight: Flight, until: float) -> Steps[list[Granted]]:
        granted, asked = [], flight.asked.boot
        for session in sessions:
            ttl = session.ttl
            heart, late = self._hearts.get(ttl), 0.0
            if heart is None or heart.late(asked) > 0.7 * ttl:
                heart = Heart(self.link(), Life(self.server.fresh("zk"), ttl))
                heart.served(asked - ttl / 3)  # who begins it is heard of at once, by all
                yield from self.through(heart.link, until, writes=True)
                heart.link.moved = False
                self.server.begin_life(heart.life)
                self._hearts[ttl] = heart
            else:
                late = heart.late(asked)
                yield from self._write(heart, until)
                if self._over(heart):
                    raise StoreUnavailable("this session is over")
            self.open_session(session)
            self.server.enters(session.id, heart.life)
            self.truth.counted[session.id] = self.world.now - late - self.owner.patience * bool(late)
            heart.link.machine.applied = self.server.changes
            heart.served(asked)
            heart.beaten[session.id] = asked
            granted.append(Granted(ttl=ttl, margin=max(ttl / 3, 0.25), late=late))
        return granted

    def beats(self, sessions: Collection[SessionId], flight: Flight, until: float) -> Steps[Beat]:
        notices: dict[SessionId, int | None] = dict.fromkeys(sessions)
        for heart in list(self._hearts.values()):
            ours = [session for session in sessions if session in heart.beaten]
            if ours:
                notices |= yield from self._beat(heart, ours, sessions, flight, until)
        return Beat(notices=notices)

    def _beat(
        self,
        heart: Heart,
        ours: list[SessionId],
        besides: Collection[SessionId],
        flight: Flight,
        until: float,
    ) -> Steps[dict[SessionId, int | None]]:
        asked, server = flight.asked.boot, self.server
        try:
            yield from self._write(heart, until)
        except HeadcountError:
            heart.served(None)
            raise
        if self._over(heart):
            return dict.fromkeys(ours)
        notices = {s: server.sessions[s].notice if server.alive(s) else None for s in ours}
        for session, notice in notices.items():
            if notice is not None:
                self.truth.took(session, counts=False)
        if flight.given_up:
            return notices
        heart.served(asked)
        for session, notice in notices.items():
            if notice is None:
                heart.beaten.pop(session, None)
            else:
                heart.beaten[session] = asked
        self._end_overdue(heart, besides)
        return notices

    def _end_overdue(self, heart: Heart, besides: Collection[SessionId] = ()) -> None:
        """A heart that has gone blind must not live on the beats of others."""
        for session in heart.overdue(self.owner.clock.boot(), besides):
            heart.beaten.pop(session)
            self.truth.gives_up(session, self.owner.clock.moment())
            self.close_session(session)

    def closes(self, session: SessionId, until: float) -> Steps[None]:
        heart = self._of(session)
        if heart is None:
            yield from self.through(self.eyes, until, writes=True)
        else:
            yield from self._write(heart, until)
            heart.beaten.pop(session, None)
        self.close_session(session)

    # ── the register ──

    def commits(self, group: str, wishes: list[Wish], flight: Flight, until: float) -> Steps[list[Outcome]]:
        """Those of one connection together, one connection after the other."""
        outcomes: list[Outcome] = []
        for wish in wishes:
            outcomes.append((yield from self._commit(group, wish, flight, until)))
        return outcomes

    def _commit(self, group: str, wish: Wish, flight: Flight, until: float) -> Steps[Outcome]:
        """Read, think, and write if nobody else has. A refusal is thought over again after a `sync`."""
        server, heart, began = self.server, self._of(wish.by), self.server.changes
        link = heart.link if heart is not None else self.eyes
        if heart is not None:
            self._end_overdue(heart)
        sync = False
        while True:
            machine = yield from self.reach(link, until)
            if heart is not None:
                server.heard_of(machine, heart.life.id)
            if sync:
                machine = yield from self.through(link, until, writes=False)
                machine.applied = server.changes
            if not sync and machine.applied < server.changes:
                self.world.faults["a server that is behind"] += 1
            seen = self._seen(group, machine)
            done = None if seen is None else self.thought(seen, group, wish)
            if seen is not None and writes(seen, done):
                yield from self.hop(flight, until)
                yield from self.through(link, until, writes=True)
                found = server.groups.get(group)
                if found is None or found.revision != seen.past.revision:
                    yield AGAIN  # somebody else was quicker
                    continue
                outcome = self.commit(group, wish.writes, wish.expect, by=wish.by)
                link.machine.applied = server.changes
                return outcome
            if not sync:
                self.world.faults["a refusal thought over"] += 1
                yield from self.hop(flight, until)
                sync = True
                continue
            self.refused(group, wish, began)
            if done is None:
                raise GroupNotFound(f"there is no group {group!r} in this store")
            return done.outcome() if isinstance(done, Ledger) else done

    def _seen(self, group: str, machine: Machine) -> Seen | None:
        try:
            return Seen(self.journal, group, machine.applied)
        except GroupNotFound:
            return None

    # ── what changes ──

    def confirmed(self, link: Link, until: float) -> Steps[int]:
        """A `sync`, which a leader that is cut off answers itself."""
        machine = yield from self.reach(link, until)
        if machine.leads and machine is not self.ensemble.leader:
            self.world.faults["a stale sync"] += 1
            return machine.applied
        machine = yield from self.through(link, until, writes=False)
        machine.applied = self.server.changes
        return machine.applied

    def vouched(self, machine: Machine) -> bool:
        return machine.leads or super().vouched(machine)
