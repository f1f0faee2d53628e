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
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from headcount.model import Seconds, Session, SessionId
from headcount.stores.etcd.client import READ, TXN, Client
from headcount.stores.etcd.errors import LeaseGone
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import (
    GATHERED,
    MOST,
    Op,
    gathered,
    get,
    is_there,
    lives_by,
    put,
    read,
    take_to,
    txn,
    unchanged_since,
    when,
)
from headcount.stores.etcd.records import Life, decode, encode
from headcount.stores.etcd.terms import grant, number, term_of
from headcount.stores.etcd.witnesses import Move, Witnesses

PORTION = 40
"""Sessions that move in one transaction: of what etcd takes, each of them has two thirds."""


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

    def move(self, sessions: Mapping[SessionId, int], until: float) -> bool:
        """Take these sessions to a lease of the present term, and what they hold to such a witness: all that
        live together, to one. If the one who beats is not first, the next beat finds where it is. False: it
        took so long that the leases have to be kept alive before there are more."""
        least = min(self.ttl[old] for old in sessions.values())
        ends = min(until, time.monotonic() + min(self._client.timeout / 2, least / 3))
        for old in set(sessions.values()):
            mine = [session for session, lease in sessions.items() if lease == old]
            for n in range(0, len(mine), PORTION):
                if n and time.monotonic() >= ends:
                    return False
                self._move_some(mine[n : n + PORTION], old, until)
            if time.monotonic() >= ends:
                return False
        return True

    def _after(self, old: int, until: float) -> int:
        """Where the sessions of a lease go, if it is of an older term."""
        if term_of(old) == self._client.term:
            return old
        new = self._next.get(old, 0)
        if term_of(new) != self._client.term:
            new = self._grant(round(self.ttl[old]), until)
            self._next = {old: new} if len(self._next) > MOST else {**self._next, old: new}
        return new

    def _move_some(self, sessions: Sequence[SessionId], old: int, until: float) -> None:
        """All that lives with a session goes along, or nothing of it."""
        new = self._after(old, until)
        self.ours = {key: new if lease == old else lease for key, lease in list(self.ours.items())}
        keys, ttl = self._keys, self.ttl[new]
        held = {session: self._witnesses.moving(session, new, ttl, until) for session in sessions}
        ops = [
            op for name in sessions for op in (get(keys.life(name)), get(keys.rooms(name), keys_only=True))
        ]
        answer = self._client.ask(READ, read(ops), until)
        found = [response.response_range.kvs for response in answer.responses]
        together: dict[SessionId, Op] = {}
        for session, life, rooms in zip(sessions, found[::2], found[1::2], strict=True):
            if not life or life[0].lease != old:
                continue
            compare = [
                lives_by(keys.life(session), old),
                unchanged_since(keys.rooms(session), answer.header.revision),
            ]
            groups = [keys.parts(kv.key)[-1] for kv in rooms]
            puts = [
                *held[session].ops,
                *(self._puts(session, life[0].value, groups, new) if new != old else ()),
            ]
            if len(puts) <= GATHERED:
                together[session] = when(compare, puts)
            elif self._is_put(txn(compare, gathered(puts, len(compare))), old, until):
                self._witnesses.moved(session, held[session])
        if together:
            self._move_together(together, held, old, until)

    def _move_together(
        self, ops: Mapping[SessionId, Op], held: Mapping[SessionId, Move], old: int, until: float
    ) -> None:
        answer = self._is_put(txn([], list(ops.values())), old, until)
        for session, response in zip(ops, answer.responses if answer else (), strict=False):
            if response.response_txn.succeeded:
                self._witnesses.moved(session, held[session])

    def _is_put(self, request: Any, old: int, until: float) -> Any:
        """The answer, if it was written. Where a lease is over, be it the new one or a witness, nothing was,
        and the next try takes others."""
        try:
            answer = self._client.ask(TXN, request, until)
        except LeaseGone:
            self._next = {lease: new for lease, new in self._next.items() if lease != old}
            self._witnesses.look(until)
            return None
        return answer if answer.succeeded else None

    def _puts(self, session: SessionId, value: bytes, groups: Sequence[str], new: int) -> Iterator[Op]:
        keys = self._keys
        with suppress(ValueError):  # of what nobody can read, it counts as a notice that it has moved
            was = decode(Life, value)
            value = encode(Life(was.session, was.moved + 1))
        yield put(keys.life(session), value, new)
        for group in groups:  # unless it has left there meanwhile
            here = keys.here(group, session)
            yield when([is_there(here)], [take_to(here, new), put(keys.room(session, group), b"", new)])
