"""Stores that cannot be reached, restart, or forget: what they say, and what they keep."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from headcount.errors import OutcomeUnknown, StoreUnavailable
from headcount.model import Remark, State, deadline_ticks
from headcount.testing.conformance.harness import Harness, TickingHarness, only_if, ticking
from headcount.testing.conformance.sessions import over
from headcount.testing.conformance.town import Town, committed

PATIENCE = 15.0
"""Seconds within which every call has returned or raised, whatever the backend does."""


def hurried(harness: Harness) -> Town:
    """A town whose clients do not wait long for what is broken."""
    harness.patience = 0.3
    return Town(harness)


def refuses(call: Callable[[], object]) -> None:
    """It says in time that the store was not there."""
    started = time.monotonic()
    with pytest.raises((StoreUnavailable, OutcomeUnknown)):
        call()
    assert time.monotonic() - started < PATIENCE


def test_a_store_that_is_not_there_says_so(harness: Harness) -> None:
    """Nothing that writes pretends to have written, and none of it waits for ever."""
    town = hurried(harness)
    ann = town.person("ann")
    harness.break_()
    refuses(lambda: ann.beat())
    refuses(lambda: ann.propose(ann.entering()))
    refuses(lambda: ann.store.open_session(ann.about))
    refuses(lambda: ann.store.create_group("another"))
    harness.mend()

    assert ann.beat() == 0
    assert (town.rows(), town.store.groups()) == ({}, [town.group])


def test_a_store_that_is_back_goes_on(harness: Harness) -> None:
    """With the same clients, and as it was."""
    town = hurried(harness)
    ann = town.person("ann")
    row = ann.enter()
    before = town.snapshot()
    harness.break_()
    refuses(lambda: ann.propose(ann.entering("other", member_id="other")))
    harness.mend()

    assert town.snapshot() == before
    assert ann.amend(row, capabilities=b"on we go").revision > row.revision
    assert ann.beat() == 0


@only_if(expiry="ticks", stall_safe=True)
def test_an_outage_kills_nobody(harness: TickingHarness) -> None:
    """While the store does not serve, no tick comes, and so nobody's beats are missed."""
    town = hurried(harness)
    ann = town.person("ann")
    row = ann.enter()
    before = harness.hands().tick()
    harness.break_()
    refuses(lambda: harness.hands().advance(before, ann.session))
    harness.mend()
    harness.sweep()

    assert harness.hands().tick() == before
    assert (ann.beat(), town.row("ann")) == (0, row)


def test_a_store_is_closed_whether_or_not_it_is_there(harness: Harness) -> None:
    """It lets go, in time, and is not offended by being closed again."""
    store, unopened = harness.store(), harness.connect()
    unopened.close()
    store.beat([])
    harness.break_()
    started = time.monotonic()
    store.close()
    store.close()

    assert time.monotonic() - started < PATIENCE
    harness.mend()


def test_a_store_is_opened_once(harness: Harness) -> None:
    """Opening it again has no effect: it goes on with what it has."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    town.store.open()

    assert (ann.beat(), town.rows()) == (0, {"ann": row})


def test_clients_come_and_go(harness: Harness) -> None:
    """Sessions and rows belong to the store: closing the client that made them ends none of them."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    row = ann.enter()
    ann.store.close()

    assert town.store.beat([ann.session]).notices == {ann.session: 0}
    assert town.row("ann") == row


@only_if(durable=True)
def test_a_restart_loses_nothing(harness: Harness) -> None:
    """Groups, rows, marks, claims and revisions are as they were; sessions that beat in time live on."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter(capabilities=b"kept")
    town.remove(bob.enter(shards=frozenset({1})))
    town.mark("eve", disabled="for good")
    before = town.snapshot()
    harness.restart()
    again = Town(harness)

    assert again.store.groups() == [town.group]
    assert again.snapshot() == before
    assert again.store.beat([ann.session, bob.session]).notices == {ann.session: 0, bob.session: 1}
    assert again.person("cid").enter().standing_since > row.standing_since


@only_if(durable=True)
def test_a_restart_loses_no_tokens(harness: Harness) -> None:
    """Not even those of groups that were deleted before it."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(row := ann.enter())
    town.store.delete_group(town.group)
    harness.restart()

    assert Town(harness).person("ann").enter().standing_since > row.standing_since


