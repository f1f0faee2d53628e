"""A server of etcd that is cut off from the others, while its clients reach it as before. Nobody's beat is
taken there, and so nobody goes on to lead by it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from headcount.errors import HeadcountError
from headcount.model import Session
from headcount.stores import make
from tests.processes.member import now
from tests.processes.test_etcd_clusters import SOON, TIMEOUT, TTL, leading, never_two
from tests.processes.town import Process, Town, trust, until
from tests.servers.etcd import Cluster, Etcd

PATIENT = {"heartbeat_interval": 100, "election_timeout": 1000}
"""Milliseconds: on a busy machine two servers that are left must not take each other for dead."""


@pytest.fixture
def place(own_etcd_cluster: Callable[..., Cluster], build: Callable[..., Town]) -> tuple[Cluster, Town]:
    cluster = own_etcd_cluster(cuttable=True, **PATIENT)
    return cluster, build(cluster.url("town", timeout=TIMEOUT))


def by_way_of(cluster: Cluster, town: Town, name: str, *servers: Etcd, ttl: float = TTL) -> Process:
    """A member that reaches these servers, the first of them first."""
    url = cluster.members[0].url("town", servers=list(servers), timeout=TIMEOUT)
    return town.start(name, url=url, lead=True, ttl=ttl).joined()


@pytest.mark.parametrize("which", ["a follower", "the leader"])
def test_who_knows_only_a_server_that_is_cut_off(place: tuple[Cluster, Town], which: str) -> None:
    """It leads; it is not trusted any more when another one begins, and is back when the wire is mended."""
    cluster, town = place
    victim = cluster.followers()[0] if which == "a follower" else cluster.leader()
    others = [member for member in cluster.members if member is not victim]
    ann = by_way_of(cluster, town, "ann", victim)
    ann.wait_for("trusted", SOON)
    bob = by_way_of(cluster, town, "bob", *others)
    time.sleep(TTL / 2)
    since = {"ann": ann.heard, "bob": bob.heard}
    ann.wait_for("trusted", SOON, since["ann"])
    assert bob.said("trusted") == []
    cluster.cut_off(victim)
    cut = now()
    until(lambda: bool(bob.said("trusted", since["bob"])), lambda: trust([ann, bob]), TTL + SOON)
    (last,) = [last for _, _, last, name in trust([ann]) if name == "ann"]
    (begin,) = {said["first"] for said in bob.said("trusted", since["bob"]) if said["first"]}
    assert last < cut + TTL
    assert last < begin < cut + TTL + 5.0
    with pytest.raises(HeadcountError):
        beaten_by_way_of(victim)
    cluster.mend()
    ann.wait_for("change", 2 * TTL + SOON, since["ann"], kind="rejoined")
    assert list(never_two([ann, bob])) == []


def test_who_knows_other_servers_leads_on(place: tuple[Cluster, Town]) -> None:
    """The one that it is at is silent, and the next one is asked: the same life, and the same term. (So also
    when the wire is mended, and the one that was cut off makes the others elect again, as etcd does: which
    may take longer than the time between two beats, but not than two.)"""
    cluster, town = place
    victim = cluster.followers()[0]
    others = [member for member in cluster.members if member is not victim]
    ann = by_way_of(cluster, town, "ann", victim, *others, ttl=3 * TTL)
    ann.wait_for("trusted", SOON)
    bob = by_way_of(cluster, town, "bob", *others, ttl=3 * TTL)
    time.sleep(TTL)
    since = {"ann": ann.heard, "bob": bob.heard}
    cluster.cut_off(victim)
    time.sleep(5 * TTL)  # whoever was about to go down would have
    cluster.mend()
    time.sleep(2 * TTL)

    for process in (ann, bob):
        for kind in ("down", "lost", "left"):
            assert process.said("change", since[process.name], kind=kind) == []
    assert leading([ann, bob], since) == []
    assert [name for *_, name in trust([ann, bob])] == ["ann"]
    (last,) = [last for _, _, last, _ in trust([ann])]
    assert last > now() - 1.0
    assert list(never_two([ann, bob])) == []


def beaten_by_way_of(server: Etcd) -> None:
    """Somebody opens a session there, and beats."""
    store = make(server.url("town", servers=[server], timeout=1.0))
    try:
        store.open_session(Session(id="x", instance="x", host="h", process="x", ttl=TTL))
        store.beat(["x"])
    finally:
        store.close()
