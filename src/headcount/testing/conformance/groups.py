"""Groups: named, listed, never mixed up, and never begun again at an old number."""

from __future__ import annotations

import pytest

from headcount.errors import GroupNotEmpty, GroupNotFound
from headcount.model import HIDDEN, Remark, Snapshot, State
from headcount.testing.conformance.harness import Harness
from headcount.testing.conformance.town import Town, at_once, clients, committed

STRANGE = [
    "@:.#/ %",
    "a/b",
    "a.b",
    "a:b",
    "a b",
    "%2F",
    "..",
    "-",
    "*",
    "?x=1&y=2",
    "[a]{b}",
    '\'; DROP TABLE "x"; --',
    "back\\slash",
    "under_score",
    "per%cent",
    "字节",
    "Ω≈ç√",
    "😀",
    "~",
    "0",
    "null",
    "é" * 100,
    "x" * 200,
]
"""Ids that a person may choose: printable, up to 200 bytes of UTF-8."""

ALIKE = ["name", "Name", "NAME", "náme", "na\u0301me", "name ", "ñame", "n\u0430me", "ﬀ", "ff", "ß", "ss"]
"""Ids that a careless collation or normalisation would take for one another."""


def test_a_group_is_created_once(harness: Harness) -> None:
    """Creating a group that is there has no effect and says so."""
    store = harness.store()

    assert store.create_group("town")
    assert not store.create_group("town")


def test_creating_a_group_again_keeps_its_rows(harness: Harness) -> None:
    """The second create touches nothing, not even the revision."""
    town = Town(harness)
    town.person("ann").enter()
    before = town.snapshot()

    assert not harness.store().create_group(town.group)
    assert town.snapshot() == before


def test_groups_are_listed_sorted(harness: Harness) -> None:
    """By code point, whatever the backend's collation thinks; also those that are empty."""
    store = harness.store()
    for group in ["b", "é", "a", "Z", "_", "10", "9"]:
        store.create_group(group)

    assert store.groups() == sorted(["b", "é", "a", "Z", "_", "10", "9"])


def test_no_group_no_list(harness: Harness) -> None:
    """A store that has just been made lists nothing."""
    assert harness.store().groups() == []


def test_every_client_sees_a_new_group(harness: Harness) -> None:
    """What one created, another lists and reads."""
    other = harness.store()
    harness.store().create_group("town")

    assert other.groups() == ["town"]
    assert isinstance(other.read("town"), Snapshot)


def test_hidden_groups_are_not_listed(harness: Harness) -> None:
    """A lock is a group nobody lists, which can be written and read all the same."""
    town = Town(harness, HIDDEN + "lock/cron")
    town.person("ann").enter()

    assert town.store.groups() == []
    assert list(town.rows()) == ["ann"]


def test_deleting_what_is_not_there_says_so(harness: Harness) -> None:
    """It has no effect, and is no error."""
    assert not harness.store().delete_group("town")


def test_a_deleted_group_is_gone_for_everybody(harness: Harness) -> None:
    """It is not listed, and cannot be read."""
    store, other = clients(harness, 2)
    store.create_group("town")
    assert isinstance(other.read("town"), Snapshot)

    assert store.delete_group("town")
    assert other.groups() == []
    with pytest.raises(GroupNotFound):
        other.read("town")


def test_a_group_with_a_live_row_is_not_deleted(harness: Harness) -> None:
    """Its members would be left without a place to be seen in; nothing of it changes."""
    town = Town(harness)
    town.person("ann").enter()
    before = town.snapshot()

    with pytest.raises(GroupNotEmpty):
        harness.store().delete_group(town.group)
    assert town.snapshot() == before


def test_a_group_with_a_claim_is_not_deleted(harness: Harness) -> None:
    """Somebody may still trust a place in it."""
    town = Town(harness)
    town.remove(town.person("ann").enter())
    assert town.row("ann").state is State.LEFT

    with pytest.raises(GroupNotEmpty):
        town.store.delete_group(town.group)


