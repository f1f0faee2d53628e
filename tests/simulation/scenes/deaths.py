"""Processes that stop for good, one or many; completeness and the guard are measured here."""

from __future__ import annotations

import math
from typing import Any

from tests.simulation.process import Process
from tests.simulation.scenes.common import rows_of, scene
from tests.simulation.town import Town
from tests.simulation.world import DRIFT, Script


def stop(town: Town, gone: list[Process], *, extra: float = 0.0) -> Script:
    """These processes stop for good; everybody who is connected must see it in time."""
    world, server = town.world, town.server
    at, round_trip = world.now, 2 * town.calm_weather.delay[1]
    rows = [
        (group, row)
        for group, past in town.truth.latest.items()
        for row in past.rows.values()
        if row.live and town.owner(row.session) in gone
    ]
    for process in gone:
        process.crash()
    connected = town.well
    bound = 5.0 + extra  # an observer has no rows, but may have ticked
    for _, row in rows:
        if town.mode == "ticks":
            ticks = math.ceil(row.ttl / town.interval - 1e-9) + 1
            due = ticks * (town.interval / (1 - DRIFT) + round_trip) + 1 + extra
        else:
            due = row.ttl / (1 - DRIFT) + town.guarantees.precision + 0.25
        bound = max(bound, due + (town.guarantees.recheck or 0) + town.bell_slow + 3 * round_trip)
    guarded = False
    while world.now < at + bound:
        yield min(0.5, at + bound - world.now)
        guarded |= town.mode == "ticks" and any(s.state == "suspect" for s in rows_of(town))
    for group, row in rows:
        now = town.truth.latest[group].rows.get(row.key)
        if now is not None and now.incarnation == row.incarnation and now.live:
            if not guarded:
                raise world.broken(
                    "completeness",
                    f"{row.key} in {group}, dead for {bound:.2f} s, is {now.state} at the store",
                )
            if now.state != "suspect":  # for then it was held back, and is the next to go
                raise world.broken(
                    "completeness", f"{row.key} in {group} is {now.state}, while the guard holds"
                )
            world.kept["the guard shows"] += 1
        for process in connected:
            if process.healthy and group in process.node.replicas:
                _sees_end(town, process, group, row, guarded)
    if rows:
        world.kept["completeness"] += not guarded
    assert world.now >= at
    assert server is town.server


def _sees_end(town: Town, process: Process, group: str, row: Any, guarded: bool) -> None:
    view = process.node.replicas[group].view
    seen = view.get(row.member_id) if view is not None else None
    others = [r for r in town.truth.latest[group].rows.values() if r.member_id == row.member_id and r.live]
    if (others and not guarded) or seen is None or seen.incarnation != row.incarnation:
        return
    if seen.status == "suspect" and guarded:
        if view is None or not view.degraded:
            raise town.world.broken(
                "completeness", f"{process.name} shows a suspect, and not that it is degraded"
            )
    elif seen.status not in ("down", "left"):
        raise town.world.broken(
            "completeness", f"{process.name} sees {row.member_id} in {group} as {seen.status}, and it is dead"
        )


@scene
def crash(town: Town) -> Script:
    ticker = town.ticker()
    town.world.faults["crash"] += 1
    yield from stop(town, [town.world.rng.choice([p for p in town.well if p is not ticker])])


@scene
def crash_of_the_ticker(town: Town) -> Script:
    ticker = town.ticker() if town.mode == "ticks" else None
    if ticker is None or not ticker.healthy:
        return
    town.world.faults["crash of the ticker"] += 1
    yield from stop(town, [ticker], extra=3 * max(1.0, town.interval))


@scene
def crash_of_all_who_tick(town: Town) -> Script:
    ticker = town.ticker() if town.mode == "ticks" else None
    gone = list(dict.fromkeys(p for p in (ticker, *town.standbys()) if p is not None and p.healthy))
    if ticker is None or len(gone) < 2:
        return
    town.world.faults["crash of the ticker and its standbys"] += 1
    beat = max(a.presence.beat_every for p in town.well for a in p.agents)
    yield from stop(town, gone, extra=3 * max(1.0, town.interval) + beat / (1 - DRIFT))


