"""Sessions that somebody ends from outside, and places that are waited out: where the store expires sessions
itself, and so a place outlives them until its owner gives it up, or cannot trust it any more."""

from __future__ import annotations

from tests.simulation.process import Process
from tests.simulation.scenes.common import (
    a_leader,
    extremes,
    scene_where,
    where_sessions_end_by_themselves,
)
from tests.simulation.town import Town
from tests.simulation.world import DRIFT, Script


@scene_where(where_sessions_end_by_themselves)
def ended_from_outside(town: Town) -> Script:
    """An administrator ends the session of a leader, which knows nothing of it, or cannot. Who is told gives
    its place up at once; who is not, leaves it to the others when it cannot trust it any more."""
    rng, world = town.world.rng, town.world
    leads = a_leader(town)
    if leads is None:
        return
    process, agent, _ = leads
    how = rng.choice(("", "", "paused", "cut off", "hung heart"))
    if how != "" and rng.random() < 0.5:
        extremes(town, process)
    session, ttl = agent.presence.session_id, agent.presence.ttl
    _strike(town, process, how, ttl)
    yield rng.uniform(0, 0.9 * agent.presence.beat_every) * (rng.random() < 0.7)
    if not town.end_from_outside(session):
        return
    world.faults[f"a session ended from outside{how and ', its owner ' + how}"] += 1
    if how in ("", "hung heart"):
        yield 0.5 + 4 * town.bell_slow + 2 * town.patience + 20 * town.calm_weather.delay[1]
        _given_up(town, session, "who is ended gives up its place")
    else:
        yield 1.5 + ttl / (1 - DRIFT) + town.guarantees.precision
        _given_up(town, session, "a place is not kept for ever")
    yield 2.0


def _strike(town: Town, process: Process, how: str, ttl: float) -> None:
    if how == "paused":
        process.trip_for = 2 * ttl + 2
        process.pause_now()
    elif how == "cut off":
        town.cut(process)
    elif how == "hung heart":
        process.hang(process.heart, 2 * ttl)


def _given_up(town: Town, session: str, promise: str) -> None:
    """No place of this session is kept from the others any more, and every group is led."""
    for group, past in town.truth.latest.items():
        kept = [claim for claim in past.claims.values() if claim.session == session]
        able = [row for row in past.rows.values() if row.state == "up" and row.standing_since]
        if kept or (able and past.leader is None and not past.claims):
            raise town.world.broken(promise, f"in {group}, where {len(able)} could lead, there is {kept}")
    town.world.kept[promise] += 1


@scene_where(where_sessions_end_by_themselves)
def waited_out(town: Town) -> Script:
    """A leader whose eyes are shut loses its place; nobody gives it up. Whoever has seen it kept for the ttl
    lets it go, long before its session is over."""
    found = [lead for lead in map(town.leader, town.groups) if lead and lead[0].healthy and lead[2].following]
    if not found:
        return
    process, agent, membership = max(found, key=lambda lead: lead[1].presence.ttl)
    if not any(membership.group in other.node.replicas for other in town.well if other is not process):
        return
    ttl = agent.presence.ttl
    town.world.faults["a place waited out"] += 1
    process.hang(process.watcher, 3 * ttl)
    town.mark(membership.group, agent.me.member_id, disabled="for the simulation")
    yield (1.02 * ttl + 0.5) / (1 - DRIFT) + 2.5 + 4 * town.patience
    past = town.truth.latest[membership.group]
    if any(claim.incarnation == membership.incarnation for claim in past.claims.values()):
        raise town.world.broken(
            "a place is not kept for ever", f"in {membership.group} nobody waits out {past.claims}"
        )
    town.world.kept["a place is not kept for ever"] += 1
    process._unhang(process.watcher)
    town.mark(membership.group, agent.me.member_id)
    yield 1.0
