"""Groups and their records: loaded, put to the law, and written by a transaction that compares what it saw.

    load ──► apply the law ──► write, if the head is where it was, and who enters lives ──► done
     ▲                                      │ not so: somebody else was first
     └──────────────────────────────────────┘

The head of a group is one key, which every commit moves. So commits of a group follow each other, each having
seen the one before; and a watch on the heads hears of each once.

Before anything is looked at, whoever is gone has been written down as such (`settling`).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeVar

from headcount import native
from headcount.errors import HeadcountError, OutcomeUnknown
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
    Seconds,
    Snapshot,
    Wish,
)
from headcount.register import Ledger, apply_all
from headcount.stores.etcd.access import Access, Moved, races, too_busy
from headcount.stores.etcd.deltas import Deltas, Died
from headcount.stores.etcd.seen import FEW, Missing, Need, Seen, Unsettled, guess
from headcount.stores.etcd.settling import Settling
from headcount.stores.etcd.written import BYTES, base, entered, holders

T = TypeVar("T")
R = TypeVar("R", Row, Mark, Claim)

WISHES = 50
"""Wishes in one transaction: each may compare a session, and writes three keys or more."""

SPREAD, CROWD = 0.2, 100
"""Seconds over which those who hear of a death spread, if so many sessions are here; fewer take less."""


class Register:
    def __init__(self, access: Access, settling: Settling, deltas: Deltas) -> None:
        self._access = access
        self._client = access.client
        self._settling = settling
        self._deltas = deltas

    # ── reading ──

    def read(self, group: str, after: Revision | None, only: Collection[str] | None) -> Snapshot | Delta:
        until = self._client.until()
        if only is not None and len(only) <= FEW // 5:
            return self._read_few(group, only, until)
        if after is None or only is not None:
            return self._picture(self._settling.settled(group, until), only)
        found = self._later(group, after, until)
        return found if isinstance(found, Delta) else self._picture(found)

    def _later(self, group: str, after: Revision, until: float) -> Delta | Seen:
        """What has changed, or the whole group. All who watch it hear of a death at the same moment. The
        larger their crowd may be, the longer each waits first: so few settle it, and the others read of that.
        """
        for _ in races(until):
            found = self._deltas.after(group, after, until)
            if isinstance(found, Died):
                native.threading().Event().wait(min(_moment(found.here), max(0.0, until - time.monotonic())))
                found = self._deltas.after(group, after, until)
            if isinstance(found, Delta):
                return found
            seen, written = self._settling.settle(group, until)
            if seen is not None:
                return seen
            if written and isinstance(found := self._deltas.after(group, after, until), Delta):
                return found
        raise too_busy(self._client.address, group)

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

    def _looking(
        self, group: str, needs: set[Need], until: float, look: Callable[[Seen], T]
    ) -> tuple[Seen, T] | None:
        """What a look at the group gives, with all loaded that it takes; `needs` grows by what it took.
        None if the group has changed under it, or had to be settled: look again."""
        seen = self._access.seen(group)
        wanted: Collection[Need] = needs
        while True:
            try:
                self._access.load(seen, wanted, until)
                return seen, look(seen)
            except Missing as missing:
                wanted = missing.needs
                needs.update(wanted)
            except Unsettled:
                self._settling.settled(group, until)
                return None
            except Moved:
                return None

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
            if ledger.revision == base(seen) or self._access.write(seen, ledger, until):
                return outcomes
        raise too_busy(self._client.address, group)


def _moment(here: int) -> Seconds:
    """How long one of a crowd waits, lest all do the same: most of them long, and a few not, so that the rest
    can hear of what these have done. (Exponential timers, truncated: Nonnenmacher and Biersack, "Scalable
    feedback for large groups", 1999.)"""
    spread, steep = min(SPREAD, SPREAD * here / CROWD), math.log(max(1, here)) + 1
    return spread / steep * math.log1p(random.random() * math.expm1(steep))


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
