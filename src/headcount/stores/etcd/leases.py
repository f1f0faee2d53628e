"""Leases, and how a session moves from one to another.

Why they have to move. A leader that was paused through an election wakes up, finds leases that nobody has
kept alive *with it*, and has them revoked: its proposals are handed on to its successor, which carries them
out (etcd before 3.4.25, again #15247). So a session may end though its beats were taken by who really led,
and its place be given away while it is still trusted. But no leader of an older term knows of a lease that
was granted in a newer one: it hears of it only as a follower, and followers revoke nothing. And a lease that
it does know, it finds over no sooner than a ttl after the last beat that it took itself, when what that beat
gave is over. So

    a beat is trusted only on a lease that was asked for in the term in which the beat was taken

and after an election, each session goes to a new lease with its next beat. The number of a lease, which we
choose, tells its term.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from headcount.errors import StoreUnavailable
from headcount.model import Seconds, Session, SessionId
from headcount.stores.etcd.client import READ, TXN, Client
from headcount.stores.etcd.errors import LeaseGone
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import MOST, gathered, get, lives_by, put, read, txn, unchanged_since
from headcount.stores.etcd.records import Life, decode, encode
from headcount.stores.etcd.terms import grant, number, term_of
from headcount.stores.etcd.witnesses import Witnesses


class Leases:
    def __init__(self, client: Client, keys: Keys, witnesses: Witnesses) -> None:
        self._client = client
        self._keys = keys
        self._witnesses = witnesses
        self.ours: dict[tuple[str, int], int] = {}
        """By process and ttl."""
        self.ttl: dict[int, Seconds] = {}
        self._next: dict[int, int] = {}
        """Where the sessions of a lease went."""

    def of(self, session: Session, until: float) -> int:
        """The lease that a new session of its process and ttl shares."""
        key = (session.process, math.ceil(session.ttl))
        if key not in self.ours or term_of(self.ours[key]) != self._client.term:
            self.ours[key] = self._grant(key[1], until)
        return self.ours[key]

    def forget(self, leases: Collection[int]) -> None:
        self.ours = {key: lease for key, lease in list(self.ours.items()) if lease not in leases}

    def _grant(self, ttl: int, until: float) -> int:
        lease = number(self._client)
        self.ttl[lease] = grant(self._client, lease, ttl, until)
        return lease

    def move(self, sessions: Mapping[SessionId, int], until: float) -> None:
        """Take these sessions to a lease of the present term, and what they hold to such a witness: all that
        live together, to one. If the one who beats is not first, the next beat finds where it is."""
        for old in set(sessions.values()):
            new = self._after(old, until)
            self.ours = {key: new if lease == old else lease for key, lease in list(self.ours.items())}
            for session in [session for session, lease in sessions.items() if lease == old]:
                with suppress(LeaseGone):
                    self._move_one(session, old, new, until)

    def _after(self, old: int, until: float) -> int:
        """Where the sessions of a lease go, if it is of an older term."""
        if term_of(old) == self._client.term:
            return old
        new = self._next.get(old, 0)
        if term_of(new) != self._client.term:
            new = self._grant(round(self.ttl[old]), until)
            self._next = {old: new} if len(self._next) > MOST else {**self._next, old: new}
        return new

    def _move_one(self, session: SessionId, old: int, new: int, until: float) -> None:
        """All that lives with it goes along, or nothing."""
        keys = self._keys
        life, rooms = keys.life(session), keys.rooms(session)
        held = self._witnesses.moving(session, new, self.ttl[new], until)
        answer = self._client.ask(READ, read([get(life), get(rooms, keys_only=True)]), until)
        there, entered = (response.response_range.kvs for response in answer.responses)
        if not there or there[0].lease != old:
            return
        groups: Sequence[str] = [keys.parts(kv.key)[-1] for kv in entered]
        ops = list(held.ops)
        if new != old:
            try:
                was = decode(Life, there[0].value)
            except ValueError as exc:
                where = life.key.decode(errors="replace")
                raise StoreUnavailable(
                    f"{self._client.address}: in {where!r} there is no session: {exc}"
                ) from exc
            ops.append(put(life, encode(Life(was.session, was.moved + 1)), new))
            for group in groups:
                ops += [put(keys.here(group, session), b"", new), put(keys.room(session, group), b"", new)]
        compare = [lives_by(life, old), unchanged_since(rooms, answer.header.revision)]
        if self._client.ask(TXN, txn(compare, gathered(ops, len(compare))), until).succeeded:
            self._witnesses.moved(session, held)
