"""The register in SQLite: which history it is, and its statements over one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from headcount.errors import GroupNotFound
from headcount.register import Ledger
from headcount.stores.sql import recording
from headcount.stores.sql.recording import Group
from headcount.stores.sql.speaking import Found
from headcount.stores.sql.statements import statements

SQL = statements("sqlite/register")


class Head(NamedTuple):
    """Which history of the register this is."""

    history: str
    epoch: int
    changes: int
    interval: float


def head(con: sqlite3.Connection) -> Head:
    return Head(*con.execute(SQL["head"]).fetchone())


def group_named(con: sqlite3.Connection, name: str) -> Group:
    found = con.execute(SQL["group"], (name,)).fetchone()
    if found is None:
        raise GroupNotFound(f"there is no group {name!r} in this store")
    return Group(*found)


def raise_epoch(con: sqlite3.Connection, *, history: str, epoch: int) -> None:
    """Begin a new history: every revision from now on is above all that anybody has seen, every
    reader starts over, and (by the life marker) the clock too."""
    con.execute(SQL["raise_epoch"], {"history": history, "epoch": epoch})
    con.execute(SQL["raise_groups"], {"epoch": epoch})
    con.execute(SQL["forget_tombstones"])


def named(*names: str) -> str:
    """Many values in one argument, for `IN (SELECT value FROM json_each(?))`."""
    return msgspec.json.encode(names).decode()


class SqliteSql:
    """The register's statements over one connection. They are run at once: there is no way between."""

    __slots__ = ("con",)

    def __init__(self, con: sqlite3.Connection) -> None:
        self.con = con

    def all(self, name: str, *values: Any) -> Found:
        return self.con.execute(SQL[name], values).fetchall()

    def later(self, name: str, *values: Any) -> Callable[[], Found]:
        return self.con.execute(SQL[name], values).fetchall

    def run(self, name: str, *values: Any) -> None:
        self.con.execute(SQL[name], values)

    def each(self, name: str, values: Iterable[Sequence[Any]]) -> None:
        self.con.executemany(SQL[name], values)

    def many(self, values: Iterable[str]) -> str:
        return named(*values)


def save(con: sqlite3.Connection, group: Group, ledger: Ledger) -> None:
    """Make the changes of a ledger so, if it has any."""
    if ledger.revision != group.revision:
        con.execute(SQL["count_change"])
        recording.save(SqliteSql(con), group, ledger)
