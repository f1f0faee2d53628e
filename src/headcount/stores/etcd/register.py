"""Groups and their records: loaded, put to the law, and written by a transaction that compares what it saw.

    load ──► apply the law ──► write, if the head is where it was, and who enters lives ──► done
     ▲                                      │ not so: somebody else was first
     └──────────────────────────────────────┘

The head of a group is one key, which every commit moves. So commits of a group follow each other, each having
seen the one before; and a watch on the heads hears of each once.

Who is gone. A lease that runs out takes the session's keys `here` with it, and leaves its rows. Whoever reads
then, and finds live rows without `here`, settles it by a commit like any other, before it answers: so
everybody sees the same, in one order of revisions. That `here` is missing needs no comparing: it comes back
by an enter alone, and that moves the head.

Who has left. `here` says how many live rows the session has in the group. With the last one, and without a
claim, it goes, by that commit: nobody has to look whether somebody has died when the session ends later.

Who was ended early. If `held` is there though `here` is not, the owner may trust its place yet (`witnesses`):
so that becomes a claim, which stays for as long as `held` does. Where only `here` was deleted, and the
session lives, its owner gets a notice of it, as of any claim."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from headcount import native
from headcount.errors import GroupNotFound, HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import (
    Amend,
    Claim,
    Committed,
    Delta,
    Enter,
    Mark,
    Outcome,
    Revision,
    Row,
    SessionId,
    Snapshot,
    Wish,
)
from headcount.register import Ledger, apply_all
from headcount.stores.etcd.client import READ, TXN, Client
from headcount.stores.etcd.deltas import Deltas, Died
from headcount.stores.etcd.epochs import Epochs
from headcount.stores.etcd.errors import LeaseGone
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import MOST, at, read
from headcount.stores.etcd.records import Head, Reading, decode, encode
from headcount.stores.etcd.seen import FEW, WHOLE, Missing, Need, Seen, Unsettled, guess, portions
from headcount.stores.etcd.sessions import Sessions
from headcount.stores.etcd.written import Written, base, entered, holders

T = TypeVar("T")
R = TypeVar("R", Row, Mark, Claim)

WISHES = 50
"""Wishes in one transaction: each may compare a session, and writes three keys or more."""

BYTES = 700_000
"""In one transaction, which may be 1.5 MB large: of capabilities, which are written in base 64; where who is
gone is taken down, of whole records as they are written."""

SETTLED = 2000
"""Operations of one commit that takes down who is gone."""

RACES = 200
"""Times that somebody else may be first."""

PAUSE = 0.02

SPREAD, CROWD = 0.2, 100
"""Seconds over which those who hear of a death spread, if so many sessions are here; fewer take less."""


class Moved(Exception):
    """Somebody has committed between two of our reads."""


class Register:
    def __init__(
        self, client: Client, keys: Keys, reading: Reading, epochs: Epochs, sessions: Sessions
    ) -> None:
        self._client = client
        self._keys = keys
        self._reading = reading
        self._epochs = epochs
        self._sessions = sessions
        self._deltas = Deltas(client, keys, reading)

    # ── reading ──

    def read(self, group: str, after: Revision | None, only: Collection[str] | None) -> Snapshot | Delta:
        until = self._client.until()
        if only is not None and len(only) <= FEW // 5:
            return self._read_few(group, only, until)
        if after is None or only is not None:
            return self._picture(self.settled(group, until), only)
        found = self._later(group, after, until)
        return found if isinstance(found, Delta) else self._picture(found)

    @staticmethod
    def _picture(seen: Seen, only: Collection[str] | None = None) -> Snapshot:
        def wanted(records: Mapping[str, R | None]) -> tuple[R, ...]:
            found = (record for record in records.values() if record is not None)
            return tuple(record for record in found if only is None or record.member_id in only)

        return Snapshot(
            group=seen.group,
            revision=seen.head.revision,
            rows=wanted(seen.rows),
            marks=wanted(seen.marks),
            claims=wanted(seen.claims),
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

        for _ in races(until):
            found = self._looking(group, needs, until, look)
            if found is not None:
                return found[1]
        raise too_busy(self._client.address, group)

    def settled(self, group: str, until: float) -> Seen:
        """The whole group, in which nobody is up who is gone."""
        for _ in races(until):
            seen, _written = self._settle(group, until)
            if seen is not None:
                return seen
        raise too_busy(self._client.address, group)

    def _later(self, group: str, after: Revision, until: float) -> Delta | Seen:
        """What has changed, or the whole group. All who watch it hear of a death at the same moment. The
        larger their crowd may be, the longer each waits first: so few settle it, and the others read of that.
        """
        for _ in races(until):
            found = self._deltas.after(group, after, until)
            if isinstance(found, Died):
                most = min(SPREAD, SPREAD * found.here / CROWD, until - time.monotonic())
                native.threading().Event().wait(random.uniform(0, max(0.0, most)))
                found = self._deltas.after(group, after, until)
            if isinstance(found, Delta):
                return found
            seen, written = self._settle(group, until)
            if seen is not None:
                return seen
            if written and isinstance(found := self._deltas.after(group, after, until), Delta):
                return found
        raise too_busy(self._client.address, group)

    def _settle(self, group: str, until: float) -> tuple[Seen | None, bool]:
        """The whole group, if nobody in it is up who is gone. If somebody is, that is put right; and whether
        it was."""
        seen = Seen(self._reading, self._keys, group)
        try:
            self._load(seen, {WHOLE}, until)
            gone = seen.gone()
            self._load(seen, seen.in_question(gone), until)
            early = gone & seen.held
            self._load(seen, [Need("session", session) for session in sorted(early)], until)
        except Moved:
            return None, False
        ledger = Ledger(seen, group, base(seen), time.time(), unclocked=True)
        rows = [row for row in seen.rows.values() if row is not None and row.live and row.session in gone]
        claims = [claim for claim in seen.claims.values() if claim.session in gone - early]
        counted = _counted(seen, ledger, gone)
        if not rows and not claims:
            self._count(seen, ledger, counted, until)
            return seen, False
        some = list(_as_many([*rows, *claims], early))
        for one in some:
            if isinstance(one, Claim):
                ledger.vacate(one, "its session is gone")
            else:
                ledger.expire(one, early=one.session in early)
                ledger.notices |= {one.session} & early
        counted = _counted(seen, ledger, gone)
        if len(some) < len(rows) + len(claims):
            # Not all of them. The head goes on to say that some are missing: else, if nobody settled
            # the rest, it would stay up in the eyes of all who read what has changed.
            counted = max(seen.head.here, len(seen.here) + 1), counted[1]
        try:
            return None, self._write(seen, ledger, until, counted)
        except OutcomeUnknown as exc:  # of this only; of what the caller asked, nothing is written yet
            raise StoreUnavailable(str(exc)) from exc

    def _count(self, seen: Seen, ledger: Ledger, counted: tuple[int, int], until: float) -> None:
        """Who is gone had no live rows. The head is told, so that others need not look again; whether it can
        be, changes nothing."""
        if counted != (seen.head.here, seen.head.early):
            with suppress(HeadcountError):
                self._write(seen, ledger, until, counted)

    def _looking(
        self, group: str, needs: set[Need], until: float, look: Callable[[Seen], T]
    ) -> tuple[Seen, T] | None:
        """What a look at the group gives, with all loaded that it takes; `needs` grows by what it took.
        None if the group has changed under it, or had to be settled: look again."""
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
        for part in portions(needs, MOST):
            answer = self._client.ask(READ, read(seen.ops(part)), until)
            about, head, *found = (response.response_range.kvs for response in answer.responses)
            if not head:
                raise GroupNotFound(f"there is no group {seen.group!r} in {self._client.address}")
            if seen.head_at not in (0, head[0].mod_revision):
                raise Moved
            seen.epoch = self._epochs.of(about, answer.header, until)
            seen.about_at, seen.head_at = at(about), head[0].mod_revision
            seen.head = self.head(head)
            seen.take(part, (kv for kvs in found for kv in kvs))
        return seen

    def head(self, found: Any) -> Head:
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
                seen, group, wishes, revision=base(seen), now=time.time(), unclocked=True
            )
            for session in ledger.notices | holders(seen, ledger):
                seen.alive(session)
            seen.entering(entered(seen, ledger))
            return ledger, outcomes

        for _ in races(until):
            found = self._looking(group, needs, until, look)
            if found is None:
                continue
            seen, (ledger, outcomes) = found
            if ledger.revision == base(seen) or self._write(seen, ledger, until):
                return outcomes
        raise too_busy(self._client.address, group)

    def _write(
        self, seen: Seen, ledger: Ledger, until: float, counted: tuple[int, int] | None = None
    ) -> bool:
        """Whether the changes have been written; if not, somebody else was first, or somebody is gone."""
        who = {session: life.lease for session in holders(seen, ledger) if (life := seen.lives[session])}
        holds = self._sessions.hold(seen.group, who, until)
        written = Written(self._keys, seen, ledger, new_id(), holds=holds, counted=counted)
        try:
            answer = self._client.send(TXN, written.request(), until)
        except LeaseGone:
            if holds:
                self._sessions.witnesses.look(until)
            return False
        return bool(answer.told.succeeded) or (answer.doubled and written.is_there(answer.told.responses))


def _counted(seen: Seen, ledger: Ledger, gone: set[SessionId]) -> tuple[int, int]:
    """Of a group that was loaded whole: how many sessions are here, and how many claims are of others."""
    claims = {**seen.claims, **ledger.claims}
    return len(seen.here), sum(claim is not None and claim.session in gone for claim in claims.values())


def _as_many(records: Sequence[Row | Claim], early: Collection[SessionId]) -> Iterator[Row | Claim]:
    """Of these, which go down, as many as are one commit: at least one. Each may delete what names it; a row
    whose session was ended early may become a claim besides, and is a notice."""
    size = operations = 0
    for record in records:
        more = 2 if record.session in early else 1
        # Its names are in its keys, too, and in the history.
        size += more * (len(encode(record)) + 3 * len((record.key + record.member_id).encode()) + 200)
        operations += 2 * more
        if operations > 2 and (size > BYTES or operations > SETTLED):
            return
        yield record


def races(until: float) -> Iterator[int]:
    """Tries, as long as there is time; who was not first lets the others go."""
    for turn in range(RACES):
        if turn:
            native.threading().Event().wait(random.uniform(0, PAUSE * min(turn, 5)))
            if time.monotonic() >= until:
                return
        yield turn


def too_busy(address: str, group: str) -> StoreUnavailable:
    return StoreUnavailable(f"{address}: others have committed to {group!r} all the time; worth trying again")


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


def new_id() -> str:
    return uuid.uuid4().hex
