"""What the stores that expire sessions themselves have in common: servers, lives that end in rounds, requests
that are a story of several steps.

    life      what a server knows of a session: on ZooKeeper a session of its own kind, on etcd a lease. Those
              of ours that one process has with one ttl live and end together
    rounds    whoever believes to lead looks now and then, by its own clock, whose time is over

A request arrives at the server to which its sender is connected, and goes on from there: to the leader and
back, back to the sender and here again. Between any two steps servers and sender may stop, die or be cut off.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator
from typing import Any, TypeAlias, TypeVar

from headcount.core.work import DoBeat, DoClose, DoCommit, DoCreate, DoLook, DoOpen, DoRead, DoTogether
from headcount.errors import GroupNotFound, HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Beat, Granted, Guarantees, Refused, Ring, Session, SessionId, Wish
from headcount.register import Ledger, apply
from headcount.stores.memory import MemoryDoorbell
from tests.simulation.engines.journal import Journal, Seen
from tests.simulation.engines.machines import Ensemble, Machine
from tests.simulation.process import Flight, Process
from tests.simulation.server import Client, Server
from tests.simulation.truth import Truth
from tests.simulation.world import HostClock

A = TypeVar("A")
Steps: TypeAlias = Generator[float, None, A]
"""A story that says how many seconds it waits, and brings something back."""

AMONG = (0.0002, 0.002)
"""Seconds from one server to another."""

AGAIN = 0.02
"""Seconds before something is tried again."""

POLL = 5.0
"""Seconds of silence after which a doorbell asks whether it means anything."""

PATIENCE = 0.7
"""Part of what its sender has that one request may take at the servers: the answer has to get back."""


class Life:
    """A session of the store's own, or a lease; and the sessions of ours in it."""

    def __init__(self, id_: str, ttl: float) -> None:
        self.id = id_
        self.ttl = ttl
        self.members: dict[SessionId, None] = {}
        self.heard = 0.0
        """The true time at which the leader heard of it last."""


class Engine(Server):
    """`round_`: seconds between two looks whose time is over."""

    guarantees: Guarantees

    def __init__(
        self, truth: Truth, interval: float, clock: HostClock, ttls: Collection[float], round_: float
    ) -> None:
        self.world = truth.world
        self.journal = Journal()
        self.lives: dict[str, Life] = {}
        self.life_of: dict[SessionId, str] = {}
        self._numbers = 0
        self.ensemble = Ensemble(self.world, min(ttls), self._elected, self._back)
        self.round = round_
        super().__init__(truth, "sessions", interval, clock)
        self.clock = lambda: self.ensemble.last.clock.boot()
        for machine in self.ensemble.machines:
            self.world.after(self.world.rng.uniform(0, round_), self._look, machine)

    def fresh(self, what: str) -> str:
        self._numbers += 1
        return f"{what}{self._numbers}"

    def delay(self) -> float:
        return self.world.rng.uniform(*AMONG)

    # ── what has changed, and who knows ──

    def begin(self, interval: float | None = None) -> None:
        super().begin(interval)
        self.journal.forget(self.changes)
        for machine in self.ensemble.machines:
            machine.expiries.clear()
        self.lives.clear()
        self.life_of.clear()

    def noted(self, name: str) -> None:
        super().noted(name)
        self.journal.group(name, self.changes, self.truth.latest.get(name))

    def chime(self, *, rings: bool = True) -> None:
        """Every server hears of it, each a while later; and whoever listens to it."""
        for machine in self.ensemble.machines:
            if machine is self.ensemble.leader:
                self._apply(machine, self.changes, rings)
            elif self.ensemble.in_touch(machine):
                self.world.after(self.delay(), self._heard, machine, self.changes, rings)

    def _heard(self, machine: Machine, index: int, rings: bool) -> None:
        if self.ensemble.in_touch(machine):
            self._apply(machine, index, rings)

    def _back(self, machine: Machine) -> None:
        self._apply(machine, self.changes)

    def _apply(self, machine: Machine, index: int, rings: bool = True) -> None:
        machine.applied = max(machine.applied, index)
        for waiter in self.waiters if rings else ():
            if waiter.client.listens_to is machine:
                waiter.rung()

    def heal(self) -> None:
        self.ensemble.heal()

    # ── who ends ──

    def _elected(self, leader: Machine) -> None:
        """It does not know how long ago anybody was heard of: everybody has the whole ttl anew."""
        now = leader.clock.boot()
        leader.expiries = {life.id: now + life.ttl for life in self.lives.values()}
        self.early = {session: now + self.truth.sessions[session].ttl for session in self.early}

    def begin_life(self, life: Life) -> None:
        """A majority has agreed to it."""
        self.lives[life.id] = life
        life.heard = self.world.now
        leader = self.ensemble.last
        leader.expiries[life.id] = leader.clock.boot() + life.ttl

    def enters(self, session: SessionId, life: Life) -> None:
        life.members[session] = None
        self.life_of[session] = life.id
        self.sessions[session].deadline = math.inf  # it ends with its life, and not by itself
        self.changes += 1
        self.journal.born(session, self.changes)
        self.chime(rings=False)

    def _look(self, machine: Machine) -> None:
        """Round after round."""
        self.world.after(self.round / machine.clock.rate, self._look, machine)
        if machine.runs and machine.leads:
            now = machine.clock.boot()
            over = [life for life, at in machine.expiries.items() if at <= now]
            for life in over:
                del machine.expiries[life]
            if over:
                self.find_over(machine, over)

    def find_over(self, machine: Machine, over: list[str]) -> None:
        """What a server does that believes to lead, and finds that the time of these is over."""
        raise NotImplementedError

    def end_lives(self, over: list[str]) -> None:
        for life in over:
            found = self.lives.pop(life, None)
            if found is not None:
                self.world.note("the store ends", life)
                with self.lock:
                    self._forget([session for session in found.members if self.alive(session)])

    def end(self, ended: Collection[SessionId]) -> None:
        super().end(ended)
        self.changes += len(ended)
        for session in ended:
            life = self.lives.get(self.life_of.pop(session, ""))
            if life is not None:
                life.members.pop(session, None)
            self.journal.ended(session, self.changes)
        if ended:
            self.chime()

    def expire_by_clock(self) -> None:
        """Only what was kept after an early end: all else is found in rounds."""
        if self.ensemble.leader is not None:
            super().expire_by_clock()

    def end_early(self, session: SessionId) -> None:
        leader, found = self.ensemble.leader, self.sessions.get(session)
        life = self.life_of.get(session)
        if leader is not None and found is not None and life in leader.expiries:
            found.deadline = leader.expiries[life]
            super().end_early(session)


