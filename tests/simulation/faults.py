"""What goes wrong in a town, scene by scene. Each scene begins when the town has settled.

A scene is a story: it breaks something, waits, and measures what only quiet can show. Some scenes are
*adversaries*: they watch what happens at the store and strike at the worst instant (a beat that lands
at the very end of a tick, an enter whose session is about to be fenced).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from headcount.core.agent import Agent
from headcount.core.membership import Membership, OnConflict
from headcount.core.work import DoCommit, DoRead
from headcount.model import Enter
from tests.simulation.process import Flight, Process
from tests.simulation.town import Plan, Seat, Town, Weather
from tests.simulation.world import DRIFT, Script, some_rate

Scene = Callable[[Town], Script]

ROUGH = Weather((0.005, 0.3), lost=0.03, answer_lost=0.03, late=0.02)
STORM = Weather((0.001, 0.8), lost=0.15, answer_lost=0.15, late=0.1)

SCENES: list[Scene] = []
ALWAYS: list[Scene] = []


def scene(found: Scene) -> Scene:
    SCENES.append(found)
    return found


def story(town: Town, length: float) -> Script:
    """The whole life of a town."""
    world, rng = town.world, town.world.rng
    town.world.play(bustle(town))
    yield 3.0
    yield from town.settle()
    while world.now < length:
        plan = list(SCENES)
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
            if row.live and not _dead(town, row.session):
                raise world.broken("leaving is leaving", f"in {group} there is still {row}")


def _dead(town: Town, session: str) -> bool:
    owner = town.owner(session)
    return owner is None or (owner.dead and owner not in town.living and math.isfinite(owner.died_at))


# ── what people do all the time ──────────────────────────────────────────────────────────────────


def bustle(town: Town) -> Script:
    """Applications join, leave, publish and resign, while it is allowed to."""
    rng = town.world.rng
    while True:
        yield rng.expovariate(1.0)
        if town.bustle and town.well:
            do_something(town, rng.choice(town.well))


def do_something(town: Town, process: Process) -> None:
    rng = town.world.rng
    agents = [a for a in process.agents if a.me.member_id]
    if not agents or process.plan.name == "rival":
        return
    agent = rng.choice(agents)
    seat = next(s for s in process.plan.seats if s.member_id == agent.me.member_id)
    joined = [m for a, m in town.joined(process) if a is agent]
    what = rng.choice(("join", "leave", "publish", "publish", "unready", "ready", "ready for", "resign"))
    if what == "join":
        process.join(
            agent,
            rng.choice(town.groups),
            stand=rng.random() < 0.9,
            follow=seat.follow,
            on_conflict=seat.on_conflict,
        )
    elif what == "ready":
        process.say_ready(agent, True)
    elif what == "unready":
        process.say_ready(agent, False)
    elif what == "ready for":
        process.say_ready(agent, True, rng.uniform(0.5, 10))
    elif joined:
        membership = rng.choice(joined)
        if what == "leave" and len(joined) > 1:
            process.leave(agent, membership.group)
            if rng.random() < 0.5:
                town.world.after(rng.expovariate(1.0), _rejoin, town, process, agent, membership.group)
        elif what == "publish":
            process.publish(agent, membership)
        elif what == "resign":
            process.resign(agent, membership)
    process.poke()


def _rejoin(town: Town, process: Process, agent: Agent, group: str) -> None:
    if process.runs and not process.closing:
        seat = next(s for s in process.plan.seats if s.member_id == agent.me.member_id)
        process.join(agent, group, follow=seat.follow, on_conflict=seat.on_conflict)
        process.poke()


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


# ── completeness ─────────────────────────────────────────────────────────────────────────────────


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
        guarded |= town.mode == "ticks" and any(s.state == "suspect" for s in _rows(town))
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


def _rows(town: Town) -> list[Any]:
    return [row for past in town.truth.latest.values() for row in past.rows.values()]


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


# ── stalls ───────────────────────────────────────────────────────────────────────────────────────


def shelter(town: Town, why: str) -> None:
    """From now on none of these may be fenced: they beat whenever they are let."""
    for process in town.well:
        for agent in process.agents:
            if agent.presence.session is not None:
                town.truth.sheltered[agent.presence.session_id] = why


def beats(town: Town) -> dict[str, float]:
    return {s: town.truth.taken[s] for s in town.truth.sheltered}


def all_beat_again(town: Town) -> Script:
    """The store is back: everybody beats again, and nobody has died."""
    world = town.world
    since = world.now
    slowest = max((a.presence.beat_every for p in town.well for a in p.agents), default=1.0)
    yield 2 * slowest / (1 - DRIFT) + town.patience + 0.5
    for session, at in beats(town).items():
        if at < since:
            raise world.broken(
                "stall safety", f"{session} does not beat again, {world.now - since:.2f} s after"
            )
    world.kept["stall safety"] += len(town.truth.sheltered)
    yield max(town.ttls)
    town.truth.sheltered.clear()


@scene
def short_stall(town: Town) -> Script:
    town.world.faults["short stall"] += 1
    yield from _stall(town, town.world.rng.uniform(0.5, max(town.ttls)))


@scene
def long_stall(town: Town) -> Script:
    town.world.faults["long stall"] += 1
    yield from _stall(town, town.world.rng.uniform(2, 4) * max(town.ttls))


def _stall(town: Town, seconds: float) -> Script:
    if town.mode == "ticks":
        shelter(town, "the store stood still")
    town.choke("beat", "tick", "commit", "read")
    yield seconds
    town.flow()
    if town.mode == "ticks":
        yield from all_beat_again(town)
    else:
        yield from back_in(town, town.well)


@scene
def choke_on_beats(town: Town) -> Script:
    if town.mode != "ticks":
        return
    town.world.faults["the store chokes on beats"] += 1
    shelter(town, "the store took no beats")
    town.choke("beat")
    yield town.world.rng.uniform(0.5, 3) * max(town.ttls)
    town.flow()
    yield from all_beat_again(town)


@scene
def choke_on_commits(town: Town) -> Script:
    """Beats go on. A watcher that can finish no pass makes its heart stop beating after a ttl."""
    town.world.faults["the store chokes on commits"] += 1
    rng = town.world.rng
    short = rng.random() < 0.5
    if short:
        shelter(town, "only commits were choked, and not for a ttl")
    town.choke("commit", *rng.choice(((), ("read",))))
    town.bustle = True
    yield max(0.2, min(town.ttls) * 0.9 - 1.5) if short else rng.uniform(0.8, 3) * max(town.ttls)
    town.bustle = False
    town.flow()
    yield 2.0
    if short:
        town.world.kept["stall safety"] += len(town.truth.sheltered)
    town.truth.sheltered.clear()


def back_in(town: Town, whom: list[Process]) -> Script:
    """Within two beats of the store's return, whoever lost its session is back by itself."""
    world = town.world
    since = world.now
    slowest = max((a.presence.beat_every for p in whom for a in p.agents), default=1.0)
    bound = 2 * slowest / (1 - DRIFT) + 2 * town.patience + 2.0 + 20 * town.calm_weather.delay[1]
    yield bound
    for process in whom:
        for agent in process.agents:
            for membership in agent.memberships.values():
                if (agent.me.instance, membership.group) in process.wanted and process.healthy:
                    past = town.truth.latest.get(membership.group)
                    row = past.rows.get(membership.key) if past else None
                    if not membership.settled or (membership.error is None and (row is None or not row.live)):
                        raise world.broken(
                            "nobody is locked out",
                            f"{process.name} is not back in {membership.group} after {world.now - since:.2f} s",
                        )
                    world.kept["back by itself"] += 1


