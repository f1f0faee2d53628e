"""The law of the register: what a commit does to the records of a group. Pure, and in one place.

Every store that can hold a transaction open while it thinks (memory, SQL, ZooKeeper and etcd by
compare-and-set) loads the few records that the writes name, lets this module apply the writes, and
stores what changed. A store therefore translates records, and does not decide about them.

A commit is all or nothing. Each record that it writes takes a revision of its own, one after the
other: two rows that stand in the same commit must not get the same fencing token. Wishes of several
are carried out one after the other, each by itself all or nothing: what an earlier one has changed, a
later one finds, though nothing is stored before the last.

The life of a row

      Enter ───────────────► up ──── Withdraw ─────────► left ─┐
        ▲                  ▲    │                              │
        │      Amend(present)   │ lapse: overdue, but held     ├─ Withdraw(forget) ──► gone,
        │                  │    ▼ back by the guard            │                       a tombstone
        │                 suspect                              │
        │                       │ expire: the session is       │
        └── another life        ▼ fenced                       │
                               down ───────────────────────────┘

The place of a row is its standing and its shards. Whoever is not its owner and takes the place away
does not end the owner's trust, so the place is not free yet: it becomes a `Claim`, and the owner's
session gets a notice. Whether a member may stand, or own shards, is decided here, at the write, under
the group's lock; a reader only has to find who stands first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

import msgspec

from headcount.model import (
    Amend,
    Claim,
    Committed,
    Empty,
    Enter,
    Entry,
    Expect,
    Mark,
    Outcome,
    RecordKind,
    Refusal,
    Refused,
    Remark,
    Revision,
    Row,
    SessionId,
    Standing,
    Stands,
    State,
    Unchanged,
    Vacate,
    Wish,
    Withdraw,
    Write,
)

replace = msgspec.structs.replace


class Records(Protocol):
    """What a store shows of one group, inside the transaction that will write."""

    def row(self, key: str) -> Row | None: ...
    def rows_of(self, member_id: str) -> Sequence[Row]: ...
    def mark(self, member_id: str) -> Mark | None: ...
    def claim(self, key: str) -> Claim | None: ...
    def claims_of(self, member_id: str) -> Sequence[Claim]: ...
    def holding(self) -> Sequence[Row | Claim]:
        """Live rows and claims that hold shards."""
        ...

    def alive(self, session: SessionId) -> bool:
        """Whether the session exists and is not fenced; locks it until the commit is over."""
        ...


class Ledger:
    """The changes of one commit, laid over the records they were made from: those of a store, or those
    of another ledger, which are what it shows."""

    def __init__(
        self,
        records: Records,
        group: str,
        revision: Revision,
        now: float,
        by: SessionId = "",
        *,
        unclocked: bool = False,
    ) -> None:
        self.group = group
        self.revision = revision
        self.rows: dict[str, Row | None] = {}
        self.marks: dict[str, Mark | None] = {}
        self.claims: dict[str, Claim | None] = {}
        self.removed: dict[tuple[RecordKind, str], Revision] = {}
        self.notices: set[SessionId] = set()
        self.entries: list[Entry] = []
        self._records = records
        self._now = now
        self._by = by
        self._unclocked = unclocked

    # ── looking through the changes at the records ──

    def row(self, key: str) -> Row | None:
        return self.rows[key] if key in self.rows else self._records.row(key)

    def rows_of(self, member_id: str) -> list[Row]:
        found = {row.key: row for row in self._records.rows_of(member_id)}
        for key, row in self.rows.items():
            found.pop(key, None)
            if row is not None and row.member_id == member_id:
                found[key] = row
        return sorted(found.values(), key=lambda row: row.key)

    def mark(self, member_id: str) -> Mark | None:
        return self.marks[member_id] if member_id in self.marks else self._records.mark(member_id)

    def claim(self, key: str) -> Claim | None:
        return self.claims[key] if key in self.claims else self._records.claim(key)

    def claims_of(self, member_id: str) -> list[Claim]:
        found = {claim.key: claim for claim in self._records.claims_of(member_id)}
        found.update({k: c for k, c in self.claims.items() if c is not None and c.member_id == member_id})
        return [claim for key, claim in found.items() if self.claims.get(key, claim) is not None]

    def holding(self) -> list[Row | Claim]:
        found = [holder for holder in self._records.holding() if not self._changed(holder)]
        found += [row for row in self.rows.values() if row is not None and row.live and row.shards]
        return found + [claim for claim in self.claims.values() if claim is not None and claim.shards]

    def alive(self, session: SessionId) -> bool:
        return self._records.alive(session)

    def absorb(self, later: Ledger) -> None:
        """Take over the changes of a ledger that was laid over this one."""
        for kind, mine, changed in (
            ("row", self.rows, later.rows),
            ("mark", self.marks, later.marks),
            ("claim", self.claims, later.claims),
        ):
            mine.update(changed)  # type: ignore[arg-type]  # the two are of one kind
            for key in changed:
                self.removed.pop((kind, key), None)  # type: ignore[arg-type]
        self.removed |= later.removed
        self.notices |= later.notices
        self.entries += later.entries
        self.revision = later.revision

    def outcome(self) -> Committed:
        return Committed(
            revision=self.revision,
            rows=tuple(row for row in self.rows.values() if row is not None),
            claims=tuple(claim for claim in self.claims.values() if claim is not None),
        )

    # ── the writes ──

    def write(self, write: Write) -> Refused | None:
        match write:
            case Enter():
                return self._enter(write)
            case Amend():
                return self._amend(write)
            case Withdraw():
                return self._withdraw(write)
            case Remark():
                return self._remark(write)
            case Vacate():
                return self._vacate(write)

    def _enter(self, write: Enter) -> Refused | None:
        if write.session and not self._records.alive(write.session):
            return Refused(reason=Refusal.FENCED, key=write.key)
        row = self.row(write.key)
        if (row.revision if row else 0) != write.seen:
            return Refused(reason=Refusal.STALE, key=write.key, row=row)
        mark = self.mark(write.member_id)
        if mark is not None and mark.expelled:
            return Refused(reason=Refusal.BARRED, key=write.key, row=row)
        rival = self._rival(write)
        if rival is not None:
            return Refused(reason=Refusal.STALE, key=rival.key, row=rival)

        if row is not None and row.live:
            self._take_away(row)
            self._note(row.member_id, "superseded", row.revision)
        revision = self._next()
        barred = mark is not None and mark.bars_standing
        stands = write.stand and write.ready and not barred
        self._put(
            Row(
                key=write.key,
                member_id=write.member_id,
                incarnation=revision,
                revision=revision,
                state=State.UP,
                session=write.session,
                instance=write.instance,
                host=write.host,
                ttl=write.ttl,
                ready=write.ready,
                standing_since=revision if stands else 0,
                capabilities=write.capabilities,
                shards=frozenset() if barred else write.shards,
                mode=write.mode,
                since=self._now,
            )
        )
        self._note(write.member_id, "joined", revision)
        return None

    def _rival(self, write: Enter) -> Row | None:
        """Another live row of the same member. One that shares its name tolerates the others of its
        host; one that does not share must take them all away first, by name. Locks (rows with a
        mode) are held by members, and one member may well hold or await several."""
        if write.mode or not write.session:
            return None
        for row in self.rows_of(write.member_id):
            shares = write.share and row.host == write.host and row.key != row.member_id
            if row.live and row.key != write.key and not row.mode and not shares:
                return row
        return None

    def _amend(self, write: Amend) -> Refused | None:
        row = self.row(write.key)
        foreign = row is not None and row.session not in ("", self._by)
        if not self._is(row, write) or row is None or not row.live or foreign:
            return Refused(reason=Refusal.STALE, key=write.key, row=row)
        if row.session and not self._records.alive(row.session):
            return Refused(reason=Refusal.FENCED, key=write.key, row=row)

        mark = self.mark(row.member_id)
        state = State.UP if write.present else row.state
        ready = row.ready if write.ready is None else write.ready
        may_hold = state is State.UP and not (mark is not None and mark.bars_standing)
        may_stand = may_hold and ready
        shards = row.shards if write.shards is None else write.shards
        standing = row.standing_since if may_stand and write.standing is not Standing.RESIGN else 0
        stands_anew = may_stand and (
            write.standing is Standing.ANEW or (write.standing is Standing.STAND and not standing)
        )
        amended = replace(
            row,
            state=state,
            ready=ready,
            standing_since=standing,
            capabilities=row.capabilities if write.capabilities is None else write.capabilities,
            # A suspect lapses once: what it took afterwards would be held for as long as the guard holds.
            shards=shards if may_hold else frozenset(),
            since=row.since if (state, ready) == (row.state, row.ready) else self._now,
        )
        if amended == row and not stands_anew:
            return None

        revision = self._next()
        self._put(replace(amended, revision=revision, standing_since=revision if stands_anew else standing))
        if stands_anew:
            self._note(row.member_id, "stands", revision)
        if state is not row.state:
            self._note(row.member_id, "back", revision)
        if ready is not row.ready:
            self._note(row.member_id, "ready" if ready else "unready", revision)
        if amended.capabilities != row.capabilities:
            self._note(row.member_id, "updated", revision)
        return None

    def _withdraw(self, write: Withdraw) -> Refused | None:
        row = self.row(write.key)
        if not self._is(row, write) or row is None:
            return Refused(reason=Refusal.STALE, key=write.key, row=row)
        ours = row.session == self._by
        if row.live and not ours:
            self._take_away(row, fenced=write.fenced)
        if write.forget:
            self._remove("row", row.key)
            self._note(row.member_id, "forgotten", self.revision, "fenced" if write.fenced else "")
        elif row.live:
            revision = self._next()
            self._put(_ended(row, State.LEFT, revision, self._now))
            self._note(
                row.member_id, "left" if ours else "removed", revision, "fenced" if write.fenced else ""
            )
        return None

    def _remark(self, write: Remark) -> Refused | None:
        old = self.mark(write.member_id)
        if (old.revision if old else 0) != write.seen:
            return Refused(reason=Refusal.STALE, key=write.member_id)
        wanted = (write.disabled, write.forced_down, write.expelled)
        clear = wanted == (None, False, False)
        if wanted != ((old.disabled, old.forced_down, old.expelled) if old else (None, False, False)):
            self._mark(write, clear)
        if write.fenced:
            for claim in self.claims_of(write.member_id):
                self.vacate(claim, "fenced")
        return None

    def _mark(self, write: Remark, clear: bool) -> None:
        if clear:
            self._remove("mark", write.member_id)
        else:
            self.marks[write.member_id] = mark = Mark(
                member_id=write.member_id,
                revision=self._next(),
                disabled=write.disabled,
                forced_down=write.forced_down,
                expelled=write.expelled,
                since=self._now,
            )
            self.removed.pop(("mark", mark.member_id), None)
        detail = "; ".join(
            [
                *([f"disabled: {write.disabled}"] if write.disabled is not None else []),
                *(["forced down"] if write.forced_down else []),
                *(["expelled"] if write.expelled else []),
                *(["fenced"] if write.fenced else []),
            ]
        )
        self._note(write.member_id, "unmarked" if clear else "marked", self.revision, detail)
        for row in self.rows_of(write.member_id):
            if row.live:
                self._apply_mark(row, write)

    def _apply_mark(self, row: Row, write: Remark) -> None:
        """Even a mark that leaves the row as it is rings for its owner, who may not be watching."""
        if row.session and row.session != self._by:
            self.notices.add(row.session)
        if not (write.expelled or write.forced_down or write.disabled is not None):
            return
        self._take_away(row, fenced=write.fenced)
        if write.expelled:
            self._put(_ended(row, State.LEFT, self._next(), self._now))
        elif row.standing_since or row.shards:
            self._put(replace(row, revision=self._next(), standing_since=0, shards=frozenset()))

    def _vacate(self, write: Vacate) -> Refused | None:
        claim = self.claim(write.claim)
        if claim is None:
            return None
        if claim.session != self._by and not (write.waited and self._unclocked):
            return Refused(reason=Refusal.STALE, key=write.claim)
        self.vacate(claim, "waited out" if write.waited else "acknowledged")
        return None

    # ── what a sweep does ──

    def expire(self, row: Row, *, early: bool = False) -> None:
        """The row's session is over: it is down, and a lock or its place in a queue is gone. `early`: it has
        ended before its time, so that its owner may still trust the place, which becomes a claim."""
        if early:
            self._claim(row)
        if row.mode:
            self._remove("row", row.key)
        else:
            self._put(_ended(row, State.DOWN, self._next(), self._now))
        self._note(row.member_id, "down", self.revision)

    def lapse(self, row: Row) -> None:
        """The row's session is overdue, but held back by the guard: suspect, and its place is free.
        The notice must be raised under the same lock under which the session was found overdue."""
        if row.state is State.SUSPECT:
            return
        if row.mode:
            self._remove("row", row.key)
        else:
            self._put(_ended(row, State.SUSPECT, self._next(), self._now))
        self.notices.add(row.session)
        self._note(row.member_id, "suspect", self.revision)

    def vacate(self, claim: Claim, why: str) -> None:
        self._remove("claim", claim.key)
        self._note(claim.member_id, "vacated", self.revision, why)

    # ── small things ──

    def _take_away(self, row: Row, *, fenced: bool = False) -> None:
        """Turn the place of somebody's row into a claim, and tell the owner."""
        if not row.session or row.session == self._by or not self._records.alive(row.session):
            return
        self.notices.add(row.session)
        if not fenced:
            self._claim(row)

    def _claim(self, row: Row) -> None:
        """What somebody may still trust to have is kept from the others."""
        if not (row.standing_since or row.shards):
            return
        revision = self._next()
        key = f"{row.key}@{revision}"
        self.claims[key] = Claim(
            key=key,
            row=row.key,
            member_id=row.member_id,
            incarnation=row.incarnation,
            revision=revision,
            session=row.session,
            ttl=row.ttl,
            standing_since=row.standing_since,
            shards=row.shards,
            mode=row.mode,
        )

    def _changed(self, holder: Row | Claim) -> bool:
        return holder.key in (self.rows if isinstance(holder, Row) else self.claims)

    @staticmethod
    def _is(row: Row | None, write: Amend | Withdraw) -> bool:
        return row is not None and (row.incarnation, row.revision) == (write.incarnation, write.seen)

    def _next(self) -> Revision:
        self.revision += 1
        return self.revision

    def _put(self, row: Row) -> None:
        self.rows[row.key] = row
        self.removed.pop(("row", row.key), None)

    def _remove(self, kind: RecordKind, key: str) -> None:
        match kind:
            case "row":
                self.rows[key] = None
            case "mark":
                self.marks[key] = None
            case "claim":
                self.claims[key] = None
        self.removed[kind, key] = self._next()

    def _note(self, member_id: str, what: str, revision: Revision, detail: str = "") -> None:
        self.entries.append(
            Entry(
                at=self._now,
                group=self.group,
                member_id=member_id,
                what=what,
                who=self._by,
                revision=revision,
                detail=detail,
            )
        )


