"""The network between the processes and the store, and how the store takes what arrives.

A request is on its way for a while, is carried out at one instant, and its answer is on its way back.
Between these it can be lost, be overtaken, or be kept waiting inside the store; who sent it gives up when
its patience is over, and is told that the outcome is not known, unless nothing was or will be written.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from headcount.core.work import DoBeat
from tests.simulation.process import Flight, Process
from tests.simulation.server import Server
from tests.simulation.world import World


@dataclass(frozen=True)
class Weather:
    """How the network is. Delays in seconds; the rest are shares of all requests."""

    delay: tuple[float, float]
    lost: float = 0.0
    answer_lost: float = 0.0
    late: float = 0.0


class Network:
    server: Server
    mode: str
    ttls: list[float]

    def __init__(self, world: World) -> None:
        self.world = world
        base = world.rng.choice((0.0005, 0.002, 0.01))
        self.calm_weather = Weather((base, base * world.rng.choice((2, 4))))
        self.weather = self.calm_weather
        self.bell_slow = world.rng.choice((0.003, 0.025, 0.05))
        self.held: list[tuple[Callable[[Flight], bool], float]] = []
        """Requests that are kept on their way, and for how long."""
        self.slow_answers: tuple[Process, float] | None = None
        self.keep_inside: Process | None = None
        """The next beat of this process is kept waiting inside the store."""
        self.inside: list[Flight] = []
        self.choked: dict[str, None] = {}
        self.deaf = False
        self.airborne = 0.0
        """When the last request arrives that is on its way for unusually long."""
        self._stuck: list[Flight] = []

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
        process = flight.hand.process
        flight.doubt = True
        process.client.arrived = flight.came_in
        self._go_on(flight, process.client.serve(flight))
        process.client.arrived = None

    def _go_on(self, flight: Flight, steps: Generator[float, None, Any]) -> None:
        """The next step of what the store does about a request; after the last, the answer."""
        try:
            pause = next(steps)
        except StopIteration as done:
            self._answer(flight, done.value)
            return
        if not flight.under_way:
            flight.under_way = True
            self.world.at(max(self.world.now, flight.until), flight.hand.give_up, flight)
        self.airborne = max(self.airborne, flight.until, self.world.now + pause)
        self.world.after(pause, self._go_on, flight, steps)

    def _answer(self, flight: Flight, answer: Any) -> None:
        world, weather, process = self.world, self.weather, flight.hand.process
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
