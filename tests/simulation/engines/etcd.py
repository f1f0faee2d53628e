"""The rules of etcd, and what our store of it does about them (ADR 0013).

    a lease      for each process and ttl; its name tells the term in which it was asked for. The leader alone
                 keeps it alive, and asks nobody: one that was stopped through an election does, too
    a read       is answered once a majority has said who leads, and in which term
    a beat       keeps the lease alive, and then reads. It is taken if both were in one term, and the lease is
                 of that term; else the session moves to one that is
    who ends     the leader looks twice in a second, and revokes what nobody has kept alive with it. What one
                 that was stopped revokes is handed on to its successor, and done
    elected      a leader gives every lease its whole ttl anew

Whoever is not beaten for its ttl, while others on its lease are, is ended by the beat of those.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from headcount.errors import GroupNotFound, OutcomeUnknown, StoreUnavailable
from headcount.model import Beat, Granted, Outcome, Session, SessionId, Wish
from headcount.stores.memory import SESSIONS
from tests.simulation.engines.engine import AGAIN, POLL, Engine, EngineClient, Life, Steps, writes
from tests.simulation.engines.journal import Seen
from tests.simulation.engines.machines import Machine
from tests.simulation.process import Flight, Process
from tests.simulation.truth import Truth
from tests.simulation.world import HostClock

ROUND = 0.5
"""Seconds between two looks which leases are over."""


def term_of(lease: str) -> int:
    return int(lease.partition(".")[0])


class Kept(NamedTuple):
    """What came of a keepalive: the term of whoever answered it, what the lease has then (0: there is none),
    and when that was."""

    term: int
    ttl: float
    at: float


class EtcdLike(Engine):
    def __init__(self, truth: Truth, interval: float, clock: HostClock, ttls: Collection[float]) -> None:
        super().__init__(truth, interval, clock, ttls, ROUND)
        self.guarantees = replace(SESSIONS, deltas=True, precision=1.0)
        truth.blur = POLL + 2.0

    def connect(self, owner: Process) -> EtcdClient:
        return EtcdClient(self, owner)

    def find_over(self, machine: Machine, over: list[str]) -> None:
        if machine is self.ensemble.leader:
            self.end_lives(over)
        elif not machine.cut:
            self.world.after(self.delay(), self._revoke, over)

    def _revoke(self, over: list[str]) -> None:
        """For a leader that is none any more."""
        if self.ensemble.leader is not None:
            self.world.faults["leases revoked by a leader that was"] += bool(self.lives.keys() & set(over))
            self.end_lives(over)

    def end_lives(self, over: list[str]) -> None:
        for machine in self.ensemble.machines:
            if machine is self.ensemble.leader:
                for lease in over:
                    machine.expiries.pop(lease, None)
        super().end_lives(over)

    def moves(self, session: SessionId, old: str, new: Life) -> None:
        """All that lives with it goes along, or nothing."""
        if self.life_of.get(session) == old and new.id in self.lives:
            self.lives[old].members.pop(session)
            new.members[session] = None
            self.life_of[session] = new.id
            self.world.faults["a lease moved"] += 1

    def end_early(self, session: SessionId) -> None:
        """A lease is revoked: with all that live by it."""
        life = self.lives.get(self.life_of.get(session, ""))
        for one in list(life.members) if life is not None else ():
            super().end_early(one)


class EtcdClient(EngineClient):
    server: EtcdLike

    def __init__(self, server: EtcdLike, owner: Process) -> None:
        super().__init__(server, owner)
        self._term = server.ensemble.term
        """That was last heard of."""
        self._ours: dict[float, str] = {}
        """By ttl, the lease for new sessions."""
        self._lease_of: dict[SessionId, str] = {}
        self._next: dict[str, str] = {}
        """Where the sessions of a lease went."""
        self._beaten: dict[SessionId, float] = {}

    def _agreed(self, until: float, *, writes: bool = False) -> Steps[None]:
        """Something that a majority has a part in."""
        yield from self.through(self.eyes, until, writes=writes)
        self._term = self.ensemble.term

    # ── sessions ──

    def opens(self, sessions: list[Session], flight: Flight, until: float) -> Steps[list[Granted]]:
        """A lease that was there before has to be kept alive; a new one lives from when it was granted."""
        for session in sessions:
            lease = self._ours.get(session.ttl, "0.")
            new = term_of(lease) != self._term
            if new:
                lease = self._ours[session.ttl] = yield from self._grant(session.ttl, flight, until)
            yield from self._agreed(until, writes=True)
            if lease not in self.server.lives:
                self._ours.pop(session.ttl, None)
                raise StoreUnavailable("the lease is over")
            self.open_session(session)
            self.server.enters(session.id, self.server.lives[lease])
            self._lease_of[session.id] = lease
            self._beaten[session.id] = self.owner.clock.boot()
            # So far, it lives by what was before: who counts on it counts from when it was asked.
            self.truth.counted[session.id] = self.server.lives[lease].heard if new else 0.0
            if not new:
                notices = yield from self._beat([session.id], flight, until)
                if notices[session.id] is None:
                    raise OutcomeUnknown("the lease is over")
        return [Granted(ttl=session.ttl) for session in sessions]

    def _grant(self, ttl: float, flight: Flight, until: float) -> Steps[str]:
        lease = self.server.fresh(f"{self._term}.")
        yield from self._agreed(until, writes=True)
        self.server.begin_life(Life(lease, ttl))
        yield from self.hop(flight, until)
        return lease

    def beats(self, sessions: Collection[SessionId], flight: Flight, until: float) -> Steps[Beat]:
        notices = yield from self._beat(list(sessions), flight, until)
        if flight.given_up:
            return Beat(notices=notices)
        now = self.owner.clock.boot()
        self._beaten.update({one: now for one, notice in notices.items() if notice is not None})
        for session, at in list(self._beaten.items()):
            lease = self._lease_of.get(session)
            shared = lease in {self._lease_of.get(one) for one in sessions}
            life = self.server.lives.get(lease or "")
            if lease is None:
                self._beaten.pop(session)
            elif session not in sessions and shared and life is not None and now - at > life.ttl:
                self._beaten.pop(session)
                self.truth.gives_up(session, self.owner.clock.moment())
                self.close_session(session)
        return Beat(notices=notices)

    def _beat(
        self, sessions: list[SessionId], flight: Flight, until: float
    ) -> Steps[dict[SessionId, int | None]]:
        """Keep alive, and then read: again, until both were in one term, and the leases are of it."""
        server, notices = self.server, dict[SessionId, int | None]()
        while True:
            known = {one: self._lease_of[one] for one in sessions if one in self._lease_of}
            if not known:
                return dict.fromkeys(sessions)
            kept: dict[str, Kept] = {}
            for lease in dict.fromkeys(known.values()):
                kept[lease] = yield from self._keep(lease, until)
            yield from self.hop(flight, until)
            term = yield from self._read(until)
            steady = all(its.term == term for its in kept.values())
            notices = dict.fromkeys(sessions)
            for session, lease in known.items():
                there = server.life_of.get(session) if server.alive(session) else None
                if there is None:
                    self._lease_of.pop(session, None)
                elif there != lease or kept[lease].ttl <= 0:
                    self._lease_of[session], steady = there, False
                else:
                    notices[session] = server.sessions[session].notice
            older = {
                session: lease
                for session, lease in known.items()
                if notices[session] is not None and term_of(lease) != term
            }
            if steady and not older:
                for session in [one for one, notice in notices.items() if notice is not None]:
                    self.truth.took(session, at=kept[known[session]].at)
                return notices
            if steady:
                yield from self.hop(flight, until)
                yield from self._move(older, flight, until)
            else:
                yield AGAIN
            if self.world.now >= until:
                raise StoreUnavailable("the leader changes while we ask it")

    def _keep(self, lease: str, until: float) -> Steps[Kept]:
        """Whoever believes to lead does it."""
        while True:
            machine = yield from self.reach(self.eyes, until)
            if not machine.leads:
                yield from self.through(self.eyes, until, writes=False)
                leader = self.ensemble.leader
                assert leader is not None
                machine = leader
            if machine is not self.ensemble.leader:
                self.world.faults["a keepalive in good faith"] += 1
            now = machine.clock.boot()
            if machine.expiries.get(lease, now) <= now:
                return Kept(machine.term, 0.0, self.world.now)
            ttl = self.server.lives[lease].ttl if lease in self.server.lives else 1.0
            machine.expiries[lease] = now + ttl
            return Kept(machine.term, ttl, self.world.now)

    def _read(self, until: float) -> Steps[int]:
        yield from self._agreed(until)
        return self.ensemble.term

    def _move(self, older: dict[SessionId, str], flight: Flight, until: float) -> Steps[None]:
        """Take these sessions to a lease of the present term: all that live together, to one."""
        for old in dict.fromkeys(older.values()):
            new = self._next.get(old, "0.")
            if term_of(new) != self._term:
                ttl = self.server.lives[old].ttl if old in self.server.lives else 1.0
                new = self._next[old] = yield from self._grant(ttl, flight, until)
            self._ours = {ttl: new if its == old else its for ttl, its in self._ours.items()}
            for session in [one for one, lease in older.items() if lease == old]:
                yield from self._agreed(until, writes=True)
                if new in self.server.lives:
                    self.server.moves(session, old, self.server.lives[new])
                self._lease_of[session] = self.server.life_of.get(session, new)

    def closes(self, session: SessionId, until: float) -> Steps[None]:
        """The lease goes with the last of its sessions."""
        yield from self._agreed(until, writes=True)
        self.close_session(session)
        self._beaten.pop(session, None)
        lease = self._lease_of.pop(session, "")
        if lease in self._ours.values() and lease not in self._lease_of.values():
            self._ours = {ttl: its for ttl, its in self._ours.items() if its != lease}
            self.server.end_lives([lease])

    # ── the register ──

    def commits(self, group: str, wishes: list[Wish], flight: Flight, until: float) -> Steps[list[Outcome]]:
        outcomes: list[Outcome] = []
        for wish in wishes:
            outcomes.append((yield from self._commit(group, wish, flight, until)))
        return outcomes

    def _commit(self, group: str, wish: Wish, flight: Flight, until: float) -> Steps[Outcome]:
        """Read as a majority knows it, think, and write if nobody else has."""
        server = self.server
        while True:
            yield from self._agreed(until)
            seen = Seen(self.journal, group, server.changes)
            if not writes(seen, self.thought(seen, group, wish)):
                return self.commit(group, wish.writes, wish.expect, by=wish.by)
            yield from self.hop(flight, until)
            yield from self._agreed(until, writes=True)
            if group not in server.groups:
                raise GroupNotFound(f"there is no group {group!r} in this store")
            if server.groups[group].revision == seen.past.revision:
                return self.commit(group, wish.writes, wish.expect, by=wish.by)
            yield AGAIN