def apply(
    records: Records,
    group: str,
    writes: Iterable[Write],
    expect: Collection[Expect] = (),
    *,
    revision: Revision,
    now: float,
    by: SessionId = "",
    unclocked: bool = False,
) -> Ledger | Refused:
    """All of the writes, or the reason why none. `revision` is the last one that was given out;
    `by` the session that writes (empty: an operator). `unclocked`: the store has no ticks, so that only
    a client's own clock can tell when a claim has been waited out."""
    for condition in expect:
        if not _holds(records, condition):
            return Refused(reason=Refusal.UNMET, key=getattr(condition, "key", ""))
    ledger = Ledger(records, group, revision, now, by, unclocked=unclocked)
    for write in writes:
        refused = ledger.write(write)
        if refused is not None:
            return refused
    return ledger


def apply_all(
    records: Records,
    group: str,
    wishes: Iterable[Wish],
    *,
    revision: Revision,
    now: float,
    unclocked: bool = False,
) -> tuple[Ledger, list[Outcome]]:
    """Wishes of several, in this order: all changes in one ledger, and to each its answer. Whoever is
    refused has changed nothing, and the others do not notice."""
    whole, outcomes = Ledger(records, group, revision, now), list[Outcome]()
    for wish in wishes:
        done = apply(
            whole,
            group,
            wish.writes,
            wish.expect,
            revision=whole.revision,
            now=now,
            by=wish.by,
            unclocked=unclocked,
        )
        if isinstance(done, Ledger):
            whole.absorb(done)
            outcomes.append(done.outcome())
        else:
            outcomes.append(done)
    return whole, outcomes


def _holds(records: Records, condition: Expect) -> bool:
    match condition:
        case Unchanged():
            row = records.row(condition.key)
            return (row.revision if row else 0) == condition.revision
        case Stands():
            row = records.row(condition.key)
            return row is not None and row.state is State.UP and row.standing_since == condition.token
        case Empty():
            return not any(condition.shards & holder.shards for holder in records.holding())


def _ended(row: Row, state: State, revision: Revision, now: float) -> Row:
    return replace(row, state=state, revision=revision, standing_since=0, shards=frozenset(), since=now)
