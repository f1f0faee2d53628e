"""The limit: each store's own client, with as little as possible on top of it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

POLL = {"sqlite": 0.025, "mysql": 0.5}
"""Seconds between looks for news, where nobody tells. Ours looks as often."""

Rows = Sequence[tuple[Any, ...]]
Statement = tuple[str, Sequence[object]]


@dataclass(frozen=True)
class Place:
    """One database, as other processes are told of it. A file's `database` is its path."""

    store: str
    port: int
    database: str
    url: str = field(repr=False)

    def connect(self) -> Raw:
        kind: type[Raw] = {"sqlite": RawSQLite, "postgresql": RawPostgreSQL, "mysql": RawMySQL}[self.store]
        return kind(self)


class Raw:
    """A connection on which nothing is ours. What it commits is synced. Placeholders are %s."""

    volatile = ""
    """What goes before TABLE where a table may be empty after a crash."""
    options = ""
    """What follows the columns of a table whose rows are updated all the time."""
    text = "TEXT"
    """The type of an id."""
    one_of = "IN %s"
    """Follows a column that is to be any of a list."""

    def __init__(self, place: Place) -> None:
        raise NotImplementedError

    def ask(self, statement: str, *values: object) -> Rows:
        """One statement that commits by itself; prepared, where the client can."""
        raise NotImplementedError

    def plain(self, statement: str, *values: object) -> Rows:
        """The same, as clients send it that prepare nothing."""
        return self.ask(statement, *values)

    def together(self, *statements: Statement) -> None:
        """One transaction, in as few round trips as the client can do it in."""
        raise NotImplementedError

    def tell(self, statement: str, *values: object) -> None:
        """The same as `ask`, and those who wait for news hear of it."""
        self.ask(statement, *values)

    def wait_for_news(self) -> bool:
        """Until there may be some, or for a moment. Whether there may be some."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __del__(self) -> None:
        """Whoever is done with a limit drops it, and no more."""
        with suppress(Exception):
            self.close()


class RawSQLite(Raw):
    def __init__(self, place: Place) -> None:
        self.con = sqlite3.connect(place.database, isolation_level=None, timeout=60, check_same_thread=False)
        self.con.execute("PRAGMA journal_mode = WAL")
        self.con.execute("PRAGMA synchronous = FULL")
        self._version = 0

    def ask(self, statement: str, *values: object) -> Rows:
        return self.con.execute(statement.replace("%s", "?"), values).fetchall()

    def together(self, *statements: Statement) -> None:
        self.con.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            self.ask(statement, *values)
        self.con.execute("COMMIT")

    def wait_for_news(self) -> bool:
        """The least that SQLite asks of whoever wants to be told."""
        time.sleep(POLL["sqlite"])
        before = self._version
        (self._version,) = self.con.execute("PRAGMA data_version").fetchone()
        return self._version != before

    def close(self) -> None:
        self.con.close()


class RawPostgreSQL(Raw):
    volatile = "UNLOGGED"
    options = "WITH (fillfactor = 50)"
    one_of = "= ANY(%s)"

    def __init__(self, place: Place) -> None:
        import psycopg

        self.con = psycopg.connect(place.url, autocommit=True)
        self._listens = False

    def ask(self, statement: str, *values: object) -> Rows:
        return _rows(self.con.execute(_literal(statement), values or None, prepare=True))

    def plain(self, statement: str, *values: object) -> Rows:
        return _rows(self.con.execute(_literal(statement), values or None, prepare=False))

    def together(self, *statements: Statement) -> None:
        with self.con.pipeline():
            self.con.execute("BEGIN", prepare=True)
            for statement, values in statements:
                self.con.execute(_literal(statement), values or None, prepare=True)
            self.con.execute("COMMIT", prepare=True)

    def tell(self, statement: str, *values: object) -> None:
        self.together((statement, values), ("NOTIFY news", ()))

    def wait_for_news(self) -> bool:
        if not self._listens:
            self.con.execute("LISTEN news")
            self._listens = True
            return True
        return bool(list(self.con.notifies(timeout=0.1, stop_after=1)))

    def close(self) -> None:
        self.con.close()


class RawMySQL(Raw):
    text = "VARCHAR(64) CHARACTER SET ascii"

    def __init__(self, place: Place) -> None:
        import pymysql

        from tests.servers.base import HOST, PASSWORD, USER

        self.con: pymysql.Connection[pymysql.cursors.Cursor] = pymysql.connect(
            host=HOST,
            port=place.port,
            user=USER,
            password=PASSWORD,
            database=place.database,
            autocommit=True,
        )
        self._cursor = self.con.cursor()

    def ask(self, statement: str, *values: object) -> Rows:
        self._cursor.execute(statement, values or None)
        return self._cursor.fetchall()

    def together(self, *statements: Statement) -> None:
        self.con.begin()
        for statement, values in statements:
            self.ask(statement, *values)
        self.con.commit()

    def wait_for_news(self) -> bool:
        time.sleep(POLL["mysql"])
        return True

    def close(self) -> None:
        self.con.close()


def _rows(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Rows:
    return cursor.fetchall() if cursor.description is not None else ()


def _literal(statement: str) -> Any:
    """psycopg asks for literals, so that nobody puts values into them; a benchmark has its own."""
    return statement
