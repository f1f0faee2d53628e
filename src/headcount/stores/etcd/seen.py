"""What a commit has seen of a group: loaded as the law of the register asks for it.

`guess` says what will be asked for as far as the writes tell, which as a rule is all of it; the rest is
asked for when the law comes upon it (`Missing`), and it then begins again. All that is loaded bears the same
head of the group; a commit compares that head, and so all of it at once. Who lives is not told by the head:
a lease may run out at any time. So the sessions that enter are compared besides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from headcount.model import (
    Amend,
    Claim,
    Empty,
    Enter,
    Mark,
    Remark,
    Row,
    SessionId,
    Stands,
    Unchanged,
    Vacate,
    Wish,
    Withdraw,
)
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import Op, get
from headcount.stores.etcd.records import Head, Reading

FEW = 250
"""Needs up to which each is asked for by itself; beyond that the whole group costs less."""

MANY = 50
"""Sessions up to which each is asked for by itself whether it was ended early."""

COSTS = {"member": 2, "whole": 2}
"""Reads that a need takes, where it is not one."""


class Need(NamedTuple):
    """`row` KEY, `member` ID (all its rows), `mark` ID, `session` ID, `here` ID, `held` ID, or `whole`;
    `holders`: who has `held` keys, all of them."""

    kind: str
    name: str = ""


WHOLE = Need("whole")
HOLDERS = Need("holders")

BESIDES = frozenset({"session", "held", "holders"})
"""What is not in the whole of a group."""


class Missing(Exception):
    """The law asks for something that is not loaded."""

    def __init__(self, needs: Collection[Need]) -> None:
        self.needs = needs


class Unsettled(Exception):
    """There is a live row of a session that is gone, or a claim that nobody can trust any more: that has to
    be put right first."""


def place(row: Row) -> bool:
    """Whether it has what others may be waiting for."""
    return bool(row.standing_since or row.shards)


class Life(NamedTuple):
    """The key of a session that lives."""

    lease: int


class Seen:
    """The records of one group, as the law looks at them (`register.Records`)."""

    def __init__(self, reading: Reading, keys: Keys, group: str) -> None:
        self.group = group
        self.head = Head(0, "")
        self.head_at = 0
        """The revision of etcd's at which the head was written; 0: nothing is loaded yet."""
        self.about_at = 0
        self.epoch = 0
        self.rows: dict[str, Row | None] = {}
        self.marks: dict[str, Mark | None] = {}
        self.claims: dict[str, Claim] = {}
        self.lives: dict[SessionId, Life | None] = {}
        self.here: set[SessionId] = set()
        self.having: dict[SessionId, int] = {}
        """How many live rows the sessions have that are here, as far as their keys can be read."""
        self.held: set[SessionId] = set()
        """Of those that were asked for: whose owner may trust a place, whether the session lives or not."""
        self.loaded: set[Need] = set()
        self._named: dict[str, set[str]] = {}
        self._reading = reading
        self._keys = keys

    # ── what the law asks ──

    def row(self, key: str) -> Row | None:
        self._need(Need("row", key))
        row = self.rows.get(key)
        if row is not None and row.live and row.session and not self._is_here(row.session):
            raise Unsettled
        return row

    def rows_of(self, member_id: str) -> Sequence[Row]:
        if WHOLE in self.loaded:
            keys: Iterable[str] = [k for k, row in self.rows.items() if row and row.member_id == member_id]
        else:
            self._need(Need("member", member_id))
            keys = {member_id, *self._named.get(member_id, ())}
            self._need(*(Need("row", key) for key in keys))
        rows = map(self.row, keys)
        return [row for row in rows if row is not None and row.member_id == member_id]

    def mark(self, member_id: str) -> Mark | None:
        self._need(Need("mark", member_id))
        return self.marks.get(member_id)

    def claim(self, key: str) -> Claim | None:
        claim = self.claims.get(key)
        if claim is not None and not self._is_here(claim.session) and not self._is_held(claim.session):
            raise Unsettled
        return claim

    def claims_of(self, member_id: str) -> Sequence[Claim]:
        found = [self.claim(claim.key) for claim in self.claims.values() if claim.member_id == member_id]
        return [claim for claim in found if claim is not None]

    def holding(self) -> Sequence[Row | Claim]:
        self._need(WHOLE)
        rows = [row for key in self.rows if (row := self.row(key)) is not None and row.live and row.shards]
        claims = [claim for key in self.claims if (claim := self.claim(key)) is not None and claim.shards]
        return [*rows, *claims]

    def alive(self, session: SessionId) -> bool:
        self._need(Need("session", session))
        return self.lives.get(session) is not None

    # ── who is gone ──

    def gone(self) -> set[SessionId]:
        """Of a group that is loaded whole: the sessions that are gone, and have live rows or claims."""
        rows = {row.session for row in self.rows.values() if row is not None and row.live and row.session}
        return (rows | {claim.session for claim in self.claims.values()}) - self.here

    def in_question(self, gone: set[SessionId]) -> list[Need]:
        """What tells which of the sessions that are gone were ended early."""
        rows = (row for row in self.rows.values() if row is not None and row.live and place(row))
        asked = gone & ({row.session for row in rows} | {claim.session for claim in self.claims.values()})
        return [HOLDERS] if len(asked) > MANY else [Need("held", session) for session in sorted(asked)]

    def entering(self, sessions: Collection[SessionId]) -> set[SessionId]:
        """Those of the sessions that have not been here before."""
        return {session for session in sessions if not self._is_here(session)}

    def _is_here(self, session: SessionId) -> bool:
        if WHOLE not in self.loaded:
            self._need(Need("here", session))
        return session in self.here

    def _is_held(self, session: SessionId) -> bool:
        if HOLDERS not in self.loaded:
            self._need(Need("held", session))
        return session in self.held

    # ── loading ──

    def _need(self, *needs: Need) -> None:
        missing = [need for need in needs if need not in self.loaded and not self._in_whole(need)]
        if missing:
            raise Missing(missing)

    def _in_whole(self, need: Need) -> bool:
        return WHOLE in self.loaded and need.kind not in BESIDES

    def ops(self, needs: Collection[Need]) -> list[Op]:
        """The reads that load them. The first two are of the root and of the head; what the others find
        goes to `take`, all in one heap."""
        keys, group = self._keys, self.group
        ops = [get(keys.about), get(keys.group(group))]
        if WHOLE not in needs:
            ops.append(get(keys.claims(group)))
        for need in needs:
            match need.kind:
                case "row" | "mark":
                    ops.append(get(keys.record(group, need.kind, need.name)))
                case "member":
                    ops.append(get(keys.record(group, "row", need.name)))
                    ops.append(get(keys.named_all(group, need.name), keys_only=True))
                case "session":
                    ops.append(get(keys.life(need.name)))
                case "here":
                    ops.append(get(keys.here(group, need.name)))
                case "held":
                    ops.append(get(keys.held(group, need.name), keys_only=True))
                case "holders":
                    ops.append(get(keys.held_all(group), keys_only=True))
                case "whole":
                    ops.append(get(keys.records(group)))
                    ops.append(get(keys.here_all(group)))
        return ops

    def take(self, needs: Collection[Need], found: Iterable[Any]) -> None:
        """The keys that were found for these needs. What is not among them, is not there."""
        self.loaded.update(needs)
        for need in needs:
            if need.kind == "session":
                self.lives.setdefault(need.name, None)
            elif need.kind == "member":
                self.loaded.add(Need("row", need.name))
        for kv in found:
            self._take_one(kv)

    def _take_one(self, kv: Any) -> None:
        match self._keys.parts(kv.key):
            case ["record", _, kind, name]:
                self._take_record(kind, name, kv)
            case ["here", _, session]:
                self.here.add(session)
                with suppress(ValueError):
                    self.having[session] = int(kv.value)
            case ["held", _, session]:
                self.held.add(session)
            case ["named", _, member_id, key]:
                self._named.setdefault(member_id, set()).add(key)
            case ["life", session]:
                self.lives[session] = Life(kv.lease)

    def _take_record(self, kind: str, name: str, kv: Any) -> None:
        record = self._reading.record(kind, name, kv.key, kv.value)
        if record is None:
            return
        match kind:
            case "row":
                self.rows[name] = record
            case "mark":
                self.marks[name] = record
            case "claim":
                self.claims[name] = record


