"""Scenes that watch what happens at the store, and strike at the worst instant."""

from __future__ import annotations

from headcount.core.work import DoCommit, parts
from headcount.model import Enter
from tests.simulation.network import Weather
from tests.simulation.process import Flight, Process
from tests.simulation.scenes.common import at_the_end_of_a_tick, extremes, rejoin, scene, some, victim
from tests.simulation.town import Town
from tests.simulation.world import Script


@scene
def sniper(town: Town) -> Script:
    """The worst that can happen to a leader: its clock is slow, all others are fast, and it is cut off
    by the instant at which a beat of its was taken at the very end of a tick; the answer may be slow."""
    world, rng = town.world, town.world.rng
    found = victim(town)
    if found is None:
        return
    leader, agent, _ = found
    world.faults["cut off at the end of a tick"] += 1
    extremes(town, leader)
    town.weather, slow, town.bell_slow = Weather((0.0002, 0.0004)), town.bell_slow, 0.001
    if rng.random() < 0.4:
        world.faults["slow answers"] += 1
        town.slow_answers = (leader, leader.patience * 0.9)
    yield from at_the_end_of_a_tick(town, leader, agent, lambda: _cut_after_answer(town, leader))
    yield 2 * agent.presence.ttl
    leader.cut = False
    town.weather, town.bell_slow, town.slow_answers = town.calm_weather, slow, None
    yield 1.0


def _cut_after_answer(town: Town, leader: Process) -> None:
    """Nothing more is sent; what is on its way back arrives."""
    town.cut(leader)
    leader.hears = True


@scene
def old_beat(town: Town) -> Script:
    """A beat is kept waiting inside the store while later ones are taken; then its sender is cut off, and
    the old one gets its turn last of all, with the tick that it read when it came."""
    found = victim(town)
    if town.mode != "ticks" or found is None:
        return
    leader, agent, _ = found
    extremes(town, leader)
    town.world.faults["an old beat lands last"] += 1
    town.keep_inside = leader
    began, taken = town.world.now, 0

    def count(session: str) -> None:
        nonlocal taken
        if session == agent.presence.session_id and town.inside:
            taken += 1
            if taken == 2:
                town.cut(leader)
                for flight in town.inside:
                    town.world.after(0.001, town.carry_out, flight)
                town.inside = []

    town.truth.on_beat.append(count)
    while taken < 2 and town.world.now - began < 2 * agent.presence.ttl:
        yield 0.1
    town.truth.on_beat.remove(count)
    town.keep_inside = None
    yield 2 * agent.presence.ttl
    leader.cut = False
    yield 1.0


@scene
def late_enter(town: Town) -> Script:
    """An enter is on its way for so long that its session is fenced before it arrives."""
    world, rng = town.world, town.world.rng
    process = some(town)
    agents = [a for a in process.agents if a.me.member_id and a.presence.session is not None]
    if not agents:
        return
    agent = rng.choice(agents)
    joined = [m.group for a, m in town.joined(process) if a is agent]
    world.faults["an enter after its session's end"] += 1
    wait = rng.choice((1.1, 1.5, 2.0)) * agent.presence.ttl + 2 * town.interval

    def enters(flight: Flight) -> bool:
        return flight.hand.process is process and any(
            isinstance(write, Enter)
            for request in parts(flight.request)
            if isinstance(request, DoCommit)
            for write in request.writes
        )

    town.held = [(enters, wait)]
    if joined:
        process.leave(agent, joined[0])
        process.poke()
        yield 0.3
        rejoin(town, process, agent, joined[0])
    else:
        rejoin(town, process, agent, rng.choice(town.groups))
    yield 0.2
    what = rng.choice(("crash", "cut", "heart", "leave"))
    if what == "crash":
        process.crash()
    elif what == "cut":
        process.cut = True
    elif what == "heart":
        process.hang(process.heart, wait)
    elif joined:
        process.leave(agent, joined[0])
        process.poke()
    yield wait + 3.0
