"""Sessions of ours in sessions of ZooKeeper: what becomes of some when something happens to the others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from kazoo.client import KazooClient

from headcount.errors import OutcomeUnknown, StoreUnavailable
from headcount.model import Committed, Enter, Ring, Session, SessionId, State
from headcount.stores import make
from headcount.stores.base import Doorbell
from headcount.stores.zookeeper.link import Failed, Link
from headcount.stores.zookeeper.store import ZooKeeperStore
from tests.processes.waiting import eventually
from tests.servers.base import HOST
from tests.servers.pipe import Pipe
from tests.servers.zookeeper import Ensemble, ZooKeeper

TTL = 2.0


class Place:
    """One client on a prefix of its own."""

    def __init__(self, url: str, **options: float) -> None:
        store = make(url, options={"timeout": 2.0, **options})
        assert isinstance(store, ZooKeeperStore)
        self.store = store
        store.open()
        store.create_group("web")

    def open(self, name: str, ttl: float = TTL) -> float:
        asked = Session(id=name, instance=name, host="h", process="p", ttl=ttl)
        return self.store.open_session(asked).ttl

    def enter(self, name: str, ttl: float = TTL, *, seen: int = 0) -> None:
        self.open(name, ttl)
        enters = Enter(key=name, member_id=name, session=name, instance=name, host="h", ttl=ttl, seen=seen)
        assert isinstance(self.store.commit("web", [enters], by=name), Committed)

    def states(self) -> dict[str, State]:
        return {row.key: row.state for row in self.store.read("web").rows}

    def beat_for(self, seconds: float, *names: SessionId) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.store.beat(names)
            time.sleep(0.2)


@pytest.fixture
def place(zookeeper_server: ZooKeeper) -> Iterator[Place]:
    made = Place(zookeeper_server.url(zookeeper_server.fresh_path()))
    yield made
    made.store.close()


@pytest.fixture
def pipe(zookeeper_server: ZooKeeper) -> Iterator[Pipe]:
    made = Pipe(zookeeper_server.port)
    yield made
    made.close()


def end_from_outside(server: ZooKeeper, link: Link | None) -> None:
    """Another client shows the session's password and closes it, as an administrator's tool may."""
    assert link is not None
    other = KazooClient(f"{HOST}:{server.port}", client_id=link._client.client_id)
    other.start()
    other.stop()
    other.close()


def heart(place: Place, session: SessionId) -> Link:
    found = place.store._hearts.of(session)
    assert found is not None
    return found.link


def quiet(bell: Doorbell) -> None:
    while bell.wait(0.1) != Ring():
        pass


def test_a_session_that_is_ended_from_outside_is_lost_at_once(
    zookeeper_server: ZooKeeper, place: Place
) -> None:
    """All of ours that lived in it: the doorbell says so, without waiting for the next beat."""
    place.enter("ann")
    place.enter("bob")
    place.enter("cid", ttl=3.0)
    bell = place.store.doorbell()
    quiet(bell)
    end_from_outside(zookeeper_server, heart(place, "ann"))
    lost: set[SessionId] = set()
    started = time.monotonic()
    while lost != {"ann", "bob"} and time.monotonic() < started + 2:
        lost |= bell.wait(0.5).lost

    assert lost == {"ann", "bob"}
    assert place.store.beat(["ann", "bob", "cid"]).notices == {"ann": None, "bob": None, "cid": 0}
    assert place.states() == {"ann": State.DOWN, "bob": State.DOWN, "cid": State.UP}
    place.enter("dora")  # in a new one
    assert place.states()["dora"] is State.UP
    bell.close()


def test_who_reads_goes_on_when_its_session_was_ended(zookeeper_server: ZooKeeper, place: Place) -> None:
    """It owns nothing. The watch was gone with it, so everything counts as rung; and it is set anew."""
    place.enter("ann")
    bell = place.store.doorbell()
    quiet(bell)
    end_from_outside(zookeeper_server, place.store._open)
    assert eventually(lambda: bell.wait(0.2).groups is None, "a ring for everything", 5)
    quiet(bell)
    place.enter("bob")

    assert eventually(lambda: "web" in (bell.wait(0.2).groups or ()), "a ring for the group", 2)
    assert place.states() == {"ann": State.UP, "bob": State.UP}
    bell.close()


def test_a_cut_connection_costs_no_session(place: Place) -> None:
    """Another one follows, and all is as it was; the watch too."""
    place.enter("ann")
    bell = place.store.doorbell()
    quiet(bell)
    links = heart(place, "ann"), place.store._eyes()
    for link in links:
        link._connection._socket.shutdown(2)
    eventually(lambda: all(link.generation == 2 and link.connected for link in links), "connections", 3)

    assert place.store.beat(["ann"]).notices == {"ann": 0}
    assert eventually(lambda: bell.wait(0.2).groups is None, "a ring for everything", 2)
    assert place.states() == {"ann": State.UP}
    bell.close()


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_write_of_which_nobody_heard_may_have_happened(
    zookeeper_server: ZooKeeper, pipe: Pipe, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    """The connection goes silent as the write leaves, or as its answer comes: the same to us."""
    url = zookeeper_server.url(zookeeper_server.fresh_path())
    place = Place(url.replace(f":{zookeeper_server.port}/", f":{pipe.port}/"), timeout=1.0)
    place.enter("ann", ttl=20.0)
    write = Link.multi

    def cut(link: Link, operations: Sequence[Any], until: float) -> Failed | None:
        pipe.answers_lost, pipe.silent = carried_out, not carried_out
        return write(link, operations, until)

    with monkeypatch.context() as patched:
        patched.setattr(Link, "multi", cut)
        with pytest.raises(OutcomeUnknown):
            place.store.create_group("api")
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            place.store.beat(["ann"])
    with pytest.raises(StoreUnavailable):
        place.store.read("web")
    pipe.mend()
    answers: list[bool] = []

    def answered() -> bool:
        with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
            answers.append(place.store.create_group("api"))
        return bool(answers)

    eventually(answered, "an answer", 15)
    assert answers == [not carried_out]
    place.store.close()


def test_who_is_beaten_no_more_goes_though_others_keep_the_session(place: Place) -> None:
    """A heart that has gone blind stops one of its sessions, and beats the others: that one is over."""
    place.enter("ann")
    place.enter("bob")
    place.beat_for(TTL + 0.7, "bob")

    assert place.store.beat(["ann", "bob"]).notices == {"ann": None, "bob": 0}
    assert place.states() == {"ann": State.DOWN, "bob": State.UP}


def test_what_others_ask_keeps_no_stopped_heart_alive(place: Place) -> None:
    """A process that goes on to write in the name of its members, and beats for none of them."""
    place.enter("ann")
    until = time.monotonic() + 2 * TTL + 1
    while time.monotonic() < until:
        place.store.commit("web", [], by="ann")
        time.sleep(0.2)

    assert place.store.beat(["ann"]).notices == {"ann": None}


def test_who_comes_to_others_is_trusted_by_their_beats(place: Place) -> None:
    """The leading server may not have heard of the last one. But of a session that begins it has."""
    granted = [place.store.open_session(session_of("ann"))]
    place.beat_for(TTL, "ann")
    granted.append(place.store.open_session(session_of("bob")))

    assert granted[0].late == 0.0
    assert TTL / 4 <= granted[1].late <= TTL


def session_of(name: str) -> Session:
    return Session(id=name, instance=name, host="h", process="p", ttl=TTL)


def test_the_servers_grant_what_they_will(place: Place) -> None:
    """Two ticks of theirs at the least; and so trust is counted by what they grant."""
    assert place.open("hurried", 0.1) == 0.4
    assert place.open("asked", 5.0) == 5.0
    assert place.open("patient", 3600.0) == 60.0


def test_a_new_epoch_is_above_all_that_was(place: Place) -> None:
    """Who knows the group from before reads it whole; nothing else has changed."""
    place.enter("ann", ttl=20.0)
    place.store.create_group("api")
    before = place.store.read("web")
    epoch = place.store.new_epoch()
    after = place.store.read("web", before.revision)

    assert after.rows == before.rows
    assert after.revision >= epoch << 32 > before.revision
    assert place.store.read("api").revision >= epoch << 32
    place.store.create_group("later")
    assert place.store.read("later").revision > epoch << 32
    assert place.store.beat(["ann"]).notices == {"ann": 0}
    place.enter("bob")
    assert min(row.revision for row in place.store.read("web").rows if row.key == "bob") > epoch << 32


def test_a_server_that_may_only_be_read_is_none(own_ensemble: Callable[..., Ensemble]) -> None:
    """It would show what was, for as long as it is cut off, and never take a beat."""
    ensemble = own_ensemble(read_only=True)
    place = Place(ensemble.url("town"), timeout=1.0)
    place.enter("ann")
    for server in ensemble.servers[1:]:
        server.kill()
    eventually(lambda: ensemble.servers[0].mode == "read-only", "a server in read-only mode", 10)
    for call in (
        lambda: place.store.read("web"),
        lambda: place.store.beat(["ann"]),
        lambda: place.store.create_group("api"),
        lambda: place.store.doorbell(),
    ):
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            call()
    place.store.close()
