"""The doorbell: it may ring twice, and for nothing, but it rings. What is read then is the truth."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headcount.model import Ring
from headcount.stores.base import Doorbell
from headcount.testing.conformance.harness import Harness, TickingHarness, only_if
from headcount.testing.conformance.town import Town, amending, committed

SOON = 1.0
"""Seconds within which a doorbell rings for a commit that has returned."""


def rings_for(bell: Doorbell, group: str, within: float = SOON) -> bool:
    """Whether it rings for the group in time; other rings on the way are no fault."""
    end = time.monotonic() + within
    while (left := end - time.monotonic()) > 0:
        ring = bell.wait(left)
        if ring.groups is None or group in ring.groups:
            return True
    return False


def quiet(bell: Doorbell) -> None:
    """Hear what was rung before the story begins."""
    while bell.wait(0.06) != Ring():
        pass


def after(seconds: float, deed: Callable[[], object]) -> threading.Thread:
    """Do it in a while, in another thread."""

    def later() -> None:
        time.sleep(seconds)
        deed()

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    return thread


def test_it_rings_for_a_commit_of_another(harness: Harness) -> None:
    """Soon after the commit has returned, and it names the group."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    bell = town.store.doorbell()
    quiet(bell)
    ann.enter()

    assert rings_for(bell, town.group)
    bell.close()


def test_it_rings_while_one_waits(harness: Harness) -> None:
    """The wait ends when there is something to read, not when its time is over."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    bell = town.store.doorbell()
    quiet(bell)
    message = ann.entering()
    started = time.monotonic()
    thread = after(0.1, lambda: ann.propose(message))

    assert rings_for(bell, town.group, 10)
    assert time.monotonic() - started < 0.1 + SOON
    thread.join()
    bell.close()


def test_it_rings_for_commits_of_its_own_client(harness: Harness) -> None:
    """Others in the same process are served by it as well."""
    town = Town(harness)
    bell = town.store.doorbell()
    quiet(bell)
    town.person("ann").enter()

    assert rings_for(bell, town.group)
    bell.close()


def test_it_rings_for_each_commit(harness: Harness) -> None:
    """A group that has been rung for is rung for again."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    bell = town.store.doorbell()
    for _ in range(3):
        quiet(bell)
        ann.enter()
        assert rings_for(bell, town.group)
    bell.close()


def test_it_rings_for_every_group(harness: Harness) -> None:
    """Each group that changed since the last wait is named in this one, or in one of the next."""
    towns = [Town(harness, f"town {n}") for n in range(3)]
    bell = towns[0].store.doorbell()
    quiet(bell)
    for town in towns:
        town.person("ann").enter()
    heard: set[str] = set()
    end = time.monotonic() + SOON
    while len(heard) < 3 and (left := end - time.monotonic()) > 0:
        ring = bell.wait(left)
        heard |= {town.group for town in towns} if ring.groups is None else set(ring.groups)

    assert heard >= {town.group for town in towns}
    bell.close()


def test_it_rings_for_marks_and_claims(harness: Harness) -> None:
    """Whatever has a revision is worth a look."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    bell = harness.store().doorbell()
    quiet(bell)
    town.mark("ann", disabled="")
    assert rings_for(bell, town.group)
    quiet(bell)
    committed(ann.acknowledge(town.claims()[0]))

    assert rings_for(bell, town.group)
    bell.close()


def test_it_rings_when_somebody_goes_down(harness: Harness) -> None:
    """Nobody's commit says so, but everybody wants to know."""
    town = Town(harness)
    town.person("ann").enter()
    bell = town.store.doorbell()
    quiet(bell)
    harness.pass_time(harness.ttl + harness.slack)

    assert rings_for(bell, town.group, SOON + harness.guarantees.precision)
    bell.close()


