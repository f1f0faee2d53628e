"""Enter: how a life begins, and what keeps it from beginning."""

from __future__ import annotations

from headcount.model import Refusal, State
from headcount.testing.conformance.harness import Harness
from headcount.testing.conformance.town import Town, at_once, committed, refused, withdrawing


def test_a_row_says_what_was_entered(harness: Harness) -> None:
    """Every word of an enter is found again by whoever reads."""
    town = Town(harness)
    ann = town.person("ann", host="host of ann")
    ann.enter("key", capabilities=b"\x00\xff", shards=frozenset({0, 7, 255}), mode="exclusive")
    row = town.row("key")

    assert (row.key, row.member_id, row.state, row.ready) == ("key", "ann", State.UP, True)
    assert (row.session, row.instance, row.host) == (ann.session, "instance of ann", "host of ann")
    assert (row.ttl, row.mode, row.capabilities) == (harness.ttl, "exclusive", b"\x00\xff")
    assert row.shards == {0, 7, 255}
    assert row.since > 0


def test_the_answer_is_what_readers_see(harness: Harness) -> None:
    """The rows that a commit returns are those that it wrote, and the revision is the group's."""
    town = Town(harness)
    ann = town.person("ann")
    done = committed(ann.propose(ann.entering("one"), ann.entering("two", member_id="two")))

    assert {row.key: row for row in done.rows} == town.rows()
    assert done.revision == town.revision


def test_an_incarnation_is_the_revision_of_its_enter(harness: Harness) -> None:
    """So it is never used again, and an amend leaves it as it is."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    later = ann.amend(row, capabilities=b"new")

    assert row.incarnation == row.revision
    assert (later.incarnation, later.revision > row.revision) == (row.incarnation, True)


def test_entering_is_standing(harness: Harness) -> None:
    """Its token is the revision at which it stood; whoever does not want to stand has none."""
    town = Town(harness)

    row = town.person("ann").enter()
    assert row.standing_since == row.revision
    assert town.person("bob").enter(stand=False).standing_since == 0


def test_who_is_not_ready_does_not_stand(harness: Harness) -> None:
    """Not even if it says that it wants to."""
    row = Town(harness).person("ann").enter(ready=False, stand=True)

    assert (row.ready, row.state, row.standing_since) == (False, State.UP, 0)


def test_the_first_to_stand_has_the_lowest_token(harness: Harness) -> None:
    """Tokens follow the order in which they were taken, by whatever client."""
    town = Town(harness)
    rows = [town.person(name, own_client=True).enter() for name in ["cid", "ann", "bob"]]

    assert sorted(rows, key=lambda row: row.standing_since) == rows


def test_two_stands_in_one_commit_get_two_tokens(harness: Harness) -> None:
    """The same token twice would fence nobody."""
    town = Town(harness)
    ann = town.person("ann")
    committed(ann.propose(*(ann.entering(f"ann/{n}", mode="exclusive") for n in range(10))))

    assert len({row.standing_since for row in town.rows().values()}) == 10


def test_nobody_enters_over_a_row_it_has_not_seen(harness: Harness) -> None:
    """It is told which row is there, so that it can look and decide."""
    town = Town(harness)
    row = town.person("ann").enter()
    other = town.person("ann")

    assert refused(other.propose(other.entering()), Refusal.STALE).row == row
    assert town.row("ann") == row


def test_nobody_enters_over_a_row_that_has_changed(harness: Harness) -> None:
    """What was seen is a revision, not a name."""
    town = Town(harness)
    ann, other = town.person("ann"), town.person("ann")
    seen = ann.enter()
    now = ann.amend(seen, capabilities=b"changed since")

    assert refused(other.propose(other.entering(seen=seen.revision)), Refusal.STALE).row == now
    assert town.row("ann") == now


def test_nobody_enters_over_a_row_that_has_gone(harness: Harness) -> None:
    """A row that was seen and is not there any more is another state of things."""
    town = Town(harness)
    ann, other = town.person("ann"), town.person("ann")
    seen = ann.enter()
    ann.leave(seen, forget=True)

    refused(other.propose(other.entering(seen=seen.revision)), Refusal.STALE)
    assert town.rows() == {}


def test_a_doubled_enter_begins_one_life(harness: Harness) -> None:
    """The same message again, because the answer was lost, is refused and shows the row it made."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()

    assert refused(ann.propose(ann.entering()), Refusal.STALE).row == row
    assert town.row("ann") == row


def test_a_late_enter_does_not_end_a_newer_life(harness: Harness) -> None:
    """A message that was on its way while its sender left and came back comes too late."""
    town = Town(harness)
    ann = town.person("ann")
    late = ann.entering(capabilities=b"old")
    ann.leave(ann.enter(), forget=True)
    now = ann.enter(capabilities=b"new")

    refused(ann.propose(late), Refusal.STALE)
    assert town.row("ann") == now


