"""Withdraw: the goodbye of an owner. (Of others: see `taking_away`.)"""

from __future__ import annotations

from headcount.model import Refusal, State, Withdraw
from headcount.testing.conformance.harness import Harness
from headcount.testing.conformance.town import Town, committed, refused, withdrawing


def test_who_leaves_has_left(harness: Harness) -> None:
    """The row stays listed, without a standing and without shards."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(shards=frozenset({1}), capabilities=b"kept")
    ann.leave(row)
    left = town.row("ann")

    assert (left.state, left.standing_since, left.shards) == (State.LEFT, 0, frozenset())
    assert (left.incarnation, left.capabilities) == (row.incarnation, b"kept")


def test_an_own_goodbye_frees_the_place_at_once(harness: Harness) -> None:
    """Whoever says it has stopped acting first: no claim is kept, and there is nobody to tell."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(ann.enter(shards=frozenset({1})))

    assert town.claims() == ()
    assert ann.beat() == 0


def test_who_leaves_with_one_row_stays_with_the_others(harness: Harness) -> None:
    """A session may have several in a group: each goes by itself, in whatever order they came, and the last
    one is as live as the first. Who has left with all of them may come again."""
    town = Town(harness)
    ann = town.person("ann")
    rows = [ann.enter(f"ann/{n}", member_id=f"ann {n}") for n in range(3)]
    plan = ann.enter("ann/lock", mode="exclusive")
    for n, row in enumerate((rows[1], plan, rows[0])):
        ann.leave(row, forget=row is plan)
        assert len([row for row in town.snapshot().rows if row.live]) == 3 - n
    assert town.row("ann/2") == rows[2]
    ann.leave(rows[2])
    assert not any(row.live for row in town.snapshot().rows)
    again = ann.enter("ann/1", member_id="ann 1", seen=town.row("ann/1").revision)

    assert ann.beat() == 0
    assert town.row("ann/1") == again
    harness.pass_time(harness.ttl + harness.slack)
    assert town.row("ann/1").state is State.DOWN


def test_who_is_forgotten_is_listed_no_more(harness: Harness) -> None:
    """Live or dead, the row is gone."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(ann.enter(), forget=True)
    assert town.rows() == {}

    ann.leave(ann.enter())
    town.remove(town.row("ann"), forget=True)
    assert town.rows() == {}


def test_leaving_twice_changes_nothing(harness: Harness) -> None:
    """The second goodbye finds that it was said."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(ann.enter())
    before = town.snapshot()

    assert committed(ann.propose(withdrawing(town.row("ann")))).revision == before.revision
    assert town.snapshot() == before


def test_a_goodbye_names_what_it_has_seen(harness: Harness) -> None:
    """The revision, and the incarnation: a doubled, late or guessed one is refused."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter()
    ann.leave(first)
    refused(ann.propose(withdrawing(first)), Refusal.STALE)

    now = ann.enter()
    refused(ann.propose(withdrawing(first)), Refusal.STALE)
    guess = Withdraw(key="ann", incarnation=first.incarnation, seen=now.revision)
    refused(ann.propose(guess), Refusal.STALE)
    assert town.row("ann") == now


def test_nobody_leaves_from_where_nobody_is(harness: Harness) -> None:
    """A row that is not there is not what was seen."""
    town = Town(harness)
    ann = town.person("ann")

    refused(ann.propose(Withdraw(key="ann", incarnation=1, seen=0)), Refusal.STALE)
    refused(ann.propose(Withdraw(key="ann", incarnation=0, seen=0)), Refusal.STALE)
    assert town.rows() == {}
