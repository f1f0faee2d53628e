"""Giving up a place: by resigning, or by not vouching for oneself in time."""

from __future__ import annotations

from tests.simulation.scenes.common import a_leader, scene
from tests.simulation.town import Town
from tests.simulation.world import DRIFT, Script


@scene
def resignations(town: Town) -> Script:
    """Who resigns is followed at once by the next."""
    world = town.world
    for _ in range(3):
        leads = a_leader(town)
        if leads is None:
            return
        process, agent, membership = leads
        before = town.truth.latest[membership.group].leader
        process.resign(agent, membership)
        process.poke()
        yield 1.0 + (town.guarantees.recheck or 0) + 10 * town.calm_weather.delay[1]
        after = town.truth.latest[membership.group].leader
        if not any(row.ready and row.live for row in town.truth.latest[membership.group].rows.values()):
            continue
        if after is None or before is None or after.standing_since <= before.standing_since:
            raise world.broken(
                "always led", f"{membership.group} is not led anew after a resignation: {after}"
            )
        world.kept["a resignation is followed at once"] += 1


@scene
def not_ready(team: Town) -> Script:
    """An application that does not vouch for itself in time is unready, and leads no more."""
    leads = a_leader(team)
    if leads is None:
        return
    process, agent, membership = leads
    process.say_ready(agent, True, 2.0)
    process.poke()
    team.world.faults["not ready in time"] += 1
    yield 2.0 / (1 - DRIFT) + 1.5 + 10 * team.calm_weather.delay[1]
    row = team.truth.latest[membership.group].rows[membership.key]
    if row.ready or row.standing_since:
        raise team.world.broken("capabilities", f"{row.key} did not vouch for itself, and is shown as ready")
    team.world.kept["readiness"] += 1
    process.say_ready(agent, True)
    process.poke()
    yield 1.0