def test_it_rings_when_a_session_is_closed(harness: Harness) -> None:
    """Its rows have changed."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    bell = town.store.doorbell()
    quiet(bell)
    harness.store().close_session(ann.session)

    assert rings_for(bell, town.group)
    bell.close()


def test_it_rings_when_a_group_comes_and_goes(harness: Harness) -> None:
    """Whoever watches a name wants to know that there is such a group now, or none any more."""
    store, bell = harness.store(), harness.store().doorbell()
    quiet(bell)
    store.create_group("town")
    assert rings_for(bell, "town")
    quiet(bell)
    store.delete_group("town")

    assert rings_for(bell, "town")
    bell.close()


def test_several_bells_ring(harness: Harness) -> None:
    """One that is heard does not silence another."""
    town = Town(harness)
    bells = [town.store.doorbell(), harness.store().doorbell(), harness.store().doorbell()]
    for bell in bells:
        quiet(bell)
    town.person("ann").enter()

    assert [rings_for(bell, town.group) for bell in bells] == [True, True, True]
    for bell in bells:
        bell.close()


def test_what_changes_before_the_wait_is_rung_for(harness: Harness) -> None:
    """Between two waits the bell goes on listening: nothing falls between them."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    bell = town.store.doorbell()
    quiet(bell)
    row = ann.enter()
    time.sleep(0.2)
    assert rings_for(bell, town.group)
    ann.propose(amending(row, capabilities=b"x"))

    assert rings_for(bell, town.group)
    bell.close()


def test_it_is_quiet_when_nothing_happens(harness: Harness) -> None:
    """The wait then takes as long as it was asked to, and its ring is empty."""
    bell = Town(harness).store.doorbell()
    quiet(bell)
    started = time.monotonic()
    ring = bell.wait(0.3)

    assert ring == Ring()
    assert 0.25 <= time.monotonic() - started < 0.3 + SOON
    bell.close()


def test_one_may_look_without_waiting(harness: Harness) -> None:
    """A wait of no time comes back at once."""
    bell = Town(harness).store.doorbell()
    quiet(bell)
    started = time.monotonic()
    bell.wait(0)

    assert time.monotonic() - started < 0.3
    bell.close()


@only_if(recheck=None)
def test_it_does_not_ring_for_beats(harness: Harness) -> None:
    """A bell that rings with every heartbeat would have everybody read all the time."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(3)]
    for person in people:
        person.enter()
    bell = town.store.doorbell()
    quiet(bell)
    other = harness.store()
    for _ in range(3):
        other.beat([person.session for person in people])
    assert bell.wait(0.15) == Ring()
    harness.pass_time(harness.ttl, kept=[person.session for person in people])

    assert bell.wait(0.15) == Ring()
    bell.close()


@only_if(recheck=None, expiry="ticks")
def test_it_does_not_ring_for_ticks(harness: TickingHarness) -> None:
    """Nor for a sweep that finds nobody overdue."""
    town = Town(harness)
    harness.pass_ticks(1)
    bell = town.store.doorbell()
    quiet(bell)
    harness.pass_ticks(3)

    assert bell.wait(0.15) == Ring()
    bell.close()


@only_if(recheck=None)
def test_a_new_bell_does_not_ring_for_the_past(harness: Harness) -> None:
    """Whoever hangs it up first and reads then has seen all that was before, and misses nothing after."""
    town = Town(harness)
    town.person("ann").enter()
    bell = harness.store().doorbell()
    assert bell.wait(0.15) == Ring()
    town.person("bob").enter()

    assert rings_for(bell, town.group)
    bell.close()


def test_whoever_waits_can_be_woken(harness: Harness) -> None:
    """From another thread, at once, however long the wait was to be."""
    bell = Town(harness).store.doorbell()
    quiet(bell)
    started = time.monotonic()
    thread = after(0.1, bell.wake)
    bell.wait(30)

    assert time.monotonic() - started < 0.1 + SOON
    thread.join()
    bell.close()


def test_waking_before_the_wait_is_not_lost(harness: Harness) -> None:
    """It ends the next one; and only that."""
    bell = Town(harness).store.doorbell()
    quiet(bell)
    bell.wake()
    started = time.monotonic()
    bell.wait(30)
    assert time.monotonic() - started < SOON

    bell.wait(0.2)
    assert time.monotonic() - started >= 0.2
    bell.close()


def test_closing_a_bell_twice_is_no_error(harness: Harness) -> None:
    """And it leaves the store in use."""
    town = Town(harness)
    bell = town.store.doorbell()
    bell.wait(0)
    bell.close()
    bell.close()

    assert town.person("ann").enter().live
