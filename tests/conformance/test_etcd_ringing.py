"""etcd: the bell hangs at one server, and goes to another when that one is silent."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from headcount.errors import StoreUnavailable
from headcount.model import Ring
from headcount.stores import make
from headcount.stores.etcd import doorbell
from headcount.stores.etcd.client import TRY
from headcount.testing.conformance.ringing import SOON, quiet, rings_for
from headcount.testing.conformance.town import Town
from tests.conformance.harnesses import EtcdSessions
from tests.servers.base import HOST
from tests.servers.etcd import Cluster
from tests.servers.pipe import Pipe

POLL = 0.5


@pytest.fixture
def harness(etcd_server, monkeypatch):
    monkeypatch.setattr(doorbell, "POLL", POLL)
    harness = EtcdSessions(etcd_server)
    yield harness
    harness.close()


@pytest.fixture
def wires(etcd_server) -> Iterator[list[Pipe]]:
    """Two ways to the server, as if there were two."""
    found = [Pipe(etcd_server.port), Pipe(etcd_server.port)]
    yield found
    for wire in found:
        wire.close()


def by_way_of(harness: EtcdSessions, wires: list[Pipe], **options: float):
    hosts = ",".join(f"{HOST}:{wire.port}" for wire in wires)
    store = make(f"etcd://{hosts}/{harness.prefix}", options=options)
    store.open()
    harness.made.append(store)
    return store


def test_a_bell_at_a_silent_server_is_hung_elsewhere(harness, wires) -> None:
    """The other server answers all that is asked, so the silence of this one has to be noticed by the bell.
    What changed meanwhile is rung for, and what changes later, too."""
    town = Town(harness)
    watcher = by_way_of(harness, wires)
    bell = watcher.doorbell()
    quiet(bell)
    wires[0].silent = True
    town.person("ann").enter()
    assert {row.key for row in watcher.read("town").rows} == {"ann"}

    assert rings_for(bell, "town", POLL + TRY + 5 * SOON)
    quiet(bell)
    town.person("bob").enter()
    assert rings_for(bell, "town")
    bell.close()


def test_a_bell_at_the_only_server_says_that_it_is_silent(harness, wires) -> None:
    """There is nowhere else to go, and views must grow older."""
    watcher = by_way_of(harness, wires[:1], timeout=0.3)
    bell = watcher.doorbell()
    assert bell.wait(0) == Ring()
    wires[0].silent = True
    time.sleep(POLL)
    with pytest.raises(StoreUnavailable):
        bell.wait(0)
    bell.close()


def test_a_bell_at_a_server_that_stands_still_is_hung_elsewhere(own_etcd_cluster, monkeypatch) -> None:
    """A follower, of which nobody else takes notice."""
    monkeypatch.setattr(doorbell, "POLL", POLL)
    cluster: Cluster = own_etcd_cluster()
    leader, (victim, other) = cluster.leader(), cluster.followers()
    watcher = make(leader.url("x", servers=[victim, leader, other]))
    writer = make(leader.url("x", servers=[leader]))
    for store in (watcher, writer):
        store.open()
    bell = watcher.doorbell()
    victim.freeze()
    writer.create_group("town")

    assert rings_for(bell, "town", POLL + TRY + 5 * SOON)
    for store in (watcher, writer):
        store.close()
