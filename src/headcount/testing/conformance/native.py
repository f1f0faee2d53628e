"""Stores that expire sessions by themselves: their clock decides, and they tell the session's owner."""

from __future__ import annotations

import time

import pytest

from headcount.errors import StoreUnavailable
from headcount.model import SessionId, Snapshot, State
from headcount.stores.base import Doorbell
from headcount.testing.conformance.harness import Harness, only_if
from headcount.testing.conformance.ringing import SOON, quiet, rings_for
from headcount.testing.conformance.sessions import over
from headcount.testing.conformance.town import Town

SILENT = 10
"""Seconds after which silence has to mean something."""


def _listen(bell: Doorbell, seconds: int) -> None:
    for _ in range(seconds):
        bell.wait(1.0)


def _lost(bell: Doorbell, within: float) -> frozenset[SessionId]:
    """The sessions that the bell says are lost, in that time."""
    end, lost = time.monotonic() + within, frozenset[SessionId]()
    while not lost and (left := end - time.monotonic()) > 0:
        lost |= bell.wait(left).lost
    return lost


@only_if(expiry="sessions")
def test_sessions_expire_by_the_clock_of_the_store(harness: Harness) -> None:
    """Nobody has to tick or sweep, and nobody has to look."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter(shards=frozenset({1}))
    harness.pass_time(over(harness))

    row = town.row("ann")
    assert (row.state, row.standing_since, row.shards) == (State.DOWN, 0, frozenset())
    assert ann.beat() is None


@only_if(expiry="sessions")
def test_there_is_no_tick_to_read(harness: Harness) -> None:
    """A beat says nothing of ticks."""
    ann = Town(harness).person("ann")

    assert ann.store.beat([ann.session]).tick is None


@only_if(expiry="sessions")
def test_an_expiry_rings_by_itself(harness: Harness) -> None:
    """Whoever is waiting is told that a member went down, though nobody else looks at the store."""
    town = Town(harness)
    town.person("ann").enter()
    bell = harness.store().doorbell()
    quiet(bell)
    harness.pass_time(over(harness))
    started = time.monotonic()

    assert rings_for(bell, town.group, 5)
    assert time.monotonic() - started < SOON + harness.guarantees.precision
    bell.close()


@only_if(expiry="sessions")
def test_who_is_lost_is_told_by_the_doorbell(harness: Harness) -> None:
    """Trust ends now, rather than at its deadline; whoever lives is not named."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    bell = town.store.doorbell()
    quiet(bell)
    harness.pass_time(over(harness), kept=[bob.session])

    assert _lost(bell, SOON + harness.guarantees.precision) == {ann.session}
    assert (ann.beat(), bob.beat()) == (None, 0)
    bell.close()


@only_if(expiry="sessions")
def test_a_bell_that_is_cut_off_says_so(harness: Harness) -> None:
    """Whoever waits for it must not take its silence for peace: not for longer than some seconds."""
    town = Town(harness)
    bell = town.store.doorbell()
    quiet(bell)
    harness.break_()
    with pytest.raises(StoreUnavailable):
        _listen(bell, SILENT)
    harness.mend()
    town.person("ann").enter()

    assert rings_for(bell, town.group)
    bell.close()


@only_if(deltas=False)
def test_a_store_without_deltas_gives_it_all(harness: Harness) -> None:
    """Whatever revision one names."""
    town = Town(harness)
    town.person("ann").enter()
    seen = town.revision
    town.person("bob").enter()
    found = town.store.read(town.group, seen)

    assert isinstance(found, Snapshot)
    assert {row.key for row in found.rows} == {"ann", "bob"}