@scene
def one_cut_off(town: Town) -> Script:
    town.world.faults["one process cut off"] += 1
    process = some(town)
    town.cut(process)
    if town.mode == "sessions":
        process.client.reachable = False
    yield town.world.rng.uniform(0.3, 3) * max(town.ttls)
    process.cut, process.client.reachable = False, True
    yield from back_in(town, [process])


# ── processes that stop for a while ──────────────────────────────────────────────────────────────


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
    process.hang(process.watcher, rng.uniform(1.2, 4) * agent.presence.ttl)
    what = rng.choice(("disable", "forced", "expel", "forget", "takeover"))
    world.faults["marks"] += 1
    if rng.random() < 0.5:
        extremes(town, process)
        yield from after_a_beat(town, agent)
    else:
        yield rng.uniform(0, agent.presence.ttl)
    _take_away(town, membership.group, agent.me.member_id, what, process)
    yield 3 * agent.presence.ttl
    town.mark(membership.group, agent.me.member_id)
    yield 1.0


def after_a_beat(town: Town, agent: Agent) -> Script:
    """Wait until the instant after a beat of this session was taken."""
    seen = town.truth.taken.get(agent.presence.session_id, 0.0)
    until = town.world.now + 2 * agent.presence.beat_every
    while town.truth.taken.get(agent.presence.session_id, 0.0) == seen and town.world.now < until:
        yield 0.002


