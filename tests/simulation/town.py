"""One town: a store, a network, a handful of processes, and a plan of what goes wrong.

A seed decides everything: the mode of the store, the interval, how far apart the clocks run, who lives
where and joins what, which faults come in which order and when. The plan (`faults`) takes the town from
one quiet state to the next: something happens, everything is healed, and then the town has to *settle*
within a bound: everybody who wants in is in, every view agrees with the store, every group is led. What
must never happen is checked all the time, by `promises`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from headcount.core.agent import Agent
from headcount.core.membership import Membership, OnConflict, Phase
from headcount.core.work import DoBeat
from headcount.errors import Expelled, HeadcountError, MemberTaken, Superseded
from headcount.model import Guarantees, Remark, Session, Withdraw, Write
from headcount.stores import memory
from tests.simulation.process import Flight, Process
from tests.simulation.promises import Truth
from tests.simulation.server import Client, Server
from tests.simulation.world import Broken, HostClock, Script, World, some_rate

GROUPS = ("api", "batch", "cron")
LENGTH = 620.0
"""Seconds of true time after which no new trouble begins."""

SETTLE = 60.0
"""Seconds in which a healed town has settled."""


@dataclass(frozen=True)
class Weather:
    """How the network is. Delays in seconds; the rest are shares of all requests."""

    delay: tuple[float, float]
    lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0


@dataclass(frozen=True)
class Seat:
    """One coordinator of a process: its name (empty: an observer), its ttl, and what it joins."""

    member_id: str
    ttl: float
    groups: tuple[str, ...]
    on_conflict: OnConflict = "take_over"
    follow: bool = True


@dataclass(frozen=True)
class Plan:
    """A process as it is started, again and again."""

    name: str
    host: str
    seats: tuple[Seat, ...]
    watches: bool = True


@dataclass
class Result:
    seed: int
    mode: str
    seconds: float
    faults: Counter[str]
    kept: Counter[str]
    digest: str = ""
    lines: list[str] = field(default_factory=list)


class Town:
    def __init__(self, seed: int, *, mode: str | None = None, record: bool = False) -> None:
        self.world = World(seed, record=record)
        rng = self.world.rng
        self.mode = mode or rng.choice(("ticks", "ticks", "sessions"))
        self.interval = rng.choice((1.0, 1.0, 0.5))
        self.truth = Truth(self.world)
        clock = HostClock(self.world, some_rate(rng), rng.uniform(0, 1e6), 1.8e9)
        self.server_clock = clock
        self.server = Server(self.truth, self.mode, self.interval, clock)
        self.lossy = rng.choice((0.0, 0.0, 0.3)) if self.mode == "ticks" else 0.0
        self.guarantees: Guarantees = memory.TICKS if self.mode == "ticks" else memory.SESSIONS
        if self.lossy:
            self.guarantees = _replace(self.guarantees, recheck=rng.choice((1.0, 2.0)))
        base = rng.choice((0.0005, 0.002, 0.01))
        self.calm_weather = Weather((base, base * rng.choice((2, 4))))
        self.weather = self.calm_weather
        self.bell_slow = rng.choice((0.003, 0.025, 0.05))
        self.groups = GROUPS
        self.processes: list[Process] = []
        self.plans: list[Plan] = []
        self.held: list[tuple[Callable[[Flight], bool], float]] = []
        self.slow_answers: tuple[Process, float] | None = None
        self.keep_inside: Process | None = None
        """The next beat of this process is kept waiting inside the store."""
        self.inside: list[Flight] = []
        self.choked: dict[str, None] = {}
        self.deaf = False
        self.bustle = False
        self.airborne = 0.0
        """When the last request arrives that is on its way for unusually long."""
        self._stuck: list[Flight] = []
        self._said = 0
        ttls = [t * self.interval for t in (3, 4, 5, 6, 7.5, 10)]
        self.ttls = list(rng.sample(ttls, 3))
        self.patience = min(self.ttls) / 3 * rng.uniform(0.6, 0.9)
        self.operator = Client(self.server)
        self.world.note("a town of", self.mode, f"interval {self.interval:g}", f"ttls {self.ttls}")

    # ── who lives here ──

    def found(self) -> None:
        rng, world = self.world.rng, self.world
        for group in self.groups:
            self.operator.create_group(group)
        for number in range(rng.randint(4, 6)):
            groups = tuple(rng.sample(self.groups, rng.choice((1, 2, 2, 3))))
            seat = Seat(f"m{number}", rng.choice(self.ttls), groups, follow=rng.random() < 0.85)
            seats: tuple[Seat, ...] = (seat,)
            if number == 1:
                seats += (Seat("twin", rng.choice(self.ttls), tuple(rng.sample(self.groups, 2))),)
            if number == 2 and rng.random() < 0.5:
                seats += (Seat("", rng.choice(self.ttls), ()),)
            watches = number != 3
            self.plans.append(Plan(f"m{number}", f"host{number}", seats, watches))
        shared = Seat("pair", rng.choice(self.ttls), (rng.choice(self.groups),), "share")
        self.plans += [Plan(f"pair{n}", "hostp", (shared,)) for n in (0, 1)]
        self.plans.append(Plan("eye", "hosto", (Seat("", rng.choice(self.ttls), ()),)))
        for plan in self.plans:
            world.after(rng.uniform(0, 2), self.start, plan)
        if self.mode == "sessions":
            world.after(0.25, self._expire)
        world.after(1.0, self._look_around)

    def start(self, plan: Plan, *, rate: float | None = None) -> Process:
        """A new process, which joins what its plan says."""
        process = Process(
            self, plan.name, plan.host, rate=rate or some_rate(self.world.rng), watches=plan.watches
        )
        process.plan = plan
        self.world.note("starts", plan.name, f"rate {process.clock.rate:.4f}")
        self.processes.append(process)
        for seat in plan.seats:
            agent = process.coordinator(seat.member_id, seat.ttl)
            for group in seat.groups:
                process.join(agent, group, follow=seat.follow, on_conflict=seat.on_conflict)
            if not seat.member_id:
                for group in self.groups:
                    process.watch(agent, group)
        process.begin()
        self.world.faults["clock drift"] += process.clock.rate != 1.0
        return process

    @property
    def living(self) -> list[Process]:
        return [p for p in self.processes if not p.dead]

    @property
    def well(self) -> list[Process]:
        return [p for p in self.processes if p.healthy and not p.closing]

    def joined(self, process: Process) -> list[tuple[Agent, Membership]]:
        return [
            (agent, m)
            for agent in process.agents
            for m in agent.memberships.values()
            if m.phase is Phase.JOINED and (agent.me.instance, m.group) in process.wanted
        ]

    def owner(self, session: str) -> Process | None:
        """Whose session this is."""
        found: Session | None = self.truth.sessions.get(session)
        return next((p for p in self.processes if found is not None and p.id == found.process), None)

    def leader(self, group: str) -> tuple[Process, Agent, Membership] | None:
        """Who leads, as the store has it."""
        latest = self.truth.latest.get(group)
        row = latest.leader if latest else None
        process = self.owner(row.session) if row else None
        if row is None or process is None or process.dead:
            return None
        for agent in process.agents:
            if agent.me.instance == row.instance:
                return process, agent, agent.memberships[group]
        return None

    def ticker(self) -> Process | None:
        return self.owner(self.server.clock_row.ticker)

    def standbys(self) -> list[Process]:
        found = [self.owner(s) for s in self.server.clock_row.standbys]
        return [p for p in found if p is not None]

    def say(self) -> bytes:
        """Capabilities that nobody has published before."""
        self._said += 1
        return str(self._said).encode()

    # ── the network ──

    def delay(self) -> float:
        low, high = self.weather.delay
        return low + (high - low) * self.world.rng.random()

    def bell_delay(self) -> float:
        return self.bell_slow * self.world.rng.random()

    def send(self, flight: Flight) -> None:
        world, weather, rng = self.world, self.weather, self.world.rng
        delay, until = self.delay(), world.now + flight.patience
        flight.until = until
        world.note("sends", flight.hand.process.name, flight.request)
        if weather.lost or weather.late:
            if rng.random() < weather.lost:
                world.faults["request loss"] += 1
                world.at(world.now + flight.patience * rng.uniform(0.1, 1), flight.hand.give_up, flight)
                return
            if rng.random() < weather.late:
                world.faults["reordering"] += 1
                delay += rng.uniform(0.2, 1.2) * max(self.ttls)
            if delay > 0.05:
                world.faults["request delay"] += 1
        for matches, seconds in self.held:
            if matches(flight):
                world.faults["reordering"] += 1
                world.note("held", flight.hand.process.name, flight.kind, f"{seconds:.3f}")
                delay += seconds
        if delay >= flight.patience:
            flight.doubt = True
            self.airborne = max(self.airborne, world.now + delay)
            world.at(until, flight.hand.give_up, flight)
        world.at(world.now + delay, self.arrive, flight)

    def arrive(self, flight: Flight) -> None:
        world = self.world
        process = flight.hand.process
        if process.cut:
            world.at(max(world.now, flight.until), flight.hand.give_up, flight)
        elif process is self.keep_inside and isinstance(flight.request, DoBeat):
            self.keep_inside = None
            flight.doubt, flight.came_in = True, (world.now, self.server.clock_row)
            self.inside.append(flight)
            world.at(max(world.now, flight.until), flight.hand.give_up, flight)
        elif flight.kind in self.choked:
            flight.doubt = True
            if isinstance(flight.request, DoBeat) and flight.came_in is None:
                flight.came_in = (world.now, self.server.clock_row)
            self._stuck.append(flight)
            world.at(max(world.now, flight.until), flight.hand.give_up, flight)
        else:
            self.carry_out(flight)

    def carry_out(self, flight: Flight) -> None:
        world, weather, process = self.world, self.weather, flight.hand.process
        flight.doubt = True
        process.client.arrived = flight.came_in
        answer = process.client.carry_out(flight.request)
        process.client.arrived = None
        delay = self.delay()
        if self.slow_answers is not None and self.slow_answers[0] is process:
            delay += self.slow_answers[1]
        if delay > 0.05:
            world.faults["answer delay"] += 1
        deaf = process.cut and not process.hears
        lost = deaf or (weather.answer_lost and world.rng.random() < weather.answer_lost)
        if lost:
            if flight.kind == "commit":
                world.faults["ambiguous commit"] += 1
            world.faults["answer loss"] += 1
            world.at(max(world.now, flight.until), flight.hand.give_up, flight)
            return
        if world.now + delay >= flight.until:
            world.at(max(world.now, flight.until), flight.hand.give_up, flight)
        world.at(world.now + delay, flight.hand.answer, flight, answer)

    def choke(self, *kinds: str) -> None:
        """The store takes these in, and lets them wait."""
        self.world.note("the store chokes on", *kinds)
        self.choked = dict.fromkeys(kinds)
        self.deaf = len(kinds) == 4

    def flow(self) -> None:
        """The store goes on; what has waited is carried out in any order, or was thrown away."""
        if self.choked:
            self.world.note("the store flows again")
        self.choked, self.deaf = {}, False
        stuck, self._stuck = self._stuck, []
        rng = self.world.rng
        rng.shuffle(stuck)
        for flight in stuck:
            if rng.random() < 0.6:
                if flight.came_in is not None:
                    self.world.faults["an old beat lands late"] += 1
                self.airborne = max(self.airborne, self.world.now + 0.5)
                self.world.after(rng.uniform(0, 0.5), self.arrive, flight)

    def cut(self, process: Process) -> None:
        self.world.note("cut off", process.name)
        if self.mode == "sessions":
            self.world.faults["suspended"] += 1
        process.cut, process.hears = True, False

    # ── the operators ──

    def mark(self, group: str, member_id: str, fenced: bool = False, **marks: Any) -> HeadcountError | None:
        return self.command(
            group,
            lambda past: [
                Remark(
                    member_id=member_id,
                    seen=past.marks[member_id].revision if member_id in past.marks else 0,
                    fenced=fenced,
                    **marks,
                )
            ],
        )

    def forget(self, group: str, member_id: str) -> HeadcountError | None:
        return self.command(
            group,
            lambda past: [
                Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision, forget=True)
                for row in past.rows.values()
                if row.member_id == member_id
            ],
        )

    def command(self, group: str, writes: Callable[[Any], list[Write]]) -> HeadcountError | None:
        """An operator reads, thinks, and commits; sometimes too late, and then he is refused."""
        past = self.truth.latest.get(group)
        if past is None:
            return None
        wanted = writes(past)
        self.world.note("operator", group, *wanted)
        self.world.after(self.delay() * 2, self._commit, group, wanted)
        return None

    def _commit(self, group: str, wanted: list[Write]) -> None:
        try:
            self.operator.commit(group, wanted)
        except HeadcountError as error:
            self.world.note("operator was told", error)

    # ── quiet ──

    def heal(self) -> None:
        """Everything that was broken is repaired, and whoever is paused goes on."""
        self.weather, self.held, self.bustle = self.calm_weather, [], False
        self.slow_answers, self.keep_inside, self.inside = None, None, []
        self.flow()
        for process in self.living:
            process.cut = process.hears = False
            process.client.reachable = True
            process.trip = ""
            for hand in (process.heart, process.watcher):
                process._unhang(hand)
            process.resume()

    def settle(self, limit: float = SETTLE) -> Script:
        """Wait until everybody is in, every view agrees, and every group is led."""
        self.heal()
        world, began, released = self.world, self.world.now, False
        for process in self.living:
            if process.closing and process.closed:
                process.crash()
        for plan in self.plans:
            if not any(p.plan is plan and not p.dead and not p.closing for p in self.processes):
                self.start(plan)
        yield max(0.0, self.airborne - world.now) + 0.01
        while (reason := self.unsettled()) is not None:
            if world.now - began > limit:
                raise world.broken(reason[0], f"{world.now - began:.0f} s after all was well: {reason[1]}")
            if not released and world.now - began > 20 and self._only_the_dead_are_suspect():
                released = True
                self.operator.release_guard()
                world.faults["guard released"] += 1
                world.note("the operator releases the guard")
            yield 0.5
        world.note("settled")
        for process in self.living:
            process.told.clear()
        for promise in (
            "nobody is locked out",
            "always led",
            "capabilities",
            "leaving is leaving",
            "claims go",
        ):
            world.kept[promise] += 1

    def _only_the_dead_are_suspect(self) -> bool:
        rows = [r for past in self.truth.latest.values() for r in past.rows.values() if r.state == "suspect"]
        owners = [self.owner(row.session) for row in rows]
        return bool(rows) and all(p is None or p.dead for p in owners)

    def unsettled(self) -> tuple[str, str] | None:
        """What is not yet as it should be: the promise, and what is wrong."""
        for process in self.living:
            found = self._unsettled(process)
            if found is not None:
                return found
        for group in self.truth.latest:
            found = self._disordered(group)
            if found is not None:
                return found
        for process in self.living:
            reason = process.eyes.complete()
            if reason is not None:
                return ("completeness", reason)
        return None

    def _unsettled(self, process: Process) -> tuple[str, str] | None:
        now, name = process.clock.boot(), process.name
        if process.node.outage.since is not None:
            return (
                "nobody is locked out",
                f"{name} still believes in an outage: {process.node.outage.error}",
            )
        for agent in process.agents:
            if agent.closing and agent.presence.session is not None:
                return ("it stops", f"{name} does not get closed")
            session = agent.presence.session_id
            if session and not self.server.alive(session):
                return ("nobody is locked out", f"{name} does not know that its session {session} is over")
            if agent.needs_session and (self.mode == "ticks" or agent.memberships):
                return ("nobody is locked out", f"{name} has no session")
            for group, membership in agent.memberships.items():
                wanted = process.wanted.get((agent.me.instance, group))
                if wanted is None:
                    if membership.phase is not Phase.OUT:
                        return ("leaving is leaving", f"{name} is still {membership.phase} in {group}")
                    continue
                found = self._member(process, agent, membership, now)
                if found is not None:
                    return found
        return None

    def _member(
        self, process: Process, agent: Agent, membership: Membership, now: float
    ) -> tuple[str, str] | None:
        group, who = membership.group, f"{process.name} ({agent.me.instance})"
        past = self.truth.latest.get(group)
        row = past.rows.get(membership.key) if past is not None else None
        mark = past.marks.get(agent.me.member_id) if past is not None else None
        if membership.error is not None:
            good = False
            match membership.error:
                case Superseded():
                    good = self.truth.others(group, membership.key, agent.me.instance)
                case MemberTaken():
                    good = process.plan.name == "rival"
                case Expelled():
                    good = self.truth.expelled.get((group, agent.me.member_id), False)
            if not good or (mark is None and membership.phase is Phase.BARRED):
                return ("nobody is locked out", f"{who} is out of {group}: {membership.error}")
            if membership.phase is Phase.OUT:
                process.wanted.pop((agent.me.instance, group))
            return None
        if membership.phase is not Phase.JOINED or row is None or not row.live:
            return ("nobody is locked out", f"{who} is {membership.phase} in {group}, where its row is {row}")
        if row.session != agent.presence.session_id or row.state != "up":
            return ("nobody is locked out", f"{who} has another row in {group} than it thinks: {row}")
        if membership.desired is None or row.capabilities != membership.desired.capabilities:
            return ("capabilities", f"{who} in {group} is shown with {row.capabilities!r}")
        ready = agent.is_ready(now)
        if row.ready != ready:
            return ("capabilities", f"{who} in {group} is shown as ready={row.ready}")
        bars = mark is not None and mark.bars_standing
        stands = membership.desired.stand or membership.following > 0
        if (row.standing_since > 0) != (stands and ready and not bars):
            return ("always led", f"{who} in {group} wants to stand, or not to: {row}")
        return None

    def _disordered(self, group: str) -> tuple[str, str] | None:
        past = self.truth.latest[group]
        for claim in past.claims.values():
            return ("claims go", f"in {group} there is still the claim {claim}")
        for row in past.rows.values():
            if not row.live:
                continue
            process = self.owner(row.session)
            if process is None or process.dead:
                return ("completeness", f"in {group} the row {row} of a dead process is not down")
            agent = next(a for a in process.agents if a.me.instance == row.instance)
            if (row.instance, group) not in process.wanted:
                return ("leaving is leaving", f"{process.name} is in {group}, and does not want to be: {row}")
            if agent.memberships[group].incarnation != row.incarnation:
                return ("nobody is locked out", f"{process.name} does not know its own row in {group}: {row}")
        terms = self.truth.trusted(group)
        leads = self.leader(group)
        if leads is None:
            if any(row.standing_since for row in past.rows.values()):
                return ("always led", f"nobody leads {group}")
            return None
        process, _, membership = leads
        follows = bool(membership.following)
        if [p for p, _ in terms] != [process] * follows:
            return (
                "always led",
                f"{process.name} leads {group} and {'does not know it' if follows else 'did not ask for it'}",
            )
        return None

    # ── what goes on by itself ──

    def _expire(self) -> None:
        """A store that expires sessions itself looks at its clock now and then."""
        if "beat" not in self.choked or "read" not in self.choked:
            with self.server.lock:
                self.server.expire_by_clock()
        self.world.after(0.25, self._expire)

    def _look_around(self) -> None:
        for process in self.living:
            if process.runs:
                process.eyes.honest()
        self.world.after(3.0, self._look_around)


def _replace(guarantees: Guarantees, **changes: Any) -> Guarantees:
    return replace(guarantees, **changes)


def run(seed: int, *, mode: str | None = None, length: float = LENGTH, record: bool = False) -> Result:
    """One town from its founding to its end. Raises `Broken` when a promise was not kept."""
    from tests.simulation import faults

    town = Town(seed, mode=mode, record=record)
    try:
        town.found()
        town.world.play(faults.story(town, length))
        town.world.run()
    except Broken:
        raise
    except Exception as error:
        raise town.world.broken("no surprises", f"{type(error).__name__}: {error}") from error
    world = town.world
    lines = world.lines if record else []
    return Result(
        seed, town.mode, world.now, world.faults, world.kept, world.digest() if record else "", lines
    )


def hunt(seeds: Iterable[int], *, mode: str | None = None, length: float = LENGTH) -> Broken | None:
    """The first promise that is broken among these seeds; None: all were kept."""
    for seed in seeds:
        try:
            run(seed, mode=mode, length=length)
        except Broken as broken:
            return broken
    return None


__all__ = ["Broken", "Plan", "Result", "Seat", "Town", "Weather", "hunt", "math", "run"]
