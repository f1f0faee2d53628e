"""Groups and their records: loaded, put to the law, and written by a transaction that compares what it saw.

    load ──► apply the law ──► write, if the head is where it was, and who enters lives ──► done
     ▲                                      │ not so: somebody else was first
     └──────────────────────────────────────┘

The head of a group is one key, which every commit moves. So commits of a group follow each other, each having
seen the one before; and a watch on the heads hears of each once.

Who is gone. A lease that runs out takes the session's keys `here` with it, and leaves its rows. Whoever reads
then, and finds live rows without `here`, settles it by a commit like any other, before it answers: so everybody
sees the same, in one order of revisions. That `here` is missing needs no comparing: it comes back by an enter
alone, and that moves the head.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from headcount import native
from headcount.errors import GroupNotFound, HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Amend, Committed, Enter, Entry, Outcome, Revision, Snapshot, Wish, hidden
from headcount.register import Ledger, apply_all
from headcount.stores.base import HISTORY, not_empty
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.client import RANGE, READ, TXN, Client
from headcount.stores.etcd.epochs import Epochs
from headcount.stores.etcd.errors import LeaseGone
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import (
    MOST,
    Op,
    delete,
    gathered,
    get,
    is_at,
    is_there,
    put,
    read,
    txn,
    when,
)
from headcount.stores.etcd.records import Head, Reading, Told, decode, encode, key_of
from headcount.stores.etcd.seen import FEW, WHOLE, Missing, Need, Seen, Unsettled, guess

WISHES = 50
"""Wishes in one transaction: each may compare a session, and writes three keys or more."""

BYTES = 700_000
"""Of capabilities in one transaction, which may be 1.5 MB large; they are written in base 64."""

SETTLED = 1000
"""Records that one commit takes down."""

RACES = 200
"""Times that somebody else may be first."""

PAUSE = 0.02


class Moved(Exception):
    """Somebody has committed between two of our reads."""


class Register:
    def __init__(self, client: Client, keys: Keys, reading: Reading, epochs: Epochs) -> None:
        self._client = client
        self._keys = keys
        self._reading = reading
        self._epochs = epochs

    # ── groups ──

    def groups(self) -> list[str]:
        request = rpc.RangeRequest(key=self._keys.groups.key, range_end=self._keys.groups.end, keys_only=True)
        names = (self._keys.parts(kv.key)[-1] for kv in self._client.ask(RANGE, request).kvs)
        return sorted(name for name in names if not hidden(name))

    def create_group(self, group: str) -> bool:
        until, keys, id_ = self._client.until(), self._keys, _new_id()
        for _ in self._races(until):
            ops = [get(keys.about), get(keys.group(group)), get(keys.floor)]
            answer = self._client.ask(READ, read(ops), until)
            about, head, floor = (response.response_range.kvs for response in answer.responses)
            if head:
                return self._head(head).id == id_
            epoch = self._epochs.of(about, answer.header, until)
            begin = Head(max(_number(floor), epoch << 32) + 1, id_)
            request = txn(
                [is_at(keys.about, _at(about)), is_at(keys.group(group), 0), is_at(keys.floor, _at(floor))],
                # Whoever has removed the head by hand has left the rest.
                [*(delete(span) for span in self._of(group)), put(keys.group(group), encode(begin))],
            )
            if self._client.ask(TXN, request, until).succeeded:
                return True
        raise self._too_busy(group)

    def delete_group(self, group: str) -> bool:
        until, keys, doubled = self._client.until(), self._keys, False
        for _ in self._races(until):
            try:
                seen = self.settled(group, until)
            except GroupNotFound:
                return doubled
            live = {row.member_id for row in seen.rows.values() if row is not None and row.live}
            if live or seen.claims:
                raise not_empty(group, live, {claim.member_id for claim in seen.claims.values()})
            floor = self._client.ask(RANGE, rpc.RangeRequest(key=keys.floor.key), until).kvs
            highest = max(_number(floor), seen.head.revision)
            request = txn(
                [is_at(keys.group(group), seen.head_at), is_at(keys.floor, _at(floor))],
                [
                    delete(keys.group(group)),
                    *(delete(span) for span in self._of(group)),
                    put(keys.floor, str(highest).encode()),
                ],
            )
            answer = self._client.send(TXN, request, until)
            if answer.told.succeeded:
                return True
            doubled |= answer.doubled
        raise self._too_busy(group)

    def _of(self, group: str) -> Sequence[Any]:
        return self._keys.records(group), self._keys.named_all(group), self._keys.here_all(group)

    # ── reading ──

    def read(self, group: str, only: Collection[str] | None) -> Snapshot:
        until = self._client.until()
        if only is not None and len(only) <= FEW // 2:
            return self._read_few(group, only, until)
        seen = self.settled(group, until)

        def wanted(record: Any) -> bool:
            return record is not None and (only is None or record.member_id in only)

        return Snapshot(
            group=group,
            revision=seen.head.revision,
            rows=tuple(filter(wanted, seen.rows.values())),
            marks=tuple(filter(wanted, seen.marks.values())),
            claims=tuple(filter(wanted, seen.claims.values())),
        )

    def _read_few(self, group: str, only: Collection[str], until: float) -> Snapshot:
        needs = {Need(kind, member_id) for member_id in only for kind in ("member", "mark")}
        names = sorted(set(only))

        def look(seen: Seen) -> Snapshot:
            marks = [seen.mark(name) for name in names]
            return Snapshot(
                group=group,
                revision=seen.head.revision,
                rows=tuple(row for name in names for row in seen.rows_of(name)),
                marks=tuple(mark for mark in marks if mark is not None),
                claims=tuple(claim for name in names for claim in seen.claims_of(name)),
            )

        for _ in self._races(until):
            found = self._looking(group, needs, until, look)
            if found is not None:
                return found[1]
        raise self._too_busy(group)

    def settled(self, group: str, until: float) -> Seen:
        """The whole group, in which nobody is up who is gone."""
        for _ in self._races(until):
            try:
                seen = self._load(Seen(self._reading, self._keys, group), {WHOLE}, until)
            except Moved:
                continue
            gone = seen.gone()
            if not gone:
                return seen
            ledger = Ledger(seen, group, self._base(seen), time.time(), unclocked=True)
            rows = [row for row in seen.rows.values() if row is not None and row.live and row.session in gone]
            for row in rows[:SETTLED]:
                ledger.expire(row)
            for claim in [claim for claim in seen.claims.values() if claim.session in gone][:SETTLED]:
                ledger.vacate(claim, "its session is gone")
            self._write(seen, ledger, until)
        raise self._too_busy(group)

    def _looking(self, group: str, needs: set[Need], until: float, look: Any) -> tuple[Seen, Any] | None:
        """What a look at the group gives, with all loaded that it takes; `needs` grows by what it took. None if
        the group has changed under it, or had to be settled: look again."""
        seen = Seen(self._reading, self._keys, group)
        wanted: Collection[Need] = needs
        while True:
            try:
                self._load(seen, wanted, until)
                return seen, look(seen)
            except Missing as missing:
                wanted = missing.needs
                needs.update(wanted)
            except Unsettled:
                self.settled(group, until)
                return None
            except Moved:
                return None

    def _load(self, seen: Seen, needs: Collection[Need], until: float) -> Seen:
        names = list(needs)
        for part in [names[n : n + MOST // 3] for n in range(0, len(names), MOST // 3)] or [[]]:
            answer = self._client.ask(READ, read(seen.ops(part)), until)
            about, head, *found = (response.response_range.kvs for response in answer.responses)
            if not head:
                raise GroupNotFound(f"there is no group {seen.group!r} in {self._client.address}")
            if seen.head_at not in (0, head[0].mod_revision):
                raise Moved
            seen.epoch = self._epochs.of(about, answer.header, until)
            seen.about_at, seen.head_at = _at(about), head[0].mod_revision
            seen.head = self._head(head)
            seen.take(part, (kv for kvs in found for kv in kvs))
        return seen

    def _head(self, found: Any) -> Head:
        """Where it cannot be read, the revision that etcd gives is below all of ours; the epoch is above."""
        try:
            return decode(Head, found[0].value)
        except ValueError as exc:
            self._reading.complain(found[0].key, str(exc))
            return Head(0, "")

    # ── committing ──

    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        until = self._client.until()
        outcomes: list[Outcome] = []
        for part in _parts(wishes):
            try:
                outcomes += self._commit(group, part, until)
            except OutcomeUnknown:
                raise
            except HeadcountError as exc:
                if any(isinstance(outcome, Committed) for outcome in outcomes):
                    raise OutcomeUnknown(f"{exc}; a part of what was asked together has been done") from exc
                raise
        return outcomes

    def _commit(self, group: str, wishes: Sequence[Wish], until: float) -> list[Outcome]:
        needs = guess(wishes)

        def look(seen: Seen) -> tuple[Ledger, list[Outcome]]:
            ledger, outcomes = apply_all(
                seen, group, wishes, revision=self._base(seen), now=time.time(), unclocked=True
            )
            for session in ledger.notices:
                seen.alive(session)
            return ledger, outcomes

        for _ in self._races(until):
            found = self._looking(group, needs, until, look)
            if found is None:
                continue
            seen, (ledger, outcomes) = found
            if ledger.revision == self._base(seen) or self._write(seen, ledger, until):
                return outcomes
        raise self._too_busy(group)

    @staticmethod
    def _base(seen: Seen) -> Revision:
        return max(seen.head.revision, seen.epoch << 32)

    def _write(self, seen: Seen, ledger: Ledger, until: float) -> bool:
        """Whether the changes have been written; if not, somebody else was first, or somebody is gone."""
        keys, group, id_ = self._keys, seen.group, _new_id()
        entered = {
            row.session
            for row in ledger.rows.values()
            if row is not None and row.live and row.session and row.incarnation > self._base(seen)
        }
        told = keys.told(group, ledger.revision)
        compare = [is_at(keys.group(group), seen.head_at), is_at(keys.about, seen.about_at)]
        compare += [is_there(keys.life(session)) for session in sorted(entered)]
        ops = [
            put(keys.group(group), encode(Head(ledger.revision, id_))),
            put(told, encode(Told(id_, ledger.entries))),
            *self._changes(seen, ledger),
            *self._presence(seen, entered),
            *self._notices(seen, ledger),
            *self._trimming(seen, ledger),
        ]
        try:
            answer = self._client.send(TXN, txn(compare, gathered(ops, len(compare)), [get(told)]), until)
        except LeaseGone:
            return False
        if answer.told.succeeded:
            return True
        found = answer.told.responses[0].response_range.kvs
        return answer.doubled and bool(found) and self._is_ours(found[0].value, id_)

    @staticmethod
    def _is_ours(value: bytes, id_: str) -> bool:
        """Whether the commit that got our revision is the one that we sent before, and heard no more of."""
        try:
            return decode(Told, value).id == id_
        except ValueError:
            return False

    def _changes(self, seen: Seen, ledger: Ledger) -> Iterator[Op]:
        keys, group = self._keys, seen.group
        for key, row in ledger.rows.items():
            old = seen.rows.get(key)
            if old is not None and old.member_id != key and (row is None or row.member_id != old.member_id):
                yield delete(keys.named(group, old.member_id, key))
            if row is not None and row.member_id != key and (old is None or row.member_id != old.member_id):
                yield put(keys.named(group, row.member_id, key))
        changed: Any = (("row", ledger.rows), ("mark", ledger.marks), ("claim", ledger.claims))
        for kind, records in changed:
            for key, record in records.items():
                span = keys.record(group, kind, key)
                if record is not None:
                    assert key_of(record) == key
                    yield put(span, encode(record))
                else:
                    yield delete(span)

    def _presence(self, seen: Seen, entered: Collection[str]) -> Iterator[Op]:
        for session in entered:
            life = seen.lives[session]
            if life is not None and session not in seen.here:
                yield put(self._keys.here(seen.group, session), b"", life.lease)
                yield put(self._keys.room(session, seen.group), b"", life.lease)

    def _notices(self, seen: Seen, ledger: Ledger) -> Iterator[Op]:
        """To be written is all that it takes: etcd counts how often a key has been. It must not bring back one
        that is gone meanwhile."""
        for session in ledger.notices:
            life = seen.lives[session]
            if life is not None:
                span = self._keys.life(session)
                yield when([is_there(span)], [put(span, life.value, life.lease)])

    def _trimming(self, seen: Seen, ledger: Ledger) -> Iterator[Op]:
        """Now and then. A commit has as many revisions as lines of history, or more."""
        now, before = ledger.revision, seen.head.revision
        if now >> 8 != before >> 8 and now & 0xFFFFFFFF > HISTORY:
            yield delete(self._keys.told_before(seen.group, now - HISTORY))

    # ── history ──

    def history(self, group: str | None, member_id: str | None, limit: int) -> list[Entry]:
        span = self._keys.told_all if group is None else self._keys.told_of(group)
        request = rpc.RangeRequest(
            key=span.key,
            range_end=span.end,
            sort_order=rpc.RangeRequest.DESCEND,
            sort_target=rpc.RangeRequest.CREATE,
            limit=0 if member_id is not None else max(1, limit),
        )
        found: list[Entry] = []
        for kv in self._client.ask(RANGE, request).kvs:
            try:
                entries = decode(Told, kv.value).entries
            except ValueError as exc:
                self._reading.complain(kv.key, str(exc))
                continue
            found += [entry for entry in reversed(entries) if member_id in (None, entry.member_id)]
            if len(found) >= min(limit, HISTORY):
                break
        return found[: min(limit, HISTORY)][::-1]

    # ── who is first ──

    def _races(self, until: float) -> Iterator[int]:
        """Tries, as long as there is time; who was not first lets the others go."""
        for turn in range(RACES):
            if turn:
                native.threading().Event().wait(random.uniform(0, PAUSE * min(turn, 5)))
                if time.monotonic() >= until:
                    return
            yield turn

    def _too_busy(self, group: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._client.address}: others have committed to {group!r} all the time; worth trying again"
        )


def _parts(wishes: Sequence[Wish]) -> Iterator[Sequence[Wish]]:
    """Few enough, and small enough, to be one transaction each. None at all are one part."""
    part: list[Wish] = []
    size = 0
    for wish in wishes:
        bytes_ = sum(len(w.capabilities or b"") for w in wish.writes if isinstance(w, Enter | Amend))
        if part and (len(part) >= WISHES or size + bytes_ > BYTES):
            yield part
            part, size = [], 0
        part.append(wish)
        size += bytes_
    if part or not wishes:
        yield part


def _new_id() -> str:
    return uuid.uuid4().hex


def _at(found: Any) -> int:
    return int(found[0].mod_revision) if found else 0


def _number(found: Any) -> int:
    try:
        return int(found[0].value) if found else 0
    except ValueError:
        return 0
