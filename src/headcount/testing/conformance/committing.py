"""Commits: all or nothing, one after the other, each record with a revision of its own."""

from __future__ import annotations

import itertools

from headcount.model import (
    Committed,
    Empty,
    Expect,
    Refusal,
    Remark,
    Revision,
    Row,
    Standing,
    Stands,
    Unchanged,
)
from headcount.testing.conformance.harness import Harness, TickingHarness, nobody, only_if
from headcount.testing.conformance.town import (
    Town,
    amending,
    at_once,
    clients,
    committed,
    refused,
    withdrawing,
)


def test_a_commit_is_all_or_nothing(harness: Harness) -> None:
    """What the last write is refused for, the first ones have not done: no row, no notice, no history."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    before, history = town.snapshot(), town.store.history()
    stale = bob.entering("ann", member_id="ann")
    mark = Remark(member_id="ann", seen=0, expelled=True)

    refused(bob.propose(bob.entering(), withdrawing(row), mark, stale))
    assert town.snapshot() == before
    assert town.store.history() == history
    assert (ann.beat(), bob.beat()) == (0, 0)


def test_no_two_records_share_a_revision(harness: Harness) -> None:
    """Not even those of one commit: rows, marks and claims count on, one after the other."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(3)]
    for person in people:
        person.enter(shards=frozenset({1}))
    writes = [Remark(member_id=p.name, seen=0, disabled="all at once") for p in people]
    committed(town.propose(*writes))
    now = town.snapshot()
    revisions = [row.revision for row in now.rows]
    revisions += [mark.revision for mark in now.marks]
    revisions += [claim.revision for claim in now.claims]

    assert len(revisions) == 9 == len(set(revisions))
    assert max(revisions) == now.revision


def test_revisions_only_grow(harness: Harness) -> None:
    """Every commit of a change, by whomever, is later than the one before; and says so."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    seen = [town.revision]
    row = ann.enter()
    seen.append(town.revision)
    row = ann.amend(row, capabilities=b"x")
    seen.append(town.revision)
    town.mark("ann", disabled="")
    seen.append(town.revision)
    row = town.row("ann")
    ann.leave(row)
    seen.append(town.revision)
    seen.append(town.remove(town.row("ann"), forget=True).revision)
    town.mark("ann")
    seen.append(town.revision)

    assert seen == sorted(set(seen))


def test_an_empty_commit_changes_nothing(harness: Harness) -> None:
    """It answers with the revision that is."""
    town = Town(harness)
    before = town.snapshot()

    assert committed(town.propose()).revision == before.revision
    assert town.snapshot() == before


def test_beats_change_no_revision(harness: Harness) -> None:
    """What is volatile is never written where order is kept."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    before = town.snapshot()
    for _ in range(5):
        ann.beat()
    harness.pass_time(2 * harness.ttl, kept=[ann.session])

    assert town.snapshot() == before


def test_a_write_sees_those_before_it(harness: Harness) -> None:
    """In one commit a rival can be withdrawn and its name be taken; a mark bars the enter behind it."""
    town = Town(harness)
    row = town.person("ann", host="one").enter("ann/1", share=True)
    other = town.person("ann", host="two")
    committed(other.propose(withdrawing(row), other.entering()))
    assert town.row("ann").live

    bar = Remark(member_id="eve", seen=0, expelled=True)
    eve = town.person("eve")
    refused(eve.propose(bar, eve.entering()), Refusal.BARRED)
    assert town.marks() == {}


def test_expect_unchanged(harness: Harness) -> None:
    """A row at a revision, or no row: else nothing is written."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    expected = Unchanged(key="ann", revision=row.revision)

    committed(bob.propose(bob.entering("1", mode="x"), expect=[expected]))
    committed(bob.propose(bob.entering("2", mode="x"), expect=[Unchanged(key="nobody", revision=0)]))
    ann.amend(row, capabilities=b"changed")
    before = town.snapshot()
    absent, present = Unchanged(key="ann", revision=0), Unchanged(key="nobody", revision=row.revision)
    for unmet in [expected, absent, present]:
        refused(bob.propose(bob.entering("3", mode="x"), expect=[unmet]), Refusal.UNMET)
    assert town.snapshot() == before


def test_expect_stands(harness: Harness) -> None:
    """A leader publishes under its token, and not under one that it had."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    expected = Stands(key="ann", token=row.standing_since)
    plan = town.publish()

    committed(ann.propose(amending(plan, capabilities=b"1"), expect=[expected]))
    ann.amend(row, standing=Standing.ANEW)
    plan = town.row("plan")
    refused(ann.propose(amending(plan, capabilities=b"2"), expect=[expected]), Refusal.UNMET)
    refused(ann.propose(amending(plan), expect=[Stands(key="nobody", token=0)]), Refusal.UNMET)
    assert town.row("plan") == plan


