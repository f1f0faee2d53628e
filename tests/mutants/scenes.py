"""Scenes that some mistakes show in, played besides those of the simulation.

Each measures a promise, as the scenes of `tests.simulation.faults` do, and knows nothing of the mistake.
"""

from __future__ import annotations

import math

from headcount.core.agent import Agent
from headcount.core.membership import Membership
from headcount.core.work import DoCommit, DoLook, DoRead, parts
from headcount.model import Enter
from tests.simulation.engines import EngineClient
from tests.simulation.process import Flight, Process
from tests.simulation.scenes.common import extremes, rejoin, rows_of, victim
from tests.simulation.scenes.deaths import stop
from tests.simulation.town import Town
from tests.simulation.truth import WINDOW
from tests.simulation.world import DRIFT, Script


def only_an_observer_is_left(town: Town) -> Script:
    """All who have joined anything die at once, and who merely watches must see it."""
    gone = [process for process in town.well if any(agent.me.member_id for agent in process.agents)]
    beat = max(agent.presence.beat_every for process in town.well for agent in process.agents)
    if town.mode == "ticks" and len(gone) < len(town.well):
        yield from stop(town, gone, extra=3 * max(1.0, town.interval) + beat / (1 - DRIFT))


def few_may_always_die(town: Town) -> Script:
    """Two die within a window in which nobody else did: that is no reason to suspect the store."""
    if town.mode != "ticks":
        return
    yield WINDOW * 1.1 + town.interval
    gone = [process for process in town.well if len(process.agents) == 1 and process.agents[0].memberships]
    yield from stop(town, gone[:2], extra=3 * max(1.0, town.interval) + max(town.ttls) / 3)
    held = [row for row in rows_of(town) if row.state == "suspect"]
    if held:
        raise town.world.broken("guard", f"two of {len(gone)} and more died, and one is held back: {held[0]}")
    town.world.kept["guard"] += 1


def death_before_a_stall(town: Town) -> Script:
    """Somebody dies, and the store stands still before that is seen: the time of the stall does not count,
    and all other time does."""
    roles = [town.ticker(), *town.standbys()]
    ends = [
        (row.ttl, group, row, process)
        for group, past in town.truth.latest.items()
        for row in past.rows.values()
        if row.live and (process := town.owner(row.session)) in town.well and process not in roles
    ]
    if town.mode != "ticks" or not ends:
        return
    ttl, group, row, process = max(ends, key=lambda end: end[0])
    process.crash()
    yield 0.75 * ttl
    town.choke("beat", "tick", "commit", "read")
    yield 4 * town.interval
    town.flow()
    due = (math.ceil(ttl / town.interval - 1e-9) + 1) * (town.interval / (1 - DRIFT) + 0.1)
    yield due - 0.75 * ttl + 1 + 2 * town.interval + town.patience
    now = town.truth.latest[group].rows.get(row.key)
    if now is not None and now.incarnation == row.incarnation and now.state == "up":
        raise town.world.broken("completeness", f"{row.key} in {group} died before a stall, and is up still")
    town.world.kept["completeness"] += 1


def hung_eyes_lead_nobody(town: Town) -> Script:
    """The watcher of a leader hangs for good. Whatever its heart believes, somebody else leads in the end:
    once it is blind (a ttl), and its session has expired or lapsed (another)."""
    leads = [town.leader(group) for group in town.groups]
    found = next((lead for lead in leads if lead and lead[0].healthy and lead[0].watches), None)
    if found is None:
        return
    process, _, membership = found
    ttl = max(agent.presence.ttl for agent in process.agents)
    wait = 2 * ttl / (1 - DRIFT) + 3 * town.interval + 3 + ttl / 3
    process.hang(process.watcher, wait + 0.5)  # no longer: the end of a hang ends the next one too
    yield wait
    past = town.truth.latest[membership.group]
    able = [row for row in past.rows.values() if row.state == "up" and town.owner(row.session) is not process]
    if past.leader is not None and town.owner(past.leader.session) is process and able:
        raise town.world.broken("always led", f"{process.name} leads {membership.group}, and sees nothing")
    town.world.kept["always led"] += 1
    yield 1.0


def place_given_up_slowly(town: Town) -> Script:
    """A leader leaves, or is not ready any more, and the answer is slow: somebody else leads long before it
    is here."""
    found = victim(town)
    if found is None:
        return
    process, agent, membership = found
    leaves = town.world.rng.random() < 0.5
    town.slow_answers = (process, process.patience * 0.9)
    if leaves:
        process.leave(agent, membership.group)
    else:
        process.say_ready(agent, False)
    process.poke()
    yield 2 * process.patience + 1.0
    town.slow_answers = None
    if leaves:
        rejoin(town, process, agent, membership.group)
    process.say_ready(agent, True)
    process.poke()
    yield 1.0


