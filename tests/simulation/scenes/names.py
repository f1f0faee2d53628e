"""Who has a name: takeovers and zombies, rivals, operators, groups deleted and made again."""

from __future__ import annotations

from collections.abc import Callable

from headcount.core.membership import OnConflict
from headcount.core.work import DoRead
from tests.simulation.process import Flight, Process
from tests.simulation.scenes.common import a_leader, rejoin, rows_of, scene, some, take_away, weather
from tests.simulation.town import Plan, Seat, Town
from tests.simulation.world import Script


@scene
def takeover(town: Town) -> Script:
    """A new process under the same name on the same host, while the old one runs, or is paused."""
    rng, world = town.world.rng, town.world
    leads = a_leader(town)
    old = leads[0] if leads and rng.random() < 0.7 else some(town)
    if old.plan.seats[0].on_conflict == "share" or not old.plan.seats[0].member_id:
        return
    weather(town, rough=0.2)
    world.faults["takeover"] += 1
    zombie = rng.random() < 0.6
    if zombie:
        world.faults["zombie and successor"] += 1
        old.pause(rng.uniform(0.2, 2.5) * max(town.ttls))
        yield rng.uniform(0, 1.5) * max(town.ttls)
    new = town.start(old.plan)
    yield 3 * max(town.ttls)
    if rng.random() < 0.5:
        new.pause(rng.uniform(1.2, 2.5) * max(town.ttls))  # the zombie sees its successor down
        yield 3 * max(town.ttls)
    town.heal()
    yield 2 * max(town.ttls)
    if not (town.weather is town.calm_weather and old.healthy and new.healthy):
        return
    for agent in old.agents:
        if any(kind.kind == "superseded" and kind.instance == agent.me.instance for kind in old.told):
            world.kept["superseded"] += 1
    old.close()
    yield 4.0


@scene
def rival(town: Town) -> Script:
    """Another host asks for a living member's name, and is refused; or waits for it, and gets it."""
    rng, world = town.world.rng, town.world
    joined = [(p, a, m) for p in town.well for a, m in town.joined(p) if m.desired is not None]
    joined = [
        (p, a, m) for p, a, m in joined if p.plan.seats[0].on_conflict != "share" and len(p.plan.seats) == 1
    ]
    if not joined:
        return
    process, agent, membership = rng.choice(joined)
    ways: tuple[OnConflict, ...] = ("take_over", "fail", "wait")
    how = rng.choice(ways)
    world.faults[f"rival: {how}"] += 1
    host = process.host if how == "fail" else "elsewhere"
    seat = Seat(agent.me.member_id, agent.presence.ttl, (membership.group,), how)
    new = town.start(Plan("rival", host, (seat,)))
    yield 3.0
    mine = new.agents[0].memberships[membership.group]
    row = town.truth.latest[membership.group].rows.get(membership.key)
    if row is None or row.instance != agent.me.instance:
        raise world.broken("nobody is locked out", f"a rival took {membership.key} from a living host: {row}")
    if how != "wait" and type(mine.error).__name__ != "MemberTaken":
        raise world.broken("nobody is locked out", f"a rival was told {mine.error!r}, not MemberTaken")
    world.kept["a name is taken"] += 1
    if how == "wait":
        process.crash()
        yield 2 * agent.presence.ttl + 5
        if any(row.state == "suspect" for row in rows_of(town)):
            world.faults["guard released"] += 1
            town.operator.release_guard()
        yield agent.presence.ttl + 5
        row = town.truth.latest[membership.group].rows.get(membership.key)
        if row is None or row.instance != new.agents[0].me.instance:
            raise world.broken(
                "nobody is locked out", f"who waited for {membership.key} did not get it: {row}"
            )
        world.kept["who waits gets the name"] += 1
    new.close()
    yield 3.0
    new.crash()


@scene
def marks(town: Town) -> Script:
    """An operator disables, forces down, expels or forgets, and takes it back; no hand is hung."""
    rng, world = town.world.rng, town.world
    for _ in range(3):
        leads = a_leader(town)
        if leads is None:
            return
        process, agent, membership = leads
        world.faults["marks"] += 1
        if rng.random() < 0.5:  # its eyes are slow
            town.held = [(_reads_of(process), 0.3)]
        what = rng.choice(("disable", "forced", "expel", "forget"))
        take_away(town, membership.group, agent.me.member_id, what, process)
        yield rng.uniform(0.1, 1.5) * agent.presence.ttl
        town.mark(membership.group, agent.me.member_id)
        yield rng.uniform(0.2, 2)
    town.held = []


@scene
def vouched_for(town: Town) -> Script:
    """A leader has died, and an operator who knows it says so: its place is free at once."""
    world = town.world
    found = a_leader(town)
    if found is None:
        return
    process, agent, membership = found
    group = membership.group
    world.faults["fenced by an operator"] += 1
    process.crash()
    yield 0.5
    town.mark(group, agent.me.member_id, forced_down=True, fenced=True)
    yield 0.5 + 4 * town.calm_weather.delay[1]
    past = town.truth.latest[group]
    able = [r for r in past.rows.values() if r.standing_since and r.instance != agent.me.instance]
    if past.claims or (able and (past.leader is None or past.leader.instance == agent.me.instance)):
        raise world.broken("claims go", f"nobody may lead {group}, though {process.name} is known to be dead")
    town.mark(group, agent.me.member_id)
    yield 0.5


def _reads_of(process: Process) -> Callable[[Flight], bool]:
    return lambda flight: flight.hand.process is process and isinstance(flight.request, DoRead)


@scene
def deleted_and_made_again(town: Town) -> Script:
    """A group is left by all, deleted, and made again under its name."""
    world, rng = town.world, town.world.rng
    group = rng.choice(town.groups)
    members = [(p, a, m) for p in town.well for a, m in town.joined(p) if m.group == group]
    for process, agent, _ in members:
        process.leave(agent, group)
        process.poke()
    yield 3.0
    try:
        if not town.operator.delete_group(group):
            return
    except Exception as error:  # noqa: BLE001 - somebody is still in it: that is another story
        world.note("not deleted", error)
        for process, agent, _ in members:
            rejoin(town, process, agent, group)
        return
    world.faults["a group deleted and made again"] += 1
    yield rng.choice((0.0, 3.0))
    for process, agent, _ in members:
        rejoin(town, process, agent, group)
    if not members or town.operator.create_group(group):
        yield 0.5
    yield 1.0
