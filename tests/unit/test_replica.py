"""A group as we last read it: answers in, views and changes out."""

import time
import tracemalloc

import pytest

from headcount.core.replica import Replica, Roll, member_of
from headcount.model import (
    Change,
    Claim,
    Delta,
    Kind,
    Mark,
    Member,
    Row,
    Snapshot,
    State,
    Status,
    View,
    when,
)


def row(member: str, revision: int, **more) -> Row:
    fields = {
        "key": member,
        "member_id": member,
        "incarnation": revision,
        "revision": revision,
        "state": State.UP,
        "session": f"s-{member}",
        "instance": f"i-{member}",
        "host": "h",
        "since": float(revision),
    }
    return Row(**{**fields, **more})


def claim(standing: int, revision: int = 1) -> Claim:
    return Claim(
        key="x@1",
        row="x",
        member_id="x",
        incarnation=1,
        revision=revision,
        session="s",
        ttl=1.0,
        standing_since=standing,
    )


def snapshot(revision: int, *rows: Row, marks: tuple[Mark, ...] = (), claims: tuple[Claim, ...] = ()):
    return Snapshot(group="g", revision=revision, rows=rows, marks=marks, claims=claims)


def delta(after: int, revision: int, *rows: Row, **more) -> Delta:
    return Delta(group="g", after=after, revision=revision, rows=rows, **more)


def replica(*rows: Row, revision: int = 10, deltas: bool = True, **more) -> Replica:
    found = Replica("g", lambda: 0.0, deltas=deltas)
    assert found.apply(snapshot(revision, *rows, **more), 0.0) == []
    return found


def view(found: Replica) -> View:
    assert found.view is not None
    return found.view


def told(changes: list[Change] | None) -> list[tuple[str, str | None]]:
    assert changes is not None
    return [(c.kind.value, (c.member or c.before or NOBODY).member_id or None) for c in changes]


NOBODY = Member(group_id="g", member_id="", incarnation=0, status=Status.LEFT, since=when(0.0))


# ── order ──


def test_the_first_view_tells_nothing():
    """Whoever begins to watch is given the view; what was before it is nobody's news."""
    found = Replica("g", lambda: 0.0)

    assert found.apply(snapshot(10, row("a", 9)), 0.0) == []
    assert list(view(found)) == ["a"]


def test_a_delta_from_our_revision_is_the_difference():
    """Only what was written since is read."""
    found = replica(row("a", 9))

    assert told(found.apply(delta(10, 11, row("b", 11)), 1.0)) == [("joined", "b")]
    assert (view(found).revision, sorted(view(found))) == (11, ["a", "b"])


def test_a_delta_from_elsewhere_is_a_gap():
    """What lies between is unknown: everything has to be read again."""
    found = replica(row("a", 9))

    assert found.apply(delta(11, 12, row("b", 12)), 1.0) is None
    assert (view(found).revision, list(view(found))) == (10, ["a"])


@pytest.mark.parametrize("late", [snapshot(9), delta(8, 9), delta(8, 11, row("c", 11))])
def test_a_late_answer_is_dropped(late):
    """A view only moves forward; and a late answer confirms nothing."""
    found = replica(row("a", 9))

    assert found.apply(late, 5.0) == []
    assert (view(found).revision, list(view(found)), found.asked_at) == (10, ["a"], 0.0)


def test_a_snapshot_in_place_of_a_delta_is_a_resync():
    """The store no longer knows what lay between, and neither do we: that is said first."""
    found = replica(row("a", 9))

    changes = found.apply(snapshot(20, row("b", 15)), 1.0)
    assert told(changes) == [("resync", None), ("left", "a"), ("joined", "b")]


def test_where_snapshots_are_all_there_is_they_are_no_resync():
    """A store without deltas answers with everything each time."""
    found = replica(row("a", 9), deltas=False)

    assert found.revision is None
    assert told(found.apply(snapshot(20, row("a", 9), row("b", 15)), 1.0)) == [("joined", "b")]


def test_nothing_new_is_no_change_but_a_confirmation():
    """The view is the same object, and young again."""
    found = Replica("g", lambda: 9.0)
    found.apply(snapshot(10, row("a", 9)), 0.0)
    before = view(found)

    assert found.apply(delta(10, 10), 8.0) == []
    assert view(found) is before
    assert before.age == 1.0


