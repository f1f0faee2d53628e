"""Three etcd servers under fifty members: one dies, one sleeps, most are gone for a while. Nobody leads
beside another, and everybody is there in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.processes.crowd import Crowd
from tests.processes.member import now
from tests.processes.town import Event, Process, Town, faults_of_trust, leader, trust, until
from tests.servers.etcd import Cluster

TTL = 3.0
CROWD = 50
SOON = 20.0

TIMEOUT = 2.0


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
    """Another one is elected within a second, and gives everybody a whole ttl. Killed, and then frozen; and
    before that a follower is killed, whose clients go to the others."""
    cluster, town = place
    crowd = Crowd(town, CROWD, ttl=TTL, watch=True)
    follower = next(one for one in cluster.members if one is not cluster.leader())
    follower.kill()
    same_lives(crowd, time.time())
    follower.start()
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


def revoke_the_lease_of(cluster: Cluster, town: Town, ruler: Process) -> float:
    """What an administrator can do; and when it was done."""
    session = next(row.session for row in town.snapshot().rows if row.member_id == ruler.name)
    cluster.followers()[0].revoke(f"/town/default/life/{session}")
    return now()


def test_a_session_that_is_ended_from_outside(place: tuple[Cluster, Town]) -> None:
    """An administrator revokes the lease of who leads. It stops before its successor begins, which is within
    a second, and comes back behind the others."""
    cluster, town = place
    people = ruling(town)
    for _ in range(3):
        ruler = leader(people)
        since = {process.name: process.heard for process in people}
        revoked = revoke_the_lease_of(cluster, town, ruler)
        ruler.wait_for("change", SOON, since[ruler.name], kind="lost")
        ruler.wait_for("change", SOON, since[ruler.name], kind="rejoined")
        until(lambda ruler=ruler: leader(people) is not ruler, lambda: trust(people), SOON)  # type: ignore[misc]
        assert min(said["at"] for said in leading(people, since)) - revoked < 1.0
    assert list(never_two(people)) == []
    assert len(trust(people)) >= 4


@pytest.mark.parametrize("awake_again", [True, False])
def test_the_lease_of_who_is_stopped_is_revoked(place: tuple[Cluster, Town], *, awake_again: bool) -> None:
    """It has heard of nothing, and would trust if it went on: so nobody else does before its time is over;
    and then somebody does. If it goes on before that, it gives its place up."""
    cluster, town = place
    people = ruling(town)
    ruler = leader(people)
    since = {process.name: process.heard for process in people}
    stopped = town.stop(ruler)
    revoke_the_lease_of(cluster, town, ruler)
    time.sleep(0.5)
    assert leading(people, since) == []
    if awake_again:
        stopped = ruler.go_on()
    until(lambda: bool(leading(people, since)), lambda: [p.tail() for p in people], TTL + SOON)
    began = min(said["at"] for said in leading(people, since)) - stopped
    if not awake_again:
        assert began > TTL - TTL / 3 - 0.3, "it would have been trusted for longer than that"
        ruler.go_on()
    assert began < (1.0 if awake_again else TTL + 2.5)
    ruler.wait_for("change", SOON, since[ruler.name], kind="rejoined")
    assert list(never_two(people)) == []


def test_who_is_killed_is_followed_at_once_when_its_time_is_over(place: tuple[Cluster, Town]) -> None:
    """That its place is kept for whoever is ended early does not make others wait."""
    _, town = place
    people = ruling(town)
    while len(people) > 1:
        ruler = leader(people)
        people.remove(ruler)
        since = {process.name: process.heard for process in people}
        killed = ruler.kill()
        until(lambda: bool(leading(people, since)), lambda: [p.tail() for p in people], TTL + SOON)  # noqa: B023
        assert min(said["at"] for said in leading(people, since)) - killed < TTL + 2.5
    assert "vacated" not in {entry.what for entry in town.store.history("workers")}


def leading(people: list[Process], since: dict[str, int]) -> list[Event]:
    """What those said who have begun to lead since."""
    return [said for process in people for said in process.said("leads", since[process.name])]
