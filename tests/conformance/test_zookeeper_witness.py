"""The second session of ZooKeeper of those who have places: when there is one, what it costs, and what
becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from kazoo.client import KazooClient

from headcount.errors import StoreUnavailable
from headcount.model import Amend, Committed, Enter, Ring, Row, Session, Standing, State
from headcount.stores import make
from headcount.stores.zookeeper.store import ZooKeeperStore
from tests.processes.waiting import eventually
from tests.servers.zookeeper import ZooKeeper

TTL = 2.0


class Place:
    """A prefix of its own, with clients, and an administrator who looks at the nodes."""

    def __init__(self, server: ZooKeeper, admin: KazooClient) -> None:
        self.server, self.admin = server, admin
        self.prefix = server.fresh_path()
        self.made: list[ZooKeeperStore] = []
        self.store = self.client()
        self.store.create_group("web")

    def client(self, **options: float) -> ZooKeeperStore:
        store = make(self.server.url(self.prefix), options={"timeout": 2.0, **options})
        assert isinstance(store, ZooKeeperStore)
        self.made.append(store)
        store.open()
        return store

    def enter(self, name: str, *, stand: bool = True, store: ZooKeeperStore | None = None) -> Row:
        store = store or self.store
        store.open_session(Session(id=name, instance=name, host="h", process="p", ttl=TTL))
        outcome = store.commit(
            "web",
            [
                Enter(
                    key=name, member_id=name, session=name, instance=name, host="h", ttl=TTL, seen=0,
                    stand=stand,
                )
            ],
            by=name,
        )  # fmt: skip
        assert isinstance(outcome, Committed)
        return outcome.rows[0]

    def held(self) -> dict[str, int]:
        """Who is, and in which session of ZooKeeper."""
        at = f"/{self.prefix}/.headcount/held"
        return {
            name: self.admin.exists(f"{at}/{name}").ephemeralOwner for name in self.admin.get_children(at)
        }

    def state(self, name: str) -> State:
        return next(row.state for row in self.store.read("web").rows if row.key == name)

    def end_witness(self) -> None:
        self.server.end_owner_of(f"/{self.prefix}/.headcount/held/{next(iter(self.held()))}")

    def end_heart(self, name: str) -> None:
        self.server.end_owner_of(f"/{self.prefix}/.headcount/sessions/{name}")


@pytest.fixture
def place(zookeeper_server: ZooKeeper) -> Iterator[Place]:
    with zookeeper_server.client() as admin:
        made = Place(zookeeper_server, admin)
        yield made
        for store in made.made:
            store.close()


def test_who_stands_is_held_before_anybody_can_trust_it(place: Place) -> None:
    """In another session than the one that it lives in; who does not stand is not."""
    place.enter("ann")
    place.enter("bob", stand=False)
    lives_in = place.admin.exists(f"/{place.prefix}/.headcount/sessions/ann").ephemeralOwner

    assert place.held().keys() == {"ann"}
    assert place.held()["ann"] != lives_in


def test_who_stands_later_is_held_then(place: Place) -> None:
    row = place.enter("ann", stand=False)
    assert place.held() == {}
    stands = Amend(key="ann", incarnation=row.incarnation, seen=row.revision, standing=Standing.STAND)
    assert isinstance(place.store.commit("web", [stands], by="ann"), Committed)

    assert place.held().keys() == {"ann"}


def test_one_witness_is_enough_for_all(place: Place) -> None:
    for name in ("ann", "bob", "cid"):
        place.enter(name)

    assert place.held().keys() == {"ann", "bob", "cid"}
    assert len(set(place.held().values())) == 1


def test_who_says_goodbye_is_held_no_longer(place: Place) -> None:
    place.enter("ann")
    place.enter("bob")
    place.store.close_session("ann")

    assert place.held().keys() == {"bob"}


def test_a_lost_witness_is_replaced_before_a_beat_is_believed(place: Place) -> None:
    """With all that it held."""
    place.enter("ann")
    place.enter("bob")
    before = place.held()
    place.end_witness()
    assert place.held() == {}

    assert eventually(lambda: beats(place.store, "ann", "bob"), "a beat", TTL)
    assert place.held().keys() == {"ann", "bob"}
    assert place.held()["ann"] != before["ann"]


def test_a_node_that_is_removed_by_hand_is_made_anew(place: Place) -> None:
    """With the next beat, of a client that watches, as whoever leads does."""
    place.enter("ann")
    bell = place.store.doorbell()
    while bell.wait(0.2) != Ring():
        pass
    place.admin.delete(f"/{place.prefix}/.headcount/held/ann")

    assert eventually(lambda: beats(place.store, "ann") and place.held(), "it is back", 2)
    bell.close()


def test_nodes_that_an_older_witness_has_left_are_made_anew(place: Place) -> None:
    """They would go with it."""
    path = f"/{place.prefix}/.headcount/held/ann"
    place.admin.create(path, ephemeral=True)
    left = place.held()["ann"]
    place.enter("ann")

    assert place.held()["ann"] != left


def test_no_beat_is_believed_without_a_witness(own_zookeeper: Callable[..., ZooKeeper]) -> None:
    """The server lets nobody more in from here: who is in stays, but must not trust what it has."""
    server = own_zookeeper(maxClientCnxns=3)
    store = make(server.url("town"), options={"timeout": 1.0})
    assert isinstance(store, ZooKeeperStore)
    store.open()
    store.create_group("web")
    enter = Enter(key="ann", member_id="ann", session="ann", instance="ann", host="h", ttl=TTL, seen=0)
    store.open_session(Session(id="ann", instance="ann", host="h", process="p", ttl=TTL))
    store.commit("web", [enter], by="ann")
    heart = store._hearts.of("ann")
    assert heart is not None
    witness = heart.witness._link
    assert witness is not None
    witness.close(goodbye=True)
    witness.over = True  # as if somebody else had closed it
    with server.client(), pytest.raises(StoreUnavailable):
        store.beat(["ann"])
    assert eventually(lambda: beats(store, "ann"), "a beat", TTL)
    _, (held,), _ = store._eyes().get(["/town/.headcount/held/ann"], until=time.monotonic() + 1)
    assert held[1].ephemeralOwner not in (0, witness.session)
    store.close()


def beats(store: ZooKeeperStore, *sessions: str) -> bool:
    try:
        return store.beat(sessions).notices == dict.fromkeys(sessions, 0)
    except StoreUnavailable:
        return False


def test_who_cannot_have_a_witness_has_no_place(own_zookeeper: Callable[..., ZooKeeper]) -> None:
    """It is told why; and its heart goes on, for it may be a member without."""
    server = own_zookeeper(maxClientCnxns=2)
    store = make(server.url("town"), options={"timeout": 1.0})
    store.open()
    store.create_group("web")
    store.open_session(Session(id="ann", instance="ann", host="h", process="p", ttl=TTL))
    enter = Enter(key="ann", member_id="ann", session="ann", instance="ann", host="h", ttl=TTL, seen=0)
    with pytest.raises(StoreUnavailable, match="second session"):
        store.commit("web", [enter], by="ann")
    assert store.read("web").rows == ()
    assert store.beat(["ann"]).notices == {"ann": 0}
    store.close()


def test_a_beat_that_finds_its_session_gone_leaves_it_held(place: Place) -> None:
    """Its owner has not been told yet. It says itself when it trusts nothing any more."""
    place.enter("ann")
    place.admin.delete(f"/{place.prefix}/.headcount/sessions/ann")
    assert place.store.beat(["ann"]).notices == {"ann": None}

    assert place.held().keys() == {"ann"}
    assert [claim.session for claim in place.store.read("web").claims] == ["ann"]
    place.store.close_session("ann")
    assert place.held() == {}
    assert place.store.read("web").claims == ()


def test_who_is_beaten_no_more_is_held_no_more(place: Place) -> None:
    """While others of its process are: its time is over, and so is its trust."""
    place.enter("ann")
    place.enter("bob")
    until = time.monotonic() + TTL + 0.7
    while time.monotonic() < until:
        place.store.beat(["bob"])
        time.sleep(0.2)

    assert place.held().keys() == {"bob"}
    assert place.state("ann") is State.DOWN
    assert place.store.read("web").claims == ()


def test_the_doorbell_rings_when_a_claim_is_free(place: Place) -> None:
    """For who has seen it: in the group that it is in, and once its owner has given it up."""
    other = place.client()
    place.enter("ann", store=other)
    place.end_heart("ann")
    assert len(place.store.read("web").claims) == 1
    bell = place.store.doorbell()
    while bell.wait(0.2) != Ring():
        pass
    other.close_session("ann")

    assert eventually(lambda: "web" in (bell.wait(0.2).groups or ()), "a ring for the group", 2)
    assert place.store.read("web").claims == ()
    bell.close()


def test_a_goodbye_leaves_nobody_held(place: Place) -> None:
    """Whichever way it and the enter get into each other's way."""
    for number in range(8):
        name = f"ann{number}"
        place.store.open_session(Session(id=name, instance=name, host="h", process="p", ttl=TTL))
        enter = Enter(key=name, member_id=name, session=name, instance=name, host="h", ttl=TTL, seen=0)
        both = [
            threading.Thread(target=place.store.close_session, args=(name,)),
            threading.Thread(target=place.store.commit, args=("web", [enter]), kwargs={"by": name}),
        ]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()

    assert place.held() == {}
    assert not any(row.live for row in place.store.read("web").rows)


def test_whoever_reads_first_keeps_the_place_and_whoever_commits(place: Place) -> None:
    """A commit that takes down the row of a session that is gone finds out, like a reader."""
    other = place.client()
    ann = place.enter("ann", store=other)
    place.end_heart("ann")
    place.enter("bob")
    again = Enter(
        key="ann", member_id="ann", session="bob", instance="ann", host="h", ttl=TTL, seen=ann.revision
    )
    place.store.commit("web", [again], by="bob")
    (claim,) = place.store.read("web").claims

    assert (claim.session, claim.standing_since) == ("ann", ann.standing_since)