def test_a_group_without_members_has_a_view_all_the_same():
    """An empty view is false, as every empty mapping is; it must not be taken for none at all."""
    found = replica()
    assert (found.revision, found.of("a").revision) == (10, 10)

    assert told(found.apply(delta(10, 11, row("a", 11)), 1.0)) == [("joined", "a")]
    assert told(replica().trouble("no store")) == [("degraded", None)]


def test_an_older_view_stays_as_it_was():
    """Whoever holds one may go on reading it."""
    found = replica(row("a", 9))
    before = view(found)
    found.apply(delta(10, 12, row("a", 11, state=State.DOWN), row("b", 12)), 1.0)

    assert [m.member_id for m in before.up] == ["a"]
    assert before["a"].status is Status.UP
    assert [m.member_id for m in view(found).up] == ["b"]


def test_only_the_newest_view_grows_young():
    """An older one was overtaken: what it says is as old as its last confirmation."""
    found = Replica("g", lambda: 10.0)
    found.apply(snapshot(10, row("a", 9)), 1.0)
    before = view(found)
    found.apply(delta(10, 11, row("b", 11)), 5.0)
    found.confirm(9.0)

    assert (before.age, view(found).age) == (9.0, 1.0)


# ── what happened ──


@pytest.mark.parametrize(
    ("after", "what"),
    [
        (row("a", 11, incarnation=9, state=State.DOWN), ["down"]),
        (row("a", 11, incarnation=9, state=State.LEFT), ["left"]),
        (row("a", 11, incarnation=9, capabilities=b"x"), ["updated"]),
        (row("a", 11, incarnation=9, ready=False), ["updated"]),
        (row("a", 11, incarnation=9, state=State.SUSPECT), ["updated", "degraded"]),
        (row("a", 11, incarnation=9, standing_since=11, since=9.0), ["leader"]),
    ],
)
def test_each_change_has_its_name(after, what):
    """Suspect and unready members are members still."""
    found = replica(row("a", 9))

    assert [kind for kind, _ in told(found.apply(delta(10, 11, after), 1.0))] == what


def test_gone_and_back_between_two_reads_is_left_and_joined():
    """What it was doing is lost: nobody may take the new life for the old one."""
    found = replica(row("a", 9))

    changes = found.apply(delta(10, 12, row("a", 12)), 1.0)
    assert told(changes) == [("left", "a"), ("joined", "a")]
    assert changes is not None
    assert (changes[0].member, changes[1].member) == (changes[0].before, view(found)["a"])


def test_forgetting_the_dead_is_an_update():
    """It was not here before either."""
    found = replica(row("a", 9, state=State.LEFT))

    changes = found.apply(delta(10, 11, removed=(("row", "a"),)), 1.0)
    assert told(changes) == [("updated", "a")]
    assert "a" not in view(found)


def test_forgetting_the_living_is_leaving():
    """Its place is taken away, and its name with it."""
    found = replica(row("a", 9))

    assert told(found.apply(delta(10, 11, removed=(("row", "a"),)), 1.0)) == [("left", "a")]


def test_changes_are_told_in_order_of_names():
    """Two watchers that read the same tell the same."""
    found = replica()

    changes = found.apply(delta(10, 13, row("c", 11), row("a", 12), row("b", 13)), 1.0)
    assert told(changes) == [("joined", "a"), ("joined", "b"), ("joined", "c")]


def test_what_was_touched_is_known_for_one_answer():
    """Only the memberships that the last answer was about are looked at again."""
    found = replica(row("a", 9))
    found.apply(delta(10, 11, row("b", 11)), 1.0)
    assert found.touched == {"b"}

    found.apply(delta(11, 11), 2.0)
    assert found.touched == set()


# ── marks ──


def test_forced_down_is_down_whatever_it_beats():
    """For everybody: that is what the operator said."""
    found = replica(row("a", 9))

    changes = found.apply(delta(10, 11, marks=(Mark(member_id="a", revision=11, forced_down=True),)), 1.0)
    assert told(changes) == [("down", "a"), ("marked", "a")]
    assert view(found).up == ()
    assert view(found)["a"].status is Status.UP


def test_lifting_forced_down_is_joining():
    """It was no member for those who watch, and is one again."""
    found = replica(row("a", 9), marks=(Mark(member_id="a", revision=8, forced_down=True),))

    assert told(found.apply(delta(10, 11, removed=(("mark", "a"),)), 1.0)) == [
        ("joined", "a"),
        ("marked", "a"),
    ]