class EngineClient(Client):
    """One process's connections. Which server each goes to, is chance, until that one does not serve."""

    server: Engine

    def __init__(self, server: Engine, owner: Process) -> None:
        super().__init__(server)
        self.owner = owner
        self.world = server.world
        self.ensemble = server.ensemble
        self.journal = server.journal
        self.only: Machine | None = None
        """It was given the name of this server alone."""
        self.eyes = self.link()

    @property
    def guarantees(self) -> Guarantees:
        return self.server.guarantees

    @property
    def listens_to(self) -> Machine:
        return self.eyes.machine

    def link(self) -> Link:
        return Link(self)

    def links(self) -> list[Link]:
        return [self.eyes]

    # ── the steps of a request ──

    def serve(self, flight: Flight) -> Steps[Any]:
        """The answer, or the error."""
        left = flight.until - self.world.now
        until = self.world.now + (PATIENCE * left if left > 0 else self.owner.patience)
        try:
            if not self.reachable:
                raise StoreUnavailable("the servers cannot be reached")
            return (yield from self._carry_out(flight.request, flight, until))
        except HeadcountError as error:
            return error

    def _carry_out(self, request: Any, flight: Flight, until: float) -> Steps[Any]:
        match request:
            case DoBeat(sessions):
                return (yield from self.beats(sessions, flight, until))
            case DoOpen(session=session):
                return (yield from self.opens([session], flight, until))[0]
            case DoClose(session=session):
                return (yield from self.closes(session, until))
            case DoTogether(requests=requests):
                opening = [one.session for one in requests if isinstance(one, DoOpen)]
                if opening:
                    return (yield from self.opens(opening, flight, until))
                asked = [one for one in requests if isinstance(one, DoCommit)]
                wishes = [Wish(one.writes, by=one.by) for one in asked]
                return (yield from self.commits(asked[0].group, wishes, flight, until))
            case DoCommit(group=group, writes=writes, by=by):
                (outcome,) = yield from self.commits(group, [Wish(writes, by=by)], flight, until)
                return outcome
            case DoCreate(group=group):
                machine = yield from self.through(self.eyes, until, writes=True)
                created = self.create_group(group)
                machine.applied = self.server.changes
                return created
            case DoLook(group=group, member_id=member_id):
                index = yield from self._now(until)
                return self.journal.read(group, index, None, [member_id])
            case DoRead(group=group, after=after):
                index = yield from self._now(until)
                return self.journal.read(group, index, after, None)
        raise AssertionError(request)

    def _now(self, until: float) -> Steps[int]:
        """The change up to which a reading shows everything: no older than the question, unless it was asked
        of a leader that is cut off and does not know it."""
        began = self.server.changes
        index = yield from self.confirmed(self.eyes, until)
        if index < began and not self.vouched(self.eyes.machine):
            raise self.world.broken(
                "a reading is no older than its question",
                f"{self.owner.name} reads what was {began - index} ago",
            )
        self.world.kept["a reading is no older than its question"] += 1
        return index

    def beats(self, sessions: Collection[SessionId], flight: Flight, until: float) -> Steps[Beat]:
        raise NotImplementedError

    def opens(self, sessions: list[Session], flight: Flight, until: float) -> Steps[list[Granted]]:
        raise NotImplementedError

    def closes(self, session: SessionId, until: float) -> Steps[None]:
        raise NotImplementedError

    def commits(self, group: str, wishes: list[Wish], flight: Flight, until: float) -> Steps[list[Any]]:
        raise NotImplementedError

    def confirmed(self, link: Link, until: float) -> Steps[int]:
        """The change up to which what is read on this link is current, as far as the store can tell."""
        machine = yield from self.through(link, until, writes=False)
        machine.applied = self.server.changes
        return machine.applied

    # ── from one to another ──

    def reach(self, link: Link, until: float) -> Steps[Machine]:
        """The server of this link, which is there."""
        while True:
            if self.world.now >= until:
                link.move()
                raise StoreUnavailable("the servers cannot be reached")
            if link.machine.runs:
                return link.machine
            if not link.machine.up:
                link.move()
            yield AGAIN

    def through(self, link: Link, until: float, *, writes: bool) -> Steps[Machine]:
        """Something goes from the server of this link to the leader, and is carried out there now."""
        while True:
            machine = yield from self.reach(link, until)
            if self.ensemble.in_touch(machine):
                if machine is self.ensemble.leader:
                    return machine
                yield self.server.delay()
                if self.ensemble.in_touch(machine) and self.reachable:
                    return machine
            if self.world.now + AGAIN >= until:
                link.move()
                raise (OutcomeUnknown if writes else StoreUnavailable)("the server has heard of no answer")
            yield AGAIN

    def hop(self, flight: Flight, until: float) -> Steps[None]:
        """What was answered goes back, and the next thing that it asks comes."""
        town = self.owner.town
        if self.world.now >= flight.until:
            return  # it is the last of its steps that was under way for so long
        yield town.delay() + town.delay()
        while flight.hand.stopped and not self.owner.dead:
            yield AGAIN
        if self.owner.dead or self.owner.cut or self.world.now >= until:
            raise StoreUnavailable("no answer has come in time")

    # ── whether a refusal is true ──

    def refused(self, group: str, wish: Wish, since: int) -> None:
        """That nothing is written has to be what the law says, of some instant since it was asked."""
        world = self.world
        world.kept["a refusal is true"] += 1
        for index in range(since, self.server.changes + 1):
            try:
                seen = Seen(self.journal, group, index)
            except GroupNotFound:
                return
            if not writes(seen, self.thought(seen, group, wish)):
                return
        raise world.broken(
            "a refusal is true", f"{self.owner.name} was refused {wish.writes} in {group}, and nothing was so"
        )

    def thought(self, seen: Seen, group: str, wish: Wish) -> Ledger | Refused:
        return apply(
            seen,
            group,
            wish.writes,
            wish.expect,
            revision=seen.past.revision,
            now=0.0,
            by=wish.by,
            unclocked=True,
        )

    # ── the doorbell ──

    def doorbell(self) -> EngineBell:
        return EngineBell(self)

    def listening(self) -> None:
        """A watch that was opened once; only after some silence somebody asks whether there is anything."""
        machine, bell, now = self.eyes.machine, self.owner.bell, self.owner.clock.boot()
        if not machine.up:
            bell.broken = StoreUnavailable("the connection is lost")
            self.eyes.move()
        elif bell.asked_at + POLL <= now:
            bell.asked_at = now
            if self.ensemble.in_touch(machine):
                bell.certain = self.server.changes
            elif not (machine.runs and self.vouched(machine)):
                bell.broken = StoreUnavailable("the server does not answer")
                self.eyes.move()

    def vouched(self, machine: Machine) -> bool:
        """Whether a server that is not in touch with the leader answers as if it were."""
        del machine
        return False


