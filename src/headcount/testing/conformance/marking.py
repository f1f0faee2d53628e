"""Marks: what an operator says of a member, whatever lives it has."""

from __future__ import annotations

from headcount.model import Refusal, Remark, State
from headcount.testing.conformance.harness import Harness
from headcount.testing.conformance.town import Town, committed, refused


def test_a_mark_says_what_was_said(harness: Harness) -> None:
    """A reason that is empty is a reason all the same."""
    town = Town(harness)
    town.mark("ann", disabled="the disk is being replaced: é 字")
    town.mark("bob", disabled="")
    town.mark("cid", forced_down=True)
    town.mark("dan", expelled=True)
    marks = town.marks()

    assert marks["ann"].disabled == "the disk is being replaced: é 字"
    assert (marks["bob"].disabled, marks["bob"].forced_down, marks["bob"].expelled) == ("", False, False)
    assert (marks["cid"].disabled, marks["cid"].forced_down, marks["cid"].expelled) == (None, True, False)
    assert (marks["dan"].disabled, marks["dan"].forced_down, marks["dan"].expelled) == (None, False, True)


def test_a_mark_may_precede_the_first_life(harness: Harness) -> None:
    """Nobody has to be there to be spoken of, and being spoken of makes no row."""
    town = Town(harness)
    town.mark("ann", disabled="not yet")

    assert (list(town.marks()), town.rows()) == (["ann"], {})


def test_a_mark_outlives_the_lives(harness: Harness) -> None:
    """It is there through enter, leave, forget and enter."""
    town = Town(harness)
    town.mark("ann", disabled="for good")
    mark = town.marks()["ann"]
    ann = town.person("ann")
    ann.leave(ann.enter(), forget=True)
    ann.enter()
    ann.store.close_session(ann.session)

    assert town.marks() == {"ann": mark}


def test_marks_are_set_to_exactly_what_is_said(harness: Harness) -> None:
    """What is not said again is not so any more; when nothing is left, the mark is gone."""
    town = Town(harness)
    town.mark("ann", disabled="a", forced_down=True)
    town.mark("ann", expelled=True)
    mark = town.marks()["ann"]
    assert (mark.disabled, mark.forced_down, mark.expelled) == (None, False, True)

    town.mark("ann")
    assert town.marks() == {}


def test_a_mark_names_what_it_has_seen(harness: Harness) -> None:
    """Two operators who speak at once do not undo each other unseen."""
    town = Town(harness)
    town.mark("ann", disabled="by the first")
    seen = town.marks()["ann"].revision

    refused(town.propose(Remark(member_id="ann", seen=0, disabled="by the second")), Refusal.STALE)
    town.mark("ann", disabled="by the first again")
    refused(town.propose(Remark(member_id="ann", seen=seen)), Refusal.STALE)
    assert town.marks()["ann"].disabled == "by the first again"
    refused(town.propose(Remark(member_id="bob", seen=seen, expelled=True)), Refusal.STALE)


def test_saying_the_same_again_commits_nothing(harness: Harness) -> None:
    """Nor does lifting a mark that is not there."""
    town = Town(harness)
    town.mark("ann", disabled="said")
    before = town.snapshot()
    town.mark("ann", disabled="said")
    town.mark("bob")

    assert town.snapshot() == before


def test_being_marked_is_a_commit_of_the_group(harness: Harness) -> None:
    """Every mark has a revision of its own, and lifting it moves the group's as well."""
    town = Town(harness)
    first = town.revision
    town.mark("ann", disabled="a")
    second = town.marks()["ann"].revision
    town.mark("ann")

    assert first < second < town.revision


def test_disabling_ends_the_standing(harness: Harness) -> None:
    """The member stays up, without a place."""
    town = Town(harness)
    row = town.person("ann").enter(shards=frozenset({1}))
    town.mark("ann", disabled="for a test")
    now = town.row("ann")

    assert (now.state, now.standing_since, now.shards) == (State.UP, 0, frozenset())
    assert now.incarnation == row.incarnation


def test_forcing_down_ends_the_standing(harness: Harness) -> None:
    """The row stays, for its session goes on beating; whoever looks sees the mark."""
    town = Town(harness)
    town.person("ann").enter(shards=frozenset({1}))
    town.mark("ann", forced_down=True)
    now = town.row("ann")

    assert (now.state, now.standing_since, now.shards) == (State.UP, 0, frozenset())


def test_expelling_ends_the_life(harness: Harness) -> None:
    """In the same commit, and that of every row of the member."""
    town = Town(harness)
    for n in range(2):
        town.person("ann").enter(f"ann/{n}", share=True, shards=frozenset({n}))
    town.mark("ann", expelled=True)

    assert [(r.state, r.standing_since, r.shards) for r in town.rows().values()] == [
        (State.LEFT, 0, frozenset()),
        (State.LEFT, 0, frozenset()),
    ]


def test_a_mark_is_for_one_member(harness: Harness) -> None:
    """Nobody else loses anything by it."""
    town = Town(harness)
    row = town.person("bob").enter()
    town.person("ann").enter()
    town.mark("ann", expelled=True)

    assert town.row("bob") == row


def test_whoever_marks_may_be_a_member(harness: Harness) -> None:
    """Marks are no privilege of sessionless operators: also one's own mark is a mark."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    committed(ann.propose(Remark(member_id="ann", seen=0, disabled="I need a rest")))

    assert town.row("ann").standing_since == 0
    assert (town.claims(), ann.beat()) == ((), 0)
