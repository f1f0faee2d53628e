"""Processes, machines and hands that stop for a while, and clocks that are wrong."""

from __future__ import annotations

from tests.simulation.network import Weather
from tests.simulation.scenes.common import (
    a_leader,
    at_the_end_of_a_tick,
    extremes,
    scene,
    some,
    take_away,
    weather,
)
from tests.simulation.town import Town
from tests.simulation.world import Script, some_rate


@scene
def pause(town: Town) -> Script:
    rng = town.world.rng
    weather(town)
    for _ in range(rng.randint(1, 3)):
        leads = a_leader(town)
        process = leads[0] if leads and rng.random() < 0.6 else some(town)
        between = rng.choice(("", "asked", "answer"))
        town.world.faults[f"pause {between or 'anywhere'}"] += 1
        if leads and process is leads[0] and between == "answer" and rng.random() < 0.5:
            presence = leads[1].presence  # it wakes when its trust has run out, with a good answer at hand
            left = presence.ttl - presence.beat_every - 0.3
            process.pause(left + rng.random() * presence.beat_every, between=between)
            yield 2 * presence.ttl
            continue
        process.pause(
            rng.uniform(0.3, 2.5) * max(town.ttls), between=between, hand=rng.choice(("heart", "watcher"))
        )
        yield rng.uniform(0, 5)
    yield 2.5 * max(town.ttls)


@scene
def frozen_machine(town: Town) -> Script:
    """A virtual machine is frozen from outside, with its clock, and its time of day set right after."""
    rng = town.world.rng
    leads = a_leader(town)
    process = leads[0] if leads else some(town)
    town.world.faults["frozen machine"] += 1
    process.trip_for = rng.uniform(0.5, 2.5) * max(town.ttls)
    process.clock.freeze()
    process.pause_now()
    yield process.trip_for + 1.0


@scene
def hung_watcher(town: Town) -> Script:
    """The heart goes on, and the eyes are shut; meanwhile somebody takes the place away."""
    rng, world = town.world.rng, town.world
    leads = a_leader(town)
    if leads is None:
        return
    process, agent, membership = leads
    world.faults["hung watcher"] += 1
    what = rng.choice(("disable", "forced", "expel", "forget", "takeover"))
    world.faults["marks"] += 1
    if rng.random() < 0.5:
        extremes(town, process)
        town.weather, slow, town.bell_slow = Weather((0.0002, 0.0004)), town.bell_slow, 0.001

        def strike() -> None:
            process.hang(process.watcher, 3 * agent.presence.ttl)
            take_away(town, membership.group, agent.me.member_id, what, process)

        yield from at_the_end_of_a_tick(town, process, agent, strike)
        yield 3 * agent.presence.ttl
        town.weather, town.bell_slow = town.calm_weather, slow
    else:
        process.hang(process.watcher, rng.uniform(1.2, 4) * agent.presence.ttl)
        yield rng.uniform(0, agent.presence.ttl)
        take_away(town, membership.group, agent.me.member_id, what, process)
        yield 3 * agent.presence.ttl
    town.mark(membership.group, agent.me.member_id)
    yield 1.0


@scene
def hung_heart(town: Town) -> Script:
    leads = a_leader(town)
    process = leads[0] if leads else some(town)
    town.world.faults["hung heart"] += 1
    weather(town, rough=0.2)
    process.hang(process.heart, town.world.rng.uniform(0.5, 3) * max(town.ttls))
    yield 3 * max(town.ttls)


@scene
def clocks(town: Town) -> Script:
    """Times of day jump, and clocks change how fast they run."""
    rng = town.world.rng
    for _ in range(4):
        process = some(town)
        town.world.faults["wall jump"] += 1
        process.clock.jump(rng.choice((-3600, -5, -0.3, 0.2, 0.3, 5, 3600)))
        process.eyes.look()
        some(town).clock.run_at(some_rate(rng))
        town.server_clock.jump(rng.choice((-3600.0, 60.0)))
        yield rng.uniform(0, 3)
    yield 5.0
