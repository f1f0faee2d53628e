"""Several in one go: as if each had come by itself, one after the other."""

from __future__ import annotations

import pytest

from headcount.errors import GroupNotFound
from headcount.model import (
    Committed,
    Delta,
    Empty,
    Outcome,
    Refusal,
    Remark,
    Session,
    Unchanged,
    Vacate,
    Wish,
    Write,
)
from headcount.testing.conformance.harness import Harness
from headcount.testing.conformance.town import (
    Person,
    Town,
    at_once,
    clients,
    committed,
    refused,
    the_row,
    withdrawing,
)


def by(person: Person, *writes: Write) -> Wish:
    return Wish(writes, by=person.session)


def together(town: Town, *wishes: Wish) -> list[Outcome]:
    return town.store.commit_together(town.group, wishes)


def test_each_wish_is_all_or_nothing_by_itself(harness: Harness) -> None:
    """One that is refused has done nothing, and the others are carried out as if it had not been there."""
    town = Town(harness)
    ann, bob, cid = (town.person(name) for name in ("ann", "bob", "cid"))
    row = cid.enter()
    spoilt = by(bob, Remark(member_id="cid", seen=0, expelled=True), bob.entering("x"), bob.entering("cid"))
    first, second, third = together(town, by(ann, ann.entering()), spoilt, by(bob, bob.entering()))

    assert the_row(first, "ann").member_id == "ann"
    refused(second, Refusal.STALE)
    assert the_row(third, "bob").member_id == "bob"
    assert town.row("cid") == row
    assert set(town.rows()) == {"ann", "bob", "cid"}
    assert not town.marks()
    assert (ann.beat(), bob.beat(), cid.beat()) == (0, 0, 0)


def test_a_later_wish_finds_what_an_earlier_one_has_changed(harness: Harness) -> None:
    """Rows, marks and claims, though nothing of it may be stored yet."""
    town = Town(harness)
    ann, bob, cid = (town.person(name) for name in ("ann", "bob", "cid"))
    row = ann.enter(shards=frozenset({7}))
    mark = Remark(member_id="bob", seen=0, disabled="worn out")
    claimed = Empty(shards=frozenset({7}))
    outcomes = together(
        town,
        by(bob, bob.entering()),
        by(cid, cid.entering("bob", member_id="cid")),
        Wish([cid.entering("plan")], [Unchanged(key="bob", revision=0)], cid.session),
        Wish([mark]),
        Wish([mark]),
        Wish([withdrawing(row)]),
        Wish([cid.entering()], [claimed], cid.session),
        Wish([Remark(member_id="ann", seen=0, fenced=True)]),
        Wish([cid.entering()], [claimed], cid.session),
    )

    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [
        None,
        Refusal.STALE,
        Refusal.UNMET,
        None,
        Refusal.STALE,
        None,
        Refusal.UNMET,
        None,
        None,
    ]
    assert set(town.rows()) == {"ann", "bob", "cid"}
    assert town.row("bob").standing_since == 0
    assert {claim.row for claim in town.claims()} == {"bob"}
    assert (ann.beat(), bob.beat()) == (1, 1)


def test_revisions_count_on_from_wish_to_wish(harness: Harness) -> None:
    """Each answer bears the group's revision after it; no two records share one, and no two a token."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(5)]
    before = town.revision
    outcomes = [committed(one) for one in together(town, *(by(p, p.entering()) for p in people))]

    revisions = [outcome.revision for outcome in outcomes]
    assert before < revisions[0]
    assert revisions == sorted(set(revisions))
    assert town.revision == revisions[-1]
    assert [the_row(one, p.name) for one, p in zip(outcomes, people, strict=True)] == [
        town.row(p.name) for p in people
    ]
    assert len({row.standing_since for row in town.rows().values()}) == 5


def test_a_place_that_is_taken_and_given_up_in_one_go(harness: Harness) -> None:
    """The owner hears of it, and its acknowledgement cannot have come before."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    (taken,) = together(town, Wish([Remark(member_id="ann", seen=0, disabled="go")]))
    (claim,) = committed(taken).claims
    given_up, again = together(town, by(ann, Vacate(claim=claim.key)), by(ann, Vacate(claim=claim.key)))

    assert committed(given_up).revision > claim.revision
    assert committed(again).revision == committed(given_up).revision
    assert not town.claims()
    assert town.row("ann").standing_since == 0 < row.standing_since


