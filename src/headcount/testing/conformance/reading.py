"""Reading: one picture at one revision, or exactly what changed since another."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headcount.model import Delta, Enter, Revision, Row, Snapshot, Standing, Vacate
from headcount.stores.base import TOMBSTONES, Store
from headcount.testing.conformance.harness import Harness, TickingHarness, only_if
from headcount.testing.conformance.sessions import over
from headcount.testing.conformance.town import Town, amending, at_once, clients, committed, withdrawing

Deed: TypeAlias = Callable[[Town, str, int], None]


def replayed(before: Snapshot, delta: Delta) -> Snapshot:
    """The later picture, made of the earlier one and of what changed."""
    assert delta.after == before.revision and delta.group == before.group
    rows = {row.key: row for row in before.rows} | {row.key: row for row in delta.rows}
    marks = {mark.member_id: mark for mark in before.marks} | {mark.member_id: mark for mark in delta.marks}
    claims = {claim.key: claim for claim in before.claims} | {claim.key: claim for claim in delta.claims}
    kinds: dict[str, dict[str, Any]] = {"row": rows, "mark": marks, "claim": claims}
    for kind, key in delta.removed:
        kinds[kind].pop(key, None)
    return Snapshot(
        group=before.group,
        revision=delta.revision,
        rows=tuple(rows.values()),
        marks=tuple(marks.values()),
        claims=tuple(claims.values()),
    )


def in_order(snapshot: Snapshot) -> Snapshot:
    """The same picture with its records in one order: a store may give them in any."""
    return Snapshot(
        group=snapshot.group,
        revision=snapshot.revision,
        rows=tuple(sorted(snapshot.rows, key=lambda row: row.revision)),
        marks=tuple(sorted(snapshot.marks, key=lambda mark: mark.revision)),
        claims=tuple(sorted(snapshot.claims, key=lambda claim: claim.revision)),
    )


def delta_after(town: Town, after: Revision) -> Delta:
    found = town.store.read(town.group, after)
    assert isinstance(found, Delta), "a delta that could have been given was not"
    return found


def test_an_empty_group_is_empty(harness: Harness) -> None:
    """It has a revision all the same."""
    found = Town(harness).snapshot()

    assert (found.rows, found.marks, found.claims) == ((), (), ())
    assert found.revision > 0


def test_every_client_reads_the_same(harness: Harness) -> None:
    """As soon as a commit has returned, whoever asks is shown it."""
    town = Town(harness)
    other = harness.store()
    row = town.person("ann").enter()
    town.mark("ann", disabled="")
    town.remove(town.row("ann"))

    found = other.read(town.group)
    assert isinstance(found, Snapshot)
    assert in_order(found) == in_order(town.snapshot())
    assert row.incarnation == found.rows[0].incarnation


def test_reading_changes_nothing(harness: Harness) -> None:
    """Not even the revision."""
    town = Town(harness)
    town.person("ann").enter()

    assert town.snapshot() == town.snapshot()


def test_a_few_members_alone(harness: Harness) -> None:
    """`only` gives the records of these members, under whatever key, and says of nobody else."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter("ann/1", mode="shared")
    ann.enter("ann/2", mode="shared")
    bob.enter()
    town.mark("bob", disabled="")
    town.mark("cid", disabled="")
    whole = town.snapshot()

    found = town.store.read(town.group, only=["ann", "cid", "nobody"])
    assert isinstance(found, Snapshot)
    assert {row.key for row in found.rows} == {"ann/1", "ann/2"}
    assert ([mark.member_id for mark in found.marks], found.claims) == (["cid"], ())
    assert found.revision == whole.revision
    bobs = town.store.read(town.group, only=["bob"])
    assert (len(bobs.rows), len(bobs.marks), len(bobs.claims)) == (1, 1, 1)


def test_of_nobody_there_is_nothing_to_say(harness: Harness) -> None:
    """`only` with no names gives no records, rather than all of them."""
    town = Town(harness)
    town.person("ann").enter()
    found = town.store.read(town.group, only=[])

    assert (found.rows, found.revision) == ((), town.revision)


def test_a_few_members_are_read_whole(harness: Harness) -> None:
    """`only` gives their records whenever they were written, also to whoever names a revision."""
    town = Town(harness)
    row = town.person("ann").enter()
    town.person("bob").enter()

    found = town.store.read(town.group, town.revision, only=["ann"])
    assert isinstance(found, Snapshot)
    assert found.rows == (row,)