class Link:
    """One connection."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self.moved = True
        """Whether the server has not heard of it yet."""
        self.machine = client.world.rng.choice(client.ensemble.machines)

    def move(self) -> None:
        """To another server."""
        client = self._client
        others = [machine for machine in client.ensemble.machines if machine is not self.machine]
        self.go(client.only or client.world.rng.choice(others))

    def go(self, machine: Machine) -> None:
        self.moved |= machine is not self.machine
        self.machine = machine


class EngineBell(MemoryDoorbell):
    """Rings for what the server on the other end has heard of."""

    def __init__(self, client: EngineClient) -> None:
        super().__init__(client)
        self._client = client
        self.certain = 0
        """The change up to which silence means that nothing has happened."""
        self.asked_at = -math.inf
        """When it was heard, or asked, last; by the clock of whoever listens."""
        self.broken: HeadcountError | None = None

    def wait(self, timeout: float) -> Ring:
        del timeout
        client, broken = self._client, self.broken
        self.broken = None
        if not client.reachable or broken is not None:
            raise broken or StoreUnavailable("the servers cannot be reached")
        upto = max(client.listens_to.applied, self.certain)
        heard, self._heard = self._heard, max(upto, self._heard)
        groups, lost = client.journal.rung(heard, upto), client.journal.lost(heard, upto)
        if groups or lost:
            self.asked_at = client.owner.clock.boot()
        return Ring(groups=dict.fromkeys(groups), lost=frozenset(lost))


def writes(seen: Seen, done: Ledger | Refused | None) -> bool:
    """Whether, by what was seen, something is to be written."""
    return isinstance(done, Ledger) and done.revision > seen.past.revision
