"""The leading server of ZooKeeper is cut off from the others, and answers by itself what it is asked to read:
a `sync` as well. Who beats over another server, and reads over this one, is not deceived by it."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from headcount import Coordinator, HeadcountError
from headcount.engine.identity import boot
from headcount.errors import StoreUnavailable
from headcount.model import Committed, Remark
from headcount.stores.zookeeper.store import ZooKeeperStore
from headcount.stores.zookeeper.words import Connection
from tests.conformance.test_zookeeper_sessions import Place
from tests.processes import test_zookeeper
from tests.processes.test_zookeeper import Candidate, all_up, stand, until
from tests.processes.waiting import eventually
from tests.servers.base import HOST
from tests.servers.zookeeper import Ensemble, ZooKeeper

__all__ = ["stand"]

TTL = 30.0
"""Two thirds of it are much longer than an election takes."""


@pytest.fixture
def ensemble(own_ensemble: Callable[..., Ensemble]) -> Ensemble:
    """Its leader believes in its followers for 80 s, whether it hears of them or not."""
    return own_ensemble(cuttable=True, tickTime=250, syncLimit=320, initLimit=6, minSessionTimeout=1000)


@pytest.fixture
def deceived(ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> ZooKeeper:
    """The leading server, by which everybody reads who has the choice, while all beats go elsewhere."""
    leader, known = ensemble.leader, Connection._expand_client_hosts

    def expand(connection: Connection) -> list[tuple[str, str, int]]:
        hosts = sorted(known(connection), key=lambda one: one[2] != leader.port)
        return [one for one in hosts if connection.pings or one[2] != leader.port]

    monkeypatch.setattr(Connection, "_expand_client_hosts", expand)
    return leader


def forsake(ensemble: Ensemble, leader: ZooKeeper) -> None:
    """The others lose it, and choose another one; it hears of nothing. They may well choose it again, for it
    says to lead: then they lose it again."""
    ensemble.cut_off(leader)
    others = [server for server in ensemble.servers if server is not leader]

    def chosen() -> bool:
        for wire in (ensemble._wires[one, leader][0] for one in others):
            for end in wire._ends[::2]:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        return any(one.mode == "leader" for one in others)

    eventually(chosen, "another leading server", 40)


def besides(ensemble: Ensemble, leader: ZooKeeper) -> str:
    hosts = ",".join(f"{HOST}:{server.port}" for server in ensemble.servers if server is not leader)
    return f"zookeeper://{hosts}/town?timeout=0.5"


@pytest.fixture
def operator(ensemble: Ensemble, deceived: ZooKeeper) -> Iterator[Coordinator]:
    with Coordinator(besides(ensemble, deceived), member_id="operator") as made:
        yield made


def test_what_is_read_is_not_older_than_what_a_beat_has_shown(
    ensemble: Ensemble, deceived: ZooKeeper
) -> None:
    """A notice comes with a beat over one server. What is read then over another one has what it is about."""
    place, other = Place(ensemble.url("town")), Place(besides(ensemble, deceived))
    place.enter("ann", ttl=30.0)
    bell = place.store.doorbell()
    before = place.store.read("web")
    assert place.store._open is not None
    assert place.store._open._connection._socket.getpeername()[1] == deceived.port, "this shows nothing"
    forsake(ensemble, deceived)
    eventually(lambda: noticed(place, other), "a notice", 20)
    after = place.store.read("web", before.revision)
    mode = deceived.mode

    assert [mark.disabled for mark in after.marks] == ["maintenance"]
    assert mode == "leader", "it knew by then, so this shows nothing"
    assert bell.wait(0.5).groups is None  # the watch went with the connection
    bell.close()
    place.store.close()
    other.store.close()


def noticed(place: Place, other: Place) -> bool:
    with contextlib.suppress(HeadcountError):
        if not other.store.read("web").marks:
            wish = Remark(member_id="ann", seen=0, disabled="maintenance")
            assert isinstance(other.store.commit("web", [wish]), Committed)
        return bool(place.store.beat(["ann"]).notices["ann"])
    return False


def test_a_leader_that_is_deposed_hears_of_it_by_another_server(
    ensemble: Ensemble,
    deceived: ZooKeeper,
    operator: Coordinator,
    stand: Callable[[str, str], Candidate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And goes on as a member. Two never trust at once (see `stand`)."""
    monkeypatch.setattr(test_zookeeper, "TTL", TTL)
    ann = stand(ensemble.url("town"), "ann")
    until(lambda: ann.leads, 10)
    bob = stand(besides(ensemble, deceived), "bob")
    until(all_up(ann, bob), 10)
    life = ann.group.view()["ann"].incarnation
    assert ann.coordinator._agent is not None
    presence = ann.coordinator._agent.presence
    until(lambda: presence.trusted_until - boot() > 0.62 * TTL, TTL)
    forsake(ensemble, deceived)

    led: list[bool] = []

    def disabled() -> bool:
        with contextlib.suppress(HeadcountError):
            led.append(ann.leads)
            operator.group("web").mark("ann", disabled="maintenance")
            return True
        return False

    until(disabled, TTL)
    assert led[-1], "the election took longer than trust, so this shows nothing"
    until(lambda: bob.leads, 2 * TTL)
    mode = deceived.mode
    assert not ann.leads
    until(lambda: ann.group.view()["ann"].disabled is not None, 2 * TTL)
    assert mode == "leader", "it knew by then, so this shows nothing"
    assert ann.group.view()["ann"].incarnation == life


