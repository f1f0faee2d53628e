"""One process of the town: a `Node`, two hands that carry out what it asks for, and the network between.

A hand does what a thread of the engine does, one thing at a time:

    next ─► Rest, Listen ─► until its time, or until the other hand has done something, or the doorbell
      │                     rang, which takes a while to be heard
      └───► a request ─► travels ─► is carried out at the store, at one instant ─► the answer travels ─► done

Everything between may fail. A request can be lost, or travel so long that its sender has given up when
it is carried out; the answer can be lost; the store can take it in and let it wait. Who has given up is
told `OutcomeUnknown`, or `StoreUnavailable` if nothing was, or ever will be, written. A paused process
(SIGSTOP) stops between any two of these steps, a hung hand alone; both go on later where they stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headcount.core.agent import Agent
from headcount.core.leadership import TermState
from headcount.core.membership import Desired, Identity, Membership, OnConflict, Phase
from headcount.core.node import Node
from headcount.core.work import (
    DoAdvance,
    DoBeat,
    DoClose,
    DoCommit,
    DoCreate,
    DoLook,
    DoOpen,
    DoRead,
    DoSweep,
    DoTogether,
    Listen,
    Rest,
    Told,
    ToldSelf,
    parts,
)
from headcount.errors import HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Delta, Moment, Ring, Snapshot
from tests.simulation.eyes import Eyes
from tests.simulation.world import HostClock

if TYPE_CHECKING:
    from tests.simulation.town import Town

KINDS: dict[type, str] = {
    DoBeat: "beat",
    DoAdvance: "tick",
    DoOpen: "beat",  # opening a session writes its first beat
    DoClose: "beat",
    DoCommit: "commit",
    DoCreate: "commit",
    DoSweep: "commit",
    DoLook: "read",
    DoRead: "read",
}
"""What a request needs of the store: a store may choke on one of these and serve the others."""

SPIN = 150
"""So many requests of one hand within one second, or idle turns at one instant, are a spin."""


class Flight:
    """One request on its way."""

    __slots__ = (
        "asked",
        "came_in",
        "doubt",
        "hand",
        "kind",
        "patience",
        "request",
        "token",
        "under_way",
        "until",
    )

    def __init__(self, hand: Hand, token: int, request: Any, asked: Moment, patience: float) -> None:
        self.hand = hand
        self.token = token
        self.request = request
        self.asked = asked
        self.patience = patience
        self.until = math.inf
        """The true time at which its sender gives up."""
        self.kind = KINDS[type(parts(request)[0])]
        self.came_in: Any = None
        self.under_way = False
        """Whether the store does something about it that takes several steps."""
        self.doubt = False
        """Whether it was carried out, or still may be."""

    @property
    def given_up(self) -> bool:
        """Whether its sender does not wait for it any more, and takes no note of what comes of it."""
        return self.token != self.hand.token or self.hand.process.dead


class Hand:
    def __init__(self, process: Process, name: str, core: Any) -> None:
        self.process = process
        self.name = name
        self.core = core
        self.other: Hand = self
        self.hung = False
        self.token = 0
        self.idle: tuple[Rest | Listen, Moment] | None = None
        self.sent = 0
        """Requests so far: what load is measured by."""
        self.kinds: dict[str, int] = {}
        self._owed: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._turns = (0.0, 0)
        self._burst = (0.0, 0)
        self._bell_at = math.inf

    @property
    def stopped(self) -> bool:
        return self.hung or self.process.paused

    def owe(self, what: Callable[..., None], *args: Any) -> None:
        """To be done as soon as we run again."""
        self._owed.append((what, args))

    def go_on(self) -> None:
        """We run again."""
        while self._owed and not self.stopped and not self.process.dead:
            what, args = self._owed.pop(0)
            what(*args)
        if self.idle is not None and not self.stopped:
            self.wake()

    # ── between two requests ──

    def step(self) -> None:
        process, world = self.process, self.process.world
        if process.dead:
            return
        if self.stopped:
            self.owe(self.step)
            return
        self.token += 1
        asked = process.clock.moment()
        request = self.core.next(asked)
        process.moved()
        if isinstance(request, (Rest, Listen)):
            self._turn()
            self.idle = (request, asked)
            self._bell_at = math.inf
            if request.until < math.inf:
                world.at(max(world.now, process.clock.true(request.until)) + 1e-6, self._over, self.token)
            if isinstance(request, Listen) and request.doorbell:
                process.client.listening()
                if process.bell_rings:
                    self.ring()
            return
        self.idle = None
        self._count(request)
        flight = Flight(self, self.token, request, asked, process.patience)
        if process.trip == "asked" and self.name == process.trip_hand:
            process.trip = ""
            self.owe(process.town.send, flight)
            process.pause_now()
            return
        process.town.send(flight)

    def wake(self) -> None:
        """Something may have changed."""
        if self.idle is None or self.process.dead:
            return
        if self.stopped:
            return  # it looks again when it runs again
        (request, asked), self.idle = self.idle, None
        if isinstance(request, Listen) and request.doorbell:
            ring = self.process.listen()
            self.core.done(request, asked, self.process.clock.moment(), ring)
            self.process.moved()
        self.step()

    def ring(self) -> None:
        """The store says that something has changed; it takes a while until we hear it."""
        if self.idle is None or not isinstance(self.idle[0], Listen) or not self.idle[0].doorbell:
            return
        world = self.process.world
        at = world.now + self.process.town.bell_delay()
        if at < self._bell_at:
            self._bell_at = at
            world.at(at, self._over, self.token)

    def _over(self, token: int) -> None:
        if token == self.token and self.idle is not None:
            self.wake()

    def _turn(self) -> None:
        now, turns = self.process.world.now, self._turns
        self._turns = (now, turns[1] + 1) if turns[0] == now else (now, 1)
        if self._turns[1] > SPIN:
            raise self.process.world.broken("it stops", f"the {self.name} of {self.process.name} spins idly")

    def _count(self, request: Any) -> None:
        second, count = self._burst
        now = self.process.world.now
        self._burst = (second, count + 1) if now - second < 1.0 else (now, 1)
        if self._burst[1] > SPIN:
            raise self.process.world.broken(
                "it stops", f"the {self.name} of {self.process.name} spins; now it sends {request}"
            )
        self.sent += 1
        if isinstance(request, DoTogether):
            self.process.world.faults["several asked in one go"] += 1
        name = type(parts(request)[0]).__name__
        self.kinds[name] = self.kinds.get(name, 0) + 1

    # ── what comes back ──

    def answer(self, flight: Flight, answer: Any) -> None:
        if self.process.dead:
            return
        if flight.token != self.token:
            self._late(flight, answer)
            return
        if self.stopped:
            self.owe(self.answer, flight, answer)
            return
        if self.process.trip == "answer" and self.name == self.process.trip_hand:
            self.process.trip = ""
            self.owe(self.answer, flight, answer)
            self.process.pause_now()
            return
        self._done(flight, answer)

    def give_up(self, flight: Flight) -> None:
        if self.process.dead or flight.token != self.token:
            return
        if self.stopped:
            self.owe(self.give_up, flight)
            return
        if flight.doubt:
            self._done(flight, OutcomeUnknown("the store did not answer in time"))
        else:
            self._done(flight, StoreUnavailable("the store could not be reached"))

    def _done(self, flight: Flight, answer: Any) -> None:
        process = self.process
        if isinstance(answer, HeadcountError):
            process.world.note("failed", process.name, flight.kind, type(answer).__name__)
        self.core.done(flight.request, flight.asked, process.clock.moment(), answer)
        process.moved()
        self.step()
        if self.name == "heart" and process.node.watcher.pending:
            self.other.wake()

    def _late(self, flight: Flight, answer: Any) -> None:
        """The answer to a read that was given up. A view that takes it for news goes backwards."""
        if not isinstance(answer, Snapshot | Delta) or not isinstance(flight.request, DoRead) or self.stopped:
            return
        replica = self.process.node.replicas.get(flight.request.group)
        if replica is not None and replica.view is not None and answer.revision < replica.view.revision:
            self.process.world.faults["a read answered after it was given up"] += 1
            self.core.done(flight.request, flight.asked, self.process.clock.moment(), answer)
            self.process.moved()


class Process:
    """One operating system process, with the application that runs in it."""

    def __init__(self, town: Town, name: str, host: str, *, rate: float, watches: bool) -> None:
        rng = town.world.rng
        self.town, self.world = town, town.world
        self.name, self.host = name, host
        self.id = town.fresh(f"{name}-", 32)
        self.clock = HostClock(town.world, rate, rng.uniform(100, 1e6), 1.7e9 + rng.uniform(-1e6, 1e6))
        self.client = town.server.connect(self)
        self.node = Node(town.guarantees, self.clock.boot)
        self.watches = watches
        self.plan: Any = None
        self._watched: dict[tuple[str, str], None] = {}
        self.bell: Any = self.client.doorbell()
        self.bell_rings = False
        self.patience = town.patience
        self.agents: list[Agent] = []
        self.wanted: dict[tuple[str, str], Desired] = {}
        """By instance and group: what the application asked for and has not taken back."""
        self.terms: dict[tuple[str, str], TermState] = {}
        self.trust: dict[TermState, float] = {}
        """Our terms, and until when each was trusted when we last looked."""
        self.led: dict[str, None] = {}
        self.told: list[ToldSelf] = []
        self.dead = self.paused = self.cut = self.closing = False
        self.hears = False
        """Cut off, but what is on its way back still arrives."""
        self.died_at = math.inf
        self.trip, self.trip_hand, self.trip_for = "", "", 0.0
        self.eyes = Eyes(self, town.truth)
        self.heart = Hand(self, "heart", self.node.heart)
        self.watcher = Hand(self, "watcher", self.node.watcher)
        self.heart.other, self.watcher.other = self.watcher, self.heart

    @property
    def runs(self) -> bool:
        return not (self.dead or self.paused)

    @property
    def healthy(self) -> bool:
        return self.runs and not (self.cut or self.heart.hung or self.watcher.hung or self.clock.frozen)

    def begin(self) -> None:
        self.town.server.waiters.append(self)
        self.heart.step()
        self.watcher.step()

    def rung(self) -> None:
        """The store says that something has changed."""
        if self.dead:
            return
        world = self.world
        if self.town.lossy and world.rng.random() < self.town.lossy:
            world.faults["a ring lost"] += 1
            self.bell.wake()
            self.bell.wait(0)
            return
        self.bell_rings = True
        self.watcher.ring()

    def listen(self) -> Ring | HeadcountError:
        """What the doorbell says now."""
        if self.cut or self.town.deaf:
            return StoreUnavailable("the doorbell cannot be reached")
        self.bell_rings = False
        self.bell.wake()
        try:
            ring: Ring = self.bell.wait(0)
        except HeadcountError as error:
            return error
        if self.town.lossy and self.world.rng.random() < 0.02:
            self.world.faults["a ring for nothing"] += 1
            return Ring(groups=self.world.rng.choice((None, dict.fromkeys(self.town.groups))), lost=ring.lost)
        return ring

    def moved(self) -> None:
        """What the engine does under its lock after each step of a hand."""
        self.eyes.look()
        self.node.moved.clear()
        if self.node.heart.hurried():
            self.world.at(self.world.now, self.heart.wake)
        for tiding in self.node.fetch():
            match tiding:
                case Told():
                    self.eyes.hear(tiding)
                case ToldSelf():
                    self.world.note("told", self.name, tiding.group, tiding.kind.value)
                    self.told.append(tiding)

    # ── the application ──

    def coordinator(self, member_id: str, ttl: float) -> Agent:
        town = self.town
        instance = town.fresh(f"{self.name}.{len(self.agents)}.", 16)
        agent = Agent(
            Identity(member_id=member_id, instance=instance, host=self.host),
            self.id,
            ttl,
            lambda: town.fresh("s", 32),
        )
        self.agents.append(agent)
        town.truth.agents[instance] = agent
        self.node.add(agent)
        return agent

    def join(
        self,
        agent: Agent,
        group: str,
        *,
        stand: bool = True,
        follow: bool = True,
        on_conflict: OnConflict = "take_over",
    ) -> Membership:
        desired = Desired(capabilities=self.town.say(), stand=stand, create=True, on_conflict=on_conflict)
        known = agent.memberships.get(group)
        if known is None or known.desired is None:
            key = (agent.me.instance, group)
            self.wanted[key] = desired
            self.town.truth.wants[agent.me.instance, group] = self.town.truth.wants.get(key, 0) + 1
        membership = self.node.want(agent, group, desired)
        if self.watches:
            self.watch(agent, group)
            if follow and not membership.following:
                self.node.lead(membership)
        self.world.note("joins", self.name, agent.me.member_id, group, on_conflict)
        return membership

    def leave(self, agent: Agent, group: str) -> None:
        membership = agent.memberships.get(group)
        self.wanted.pop((agent.me.instance, group), None)
        if membership is not None:
            self.world.note("leaves", self.name, agent.me.member_id, group)
            membership.unwant()
            self.node.watcher.poke(agent)

    def watch(self, agent: Agent, group: str) -> None:
        if (agent.me.instance, group) not in self._watched:
            self._watched[agent.me.instance, group] = None
            agent.watching += 1
        self.node.watch(group)
        self.node.watcher.poke(agent)

    def publish(self, agent: Agent, membership: Membership) -> None:
        membership.update(self.town.say())
        self.node.watcher.poke(agent)

    def resign(self, agent: Agent, membership: Membership) -> None:
        self.world.note("resigns", self.name, membership.group)
        membership.resign()
        self.node.watcher.poke(agent)

    def say_ready(self, agent: Agent, ready: bool, for_: float = math.inf) -> None:
        self.world.note("ready" if ready else "unready", self.name, agent.me.member_id, for_)
        agent.say_ready(ready, self.clock.boot() + for_)
        self.node.watcher.poke(agent)

    def close(self) -> None:
        """Every coordinator says goodbye."""
        self.world.note("closes", self.name)
        self.closing = True
        for agent in self.agents:
            agent.closing = True
            agent.watching = 0
            for membership in agent.memberships.values():
                self.wanted.pop((agent.me.instance, membership.group), None)
                membership.unwant()
            self.node.lead_no_more(agent.memberships.values())
            self.node.watcher.poke(agent)
        self.poke()

    @property
    def closed(self) -> bool:
        return all(
            agent.presence.session is None and all(m.phase is Phase.OUT for m in agent.memberships.values())
            for agent in self.agents
        )

    def poke(self) -> None:
        """The engine wakes both hands when the application has called."""
        self.eyes.look()
        self.heart.wake()
        self.watcher.wake()

    # ── what happens to it ──

    def crash(self) -> None:
        self.world.note("crash", self.name)
        self.dead = True
        self.died_at = self.world.now
        if self in self.town.server.waiters:
            self.town.server.waiters.remove(self)

    def pause(self, seconds: float, *, between: str = "", hand: str = "heart") -> None:
        """SIGSTOP; `between`: not before the next request has been `asked`, or its `answer` is here."""
        self.trip_for = seconds
        if between:
            self.trip, self.trip_hand = between, hand
        else:
            self.pause_now()

    def pause_now(self) -> None:
        if self.dead or self.paused:
            return
        self.world.note("pause", self.name, self.trip_for)
        self.paused = True
        self.world.after(self.trip_for, self.resume)

    def resume(self) -> None:
        if not self.paused or self.dead:
            return
        self.world.note("resume", self.name)
        self.paused = False
        self.trip = ""
        if self.clock.frozen:
            self.clock.thaw()
        self.eyes.look()
        self.heart.go_on()
        self.watcher.go_on()

    def hang(self, hand: Hand, seconds: float) -> None:
        self.world.note("hang", self.name, hand.name, seconds)
        hand.hung = True
        self.world.after(seconds, self._unhang, hand)

    def _unhang(self, hand: Hand) -> None:
        if not self.dead:
            hand.hung = False
            hand.go_on()
