"""The limit of the stores that speak SQL. Placeholders are %s."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bench.raw import Place, Raw

if TYPE_CHECKING:
    import psycopg

POLL = {"sqlite": 0.025, "mysql": 0.5}
"""Seconds between looks for news, where nobody tells. Ours looks as often."""

Rows = Sequence[tuple[Any, ...]]
Statement = tuple[str, Sequence[object]]

BEATS = """
CREATE {volatile} TABLE IF NOT EXISTS raw_beats
    (session {text} PRIMARY KEY, deadline BIGINT NOT NULL, lasts INTEGER NOT NULL, notice BIGINT NOT NULL,
     fenced BOOLEAN NOT NULL, seen DOUBLE PRECISION NOT NULL) {options}
"""
BEAT = "UPDATE raw_beats SET deadline = %s, seen = %s WHERE session = %s"
MEMBERS = """
CREATE TABLE IF NOT EXISTS members
    (member_id {text} PRIMARY KEY, revision INTEGER, state VARCHAR(10), since DOUBLE PRECISION)
"""
CROWDS = "CREATE TABLE IF NOT EXISTS crowds (id INTEGER PRIMARY KEY, revision INTEGER)"
JOIN = "INSERT INTO members VALUES (%s, %s, %s, %s)"
CHANGE = "UPDATE members SET revision = %s, since = %s WHERE member_id = %s"
COUNT = "UPDATE crowds SET revision = %s WHERE id = 1"
NUMBERS = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY)"


class RawSQL(Raw):
    volatile = ""
    """What goes before TABLE where a table may be empty after a crash."""
    options = ""
    """What follows the columns of a table whose rows are updated all the time."""
    text = "TEXT"
    """The type of an id."""
    one_of = "IN %s"
    """Follows a column that is to be any of a list."""
    counts = True
    """Whether a group needs a number of its own: of a file, the number of its last change will do."""
    _heard = 0

    def ask(self, statement: str, *values: object) -> Rows:
        """One statement that commits by itself; prepared, where the client can."""
        raise NotImplementedError

    def plain(self, statement: str, *values: object) -> Rows:
        """The same, as clients send it that prepare nothing."""
        return self.ask(statement, *values)

    def together(self, *statements: Statement) -> None:
        """One transaction, in as few round trips as the client can do it in."""
        raise NotImplementedError

    def wait_for_news(self) -> bool:
        """Until there may be some, or for a moment. Whether there may be some."""
        raise NotImplementedError

    # ── beats ──

    def bear(self, names: Sequence[str]) -> None:
        self.ask(BEATS.format(volatile=self.volatile, text=self.text, options=self.options))
        insert = "INSERT INTO raw_beats VALUES (%s, 1, 16, 0, false, 0)"
        self.together(*((insert, (name,)) for name in names))
        self._many = f"UPDATE raw_beats SET deadline = %s, seen = %s WHERE session {self.one_of}"

    def beat(self, name: str) -> None:
        self.ask(BEAT, 5, time.time(), name)

    def beat_all(self, names: Sequence[str]) -> None:
        self.ask(self._many, 5, time.time(), names)

    # ── rows ──

    def prepare(self) -> None:
        self.ask(MEMBERS.format(text=self.text))
        self.ask(CROWDS)
        self.ask("INSERT INTO crowds VALUES (1, 0)")
        self.add("one", 0)

    def add(self, name: str, number: int) -> None:
        self.ask(JOIN, name, number, "up", time.time())

    def add_counted(self, number: int) -> None:
        self._counted(number, (JOIN, (f"m{number}", number, "up", time.time())))

    def change_counted(self, number: int) -> None:
        self._counted(number, (CHANGE, (number, time.time(), "one")))

    def _counted(self, number: int, statement: Statement) -> None:
        self.together(*([(COUNT, (number,))] if self.counts else []), statement)

    # ── news ──

    def prepare_news(self) -> None:
        self.ask(NUMBERS)

    def tell(self, number: int) -> None:
        self.ask("INSERT INTO numbers VALUES (%s)", number)

    def news(self) -> Iterable[int]:
        if not self.wait_for_news():
            return []
        found = [n for (n,) in self.ask("SELECT number FROM numbers WHERE number > %s", self._heard)]
        self._heard = max([self._heard, *found])
        return found


class RawSQLite(RawSQL):
    counts = False

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


class RawPostgreSQL(RawSQL):
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

    def tell(self, number: int) -> None:
        self.together(("INSERT INTO numbers VALUES (%s)", (number,)), ("NOTIFY news", ()))

    def wait_for_news(self) -> bool:
        if not self._listens:
            self.con.execute("LISTEN news")
            self._listens = True
            return True
        return bool(list(self.con.notifies(timeout=0.1, stop_after=1)))

    def close(self) -> None:
        self.con.close()


class RawMySQL(RawSQL):
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
