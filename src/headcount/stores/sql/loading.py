"""What a commit will look at, fetched in one go with the lock on the group.

On a server each look costs a round trip, and they would all fall into the time for which the group is
locked. The wishes name the keys and members that they are about, so nearly everything is known before.
"""

from __future__ import annotations

from collections.abc import Sequence

from headcount.model import (
    Empty,
    Enter,
    Mark,
    Remark,
    Row,
    SessionId,
    Vacate,
    Wish,
    Withdraw,
    Write,
)
from headcount.stores.sql.recording import Corrupt, Group, SqlRecords
from headcount.stores.sql.records import decode_all
from headcount.stores.sql.speaking import Sql


class Loader:
    """Asks for it when it is made, and answers with it when the group is known."""

    def __init__(self, sql: Sql, group: str, wishes: Sequence[Wish]) -> None:
        writes = [write for wish in wishes for write in wish.writes]
        keys = {_key(write) for write in writes} | {
            condition.key for wish in wishes for condition in wish.expect if not isinstance(condition, Empty)
        }
        self.keys = keys - {""}
        self.members = {w.member_id for w in writes if isinstance(w, Enter | Remark)}
        # Those that have to be alive.
        self.sessions = {w.session for w in writes if isinstance(w, Enter)} | {w.by for w in wishes}
        self.sessions.discard("")
        self._taken = {w.key for w in writes if isinstance(w, Enter | Withdraw)}
        self._marking = {w.member_id for w in writes if isinstance(w, Remark)}
        # Most rows have their member's id for a key.
        self.marked = self.members | self.keys
        of_keys, of_members = sql.many(self.keys), sql.many(self.members)
        self.rows = sql.later("touched_rows", group, of_keys, group, of_members, of_keys)
        self.marks = sql.later("touched_marks", group, sql.many(self.marked))
        self.alive = sql.later("alive_of", sql.many(self.sessions))

    def takes(self, row: Row) -> bool:
        """Whether somebody may lose the place that this row is."""
        return row.live and (row.key in self._taken or row.member_id in self._marking)

    def records(self, sql: Sql, group: Group, corrupt: Corrupt) -> LoadedRecords:
        return LoadedRecords(sql, group, corrupt, self)


class LoadedRecords(SqlRecords):
    """Answers from what was loaded, and asks the server for the rest."""

    def __init__(self, sql: Sql, group: Group, corrupt: Corrupt, loader: Loader) -> None:
        super().__init__(sql, group, corrupt)

        def told(*what: str) -> object:
            return corrupt(group.name, *what)

        rows = decode_all(Row, loader.rows(), told)
        marks = decode_all(Mark, loader.marks(), told)
        self._rows = {row.key: row for row in rows}
        self._marks = {mark.member_id: mark for mark in marks}
        # Whoever loses something has to be told, if it lives. All at once, and in one order.
        others = {row.session for row in rows if loader.takes(row)} - loader.sessions - {""}
        told_of = sql.later("alive_of", sql.many(others)) if others else list
        self._alive = {session for (session,) in [*loader.alive(), *told_of()]}
        self._looked_for = loader.sessions | others
        self._asked = loader

    def row(self, key: str) -> Row | None:
        return self._rows.get(key) if key in self._asked.keys else super().row(key)

    def rows_of(self, member_id: str) -> list[Row]:
        if member_id not in self._asked.members:
            return super().rows_of(member_id)
        return sorted(
            (row for row in self._rows.values() if row.member_id == member_id), key=lambda row: row.key
        )

    def mark(self, member_id: str) -> Mark | None:
        return self._marks.get(member_id) if member_id in self._asked.marked else super().mark(member_id)

    def alive(self, session: SessionId) -> bool:
        return session in self._alive if session in self._looked_for else super().alive(session)


def _key(write: Write) -> str:
    return "" if isinstance(write, Remark | Vacate) else write.key
