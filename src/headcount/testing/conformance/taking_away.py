"""Taking away: a place that somebody else takes becomes a claim, until its owner can trust it no more."""

from __future__ import annotations

from typing import Any

from headcount.errors import GroupNotEmpty
from headcount.model import Refusal, State, Vacate, deadline_ticks
from headcount.testing.conformance.harness import Harness, TickingHarness, only_if
from headcount.testing.conformance.sessions import over
from headcount.testing.conformance.town import Person, Town, committed, refused, withdrawing


def _taken(harness: Harness) -> tuple[Town, Person]:
    """A town in which the place of ann has been taken away."""
    town = Town(harness)
    ann = town.person("ann")
    town.remove(ann.enter(shards=frozenset({1, 2})))
    return town, ann


def test_who_takes_over_leaves_a_claim(harness: Harness) -> None:
    """It bears what the owner still trusts: its standing, its shards, its incarnation and its session."""
    town = Town(harness)
    ann = town.person("ann")
    old = ann.enter(shards=frozenset({1, 2}))
    new = town.person("ann").enter(shards=frozenset())
    (claim,) = town.claims()

    assert (claim.row, claim.member_id, claim.incarnation) == ("ann", "ann", old.incarnation)
    assert (claim.session, claim.ttl, claim.mode) == (ann.session, old.ttl, "")
    assert (claim.standing_since, claim.shards) == (old.standing_since, frozenset({1, 2}))
    assert new.standing_since > claim.standing_since


def test_who_takes_over_tells_the_owner(harness: Harness) -> None:
    """The notice is there as soon as the commit is: the very next beat reports it."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    ann.enter()
    other = town.person("ann")
    other.enter()

    assert ann.beat() == 1
    assert other.beat() == 0


def test_a_mark_leaves_a_claim(harness: Harness) -> None:
    """Disabled, forced down or expelled: the place is gone from the row, but not yet free."""
    town = Town(harness)
    marks: dict[str, dict[str, Any]] = {
        "ann": {"disabled": ""},
        "bob": {"forced_down": True},
        "cid": {"expelled": True},
    }
    for name, mark in marks.items():
        person = town.person(name)
        row = person.enter(shards=frozenset({1}))
        town.mark(name, **mark)
        (claim,) = [claim for claim in town.claims() if claim.member_id == name]

        assert (claim.standing_since, claim.shards) == (row.standing_since, frozenset({1}))
        assert (claim.session, claim.incarnation) == (person.session, row.incarnation)
        assert person.beat() == 1


def test_withdrawing_another_leaves_a_claim(harness: Harness) -> None:
    """By another member or an operator, with or without forgetting the row."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row, lock = ann.enter(), ann.enter("lock", mode="exclusive")
    committed(bob.propose(withdrawing(row)))
    town.remove(lock, forget=True)

    assert {key: row.state for key, row in town.rows().items()} == {"ann": State.LEFT}
    assert {claim.row: (claim.standing_since, claim.mode) for claim in town.claims()} == {
        "ann": (row.standing_since, ""),
        "lock": (lock.standing_since, "exclusive"),
    }
    assert ann.beat() == 2


def test_what_holds_nothing_leaves_no_claim(harness: Harness) -> None:
    """A row without standing and shards is free at once; its owner is told all the same."""
    town = Town(harness)
    ann = town.person("ann")
    town.remove(ann.enter(stand=False))

    assert town.claims() == ()
    assert ann.beat() == 1


def test_own_writes_leave_no_claim_and_no_notice(harness: Harness) -> None:
    """Whoever writes knows what it wrote, and has stopped acting first."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(shards=frozenset({1}))
    row = ann.amend(row, shards=frozenset())
    row = ann.enter(shards=frozenset({2}))
    ann.leave(row)

    assert town.claims() == ()
    assert ann.beat() == 0


def test_a_notice_is_for_the_owner_alone(harness: Harness) -> None:
    """Nobody else hears of it, and nobody hears of what touches no row of theirs."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    bob.enter()
    committed(bob.propose(withdrawing(row)))
    town.mark("eve", expelled=True)

    assert (ann.beat(), bob.beat()) == (1, 0)