def test_no_refusal_is_told_by_a_server_that_was_left_behind(ensemble: Ensemble, deceived: ZooKeeper) -> None:
    """Who only looks has nothing to hold against it; but that a write is refused, a majority says."""
    place, other = Place(ensemble.url("town")), Place(besides(ensemble, deceived))
    mark = Remark(member_id="ann", seen=0, disabled="maintenance")
    assert isinstance(place.store.commit("web", [mark]), Committed)
    forsake(ensemble, deceived)

    def lifted() -> bool:
        with contextlib.suppress(HeadcountError):
            marks = other.store.read("web").marks
            if marks:
                other.store.commit("web", [Remark(member_id="ann", seen=marks[0].revision)])
            return not marks
        return False

    eventually(lifted, "an answer", 40)
    assert place.store.read("web").marks, "it asks another server, so this shows nothing"
    with pytest.raises(StoreUnavailable):
        place.store.commit("web", [mark])
    assert deceived.mode == "leader", "it knew by then, so this shows nothing"
    assert isinstance(place.store.commit("web", [mark]), Committed)
    place.store.close()
    other.store.close()


def test_a_leader_outlives_a_server_that_is_frozen(
    own_ensemble: Callable[..., Ensemble],
    stand: Callable[[str, str], Candidate],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All its connections are at this one, which takes what it is told, and says nothing. A beat that is not
    answered goes to another one while there is time: it is the same term."""
    monkeypatch.setattr(test_zookeeper, "TTL", 9.0)
    ensemble, known = own_ensemble(tickTime=500), Connection._expand_client_hosts
    victim = ensemble.followers[0]

    def expand(connection: Connection) -> list[tuple[str, str, int]]:
        """At first all come here."""
        hosts = known(connection)
        return hosts if connection.granted else sorted(hosts, key=lambda one: one[2] != victim.port)

    monkeypatch.setattr(Connection, "_expand_client_hosts", expand)
    ann = stand(ensemble.url("town"), "ann")
    until(lambda: ann.leads, 10)
    time.sleep(3.5)
    hub = ann.coordinator._hub
    assert hub is not None
    assert isinstance(hub.store, ZooKeeperStore)
    (heart,) = hub.store._hearts._by_ttl.values()
    links = [link for link in (heart.witness._link, heart.link) if link is not None]
    at = [link._connection._socket.getpeername()[1] for link in links]
    assert at == [victim.port] * 2, "this shows nothing"
    victim.freeze()
    time.sleep(10)
    assert (ann.leads, ann.spans) == (True, [])
    victim.thaw()
