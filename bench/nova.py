"""What does Nova's own way of it cost the database, and what does ours?

Its ServiceGroup API on a database: each service has a row; a beat reads that row and counts it up, in a
transaction that is synced, and who wants to know who is up loads all rows and compares times. The limit here
is that pattern: a ratio of 0.1 is ten times better. Only its statements are measured; what Nova spends
besides, on an RPC to its conductor and on an object mapper, is left out in its favour.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import headcount
from bench.beat import Paid
from bench.harness import Action, Figure, Line, Run, in_turns, opened, populate, session_of, with_options
from bench.raw import Place
from bench.raw_sql import RawSQL

SERVICES = 1000
DOWN_TIME = 60.0
BETTER = 0.1
"""Ten times."""


def measure(run: Run) -> Iterator[Line]:
    found: dict[tuple[str, str, bool], dict[str, Figure]] = {}
    for store in run.stores:
        for key, figure in _compared(run, store):
            found.setdefault(key, {})[store] = figure
    for (work, unit, has_goal), figures in found.items():
        goal = BETTER if has_goal else None
        yield Line(work, unit, figures, goal=goal, of_ratio=has_goal, limit="Nova's pattern")


def _compared(run: Run, store: str) -> Iterator[tuple[tuple[str, str, bool], Figure]]:
    count, host = run.size(SERVICES, 10), run.hosts[store]
    place = run.place(store)
    client = opened(place.url)
    sessions = [session_of(name).id for name in populate(client, "crowd", count)]
    nova = Nova(place, count)

    def each() -> None:
        for session in sessions:
            client.beat([session])

    thousand = 1000 / count * 1e3
    with closing(client):
        ways: dict[str, tuple[Action, bool]] = {
            "one process with all sessions": (lambda: client.beat(sessions), True),
            "each session by itself": (each, False),
        }
        for work, (ours, has_goal) in ways.items():
            paid = Paid(run, host, ours, nova.beats, times=1, warm=1)
            beats = f"1,000 beats, {work}; limit: Nova's"
            yield (f"server CPU of {beats}", "ms", has_goal), paid.by_the_server(thousand)
            yield (f"client CPU of {beats}", "ms", has_goal), paid.by_the_client(thousand)

    def one_shot() -> None:
        with headcount.connect(with_options(place.url, poll=5), timeout=60) as c:
            assert len(c.group("crowd").view().up) == count

    with headcount.connect(place.url, timeout=60) as c:
        group = c.group("crowd")
        group.view()
        looks: dict[str, tuple[Action, bool]] = {
            "view()": (group.view, True),
            "get_members()": (lambda: c.get_members("crowd"), True),
            "view(fresh=True)": (lambda: group.view(fresh=True), False),
            "connect, view(), close": (one_shot, False),
        }
        for work, (ours, has_goal) in looks.items():
            figure = in_turns(ours, nova.listing, times=run.size(5), rounds=run.repeat, factor=1e3)
            yield (f"listing of {count:,} by {work}; limit: Nova's", "ms", has_goal), figure


# ── Nova's pattern ──

TABLE = """
CREATE TABLE services (
    id INTEGER PRIMARY KEY, created_at TIMESTAMP NULL, updated_at TIMESTAMP NULL, deleted_at TIMESTAMP NULL,
    deleted INTEGER, host VARCHAR(255), {binary} VARCHAR(255), topic VARCHAR(255),
    report_count INTEGER NOT NULL, disabled BOOLEAN, disabled_reason VARCHAR(255),
    last_seen_up TIMESTAMP NULL, forced_down BOOLEAN, version INTEGER, uuid VARCHAR(36),
    UNIQUE (host, topic, deleted), UNIQUE (host, {binary}, deleted), UNIQUE (uuid))
"""
COLUMNS = (
    "created_at, updated_at, deleted_at, deleted, id, host, {binary}, topic, report_count, disabled, "
    "disabled_reason, last_seen_up, forced_down, version, uuid"
)
LAST_SEEN_UP, CREATED_AT = 11, 0


class Nova:
    """Services in a database, and one connection on which they beat and are listed."""

    def __init__(self, place: Place, count: int) -> None:
        binary = "`binary`" if place.store == "mysql" else '"binary"'
        self.con = connected(place)
        self.columns = COLUMNS.format(binary=binary)
        self._count = count
        self.con.ask(TABLE.format(binary=binary))
        now = _utcnow()
        insert = f"INSERT INTO services ({self.columns}) VALUES ({', '.join(['%s'] * 15)})"
        for first in range(0, count, 100):
            self.con.together(*((insert, _service(i, now)) for i in range(first, min(count, first + 100))))

    def beats(self) -> None:
        for number in range(self._count):
            beat(self.con, self.columns, number)

    def listing(self) -> int:
        up = listing(self.con, self.columns, DOWN_TIME)
        assert len(up) == self._count
        return sum(up)


def connected(place: Place) -> RawSQL:
    con = place.connect()
    assert isinstance(con, RawSQL)
    return con


def _service(number: int, now: datetime.datetime) -> tuple[object, ...]:
    host, uuid = f"compute-{number}", f"{number:036}"
    return (now, now, None, 0, number, host, "nova-compute", "compute", 0, False, None, now, False, 66, uuid)


def beat(con: RawSQL, columns: str, number: int) -> None:
    con.plain("BEGIN")
    rows = con.plain(f"SELECT {columns} FROM services WHERE deleted = 0 AND id = %s LIMIT 1", number)
    now = _utcnow()
    con.plain(
        "UPDATE services SET updated_at = %s, report_count = %s, last_seen_up = %s WHERE services.id = %s",
        now,
        rows[0][8] + 1,
        now,
        number,
    )
    con.plain("COMMIT")


def listing(con: RawSQL, columns: str, down_time: float) -> list[bool]:
    """Of each service, whether it is up: its last beat is not longer ago than that, by our clock."""
    return [_is_up(row, down_time) for row in con.plain(f"SELECT {columns} FROM services WHERE deleted = 0")]


def _is_up(row: tuple[Any, ...], down_time: float) -> bool:
    last: datetime.datetime = row[LAST_SEEN_UP] or row[CREATED_AT]
    return abs((_utcnow() - last).total_seconds()) <= down_time


def _utcnow() -> datetime.datetime:
    """Without a zone, as Nova stores it."""
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)
