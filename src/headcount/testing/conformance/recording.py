"""What a store tells people: who was seen when, what happened, and what it promises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from headcount.model import Withdraw
from headcount.stores.base import HISTORY, TickingStore
from headcount.testing.conformance.harness import Harness, TickingHarness, only_if
from headcount.testing.conformance.sessions import over
from headcount.testing.conformance.town import Town, committed, withdrawing


def test_a_store_says_what_it_promises(harness: Harness) -> None:
    """The guarantees are those for which its laws were chosen, before and after it is opened."""
    assert harness.connect().guarantees == harness.guarantees
    assert harness.store().guarantees == harness.guarantees


def test_promises_agree_with_one_another(harness: Harness) -> None:
    """What one flag says, another does not take back."""
    promised = harness.guarantees

    assert promised.max_capabilities > 0 and promised.precision >= 0
    assert promised.recheck is None or promised.recheck > 0
    assert promised.scope in ("process", "host", "network")
    assert promised.expiry in ("ticks", "sessions", "gossip")
    assert not (promised.scope == "process" and promised.durable)
    assert (promised.expiry != "ticks") or isinstance(harness.connect(), TickingStore)


def test_a_store_has_an_address(harness: Harness) -> None:
    """For messages: it is not empty, and the same for all clients of a backend."""
    assert harness.store().address
    assert "\n" not in harness.store().address


def test_the_last_beat_is_known(harness: Harness) -> None:
    """Of each live member, by the time of day; it moves on with the beats."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter()
    ann.enter("lock", mode="shared", member_id="a lock")
    town.mark("eve", disabled="")
    bob.leave(bob.enter())
    begun = town.store.last_seen(town.group)["ann"]
    ann.beat()
    seen = town.store.last_seen(town.group)

    assert set(seen) == {"ann", "a lock"}
    assert seen["ann"] >= begun
    assert seen["ann"].utcoffset() is not None
    assert abs(seen["ann"] - datetime.now(UTC)) < timedelta(days=1)


def test_the_last_beat_of_the_dead_is_not_told(harness: Harness) -> None:
    """It says who is here; of those who are not, the row says since when."""
    town = Town(harness)
    town.person("ann").enter()
    harness.pass_time(over(harness))

    assert town.store.last_seen(town.group) == {}


def test_the_last_beat_of_any_process_counts(harness: Harness) -> None:
    """A member that several processes share was seen when any of them was."""
    town = Town(harness)
    people = [town.person("ann") for _ in range(2)]
    for n, person in enumerate(people):
        person.enter(f"ann/{n}", share=True)
    for person in reversed(people):
        before = datetime.now(UTC) - timedelta(seconds=1)
        person.beat()

    assert town.store.last_seen(town.group)["ann"] >= before - timedelta(days=1)
    assert list(town.store.last_seen(town.group)) == ["ann"]


def test_history_tells_what_happened(harness: Harness) -> None:
    """To whom, by whom and at which revision, newest last."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    town.mark("ann", disabled="for a test")
    ann.leave(town.row("ann"))
    entries = town.store.history()

    assert [(e.member_id, e.what) for e in entries] == [("ann", "joined"), ("ann", "marked"), ("ann", "left")]
    assert [entry.who for entry in entries] == [ann.session, "", ann.session]
    assert entries[0].revision == row.revision
    assert "for a test" in entries[1].detail
    assert [entry.revision for entry in entries] == sorted({entry.revision for entry in entries})
    assert all(entry.group == town.group and entry.at > 0 for entry in entries)


def test_history_tells_of_expiry(harness: Harness) -> None:
    """Nobody said it, and it is told."""
    town = Town(harness)
    town.person("ann").enter()
    harness.pass_time(over(harness))

    assert [entry.what for entry in town.store.history(town.group)] == ["joined", "down"]


def test_history_tells_what_an_operator_vouched_for(harness: Harness) -> None:
    """Who says `fenced` is held to it, however it was said: of a mark, of a row, of a claim."""
    town = Town(harness)

    def last() -> str:
        return town.store.history(town.group)[-1].detail

    town.person("ann").enter()
    town.mark("ann", forced_down=True)
    assert "fenced" not in last()
    town.mark("ann", forced_down=True, fenced=True)
    assert "fenced" in last()
    town.mark("bob", forced_down=True, fenced=True)
    assert "fenced" in last()
    town.remove(town.person("cid").enter(), fenced=True)
    assert "fenced" in last()
    town.remove(town.person("dan").enter(), fenced=True, forget=True)
    assert "fenced" in last()


def test_history_is_by_group_and_member(harness: Harness) -> None:
    """Each alone, both, or all of it."""
    here, there = Town(harness, "here"), Town(harness, "there")
    for town in (here, there):
        for name in ["ann", "bob"]:
            town.person(name).enter()
    history = here.store.history

    assert len(history()) == 4
    assert {(e.group, e.member_id) for e in history("here")} == {("here", "ann"), ("here", "bob")}
    assert {(e.group, e.member_id) for e in history(member_id="ann")} == {("here", "ann"), ("there", "ann")}
    assert [(e.group, e.member_id) for e in history("there", member_id="bob")] == [("there", "bob")]
    assert history("nowhere") == []


def test_the_newest_history_comes_last(harness: Harness) -> None:
    """And if not all of it is asked for, the oldest is left out."""
    town = Town(harness)
    ann = town.person("ann")
    revisions = [ann.enter().revision for _ in range(5)]
    told = [entry.revision for entry in town.store.history(town.group) if entry.what == "joined"]
    assert told == revisions

    assert [entry.revision for entry in town.store.history(town.group, limit=1)] == revisions[-1:]


def test_a_busy_group_does_not_drown_the_history_of_another(harness: Harness) -> None:
    """What is kept is bounded, for each group by itself; so is what is told."""
    quiet, busy = Town(harness, "quiet"), Town(harness, "busy")
    quiet.person("ann").enter()
    bob = busy.person("bob", ttl=60.0)
    size = 1000
    seen: dict[str, int] = {}
    for _ in range(HISTORY // size + 2):
        done = committed(
            bob.propose(*(bob.entering(f"{n}", mode="x", seen=seen.get(f"{n}", 0)) for n in range(size)))
        )
        seen = {row.key: row.revision for row in done.rows}
    if isinstance(harness, TickingHarness):
        harness.pass_ticks(1, kept=[bob.session])
    told = busy.store.history("busy", limit=3 * HISTORY)

    assert len(told) <= HISTORY
    assert told[-1].revision == busy.revision
    assert [entry.what for entry in quiet.store.history("quiet")] == ["joined"]
    assert len(busy.store.history("busy")) == 100


@only_if(expiry="ticks")
def test_history_tells_of_suspicion(harness: TickingHarness) -> None:
    """Being held back and being back again are both told."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    harness.pass_time(over(harness), judge=lambda census: 0)
    ann.beat()
    ann.amend(town.row("ann"), present=True)

    assert [entry.what for entry in town.store.history(town.group)] == ["joined", "suspect", "back"]


def test_what_was_refused_is_no_history(harness: Harness) -> None:
    """It did not happen."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    ann.propose(withdrawing(row), Withdraw(key="nobody", incarnation=1, seen=1))

    assert [entry.what for entry in town.store.history()] == ["joined"]
