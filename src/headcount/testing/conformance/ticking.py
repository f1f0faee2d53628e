"""Ticks: the store's own clock, which its users move, one step at a time and never back."""

from __future__ import annotations

import threading
import time

from headcount.model import Census, SessionId, Tick, deadline_ticks
from headcount.register import replace
from headcount.stores.base import TickingStore
from headcount.testing.conformance.harness import TICKER, TickingHarness, only_if, ticking
from headcount.testing.conformance.town import Person, Town, at_once, clients


def _town(harness: TickingHarness) -> tuple[Town, TickingStore]:
    town = Town(harness)
    return town, ticking(town.store)


def _advance(person: Person) -> Tick:
    """This one ticks, once."""
    store = ticking(person.store)
    return store.advance(store.tick(), person.session)


@only_if(expiry="ticks")
def test_a_tick_is_one_step(harness: TickingHarness) -> None:
    """Whoever saw it last moves it to the next number, and everybody reads that."""
    town, store = _town(harness)
    before = store.tick()
    after = _advance(town.person("ann"))

    assert after.at == (before.epoch, before.number + 1)
    assert ticking(harness.store()).tick() == after


@only_if(expiry="ticks")
def test_a_tick_knows_its_interval(harness: TickingHarness) -> None:
    """It lives in the store, the same for all, and does not change as time goes by."""
    town, store = _town(harness)
    interval = store.tick().interval

    assert interval > 0
    assert _advance(town.person("ann")).interval == interval == ticking(harness.store()).tick().interval


@only_if(expiry="ticks")
def test_a_beat_tells_the_tick(harness: TickingHarness) -> None:
    """So that nobody has to ask for it: also a beat of nobody, and one that is lost."""
    town, store = _town(harness)
    ann = town.person("ann")
    _advance(ann)
    expected = store.tick()

    for sessions in [[ann.session], [], ["nobody"]]:
        assert store.beat(sessions).tick == expected


