"""Amend: what an owner may change of its row, and what ends a standing for good."""

from __future__ import annotations

from typing import Any

from headcount.model import Amend, Refusal, Standing, State
from headcount.testing.conformance.harness import Harness, TickingHarness, nobody, only_if
from headcount.testing.conformance.town import Town, amending, committed, refused


def test_an_amend_changes_what_it_names(harness: Harness) -> None:
    """The rest stays as it is."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(capabilities=b"old", shards=frozenset({1}))
    changed = ann.amend(row, shards=frozenset({2, 3}))

    assert (changed.shards, changed.capabilities) == (frozenset({2, 3}), b"old")
    again = ann.amend(changed, capabilities=b"")
    assert (again.shards, again.capabilities) == (frozenset({2, 3}), b"")
    assert (again.standing_since, again.since, again.session) == (row.standing_since, row.since, row.session)


def test_an_amend_that_changes_nothing_commits_nothing(harness: Harness) -> None:
    """It is taken, and there is no revision of it."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(capabilities=b"same", shards=frozenset({1}))
    before = town.snapshot()
    same = amending(
        row, capabilities=b"same", ready=True, present=True, shards=frozenset({1}), standing=Standing.STAND
    )
    done = committed(ann.propose(same))

    assert (done.revision, done.rows) == (before.revision, ())
    assert town.snapshot() == before


def test_an_amend_names_the_revision_it_has_seen(harness: Harness) -> None:
    """A late or doubled one finds another revision, and is refused."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    message = amending(row, capabilities=b"first")
    committed(ann.propose(message))
    now = ann.amend(town.row("ann"), capabilities=b"second")

    assert refused(ann.propose(message), Refusal.STALE).row == now
    assert town.row("ann") == now


def test_an_amend_names_the_incarnation(harness: Harness) -> None:
    """One that was meant for an earlier life is refused, whatever revision it guesses."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter()
    now = ann.enter()
    guess = Amend(key="ann", incarnation=first.incarnation, seen=now.revision, capabilities=b"late")

    refused(ann.propose(guess), Refusal.STALE)
    assert town.row("ann") == now


def test_an_amend_needs_a_row(harness: Harness) -> None:
    """It makes none."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    ann.leave(row, forget=True)

    assert refused(ann.propose(amending(row, capabilities=b"late")), Refusal.STALE).row is None
    assert town.rows() == {}


def test_nobody_amends_the_row_of_another(harness: Harness) -> None:
    """Neither another session nor an operator; they take it away, or leave it."""
    town = Town(harness)
    row = town.person("ann").enter()

    refused(town.person("bob").propose(amending(row, capabilities=b"mine")), Refusal.STALE)
    refused(town.propose(amending(row, capabilities=b"mine")), Refusal.STALE)
    assert town.row("ann") == row


def test_anybody_amends_a_row_of_nobody(harness: Harness) -> None:
    """The next leader publishes its plan over that of the last one."""
    town = Town(harness)
    plan = town.publish()
    committed(town.person("bob").propose(amending(plan, capabilities=b"new plan")))

    assert town.row("plan").capabilities == b"new plan"


def test_a_row_that_has_ended_is_not_amended(harness: Harness) -> None:
    """Nobody comes back from the dead by an amend."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(ann.enter())
    left = town.row("ann")

    refused(ann.propose(amending(left, present=True, standing=Standing.STAND)), Refusal.STALE)
    assert town.row("ann") == left


def test_standing_while_standing_changes_nothing(harness: Harness) -> None:
    """The token stays, also when the amend changes something else."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()

    assert ann.amend(row, standing=Standing.STAND, capabilities=b"x").standing_since == row.standing_since


def test_who_resigned_stands_behind_the_others(harness: Harness) -> None:
    """Its old place is gone for good, and so is its token."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    first, second = ann.enter(), bob.enter()
    resigned = ann.amend(first, standing=Standing.RESIGN)
    assert (resigned.standing_since, resigned.state) == (0, State.UP)

    again = ann.amend(resigned, standing=Standing.STAND)
    assert again.standing_since > second.standing_since
    assert again.standing_since == again.revision


