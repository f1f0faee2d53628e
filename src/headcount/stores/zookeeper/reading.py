"""Reading a group: at one revision, though its records are in nodes of their own.

The head is read, then the records, then the head again. If it has moved on meanwhile, what it says to have
changed is read once more, until nothing has. Every reading begins with a `sync`, so that whoever has been
told of a commit is shown it, whichever server it asks. A leading server that is cut off, and does not know
it, answers that by itself: but whoever was told by any connection of this store finds out, and asks another
server (see `words`). So a reading that was asked after a beat has all that the beat's notice is about. Who
has no other connection is shown what such a server knows, until that server notices.

Whose session is gone is not up, but its row says so only once somebody has written it. Whoever reads, and
finds a live row without its ephemeral node, looks for its session; if that is gone, it waits for a moment of
its own, looks again, and if nobody else has, it has the row taken down by a commit like any other, and reads
on. A claim whose session is gone goes likewise, but not while the session is held (see `witness`); the
doorbell is to ring when it is no longer. A reader that knows the group already is content if there are as
many ephemeral nodes as the head says, and looks at those that the doorbell saw go.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kazoo.protocol.serialization import Exists, GetChildren, GetData, Sync

from headcount.model import Claim, Delta, Mark, Revision, Row, Seconds, SessionId, Snapshot
from headcount.stores.zookeeper.handler import Handler
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.loading import Corrupt, head_in
from headcount.stores.zookeeper.names import Paths, id_of, name_of
from headcount.stores.zookeeper.records import KINDS, Head, Kept, decode, node, record_in, row_node

HERD = 0.2
"""Seconds over which those spread who are woken by the same death, and would all write it down."""

Settle = Callable[[str, Collection[str]], object]
"""Have a commit look at these nodes of a group, whose sessions are gone."""

Await = Callable[[str, Collection[SessionId]], object]
"""Have the doorbell ring for a group when one of these sessions is held no longer."""


class Reading:
    """One reading of one group."""

    def __init__(
        self,
        link: Link,
        paths: Paths,
        group: str,
        until: Seconds,
        *,
        corrupt: Corrupt,
        settle: Settle,
        await_: Await,
    ) -> None:
        self._link, self._paths, self._group, self._until = link, paths, group, until
        self._corrupt, self._settle, self._await = corrupt, settle, await_
        self._at = paths.head(group)
        self._waited = False
        self._data: dict[str, bytes | None] = {}
        self._read: dict[str, tuple[bytes, Kept | Mark | Claim | None]] = {}

    # ── what is asked ──

    @property
    def born(self) -> Revision:
        """The revision with which the group that was read began."""
        return self._head.born

    def whole(self) -> Snapshot:
        while True:
            names, live = self._begin(GetChildren(self._at, None), GetChildren(self._live(), None))
            if not self._follow(name for name in _found(names) if name[:2] in ("r:", "m:", "c:")):
                continue
            gone = self._gone(set(_found(live)))
            if not gone:
                return self._snapshot()
            self._have_settled(gone)

    def only(self, members: Collection[str]) -> Snapshot:
        while True:
            self._begin()
            if not self._follow(node(kind, member) for member in members for kind in "rmk"):
                continue
            keys = [key for member in members for key in self._keys(node("k", member))]
            claims = [name for name, member in self._head.claims.items() if member in members]
            if not self._follow([*map(row_node, keys), *claims]):
                continue
            gone = self._gone(None)
            if not gone:
                return self._snapshot(set(members))
            self._have_settled(gone)

    def after(self, after: Revision, suspects: Collection[str]) -> Snapshot | Delta:
        """`suspects`: the keys of rows whose ephemeral nodes went."""
        suspected = [row_node(key) for key in suspects]
        while True:
            live, head = self._begin(Exists(self._live(), None), GetData(self._at, None))
            if self._take_head(head) != set():
                continue  # the one cannot be held against the other
            changed = self._head.changed(after)
            listed = _children(live)
            if changed is None or (listed != self._head.listed and not suspected):
                return self._again(after)
            if not self._follow({*suspected, *self._head.claims}):
                continue
            gone = self._gone(None)
            if gone:
                self._have_settled(gone)
                continue
            if listed != self._head.listed:
                return self._again(after)
            if not self._follow(changed):
                continue
            late = self._head.changed(after)
            if late is not None and late <= self._data.keys():
                return self._delta(after, late)

    def settled(self) -> None:
        """Have those taken down whose sessions are gone, if there may be any."""
        while True:
            live, head = self._begin(Exists(self._live(), None), GetData(self._at, None))
            if self._take_head(head) != set():
                continue
            if _children(live) != self._head.listed or self._head.claims:
                self.whole()
            return

    def _again(self, after: Revision) -> Snapshot | Delta:
        """Nothing is missing that `whole` would not find."""
        whole = self.whole()
        changed = self._head.changed(after)
        return whole if changed is None else self._delta(after, changed)

    # ── how ──

    def _live(self) -> str:
        return self._paths.live(self._group)

    def _ask(self, *requests: Any) -> list[Any]:
        return self._link.ask(*requests, until=self._until)

    def _begin(self, *requests: Any) -> list[Any]:
        _, head, *answers = self._ask(Sync(self._at), GetData(self._at, None), *requests)
        self._take_head(head)
        return answers

    def _take_head(self, answer: Any) -> set[str] | None:
        """What has changed since the head that we had, and is to be read again: by name, or None if that is
        not known."""
        before: Head | None = getattr(self, "_head", None)
        self._head, self.version = head_in(answer, self._group, self._link.where.address)
        changed = set() if before is None else self._head.changed(before.revision)
        for name in list(self._data) if changed is None else changed:
            self._data.pop(name, None)
        return changed

    def _follow(self, names: Iterable[str]) -> bool:
        """Read these, and what is changed meanwhile, until nothing is. False: so much has changed that one
        has to begin again."""
        wanted: set[str] | None = set(names) - self._data.keys()
        while wanted:
            asked = sorted(wanted)
            _, answers, (head,) = self._link.get(
                [f"{self._at}/{name}" for name in asked],
                after=[GetData(self._at, None)],
                until=self._until,
            )
            for name, answer in zip(asked, answers, strict=True):
                self._data[name] = None if isinstance(answer, Exception) else answer[0]
            wanted = self._take_head(head)
        return wanted is not None

    def _gone(self, live: Collection[str] | None) -> set[str]:
        """The nodes of live rows whose sessions are gone, and of claims whose sessions are gone and not held.
        `live`: the ephemeral nodes."""
        doubted: dict[str, SessionId] = {}
        claimed = set[str]()
        for name, found in self._records():
            if isinstance(found, Claim):
                doubted[name] = found.session
                claimed.add(name)
            elif isinstance(found, Kept) and found.row.live and found.row.session:
                vouched = live is not None and found.listed and name_of(found.row.key) in live
                if not vouched:
                    doubted[name] = found.row.session
        sessions = sorted(set(doubted.values()))
        dead = set(sessions) - self._there(sessions, self._paths.session)
        held = self._held({doubted[name] for name in claimed} & dead)
        return {
            name
            for name, session in doubted.items()
            if session in dead and not (name in claimed and session in held)
        }

    def _have_settled(self, gone: Collection[str]) -> None:
        """By a commit of ours, unless somebody else's has come first when we look again."""
        pause = 0.0 if self._waited else random.uniform(0, HERD)
        self._waited = True
        if pause and time.monotonic() + pause < self._until:
            Handler.sleep_func(pause)
        else:
            self._settle(self._group, gone)

    def _held(self, dead: Collection[SessionId]) -> set[SessionId]:
        """Of those whose sessions are gone, and who have claims: whose trust may not be over. It is awaited
        before it is asked for, so that none goes between the two."""
        self._await(self._group, sorted(dead))
        return self._there(sorted(dead), self._paths.held)

    def _there(self, sessions: Sequence[SessionId], path: Callable[[SessionId], str]) -> set[SessionId]:
        """Those of the sessions that have a node there. They are read and not looked for: so many go in one
        request."""
        _, answers, _ = self._link.get([path(one) for one in sessions], until=self._until)
        return {one for one, found in zip(sessions, answers, strict=True) if not isinstance(found, Exception)}

    def _keys(self, name: str) -> list[str]:
        data = self._data.get(name)
        try:
            return decode(data, list[str]) if data else []
        except ValueError:
            return []

    def _records(self) -> Iterable[tuple[str, Kept | Mark | Claim]]:
        for name, data in self._data.items():
            if data is None or name[0] not in KINDS:
                continue
            kept = self._read.get(name)
            if kept is None or kept[0] is not data:
                kept = self._read[name] = data, self._record(name, data)
            if kept[1] is not None:
                yield name, kept[1]

    def _record(self, name: str, data: bytes) -> Kept | Mark | Claim | None:
        try:
            return record_in(name, data)
        except ValueError as exc:
            self._corrupt(self._group, name, str(exc))
            return None

    # ── the answer ──

    def _sorted(
        self, names: Collection[str] | None
    ) -> tuple[tuple[Row, ...], tuple[Mark, ...], tuple[Claim, ...]]:
        rows, marks, claims = list[Row](), list[Mark](), list[Claim]()
        for name, found in self._records():
            if names is not None and name not in names:
                continue
            match found:
                case Kept(row=row):
                    rows.append(row)
                case Mark():
                    marks.append(found)
                case Claim():
                    claims.append(found)
        return tuple(rows), tuple(marks), tuple(claims)

    def _snapshot(self, members: set[str] | None = None) -> Snapshot:
        rows, marks, claims = self._sorted(None)
        if members is not None:
            rows = tuple(row for row in rows if row.member_id in members)
            marks = tuple(mark for mark in marks if mark.member_id in members)
            claims = tuple(claim for claim in claims if claim.member_id in members)
        return Snapshot(
            group=self._group, revision=self._head.revision, rows=rows, marks=marks, claims=claims
        )

    def _delta(self, after: Revision, changed: Collection[str]) -> Delta:
        rows, marks, claims = self._sorted(changed)
        removed = [name for name in sorted(changed) if self._data.get(name) is None]
        return Delta(
            group=self._group,
            after=after,
            revision=self._head.revision,
            rows=rows,
            marks=marks,
            claims=claims,
            removed=tuple((KINDS[name[0]][0], _id(name)) for name in removed),  # type: ignore[misc]
        )


def _children(stat: Any) -> int:
    return 0 if stat is None else int(stat.numChildren)


def _found(answer: Any) -> list[str]:
    return [] if isinstance(answer, Exception) else answer


def _id(name: str) -> str:
    return id_of(name[2:])
