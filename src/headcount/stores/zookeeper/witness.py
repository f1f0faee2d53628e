"""A second session of ZooKeeper beside a heart's, which tells an early end from a natural one.

Who has a place (stands, or owns shards) acts on it until its trust is over. If nobody but ZooKeeper ends its
session, that is over later. But whoever knows its number and password can close it at any moment, or remove
our session's node; and the others would see it gone while its owner, who has not heard of it, trusts on. So
whoever has a place is *held*, by a node in a session of ZooKeeper that nobody else has to do with:

    session      held
    there        any       it lives
    gone         there     it was ended early: its places are claims, which nobody gets
    gone         gone      it is over, and so is all trust in it: its places are free

**Who is trusted is held.** The node is made before the commit that gives the place. Each beat is taken by
both sessions, the witness first: by a `sync`, which goes to the server that leads, and writes nothing.
One that is cut off, and believes that it leads, is found out by what the heart was shown with the beat
before (see `words`); and if it was cut off since then, its successor gives every session its whole time
anew. So what is true of the heart is true of the witness: it has the same ttl, and the server that ends
sessions hears of it, too, by the next beat at the latest. So it lives on for the ttl from the beat before
the one that gave trust; and trust goes no further. When its session is opened no beat is under way
(`alone`): those that were taken without it were asked before, and the opening is known to that server at
once.

**Who is not trusted is not held for long.** Who dies is heard of last by way of its witness, and then of its
heart: both are over within one `tickTime`, and nobody waits. Whose heart alone is over takes the node away
once it trusts nothing any more (`Store.close_session`). If it cannot, because it is stopped, or cut off, or
dead, the witness is not beaten either, and ends.

Who has no place has no witness, and so no connection and no beats more than before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Container, Iterator
from typing import Any

from kazoo.protocol.serialization import Create, Delete, Exists, Sync

from headcount import native
from headcount.errors import HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Seconds, SessionId
from headcount.stores.zookeeper.groups import prepare
from headcount.stores.zookeeper.link import Link, Where
from headcount.stores.zookeeper.names import Paths

EPHEMERAL = 1

TOGETHER = 1000
"""Nodes that are made at once: a request may have 1 MB."""


class Witness:
    """Of one heart. `held`: whose nodes have to be there for a beat to be believed."""

    def __init__(self, where: Where, paths: Paths, ttl: Seconds) -> None:
        self._where, self._paths, self._ttl = where, paths, ttl
        self._lock = native.threading().RLock()
        self._link: Link | None = None
        self._made: set[SessionId] = set()
        """Whose nodes were made in the session that it has now."""
        self.held: set[SessionId] = set()

    @contextlib.contextmanager
    def alone(self, until: Seconds) -> Iterator[None]:
        """While nobody else beats, holds or lets go."""
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            raise StoreUnavailable(f"{self._where.address} took too long")
        try:
            yield
        finally:
            self._lock.release()

    def hold(self, sessions: Collection[SessionId], living: Container[SessionId], until: Seconds) -> None:
        """Before any of these is given its first place, unless it has been ended meanwhile. Beats wait for
        this; so it must be shorter than they are patient."""
        if self.held.issuperset(sessions):
            return
        until = min(until, time.monotonic() + self._ttl / 4)
        with self.alone(until):
            sessions = [one for one in sessions if one in living]
            fresh = not self.held
            if fresh:
                self._part()  # it was not beaten while nobody was held
            try:
                self._hear(self.held.union(sessions), until)
            except HeadcountError as exc:
                if fresh:
                    self._part()  # beats go on without it, and so it would be too old
                raise StoreUnavailable(f"a second session is needed to hold a place: {exc}") from exc
            self.held.update(sessions)

    def hear(self, until: Seconds) -> None:
        """Be heard of, now, by the server that leads, with all nodes; or raise."""
        try:
            with self.alone(until):
                self._hear(self.held, until)
        except OutcomeUnknown as exc:
            raise StoreUnavailable(str(exc)) from exc

    def let_go(self, sessions: Collection[SessionId]) -> None:
        """Their nodes are gone, or may go."""
        with self._lock:
            self.held.difference_update(sessions)
            self._made.difference_update(sessions)

    def lost(self, session: SessionId) -> None:
        """Somebody has removed its node: another one is made with the next beat."""
        self._made.discard(session)

    def close(self, *, goodbye: bool = False) -> None:
        """Without a goodbye, it holds whom it holds for its time."""
        if self._link is not None:
            self._link.close(goodbye=goodbye)

    @property
    def link(self) -> Link | None:
        return self._link

    # ── how ──

    def _hear(self, wanted: Collection[SessionId], until: Seconds) -> None:
        while True:
            link = self._link
            if link is None or link.over or link.finished:
                self._part()
                link = self._link = Link(self._where, self._ttl, pings=False)
            try:
                link.connect(until)
                missing = sorted(set(wanted) - self._made)
                for first in range(0, len(missing), TOGETHER):
                    self._make(link, missing[first : first + TOGETHER], until)
                if not missing:
                    link.ask(Sync(self._paths.own), until=until)
                return
            except HeadcountError:
                if not link.over:
                    raise

    def _make(self, link: Link, sessions: Collection[SessionId], until: Seconds) -> None:
        """A node that is there already is ours too: of a session before this, with which it would go, or of
        this one, which has not been told so."""
        wanted = {self._paths.held(session): list[Any]() for session in sessions}
        while wanted:
            operations = [
                one
                for path, before in wanted.items()
                for one in (*before, Create(path, b"", list(self._where.acl), EPHEMERAL))
            ]
            failed = link.multi(operations, until)
            if failed is None:
                break
            path = operations[failed.place].path
            (stat,) = link.ask(Exists(path, None), until=until)
            if stat is not None and stat.ephemeralOwner == link.session:
                del wanted[path]
            elif stat is not None:
                wanted[path] = [Delete(path, -1)]
            elif wanted[path]:
                wanted[path] = []
            else:
                prepare(link, self._paths, until)  # somebody has tidied up
        self._made.update(sessions)

    def _part(self) -> None:
        """Have no session; what was left of the one before ends by itself."""
        link, self._link = self._link, None
        self._made.clear()
        if link is not None:
            link.close(goodbye=False)
