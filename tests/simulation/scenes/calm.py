"""When nothing happens: load, and goodbyes."""

from __future__ import annotations

import math

from tests.simulation.process import Process
from tests.simulation.scenes.common import rows_of, scene, some
from tests.simulation.town import Town
from tests.simulation.world import Script


@scene
def idle(town: Town) -> Script:
    """When nothing happens, nothing is read, and nobody asks for more than its beats and the tick."""
    world = town.world
    yield 2.0
    earlier = {group: past.revision for group, past in town.truth.latest.items()}
    yield 1.0
    seconds = 12.0
    calm = [p for p in town.well if not looks(p)]
    before = {p.id: (p, p.heart.sent, p.watcher.sent, dict(p.watcher.kinds)) for p in calm}
    roles = {p.id for p in (town.ticker(), *town.standbys()) if p is not None}
    revisions = {group: past.revision for group, past in town.truth.latest.items()}
    yield seconds
    roles |= {p.id for p in (town.ticker(), *town.standbys()) if p is not None}
    later = {group: past.revision for group, past in town.truth.latest.items()}
    if not earlier == revisions == later:
        return  # something happened, if only just before: it is still being read
    for process, hearts, watches, kinds in before.values():
        if not process.healthy or looks(process):
            continue
        own = sum(1 / a.presence.beat_every for a in process.agents if a.presence.session is not None)
        most = own * 1.3 + 0.3
        if process.id in roles:
            most += 2.0 / town.interval * 1.05
        rate = (process.heart.sent - hearts) / seconds
        if rate > most:
            raise world.broken("load", f"the heart of {process.name} asks {rate:.2f} times a second")
        reads = process.watcher.kinds.get("DoRead", 0) - kinds.get("DoRead", 0)
        allowed = 0.0
        if town.guarantees.recheck is not None:
            allowed = len(process.node.replicas) * (seconds / town.guarantees.recheck + 2) * 1.02
        spurious = world.faults["a ring for nothing"] > 0
        if reads > allowed and not spurious:
            raise world.broken(
                "load", f"{process.name} reads {reads} times in {seconds:g} s, and nothing happens"
            )
        sweeps = process.watcher.kinds.get("DoSweep", 0) - kinds.get("DoSweep", 0)
        rest = process.watcher.sent - watches - reads - sweeps
        if rest or sweeps > seconds / town.interval * 1.02 + 1:
            raise world.broken(
                "load", f"the watcher of {process.name} sends {rest} requests, and nothing happens"
            )
        world.kept["load"] += 1


def looks(process: Process) -> bool:
    """Whether it still looks whether a commit that it gave up has been written after all."""
    return any(not math.isinf(m.look_again_at) for a in process.agents for m in a.memberships.values())


@scene
def closes(town: Town) -> Script:
    """A coordinator closes: at once, completely, and seen by all."""
    world = town.world
    process = some(town)
    sessions = [a.presence.session_id for a in process.agents if a.presence.session is not None]
    world.faults["closed"] += 1
    process.close()
    yield 1.0 + 12 * town.calm_weather.delay[1] + 2 * town.patience
    if not process.closed:
        raise world.broken("it stops", f"{process.name} is not closed")
    for row in rows_of(town):
        if row.live and row.session in sessions:
            raise world.broken("it stops", f"{process.name} is closed, but {row} is up")
    world.kept["it stops"] += 1
    process.crash()
