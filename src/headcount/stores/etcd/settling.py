"""Whoever is gone is written down as such by the first who looks.

A lease that runs out takes the session's keys `here` with it, and leaves its rows. Whoever reads
then, and finds live rows without `here`, settles it by a commit like any other, before it answers: so
everybody sees the same, in one order of revisions. That `here` is missing needs no comparing: it comes back
by an enter alone, and that moves the head.

Who has left. `here` says how many live rows the session has in the group. With the last one, and without a
claim, it goes, by that commit: nobody has to look whether somebody has died when the session ends later.

Who was ended early. If `held` is there though `here` is not, the owner may trust its place yet (`witnesses`):
so that becomes a claim, which stays for as long as `held` does. Where only `here` was deleted, and the
session lives, its owner gets a notice of it, as of any claim.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from headcount.errors import HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Claim, Row, SessionId
from headcount.register import Ledger
from headcount.stores.etcd.access import Access, Moved, races, too_busy
from headcount.stores.etcd.records import encode
from headcount.stores.etcd.seen import WHOLE, Need, Seen
from headcount.stores.etcd.written import BYTES, base

SETTLED = 2000
"""Operations of one commit that takes down who is gone."""


class Settling:
    def __init__(self, access: Access) -> None:
        self._access = access

    def settled(self, group: str, until: float) -> Seen:
        """The whole group, in which nobody is up who is gone."""
        for _ in races(until):
            seen, _written = self.settle(group, until)
            if seen is not None:
                return seen
        raise too_busy(self._access.client.address, group)

    def settle(self, group: str, until: float) -> tuple[Seen | None, bool]:
        """The whole group, if nobody in it is up who is gone. If somebody is, that is put right; and whether
        it was."""
        seen = self._access.seen(group)
        try:
            gone, early = self._load(seen, until)
        except Moved:
            return None, False
        ledger = Ledger(seen, group, base(seen), time.time(), unclocked=True)
        rows = [row for row in seen.rows.values() if row is not None and row.live and row.session in gone]
        claims = [claim for claim in seen.claims.values() if claim.session in gone - early]
        if not rows and not claims:
            self._count(seen, ledger, gone, until)
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
            return None, self._access.write(seen, ledger, until, counted)
        except OutcomeUnknown as exc:  # of this only; of what the caller asked, nothing is written yet
            raise StoreUnavailable(str(exc)) from exc

    def _load(self, seen: Seen, until: float) -> tuple[set[SessionId], set[SessionId]]:
        """All of it; and who of those that it names is gone, and of these, who was ended early."""
        self._access.load(seen, {WHOLE}, until)
        gone = seen.gone()
        self._load_more(seen, seen.in_question(gone), until)
        early = gone & seen.held
        self._load_more(seen, [Need("session", session) for session in sorted(early)], until)
        return gone, early

    def _load_more(self, seen: Seen, needs: Collection[Need], until: float) -> None:
        if needs:
            self._access.load(seen, needs, until)

    def _count(self, seen: Seen, ledger: Ledger, gone: set[SessionId], until: float) -> None:
        """Who is gone had no live rows. The head is told, so that others need not look again; whether it can
        be, changes nothing."""
        counted = _counted(seen, ledger, gone)
        if counted != (seen.head.here, seen.head.early):
            with suppress(HeadcountError):
                self._access.write(seen, ledger, until, counted)


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
