"""What PostgreSQL and MySQL share: sweeps, locks and connections, where others get in between.

Each of these was once broken by somebody who tried to. (What waits together with others is in
`test_servers_intents`.)
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

import pytest

from headcount.errors import HeadcountError, StoreUnavailable
from headcount.model import Committed, Remark, Ring, Tick
from headcount.stores.sql import lines, server_sweep
from headcount.stores.sql.clock import locked_clock
from headcount.stores.sql.collisions import Collided
from headcount.stores.sql.speaking import Found
from headcount.testing.conformance.harness import everyone, nobody
from tests.conformance.places import Client, Place, meanwhile

AddIntent = Callable[..., None]

A_WHILE = 0.3
"""Seconds in which another thread gets to where it waits."""

TTL_TICKS = 12
"""More than a ttl of 10 s lasts."""


def take_away(place: Place, member_id: str, store: Client | None = None) -> None:
    """An operator's word, after which the place of the member is claimed until its owner has let go."""
    (store or place.other).commit("web", [Remark(member_id=member_id, seen=0, disabled="go")])


def claimed(place: Place) -> set[str]:
    return {claim.member_id for claim in place.store.read("web").claims}


# ── sweeps ──


def test_a_claim_counts_from_no_tick_older_than_itself(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep was paused, and meanwhile ticks went by, an owner's beat was taken, and its place was claimed.
    The claim waits for all the time that the owner trusts that beat."""
    first, owner = place.session("first"), place.session("owner")
    place.enter("first")
    place.enter("owner")
    take_away(place, "first")  # so that a sweep looks at claims at all
    sweeper = place.open()
    line: Any = sweeper.lines._shared
    ask = line.ask

    def paused(name: str, *values: Any) -> Found:
        if name == "unclocked_claims":
            place.pass_ticks(2 * TTL_TICKS, [first, owner])
            place.store.beat([owner])
            take_away(place, "owner")
        found: Found = ask(name, *values)
        return found

    monkeypatch.setattr(line, "ask", paused)
    sweeper.sweep(nobody)
    monkeypatch.undo()
    for _ in range(TTL_TICKS - 3):
        place.store.sweep(nobody)
        assert "owner" in claimed(place)
        place.pass_ticks(1, [first])
    place.pass_ticks(TTL_TICKS, [first])
    place.store.sweep(nobody)
    assert claimed(place) == set()


def test_a_group_that_is_locked_keeps_no_other_waiting(place: Place) -> None:
    """The dead go down everywhere else, claims get their time, and who is long gone is forgotten. And the
    sweep says that it could not do all."""
    keeper, gone = place.session("keeper"), place.session("gone", ttl=1.0)
    place.pass_ticks(5, [keeper])
    assert place.store.sweep(everyone).fenced == (gone,)
    place.pass_ticks(35, [keeper])
    place.session("dead", ttl=1.0)
    place.enter("keeper")
    groups = ("a", "b", "c")
    for group in groups:
        place.store.create_group(group)
        place.enter("dead", group)
    take_away(place, "keeper")
    place.pass_ticks(5, [keeper])
    sweeper = place.open(timeout=0.5)
    with place.holding("group_locked", "a"), pytest.raises(StoreUnavailable, match="lock"):
        sweeper.sweep(everyone)
    assert [place.keys(group) for group in groups] == [{"dead"}, set(), set()]
    assert place.ask("SELECT count(*) FROM hc.claims WHERE vacates_epoch > 0")[0][0] == 1
    assert place.ask("SELECT count(*) FROM hc.sessions WHERE id = 'gone'")[0][0] == 0
    sweeper.sweep(everyone)
    assert place.keys("a") == set()


def test_who_has_lapsed_is_not_locked_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the guard holds many back, a sweep looks again only at whom it has not heard of: each in its own
    group, and then nowhere."""
    keeper = place.session("keeper")
    place.store.create_group("db")
    for member_id, group in (("ann", "web"), ("bob", "db")):
        place.session(member_id, ttl=1.0)
        place.enter(member_id, group)
    place.pass_ticks(5, [keeper])
    settle = server_sweep.Sweep.settle
    settled: dict[str, list[str]] = {}

    def noted(self: Any, group: str, lapsing: Any = ()) -> Any:
        settled[group] = list(lapsing)
        return settle(self, group, lapsing)

    monkeypatch.setattr(server_sweep.Sweep, "settle", noted)
    assert place.store.sweep(nobody).lapsed == ("ann", "bob")
    assert settled == {"web": ["ann"], "db": ["bob"]}
    settled.clear()
    assert place.store.sweep(nobody).lapsed == ()
    assert settled == {}


# ── locks ──


def deadlocks(place: Place) -> int:
    if place.kind == "postgresql":
        query = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{place.database}'"
    else:
        query = "SELECT variable_value + 0 FROM information_schema.global_status " \
                "WHERE variable_name = 'innodb_deadlocks'"  # fmt: skip
    return int(place.ask(query)[0][0])


@contextmanager
def no_deadlock(place: Place) -> Iterator[None]:
    before = deadlocks(place)
    yield
    assert deadlocks(place) == before


def test_beats_and_notices_are_locked_in_one_order(place: Place) -> None:
    """A process beats many sessions, whatever order they were opened in; an operator tells them all."""
    sessions = [place.session(name) for name in ("c", "b", "a")]
    with no_deadlock(place):
        with place.holding("raise_notice", "a") as notices:
            beat = meanwhile(lambda: place.store.beat(sessions))
            time.sleep(A_WHILE)
            notices.run("raise_notice", "b")
            notices.run("raise_notice", "c")
            notices.all("clock")
        assert beat.result(5).notices == {"a": 1, "b": 1, "c": 1}


def test_commits_that_go_together_lock_sessions_in_one_order(
    place: Place, crowded: None, add_intent: AddIntent
) -> None:
    """Whoever asked first: the same members may be entering another group just now, in another order."""
    wishes = {name: place.entering(place.session(name)) for name in ("a", "b")}
    add_intent(wishes["a"])
    with no_deadlock(place), place.holding("alive", "a") as others:
        done = meanwhile(lambda: place.store.commit("web", [wishes["b"]], by="b"))
        time.sleep(A_WHILE)
        assert others.all("alive", "b")
    assert isinstance(done.result(5), Committed)
    assert place.keys() == {"a", "b"}


def test_commits_that_go_together_raise_their_notices_in_one_order(
    place: Place, crowded: None, add_intent: AddIntent
) -> None:
    """Whoever asked first. (MySQL has locked the sessions before that, to see if they live.)"""
    for name in ("a", "b"):
        place.session(name)
        place.enter(name)
    add_intent(Remark(member_id="a", seen=0, disabled="go"))
    told = {"a": 1, "b": 1}
    if place.kind == "postgresql":
        with no_deadlock(place), place.holding("raise_notice", "a") as notices:
            done = meanwhile(lambda: take_away(place, "b", place.store))
            time.sleep(A_WHILE)
            notices.run("raise_notice", "b")
            notices.all("clock")
        done.result(5)
        told = {"a": 2, "b": 2}
    else:
        take_away(place, "b", place.store)
    assert place.store.beat(["a", "b"]).notices == told


@pytest.mark.parametrize("call", ["commit", "beat", "sweep", "open_session", "create_group", "advance"])
def test_a_collision_is_no_outage(place: Place, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The server ends one of two transactions that wait for each other. It is tried again, and nobody hears
    of it; unless it never ends."""
    ann = place.session("ann")
    now = place.store.tick()
    calls: dict[str, Callable[[], object]] = {
        "commit": lambda: place.store.commit("web", [place.entering("ann")], by=ann),
        "beat": lambda: place.store.beat([ann]),
        "sweep": lambda: place.store.sweep(nobody),
        "open_session": lambda: place.session("bob"),
        "create_group": lambda: place.store.create_group("new"),
        "advance": lambda: place.store.advance(now, ann),
    }
    collisions: Iterator[bool] = iter([True, True, True])
    lines = [place.store.lines.watcher, place.store.lines.heart]

    def collides(which: Callable[[], Any]) -> Any:
        if next(collisions, False):
            raise Collided("two waited for each other")
        return which()

    for name, which in zip(("watcher", "heart"), lines, strict=True):
        monkeypatch.setattr(place.store.lines, name, partial(collides, which))
    calls[call]()
    assert next(collisions, False) is False
    collisions = itertools.repeat(True)
    with pytest.raises(StoreUnavailable, match="waited for each other"):
        calls[call]()


def test_beating_while_all_are_told(place: Place) -> None:
    """As an operator would do it, for a second: nobody meets an error."""
    sessions = [place.session(f"{number:02}") for number in reversed(range(20))]
    with no_deadlock(place):
        until = time.monotonic() + 1.0

        def tell() -> int:
            told = 0
            while time.monotonic() < until:
                with place.other.lines.watcher() as line, line.writing() as sql:
                    sql.each("raise_notice", [(session,) for session in sorted(sessions)])
                told += 1
            return told

        telling = meanwhile(tell)
        while time.monotonic() < until:
            beat = place.store.beat(sessions)
        told = telling.result(5)
        assert told > 5
        assert set(beat.notices) == set(sessions)
    assert place.store.beat(sessions).notices == dict.fromkeys(sessions, told)


# ── the clock ──


class CutShort(Exception):
    """Raised in a transaction that is to come to nothing."""


@contextmanager
def a_tick_in_vain(store: Client, ticker: str) -> Iterator[None]:
    """The clock is locked; at the end it is moved, and that is not committed."""
    with suppress(CutShort), store.lines.heart() as line, line.writing(durable=False) as sql:
        seen = locked_clock(sql)
        yield
        sql.run("set_tick", seen.number + 1, ticker, "[]", time.time())
        sql.all("clock")  # until here all has been carried out
        raise CutShort


def told(place: Place, *sessions: str) -> Tick:
    tick = place.store.beat(sessions).tick
    assert tick is not None
    return tick


def same(tick: Tick) -> tuple[object, ...]:
    """All of it that is not for people only."""
    return (*tick.at, tick.interval, tick.ticker, tick.standbys)


def test_a_beat_tells_who_ticks(place: Place) -> None:
    """Though its answer is a number: the rest is read when it has changed, and only then. The count of the
    changes begins anew now and then."""
    ann, bob = place.session("ann"), place.session("bob")
    for ticker in (ann, ann, bob, ann):
        tick = place.other.advance(place.other.tick(), ticker)
        for sessions in ((ann,), (ann, bob), (ann,)):
            assert same(told(place, *sessions)) == same(tick)
    place.change("UPDATE hc.clock SET roles = 4094")
    for ticker in (bob, ann, bob):
        tick = place.other.advance(place.other.tick(), ticker)
        assert same(told(place, ann)) == same(tick)
    epoch = place.other.new_epoch()
    assert told(place, ann).epoch >= epoch
    assert same(told(place, ann)) == same(place.other.tick())


def test_of_those_who_tick_at_once_one_does(place: Place) -> None:
    """They all wait for the clock, and have heard the same tick."""
    tickers = [place.session(name) for name in ("ann", "bob", "cid")]
    stores = [place.open() for _ in tickers]
    before = place.store.tick()
    with place.holding("lock_clock"):
        ticking = [
            meanwhile(partial(store.advance, before, ticker))
            for store, ticker in zip(stores, tickers, strict=True)
        ]
        time.sleep(A_WHILE)
    ticks = {same(one.result(5)) for one in ticking}
    assert ticks == {same(place.store.tick())}
    assert place.store.tick().number == before.number + 1


def test_who_waits_for_a_tick_that_comes_to_nothing_sees_what_it_left(place: Place) -> None:
    """On PostgreSQL the number has moved. Nobody else moves it from where it was."""
    ann, bob = place.session("ann"), place.session("bob")
    before = place.store.tick()
    with a_tick_in_vain(place.other, ann):
        ticking = meanwhile(partial(place.store.advance, before, bob))
        time.sleep(A_WHILE)
    tick = ticking.result(5)
    assert same(tick) == same(place.other.tick())
    assert (tick.number, tick.ticker) == (before.number + 1, "" if place.kind == "postgresql" else bob)


def test_a_tick_that_comes_to_nothing_stops_nobody(place: Place) -> None:
    """The server carries it out, and then does not commit it. Its number may stay (on PostgreSQL it does),
    its ticker does not; beats are taken, the next one ticks, and a sweep finds who is overdue then."""
    ann, bob = place.session("ann"), place.session("bob")
    place.enter("bob")
    first = place.store.advance(place.store.tick(), ann)
    told(place, ann)
    with place.committing_no_tick():
        with pytest.raises(HeadcountError):
            place.other.advance(first, bob)
        with pytest.raises(HeadcountError):
            place.other.new_epoch()
        left = place.store.tick()
        assert left.number == first.number + (place.kind == "postgresql")
        assert (left.epoch, left.ticker, left.standbys) == (first.epoch, first.ticker, first.standbys)
        for sessions in ((ann,), (ann, bob), (ann,)):
            assert same(told(place, *sessions)) == same(left)
    last = place.other.advance(left, bob)
    assert (last.number, last.ticker) == (left.number + 1, bob)
    for _ in range(2):
        assert same(told(place, ann, bob)) == same(told(place, ann)) == same(last)
    place.pass_ticks(TTL_TICKS - 2, [ann])
    assert place.store.sweep(everyone).fenced == ()
    place.pass_ticks(1, [ann])
    assert place.store.sweep(everyone).fenced == (bob,)
    assert place.keys() == set()
    assert place.other.new_epoch() > last.epoch
    assert place.store.beat([ann, bob]).notices == {ann: 0, bob: None}


def test_nobody_sees_the_tick_go_back(place: Place) -> None:
    """While ticks are made, and others come to nothing: not by a beat, nor by looking."""
    ann, bob = place.session("ann"), place.session("bob")
    until = time.monotonic() + 1.0
    counting = place.open()

    def seen(*sessions: str) -> list[tuple[int, int]]:
        store, found = place.open(), []
        while time.monotonic() < until:
            beat = store.beat(sessions)
            assert beat.tick is not None
            found += [beat.tick.at, store.tick().at]
        return found

    looking = [meanwhile(partial(seen, *sessions)) for sessions in ((ann,), (ann, bob))]
    while time.monotonic() < until:
        with a_tick_in_vain(counting, bob):
            pass
        counting.advance(counting.tick(), ann)
    for one in looking:
        found = one.result(5)
        assert found == sorted(found)
        assert len({number for _, number in found}) > 5


def test_who_takes_another_history_for_its_own_is_told_when_it_ticks(place: Place) -> None:
    """Behind a pooler, another server answers, and happens to have come to the same count of changes."""
    ann = place.session("ann")
    before = told(place, ann)
    place.change("UPDATE hc.clock SET epoch = epoch + 1")
    assert told(place, ann).at == before.at
    tick = place.store.advance(before, ann)
    assert tick.at == (before.epoch + 1, before.number)
    assert told(place, ann).at == tick.at
    assert place.store.advance(tick, ann).number == tick.number + 1


# ── connections ──


def test_through_a_pooler_each_transaction_has_its_limits(postgresql_server) -> None:
    """There the connection itself has none: it is somebody else's a moment later."""
    place = Place(postgresql_server)
    try:
        store = place.open(pooled=True, timeout=2.0)
        line: Any = store.lines._shared
        con = line.con()

        def shown() -> list[str]:
            names = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout", "jit")
            return [con.execute(f"SHOW {name}").fetchone()[0] for name in names]

        before = shown()
        assert before[:3] == ["0", "0", "0"]
        for durable in (True, False):
            with line.writing(durable=durable):
                assert shown() == ["1600ms", "2s", "1min", "off"]
            assert shown() == before
    finally:
        place.close()


def test_nobody_who_gave_up_goes_on_waiting_behind_a_pooler(postgresql_server, own_pgbouncer) -> None:
    """A single statement has its limits too. Else every beat that meets a lock, and every read, leaves a
    connection behind that waits in the server for as long as the lock is there; and the pooler opens more."""
    place = Place(postgresql_server)
    pooler = own_pgbouncer(postgresql_server)
    try:
        ann = place.session("ann")
        store = place.open(pooler.url(place.database), pooled=True, timeout=0.5)
        tables = ", ".join(f"headcount.{table}" for table in ("beats", "clock", "groups"))
        with postgresql_server.admin(place.database) as admin, admin.transaction():
            admin.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
            for call in (lambda: store.beat([ann]), lambda: store.read("web"), store.groups):
                with pytest.raises(StoreUnavailable, match="lock"):
                    call()
            assert place.ask("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == []
        assert store.beat([ann]).notices == {ann: 0}
        assert store.lines._shared.opened == 1
    finally:
        place.close()


@pytest.mark.parametrize("options", [{}, {"pooled": True}], ids=["direct", "pooled"])
def test_who_stands_still_in_a_transaction_is_thrown_out(place: Place, options: Mapping[str, Any]) -> None:
    """With the clock's row in its hands, it holds up everybody; but not for more than twice its timeout."""
    if options and place.kind == "mysql":
        options = {}  # it knows no poolers: its connections have their limits in any case
    ticker, timeout = place.session("ticker"), 0.5
    stopped = place.open(timeout=timeout, **options)
    before = place.store.tick()
    began = time.monotonic()
    with suppress(HeadcountError), stopped.lines.watcher() as line, line.writing() as sql:
        sql.all("lock_clock")
        after = place.store.advance(before, ticker)
        took = time.monotonic() - began
    assert after.number == before.number + 1
    assert took < 2 * timeout + A_WHILE


def test_a_connection_that_cannot_be_made_costs_one_beat(place: Place) -> None:
    """The server takes no more of them, and the shared one was busy. When it is not any more, it will do."""
    ann = place.session("ann")
    with place.letting_nobody_in():
        with place.store.lines.watcher(), pytest.raises(HeadcountError):
            place.store.beat([ann])
        for _ in range(3):
            assert place.store.beat([ann]).notices == {ann: 0}


def test_the_heart_never_has_the_connection_that_is_waited_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it was waiting for its turn there when the watching began."""
    monkeypatch.setattr(lines, "PATIENCE", 10.0)

    def beats_on() -> bool:
        with place.store.lines.heart() as line:
            return line is place.store.lines._shared

    assert beats_on()
    with place.store.lines.watcher():
        shared = meanwhile(beats_on)
        time.sleep(A_WHILE)
        bell: Future[Any] = meanwhile(place.store.doorbell)
        time.sleep(A_WHILE)
    assert not shared.result(5)
    bell.result(5).close()


def test_a_lock_that_was_waited_for_in_vain_costs_no_connection(place: Place) -> None:
    """Nor does the doorbell ring for all groups because of it."""
    store = place.open(timeout=0.5, poll=0.05)
    bell = store.doorbell()
    try:
        before = store.lines._shared.opened
        with place.holding("group_locked", "web"), pytest.raises(StoreUnavailable, match="lock"):
            store.commit("web", [Remark(member_id="ann", seen=0, disabled="go")])
        assert bell.wait(A_WHILE) == Ring()
        assert store.lines._shared.opened == before
    finally:
        bell.close()


# ── doorbells ──


def test_a_connection_that_is_cut_after_listen_is_listened_on_again(
    postgresql_server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next thing that is asked opens another one, where nobody has said LISTEN."""
    place = Place(postgresql_server)
    try:
        store = place.open(poll=30.0)
        bell = store.doorbell()
        line: Any = store.lines._shared
        listen = line.listen

        def cut_off(channel: str) -> None:
            monkeypatch.undo()
            listen(channel)
            place.cut(store)

        monkeypatch.setattr(line, "listen", cut_off)
        place.cut(store)
        assert rung(bell, 5.0) == "all"
        while rung(bell, 0.2) is not None:
            pass
        place.store.commit("web", [Remark(member_id="ann", seen=0, disabled="go")])
        assert rung(bell, 5.0) == {"web"}
        bell.close()
    finally:
        place.close()


def rung(bell: Any, seconds: float) -> set[str] | str | None:
    """What it rings for, if it does, within so many seconds. It may tell of a connection that is gone."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            ring = bell.wait(until - time.monotonic())
        except StoreUnavailable:
            continue
        if ring.groups is None:
            return "all"
        if ring.groups:
            return set(ring.groups)
    return None


def test_a_doorbell_that_cannot_be_made_leaves_nothing_behind(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again and again, for as long as the server is away."""
    store: Client = place.store

    def fails(*_: object) -> NoReturn:
        raise StoreUnavailable("away")

    for name in ("ask", "connect", "listen"):
        if hasattr(store.lines._shared, name):
            monkeypatch.setattr(store.lines._shared, name, fails)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(StoreUnavailable):
            store.doorbell()
    assert len(os.listdir("/proc/self/fd")) <= before