@only_if(durable=True, expiry="ticks")
def test_a_restart_turns_no_clock_back(harness: TickingHarness) -> None:
    """And a session that was fenced stays so."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    harness.pass_time(over(harness))
    tick = ticking(town.store).tick()
    harness.restart()
    store = ticking(harness.store())

    assert store.tick().at == tick.at
    assert store.beat([ann.session]).notices == {ann.session: None}


@only_if(durable=True, expiry="ticks")
def test_the_time_of_a_claim_outlives_a_restart(harness: TickingHarness) -> None:
    """It neither goes early nor stays for ever."""
    town = Town(harness)
    ann = town.person("ann")
    town.remove(ann.enter())
    harness.sweep()
    harness.restart()
    again = Town(harness)
    harness.pass_ticks(2, kept=[ann.session])
    assert len(again.claims()) == 1
    harness.pass_time(over(harness), kept=[ann.session])

    assert again.claims() == ()


@only_if(durable=True, expiry="ticks")
def test_who_lost_the_beats_gives_everybody_a_whole_ttl(harness: TickingHarness) -> None:
    """Beats are volatile. That they are gone is no sign that anybody is: whoever was not fenced has as
    long as if it had beaten just now, and not longer."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter()
    bob.enter()
    harness.lose_beats()
    again = Town(harness)
    d = deadline_ticks(harness.ttl, harness.hands().tick().interval)
    harness.pass_ticks(d - 1)
    assert again.store.beat([ann.session]).notices == {ann.session: 0}
    assert again.row("bob").live

    harness.pass_ticks(1)
    assert again.store.beat([ann.session, bob.session]).notices == {ann.session: 0, bob.session: None}


@only_if(durable=True, expiry="ticks")
def test_a_first_beat_is_no_sign_that_all_are_there(harness: TickingHarness) -> None:
    """Somebody is told of something, which writes where the beats were, before anybody has missed them."""
    town = Town(harness)
    people = [town.person(name) for name in ("ann", "bob", "cid")]
    for person in people:
        person.enter()
    harness.lose_beats()
    again = Town(harness)
    again.mark("ann", disabled="to tell her")
    again.person("dora")

    sessions = [person.session for person in people]
    assert None not in again.store.beat(sessions).notices.values()


@only_if(durable=True, expiry="ticks")
def test_who_lost_the_beats_has_a_new_clock(harness: TickingHarness) -> None:
    """Its ticks are of another epoch, so that nobody takes them for the old ones. Epochs go by the second."""
    Town(harness)
    harness.pass_ticks(3)
    before = harness.hands().tick()
    harness.lose_beats()
    time.sleep(2)

    assert harness.hands().tick().epoch > before.epoch


@only_if(durable=True, expiry="ticks")
def test_who_lost_the_beats_revives_nobody(harness: TickingHarness) -> None:
    """The fence is in what is durable."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    harness.pass_time(over(harness))
    harness.lose_beats()
    again = Town(harness)

    assert again.store.beat([ann.session]).notices == {ann.session: None}
    assert again.row("ann").state is State.DOWN


@only_if(durable=True, expiry="ticks")
def test_who_lost_the_beats_keeps_claims_for_their_whole_time(harness: TickingHarness) -> None:
    """Their time was told by the clock that is gone."""
    town = Town(harness)
    ann = town.person("ann")
    town.remove(ann.enter())
    harness.sweep()
    harness.pass_ticks(2, kept=[ann.session])
    harness.lose_beats()
    again = Town(harness)
    harness.sweep()
    d = deadline_ticks(harness.ttl, harness.hands().tick().interval)
    harness.pass_ticks(d - 1, kept=[ann.session])
    assert len(again.claims()) == 1

    harness.pass_ticks(1, kept=[ann.session])
    assert again.claims() == ()


@only_if(durable=False)
def test_a_store_that_forgot_begins_above(harness: Harness) -> None:
    """It has lost groups and sessions, and says so; but a token from before is never given out again."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    harness.forget()
    assert town.store.groups() == []
    assert ann.beat() is None
    again = Town(harness)

    assert again.rows() == {}
    bob = again.person("bob")
    committed(bob.propose(Remark(member_id="eve", seen=0, disabled=""), bob.entering()))
    assert again.row("bob").standing_since > row.standing_since
    assert again.store.read(again.group, row.revision) == again.snapshot()


@only_if(durable=False, expiry="ticks")
def test_a_store_that_forgot_has_a_new_epoch(harness: TickingHarness) -> None:
    """Its ticks cannot be taken for those from before: one that saw the old clock moves nothing."""
    Town(harness).person("ann")
    harness.pass_ticks(3)
    before = harness.hands().tick()
    harness.forget()
    store = ticking(harness.store())
    now = store.tick()
    ann = Town(harness).person("ann")

    assert now.epoch > before.epoch
    assert store.advance(before, ann.session) == now
    assert store.advance(now, ann.session).at == (now.epoch, now.number + 1)


@only_if(durable=False)
def test_a_store_that_forgot_rings(harness: Harness) -> None:
    """Whoever watches a group learns without being asked that it is not there any more."""
    town = Town(harness)
    bell = town.store.doorbell()
    while bell.wait(0.05).groups:
        pass
    harness.forget()
    ring = bell.wait(5)

    assert ring.groups is None or town.group in ring.groups
    bell.close()
