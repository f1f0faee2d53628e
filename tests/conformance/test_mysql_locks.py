"""MySQL and MariaDB: who waits for whom, and what a beat's one statement tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headcount.model import Enter, Refused, Session
from headcount.stores import make
from headcount.stores.sql import mysql_beat
from headcount.stores.sql.collisions import Collided
from headcount.stores.sql.mysql import MySQLStore
from headcount.stores.sql.mysql_line import MySQLSql
from headcount.testing.conformance.harness import everyone
from tests.servers.mariadb import MariaDB

SOON = 0.5


class Place:
    def __init__(self, server: MariaDB) -> None:
        self.server = server
        self.database = server.fresh_database()
        self.made: list[MySQLStore] = []
        self.store, self.other = self.open(), self.open()
        self.store.create_group("web")

    def open(self) -> MySQLStore:
        store = make(self.server.url(self.database, timeout=2.0))
        assert isinstance(store, MySQLStore)
        store.open()
        self.made.append(store)
        return store

    def session(self, name: str) -> str:
        self.store.open_session(Session(id=name, instance="i", host="h", process=name, ttl=10.0))
        return name

    def enter(self, name: str, session: str) -> None:
        wish = Enter(key=name, member_id=name, session=session, instance="i", host="h", ttl=10.0, seen=0)
        assert not isinstance(self.store.commit("web", [wish], by=session), Refused)

    def ask(self, query: str) -> tuple[tuple[object, ...], ...]:
        return self.server.ask(query, database=self.database)

    @contextmanager
    def holding(self, name: str, *values: object) -> Iterator[MySQLSql]:
        """A transaction of somebody else, which has asked this, and goes on."""
        with self.other.lines.watcher() as line, line.writing() as sql:
            sql.all(name, *values)
            yield sql


@pytest.fixture
def place(mariadb_server: MariaDB) -> Iterator[Place]:
    made = Place(mariadb_server)
    yield made
    for store in made.made:
        store.close()
    mariadb_server.drop_database(made.database)


@contextmanager
def at_once() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


def test_nobody_but_a_ticker_waits_for_the_clock(place: Place) -> None:
    """What an UPDATE or an INSERT reads beside the row that it writes is locked in some forms of them: not in
    those that are used here."""
    ann, bob = place.session("ann"), place.session("bob")
    with place.holding("lock_clock"), at_once():
        assert place.store.beat([ann]).notices == {ann: 0}
        assert place.store.beat([ann, bob]).notices == {ann: 0, bob: 0}
        place.session("cid")
        place.enter("ann", ann)
        place.store.close_session(bob)
        with place.store.lines.watcher() as line, line.writing() as sql:
            sql.run("raise_notice", ann)
    assert place.store.beat([ann]).notices == {ann: 1}


def test_a_sweep_waits_for_no_beat(place: Place) -> None:
    """Who holds one is at work. The others are fenced."""
    ann, bob, ticker = place.session("ann"), place.session("bob"), place.session("ticker")
    place.ask("UPDATE headcount_beats SET deadline = 0 WHERE session IN ('ann', 'bob')")
    with place.holding("still_overdue", [ann], 10), at_once():
        assert place.store.sweep(everyone).fenced == (bob,)
    assert place.store.sweep(everyone).fenced == (ann,)
    assert place.store.beat([ticker]).notices == {ticker: 0}


def test_a_sweep_waits_for_no_commit(place: Place) -> None:
    """Whose session is overdue, but is just writing."""
    ann = place.session("ann")
    place.enter("ann", ann)
    place.ask("UPDATE headcount_beats SET deadline = 0 WHERE session = 'ann'")
    with place.holding("alive", ann), at_once():
        assert place.store.sweep(everyone).fenced == ()
    assert place.store.sweep(everyone).fenced == (ann,)


def test_a_stray_beat_goes_and_nobody_waits_for_it(place: Place) -> None:
    place.session("ann")
    bob = place.session("bob")
    place.ask("DELETE FROM headcount_sessions WHERE id = 'ann'")
    place.ask("UPDATE headcount_beats SET deadline = 0 WHERE session = 'ann'")
    with place.holding("still_overdue", [bob], 1000), at_once():
        place.store.sweep(everyone)
    assert place.ask("SELECT session FROM headcount_beats ORDER BY 1") == ((b"",), (b"bob",))


def test_two_that_wait_for_each_other_are_told_at_once(place: Place) -> None:
    """One of them goes on, the other is told to try again."""
    ann, bob = place.session("ann"), place.session("bob")
    place.ask("INSERT INTO headcount_history (at, group_name, member_id, what, who, revision, detail) "
              "SELECT 1, '', '', '', '', 1, '' FROM headcount_sessions")  # fmt: skip

    def cross() -> None:
        import threading

        with place.store.lines.watcher() as line, line.writing() as sql:
            sql.all("alive", ann)
            got = threading.Event()

            def other() -> None:
                with place.holding("alive", bob) as theirs:
                    for _ in range(20):  # so that it is the heavier one, and stays
                        theirs.run("note_rows", bob)
                    theirs.run("set_pruned")
                    theirs.flush()
                    got.set()
                    theirs.all("alive", ann)

            thread = threading.Thread(target=other)
            thread.start()
            assert got.wait(5)
            try:
                time.sleep(0.1)
                sql.all("alive", bob)
            finally:
                thread.join(5)

    with at_once(), pytest.raises(Collided, match="1213"):
        cross()
    assert place.store.beat([ann, bob]).notices == {ann: 0, bob: 0}


@pytest.mark.parametrize("notice", [1, mysql_beat.NOTICES - 1, mysql_beat.NOTICES, mysql_beat.NOTICES + 7])
def test_a_beat_tells_every_notice(place: Place, notice: int) -> None:
    """Also those that do not fit into the number; and the deadline is right."""
    ann, bob = place.session("ann"), place.session("bob")
    place.ask(f"UPDATE headcount_beats SET notice = {notice} WHERE session = 'ann'")
    place.ask("UPDATE headcount_clock SET number = 1000, roles = 12345678")
    assert place.store.beat([ann]).notices == {ann: notice}
    assert place.store.beat([ann, bob]).notices == {ann: notice, bob: 0}
    tick = place.store.beat([ann]).tick
    assert tick is not None
    assert tick.number == 1000
    assert place.ask("SELECT deadline - lasts FROM headcount_beats WHERE session <> ''") == ((1000,), (1000,))
