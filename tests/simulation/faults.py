"""The life of a town, from its founding to its end; and what a batch of towns must have lived through."""

from __future__ import annotations

from collections import Counter

from tests.simulation.scenes import SCENES
from tests.simulation.scenes.common import fits
from tests.simulation.scenes.people import bustle
from tests.simulation.town import Town
from tests.simulation.world import Script

__all__ = ["FAULTS", "PROMISES", "SCENES", "listed", "missing", "story"]

FAULTS = """
clock drift · wall jump · frozen machine · several asked in one go
request delay · answer delay · request loss · answer loss · ambiguous commit · reordering
an old beat lands late · an old beat lands last · an enter after its session's end · slow answers
a read answered after it was given up · a ring lost · a ring for nothing · suspended
short stall · long stall · the store chokes on beats · the store chokes on commits · the store forgets
one process cut off · cut off at the end of a tick
crash · crash of the ticker · crash of the ticker and its standbys · restart · mass expiry · mass death
pause anywhere · pause asked · pause answer
hung watcher · hung heart · hung watcher of the ticker
takeover · zombie and successor · rival: take_over · rival: fail · rival: wait
marks · forget · fenced by an operator · guard released
a group deleted and made again · not ready in time · closed
crash in a storm · pause in a storm · cut in a storm · hang in a storm · jump in a storm
takeover in a storm · mark in a storm · forget in a storm · choke in a storm · end in a storm
server in a storm
a session ended from outside · a session ended from outside, its owner paused
a session ended from outside, its owner cut off · a session ended from outside, its owner hung heart
a place waited out
a server dies · the leading server dies · a server cut off from the others · the leading server stops
no majority · cut off with its server · asked of a server that woke up
a server that is behind · a refusal thought over · a stale sync · a beat that was told to nobody
a keepalive in good faith · a lease moved · leases revoked by a leader that was
"""
"""Every kind of fault. A batch in which one of them never happened has shown nothing about it."""

PROMISES = """
completeness · the guard shows · the guard lets go · accuracy · only who was served ticks · stall safety
order · age · one leader · tokens only grow · nobody is locked out · back by itself
coming back · superseded · a name is taken · who waits gets the name
leaving is leaving · claims go · always led · a resignation is followed at once · readiness
a refusal is true · a reading is no older than its question · a failover ends nobody
who is ended gives up its place · a place is not kept for ever
capabilities · guard · guard fairness · load · it stops
"""
"""Every promise. A batch in which one of them was never put to the test has not kept it."""


def listed(text: str) -> list[str]:
    return [name.strip() for line in text.strip().splitlines() for name in line.split("·")]


def missing(faults: Counter[str], kept: Counter[str]) -> list[str]:
    """What a batch of towns should have lived through, and has not; and what nobody has listed."""
    wanted, found = {*listed(FAULTS), *listed(PROMISES)}, {*+faults, *+kept}
    return sorted(wanted ^ found)


def story(town: Town, length: float) -> Script:
    """Scene after scene, in an order of the seed's own, until the time is over."""
    world, rng = town.world, town.world.rng
    world.play(bustle(town))
    yield 3.0
    yield from town.settle()
    while world.now < length:
        plan = [scene for scene in SCENES if fits(town, scene)]
        rng.shuffle(plan)
        for scene in plan:
            if world.now >= length:
                break
            world.note("── scene", scene.__name__)
            yield from scene(town)
            yield from town.settle()
    yield from finale(town)
    world.over = True


def finale(town: Town) -> Script:
    """Everybody goes; it must not take long, and nothing must be left."""
    world = town.world
    everybody = town.living
    for process in everybody:
        process.close()
    yield 3.0 + 4 * town.patience + 40 * town.calm_weather.delay[1]
    for process in everybody:
        if not process.closed:
            raise world.broken("it stops", f"{process.name} is not closed")
        world.kept["it stops"] += 1
    for group, past in town.truth.latest.items():
        for row in past.rows.values():
            if row.live:
                raise world.broken("leaving is leaving", f"in {group} there is still {row}")
