"""Everything at once."""

from __future__ import annotations

from tests.simulation.engines.machines import Ensemble
from tests.simulation.scenes.common import ROUGH, STORM, scene, some, take_away
from tests.simulation.town import Plan, Town
from tests.simulation.world import Script

KINDS = ("crash", "pause", "cut", "hang", "jump", "takeover", "mark", "forget", "choke")
ENDINGS = ("end",) * 2
SERVERS = ("server",) * 3


@scene
def storm(town: Town) -> Script:
    """Bad weather and busy people, and now and then somebody dies, hangs or is cut off."""
    rng = town.world.rng
    town.weather, town.bustle = rng.choice((ROUGH, STORM)), True
    for _ in range(rng.randint(2, 5)):
        yield rng.uniform(1, 8)
        process = some(town)
        what = rng.choice(KINDS + ENDINGS * (town.mode == "sessions") + SERVERS * (town.ensemble is not None))
        town.world.faults[f"{what} in a storm"] += 1
        if what == "crash":
            process.crash()
            town.world.faults["restart"] += 1
            town.world.after(rng.uniform(0, 5), _restart, town, process.plan)
        elif what == "pause":
            process.pause(rng.uniform(0.2, 2) * max(town.ttls), between=rng.choice(("", "asked", "answer")))
        elif what == "cut":
            process.cut = True
            town.world.after(rng.uniform(0.2, 2) * max(town.ttls), setattr, process, "cut", False)
        elif what == "hang":
            process.hang(rng.choice((process.heart, process.watcher)), rng.uniform(0.2, 2) * max(town.ttls))
        elif what == "jump":
            process.clock.jump(rng.choice((-5, 5)))
            process.eyes.look()
        elif what == "takeover":
            town.start(process.plan)
        elif what == "choke":
            town.choke(*rng.sample(("beat", "tick", "commit", "read"), rng.randint(1, 4)))
            town.world.after(rng.uniform(0.2, 1.5) * max(town.ttls), town.flow)
        elif what == "end":
            for agent in process.agents:
                town.end_from_outside(agent.presence.session_id)
        elif what == "server" and town.ensemble is not None:
            _trouble(town.ensemble, town)
        else:
            joined = town.joined(process)
            if joined:
                agent, membership = rng.choice(joined)
                kind = "forget" if what == "forget" else rng.choice(("disable", "forced", "expel"))
                take_away(town, membership.group, agent.me.member_id, kind, process)
    yield rng.uniform(3, 10)
    for group, past in list(town.truth.latest.items()):
        for member_id in past.marks:
            town.mark(group, member_id)
    town.weather = town.calm_weather
    yield 1.0
    for group, past in list(town.truth.latest.items()):
        for member_id in past.marks:
            town.mark(group, member_id)
    yield 0.5


def _trouble(ensemble: Ensemble, town: Town) -> None:
    """With one server; the one before is well again."""
    ensemble.heal()
    rng = town.world.rng
    rng.choice((ensemble.crash, ensemble.pause, ensemble.cut))(rng.choice(ensemble.machines))


def _restart(town: Town, plan: Plan) -> None:
    if not any(p.plan is plan and not p.dead for p in town.processes):
        town.start(plan)