def test_who_is_lost_is_refused_and_the_others_are_not(harness: Harness) -> None:
    """Each wish is looked at with its own session, whoever it goes along with."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    town.store.close_session(ann.session)
    first, second = together(town, by(ann, ann.entering()), by(bob, bob.entering()))

    refused(first, Refusal.FENCED)
    committed(second)
    assert set(town.rows()) == {"bob"}


def test_what_goes_and_comes_again_in_one_go_is_there(harness: Harness) -> None:
    """A reader who asks what has changed is not told that it was removed."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    mark = committed(town.propose(Remark(member_id="bob", seen=0, disabled="go"))).revision
    before = town.revision
    together(
        town,
        by(ann, withdrawing(row, forget=True)),
        by(ann, ann.entering()),
        Wish([Remark(member_id="bob", seen=mark)]),
        Wish([Remark(member_id="bob", seen=0, disabled="go again")]),
    )
    seen = town.store.read(town.group, before)

    assert town.row("ann").incarnation > row.incarnation
    assert {one.key for one in seen.rows} == {"ann"}
    assert {one.member_id for one in seen.marks} == {"bob"}
    assert not isinstance(seen, Delta) or not seen.removed


def test_history_tells_of_each_wish(harness: Harness) -> None:
    """In their order, and who it was."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    together(town, by(bob, bob.entering()), by(ann, ann.entering()))

    told = [(entry.what, entry.member_id, entry.who) for entry in town.store.history(town.group)]
    assert told == [("joined", "bob", bob.session), ("joined", "ann", ann.session)]


def test_where_there_is_no_group_all_are_told(harness: Harness) -> None:
    """By one error, and nothing is made."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    with pytest.raises(GroupNotFound):
        town.store.commit_together("elsewhere", [by(ann, ann.entering()), by(bob, bob.entering())])
    assert town.store.groups() == [town.group]


def test_crowds_that_come_at_once_lose_nobody(harness: Harness) -> None:
    """From several clients, with many each: everybody is in once, and has its own answer."""
    town = Town(harness)
    people = [
        [Person(town, store, f"p{n}-{m}", f"s{n}-{m}") for m in range(10)]
        for n, store in enumerate(clients(harness, 4))
    ]
    answers = at_once(
        4, lambda n: people[n][0].store.commit_together(town.group, [by(p, p.entering()) for p in people[n]])
    )
    rows = town.rows()

    assert len(rows) == 40
    for crowd, outcomes in zip(people, answers, strict=True):
        for person, outcome in zip(crowd, outcomes, strict=True):
            assert isinstance(outcome, Committed)
            assert the_row(outcome, person.name) == rows[person.name]
    assert len({row.revision for row in rows.values()}) == 40


def test_sessions_that_are_opened_together_all_live(harness: Harness) -> None:
    """To each its grant, in order. One that is open already stays as it is."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    town.mark("ann", disabled="go")
    notice = ann.beat()
    others = [
        Session(id=f"s{n}", instance=f"i{n}", host="here", process="p", ttl=harness.ttl + n)
        for n in (2, 1, 3)
    ]
    granted = town.store.open_sessions([*others, ann.about])

    assert [one.ttl for one in granted] == [harness.ttl + 2, harness.ttl + 1, harness.ttl + 3, harness.ttl]
    assert town.store.beat(["s1", "s2", "s3"]).notices == {"s1": 0, "s2": 0, "s3": 0}
    assert notice == ann.beat() == 1