@only_if(deltas=True)
def test_a_delta_says_what_changed(harness: Harness) -> None:
    """And nothing of what did not."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    bob.enter()
    seen = town.revision
    changed = ann.amend(row, capabilities=b"x")
    delta = delta_after(town, seen)

    assert (delta.after, delta.revision) == (seen, changed.revision)
    assert (delta.rows, delta.marks, delta.claims, delta.removed) == ((changed,), (), (), ())


@only_if(deltas=True)
def test_when_nothing_changed_a_delta_is_empty(harness: Harness) -> None:
    """Whoever is at the newest revision is told so."""
    town = Town(harness)
    town.person("ann").enter()
    delta = delta_after(town, town.revision)

    assert (delta.rows, delta.marks, delta.claims, delta.removed) == ((), (), (), ())
    assert delta.revision == town.revision


@only_if(deltas=True)
def test_a_delta_from_the_beginning(harness: Harness) -> None:
    """The revision at which a group was made is one that can be followed on."""
    town = Town(harness)
    begun = town.snapshot()
    town.person("ann").enter()

    assert replayed(begun, delta_after(town, begun.revision)) == town.snapshot()


@only_if(deltas=True)
def test_what_was_removed_is_told(harness: Harness) -> None:
    """Rows, marks and claims, each by its kind and key."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    town.mark("ann", disabled="")
    (claim,) = town.claims()
    seen = town.revision
    ann.leave(town.row("ann"), forget=True)
    town.mark("ann")
    committed(ann.acknowledge(claim))
    delta = delta_after(town, seen)

    assert set(delta.removed) == {("row", row.key), ("mark", "ann"), ("claim", claim.key)}
    assert len(delta.removed) == 3
    assert (delta.rows, delta.marks, delta.claims) == ((), (), ())


@only_if(deltas=True)
def test_what_is_there_again_was_not_removed(harness: Harness) -> None:
    """A key that went and came back is told as it is; whoever heard of neither is told no more than that."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    town.mark("ann", disabled="")
    seen = town.revision
    ann.leave(town.row("ann"), forget=True)
    town.mark("ann")
    town.mark("ann", disabled="again")
    row = ann.enter()
    delta = delta_after(town, seen)

    assert delta.removed == ()
    assert delta.rows == (row,)
    assert [mark.disabled for mark in delta.marks] == ["again"]


@only_if(deltas=True, expiry="ticks")
def test_what_a_sweep_does_is_told(harness: TickingHarness) -> None:
    """Rows that went down, lock rows that went, and claims that were vacated."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter()
    ann.enter("lock", mode="exclusive")
    town.remove(bob.enter())
    before = town.snapshot()
    harness.pass_time(over(harness))
    delta = delta_after(town, before.revision)

    assert {kind for kind, _ in delta.removed} == {"row", "claim"}
    assert in_order(replayed(before, delta)) == in_order(town.snapshot())


def test_who_reads_from_the_future_gets_all(harness: Harness) -> None:
    """A revision that the store has never given out is one of another history."""
    town = Town(harness)
    town.person("ann").enter()
    whole = town.snapshot()

    assert town.store.read(town.group, whole.revision + 1) == whole
    assert town.store.read(town.group, whole.revision + (1 << 33)) == whole


def test_who_reads_from_another_history_gets_all(harness: Harness) -> None:
    """A revision from before this group was made, be it of another epoch or of an older namesake."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(ann.enter())
    seen = town.revision
    town.store.delete_group(town.group)
    town.store.create_group(town.group)
    ann.enter()
    whole = town.snapshot()

    assert town.store.read(town.group, seen) == whole
    assert town.store.read(town.group, 1) == whole
    assert town.store.read(town.group, 0) == whole


@only_if(deltas=True, expiry="ticks")
def test_who_reads_from_too_long_ago_gets_all(harness: TickingHarness) -> None:
    """A store remembers a bounded number of removals, and does not pretend to remember more."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    seen = town.snapshot()
    batches, size = 6, TOMBSTONES // 4
    for batch in range(batches):
        done = committed(ann.propose(*(ann.entering(f"{batch}/{n}", mode="x") for n in range(size))))
        committed(ann.propose(*(withdrawing(row, forget=True) for row in done.rows)))
    harness.pass_ticks(1, kept=[ann.session])

    assert town.store.read(town.group, seen.revision) == town.snapshot()
    assert town.snapshot().rows == seen.rows
    assert len(delta_after(town, done.revision).removed) == size


