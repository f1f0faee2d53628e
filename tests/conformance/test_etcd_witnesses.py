"""etcd: whoever has a place lives by a witness as well, which tells an early end from a death."""

from __future__ import annotations

import time

import pytest

from headcount.model import Delta, Standing, State
from headcount.stores.etcd.store import EtcdStore
from headcount.stores.etcd.terms import keep, term_of
from headcount.testing.conformance.town import Person, Town, committed
from tests.conformance.harnesses import EtcdSessions
from tests.servers.etcd import Cluster, Etcd


@pytest.fixture
def harness(etcd_server):
    harness = EtcdSessions(etcd_server)
    yield harness
    harness.close()


def client(person: Person) -> EtcdStore:
    assert isinstance(person.store, EtcdStore)
    return person.store


def held(harness: EtcdSessions) -> set[tuple[str, str]]:
    """Group and session of what is held."""
    root = f"/{harness.prefix}/default/held/"
    found = [key.removeprefix(root).split("/") for key in harness.server.keys(root)]
    return {(group, session) for group, session in found}


def witness(harness: EtcdSessions, person: Person) -> int:
    return int(harness.server.lease_of(f"/{harness.prefix}/default/held/town/{person.session}"))


def lives(person: Person, lease: int) -> bool:
    store = client(person)
    return bool(keep(store._client, lease, store._client.until()).TTL > 0)


def test_who_has_no_place_has_no_witness(harness) -> None:
    """Its beat keeps one lease alive, and nothing tells of it. That of another one of the process does not
    make a difference either."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    row = ann.enter(stand=False)
    assert ann.beat() == 0
    assert held(harness) == set()
    assert client(ann)._sessions.witnesses.to_keep([ann.session], [1, 2]) == set()
    ann.amend(row, standing=Standing.ANEW)

    assert held(harness) == {("town", ann.session)}
    assert ann.beat() == 0


def test_sessions_of_a_process_share_a_witness(harness) -> None:
    """It goes with the last of them; what one holds goes with that one."""
    town, store = Town(harness), harness.store()
    people = [Person(town, store, name, f"{name}.s", process="one") for name in ("ann", "bob", "cid")]
    for person in people[:2]:
        person.enter()
    lease = witness(harness, people[0])
    people[2].enter(stand=False)
    assert witness(harness, people[1]) == lease
    store.close_session(people[0].session)
    assert held(harness) == {("town", people[1].session)}
    assert town.claims() == ()
    for person in people[1:]:
        assert lives(people[2], lease)
        store.close_session(person.session)

    assert held(harness) == set()
    assert not lives(people[2], lease)


def test_a_witness_that_is_over_is_found_by_the_next_beat(harness) -> None:
    """Somebody revokes it by hand, of all things. What was held is held by another one, in all groups."""
    town, other = Town(harness), Town(harness, "other")
    ann = town.person("ann", own_client=True)
    ann.enter()
    committed(ann.store.commit(other.group, [ann.entering()], by=ann.session))
    lease = witness(harness, ann)
    harness.server.call("kv/lease/revoke", {"ID": lease})
    assert held(harness) == set()
    assert ann.beat() == 0

    assert held(harness) == {("town", ann.session), ("other", ann.session)}
    assert witness(harness, ann) != lease
    harness.end_session(ann.store, ann.session)
    assert len(town.claims()) == 1


def test_a_witness_that_is_over_hinders_no_commit(harness) -> None:
    """Nobody has beaten since."""
    town, other = Town(harness), Town(harness, "other")
    ann = town.person("ann", own_client=True)
    ann.enter()
    harness.server.call("kv/lease/revoke", {"ID": witness(harness, ann)})
    committed(ann.store.commit(other.group, [ann.entering()], by=ann.session))
    assert held(harness) == {("other", ann.session)}
    assert ann.beat() == 0

    assert held(harness) == {("town", ann.session), ("other", ann.session)}


def test_who_is_not_beaten_holds_nothing(harness) -> None:
    """Others of its process keep lease and witness alive. Its time is over all the same."""
    town, store = Town(harness), harness.store()
    ann, bob = (Person(town, store, name, f"{name}.s", process="one", ttl=2.0) for name in ("ann", "bob"))
    ann.enter()
    bob.enter()
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        assert bob.beat() == 0
        time.sleep(0.2)

    assert {key: row.state for key, row in town.rows().items()} == {"ann": State.DOWN, "bob": State.UP}
    assert held(harness) == {("town", bob.session)}
    assert town.claims() == ()


def test_who_reads_deltas_hears_when_nothing_is_held_any_more(harness) -> None:
    """Nobody has committed since. It rings, and the claim is gone."""
    town = Town(harness)
    ann, bob = town.person("ann", own_client=True), town.person("bob", own_client=True)
    ann.enter()
    bob.enter()
    harness.end_session(ann.store, ann.session)
    seen = town.snapshot()
    assert len(seen.claims) == 1
    bell = bob.store.doorbell()
    while bell.wait(0.2).groups:
        pass
    ann.store.close_session(ann.session)

    assert "town" in (bell.wait(5).groups or ())
    now = bob.store.read("town", seen.revision)
    assert now.claims == ()
    assert now.revision > seen.revision
    assert isinstance(bob.store.read("town", now.revision), Delta)
    bell.close()


def test_a_presence_that_is_deleted_by_hand_is_a_claim(harness) -> None:
    """The session lives, and is told of it like of any other claim: it gives its place up itself."""
    town = Town(harness)
    ann, bob = town.person("ann", own_client=True), town.person("bob", own_client=True)
    ann.enter()
    bob.enter()
    assert ann.beat() == 0
    harness.server.delete(f"/{harness.prefix}/default/here/town/{ann.session}")
    (claim,) = town.claims()

    assert claim.session == ann.session
    assert town.row("ann").state is State.DOWN
    assert ann.beat() == 1
    assert bob.beat() == 0


def test_after_an_election_a_place_is_held_in_the_new_term(own_etcd_cluster) -> None:
    """With the session goes what it holds, to where no older leader can end it."""
    cluster: Cluster = own_etcd_cluster()
    server: Etcd = cluster.members[0]
    harness = EtcdSessions(server)
    harness.patience = 5.0
    town = Town(harness)
    ann = town.person("ann", own_client=True, ttl=20.0)
    ann.enter()
    before, leader = witness(harness, ann), cluster.leader()
    leader.kill()
    leader.start()
    cluster.leader()
    assert ann.beat() == 0

    assert term_of(witness(harness, ann)) == server.term() > term_of(before)
    lease = int(server.lease_of(f"/{harness.prefix}/default/life/{ann.session}"))
    assert term_of(lease) == server.term()
    harness.close()