@scene
def hung_watcher_of_the_ticker(town: Town) -> Script:
    """Whoever ticks cannot sweep; and somebody dies. Once its session is lost, another takes over."""
    ticker = town.ticker() if town.mode == "ticks" else None
    others = [p for p in town.well if p is not ticker and p not in town.standbys()]
    if ticker is None or not others:
        return
    town.world.faults["hung watcher of the ticker"] += 1
    ttl = max(a.presence.ttl for a in ticker.agents)
    ticker.hang(ticker.watcher, 6 * max(town.ttls))
    yield 0.5
    yield from stop(town, [town.world.rng.choice(others)], extra=2 * ttl + 6)


@scene
def mass_expiry(town: Town) -> Script:
    """More than the guard lets go are silent at once: it holds, says so, and leadership does not wait."""
    world, rng = town.world, town.world.rng
    gone: list[Process] = []
    plenty = [p for p in town.well if any(a.me.member_id for a in p.agents)]
    rng.shuffle(plenty)
    while plenty and sum(bool(a.me.member_id) for p in gone for a in p.agents) < 5 and len(plenty) > 2:
        gone.append(plenty.pop())
    if town.mode != "ticks" or not plenty:
        return
    world.faults["mass expiry"] += 1
    for process in gone:
        town.cut(process)
    ttl = max(a.presence.ttl for p in gone for a in p.agents)
    ticks = math.ceil(ttl / town.interval) + 1
    beat = max(a.presence.beat_every for p in town.well for a in p.agents)
    yield ticks * (town.interval / (1 - DRIFT) + 0.1) + 4 + 3 * town.interval + beat * 2
    suspects = [row for row in rows_of(town) if row.state == "suspect"]
    if suspects:
        world.kept["guard"] += 1
        for process in town.well:
            for replica in process.node.replicas.values():
                held = any(m.status == "suspect" for m in (replica.view or {}).values())
                if held and not (replica.view and replica.view.degraded):
                    raise world.broken(
                        "guard", f"{process.name} does not say that {replica.group} is degraded"
                    )
        _led_without(town, gone, "guard fairness")
    if rng.random() < 0.3:
        world.faults["guard released"] += 1
        town.operator.release_guard()
        yield 3 * town.interval
    for process in gone:
        process.cut = False
    yield 1.0


def _led_without(town: Town, gone: list[Process], promise: str) -> None:
    """Every group that has somebody left to lead it is led by one of those."""
    for group, past in town.truth.latest.items():
        able = [
            row
            for row in past.rows.values()
            if row.state == "up" and row.ready and row.standing_since and town.owner(row.session) not in gone
        ]
        leader = past.leader
        if able and (leader is None or town.owner(leader.session) in gone):
            raise town.world.broken(promise, f"nobody leads {group}, where {able[0].key} could: {leader}")
        town.world.kept[promise] += bool(able)


def _lives(town: Town, session: str) -> bool:
    owner = town.owner(session)
    return owner is not None and not owner.dead


@scene
def mass_death(town: Town) -> Script:
    """More than the guard lets go have died: it holds them, and lets them go one after the other."""
    world, rng = town.world, town.world.rng
    if town.mode != "ticks" or rng.random() < 0.75:
        return
    plenty = [p for p in town.well if any(a.me.member_id and a.memberships for a in p.agents)]
    rng.shuffle(plenty)
    gone: list[Process] = []
    while len(plenty) > 1 and sum(len(p.agents) for p in gone) < 7:
        gone.append(plenty.pop())
    world.faults["mass death"] += 1
    sessions = [a.presence.session_id for p in gone for a in p.agents if a.me.member_id]
    for process in gone:
        process.crash()
    dead = [s for s, found in town.server.sessions.items() if found.had_rows and not _lives(town, s)]
    windows = max(2, len(dead))  # one in each, until so few are left that they all may go
    yield windows * 30.0 * 1.1 + 2 * max(town.ttls) + 10
    held = [s for s in sessions if s and town.server.alive(s)]
    if held:
        raise world.broken("completeness", f"the guard does not let the dead go: {held}")
    world.kept["the guard lets go"] += 1