def guess(wishes: Iterable[Wish]) -> set[Need]:
    """What the law will ask for, as far as the writes say."""
    needs: set[Need] = set()
    for wish in wishes:
        for write in wish.writes:
            needs |= _of_write(write)
        for condition in wish.expect:
            match condition:
                case Empty():
                    needs.add(WHOLE)
                case Unchanged(key=key) | Stands(key=key):
                    needs.add(Need("row", key))
        if wish.by and wish.writes:
            needs |= {Need("session", wish.by), Need("here", wish.by)}
    if WHOLE in needs or len(needs) > FEW:
        return {WHOLE, *(need for need in needs if need.kind == "session")}
    return {need for need in needs if need.kind != "row" or Need("member", need.name) not in needs}


def portions(needs: Iterable[Need], most: int) -> list[list[Need]]:
    """The needs, in parts that take at most so many reads each."""
    parts: list[list[Need]] = [[]]
    reads = 0
    for need in needs:
        cost = COSTS.get(need.kind, 1)
        if reads + cost > most:
            parts.append([])
            reads = 0
        parts[-1].append(need)
        reads += cost
    return parts


def _of_write(write: Any) -> set[Need]:
    match write:
        case Enter(key=key, member_id=member_id, session=session):
            needs = {Need("row", key), Need("member", member_id), Need("mark", member_id)}
            return needs | ({Need("session", session), Need("here", session)} if session else set())
        case Amend(key=key):
            return {Need("row", key), Need("mark", key)}
        case Withdraw(key=key):
            return {Need("row", key)}
        case Remark(member_id=member_id):
            return {Need("member", member_id), Need("mark", member_id)}
        case Vacate():
            return set()
    return set()
