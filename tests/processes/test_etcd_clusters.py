"""Three etcd servers under fifty members: one dies, one sleeps, most are gone for a while. Nobody leads
beside another, and everybody is there in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from headcount.stores.etcd.store import EtcdStore
from tests.processes.crowd import Crowd
from tests.processes.town import Process, Town, faults_of_trust, leader, trust, until
from tests.servers.etcd import Cluster

TTL = 3.0
CROWD = 50
SOON = 20.0

TIMEOUT = 2.0

HEARD = 0.25
"""Seconds within which the watch tells whoever is lost, also on a busy machine."""


@pytest.fixture
def place(own_etcd_cluster: Callable[..., Cluster], build: Callable[..., Town]) -> tuple[Cluster, Town]:
    cluster = own_etcd_cluster()
    return cluster, build(cluster.url("town", timeout=TIMEOUT))


def ruling(town: Town) -> list[Process]:
    """Three who lead one after the other, and tell when they are trusted."""
    people = town.members("ann", "ben", "cid", lead=True, ttl=TTL)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    return people


def never_two(people: list[Process]) -> Iterator[str]:
    for process in people:
        process.stop()
    yield from faults_of_trust(trust(people))


def trusted_again(people: list[Process]) -> None:
    since = {process.name: process.heard for process in people}
    until(
        lambda: any(p.said("trusted", since[p.name]) for p in people),
        lambda: [p.tail() for p in people],
        2 * TTL + SOON,
    )


def same_lives(crowd: Crowd, since: float) -> None:
    """All have beaten since, and nobody has heard of anything."""
    crowd.all_beat(since)
    time.sleep(1.5 * TTL)  # whoever was about to go down would have
    rows = crowd.rows()
    assert {name: row.incarnation for name, row in rows.items() if row.live} == crowd.lives
    for kind in ("down", "lost", "superseded", "left"):
        assert crowd.process.said("change", crowd.heard, kind=kind) == []


def test_a_leader_of_etcd_that_dies_costs_nobody_anything(place: tuple[Cluster, Town]) -> None:
    """Another one is elected within a second, and gives everybody a whole ttl. Killed, and then frozen."""
    cluster, town = place
    crowd = Crowd(town, CROWD, ttl=TTL, watch=True)
    dead = cluster.leader()
    dead.kill()
    cluster.leader()
    same_lives(crowd, time.time())
    dead.start()
    cluster.leader().freeze()
    same_lives(crowd, time.time())
    for member in cluster.members:
        member.thaw()
    same_lives(crowd, time.time())


def test_who_leads_while_the_leaders_of_etcd_sleep(place: tuple[Cluster, Town]) -> None:
    """Each in turn is stopped for longer than the ttl, and woken again with all that waited for it."""
    cluster, town = place
    people = ruling(town)
    for _ in range(3):
        sleeper = cluster.leader()
        sleeper.freeze()
        time.sleep(1.3 * TTL)  # how long it sleeps is the point
        sleeper.thaw()
        trusted_again(people)
    assert list(never_two(people)) == []


def test_most_are_gone_for_longer_than_the_ttl(place: tuple[Cluster, Town]) -> None:
    """Nobody is trusted meanwhile. When they are back, so is everybody, by itself; tokens only grow."""
    cluster, town = place
    people = ruling(town)
    crowd = Crowd(town, CROWD, ttl=TTL, watch=False)
    two = cluster.followers()
    for member in two:
        member.kill()
    time.sleep(2 * TTL)
    gone = {process.name: process.heard for process in people}
    time.sleep(TTL)
    assert [process.said("trusted", gone[process.name]) for process in people] == [[], [], []]
    for member in two:
        member.launch()
    for member in two:
        member.wait_until_it_answers()

    def back() -> bool:
        names = {row.member_id for row in town.snapshot().rows if row.live}
        return names >= {*crowd.names, "ann", "ben", "cid"}

    until(back, town.states, 2 * TTL + SOON)
    trusted_again(people)
    assert list(never_two(people)) == []


def test_a_session_that_is_ended_from_outside(place: tuple[Cluster, Town]) -> None:
    """An administrator revokes the lease of who leads: it hears of it when everybody does, and comes back
    behind the others. (That it stops before its successor begins, nobody can promise: to etcd, a lease that
    was revoked is one that was over. Tokens grow.)"""
    cluster, town = place
    people = ruling(town)
    for _ in range(3):
        ruler = leader(people)
        assert isinstance(town.store, EtcdStore)
        since = {process.name: process.heard for process in people}
        session = next(row.session for row in town.snapshot().rows if row.member_id == ruler.name)
        town.store.beat([session])
        lease = town.store._sessions._lease_of[session]
        cluster.members[0].call("kv/lease/revoke", {"ID": lease})
        ruler.wait_for("change", SOON, since[ruler.name], kind="lost")
        ruler.wait_for("change", SOON, since[ruler.name], kind="rejoined")
        until(lambda ruler=ruler: leader(people) is not ruler, lambda: trust(people), SOON)  # type: ignore[misc]
    for process in people:
        process.stop()
    seen = trust(people)
    assert len(seen) >= 4
    for before, after in pairwise(seen):
        assert after[0] > before[0]
        assert after[1] > before[2] - HEARD
