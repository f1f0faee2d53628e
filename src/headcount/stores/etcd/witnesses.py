"""Witnesses: how it is known that a session was ended before its time.

A lease that has run out, and one that an administrator has revoked, look the same: the keys are gone. But
who has let it run out has last beaten a ttl ago, and trusts nothing any more; whose lease was revoked may
trust for a ttl yet. So whoever has a place lives by two leases:

    the lease of its session    life, here, rooms      its end is the session's
    the witness                 held                   while that is there, its owner may trust the place

A beat keeps the witness alive before the lease; and is trusted only if both are of the term in which it was
taken, and there (see `sessions`). So the witness outlives the trust that any beat has given; and where nobody
beats any more, it is over before the lease is, or with it. Who finds a session gone, and its `held` there,
knows that it was ended early.

A place is what others may wait for: to stand, or to own shards. Who never had any has no witness, and its
beat costs nothing for it. The sessions of a lease share one, which is asked for when the first of them gets a
place.

    hold      in a commit that gives a session a place. It is noted before the commit is sent, for nobody
              may ever hear what became of that
    moving    the keys of a session are written anew, with the newest witness: since the one that they have
              is of an older term, or over, or since there are several

What is kept here is of sessions that this client beats. Its two threads meet here, and so there is a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from headcount import native
from headcount.errors import HeadcountError
from headcount.model import Seconds, SessionId
from headcount.stores.etcd.client import Client
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import MOST, Op, put
from headcount.stores.etcd.terms import grant, keep, number, term_of


class Held:
    """Where one session has, or may have, `held` keys."""

    def __init__(self) -> None:
        self.groups: set[str] = set()
        self.leases: set[int] = set()
        self.changes = 0
        """How often a commit has added to it."""


class Move(NamedTuple):
    """What writes the keys of a session anew, and what that makes superfluous."""

    ops: list[Op]
    old: frozenset[int] = frozenset()
    changes: int = 0


class Witnesses:
    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._newest: dict[int, int] = {}
        """By lease of sessions. It is kept alive by every beat of that lease, also for sessions that have no
        place yet: so it is as good as the last beat of whichever gets one."""
        self._held: dict[SessionId, Held] = {}
        self._lock = native.threading().Lock()

    def hold(self, session: SessionId, group: str, lease: int, ttl: Seconds, until: float) -> Op:
        """What a commit writes that gives a session, which lives by this lease, a place in this group."""
        witness = self._of(lease, ttl, until)
        with self._lock:
            held = self._held.setdefault(session, Held())
            held.groups.add(group)
            held.leases.add(witness)
            held.changes += 1
        return put(self._keys.held(group, session), b"", witness)

    def found(self, session: SessionId, group: str, lease: int) -> None:
        """Such a key is there, of a session that somebody else has opened, and that is beaten here."""
        with self._lock:
            held = self._held.setdefault(session, Held())
            held.groups.add(group)
            held.leases.add(lease)

    def moving(self, session: SessionId, lease: int, ttl: Seconds, until: float) -> Move:
        if session not in self._held:
            return Move([])
        witness = self._of(lease, ttl, until)
        with self._lock:
            held = self._held.get(session, Held())
            old = frozenset(held.leases - {witness})
            held.leases.add(witness)
            puts = [put(self._keys.held(group, session), b"", witness) for group in sorted(held.groups)]
            return Move(puts, old, held.changes)

    def moved(self, session: SessionId, move: Move) -> None:
        """It has been written. If a commit has added to it meanwhile, that may be where it was before."""
        with self._lock:
            held = self._held.get(session)
            if held is not None and held.changes == move.changes:
                held.leases -= move.old

    def _of(self, lease: int, ttl: Seconds, until: float) -> int:
        """The newest witness. It can be found by beats before it is there, lest one that is asked just
        afterwards does not keep it alive; they forget it then, and it is used this once."""
        witness = self._newest.get(lease, 0)
        if witness and term_of(witness) == self._client.term:
            return witness
        witness = number(self._client)
        with self._lock:
            self._newest = {**(self._newest if len(self._newest) < MOST else {}), lease: witness}
        try:
            grant(self._client, witness, round(ttl), until)
        except HeadcountError:
            self._forget({witness})
            raise
        keep(self._client, lease, until)  # or it would be over before its witness, if nobody beat any more
        return witness

    # ── beating ──

    def to_keep(self, sessions: Collection[SessionId], leases: Collection[int]) -> set[int]:
        """What a beat of these sessions, which live by these leases, has to keep alive first."""
        with self._lock:
            found = {self._newest[lease] for lease in leases if lease in self._newest}
            return found.union(*(self._held[session].leases for session in sessions if session in self._held))

    def review(self, kept: Mapping[int, Any], term: int) -> None:
        """What is over, or of another term, is not given to anybody any more."""
        self._forget({lease for lease, told in kept.items() if told.TTL <= 0 or term_of(lease) != term})

    def vouch(self, session: SessionId, kept: Mapping[int, Any], term: int) -> bool | None:
        """Whether the witness of this session makes the beat as good as its lease does; None: it has to be
        kept alive first."""
        with self._lock:
            held = self._held.get(session)
            leases = held.leases.copy() if held is not None else set()
        if not leases <= kept.keys():
            return None
        return not leases or (
            len(leases) == 1 and all(kept[one].TTL > 0 and term_of(one) == term for one in leases)
        )

    def look(self, until: float) -> None:
        """A commit has met a lease that is over: it may have been a witness."""
        for witness in list(self._newest.values()):
            if keep(self._client, witness, until).TTL <= 0:
                self._forget({witness})

    def _forget(self, witnesses: Collection[int]) -> None:
        with self._lock:
            self._newest = {lease: one for lease, one in self._newest.items() if one not in witnesses}

    # ── ending ──

    def groups(self, session: SessionId) -> set[str]:
        """Where the session may have a place."""
        with self._lock:
            held = self._held.get(session)
            return held.groups.copy() if held is not None else set()

    def ended(self, session: SessionId) -> None:
        with self._lock:
            self._held.pop(session, None)

    def parted(self, lease: int) -> int:
        """The witness of a lease that nobody lives by any more, if nobody has anything with it; else 0."""
        with self._lock:
            witness = self._newest.pop(lease, 0)
            return 0 if any(witness in held.leases for held in self._held.values()) else witness
