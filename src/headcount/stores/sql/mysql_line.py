"""One connection to MySQL or MariaDB, on which statements that need no answer wait for one that does.

They go out together, in one packet: so a commit is two or three round trips, and not twenty. The server
carries them out one by one, and none after one that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pymysql

from headcount.errors import HeadcountError, StoreUnavailable
from headcount.stores.sql.mysql_connection import MySQLConnection, Result, limits, literal
from headcount.stores.sql.mysql_errors import silent, translate
from headcount.stores.sql.server_line import ServerLine
from headcount.stores.sql.speaking import Found

LONGEST_MAKING = 60.0
"""Seconds that making or migrating a schema may take."""

MOST_WAITING = 500_000
"""Characters of statements that wait for each other: far below the server's max_allowed_packet."""


def written(statement: str, values: Sequence[Any]) -> str:
    """The statement with its values: by name, by number, or in order."""
    if len(values) == 1 and isinstance(values[0], dict):
        return statement % {name: literal(value) for name, value in values[0].items()}
    if "%(1)s" in statement:
        return statement % {str(n): literal(value) for n, value in enumerate(values, 1)}
    return statement % tuple(map(literal, values))


def _rows(results: Sequence[Result]) -> Found:
    return next((result.rows for result in reversed(results) if result.rows is not None), [])


class MySQLSql:
    """One transaction."""

    def __init__(self, con: MySQLConnection, statements: Mapping[str, str]) -> None:
        self._con = con
        self._statements = statements
        self._waiting: list[tuple[str, int, list[Result]]] = []
        self._length = 0
        self.began = False
        self.committing = False

    def all(self, name: str, *values: Any) -> Found:
        return self.later(name, *values)()

    def later(self, name: str, *values: Any) -> Callable[[], Found]:
        results = self._add(name, values)

        def found() -> Found:
            if not results:
                self.flush()
            return _rows(results)

        return found

    def run(self, name: str, *values: Any) -> None:
        self._add(name, values)

    def each(self, name: str, values: Iterable[Sequence[Any]]) -> None:
        for some in values:
            self._add(name, some)

    def many(self, values: Iterable[str]) -> list[str]:
        return sorted(values)

    def commit(self) -> None:
        if self._con.cut():  # better told now, when it is certain that nothing was written
            raise pymysql.OperationalError(2006, "the server has closed the connection")
        self.committing = True  # from here on: what waits may be so much that it goes at once
        self._add("commit", ())
        self.flush()

    def flush(self) -> None:
        """Have the server carry out what waits."""
        waiting, self._waiting, self._length = self._waiting, [], 0
        if not waiting:
            return
        self.began = True
        results = iter(self._con.results(";".join(text for text, _, _ in waiting)))
        for _, number, into in waiting:
            into.extend(islice(results, number))

    def _add(self, name: str, values: Sequence[Any]) -> list[Result]:
        into: list[Result] = []
        statement = self._statements[name]
        if statement:
            text = written(statement, values)
            self._waiting.append((text, statement.count(";") + 1, into))
            self._length += len(text)
            if self._length > MOST_WAITING:
                self.flush()
        return into


class MySQLLine(ServerLine[MySQLConnection]):
    @property
    def variables(self) -> Mapping[str, str]:
        """What the server said of itself."""
        return self.con().variables

    def ask(self, name: str, *values: Any) -> Found:
        return _rows(self.results(name, *values))

    def results(self, name: str, *values: Any) -> list[Result]:
        """All that the server answers. Each statement is a transaction of its own."""
        con = self.con()
        try:
            return con.results(written(self._statements[name], values))
        except pymysql.Error as exc:
            raise self._failed(con, exc) from exc

    def changed(self, name: str, number: float, key: str) -> Result:
        """What a prepared UPDATE answers."""
        con = self.con()
        try:
            return con.changed(self._statements[name], number, key)
        except pymysql.Error as exc:
            raise self._failed(con, exc) from exc

    @contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[MySQLSql]:
        con = self.con()
        sql = MySQLSql(con, self._statements)
        with self._transaction(con, sql):
            sql.run("begin")
            yield sql
            sql.commit()

    @contextmanager
    def reading(self) -> Iterator[MySQLSql]:
        con = self.con()
        sql = MySQLSql(con, self._statements)
        with self._transaction(con, sql):
            sql.run("begin_reading")
            yield sql
            sql.run("commit")
            sql.flush()

    @contextmanager
    def making(self) -> Iterator[tuple[MySQLSql, Callable[[str], None]]]:
        """DDL ends the transaction that it meets, so it is a lock of its own that keeps others away."""
        con = self.con()
        sql = MySQLSql(con, self._statements)
        lock = f"concat('headcount ', sha1(concat(DATABASE(), {literal(self._named('hc.clock'))})))"
        longest = max(LONGEST_MAKING, self._timeout)

        def run(script: str) -> None:
            sql.flush()
            con.results(self._named(script))
            sql.run("begin")

        try:
            with self._transaction(con, sql):
                con.wait_for(longest)
                con.results(f"SET SESSION {limits(con.variables, longest)}")
                if con.results(f"SELECT GET_LOCK({lock}, {longest * 0.8:g})")[0].rows != [(1,)]:
                    raise StoreUnavailable(f"{self._address}: somebody else is making its tables")
                yield sql, run
                sql.commit()
                con.results(f"DO RELEASE_LOCK({lock}); SET SESSION {limits(con.variables, self._timeout)}")
                con.wait_for(self._timeout)
        except BaseException:
            self.close()  # and with it goes the lock
            raise

    @contextmanager
    def _transaction(self, con: MySQLConnection, sql: MySQLSql) -> Iterator[None]:
        try:
            yield
        except pymysql.Error as exc:
            raise self._failed(con, exc, committing=sql.committing) from exc
        except BaseException:
            if sql.began:
                self._roll_back(con)
            raise

    def _failed(
        self, con: MySQLConnection, exc: pymysql.Error, *, committing: bool = False
    ) -> HeadcountError:
        self._roll_back(con)
        if silent(exc) and not committing:
            return StoreUnavailable(f"{self._address} did not answer within {self._timeout:g} s")
        return translate(exc, self._address, committing=committing)

    def _roll_back(self, con: MySQLConnection) -> None:
        """Leave the transaction, or, where that cannot be done, the connection."""
        try:
            con.results("ROLLBACK")
        except pymysql.Error:
            self.close()
