"""What the scenes share: the list of them, the weather, and whom to strike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headcount.core.agent import Agent
from headcount.core.membership import Membership
from tests.simulation.network import Weather
from tests.simulation.process import Process
from tests.simulation.town import Town
from tests.simulation.world import DRIFT, Script

Scene = Callable[[Town], Script]

SCENES: list[Scene] = []

NEEDS: dict[str, Callable[[Town], bool]] = {}
"""By the name of a scene, in which towns it can be played; all others, in all."""

ROUGH = Weather((0.005, 0.3), lost=0.03, answer_lost=0.03, late=0.02)
STORM = Weather((0.001, 0.8), lost=0.15, answer_lost=0.15, late=0.1)


def scene(found: Scene) -> Scene:
    SCENES.append(found)
    return found


def scene_where(needed: Callable[[Town], bool]) -> Callable[[Scene], Scene]:
    """A scene that not every town can play."""

    def note(found: Scene) -> Scene:
        NEEDS[found.__name__] = needed
        return scene(found)

    return note


def fits(town: Town, found: Scene) -> bool:
    needed = NEEDS.get(found.__name__)
    return needed is None or needed(town)


def where_sessions_end_by_themselves(town: Town) -> bool:
    return town.mode == "sessions"


def where_there_are_servers(town: Town) -> bool:
    return town.ensemble is not None


def weather(town: Town, *, rough: float = 0.4) -> None:
    """Perhaps bad weather, perhaps busy people: for scenes that measure nothing by time."""
    rng = town.world.rng
    if rng.random() < rough:
        town.weather = rng.choice((ROUGH, STORM))
    town.bustle = rng.random() < 0.5


def some(town: Town) -> Process:
    return town.world.rng.choice(town.well)


def a_leader(town: Town) -> tuple[Process, Agent, Membership] | None:
    groups = list(town.groups)
    town.world.rng.shuffle(groups)
    for group in groups:
        found = town.leader(group)
        if found is not None and found[0].healthy and found[2].following:
            return found
    return None


def victim(town: Town) -> tuple[Process, Agent, Membership] | None:
    """A leader that does not tick, of the longest ttl that there is."""
    ticker = town.ticker()
    found = [town.leader(group) for group in town.groups]
    able = [f for f in found if f and f[0].healthy and f[2].following and f[0] is not ticker]
    return max(able, key=lambda f: f[1].presence.ttl, default=None)


def extremes(town: Town, slow: Process) -> None:
    """One clock as slow as it may be, all others as fast as they may be."""
    for process in town.well:
        process.clock.run_at(1 - DRIFT if process is slow else 1 + DRIFT)
    for clock in town.server_clocks:
        clock.run_at(1 + DRIFT)


def rows_of(town: Town) -> list[Any]:
    return [row for past in town.truth.latest.values() for row in past.rows.values()]


def rejoin(town: Town, process: Process, agent: Agent, group: str) -> None:
    if process.runs and not process.closing:
        seat = next(s for s in process.plan.seats if s.member_id == agent.me.member_id)
        process.join(agent, group, follow=seat.follow, on_conflict=seat.on_conflict)
        process.poke()


def take_away(town: Town, group: str, member_id: str, what: str, process: Process) -> None:
    if what == "forget":
        town.world.faults["forget"] += 1
        town.forget(group, member_id)
    elif what == "takeover":
        town.world.faults["takeover"] += 1
        town.start(process.plan)
    else:
        town.mark(
            group,
            member_id,
            disabled="for the simulation" if what == "disable" else None,
            forced_down=what == "forced",
            expelled=what == "expel",
        )


def at_the_end_of_a_tick(town: Town, process: Process, agent: Agent, strike: Callable[[], None]) -> Script:
    """Strike at the instant after a beat of this session was taken at the very end of a tick; after a
    while, in any case."""
    world = town.world
    struck = False

    def hear(session: str) -> None:
        nonlocal struck
        since = town.server_clock.moment().wall - town.server.clock_row.ticked_at
        late = town.mode == "sessions" or 0.9 * town.interval < since
        if session == agent.presence.session_id and late and not struck:
            struck = True
            world.after(0.0, strike)

    town.truth.on_beat.append(hear)
    began = world.now
    while not struck and world.now - began < 12 * agent.presence.beat_every:
        yield from _beat_at_the_end(town, process)
    town.truth.on_beat.remove(hear)
    if not struck:
        strike()


def _beat_at_the_end(town: Town, leader: Process) -> Script:
    """Keep the leader's heart until just before the ticker moves on."""
    ticker = town.ticker()
    if ticker is None or town.mode == "sessions":
        yield 0.1
        return
    at = ticker.clock.true(ticker.node.clock.advance_at(ticker.node.by_session))
    wait = at - town.world.now - 0.0015
    if not 0 < wait < 2 * town.interval:
        yield 0.05
        return
    if leader.heart.idle is not None:
        leader.hang(leader.heart, wait)
    yield wait + 0.01