def late_enter_of_who_does_not_watch(town: Town) -> Script:
    """It leaves again before its enter, which it has given up, arrives; and no doorbell tells it."""
    blind = [(p, a, m) for p in town.well if not p.watches for a, m in town.joined(p)]
    if not blind:
        return
    process, agent, membership = town.world.rng.choice(blind)
    process.leave(agent, membership.group)
    process.poke()
    yield 1.0
    town.held = [(lambda flight: flight.hand.process is process and _enters(flight), 2 * process.patience)]
    rejoin(town, process, agent, membership.group)
    yield 1.05 * process.patience
    town.held = []
    process.leave(agent, membership.group)
    process.poke()
    yield 2 * process.patience + 10.0
    past = town.truth.latest[membership.group]
    row = past.rows.get(membership.key)
    if row is not None and row.live:
        raise town.world.broken("leaving is leaving", f"in {membership.group} there is still {row}")
    town.world.kept["leaving is leaving"] += 1
    rejoin(town, process, agent, membership.group)
    yield 1.0


def _enters(flight: Flight) -> bool:
    return any(
        isinstance(write, Enter) and write.seen
        for request in parts(flight.request)
        if isinstance(request, DoCommit)
        for write in request.writes
    )


def late_amend(town: Town) -> Script:
    """What a member publishes is given up and lands late: after it has published again, or is dead."""
    rng = town.world.rng
    joined = [
        (p, a, m)
        for p in town.well
        for a, m in town.joined(p)
        if p is not town.ticker() and p not in town.standbys()
    ]
    if not joined:
        return
    process, agent, membership = rng.choice(joined)
    dies = rng.random() < 0.5
    wait = agent.presence.ttl + 3 * town.interval if dies else 1.5 * process.patience
    town.held = [
        (
            lambda flight: flight.hand.process is process and isinstance(parts(flight.request)[0], DoCommit),
            wait,
        )
    ]
    process.publish(agent, membership)
    process.poke()
    yield 0.01
    town.held = []
    if dies:
        process.crash()
    else:
        yield 1.05 * process.patience
        process.publish(agent, membership)
        process.poke()
    yield wait + 3.0


def leaders_in_several_groups(town: Town) -> list[tuple[Process, Agent, Membership]]:
    return [
        (p, a, m)
        for p, a, m in filter(None, map(town.leader, town.groups))
        if p.healthy and m.following and len(a.memberships) > 1
    ]


def blind_in_one_group(town: Town) -> Script:
    """A leader's place is taken away in a group that it cannot read; its other groups it can."""
    able = leaders_in_several_groups(town)
    if not able:
        return
    process, agent, membership = town.world.rng.choice(able)
    group, ttl = membership.group, agent.presence.ttl

    def reads(flight: Flight) -> bool:
        asked = isinstance(flight.request, DoRead | DoLook) and flight.request.group == group
        return asked and flight.hand.process is process

    town.held = [(reads, 2 * process.patience)]
    town.mark(group, agent.me.member_id, disabled="for the simulation")
    yield 3 * ttl + 3 * town.interval
    town.held = []
    town.mark(group, agent.me.member_id)
    yield 1.0


def cut_off_after_two_beats(town: Town) -> Script:
    """A leader that beats often is silent for half of its ttl, and is cut off once two of its beats were
    taken, with the only server that has heard of them."""
    found = victim(town)
    ensemble = town.ensemble
    if found is None or ensemble is None:
        return
    process, agent, _ = found
    client, presence, follower = process.client, agent.presence, ensemble.followers[0]
    assert isinstance(client, EngineClient)
    extremes(town, process)
    every, presence.beat_every = presence.beat_every, presence.ttl / 12
    for link in client.links():
        link.go(follower)
    yield 2.2 * every
    process.hang(process.heart, 0.6 * presence.ttl)
    yield 0.6 * presence.ttl - 0.001
    taken = 0

    def count(session: str) -> None:
        nonlocal taken
        taken += session == presence.session_id
        if taken == 2:
            taken += 1
            town.cut(process)
            process.hears = True
            ensemble.crash(follower)

    town.truth.on_beat.append(count)
    yield 2.5 * presence.ttl
    town.truth.on_beat.remove(count)
    presence.beat_every = every
    process.cut = False
    ensemble.restart(follower)
    yield 1.0


SCENES = {
    scene.__name__: scene
    for scene in (
        only_an_observer_is_left,
        few_may_always_die,
        death_before_a_stall,
        hung_eyes_lead_nobody,
        place_given_up_slowly,
        late_enter_of_who_does_not_watch,
        late_amend,
        blind_in_one_group,
        cut_off_after_two_beats,
    )
}
