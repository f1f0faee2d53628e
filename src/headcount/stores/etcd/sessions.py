"""Sessions: leases of etcd, one for each process and ttl, and a key for each session that lives by them.

Why a beat is trusted

    1. keep the lease alive        whichever server answers; on the leader, without consensus
    2. then read the sessions' keys, linearizably, all of them in one request
    3. taken, if the keys are there with that lease, and both answers bear the same term
    4. trusted, if the lease is of that term, too; else the session moves to one that is (see `leases`)

Who has a place keeps a second lease alive before that one, of which all the same is asked: so that this
one, too, ends no sooner than the trust that the beat gives (see `witnesses`).

A keepalive by itself proves nothing. A leader that was paused, or cut off, answers it in good faith while the
others have elected another, who knows nothing of it (etcd before 3.4.25 does not ask the others: its #15247).
The read does prove something: it is answered only after a majority has said that the leader of some term
still leads. And since the keepalive's answer bears the term that its server had reached *before* it was
carried out, one and the same term in both means that no other leader was elected between: so who kept the
lease alive was the leader, and its successors know of the lease, to which each gives its whole ttl anew
when it begins. In the other order, first the read and then the keepalive, nobody would have vouched for the
latter; and a notice that came between the two would go unread, though trust is extended. If the terms
differ, both are asked again.

The lease ends no sooner than its ttl after it was kept alive, which was after the beat was asked: from then
on the caller counts.

Notices. Whoever touches the rows of another writes the key of its session anew, with the same content. The
key's version, less one, and less how often the session has moved, is the notice. No counter has to be
read, and none can be written twice.

A session that shares its lease with others lives by their beats. So who has not been beaten for a ttl, while
others on its lease have, is ended here: a heart that stops beating a blind session must be able to lose it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from headcount import native
from headcount.errors import HeadcountError, StoreUnavailable
from headcount.model import Beat, Granted, Session, SessionId
from headcount.model import when as time_of_day
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.client import RANGE, READ, REVOKE, TIME_TO_LIVE, TXN, Client
from headcount.stores.etcd.ending import Ending
from headcount.stores.etcd.errors import LeaseGone
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.leases import Leases
from headcount.stores.etcd.ops import MOST, Op, get, is_at, put, read, txn, when
from headcount.stores.etcd.records import Life, decode, encode
from headcount.stores.etcd.terms import keep, term_of
from headcount.stores.etcd.witnesses import Witnesses

TOGETHER = 50
"""Sessions in one transaction that opens them."""

ENDING = 1.0
"""Seconds that a beat may be longer under way because it ends sessions that are not beaten any more."""

AGAIN = 0.02
"""Seconds before a beat is asked again that met an election."""


class Sessions:
    """Used by the heart and by the watcher: what they share is looked at and changed in single steps."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self.witnesses = Witnesses(client, keys)
        self._leases = Leases(client, keys, self.witnesses)
        self._ending = Ending(client, keys)
        self._lease_of: dict[SessionId, int] = {}
        """Of each session that was opened or beaten here. It may have moved since: each beat looks."""
        self._beaten: dict[SessionId, float] = {}

    # ── opening ──

    def open(self, sessions: Sequence[Session]) -> list[Granted]:
        until = self._client.until()
        granted: list[Granted] = []
        for n in range(0, len(sessions), TOGETHER):
            granted += self._open_some(sessions[n : n + TOGETHER], until)
        return granted

    def _open_some(self, sessions: Sequence[Session], until: float) -> list[Granted]:
        """It counts as a beat. A lease that was there before has to be kept alive; a new one lives from when
        it was granted, which a majority has agreed to."""
        while True:
            before = set(self._leases.ours.values())
            leases = [self._leases.of(session, until) for session in sessions]
            try:
                found = self._put(sessions, leases, until)
            except LeaseGone:
                self._leases.forget(leases)
                continue
            for session, lease in zip(sessions, found, strict=True):
                self._lease_of[session.id] = lease
                self._beaten[session.id] = time.monotonic()
            new = {*leases} - before
            old = {s.id: lease for s, lease in zip(sessions, found, strict=True) if lease not in new}
            lost = {name for name, notice in self._beat([*old], until).items() if notice is None}
            if not lost:
                return [Granted(ttl=self._leases.ttl[self._lease_of[s.id]]) for s in sessions]
            self._leases.forget({old[name] for name in lost})

    def _put(self, sessions: Sequence[Session], leases: Sequence[int], until: float) -> list[int]:
        """The lease that each has: the one that was meant for it, or the one that it had already."""
        ops = []
        for session, lease in zip(sessions, leases, strict=True):
            life = self._keys.life(session.id)
            ops.append(
                when([is_at(life, 0)], [put(life, encode(Life(session)), lease)], [get(life, keys_only=True)])
            )
        answer = self._client.ask(TXN, txn([], ops), until)
        found = []
        for lease, response in zip(leases, answer.responses, strict=True):
            there = response.response_txn
            found.append(lease if there.succeeded else there.responses[0].response_range.kvs[0].lease)
        return found

    # ── beating ──

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        until, names = self._client.until(), list(dict.fromkeys(sessions))
        notices = self._beat(names, until, some=True)
        self._end_who_is_not_beaten(names, {name for name, at in notices.items() if at is not None}, until)
        return Beat(notices=notices)

    def _beat(
        self, names: Sequence[SessionId], until: float, *, some: bool = False
    ) -> dict[SessionId, int | None]:
        """`some`: after an election not all have to be moved at once. Who is left is not in the answer; each
        further beat moves more."""
        in_time = True
        self._look_up([name for name in names if name not in self._lease_of], until)
        while True:
            known = {name: self._lease_of[name] for name in names if name in self._lease_of}
            if not known:
                return dict.fromkeys(names)
            leases = {*known.values()}
            first = self.witnesses.to_keep(known, leases)
            kept = {lease: keep(self._client, lease, until) for lease in (*first, *leases)}
            term, found = self._read_lives([*known], until)
            steady = all(answer.header.raft_term == term for answer in kept.values())
            if first:
                self.witnesses.review({lease: kept[lease] for lease in first}, term)
            notices: dict[SessionId, int | None] = dict.fromkeys(names)
            older = {}
            for name, lease in known.items():
                life, vouched = found.get(name), self.witnesses.vouch(name, kept, term) if first else True
                if life is None or not life.lease:
                    self._lease_of.pop(name, None)
                elif life.lease != lease or kept[lease].TTL <= 0 or vouched is None:
                    self._lease_of[name], steady = life.lease, False
                else:
                    notices[name] = life.version - 1 - self._moved(life)
                    if term_of(lease) != term or not vouched:
                        older[name] = lease
            self._leases.ttl |= {lease: float(kept[lease].TTL) for lease in leases if kept[lease].TTL > 0}
            trusted = {name: notice for name, notice in notices.items() if name not in older}
            if steady and (not older or (some and not in_time and trusted)):
                return trusted
            if time.monotonic() >= until:
                raise StoreUnavailable(
                    f"{self._client.address}: its leader changes while we ask it; worth trying again"
                )
            if steady:
                in_time = self._leases.move(older, until)
            else:
                native.threading().Event().wait(AGAIN)

    @staticmethod
    def _moved(life: Any) -> int:
        try:
            return decode(Life, life.value).moved
        except ValueError:
            return 0

    def _look_up(self, names: Sequence[SessionId], until: float) -> None:
        """By what the sessions live that somebody else has opened."""
        if not names:
            return
        for name, life in self._read_lives(names, until)[1].items():
            self._lease_of[name] = life.lease
            for group in self._groups_of(name, until):
                request = rpc.RangeRequest(key=self._keys.held(group, name).key, keys_only=True)
                for held in self._client.ask(RANGE, request, until).kvs:
                    self.witnesses.found(name, group, held.lease)

    def _groups_of(self, session: SessionId, until: float) -> list[str]:
        span = self._keys.rooms(session)
        request = rpc.RangeRequest(key=span.key, range_end=span.end, keys_only=True)
        return [self._keys.parts(kv.key)[-1] for kv in self._client.ask(RANGE, request, until).kvs]

    def _read_lives(self, names: Sequence[SessionId], until: float) -> tuple[int, dict[SessionId, Any]]:
        """The keys of those that live; and the term in which all of them were read, or 0."""
        found: dict[SessionId, Any] = {}
        terms = set()
        spans = [self._keys.life(name) for name in names] or [self._keys.about]
        if len(spans) == 1:
            request = rpc.RangeRequest(key=spans[0].key)
            answers = [self._client.ask(RANGE, request, until)]
            terms.add(answers[0].header.raft_term)
            kvs = list(answers[0].kvs)
        else:
            kvs = []
            for n in range(0, len(spans), MOST):
                request = read([get(span) for span in spans[n : n + MOST]])
                answer = self._client.ask(READ, request, until)
                terms.add(answer.header.raft_term)
                kvs += [kv for response in answer.responses for kv in response.response_range.kvs]
        for kv in kvs:
            found[self._keys.parts(kv.key)[-1]] = kv
        return (terms.pop() if len(terms) == 1 else 0), found

    def _end_who_is_not_beaten(
        self, asked: Collection[SessionId], beaten: set[SessionId], until: float
    ) -> None:
        now = time.monotonic()
        self._beaten.update(dict.fromkeys(beaten, now))
        if len(self._beaten) == len(beaten):
            return
        leases = {self._lease_of.get(name) for name in beaten}
        for name, at in list(self._beaten.items()):
            lease = self._lease_of.get(name)
            if lease is None:
                self._beaten.pop(name, None)
            elif name not in asked and lease in leases and now - at > self._leases.ttl.get(lease, math.inf):
                try:
                    self._end(name, min(until, now + ENDING))
                except (
                    HeadcountError
                ):  # the beat was taken, whatever becomes of this; the next one tries again
                    return

    # ── having places ──

    def hold(self, group: str, who: Mapping[SessionId, int], until: float) -> list[Op]:
        """What a commit writes that gives places in a group to these sessions, which live by these leases."""
        ours = {session: lease for session, lease in who.items() if session in self._lease_of}
        return [
            self.witnesses.hold(session, group, lease, self._leases.ttl[lease], until)
            for session, lease in sorted(ours.items())
            if lease in self._leases.ttl
        ]

    # ── closing ──

    def close(self, session: SessionId) -> None:
        """The lease goes with the last of its sessions; if that fails, it ends by itself. Of a session that
        is over, we give up what it held."""
        until = self._client.until()
        lease = self._end(session, until)
        if lease not in list(self._leases.ours.values()) or lease in list(self._lease_of.values()):
            return
        self._leases.forget([lease])
        with suppress(HeadcountError):
            for over in (lease, self.witnesses.parted(lease)):
                if over:
                    self._client.ask(REVOKE, rpc.LeaseRevokeRequest(ID=over), until)

    def _end(self, session: SessionId, until: float) -> int:
        """The lease by which it lived."""
        self._ending.end(session, self.witnesses.groups(session), until)
        self.witnesses.ended(session)
        self._beaten.pop(session, None)
        return self._lease_of.pop(session, 0)

    # ── for people ──

    def last_beats(self, sessions: Sequence[SessionId], until: float) -> Mapping[SessionId, datetime]:
        """By how much of its ttl a lease has left; to the second, and at the earliest that it may be."""
        lives = self._read_lives(sessions, until)[1] if sessions else {}
        seen: dict[int, float] = {}
        for lease in {life.lease for life in lives.values()}:
            answer = self._client.ask(TIME_TO_LIVE, rpc.LeaseTimeToLiveRequest(ID=lease), until)
            if answer.TTL >= 0:
                seen[lease] = time.time() - max(0, answer.grantedTTL - answer.TTL)
        return {name: time_of_day(seen[life.lease]) for name, life in lives.items() if life.lease in seen}
