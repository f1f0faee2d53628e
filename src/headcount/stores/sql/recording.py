"""Between the law of the register and the tables of one group. The same for every SQL dialect.

Whoever calls this holds a transaction in which nobody else writes the group, so that what is looked at
here cannot change before it is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from headcount.model import Claim, Entry, Mark, Revision, Row, SessionId
from headcount.register import Ledger
from headcount.stores.base import TOMBSTONES
from headcount.stores.sql.records import decode_all, encode
from headcount.stores.sql.speaking import Sql

R = TypeVar("R", Row, Mark, Claim)

Corrupt = Callable[[str, str, str, str], object]
"""Called with the group, the kind of record, its key, and what is wrong."""


class Group(NamedTuple):
    id: int
    name: str
    revision: Revision
    oldest: Revision


class SqlRecords:
    """One group, as the law of the register looks at it. A record that cannot be read is not there:
    its member enters anew and so replaces it."""

    def __init__(self, sql: Sql, group: Group, corrupt: Corrupt) -> None:
        self.sql = sql
        self.group = group
        self.corrupt = corrupt

    def row(self, key: str) -> Row | None:
        return next(iter(self._found(Row, "row", key)), None)

    def rows_of(self, member_id: str) -> list[Row]:
        return self._found(Row, "rows_of", self.sql.many([member_id]))

    def mark(self, member_id: str) -> Mark | None:
        return next(iter(self._found(Mark, "mark", member_id)), None)

    def claim(self, key: str) -> Claim | None:
        return next(iter(self._found(Claim, "claim", key)), None)

    def claims_of(self, member_id: str) -> list[Claim]:
        return self._found(Claim, "claims_of", self.sql.many([member_id]))

    def holding(self) -> list[Row | Claim]:
        return [
            *self._found(Row, "rows_holding"),
            *(claim for claim in self._found(Claim, "claims_after", 0) if claim.shards),
        ]

    def alive(self, session: SessionId) -> bool:
        return bool(self.sql.all("alive", session))

    def _found(self, kind: type[R], statement: str, *values: object) -> list[R]:
        found = self.sql.all(statement, self.group.id, *values)
        return decode_all(kind, found, lambda *what: self.corrupt(self.group.name, *what))


def save(sql: Sql, group: Group, ledger: Ledger) -> None:
    """Make the changes of a ledger so. To be called only if it has any."""
    for kind, changed in (("row", ledger.rows), ("mark", ledger.marks), ("claim", ledger.claims)):
        put = [record for record in changed.values() if record is not None]
        gone = [(group.id, key) for key, record in changed.items() if record is None]
        sql.each(f"put_{kind}", [(group.id, *encode(record)) for record in put])
        sql.each(f"remove_{kind}", gone)
        if kind != "claim":  # a claim's key is never used again
            sql.each("remove_tombstone", [(group.id, kind, key) for key, found in changed.items() if found])
    sql.each("raise_notice", [(session,) for session in sorted(ledger.notices)])
    sessions = {row.session for row in ledger.rows.values() if row is not None and row.session}
    sql.each("note_rows", [(session,) for session in sorted(sessions)])
    write_history(sql, ledger.entries)
    sql.run("set_group", ledger.revision, _bury(sql, group, ledger), group.id)


def write_history(sql: Sql, entries: list[Entry]) -> None:
    sql.each("add_history", [msgspec.structs.astuple(entry) for entry in entries])


def _bury(sql: Sql, group: Group, ledger: Ledger) -> Revision:
    """Remember what was removed, as much as there is room for; answers the oldest revision after
    which nothing has been forgotten."""
    if not ledger.removed:
        return group.oldest
    removed = [(group.id, kind, key, revision) for (kind, key), revision in ledger.removed.items()]
    sql.each("put_tombstone", removed)
    spare = sql.all("spare_tombstone", group.id, TOMBSTONES)
    if not spare:
        return group.oldest
    ((revision,),) = spare
    sql.run("prune_tombstones", group.id, revision)
    return max(group.oldest, int(revision))