@only_if(expiry="ticks")
def test_of_many_tickers_one_moves_it(harness: TickingHarness) -> None:
    """However many try at the same number, it moves one step; each is told how it is then."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(5)]
    stores = [ticking(store) for store in clients(harness, 5)]

    def race(seen: Tick) -> list[Tick]:
        return at_once(5, lambda n: stores[n].advance(seen, people[n].session))

    for _ in range(4):
        seen = ticking(town.store).tick()
        now = [*race(seen), ticking(town.store).tick()]
        assert {tick.at for tick in now} == {(seen.epoch, seen.number + 1)}
        assert len({tick.ticker for tick in now}) == 1


@only_if(expiry="ticks")
def test_who_has_not_seen_the_last_tick_moves_nothing(harness: TickingHarness) -> None:
    """A late message makes the clock run no faster; it is told how it is."""
    town, store = _town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    seen = store.tick()
    _advance(ann)
    now = _advance(ann)

    assert store.advance(seen, bob.session) == now
    assert store.advance(replace(now, number=now.number + 1), bob.session) == now
    assert store.advance(replace(now, epoch=now.epoch + 1), bob.session) == now
    assert store.tick() == now


@only_if(expiry="ticks")
def test_a_tick_names_its_ticker(harness: TickingHarness) -> None:
    """So that the others need not try."""
    town, _ = _town(harness)
    ann, bob = town.person("ann"), town.person("bob")

    assert _advance(ann).ticker == ann.session
    assert _advance(bob).ticker == bob.session


@only_if(expiry="ticks")
def test_who_is_lost_does_not_tick(harness: TickingHarness) -> None:
    """Nobody ages the others who is not alive: closed, lost, or never opened."""
    town, store = _town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    town.store.close_session(ann.session)
    harness.pass_time(harness.ttl + harness.slack)
    before = store.tick()

    for ticker in [ann.session, bob.session, "nobody", ""]:
        assert store.advance(before, ticker) == before
    assert store.tick() == before


@only_if(expiry="ticks")
def test_two_stand_by(harness: TickingHarness) -> None:
    """Of the live sessions, two that are not the ticker; of other processes if there are any."""
    town, _ = _town(harness)
    ann = town.person("ann", process="one")
    assert _advance(ann).standbys == ()
    near = town.person("a near one", process="one")
    assert _advance(ann).standbys == (near.session,)

    other = Town(harness, "other")
    people = [other.person(name, process=name) for name in ["x", "y", "z"]]
    tick = _advance(ann)
    assert len(tick.standbys) == 2
    assert ann.session not in tick.standbys
    assert set(tick.standbys) <= {near.session, *(person.session for person in people)}


@only_if(expiry="ticks")
def test_those_of_other_processes_stand_by_first(harness: TickingHarness) -> None:
    """What takes the ticker away takes the sessions of its process with it."""
    town, _ = _town(harness)
    ann = town.person("zoe", process="one")
    for n in range(3):
        town.person(f"a near one {n}", process="one")
    others = {town.person(name, process=name).session for name in ["x", "y"]}

    assert set(_advance(ann).standbys) == others


@only_if(expiry="ticks")
def test_standbys_stay(harness: TickingHarness) -> None:
    """As long as they live, whoever else comes; else each would have to look again all the time."""
    town, _ = _town(harness)
    people = [town.person(name) for name in ["mia", "ned", "oda"]]
    standbys = _advance(people[0]).standbys
    for name in ["ann", "bob", "zoe"]:
        town.person(name)
        assert _advance(people[0]).standbys == standbys


@only_if(expiry="ticks")
def test_dead_standbys_are_replaced(harness: TickingHarness) -> None:
    """By the next tick, if there is anybody else."""
    town, _ = _town(harness)
    people = {p.session: p for p in [town.person(name) for name in ["ann", "bob", "cid", "dan"]]}
    ticker, *_ = people.values()
    first, second = _advance(ticker).standbys
    town.store.close_session(first)
    standbys = _advance(ticker).standbys

    assert first not in standbys and second in standbys
    assert len(standbys) == 2


@only_if(expiry="ticks")
def test_overdue_standbys_are_replaced(harness: TickingHarness) -> None:
    """Also if the guard holds them back, so that nobody has fenced them yet."""
    town, _ = _town(harness)
    for name in ["ann", "bob"]:
        town.person(name)
    harness.pass_ticks(1)
    late = ticking(town.store).tick().standbys
    assert len(late) == 2
    live = [town.person(name, ttl=50 * harness.ttl).session for name in ["cid", "dan"]]
    harness.pass_time(harness.ttl + harness.slack, judge=None)

    assert set(ticking(town.store).tick().standbys) == set(live)


@only_if(expiry="ticks")
def test_a_ticker_does_not_stand_by(harness: TickingHarness) -> None:
    """A standby that steps in leaves its place to another."""
    town, _ = _town(harness)
    people = {p.session: p for p in [town.person(name) for name in ["ann", "bob", "cid"]]}
    standby = _advance(next(iter(people.values()))).standbys[0]
    tick = _advance(people[standby])

    assert tick.ticker == standby
    assert standby not in tick.standbys and len(tick.standbys) == 2


@only_if(expiry="ticks")
def test_nobody_is_overdue_before_its_time(harness: TickingHarness) -> None:
    """D is the ttl in ticks and one more. A beat that was taken counts from the tick that it met."""
    town = Town(harness)
    interval = harness.hands().tick().interval
    for ttl in [3 * interval, 4.2 * interval]:
        ann = town.person("ann", ttl=ttl)
        harness.pass_ticks(deadline_ticks(ttl, interval) - 1)
        assert ann.beat() == 0
        harness.pass_ticks(deadline_ticks(ttl, interval) - 1)
        assert ann.beat() == 0


@only_if(expiry="ticks")
def test_everybody_is_overdue_at_its_time(harness: TickingHarness) -> None:
    """At the tick that is the deadline, not at the next one."""
    town = Town(harness)
    interval = harness.hands().tick().interval
    for ttl in [3 * interval, 4.2 * interval]:
        ann = town.person("ann", ttl=ttl)
        ann.beat()
        harness.pass_ticks(deadline_ticks(ttl, interval))
        assert ann.beat() is None


@only_if(expiry="ticks")
def test_no_beat_lowers_a_deadline(harness: TickingHarness) -> None:
    """What was promised to one is kept: opening the session again, for a shorter ttl, takes nothing back."""
    town = Town(harness)
    interval = harness.hands().tick().interval
    ann = town.person("ann", ttl=6 * interval)
    town.store.open_session(replace(ann.about, ttl=3 * interval))
    harness.pass_ticks(6)

    assert ann.beat() == 0


@only_if(expiry="ticks")
def test_a_beat_counts_from_the_tick_it_answers_with(harness: TickingHarness) -> None:
    """However many beat the session while the tick moves, and in whatever order that lands: the latest
    tick that a taken beat reported is the one from which its time runs."""
    town = Town(harness)
    interval = harness.hands().tick().interval
    ttl = 16 * interval  # more ticks than can pass while a beat is on its way
    ann = town.person("ann", ttl=ttl)
    harness.pass_ticks(1)
    stores = clients(harness, 3)
    over = threading.Event()

    def story(n: int) -> int:
        if n == 0:
            for _ in range(30):
                store = ticking(stores[n])
                store.advance(store.tick(), TICKER)
            over.set()
            return 0
        met = 0
        while not over.is_set():
            answer = stores[n].beat([ann.session])
            assert answer.tick is not None and answer.notices == {ann.session: 0}
            met = max(met, answer.tick.number)
        return met

    met = max(at_once(3, story))
    d = deadline_ticks(ttl, interval)
    while harness.hands().tick().number < met + d - 1:
        harness.pass_ticks(1)
    assert ann.beat() == 0


@only_if(expiry="ticks")
def test_a_beat_and_a_sweep_do_not_pass_each_other(harness: TickingHarness) -> None:
    """A beat that is taken after its deadline keeps the session from being fenced; one that is fenced
    has no beat taken any more: whichever comes first, both agree."""
    town = Town(harness)
    stores = clients(harness, 2)
    for n in range(6):
        ann = town.person(f"ann{n}")
        ann.enter()
        harness.pass_time(harness.ttl + harness.slack, judge=None)
        judged = threading.Event()
        if n % 2:
            judged.set()

        def story(n: int, session: SessionId = ann.session, judged: threading.Event = judged) -> bool:
            if n == 0:
                judged.wait(10)  # every other time: who is overdue is known by then
                return stores[0].beat([session]).notices[session] is not None

            def judge(census: Census) -> int:
                judged.set()
                time.sleep(0.02)
                return census.overdue

            return session not in ticking(stores[1]).sweep(judge).fenced

        taken, spared = at_once(2, story)
        assert taken == spared == (ann.beat() is not None) == town.row(ann.name).live


@only_if(expiry="ticks")
def test_a_beat_at_the_last_moment_is_enough(harness: TickingHarness) -> None:
    """It is overdue, but nobody has fenced it yet: the sweep that comes then finds a new deadline."""
    town = Town(harness)
    ann = town.person("ann", own_client=True)
    row = ann.enter()
    harness.pass_ticks(deadline_ticks(harness.ttl, harness.hands().tick().interval) + 5, judge=None)
    assert ann.beat() == 0
    harness.sweep()

    assert ann.beat() == 0
    assert town.row("ann") == row


@only_if(expiry="ticks")
def test_while_no_tick_comes_nobody_ages(harness: TickingHarness) -> None:
    """A store that stands still, or tickers that do: any number of sweeps expires nobody."""
    town, store = _town(harness)
    people = [town.person(f"p{n}") for n in range(3)]
    before = store.tick()
    for _ in range(10):
        harness.sweep()

    assert [person.beat() for person in people] == [0, 0, 0]
    assert store.tick() == before


@only_if(expiry="ticks")
def test_ticks_are_no_commits(harness: TickingHarness) -> None:
    """The clock is no part of any group."""
    town, _ = _town(harness)
    ann = town.person("ann")
    ann.enter()
    before = town.snapshot()
    harness.pass_ticks(4, kept=[ann.session])

    assert town.snapshot() == before
    assert ticking(town.store).tick().ticker == TICKER


@only_if(expiry="ticks")
def test_opening_a_store_does_not_touch_its_clock(harness: TickingHarness) -> None:
    """Whoever comes later finds the tick as it is, and so does whoever opens twice."""
    town, store = _town(harness)
    tick = _advance(town.person("ann"))
    town.store.open()
    harness.store()

    assert store.tick() == tick