def test_notices_only_grow(harness: Harness) -> None:
    """Every commit that touches the rows of a session raises it once more, and beats do not lower it."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    seen = [ann.beat()]
    marks: list[dict[str, Any]] = [{"disabled": "a"}, {"disabled": "b"}, {}, {"forced_down": True}]
    for mark in marks:
        town.mark("ann", **mark)
        seen += [ann.beat(), ann.beat()]

    assert seen == [0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_mark_tells_every_session_of_the_member(harness: Harness) -> None:
    """Each process of a shared member is told, also when the mark is lifted."""
    town = Town(harness)
    people = [town.person("ann") for _ in range(3)]
    for n, person in enumerate(people):
        person.enter(f"ann/{n}", share=True)
    town.mark("ann", disabled="")
    assert [person.beat() for person in people] == [1, 1, 1]
    assert {claim.session for claim in town.claims()} == {person.session for person in people}

    town.mark("ann")
    assert [person.beat() for person in people] == [2, 2, 2]


def test_the_notice_comes_with_the_claim(harness: Harness) -> None:
    """A refused commit, in which a place would have been taken, tells nobody and claims nothing."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    refused(bob.propose(withdrawing(row), withdrawing(row, forget=True)), Refusal.STALE)

    assert (ann.beat(), town.claims(), town.row("ann")) == (0, (), row)


def test_who_is_fenced_leaves_no_claim(harness: Harness) -> None:
    """An operator vouches that the owner is dead; it is told nevertheless, for operators err."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    town.remove(ann.enter(shards=frozenset({1})), fenced=True)
    bob.enter()
    town.mark("bob", forced_down=True, fenced=True)

    assert town.claims() == ()
    assert (ann.beat(), bob.beat()) == (1, 1)


def test_fencing_afterwards_removes_the_claims(harness: Harness) -> None:
    """Of this member and of nobody else, whether or not the mark itself changes."""
    town = Town(harness)
    town.person("ann").enter()
    town.person("bob").enter()
    town.mark("ann", forced_down=True)
    town.mark("bob", forced_down=True)
    assert len(town.claims()) == 2

    town.mark("ann", forced_down=True, fenced=True)
    assert [claim.member_id for claim in town.claims()] == ["bob"]


def test_the_owner_gives_up_its_claim(harness: Harness) -> None:
    """It acknowledges, after its term ended; the claim is gone as a commit of the group."""
    town, ann = _taken(harness)
    before = town.revision
    done = committed(ann.acknowledge(town.claims()[0]))

    assert town.claims() == ()
    assert town.revision == done.revision > before


def test_a_stranger_does_not_give_up_a_claim(harness: Harness) -> None:
    """Neither another member nor an operator can know that the owner has stopped."""
    town, _ = _taken(harness)
    (claim,) = town.claims()

    refused(town.person("bob").acknowledge(claim), Refusal.STALE)
    refused(town.propose(Vacate(claim=claim.key)), Refusal.STALE)
    refused(town.person("ann").acknowledge(claim), Refusal.STALE)
    assert town.claims() == (claim,)


def test_giving_up_twice_changes_nothing(harness: Harness) -> None:
    """A claim that is gone, or never was, is given up."""
    town, ann = _taken(harness)
    (claim,) = town.claims()
    committed(ann.acknowledge(claim))
    before = town.snapshot()

    committed(ann.acknowledge(claim))
    committed(ann.propose(Vacate(claim="never was")))
    assert town.snapshot() == before


def test_a_claim_goes_with_its_session(harness: Harness) -> None:
    """Whoever is lost trusts nothing any more: closed, or expired."""
    town, ann = _taken(harness)
    ann.store.close_session(ann.session)
    assert town.claims() == ()

    bob = town.person("bob")
    town.remove(bob.enter())
    assert len(town.claims()) == 1
    harness.pass_time(over(harness))
    assert town.claims() == ()


def test_a_claim_outlives_what_its_owner_does_next(harness: Harness) -> None:
    """Entering anew is not acknowledging; and a place that is taken twice leaves two claims."""
    town, ann = _taken(harness)
    again = ann.enter()
    assert len(town.claims()) == 1
    town.remove(again)

    assert len({claim.key for claim in town.claims()}) == 2
    assert {claim.row for claim in town.claims()} == {"ann"}


def test_the_dead_leave_no_claim(harness: Harness) -> None:
    """A row whose session is lost already is taken over without waiting for anybody."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    ann.store.close_session(ann.session)
    town.person("ann").enter()

    assert town.claims() == ()