def test_who_has_left_stands_no_more(harness: Harness) -> None:
    """Its token is good for nothing, and neither is the lack of one."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    ann.leave(row)

    refused(town.propose(expect=[Stands(key="ann", token=row.standing_since)]), Refusal.UNMET)
    refused(town.propose(expect=[Stands(key="ann", token=0)]), Refusal.UNMET)


@only_if(expiry="ticks")
def test_who_is_suspect_stands_no_more(harness: TickingHarness) -> None:
    """Failover does not wait for the guard."""
    town = Town(harness)
    row = town.person("ann").enter()
    harness.pass_time(harness.ttl + harness.slack, judge=nobody)

    refused(town.propose(expect=[Stands(key="ann", token=row.standing_since)]), Refusal.UNMET)
    refused(town.propose(expect=[Stands(key="ann", token=0)]), Refusal.UNMET)


def test_expect_empty(harness: Harness) -> None:
    """A shard is taken only from nobody: no live row holds any of those that are named."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter(shards=frozenset({1, 2, 200}))
    row = bob.enter()

    some, others = frozenset({2, 3}), frozenset({3, 4, 255})
    refused(bob.propose(amending(row, shards=some), expect=[Empty(shards=some)]), Refusal.UNMET)
    assert town.row("bob") == row
    committed(bob.propose(amending(row, shards=frozenset({3})), expect=[Empty(shards=others)]))
    assert town.row("bob").shards == {3}


def test_a_claimed_shard_is_not_empty(harness: Harness) -> None:
    """Whoever held it may still act on it."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter(shards=frozenset({1}))
    town.remove(row)
    take = bob.entering(shards=frozenset({1}))

    refused(bob.propose(take, expect=[Empty(shards=frozenset({1}))]), Refusal.UNMET)
    committed(ann.acknowledge(town.claims()[0]))
    committed(bob.propose(take, expect=[Empty(shards=frozenset({1}))]))


def test_what_the_dead_held_is_empty(harness: Harness) -> None:
    """Down and left rows hold nothing."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.leave(ann.enter(shards=frozenset({1})))
    bob.enter(shards=frozenset({2}))
    bob.store.close_session(bob.session)

    committed(town.propose(expect=[Empty(shards=frozenset({1, 2}))]))


def test_all_that_is_expected_must_be_so(harness: Harness) -> None:
    """One condition that fails is enough, wherever it is named."""
    town = Town(harness)
    row = town.person("ann").enter()
    both: list[Expect] = [Stands(key="ann", token=row.standing_since), Unchanged(key="ann", revision=1)]

    for expect in [both, both[::-1]]:
        refused(town.propose(Remark(member_id="ann", seen=0, disabled=""), expect=expect), Refusal.UNMET)
    assert town.marks() == {}


def test_a_shard_has_one_taker(harness: Harness) -> None:
    """Many find it empty at once, and one of them takes it."""
    town = Town(harness)
    people = [town.person(f"p{n}", own_client=True) for n in range(4)]
    for person in people:
        person.enter()

    def take(shard: int) -> list[str]:
        rows, wanted = town.rows(), frozenset({shard})

        def story(n: int) -> str:
            write = amending(rows[f"p{n}"], shards=rows[f"p{n}"].shards | wanted)
            return type(people[n].propose(write, expect=[Empty(shards=wanted)])).__name__

        return at_once(4, story)

    assert all(take(shard).count("Committed") == 1 for shard in range(5))
    assert sum(len(row.shards) for row in town.rows().values()) == 5


def _count_together(harness: Harness, threads: int, times: int) -> tuple[Row, list[Revision], Row]:
    """Threads with clients of their own count on one row; how it was, their revisions, how it is."""
    town = Town(harness)
    begun = town.publish("counter", b"0")
    stores = clients(harness, threads)

    def count(n: int) -> list[Revision]:
        written: list[Revision] = []
        while len(written) < times:
            now = stores[n].read(town.group)
            plus_one = str(int(now.rows[0].capabilities) + 1).encode()
            outcome = stores[n].commit(town.group, [amending(now.rows[0], capabilities=plus_one)])
            written += [outcome.revision] if isinstance(outcome, Committed) else []
        return written

    revisions = sorted(itertools.chain.from_iterable(at_once(threads, count)))
    return begun, revisions, town.row("counter")


def test_counters_lose_no_update(harness: Harness) -> None:
    """Each commit sees what it overwrites, so that all of them are counted, and numbered apart."""
    _, revisions, counter = _count_together(harness, 4, 8)

    assert counter.capabilities == b"32"
    assert len(set(revisions)) == 32
    assert counter.revision == revisions[-1]


@only_if(expiry="ticks")
def test_revisions_are_given_out_one_by_one(harness: Harness) -> None:
    """Where the register is ours, the order of revisions is that of commits, without gaps."""
    begun, revisions, _ = _count_together(harness, 3, 5)

    assert revisions == list(range(begun.revision + 1, begun.revision + 16))


def test_heart_and_watcher_share_a_client(harness: Harness) -> None:
    """Two threads use one client at once, one for the beats and one for the rest, and neither disturbs
    the other."""
    town = Town(harness)
    ann = town.person("ann")
    bell = town.store.doorbell()

    def story(n: int) -> set[int | None]:
        if n == 0:
            return {ann.beat() for _ in range(40)}
        for number in range(10):
            row = ann.enter(capabilities=bytes([number]))
            ann.leave(row, forget=number % 2 == 0)
            bell.wait(0)
            town.store.last_seen(town.group)
        return {town.row("ann").capabilities[0]}

    assert at_once(2, story) == [{0}, {9}]
    bell.close()


def test_a_crowd_enters_at_once(harness: Harness) -> None:
    """Everybody is in, and no two got the same incarnation or token."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(24)]
    stores = clients(harness, 4)

    def enter(n: int) -> None:
        for person in people[n::4]:
            committed(stores[n].commit(town.group, [person.entering()], by=person.session))

    at_once(4, enter)
    rows = town.rows().values()
    assert len({row.incarnation for row in rows}) == 24 == len({row.standing_since for row in rows})
    assert max(row.revision for row in rows) == town.revision