def test_a_disabled_member_is_here_but_not_usable():
    """The reason is there for people."""
    found = replica(row("a", 9), marks=(Mark(member_id="a", revision=8, disabled="disk"),))

    assert view(found)["a"].present and not view(found)["a"].usable
    assert view(found)["a"].disabled == "disk"


def test_a_mark_may_precede_the_first_life():
    """The member is listed, and is not here."""
    found = replica()

    changes = found.apply(delta(10, 11, marks=(Mark(member_id="z", revision=11, disabled="new"),)), 1.0)
    assert told(changes) == [("marked", "z")]
    assert (list(view(found)), len(view(found)), view(found).up) == (["z"], 1, ())
    assert (view(found)["z"].status, view(found)["z"].incarnation) == (Status.LEFT, 0)


def test_a_marked_member_is_listed_once():
    """Its row and its mark are one member."""
    found = replica(row("a", 9), marks=(Mark(member_id="a", revision=8, disabled="x"),))

    assert (list(view(found)), len(view(found))) == (["a"], 1)


# ── shared members ──


def process(number: int, revision: int, **more) -> Row:
    return row("api", revision, key=f"api\x1f{number}", **more)


def test_a_shared_member_is_named_once_with_its_best_status():
    """It is up while any of its processes is."""
    found = replica(process(1, 5, state=State.DOWN), process(2, 6), process(3, 7, state=State.SUSPECT))

    assert list(view(found)) == ["api"]
    assert view(found)["api"].status is Status.UP
    assert view(found)["api"].incarnation == 6


def test_a_shared_member_stays_while_one_process_goes():
    """The one that was shown went; the other was there all along, so nobody has left."""
    found = replica(process(1, 5), process(2, 6))

    changes = found.apply(delta(10, 11, process(1, 11, incarnation=5, state=State.LEFT)), 1.0)
    assert told(changes) == [("updated", "api")]


def test_a_shared_member_leaves_with_its_last_process():
    """Then, and only then, it is gone."""
    found = replica(process(1, 5), process(2, 6, state=State.LEFT))

    changes = found.apply(delta(10, 11, process(1, 11, incarnation=5, state=State.DOWN)), 1.0)
    assert told(changes) == [("down", "api")]


# ── who leads ──


def test_a_leader_that_goes_is_followed_by_the_next():
    """In the same view: no reader sees a leader that is down."""
    found = replica(row("a", 5, standing_since=5), row("b", 6, standing_since=6))

    changes = found.apply(delta(10, 11, row("a", 11, incarnation=5, state=State.DOWN)), 1.0)
    assert told(changes) == [("down", "a"), ("leader", "b")]
    assert view(found).leader == view(found)["b"]


def test_nobody_leads_while_an_earlier_claim_stands():
    """Its owner may still trust it; when it goes, the next leads."""
    found = replica(row("a", 5, standing_since=5), row("b", 6, standing_since=6))
    found.apply(delta(10, 12, row("a", 11, incarnation=5), claims=(claim(5, revision=12),)), 1.0)
    assert view(found).leader is None

    changes = found.apply(delta(12, 13, removed=(("claim", "x@1"),)), 2.0)
    assert told(changes) == [("leader", "b")]


def test_a_claim_alone_unseats_a_leader_that_it_precedes():
    """The leader's own row is as it was."""
    found = replica(row("b", 6, standing_since=6))

    changes = found.apply(delta(10, 11, claims=(claim(5, revision=11),)), 1.0)
    assert told(changes) == [("leader", "b")]
    assert view(found).leader is None


def test_leading_anew_is_a_change():
    """The same member with another token: what it did under the first one is over."""
    found = replica(row("a", 5, standing_since=5))

    changes = found.apply(delta(10, 11, row("a", 11, incarnation=5, standing_since=11)), 1.0)
    assert ("leader", "a") in told(changes)


def test_an_update_of_the_leader_is_no_change_of_leader():
    """Its standing is what it was."""
    found = replica(row("a", 5, standing_since=5))

    changes = found.apply(
        delta(10, 11, row("a", 11, incarnation=5, standing_since=5, capabilities=b"x")), 1.0
    )
    assert told(changes) == [("updated", "a")]
    assert view(found).leader == view(found)["a"]


# ── doubt ──