def _take_away(town: Town, group: str, member_id: str, what: str, process: Process) -> None:
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
def hung_heart(town: Town) -> Script:
    leads = a_leader(town)
    process = leads[0] if leads else some(town)
    town.world.faults["hung heart"] += 1
    weather(town, rough=0.2)
    process.hang(process.heart, town.world.rng.uniform(0.5, 3) * max(town.ttls))
    yield 3 * max(town.ttls)


# ── clocks ───────────────────────────────────────────────────────────────────────────────────────


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


# ── many at once ─────────────────────────────────────────────────────────────────────────────────


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
    suspects = [row for row in _rows(town) if row.state == "suspect"]
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


@scene
def mass_death(town: Town) -> Script:
    """More than the guard lets go have died: it holds them, and lets them go one after the other."""
    world, rng = town.world, town.world.rng
    if town.mode != "ticks" or rng.random() < 0.6:
        return
    plenty = [p for p in town.well if any(a.me.member_id and a.memberships for a in p.agents)]
    rng.shuffle(plenty)
    gone: list[Process] = []
    while len(plenty) > 1 and sum(len(p.agents) for p in gone) < 4:
        gone.append(plenty.pop())
    world.faults["mass death"] += 1
    sessions = [a.presence.session_id for p in gone for a in p.agents if a.me.member_id]
    for process in gone:
        process.crash()
    windows = max(1, len(sessions) - 2)  # one in each, until so few are left that they all may go
    yield windows * 30.0 * 1.1 + 2 * max(town.ttls) + 10
    held = [s for s in sessions if s and town.server.alive(s)]
    if held:
        raise world.broken("completeness", f"the guard does not let the dead go: {held}")
    world.kept["the guard lets go"] += 1


@scene
def forgets_everything(town: Town) -> Script:
    town.world.faults["the store forgets"] += 1
    weather(town, rough=0.3)
    town.server.begin()
    if town.weather is town.calm_weather and not town.bustle:
        yield from back_in(town, town.well)
    else:
        yield 5.0


@scene
def storm(town: Town) -> Script:
    """Bad weather and busy people, and now and then somebody dies, hangs or is cut off."""
    rng = town.world.rng
    town.weather, town.bustle = rng.choice((ROUGH, STORM)), True
    for _ in range(rng.randint(2, 5)):
        yield rng.uniform(1, 8)
        process = some(town)
        what = rng.choice(("crash", "pause", "cut", "hang", "jump", "takeover", "mark", "forget", "choke"))
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
        else:
            joined = town.joined(process)
            if joined:
                agent, membership = rng.choice(joined)
                kind = "forget" if what == "forget" else rng.choice(("disable", "forced", "expel"))
                _take_away(town, membership.group, agent.me.member_id, kind, process)
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


def _restart(town: Town, plan: Plan) -> None:
    if not any(p.plan is plan and not p.dead for p in town.processes):
        town.start(plan)


# ── names ────────────────────────────────────────────────────────────────────────────────────────


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
        if any(row.state == "suspect" for row in _rows(town)):
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
        _take_away(town, membership.group, agent.me.member_id, what, process)
        yield rng.uniform(0.1, 1.5) * agent.presence.ttl
        town.mark(membership.group, agent.me.member_id)
        yield rng.uniform(0.2, 2)
    town.held = []


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
            _rejoin(town, process, agent, group)
        return
    world.faults["a group deleted and made again"] += 1
    yield rng.choice((0.0, 3.0))
    for process, agent, _ in members:
        _rejoin(town, process, agent, group)
    if not members or town.operator.create_group(group):
        yield 0.5
    yield 1.0


# ── leading ──────────────────────────────────────────────────────────────────────────────────────


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


def extremes(town: Town, slow: Process) -> None:
    """One clock as slow as it may be, all others as fast as they may be."""
    for process in town.well:
        process.clock.run_at(1 - DRIFT if process is slow else 1 + DRIFT)
    town.server_clock.run_at(1 + DRIFT)


def victim(town: Town) -> tuple[Process, Agent, Membership] | None:
    """A leader that does not tick, of the longest ttl that there is."""
    ticker = town.ticker()
    found = [town.leader(group) for group in town.groups]
    able = [f for f in found if f and f[0].healthy and f[2].following and f[0] is not ticker]
    return max(able, key=lambda f: f[1].presence.ttl, default=None)


