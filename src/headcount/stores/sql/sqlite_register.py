"""The register in SQLite: what a commit looks at, and what it leaves behind.

All of this runs inside a transaction that its caller has begun with the file's write lock, so that
what is looked at here cannot change before it is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import msgspec

from headcount.errors import GroupNotFound
from headcount.model import Claim, Entry, Mark, Revision, Row, SessionId
from headcount.register import Ledger
from headcount.stores.base import TOMBSTONES
from headcount.stores.sql.records import decode_all, encode
from headcount.stores.sql.statements import statements

SQL = statements("sqlite/register")

R = TypeVar("R", Row, Mark, Claim)

Corrupt = Callable[[str, str, str, str], object]
"""Called with the group, the kind of record, its key, and what is wrong."""


class Head(NamedTuple):
    """Which history of the register this is."""

    history: str
    epoch: int
    changes: int
    interval: float


class Group(NamedTuple):
    id: int
    name: str
    revision: Revision
    oldest: Revision


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


@dataclass(frozen=True)
class SqlRecords:
    """One group, as the law of the register looks at it. A record that cannot be read is not there:
    its member enters anew and so replaces it."""

    con: sqlite3.Connection
    group: Group
    corrupt: Corrupt

    def row(self, key: str) -> Row | None:
        return next(iter(self._found(Row, "row", key)), None)

    def rows_of(self, member_id: str) -> list[Row]:
        return self._found(Row, "rows_of", named(member_id))

    def mark(self, member_id: str) -> Mark | None:
        return next(iter(self._found(Mark, "mark", member_id)), None)

    def claim(self, key: str) -> Claim | None:
        return next(iter(self._found(Claim, "claim", key)), None)

    def claims_of(self, member_id: str) -> list[Claim]:
        return self._found(Claim, "claims_of", named(member_id))

    def holding(self) -> list[Row | Claim]:
        return [
            *self._found(Row, "rows_holding"),
            *(claim for claim in self._found(Claim, "claims_after", 0) if claim.shards),
        ]

    def alive(self, session: SessionId) -> bool:
        return self.con.execute(SQL["alive"], (session,)).fetchone() is not None

    def _found(self, kind: type[R], statement: str, *values: object) -> list[R]:
        found = self.con.execute(SQL[statement], (self.group.id, *values))
        return decode_all(kind, found, lambda *what: self.corrupt(self.group.name, *what))


def save(con: sqlite3.Connection, group: Group, ledger: Ledger) -> bool:
    """Make the changes of a ledger so; False if it has none."""
    if ledger.revision == group.revision:
        return False
    con.execute(SQL["count_change"])
    for kind, changed in (("row", ledger.rows), ("mark", ledger.marks), ("claim", ledger.claims)):
        put = [record for record in changed.values() if record is not None]
        gone = [(group.id, key) for key, record in changed.items() if record is None]
        con.executemany(SQL[f"put_{kind}"], [(group.id, *encode(record)) for record in put])
        con.executemany(SQL[f"remove_{kind}"], gone)
        if kind != "claim":  # a claim's key is never used again
            con.executemany(
                SQL["remove_tombstone"], [(group.id, kind, key) for key, found in changed.items() if found]
            )
    con.executemany(SQL["raise_notice"], [(session,) for session in sorted(ledger.notices)])
    sessions = {row.session for row in ledger.rows.values() if row is not None and row.session}
    con.executemany(SQL["note_rows"], [(session,) for session in sessions])
    write_history(con, ledger.entries)
    con.execute(SQL["set_group"], (ledger.revision, _bury(con, group, ledger), group.id))
    return True


def write_history(con: sqlite3.Connection, entries: list[Entry]) -> None:
    con.executemany(SQL["add_history"], [msgspec.structs.astuple(entry) for entry in entries])


def _bury(con: sqlite3.Connection, group: Group, ledger: Ledger) -> Revision:
    """Remember what was removed, as much as there is room for; answers the oldest revision after
    which nothing has been forgotten."""
    if not ledger.removed:
        return group.oldest
    removed = [(group.id, kind, key, revision) for (kind, key), revision in ledger.removed.items()]
    con.executemany(SQL["put_tombstone"], removed)
    spare = con.execute(SQL["spare_tombstone"], (group.id, TOMBSTONES)).fetchone()
    if spare is None:
        return group.oldest
    con.execute(SQL["prune_tombstones"], (group.id, *spare))
    return max(group.oldest, int(spare[0]))
