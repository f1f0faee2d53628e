"""What a commit writes, as one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from headcount.model import RecordKind, Revision, SessionId
from headcount.register import Ledger
from headcount.stores.base import HISTORY
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import (
    Op,
    delete,
    gathered,
    get,
    is_at,
    is_there,
    lives_by,
    put,
    rewrite,
    touch,
    txn,
    when,
)
from headcount.stores.etcd.records import Head, Told, decode, encode, key_of
from headcount.stores.etcd.seen import Seen, place

BYTES = 700_000
"""In one transaction, which may be 1.5 MB large: of capabilities, which are written in base 64; where who is
gone is taken down, of whole records as they are written."""


class Written:
    """The changes of a ledger, made of what was seen. `id_` names the commit; `holds`: what says that those
    who get a place may trust it; `counted`: how many sessions are here, and how many claims are kept for
    such as were ended early, where all of them were looked at."""

    def __init__(
        self,
        keys: Keys,
        seen: Seen,
        ledger: Ledger,
        id_: str,
        *,
        holds: Sequence[Op] = (),
        counted: tuple[int, int] | None = None,
    ) -> None:
        self._keys = keys
        self._seen = seen
        self._ledger = ledger
        self._id = id_
        self._holds = holds
        self._here, self._early = (seen.head.here, seen.head.early) if counted is None else counted

    def request(self) -> Any:
        """Written if the head is where it was, and who enters lives. If not, the answer shows which commit
        has our revision."""
        keys, group = self._keys, self._seen.group
        told = keys.told(group, self._ledger.revision)
        moved = self._ledger.revision > base(self._seen)
        came = entered(self._seen, self._ledger)
        alive = came | holders(self._seen, self._ledger)
        new = self._seen.entering(came)
        compare = [is_at(keys.group(group), self._seen.head_at), is_at(keys.about, self._seen.about_at)]
        compare += [
            lives_by(keys.life(s), life.lease) for s in sorted(alive) if (life := self._seen.lives[s])
        ]
        left = leaving(self._seen, self._ledger)
        head = Head(self._ledger.revision, self._id, self._here + len(new) - len(left), self._early)
        ops = [
            put(keys.group(group), encode(head)),
            *([put(told, encode(Told(self._id, self._ledger.entries, self._touched())))] if moved else []),
            *self._changes(),
            *self._presence(new, left),
            *self._holds,
            *self._notices(),
            *self._trimming(),
        ]
        return txn(compare, gathered(ops, len(compare)), [get(told)])

    def is_there(self, responses: Any) -> bool:
        """Whether the commit that has our revision is this one, sent before."""
        found = responses[0].response_range.kvs
        try:
            return bool(found) and decode(Told, found[0].value).id == self._id
        except ValueError:
            return False

    def _touched(self) -> list[tuple[RecordKind, str]]:
        ledger = self._ledger
        return [
            *(("row", key) for key in ledger.rows),
            *(("mark", key) for key in ledger.marks),
            *(("claim", key) for key in ledger.claims),
        ]

    def _changes(self) -> Iterator[Op]:
        keys, group = self._keys, self._seen.group
        for key, row in self._ledger.rows.items():
            old = self._seen.rows.get(key)
            if old is not None and old.member_id != key and (row is None or row.member_id != old.member_id):
                yield delete(keys.named(group, old.member_id, key))
            if row is not None and row.member_id != key and (old is None or row.member_id != old.member_id):
                yield put(keys.named(group, row.member_id, key))
        changed: Any = (
            ("row", self._ledger.rows),
            ("mark", self._ledger.marks),
            ("claim", self._ledger.claims),
        )
        for kind, records in changed:
            for key, record in records.items():
                span = keys.record(group, kind, key)
                if record is not None:
                    assert key_of(record) == key
                    yield put(span, encode(record))
                else:
                    yield delete(span)

    def _presence(self, new: Collection[SessionId], left: Collection[SessionId]) -> Iterator[Op]:
        """Who comes is here; who has left nothing is not, so that nobody need look for it when it is over."""
        keys, group = self._keys, self._seen.group
        more = balance(self._seen, self._ledger)
        for session in new:
            life = self._seen.lives[session]
            if life is not None:
                yield put(keys.here(group, session), str(more[session]).encode(), life.lease)
                yield put(keys.room(session, group), b"", life.lease)
        for session, rows in sorted(having_now(self._seen, self._ledger).items()):
            here = keys.here(group, session)
            if session in left:
                yield delete(here)
                yield delete(keys.room(session, group))
            elif rows != self._seen.having[session]:
                yield when([is_there(here)], [rewrite(here, str(rows).encode())])

    def _notices(self) -> Iterator[Op]:
        """To be written is all that it takes: etcd counts how often a key has been. It must not bring back
        one that is gone meanwhile."""
        for session in self._ledger.notices:
            if self._seen.lives[session] is not None:
                span = self._keys.life(session)
                yield when([is_there(span)], [touch(span)])

    def _trimming(self) -> Iterator[Op]:
        """Now and then. A commit has as many revisions as lines of history, or more."""
        now, before = self._ledger.revision, self._seen.head.revision
        if now >> 8 != before >> 8 and now & 0xFFFFFFFF > HISTORY:
            yield delete(self._keys.told_before(self._seen.group, now - HISTORY))


def base(seen: Seen) -> Revision:
    """The last revision that was given out, or is over by the epoch."""
    return max(seen.head.revision, seen.epoch << 32)


def entered(seen: Seen, ledger: Ledger) -> set[SessionId]:
    """The sessions whose rows have begun a life in this commit."""
    rows = (row for row in ledger.rows.values() if row is not None and row.live and row.session)
    return {row.session for row in rows if row.incarnation > base(seen)}


def balance(seen: Seen, ledger: Ledger) -> Counter[SessionId]:
    """How many live rows more each session has than before."""
    more: Counter[SessionId] = Counter()
    for key, row in ledger.rows.items():
        for one, sign in ((seen.rows.get(key), -1), (row, 1)):
            if one is not None and one.live and one.session:
                more[one.session] += sign
    return more


def having_now(seen: Seen, ledger: Ledger) -> dict[SessionId, int]:
    """How many live rows those sessions have that were here, and of which a row or a claim has changed."""
    more = balance(seen, ledger)
    vacated = {
        seen.claims[key].session for key, claim in ledger.claims.items() if not claim and key in seen.claims
    }
    touched = {
        session for session in more.keys() | vacated if session in seen.here and session in seen.having
    }
    return {session: max(0, seen.having[session] + more[session]) for session in touched}


def leaving(seen: Seen, ledger: Ledger) -> set[SessionId]:
    """Those of them that have no live row any more, and no claim: which would be taken for one of a session
    that is gone."""
    claims = {**seen.claims, **ledger.claims}.values()
    claiming = {claim.session for claim in claims if claim is not None}
    return {session for session, rows in having_now(seen, ledger).items() if not rows} - claiming


def holders(seen: Seen, ledger: Ledger) -> set[SessionId]:
    """The sessions that have got a place in this commit, and had none in the same row before."""
    found = set()
    for key, row in ledger.rows.items():
        if row is not None and row.live and row.session and place(row):
            old = seen.rows.get(key)
            if old is None or not old.live or old.session != row.session or not place(old):
                found.add(row.session)
    return found
