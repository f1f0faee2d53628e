"""Sessions that somebody ends from outside, with the store's own tools, while their owners still trust.

A store that expires sessions itself cannot hinder an administrator from ending one before its time. Its rows
go down at once, as everybody must see; but what its owner trusted to have is kept as a claim until the owner
says that it trusts nothing any more, or its time has passed."""

from __future__ import annotations

from headcount.model import Claim, State, Vacate
from headcount.testing.conformance.harness import Harness, only_if
from headcount.testing.conformance.sessions import over
from headcount.testing.conformance.town import Person, Town, committed


def _ended(harness: Harness, *, stand: bool = True) -> tuple[Town, Person, Person]:
    """Ann stands first, and bob after her; then somebody ends ann's session."""
    town = Town(harness)
    ann, bob = town.person("ann", own_client=True), town.person("bob", own_client=True)
    ann.enter(stand=stand)
    bob.enter()
    harness.end_session(ann.store, ann.session)
    return town, ann, bob


@only_if(expiry="sessions")
def test_who_is_ended_from_outside_is_down_at_once(harness: Harness) -> None:
    """For every client, and for its owner; the others stay."""
    town, ann, bob = _ended(harness)

    assert {key: row.state for key, row in town.rows().items()} == {"ann": State.DOWN, "bob": State.UP}
    assert ann.beat() is None
    assert bob.beat() is not None


@only_if(expiry="sessions")
def test_a_place_outlives_a_session_that_was_ended_from_outside(harness: Harness) -> None:
    """Its owner may not have heard of it; so nobody else is to have it yet."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    row = ann.enter()
    harness.end_session(ann.store, ann.session)
    (claim,) = town.claims()

    assert (claim.row, claim.session) == ("ann", ann.session)
    assert (claim.standing_since, claim.incarnation) == (row.standing_since, row.incarnation)


@only_if(expiry="sessions")
def test_a_place_is_kept_however_long_its_owner_has_beaten(harness: Harness) -> None:
    """What tells of it lives as long as the session."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    ann.enter()
    harness.pass_time(over(harness), kept=[ann.session])
    harness.end_session(ann.store, ann.session)

    assert [claim.session for claim in town.claims()] == [ann.session]


@only_if(expiry="sessions")
def test_who_closes_a_session_that_is_over_gives_its_place_up(harness: Harness) -> None:
    """That is how an owner says that it trusts nothing of it any more."""
    town, ann, _ = _ended(harness)
    assert len(town.claims()) == 1
    ann.store.close_session(ann.session)

    assert town.claims() == ()


@only_if(expiry="sessions")
def test_a_place_that_is_not_given_up_goes_when_nobody_can_trust_it(harness: Harness) -> None:
    """Its owner may be stopped, or cut off, or dead."""
    town, _, bob = _ended(harness)
    assert len(town.claims()) == 1
    harness.pass_time(over(harness), kept=[bob.session])

    assert town.claims() == ()
    assert town.row("bob").state is State.UP


@only_if(expiry="sessions")
def test_a_place_of_a_session_that_was_ended_can_be_waited_out(harness: Harness) -> None:
    """Whoever has seen it stand for its owner's whole ttl knows enough."""
    town, _, bob = _ended(harness)
    (claim,) = town.claims()
    committed(bob.propose(Vacate(claim=claim.key, waited=True)))

    assert town.claims() == ()


@only_if(expiry="sessions")
def test_who_held_nothing_leaves_nothing(harness: Harness) -> None:
    """A member that does not stand is missed by nobody who waits for a place."""
    town, _, _ = _ended(harness, stand=False)

    assert town.claims() == ()


@only_if(expiry="sessions")
def test_who_dies_leaves_its_place_at_once(harness: Harness) -> None:
    """Its time has passed, and so nobody trusts it: a successor does not wait."""
    town = Town(harness)
    ann, bob = town.person("ann", own_client=True), town.person("bob", own_client=True)
    ann.enter()
    bob.enter()
    harness.pass_time(over(harness), kept=[bob.session])

    assert town.row("ann").state is State.DOWN
    assert town.claims() == ()
    assert [entry.what for entry in town.store.history(town.group) if entry.member_id == "ann"] == [
        "joined",
        "down",
    ]


@only_if(expiry="sessions")
def test_a_place_that_was_taken_over_is_kept_too(harness: Harness) -> None:
    """First somebody takes it away, then somebody ends the session: its owner has heard of neither."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    town.remove(ann.enter())
    before: tuple[Claim, ...] = town.claims()
    assert len(before) == 1
    harness.end_session(ann.store, ann.session)

    assert town.claims() == before
    ann.store.close_session(ann.session)
    assert town.claims() == ()