def test_suspects_degrade_the_view_until_the_last_is_gone():
    """The guard holds somebody back: that is said once, and once that it is over."""
    found = replica(row("a", 5), row("b", 6))

    changes = found.apply(delta(10, 11, row("a", 11, incarnation=5, state=State.SUSPECT)), 1.0)
    assert told(changes)[-1] == ("degraded", None)
    assert "1 of its members" in (view(found).degraded or "")
    assert sorted(m.member_id for m in view(found).up) == ["a", "b"]

    changes = found.apply(delta(11, 12, row("b", 12, incarnation=6, state=State.SUSPECT)), 2.0)
    assert told(changes) == [("updated", "b")]

    changes = found.apply(
        delta(12, 14, row("a", 13, incarnation=5), row("b", 14, incarnation=6, state=State.DOWN)), 3.0
    )
    assert told(changes)[-1] == ("steady", None)
    assert view(found).degraded is None


def test_trouble_degrades_the_view_until_it_ends():
    """The store does not serve us: what we show may be old. Said once each."""
    found = replica(row("a", 5))

    assert told(found.trouble("no store")) == [("degraded", None)]
    assert found.trouble("no store") == []
    assert view(found).degraded == "no store"
    assert told(found.trouble(None)) == [("steady", None)]


def test_a_view_that_begins_in_trouble_says_so():
    """Whoever begins to watch meanwhile sees it in the view."""
    found = Replica("g", lambda: 0.0)
    assert found.trouble("no store") == []
    found.apply(snapshot(10), 0.0)

    assert view(found).degraded == "no store"


# ── groups that go ──


def test_a_deleted_group_is_a_resync_to_nothing():
    """Nobody is here any more; and the next read asks for everything."""
    found = replica(row("a", 9))

    (change,) = found.vanish(1.0)
    assert (change.kind, len(change.view)) == (Kind.RESYNC, 0)
    assert (found.missing, found.view, found.revision) == (True, None, None)
    assert found.vanish(2.0) == []


def test_who_joins_a_group_that_was_made_again_is_told():
    """Its watchers were told that it is empty: what it has now is news to them."""
    found = replica(row("a", 9))
    found.vanish(1.0)

    assert told(found.apply(snapshot(20, row("b", 20)), 2.0)) == [("joined", "b")]
    assert not found.missing


# ── values ──


def test_the_records_of_one_member_are_read_off_the_replica():
    """A membership in a watched group needs no read of its own."""
    mark = Mark(member_id="a", revision=8, disabled="x")
    found = replica(row("a", 9), row("b", 10), marks=(mark,), claims=(claim(3),))

    assert found.of("a") == Snapshot(group="g", revision=10, rows=(row("a", 9),), marks=(mark,))
    assert found.of("x").claims == (claim(3),)


def test_a_view_names_only_whom_it_knows():
    """Anybody else is a KeyError, as in every mapping."""
    with pytest.raises(KeyError):
        view(replica(row("a", 9)))["b"]
    assert "b" not in view(replica(row("a", 9)))


def test_a_member_without_rows_or_mark_has_left():
    """So it is shown where a change is about somebody who is no longer known."""
    assert member_of("g", "a", (), None).status is Status.LEFT


@pytest.mark.parametrize(
    ("state", "ready", "status", "present"),
    [
        (State.UP, True, Status.UP, True),
        (State.UP, False, Status.UNREADY, False),
        (State.SUSPECT, True, Status.SUSPECT, True),
        (State.DOWN, True, Status.DOWN, False),
        (State.LEFT, False, Status.LEFT, False),
    ],
)
def test_what_a_row_says_is_what_the_member_is(state, ready, status, present):
    """Unready members are left out, suspects are not: not to report them dead is the guard's point."""
    found = replica(row("a", 9, state=state, ready=ready))

    assert (view(found)["a"].status, [m.member_id for m in view(found).up]) == (status, ["a"] * present)


# ── size ──


def test_ten_thousand_members_cost_their_rows():
    """Members are made when somebody looks at them: ten megabytes for the whole group at most."""
    rows = tuple(row(f"member-{n:05}", n + 1, capabilities=b"x" * 20) for n in range(10_000))
    tracemalloc.start()
    found = replica(*rows, revision=10_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert held < 10_000_000
    roll = view(found)._members
    assert isinstance(roll, Roll) and roll._made == {}


def test_one_change_among_ten_thousand_costs_little():
    """A delta of one row must not look at all the others: a generous bound, on a slow machine."""
    found = replica(*(row(f"member-{n:05}", n + 1) for n in range(10_000)), revision=10_000)
    began = time.perf_counter()
    for n in range(100):
        found.apply(delta(10_000 + n, 10_001 + n, row("x", 10_001 + n)), 1.0)

    assert time.perf_counter() - began < 1.0
