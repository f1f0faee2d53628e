"""What a server can show that has applied all changes up to some point, and no more."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

from headcount.errors import GroupNotFound
from headcount.model import Claim, Delta, Mark, RecordKind, Revision, Row, SessionId, Snapshot
from tests.simulation.past import Past

KEPT = 500
"""Changes of a group that are remembered: no server falls further behind."""


DELTAS = 100
"""As many as a head of ours remembers; who is further behind gets a snapshot."""


class Journal:
    """Every group, and every session, at each change. Changes are counted over all of them."""

    def __init__(self) -> None:
        self._groups: dict[str, deque[tuple[int, Past | None]]] = {}
        self._past: dict[str, dict[Revision, Past]] = {}
        """What a delta can be given from."""
        self._born: dict[SessionId, int] = {}
        self._ended: dict[SessionId, int] = {}

    def group(self, name: str, index: int, past: Past | None) -> None:
        """A group is like this from this change on; None: there is no such group."""
        self._groups.setdefault(name, deque(maxlen=KEPT)).append((index, past))
        if past is None:
            self._past.pop(name, None)
            return
        known = self._past.setdefault(name, {})
        known[past.revision] = past
        if len(known) > DELTAS:
            del known[next(iter(known))]

    def forget(self, index: int) -> None:
        """Everything is gone."""
        for name in self._groups:
            self.group(name, index, None)

    def born(self, session: SessionId, index: int) -> None:
        self._born.setdefault(session, index)

    def ended(self, session: SessionId, index: int) -> None:
        self._ended.setdefault(session, index)

    def alive(self, session: SessionId, index: int) -> bool:
        born, ended = self._born.get(session), self._ended.get(session)
        return born is not None and born <= index and not (ended is not None and ended <= index)

    def lost(self, after: int, upto: int) -> list[SessionId]:
        return [session for session, index in self._ended.items() if after < index <= upto]

    def rung(self, after: int, upto: int) -> list[str]:
        """The groups that have changed after one change, up to another."""
        return [
            name
            for name, changes in self._groups.items()
            if any(after < index <= upto for index, _ in reversed(changes))
        ]

    def at(self, name: str, index: int) -> Past:
        """The group after this change."""
        changes = self._groups.get(name, deque())
        place = bisect.bisect_right(changes, index, key=lambda change: change[0])
        found = changes[place - 1][1] if place else None
        if found is None:
            raise GroupNotFound(f"there is no group {name!r} in this store")
        return found

    def read(
        self, name: str, index: int, after: Revision | None, only: Collection[str] | None
    ) -> Snapshot | Delta:
        """What a server answers that has applied this change."""
        now = self.at(name, index)
        whole = after is None or only is not None
        before = None if whole or after is None else self._past.get(name, {}).get(after)
        if before is None or before.revision > now.revision:
            return Snapshot(
                group=name,
                revision=now.revision,
                rows=_of(now.rows, only),
                marks=_of(now.marks, only),
                claims=_of(now.claims, only),
            )
        kinds: tuple[tuple[RecordKind, Mapping[str, Any], Mapping[str, Any]], ...] = (
            ("row", before.rows, now.rows),
            ("mark", before.marks, now.marks),
            ("claim", before.claims, now.claims),
        )
        return Delta(
            group=name,
            after=before.revision,
            revision=now.revision,
            rows=_later(now.rows, before.revision),
            marks=_later(now.marks, before.revision),
            claims=_later(now.claims, before.revision),
            removed=tuple((kind, key) for kind, was, is_ in kinds for key in was if key not in is_),
        )


def _of(records: Mapping[str, Any], only: Collection[str] | None) -> tuple[Any, ...]:
    return tuple(one for one in records.values() if only is None or one.member_id in only)


def _later(records: Mapping[str, Any], revision: Revision) -> tuple[Any, ...]:
    return tuple(one for one in records.values() if one.revision > revision)


class Seen:
    """A group as one server shows it: what the law of the register looks at (`register.Records`)."""

    def __init__(self, journal: Journal, name: str, index: int) -> None:
        self._journal, self._index = journal, index
        self.past = journal.at(name, index)

    def row(self, key: str) -> Row | None:
        return self.past.rows.get(key)

    def rows_of(self, member_id: str) -> list[Row]:
        return [row for row in self.past.rows.values() if row.member_id == member_id]

    def mark(self, member_id: str) -> Mark | None:
        return self.past.marks.get(member_id)

    def claim(self, key: str) -> Claim | None:
        return self.past.claims.get(key)

    def claims_of(self, member_id: str) -> list[Claim]:
        return [claim for claim in self.past.claims.values() if claim.member_id == member_id]

    def holding(self) -> list[Row | Claim]:
        rows = [row for row in self.past.rows.values() if row.live and row.shards]
        return [*rows, *(claim for claim in self.past.claims.values() if claim.shards)]

    def alive(self, session: SessionId) -> bool:
        return self._journal.alive(session, self._index)
