"""etcd: a beat is believed only if who kept the lease alive led, and is still known to lead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headcount.errors import OutcomeUnknown, StoreUnavailable
from headcount.model import Committed, Enter, Remark, Session, State, Wish
from headcount.stores import make
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.client import GRANT, KEEP_ALIVE, TIME_TO_LIVE, TXN, Client, Method
from headcount.stores.etcd.ending import Ending
from headcount.stores.etcd.errors import Elsewhere
from headcount.stores.etcd.ops import txn
from headcount.stores.etcd.sessions import ENDING
from headcount.stores.etcd.store import EtcdStore
from headcount.stores.etcd.terms import grant, term_of
from headcount.testing.conformance.town import at_once
from tests.servers.base import HOST, free_port
from tests.servers.etcd import Cluster, Etcd

TTL = 20.0
ASLEEP = 4.0
CLIENTS = 20


def session(name: str, process: str = "", ttl: float = TTL) -> Session:
    return Session(id=name, instance=name, host="h", process=process or name, ttl=ttl)


def entering(name: str, ttl: float = TTL) -> Enter:
    return Enter(key=name, member_id=name, session=name, instance=name, host="h", ttl=ttl, seen=0)


@pytest.fixture
def opened() -> Iterator[Callable[..., EtcdStore]]:
    made: list[EtcdStore] = []

    def open_(url: str, **options: float) -> EtcdStore:
        store = make(url, options=options)
        assert isinstance(store, EtcdStore)
        made.append(store)
        store.open()
        return store

    yield open_
    for store in made:
        store.close()


def lease_of(store: EtcdStore, name: str) -> int:
    return store._sessions._lease_of[name]


def enter(store: EtcdStore, name: str, ttl: float = TTL) -> None:
    """Somebody who stands from now on."""
    write = Enter(key=name, member_id=name, session=name, instance=name, host="h", ttl=ttl, seen=0)
    store.commit("web", [write], by=name)


def left(store: EtcdStore, lease: int) -> int:
    """Whole seconds until the lease is over, as the leader knows it."""
    return int(store._client.ask(TIME_TO_LIVE, rpc.LeaseTimeToLiveRequest(ID=lease)).TTL)


def asleep(cluster: Cluster, leader: Etcd) -> None:
    """Freeze the leader until another one has led for a while."""
    term, others = leader.term(), [one for one in cluster.members if one is not leader]
    leader.freeze()
    others[0]._wait(lambda: others[0].term() > term, "elect nobody", 10)
    time.sleep(ASLEEP)  # for so long the leases of the new leader have run already


def test_a_leader_that_slept_through_an_election_is_not_believed(own_etcd_cluster, opened) -> None:
    """It wakes up with our keepalives before it, and answers in good faith; its successor, who ends the
    leases, hears of none. (Without the comparison of terms, beats are taken here of which four seconds
    are missing.)"""
    cluster: Cluster = own_etcd_cluster()
    witness = opened(cluster.url("x"))
    witness.create_group("web")
    for turn in range(3):
        leader = cluster.leader()
        names = [f"s{turn}.{n}" for n in range(CLIENTS)]
        hearts = [opened(leader.url("x", servers=[leader]), timeout=15.0) for _ in names]
        for heart, name in zip(hearts, names, strict=True):
            heart.open_session(session(name))
            enter(heart, name)
        asleep(cluster, leader)

        def story(n: int, leader: Etcd = leader, hearts=hearts, names=names) -> tuple[object, int]:
            if n == CLIENTS:
                time.sleep(0.5)  # all the others have asked, and wait
                leader.thaw()
                return 0, 0
            notice = hearts[n].beat([names[n]]).notices[names[n]]
            leases = [lease_of(hearts[n], names[n]), *hearts[n]._sessions.witnesses.to_keep([names[n]], [])]
            assert len(leases) == 2
            return notice, min(left(witness, lease) for lease in leases)

        answers = at_once(CLIENTS + 1, story)[:CLIENTS]
        assert [notice for notice, _ in answers] == [0] * CLIENTS
        assert min(seconds for _, seconds in answers) >= TTL - 2
        for heart in hearts:
            heart.close()


def test_a_leader_that_wakes_up_ends_no_session(own_etcd_cluster, opened) -> None:
    """It finds leases that nobody has kept alive with it, and has them revoked. Ours have moved to others by
    then, with all that lives by them, and no notice is told of that."""
    cluster: Cluster = own_etcd_cluster()
    heart = opened(cluster.url("x"), timeout=3.0)
    heart.create_group("web")
    names = ["ann", "bob", "cid"]
    for name in names:
        heart.open_session(session(name, "p", ttl=3.0))
        enter(heart, name, 3.0)
    heart.commit("web", [Remark(member_id="ann", seen=0, disabled="once")])
    before = heart.read("web")
    for _ in range(2):
        leader, lease = cluster.leader(), lease_of(heart, "ann")
        leader.freeze()
        end = time.monotonic() + 5.0
        thawed = False
        while time.monotonic() < end + 1.5:
            if time.monotonic() > end and not thawed:
                leader.thaw()
                thawed = True
            assert heart.beat(names).notices == {"ann": 1, "bob": 0, "cid": 0}
            time.sleep(0.3)
        assert {lease_of(heart, name) for name in names} != {lease}
        assert len({lease_of(heart, name) for name in names}) == 1

    assert heart.read("web") == before
    assert heart.open_session(session("dan", "p", ttl=3.0)).ttl == 3.0
    assert lease_of(heart, "dan") == lease_of(heart, "ann")


def test_who_has_no_majority_takes_no_beat(own_etcd_cluster, opened) -> None:
    """The one server that is left answers keepalives as long as it thinks that it leads; nobody trusts
    them. When the others are back, the beat is taken."""
    cluster: Cluster = own_etcd_cluster()
    leader = cluster.leader()
    heart = opened(leader.url("x", servers=[leader]), timeout=1.0)
    heart.open_session(session("ann"))
    for other in cluster.followers():
        other.freeze()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            heart.beat(["ann"])
    for other in cluster.members:
        other.thaw()
    cluster.leader()

    assert heart.beat(["ann"]).notices == {"ann": 0}


def test_a_beat_finds_another_server(own_etcd_cluster, opened) -> None:
    """Whichever is killed, also the leader: of three, two are enough."""
    cluster: Cluster = own_etcd_cluster()
    heart = opened(cluster.url("x"), timeout=8.0)
    heart.open_session(session("ann"))
    leader = cluster.leader()
    leader.kill()
    started = time.monotonic()

    assert heart.beat(["ann"]).notices == {"ann": 0}
    assert time.monotonic() - started < 5
    leader.start()
    cluster.leader()
    for other in cluster.followers():
        other.kill()
        assert heart.beat(["ann"]).notices == {"ann": 0}
        other.start()


def test_who_is_not_beaten_is_ended_though_others_keep_its_lease(etcd_server, opened) -> None:
    """The sessions of a process share a lease. A heart that stops beating one of them must be able to lose
    it."""
    store = opened(etcd_server.url(etcd_server.fresh_database()))
    store.create_group("web")
    for name in ("ann", "bob"):
        store.open_session(session(name, "one process", ttl=2.0))
        enter(store, name, 2.0)
    assert lease_of(store, "ann") == lease_of(store, "bob")
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        assert store.beat(["bob"]).notices == {"bob": 0}
        time.sleep(0.2)

    assert {row.key: row.state for row in store.read("web").rows} == {"ann": State.DOWN, "bob": State.UP}
    assert store.beat(["ann", "bob"]).notices == {"ann": None, "bob": 0}


def test_a_beat_is_taken_though_another_session_cannot_be_ended(etcd_server, opened, monkeypatch) -> None:
    """That may be tried again with the next beat, and takes no time from this one."""
    store = opened(etcd_server.url(etcd_server.fresh_database()), timeout=10.0)
    store.open_sessions([session(name, "one process", ttl=2.0) for name in ("ann", "bob", "cid")])
    untils: list[float] = []

    def fails(self: Ending, name: str, held: set[str], until: float) -> None:
        untils.append(until - time.monotonic())
        raise OutcomeUnknown("what ends it was not answered")

    ends = time.monotonic() + 2.5
    with monkeypatch.context() as patch:
        patch.setattr(Ending, "end", fails)
        while time.monotonic() < ends:
            assert store.beat(["ann"]).notices == {"ann": 0}
            time.sleep(0.2)
    assert untils
    assert max(untils) <= ENDING
    assert store.beat(["ann"]).notices == {"ann": 0}
    assert store.beat(["ann", "bob", "cid"]).notices == {"ann": 0, "bob": None, "cid": None}


def test_many_sessions_of_a_process_are_one_lease(etcd_server, opened) -> None:
    """They go in one keepalive; the lease goes with the last of them."""
    store = opened(etcd_server.url(etcd_server.fresh_database()))
    names = [f"s{n}" for n in range(300)]
    store.open_sessions([session(name, "p") for name in names])
    lease = lease_of(store, "s0")
    assert {lease_of(store, name) for name in names} == {lease}
    assert store.beat(names).notices == dict.fromkeys(names, 0)
    for name in names:
        store.close_session(name)

    assert left(store, lease) == -1
    assert store.beat(names[:2]).notices == {"s0": None, "s1": None}


def test_a_lease_that_is_over_makes_room_for_another(etcd_server, opened) -> None:
    """Revoked from outside: its sessions are lost, and whoever comes back gets a new one."""
    store = opened(etcd_server.url(etcd_server.fresh_database()))
    store.open_session(session("ann", "p"))
    lease = lease_of(store, "ann")
    etcd_server.call("kv/lease/revoke", {"ID": lease})
    assert store._client.ask(KEEP_ALIVE, rpc.LeaseKeepAliveRequest(ID=lease)).TTL == 0
    assert store.beat(["ann"]).notices == {"ann": None}

    assert store.open_session(session("ann again", "p")).ttl == TTL
    assert store.beat(["ann again"]).notices == {"ann again": 0}


def slowed(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> list[str]:
    """Each request takes so long; the paths of those that were sent."""
    sent, real = [], Client._ask_one

    def ask(self: Client, host: str, method: Method, *how: Any) -> Any:
        sent.append(method.path)
        time.sleep(seconds)
        return real(self, host, method, *how)

    monkeypatch.setattr(Client, "_ask_one", ask)
    return sent


def test_after_an_election_many_sessions_move_in_few_requests(own_etcd, opened, monkeypatch) -> None:
    """With all that lives with them; and no notice is told of it."""
    server: Etcd = own_etcd()
    heart = opened(server.url("x"))
    names = [f"s{n:03}" for n in range(300)]
    heart.open_sessions([session(name, "p") for name in names])
    heart.create_group("web")
    heart.commit_together("web", [Wish([entering(name)], (), name) for name in names])
    before = heart.read("web")
    server.restart()
    heart.beat(["nobody"])  # it has found the server
    sent = slowed(monkeypatch)

    assert heart.beat(names).notices == dict.fromkeys(names, 0)
    assert len(sent) < 40
    assert {term_of(lease_of(heart, name)) for name in names} == {server.term()}
    assert heart.read("web") == before


def test_who_moves_many_sessions_loses_none_by_taking_long(own_etcd, opened, monkeypatch) -> None:
    """The leases are kept alive again before there are more: those that have moved are told, the others go
    with the next beats."""
    server: Etcd = own_etcd()
    heart = opened(server.url("x"), timeout=10.0)
    names = [f"s{n:03}" for n in range(300)]
    heart.open_sessions([session(name, "p", ttl=6.0) for name in names])
    heart.beat(names)
    server.restart()
    slowed(monkeypatch, 0.15)
    answers = []
    left = names
    while left:
        answers.append(heart.beat(left).notices)
        assert answers[-1]
        assert set(answers[-1].values()) == {0}
        left = [name for name in left if name not in answers[-1]]

    assert len(answers) > 1
    assert {term_of(lease_of(heart, name)) for name in names} == {server.term()}
    assert heart.beat(names).notices == dict.fromkeys(names, 0)


def test_what_nobody_was_asked_has_not_been_done(etcd_server, opened, monkeypatch) -> None:
    """A write that met no connection is not one of which nobody knows whether it was carried out; but once it
    may have arrived somewhere, it is."""
    client = opened(etcd_server.url(etcd_server.fresh_database()), timeout=0.5)._client
    nobody, somebody = (f"{HOST}:{port}" for port in (free_port(), etcd_server.port))
    monkeypatch.setattr(client, "hosts", [nobody])
    with pytest.raises(StoreUnavailable):
        client.send(TXN, txn([], []))
    monkeypatch.setattr(client, "hosts", [nobody, somebody])
    assert not client.send(TXN, txn([], [])).doubled
    loses_an_answer(monkeypatch, TXN)
    monkeypatch.setattr(client, "_at", 1)
    assert client.send(TXN, txn([], [])).doubled
    loses_an_answer(monkeypatch, TXN, times=10_000)
    monkeypatch.setattr(client, "_at", 1)
    with pytest.raises(OutcomeUnknown):
        client.send(TXN, txn([], []))


def loses_an_answer(monkeypatch: pytest.MonkeyPatch, of: Method, times: int = 1) -> None:
    """So many requests of this kind are carried out, and nobody hears of it."""
    lost: list[Any] = []
    real = Client._ask_one

    def ask(self: Client, host: str, method: Method, *how: Any) -> Any:
        told = real(self, host, method, *how)
        if method is of and len(lost) < times:
            lost.append(told)
            raise Elsewhere("the answer was lost")
        return told

    monkeypatch.setattr(Client, "_ask_one", ask)


def test_a_lease_that_is_asked_for_twice_is_granted_once(own_etcd, opened, monkeypatch) -> None:
    """Its answer was lost. The second one says that it exists, and so it is ours: to open a session, to move
    one after an election, and to have a place."""
    server: Etcd = own_etcd()
    heart = opened(server.url("x"))
    heart.create_group("web")
    with monkeypatch.context() as patch:
        loses_an_answer(patch, GRANT)
        assert heart.open_session(session("ann", "p")).ttl == TTL
    server.restart()
    with monkeypatch.context() as patch:
        loses_an_answer(patch, GRANT)
        assert heart.beat(["ann"]).notices == {"ann": 0}
    with monkeypatch.context() as patch:
        loses_an_answer(patch, GRANT)
        assert isinstance(heart.commit("web", [entering("ann")], by="ann"), Committed)
    assert heart.beat(["ann"]).notices == {"ann": 0}


def test_a_lease_of_somebody_else_is_not_taken_for_ours(etcd_server, opened) -> None:
    """Whose number we happen to choose."""
    store = opened(etcd_server.url(etcd_server.fresh_database()))
    store.open_session(session("ann", "p"))
    with pytest.raises(StoreUnavailable, match="not ours"):
        grant(store._client, lease_of(store, "ann"), 5, store._client.until())
