"""One town: a store, a network, a handful of processes, and a plan of what goes wrong.

A seed decides everything: the mode of the store, and what servers it has (`engines`); the interval, how far
apart the clocks run, who lives where and joins what, which faults come in which order and when. The plan
(`faults`) takes the town from one quiet state to the next: something happens, everything is healed, and then
the town has to *settle* within a bound: everybody who wants in is in, every view agrees with the store, every
group is led. What must never happen is checked all the time, by `truth` and `eyes`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from headcount.core.agent import Agent
from headcount.core.membership import Membership, OnConflict, Phase
from headcount.errors import HeadcountError
from headcount.model import Guarantees, Remark, Session, Withdraw, Write
from headcount.stores import memory
from tests.simulation.engines import KINDS, Engine, EtcdLike, ZooKeeperLike
from tests.simulation.engines.machines import Ensemble
from tests.simulation.network import Network, Weather
from tests.simulation.process import Process
from tests.simulation.server import Client, Server
from tests.simulation.settled import unsettled
from tests.simulation.truth import Truth
from tests.simulation.world import Broken, HostClock, Script, World, some_rate

GROUPS = ("api", "batch", "cron")
LENGTH = 620.0
"""Seconds of true time after which no new trouble begins."""

SETTLE = 60.0
"""Seconds in which a healed town has settled."""


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


class Town(Network):
    def __init__(
        self, seed: int, *, mode: str | None = None, engine: str | None = None, record: bool = False
    ) -> None:
        forced = f" ENGINE={engine}" if engine else f" MODE={mode}" if mode else ""
        world = World(seed, forced=forced, record=record)
        super().__init__(world)
        rng = world.rng
        self.mode = mode or rng.choice(("ticks", "ticks", "sessions"))
        self.engine = "plain" if self.mode == "ticks" else engine or KINDS[seed % len(KINDS)]
        """What the sessions of the town stand on, where it has no ticks."""
        self.interval = rng.choice((1.0, 1.0, 0.5))
        self.truth = Truth(self.world)
        clock = HostClock(self.world, some_rate(rng), rng.uniform(0, 1e6), 1.8e9)
        self.lossy = rng.choice((0.0, 0.0, 0.3)) if self.mode == "ticks" else 0.0
        self.guarantees: Guarantees = memory.TICKS if self.mode == "ticks" else memory.SESSIONS
        if self.lossy:
            self.guarantees = replace(self.guarantees, recheck=rng.choice((1.0, 2.0)))
        self.groups = GROUPS
        self.processes: list[Process] = []
        self.plans: list[Plan] = []
        self.bustle = False
        self._said = 0
        self._names: set[str] = set()
        ttls = [t * self.interval for t in (3, 4, 5, 6, 7.5, 10)]
        self.ttls = list(rng.sample(ttls, 3))
        if self.engine == "etcd":
            self.ttls = [float(math.ceil(ttl)) for ttl in self.ttls]
        self.patience = min(self.ttls) / 6 * rng.uniform(0.6, 0.95)
        self.server_clock = clock
        self.server = self._store()
        self.operator = Client(self.server)
        self.world.note(
            "a town of", self.mode, self.engine, f"interval {self.interval:g}", f"ttls {self.ttls}"
        )

    def _store(self) -> Server:
        clock = self.server_clock
        if self.engine == "plain":
            self.server_clocks = [clock]
            return Server(self.truth, self.mode, self.interval, clock)
        # A request is several round trips here: where one is slow, none would come to its end.
        low, high = self.calm_weather.delay
        self.weather = self.calm_weather = Weather((min(low, 0.001), min(high, 0.004)))
        kind = ZooKeeperLike if self.engine == "zookeeper" else EtcdLike
        server = kind(self.truth, self.interval, clock, self.ttls)
        self.guarantees = server.guarantees
        self.server_clocks = [machine.clock for machine in server.ensemble.machines]
        return server

    @property
    def ensemble(self) -> Ensemble | None:
        """The servers of the store, if it has several."""
        return self.server.ensemble if isinstance(self.server, Engine) else None

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

    def end_from_outside(self, session: str) -> bool:
        """Somebody ends a session with the store's own tools, before its time. Whether it could be done."""
        self.server.end_early(session)
        return session in self.server.early

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

    def fresh(self, prefix: str, bits: int) -> str:
        """A name that nobody in this town has or ever had, as all must be who ask the store. Chance alone
        gives the same one twice within some thousands of towns."""
        while (name := f"{prefix}{self.world.rng.getrandbits(bits):0{bits // 4}x}") in self._names:
            pass
        self._names.add(name)
        return name

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
        self.server.heal()
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
        while (reason := unsettled(self)) is not None:
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


def run(
    seed: int,
    *,
    mode: str | None = None,
    engine: str | None = None,
    length: float = LENGTH,
    record: bool = False,
) -> Result:
    """One town from its founding to its end. Raises `Broken` when a promise was not kept."""
    from tests.simulation import faults

    town = Town(seed, mode=mode, engine=engine, record=record)
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
        seed,
        f"{town.mode}, {town.engine}",
        world.now,
        world.faults,
        world.kept,
        world.digest() if record else "",
        lines,
    )


def hunt(seeds: Iterable[int], *, mode: str | None = None, length: float = LENGTH) -> Broken | None:
    """The first promise that is broken among these seeds; None: all were kept."""
    for seed in seeds:
        try:
            run(seed, mode=mode, length=length)
        except Broken as broken:
            return broken
    return None


__all__ = ["Broken", "Plan", "Result", "Seat", "Town", "Weather", "hunt", "run"]
