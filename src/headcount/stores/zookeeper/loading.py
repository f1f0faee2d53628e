"""What a commit has to know of a group before it thinks: loaded in a few flights, each of which asks for all
that is known to be needed by then.

The head is read before all else, so that nothing is older than it; if anything is newer, the head has moved
on, and the server will refuse the commit that rests on this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kazoo.protocol.serialization import Sync

from headcount.errors import GroupNotFound, SchemaMismatch
from headcount.model import (
    Amend,
    Claim,
    Empty,
    Enter,
    Mark,
    Remark,
    Row,
    Seconds,
    SessionId,
    Vacate,
    Wish,
    Withdraw,
)
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.names import Paths
from headcount.stores.zookeeper.records import Head, Kept, decode, node, record_in, row_node

Corrupt = Callable[[str, str, str], object]
"""Told of a record that cannot be read: the group, the node's name, and what is wrong."""


def head_in(answer: Any, group: str, address: str) -> tuple[Head, int]:
    """The head that was read, and the version of its node."""
    if isinstance(answer, Exception):
        raise GroupNotFound(f"there is no group {group!r} in this store")
    data, stat = answer
    try:
        return decode(data, Head), stat.version
    except ValueError as exc:
        raise SchemaMismatch(
            f"{address}: the node of the group {group!r} does not hold what Headcount has written there: "
            f"{exc}. Somebody else has; remove it, or use another prefix"
        ) from exc


class Loaded:
    """The records of a group, as far as some writes need them: `register.Records`."""

    def __init__(self, link: Link, paths: Paths, group: str, corrupt: Corrupt, until: Seconds) -> None:
        self._link, self._paths, self._group, self._until = link, paths, group, until
        self._corrupt = corrupt
        self._at = paths.head(group)
        self.data: dict[str, tuple[bytes, Any] | None] = {}
        """What was found, by path; None: no such node."""
        self.rows: dict[str, Kept] = {}
        self.marks: dict[str, Mark] = {}
        self.claims: dict[str, Claim] = {}
        self._seen: set[str] = set()
        self._of: dict[str, set[str]] = {}
        """The keys of a member's rows."""

    def load(self, wishes: Collection[Wish], nodes: Iterable[str] = (), *, sync: bool) -> Loaded:
        """Read what these need, and besides the records in these nodes."""
        wanted, members = set(nodes), set[str]()
        sessions = {wish.by for wish in wishes if wish.by}
        for wish in wishes:
            for write in wish.writes:
                match write:
                    case Enter(key=key, member_id=member, session=session):
                        wanted.add(row_node(key))
                        members.add(member)
                        sessions |= {session} if session else set()
                    case Amend(key=key) | Withdraw(key=key):
                        wanted.add(row_node(key))
                    case Remark(member_id=member):
                        members.add(member)
                    case Vacate(claim=claim):
                        wanted.add(node("c", claim))
            wanted.update(row_node(one.key) for one in wish.expect if not isinstance(one, Empty))
        wanted.update(row_node(member) for member in members)
        wanted.update(node(kind, member) for member in members for kind in "mk")
        paths = {f"{self._at}/{name}" for name in wanted} | {self._paths.session(s) for s in sessions}
        answers = self._fetch({self._at, *paths}, before=[Sync(self._at)] if sync else [])
        self.head, self.version = head_in(answers[self._at], self._group, self._link.where.address)
        if any(isinstance(one, Empty) for wish in wishes for one in wish.expect):
            wanted |= self.head.holding
        wanted.update(name for name, member in self.head.claims.items() if member in members)
        while wanted or sessions:
            paths = {f"{self._at}/{name}" for name in wanted} | {self._paths.session(s) for s in sessions}
            self._fetch(paths - self.data.keys())
            self._seen |= wanted
            wanted, sessions = self._needed_for(wanted)
        self._fetch({self._paths.held(session) for session in self._gone()})
        return self

    def _needed_for(self, names: Iterable[str]) -> tuple[set[str], set[SessionId]]:
        """What has to be known besides, now that these are."""
        wanted, sessions = set[str](), set[SessionId]()
        for name in names:
            found = self.data[f"{self._at}/{name}"]
            if found is None:
                continue
            if name.startswith("k:"):
                wanted.update(row_node(key) for key in self._keys(found[0]))
                continue
            record = self._record(name, found[0])
            match record:
                case Kept(row=row):
                    self.rows[row.key] = record
                    self._of.setdefault(row.member_id, set()).add(row.key)
                    wanted.add(node("m", row.member_id))
                    wanted.update({node("k", row.member_id)} if row.key != row.member_id else ())
                    sessions |= {row.session} if row.live and row.session else set()
                case Mark():
                    self.marks[record.member_id] = record
                case Claim():
                    self.claims[record.key] = record
                    sessions.add(record.session)
        return wanted - self._seen, {s for s in sessions if self._paths.session(s) not in self.data}

    def _gone(self) -> set[SessionId]:
        """Whose sessions are gone, of all who have something here. Only then is it asked whether they are
        held: whoever was, when its session went, is seen to be."""
        live = {kept.row.session for kept in self.rows.values() if kept.row.live and kept.row.session}
        claiming = {claim.session for claim in self.claims.values()}
        return {session for session in live | claiming if not self.alive(session)}

    def _record(self, name: str, data: bytes) -> Kept | Mark | Claim | None:
        try:
            return record_in(name, data)
        except ValueError as exc:
            self._corrupt(self._group, name, str(exc))
            return None

    @staticmethod
    def _keys(data: bytes) -> list[str]:
        try:
            return decode(data, list[str])
        except ValueError:
            return []  # it is written anew with the next row

    def _fetch(self, paths: Collection[str], before: Sequence[Any] = ()) -> dict[str, Any]:
        asked = sorted(paths)
        _, answers, _ = self._link.get(asked, before=before, until=self._until)
        found = dict(zip(asked, answers, strict=True))
        self.data |= {path: None if isinstance(one, Exception) else one for path, one in found.items()}
        return found

    def find(self, paths: Collection[str]) -> None:
        """Read these too."""
        self._fetch(set(paths) - self.data.keys())

    # ── as the law looks at them ──

    def row(self, key: str) -> Row | None:
        kept = self.rows.get(key)
        return kept.row if kept is not None else None

    def keys_of(self, member_id: str) -> list[str]:
        """The keys under which the member has rows, but for its own name."""
        found = self.data.get(f"{self._at}/{node('k', member_id)}")
        return self._keys(found[0]) if found is not None else []

    def rows_of(self, member_id: str) -> list[Row]:
        return [self.rows[key].row for key in sorted(self._of.get(member_id, ()))]

    def mark(self, member_id: str) -> Mark | None:
        return self.marks.get(member_id)

    def claim(self, key: str) -> Claim | None:
        return self.claims.get(key)

    def claims_of(self, member_id: str) -> list[Claim]:
        return [claim for claim in self.claims.values() if claim.member_id == member_id]

    def holding(self) -> list[Row | Claim]:
        rows = [kept.row for kept in self.rows.values() if kept.row.live and kept.row.shards]
        return [*rows, *(claim for claim in self.claims.values() if claim.shards)]

    def alive(self, session: SessionId) -> bool:
        return self.data.get(self._paths.session(session)) is not None

    def held(self, session: SessionId) -> bool:
        """Of a session that is gone: whether its owner may trust its places all the same."""
        return self.data.get(self._paths.held(session)) is not None
