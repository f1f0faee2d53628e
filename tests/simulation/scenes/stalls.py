"""A store that stands still, chokes, forgets, or cannot be reached; and the way back."""

from __future__ import annotations

from tests.simulation.process import Process
from tests.simulation.scenes.common import scene, some, weather
from tests.simulation.town import Town
from tests.simulation.world import DRIFT, Script


def shelter(town: Town, why: str) -> None:
    """From now on nobody who beats may be fenced: they beat whenever they are let. (A heart may still be
    blind from what was before; then it does not beat.)"""
    for process in town.well:
        for agent in process.agents:
            session, every = agent.presence.session_id, agent.presence.beat_every
            if session and town.world.now - town.truth.taken[session] <= every / (1 - DRIFT) + 0.1:
                town.truth.sheltered[session] = why


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
                            f"{process.name} is not back in {membership.group} after {bound:.2f} s",
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


@scene
def forgets_everything(town: Town) -> Script:
    town.world.faults["the store forgets"] += 1
    weather(town, rough=0.3)
    town.server.begin()
    if town.weather is town.calm_weather and not town.bustle:
        yield from back_in(town, town.well)
    else:
        yield 5.0