@only_if(deltas=True, expiry="ticks")
def test_deltas_make_the_same_picture(harness: TickingHarness) -> None:
    """Whatever is done, and wherever one begins: the earlier picture and the delta are the later one."""
    deed = st.tuples(st.sampled_from(DEEDS), st.sampled_from(["ann", "bob"]), st.integers(0, 7))
    groups = (f"town {n}" for n in itertools.count())
    store = harness.store()

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(deed, min_size=1, max_size=14))
    def story(deeds: list[tuple[Deed, str, int]]) -> None:
        town = Town(harness, next(groups), store=store)
        pictures = [town.snapshot()]
        for deed, name, number in deeds:
            deed(town, name, number)
            pictures.append(town.snapshot())
        for earlier, later in itertools.pairwise(pictures):
            assert (earlier.revision < later.revision) == (in_order(earlier) != in_order(later))
        for picture in pictures:
            assert in_order(replayed(picture, delta_after(town, picture.revision))) == in_order(pictures[-1])

    story()


def test_a_picture_is_of_one_revision(harness: Harness) -> None:
    """Writers who change rows two by two, in one commit each, are never seen half-way by a reader: not in
    a snapshot, and not in what is made of deltas."""
    town = Town(harness)
    committed(town.propose(*(_plan(f"{n}/{side}") for n in range(3) for side in "ab")))
    stores = clients(harness, 5)
    done = threading.Event()

    def write(n: int) -> int:
        for number in range(15):
            rows = [row for row in stores[n].read(town.group).rows if row.key.startswith(f"{n}/")]
            both = [amending(row, capabilities=f"{number}".encode()) for row in rows]
            committed(stores[n].commit(town.group, both))
            time.sleep(0.001)
        return 0

    def read(n: int) -> int:
        picture, looks = town_picture(stores[n]), 0
        while not done.is_set() or looks < 5:
            looks += 1
            answer = stores[n].read(town.group, picture.revision if n == 3 else None)
            picture = replayed(picture, answer) if isinstance(answer, Delta) else answer
            assert len(picture.rows) == 6
            for pair in range(3):
                assert len({r.capabilities for r in picture.rows if r.key.startswith(f"{pair}/")}) == 1
            assert max(row.revision for row in picture.rows) == picture.revision
        return looks

    def town_picture(store: Store) -> Snapshot:
        found = store.read(town.group)
        assert isinstance(found, Snapshot)
        return found

    def story(n: int) -> int:
        if n >= 3:
            return read(n)
        try:
            return write(n)
        finally:
            if n == 0:
                done.set()

    assert max(at_once(5, story)) >= 5


def _plan(key: str) -> Enter:
    return Enter(key=key, member_id=key, seen=0, session="", instance="", host="", ttl=0, stand=False)


# ── what may happen in a town ──


def _enter(town: Town, name: str, number: int) -> None:
    person = town.person(name)
    row = town.rows().get(name)
    person.propose(
        person.entering(seen=row.revision if row else 0, shards=frozenset(range(number)), stand=number > 2)
    )


def _queue(town: Town, name: str, number: int) -> None:
    person = town.person(name)
    person.propose(person.entering(f"{name}/{number % 2}", mode="exclusive"))


def _amend(town: Town, name: str, number: int) -> None:
    for row in _rows(town, name):
        amend = amending(row, capabilities=bytes([number]), ready=number > 3, standing=Standing.STAND)
        town.store.commit(town.group, [amend], by=row.session)


def _leave(town: Town, name: str, number: int) -> None:
    for row in _rows(town, name):
        town.store.commit(town.group, [withdrawing(row, forget=number > 3)], by=row.session)


def _take(town: Town, name: str, number: int) -> None:
    for row in _rows(town, name):
        town.propose(withdrawing(row, forget=number % 2 == 0))


def _mark(town: Town, name: str, number: int) -> None:
    town.mark(name, disabled=str(number) if number > 3 else None, expelled=number == 2, fenced=number == 5)


def _acknowledge(town: Town, name: str, number: int) -> None:
    for claim in town.claims():
        town.store.commit(town.group, [Vacate(claim=claim.key)], by=claim.session)


def _lose(town: Town, name: str, number: int) -> None:
    for row in _rows(town, name):
        town.store.close_session(row.session)


def _time(town: Town, name: str, number: int) -> None:
    town.harness.pass_time(number)


def _rows(town: Town, name: str) -> list[Row]:
    return [row for row in town.snapshot().rows if row.member_id == name]


DEEDS: list[Deed] = [_enter, _queue, _amend, _leave, _take, _mark, _acknowledge, _lose, _time]