def test_a_claim_goes_by_name(harness: Harness) -> None:
    """Of two claims on the rows of one session, the one that is named goes."""
    town = Town(harness)
    ann = town.person("ann")
    town.remove(ann.enter("1", mode="exclusive"), forget=True)
    town.remove(ann.enter("2", mode="exclusive"), forget=True)
    first, second = sorted(town.claims(), key=lambda claim: claim.row)
    committed(ann.acknowledge(first))

    assert town.claims() == (second,)


@only_if(expiry="ticks")
def test_a_claim_goes_when_its_time_has_come(harness: TickingHarness) -> None:
    """Not a tick earlier, not a tick later, and also if its owner goes on beating all the time."""
    town, ann = _taken(harness)
    harness.sweep()
    d = deadline_ticks(harness.ttl, harness.hands().tick().interval)
    harness.pass_ticks(d - 1, kept=[ann.session])
    assert len(town.claims()) == 1

    harness.pass_ticks(1, kept=[ann.session])
    assert town.claims() == ()
    assert ann.beat() == 1


@only_if(expiry="ticks")
def test_the_time_of_a_claim_begins_with_a_sweep(harness: TickingHarness) -> None:
    """Not with the commit that took the place: a beat that was under way then trusts three ticks more.
    Whatever ticks go by before the sweep, all of the time is still to come."""
    town, ann = _taken(harness)
    d = deadline_ticks(harness.ttl, harness.hands().tick().interval)
    harness.pass_ticks(2 * d, kept=[ann.session], judge=None)
    harness.sweep()
    assert len(town.claims()) == 1

    harness.pass_ticks(d - 1, kept=[ann.session])
    assert len(town.claims()) == 1
    harness.pass_ticks(1, kept=[ann.session])
    assert town.claims() == ()


@only_if(expiry="ticks")
def test_the_time_of_a_claim_is_set_once(harness: TickingHarness) -> None:
    """Sweeping again and again at the same tick neither hastens nor delays it."""
    town, ann = _taken(harness)
    d = deadline_ticks(harness.ttl, harness.hands().tick().interval)
    for _ in range(d + 3):
        harness.sweep()
    assert len(town.claims()) == 1

    harness.pass_ticks(d, kept=[ann.session])
    assert town.claims() == ()


@only_if(expiry="ticks")
def test_a_claim_waits_for_the_ttl_of_its_owner(harness: TickingHarness) -> None:
    """Not for that of whoever took the place."""
    town = Town(harness)
    ann = town.person("ann", ttl=2 * harness.ttl)
    ann.enter()
    town.person("ann").enter()
    harness.sweep()
    d = deadline_ticks(2 * harness.ttl, harness.hands().tick().interval)
    harness.pass_ticks(d - 1, kept=[ann.session])
    assert len(town.claims()) == 1

    harness.pass_ticks(1, kept=[ann.session])
    assert town.claims() == ()


@only_if(expiry="ticks")
def test_a_claim_that_goes_is_a_commit(harness: TickingHarness) -> None:
    """Whoever waits for the place hears of it by the doorbell, and a sweep counts it."""
    town, ann = _taken(harness)
    harness.sweep()
    harness.pass_ticks(deadline_ticks(harness.ttl, harness.hands().tick().interval), judge=None)
    ann.beat()
    before = town.revision

    swept = harness.hands().sweep(lambda census: 0)
    assert swept.vacated == 1
    assert town.revision > before


@only_if(expiry="sessions")
def test_a_claim_may_be_waited_out(harness: Harness) -> None:
    """By whoever has watched it for its ttl and the margin, on its own clock."""
    town, ann = _taken(harness)
    (claim,) = town.claims()
    harness.pass_time(over(harness), kept=[ann.session])
    assert town.claims() == (claim,)

    committed(town.person("bob").propose(Vacate(claim=claim.key, waited=True)))
    assert town.claims() == ()


@only_if(expiry="ticks")
def test_where_ticks_tell_the_time_nobody_waits_a_claim_out(harness: Harness) -> None:
    """A client's own clock says nothing there that the store's does not say better."""
    town, _ = _taken(harness)
    (claim,) = town.claims()
    refused(town.person("bob").propose(Vacate(claim=claim.key, waited=True)), Refusal.STALE)

    assert town.claims() == (claim,)


def test_a_group_is_deleted_once_its_claims_are_gone(harness: Harness) -> None:
    """What was left for their sake does not hold it back for ever."""
    town, ann = _taken(harness)
    try:
        town.store.delete_group(town.group)
    except GroupNotEmpty:
        committed(ann.acknowledge(town.claims()[0]))

    assert town.store.delete_group(town.group)