def test_a_dead_row_may_be_entered_over(harness: Harness) -> None:
    """Whoever left or went down is there again, in a new life of which the row knows nothing old."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter(capabilities=b"old", shards=frozenset({1}))
    ann.leave(first)
    second = ann.enter()

    assert second.state is State.UP
    assert second.incarnation > first.incarnation
    assert (second.capabilities, second.shards) == (b"", frozenset())
    assert town.claims() == ()


def test_who_is_expelled_is_barred_until_that_is_lifted(harness: Harness) -> None:
    """From every session, also one that is opened afterwards."""
    town = Town(harness)
    town.mark("ann", expelled=True)
    ann = town.person("ann")

    refused(ann.propose(ann.entering()), Refusal.BARRED)
    refused(ann.propose(ann.entering("ann/lock", mode="shared")), Refusal.BARRED)
    assert town.rows() == {}
    town.mark("ann")
    assert ann.enter().standing_since


def test_who_is_disabled_enters_and_does_not_stand(harness: Harness) -> None:
    """A mark that precedes the first life holds for it."""
    town = Town(harness)
    town.mark("ann", disabled="")
    town.mark("bob", forced_down=True)

    assert town.person("ann").enter().standing_since == 0
    assert town.person("bob").enter().standing_since == 0


def test_a_member_has_one_row(harness: Harness) -> None:
    """Under another key it is refused, and told which row is in its way."""
    town = Town(harness)
    row = town.person("ann").enter()
    other = town.person("ann")

    assert refused(other.propose(other.entering("ann/2")), Refusal.STALE).row == row


def test_a_shared_member_has_a_row_for_each_process(harness: Harness) -> None:
    """The processes of one host are one member, and all their rows stand."""
    town = Town(harness)
    for n in range(3):
        town.person("ann", host="one").enter(f"ann/{n}", share=True)

    assert {row.member_id for row in town.rows().values()} == {"ann"}
    assert len({row.standing_since for row in town.rows().values()}) == 3


def test_another_host_does_not_share(harness: Harness) -> None:
    """It is refused, and told which row is in its way."""
    town = Town(harness)
    row = town.person("ann", host="one").enter("ann/1", share=True)
    other = town.person("ann", host="two")

    assert refused(other.propose(other.entering("ann/2", share=True)), Refusal.STALE).row == row


def test_who_shares_waits_for_who_does_not(harness: Harness) -> None:
    """A row of the member's own name was entered by one that shares with nobody, on the same host too."""
    town = Town(harness)
    row = town.person("ann").enter()
    other = town.person("ann")

    assert refused(other.propose(other.entering("ann/2", share=True)), Refusal.STALE).row == row


def test_who_does_not_share_takes_all_rows_by_name(harness: Harness) -> None:
    """It enters in a commit that withdraws each of them as it was seen, or not at all."""
    town = Town(harness)
    rows = [town.person("ann").enter(f"ann/{n}", share=True) for n in range(2)]
    other = town.person("ann")

    refused(other.propose(withdrawing(rows[0]), other.entering()), Refusal.STALE)
    assert town.rows() == {row.key: row for row in rows}
    committed(other.propose(*map(withdrawing, rows), other.entering()))
    assert [key for key, row in town.rows().items() if row.live] == ["ann"]


def test_a_dead_row_is_nobodys_rival(harness: Harness) -> None:
    """What has left or gone down elsewhere keeps no name."""
    town = Town(harness)
    ann = town.person("ann", host="one")
    ann.leave(ann.enter("ann/1", share=True))

    assert town.person("ann", host="two").enter("ann/2", share=True).live


def test_a_lock_has_a_row_for_each_acquire(harness: Harness) -> None:
    """Two threads of one member queue one behind the other, and each has a token of its own."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter("ann/1", mode="exclusive")
    second = ann.enter("ann/2", mode="shared")

    assert (first.mode, second.mode) == ("exclusive", "shared")
    assert second.standing_since > first.standing_since


def test_a_row_may_belong_to_nobody(harness: Harness) -> None:
    """A plan has no session, and no lack of one bars it."""
    town = Town(harness)
    plan = town.publish("plan", b"who does what")

    assert (plan.session, plan.capabilities) == ("", b"who does what")
    assert town.row("plan") == plan


def test_capabilities_are_bytes(harness: Harness) -> None:
    """Every byte comes back, none is added, and none at the end is lost."""
    town = Town(harness)
    ann = town.person("ann")
    for capabilities in [b"", bytes(range(256)), b"\x00", b"\x00\x00", b" ", b"a\n\r\n", b"\xe9"]:
        row = ann.enter(capabilities=capabilities)
        assert town.row("ann").capabilities == capabilities == row.capabilities


def test_capabilities_of_the_greatest_size_fit(harness: Harness) -> None:
    """As large as the store says that they may be, on enter and on amend."""
    town = Town(harness)
    ann = town.person("ann")
    size = harness.guarantees.max_capabilities
    large = bytes(range(1, 256)) * (size // 255 + 1)
    row = ann.enter(capabilities=large[:size])
    assert town.row("ann").capabilities == large[:size]

    ann.amend(row, capabilities=large[1 : size + 1])
    assert town.row("ann").capabilities == large[1 : size + 1]


def test_of_two_under_one_key_one_wins(harness: Harness) -> None:
    """Both have seen that nobody is there; one enters, the other is told who."""
    town = Town(harness)
    rivals = [town.person("ann", own_client=True) for _ in range(2)]

    def enter(key: str) -> list[str]:
        rows = at_once(2, lambda n: rivals[n].propose(rivals[n].entering(key, member_id=key)))
        return sorted(type(row).__name__ for row in rows)

    for key in ["1", "2", "3", "4", "5"]:
        assert enter(key) == ["Committed", "Refused"]