def test_dead_rows_and_marks_go_with_their_group(harness: Harness) -> None:
    """They do not hold it back, and do not come back under the same name."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.leave(ann.enter())
    bob.enter()
    bob.store.close_session(bob.session)
    town.mark("eve", expelled=True)

    assert town.store.delete_group(town.group)
    assert town.store.create_group(town.group)
    assert (town.rows(), town.marks(), town.claims()) == ({}, {}, ())


def test_a_group_that_is_not_there_cannot_be_used(harness: Harness) -> None:
    """Reading it or committing to it is a mistake that is named."""
    store = harness.store()

    with pytest.raises(GroupNotFound):
        store.read("nowhere")
    with pytest.raises(GroupNotFound):
        store.read("nowhere", 1)
    with pytest.raises(GroupNotFound):
        store.commit("nowhere", [Remark(member_id="ann", seen=0, disabled="")])
    with pytest.raises(GroupNotFound):
        store.last_seen("nowhere")
    assert store.groups() == []


def test_a_group_made_again_starts_above(harness: Harness) -> None:
    """A fencing token is never handed out twice, not even by another group of the same name."""
    town = Town(harness)
    ann = town.person("ann")
    for _ in range(5):
        ann.leave(old := ann.enter())
    end = town.revision
    town.store.delete_group(town.group)
    town.store.create_group(town.group)

    assert town.revision > end
    assert ann.enter().standing_since > old.standing_since


def test_deleting_a_young_group_does_not_lower_the_floor(harness: Harness) -> None:
    """Two groups deleted, the one with fewer commits last: the older one starts above all the same."""
    town = Town(harness)
    ann = town.person("ann")
    town.store.create_group("young")
    for _ in range(20):
        ann.leave(ann.enter())
    end = town.revision
    town.store.delete_group(town.group)
    town.store.delete_group("young")
    town.store.create_group(town.group)

    assert town.revision > end


def test_one_of_many_creators_wins(harness: Harness) -> None:
    """However many create a group at once, one is told that it did."""
    stores = clients(harness, 6)

    def create(group: str) -> list[bool]:
        return at_once(len(stores), lambda n: stores[n].create_group(group))

    assert [sum(create(group)) for group in ["first", "second", "third"]] == [1, 1, 1]


def test_one_of_many_deleters_wins(harness: Harness) -> None:
    """However many delete a group at once, one is told that it did."""
    stores = clients(harness, 6)

    def delete(group: str) -> list[bool]:
        stores[0].create_group(group)
        return at_once(len(stores), lambda n: stores[n].delete_group(group))

    assert [sum(delete(group)) for group in ["first", "second", "third"]] == [1, 1, 1]


def test_groups_do_not_touch_one_another(harness: Harness) -> None:
    """A commit in one group moves nothing in another, whose member may well have the same name."""
    here, there = Town(harness, "here"), Town(harness, "there")
    there.person("ann").enter()
    before = there.snapshot()
    row = here.person("ann").enter()
    here.remove(row)
    here.mark("ann", expelled=True)

    assert there.snapshot() == before


def test_any_printable_id_names_a_group(harness: Harness) -> None:
    """No character means anything to a store, and 200 bytes fit."""
    store = harness.store()
    for group in STRANGE:
        assert store.create_group(group)

    assert store.groups() == sorted(STRANGE)
    for group in STRANGE:
        assert store.read(group).group == group
        assert store.delete_group(group)
    assert store.groups() == []


def test_any_printable_id_names_a_member(harness: Harness) -> None:
    """No character means anything to a store: not in keys, member ids and marks."""
    town = Town(harness)
    ann = town.person("ann")
    committed(ann.propose(*(ann.entering(name, member_id=name) for name in STRANGE)))
    for name in STRANGE[:5]:
        town.mark(name, disabled=name)

    assert {key: row.member_id for key, row in town.rows().items()} == {name: name for name in STRANGE}
    assert {name: mark.disabled for name, mark in town.marks().items()} == {n: n for n in STRANGE[:5]}


def test_groups_that_look_alike_are_different(harness: Harness) -> None:
    """Ids that differ only in case, accent, width or a space at the end name different groups."""
    store = harness.store()
    assert all(store.create_group(group) for group in ALIKE)

    assert store.groups() == sorted(ALIKE)
    assert store.delete_group("name")
    assert store.groups() == sorted(set(ALIKE) - {"name"})


def test_members_that_look_alike_are_different(harness: Harness) -> None:
    """Rows and marks are told apart by every bit of their ids."""
    town = Town(harness)
    ann = town.person("ann")
    committed(ann.propose(*(ann.entering(name, member_id=name) for name in ALIKE)))
    town.mark("name", disabled="this one only")

    assert sorted(town.rows()) == sorted(ALIKE)
    assert list(town.marks()) == ["name"]
    assert [key for key, row in town.rows().items() if not row.standing_since] == ["name"]
    only = town.store.read(town.group, only=["Name"])
    assert [row.key for row in only.rows] == ["Name"]