@scene
def sniper(town: Town) -> Script:
    """The worst that can happen to a leader: its clock is slow, all others are fast, and it is cut off
    by the instant at which a beat of its was taken at the very end of a tick; the answer may be slow."""
    world, rng = town.world, town.world.rng
    found = victim(town)
    if found is None:
        return
    leader, agent, _ = found
    world.faults["cut off at the end of a tick"] += 1
    extremes(town, leader)
    town.weather, slow, town.bell_slow = Weather((0.0002, 0.0004)), town.bell_slow, 0.001
    if rng.random() < 0.4:
        world.faults["slow answers"] += 1
        town.slow_answers = (leader, leader.patience * 0.9)
    struck = False

    def strike(session: str) -> None:
        nonlocal struck
        since = town.server_clock.moment().wall - town.server.clock_row.ticked_at
        late = town.mode == "sessions" or 0.9 * town.interval < since
        if session == agent.presence.session_id and late and not struck:
            struck = True
            world.after(0.0, _cut_after_answer, town, leader)

    town.truth.on_beat.append(strike)
    began = world.now
    while not struck and world.now - began < 12 * agent.presence.beat_every:
        yield from _beat_at_the_end(town, leader)
    town.truth.on_beat.remove(strike)
    if not struck:
        town.cut(leader)
    yield 2 * agent.presence.ttl
    leader.cut = False
    town.weather, town.bell_slow, town.slow_answers = town.calm_weather, slow, None
    yield 1.0


def _cut_after_answer(town: Town, leader: Process) -> None:
    """Nothing more is sent; what is on its way back arrives."""
    town.cut(leader)
    leader.hears = True


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


@scene
def old_beat(town: Town) -> Script:
    """A beat is kept waiting inside the store while later ones are taken; then its sender is cut off, and
    the old one gets its turn last of all, with the tick that it read when it came."""
    found = victim(town)
    if town.mode != "ticks" or found is None:
        return
    leader, agent, _ = found
    extremes(town, leader)
    town.world.faults["an old beat lands last"] += 1
    town.keep_inside = leader
    began, taken = town.world.now, 0

    def count(session: str) -> None:
        nonlocal taken
        if session == agent.presence.session_id and town.inside:
            taken += 1
            if taken == 2:
                town.cut(leader)
                for flight in town.inside:
                    town.world.after(0.001, town.carry_out, flight)
                town.inside = []

    town.truth.on_beat.append(count)
    while taken < 2 and town.world.now - began < 2 * agent.presence.ttl:
        yield 0.1
    town.truth.on_beat.remove(count)
    town.keep_inside = None
    yield 2 * agent.presence.ttl
    leader.cut = False
    yield 1.0


@scene
def late_enter(town: Town) -> Script:
    """An enter is on its way for so long that its session is fenced before it arrives."""
    world, rng = town.world, town.world.rng
    process = some(town)
    agents = [a for a in process.agents if a.me.member_id and a.presence.session is not None]
    if not agents:
        return
    agent = rng.choice(agents)
    joined = [m.group for a, m in town.joined(process) if a is agent]
    world.faults["an enter after its session's end"] += 1
    wait = rng.choice((1.1, 1.5, 2.0)) * agent.presence.ttl + 2 * town.interval

    def enters(flight: Flight) -> bool:
        request = flight.request
        return (
            flight.hand.process is process
            and isinstance(request, DoCommit)
            and any(isinstance(write, Enter) for write in request.writes)
        )

    town.held = [(enters, wait)]
    if joined:
        process.leave(agent, joined[0])
        process.poke()
        yield 0.3
        _rejoin(town, process, agent, joined[0])
    else:
        _rejoin(town, process, agent, rng.choice(town.groups))
    yield 0.2
    what = rng.choice(("crash", "cut", "heart", "leave"))
    if what == "crash":
        process.crash()
    elif what == "cut":
        process.cut = True
    elif what == "heart":
        process.hang(process.heart, wait)
    elif joined:
        process.leave(agent, joined[0])
        process.poke()
    yield wait + 3.0


@scene
def idle(town: Town) -> Script:
    """When nothing happens, nothing is read, and nobody asks for more than its beats and the tick."""
    world = town.world
    yield 3.0
    seconds = 12.0
    calm = [p for p in town.well if not _looks(p)]
    before = {p.id: (p, p.heart.sent, p.watcher.sent, dict(p.watcher.kinds)) for p in calm}
    roles = {p.id for p in (town.ticker(), *town.standbys()) if p is not None}
    revisions = {group: past.revision for group, past in town.truth.latest.items()}
    yield seconds
    roles |= {p.id for p in (town.ticker(), *town.standbys()) if p is not None}
    if revisions != {group: past.revision for group, past in town.truth.latest.items()}:
        return
    for process, hearts, watches, kinds in before.values():
        if not process.healthy or _looks(process):
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


def _looks(process: Process) -> bool:
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
    for row in _rows(town):
        if row.live and row.session in sessions:
            raise world.broken("it stops", f"{process.name} is closed, but {row} is up")
    world.kept["it stops"] += 1
    process.crash()
