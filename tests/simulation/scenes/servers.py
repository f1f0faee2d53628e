"""What happens to the servers of a store that has several: they die, stop, and are cut off, also together
with those who ask them. A member that beats on time loses nothing by it."""

from __future__ import annotations

from tests.simulation.engines import EngineClient
from tests.simulation.engines.machines import BLIND_FAITH, ELECTION, FAITH, Ensemble, Machine
from tests.simulation.network import Weather
from tests.simulation.scenes.common import (
    at_the_end_of_a_tick,
    extremes,
    scene_where,
    victim,
    where_there_are_servers,
)
from tests.simulation.scenes.stalls import shelter
from tests.simulation.town import Town
from tests.simulation.world import Script


def servers(town: Town) -> Ensemble:
    assert town.ensemble is not None
    return town.ensemble


def spare(town: Town, why: str) -> None:
    """From now on nobody who beats may be ended whose ttl is four elections, or more: there is time enough to
    ask another server, again and again."""
    shelter(town, why)
    sheltered, sessions = town.truth.sheltered, town.truth.sessions
    least = 4 * ELECTION[1] * min(town.ttls)
    for session in [one for one in sheltered if sessions[one].ttl < least]:
        del sheltered[session]


def leading(town: Town) -> Machine:
    """Who leads; nobody is without a leader when a scene begins."""
    leader = servers(town).leader
    assert leader is not None
    return leader


@scene_where(where_there_are_servers)
def a_server_dies(town: Town) -> Script:
    """Any of them, and for any time. Its clients go to another one; nobody loses its session."""
    rng, ensemble = town.world.rng, servers(town)
    machine = rng.choice(ensemble.machines)
    leads = machine is ensemble.leader
    town.world.faults["the leading server dies" if leads else "a server dies"] += 1
    spare(town, "one server of three died")
    ensemble.crash(machine)
    yield rng.uniform(0.2, 1.5) * max(town.ttls)
    ensemble.restart(machine)
    yield max(town.ttls)
    _kept(town)


@scene_where(where_there_are_servers)
def a_server_is_cut_off(town: Town) -> Script:
    """It goes on answering what it can, for as long as it believes in its leader, or in itself."""
    rng, ensemble = town.world.rng, servers(town)
    machine = rng.choice(ensemble.machines)
    town.world.faults["a server cut off from the others"] += 1
    spare(town, "one server of three was cut off")
    ensemble.cut(machine)
    town.bustle = rng.random() < 0.5
    yield rng.uniform(0.2, 1.5) * max(town.ttls)
    town.bustle = False
    ensemble.mend(machine)
    yield max(town.ttls)
    _kept(town)


@scene_where(where_there_are_servers)
def the_leading_server_stops(town: Town) -> Script:
    """Through an election, or almost; then it goes on, and does in good faith what it did before."""
    rng, ensemble = town.world.rng, servers(town)
    machine = leading(town)
    town.world.faults["the leading server stops"] += 1
    spare(town, "the leading server was stopped")
    for _ in range(2):
        ensemble.pause(machine)
        yield rng.uniform(0.5, 3) * min(town.ttls)
        ensemble.resume(machine)
        yield rng.uniform(0.5, 1) * max(town.ttls)
        machine = leading(town)
    yield max(town.ttls)
    _kept(town)


def _kept(town: Town) -> None:
    town.world.kept["a failover ends nobody"] += len(town.truth.sheltered)
    town.truth.sheltered.clear()


@scene_where(where_there_are_servers)
def no_majority(town: Town) -> Script:
    """Two servers of three are gone. Nobody is sure of anything, and everybody comes back."""
    rng, ensemble = town.world.rng, servers(town)
    gone = rng.sample(ensemble.machines, 2)
    town.world.faults["no majority"] += 1
    for machine in gone:
        ensemble.crash(machine)
    yield rng.uniform(0.5, 2) * max(town.ttls)
    for machine in gone:
        ensemble.restart(machine)
    yield 5.0


@scene_where(where_there_are_servers)
def cut_off_with_its_server(town: Town) -> Script:
    """The worst that can happen where servers hear of a beat from one another: at the instant at which the
    beat of a leader was taken, it is cut off, and with it the only server that has heard of that beat."""
    world, ensemble = town.world, servers(town)
    found = victim(town)
    if found is None:
        return
    process, agent, _ = found
    client = process.client
    assert isinstance(client, EngineClient)
    follower = world.rng.choice(ensemble.followers)
    world.faults["cut off with its server"] += 1
    extremes(town, process)
    town.weather, slow, town.bell_slow = Weather((0.0002, 0.0004)), town.bell_slow, 0.001
    for link in client.links():
        link.go(follower)
    yield 2.2 * agent.presence.beat_every
    if world.rng.random() < 0.5:  # the beat before is longer ago than it should be
        late = 0.5 * agent.presence.ttl
        process.hang(process.heart, late)
        yield late

    def strike() -> None:
        town.cut(process)
        process.hears = True
        ensemble.crash(follower)

    yield from at_the_end_of_a_tick(town, process, agent, strike)
    yield 2 * agent.presence.ttl
    process.cut = False
    ensemble.restart(follower)
    town.weather, town.bell_slow = town.calm_weather, slow
    yield 1.0


@scene_where(where_there_are_servers)
def asked_when_it_woke(town: Town) -> Script:
    """A leader is connected to the leading server alone, which is stopped, or cut off, until the others have
    elected another. Whatever it answers then, it does not know; and then its client is cut off."""
    world, rng, ensemble = town.world, town.world.rng, servers(town)
    found = victim(town)
    if found is None:
        return
    process, agent, _ = found
    client, machine = process.client, leading(town)
    assert isinstance(client, EngineClient)
    world.faults["asked of a server that woke up"] += 1
    extremes(town, process)
    town.weather, slow, town.bell_slow = Weather((0.0002, 0.0004)), town.bell_slow, 0.001
    client.only = machine
    for link in client.links():
        link.go(machine)
    yield 2.2 * agent.presence.beat_every
    if rng.random() < 0.7:
        ensemble.pause(machine)
        yield ELECTION[1] * min(town.ttls) + rng.uniform(0, 0.3) * agent.presence.ttl
        ensemble.resume(machine)
        yield rng.uniform(0.005, FAITH[1])
    else:
        ensemble.cut(machine)
        yield BLIND_FAITH[1]
    town.cut(process)
    process.hears = True
    yield 2 * agent.presence.ttl
    process.cut = False
    client.only = None
    ensemble.heal()
    town.weather, town.bell_slow = town.calm_weather, slow
    yield 1.0
