"""etcd: deltas are read off the history, and the dead are settled by whoever reads first."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headcount.errors import StoreUnavailable
from headcount.model import Delta, Snapshot, State, Wish
from headcount.stores.base import Store
from headcount.stores.etcd import access, settling
from headcount.stores.etcd.deltas import COMMITS
from headcount.stores.etcd.ops import MOST
from headcount.testing.conformance.reading import DEEDS, Deed, in_order, replayed
from headcount.testing.conformance.town import Town, at_once, clients, committed
from tests.conformance.harnesses import EtcdSessions


@pytest.fixture
def harness(etcd_server):
    harness = EtcdSessions(etcd_server)
    yield harness
    harness.close()


def later(store: Store, before: Snapshot) -> Snapshot:
    """The later picture, however it is told."""
    found = store.read(before.group, before.revision)
    return in_order(replayed(before, found) if isinstance(found, Delta) else found)


def test_deltas_make_the_same_picture(harness) -> None:
    """Whatever is done, and wherever one begins. (Time is left out: it cannot be moved here. Sessions end by
    being closed, which looks the same.)"""
    deeds = [deed for deed in DEEDS if deed.__name__ != "_time"]
    deed = st.tuples(st.sampled_from(deeds), st.sampled_from(["ann", "bob"]), st.integers(0, 7))
    groups = (f"town {n}" for n in itertools.count())
    store, told = harness.store(), set()

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(deed, min_size=1, max_size=14))
    def story(deeds: list[tuple[Deed, str, int]]) -> None:
        town = Town(harness, next(groups), store=store)
        pictures = [town.snapshot()]
        for deed, name, number in deeds:
            deed(town, name, number)
            told.add(type(store.read(town.group, pictures[-1].revision)))
            pictures.append(town.snapshot())
        for earlier, now in itertools.pairwise(pictures):
            assert (earlier.revision < now.revision) == (in_order(earlier) != in_order(now))
        for picture in pictures:
            assert later(store, picture) == in_order(pictures[-1])

    story()
    assert told == {Delta, Snapshot}


def test_a_death_is_not_missed_by_who_reads_deltas(harness) -> None:
    """Nobody has committed since; that somebody is gone is seen all the same, and settled."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter()
    bob.enter()
    seen = town.snapshot()
    assert isinstance(town.store.read(town.group, seen.revision), Delta)
    ann.store.close_session(ann.session)
    now = later(town.store, seen)

    assert {row.key: row.state for row in now.rows} == {"ann": State.DOWN, "bob": State.UP}
    assert isinstance(town.store.read(town.group, now.revision), Delta)


def test_who_left_and_ends_costs_one_whole_reading(harness) -> None:
    """Of whoever is first; nothing has changed, and so the revision has not."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    bob.enter()
    ann.leave(row)
    ann.store.close_session(ann.session)
    seen = town.snapshot()

    assert isinstance(town.store.read(town.group, seen.revision), Delta)
    assert in_order(town.snapshot()) == in_order(seen)


def test_a_death_is_settled_once(harness) -> None:
    """However many read at the same moment: one line of history, one revision."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(5)]
    for person in people:
        person.enter()
    before = town.revision
    stores = clients(harness, 6)
    for person in people[:2]:
        town.store.close_session(person.session)

    def look(n: int) -> Snapshot:
        found = stores[n].read(town.group)
        assert isinstance(found, Snapshot)
        return in_order(found)

    pictures = at_once(6, look)

    assert all(picture == pictures[0] for picture in pictures)
    assert pictures[0].revision == before + 2
    assert [entry.what for entry in town.store.history(town.group)].count("down") == 2


def test_the_dead_may_have_published_much(harness) -> None:
    """More than one transaction takes: they go down in several, and are down for everybody."""
    town = Town(harness)
    people = [town.person(f"p{n}", process="one") for n in range(30)]
    for person in people:
        committed(person.propose(person.entering(capabilities=b"x" * 60_000)))
    seen = town.snapshot()
    harness.end_session(town.store, people[0].session)  # and with it, all that share its lease

    assert {row.state for row in town.snapshot().rows} == {State.DOWN}
    assert len(town.claims()) == 30
    assert later(town.store, seen) == in_order(town.snapshot())


def test_deaths_that_are_settled_in_part_are_not_missed(harness, monkeypatch) -> None:
    """There are more than go into one commit, and who settles them gives up between two: whoever reads what
    has changed sees all of them down."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(5)]
    for person in people:
        person.enter()
    seen = town.snapshot()
    for person in people:
        town.store.close_session(person.session)
    monkeypatch.setattr(settling, "SETTLED", 4)
    other, write = harness.store(), access.Access.write
    written: list[int] = []

    def once(self: access.Access, *args: Any, **how: Any) -> bool:
        if written:
            raise StoreUnavailable("it goes no further")
        written.append(1)
        return write(self, *args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(access.Access, "write", once)
        with pytest.raises(StoreUnavailable):
            other.read(town.group)

    assert later(other, seen) == in_order(town.snapshot())
    assert {row.state for row in later(other, seen).rows} == {State.DOWN}
    assert [entry.what for entry in town.store.history(town.group)].count("down") == 5
    assert isinstance(town.store.read(town.group, town.revision), Delta)


def test_those_with_long_names_may_die_together(harness) -> None:
    """Their rows are small, and what is written of them is not."""
    town = Town(harness)
    ann = town.person("ann", process="one")
    names = [f"{n:03}{'é' * 500}" for n in range(400)]
    for n in range(0, len(names), 40):
        wishes = [Wish([ann.entering(x, member_id=x)], (), ann.session) for x in names[n : n + 40]]
        for outcome in town.store.commit_together(town.group, wishes):
            committed(outcome)
    town.store.close_session(ann.session)

    assert {row.state for row in harness.store().read(town.group).rows} == {State.DOWN}


def test_who_is_far_behind_reads_all(harness) -> None:
    """So many commits, or so many records, that the whole group costs less."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    behind = town.snapshot()
    for n in range(COMMITS + 1):
        row = committed(ann.propose(ann.entering(seen=row.revision, capabilities=b"%d" % n))).rows[0]
    near = town.snapshot()
    committed(ann.propose(*(ann.entering(f"{n}", mode="x") for n in range(MOST + 1))))
    for seen in (behind, near):
        assert isinstance(town.store.read(town.group, seen.revision), Snapshot)
        assert later(town.store, seen) == in_order(town.snapshot())


def test_what_is_compacted_is_no_gap(harness, etcd_server) -> None:
    """The history is in keys of its own: etcd may forget what they were."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    seen = town.snapshot()
    ann.amend(row, capabilities=b"x")
    etcd_server.compact()

    assert isinstance(town.store.read(town.group, seen.revision), Delta)
    assert later(town.store, seen) == in_order(town.snapshot())