def test_standing_anew_goes_behind_the_others(harness: Harness) -> None:
    """In one step: the old place is given up, and a new one taken."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    first, second = ann.enter(), bob.enter()

    assert ann.amend(first, standing=Standing.ANEW).standing_since > second.standing_since


def test_being_unready_ends_a_standing_for_good(harness: Harness) -> None:
    """Whoever is ready again does not stand again by that alone, and never with the old token."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter()
    unready = ann.amend(first, ready=False)
    assert (unready.ready, unready.state, unready.standing_since) == (False, State.UP, 0)

    ready = ann.amend(unready, ready=True)
    assert (ready.ready, ready.standing_since) == (True, 0)
    assert ann.amend(ready, standing=Standing.STAND).standing_since > first.standing_since


def test_who_is_unready_cannot_stand(harness: Harness) -> None:
    """Neither by standing nor by standing anew; saying that it is ready in the same amend is enough."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(ready=False)

    assert ann.amend(row, standing=Standing.STAND).standing_since == 0
    assert ann.amend(row, standing=Standing.ANEW).standing_since == 0
    assert ann.amend(row, standing=Standing.STAND, ready=True).standing_since > 0


def test_who_is_marked_cannot_stand(harness: Harness) -> None:
    """Disabled or forced down: an amend is taken, and gives no token."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    marks: list[dict[str, Any]] = [{"disabled": "for a test"}, {"disabled": ""}, {"forced_down": True}]
    for mark in marks:
        town.mark("ann", **mark)
        assert ann.amend(town.row("ann"), standing=Standing.STAND).standing_since == 0
        assert ann.amend(town.row("ann"), standing=Standing.ANEW).standing_since == 0


def test_being_enabled_again_does_not_bring_a_token_back(harness: Harness) -> None:
    """Disabled, then enabled: it stands anew, or it does not stand."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter()
    town.mark("ann", disabled="for a test")
    town.mark("ann")
    assert town.row("ann").standing_since == 0

    assert ann.amend(town.row("ann"), standing=Standing.STAND).standing_since > first.standing_since


def test_who_is_marked_takes_no_shards(harness: Harness) -> None:
    """Neither by an amend, which may have been under way when the mark came, nor by an enter."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(stand=False)
    town.mark("ann", disabled="")
    assert town.row("ann") == row
    assert ann.amend(row, shards=frozenset({1})).shards == frozenset()

    assert ann.enter(shards=frozenset({1})).shards == frozenset()


@only_if(expiry="ticks")
def test_who_is_suspect_takes_no_shards(harness: TickingHarness) -> None:
    """Not before it says that it is present: it has lapsed, and will not lapse again."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    harness.pass_time(harness.ttl + harness.slack, judge=nobody)

    assert ann.amend(town.row("ann"), shards=frozenset({1})).shards == frozenset()
    assert ann.amend(town.row("ann"), shards=frozenset({1}), present=True).shards == frozenset({1})


@only_if(expiry="ticks")
def test_who_is_suspect_cannot_stand(harness: TickingHarness) -> None:
    """Not before it says that it is present."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    harness.pass_time(harness.ttl + harness.slack, judge=nobody)
    suspect = town.row("ann")
    assert suspect.state is State.SUSPECT

    assert ann.amend(suspect, standing=Standing.STAND).standing_since == 0
    back = ann.amend(suspect, standing=Standing.STAND, present=True)
    assert (back.state, back.standing_since) == (State.UP, back.revision)


def test_the_time_of_a_row_moves_with_its_status(harness: Harness) -> None:
    """`since` says when it became what it is: new capabilities do not touch it, leaving does."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    assert ann.amend(row, capabilities=b"x").since == row.since
    ann.leave(town.row("ann"))

    assert town.row("ann").since >= row.since
