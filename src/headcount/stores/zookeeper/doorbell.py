"""The doorbell: one watch on everything below the prefix, on the connection that reads.

After some seconds of silence it asks the server for a `sync`, before it waits on. What the watch had to tell
until then has come before the answer to that, so that silence means that nothing has changed. A server that
is cut off from the others has no answer; or, if it is the one that leads and has not noticed yet, an answer
that is older than what beats have shown, and then it is left (see `words`). Where nobody beats, silence means
so only of what that server knows. After each connection the watch is gone: it is set anew, and everything
counts as rung.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from kazoo.protocol.serialization import Sync

from headcount import native
from headcount.model import Ring, Seconds, SessionId
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.words import AddWatch

DELETED = 2

POLL = 5.0
"""Seconds of silence after which one small question shows whether it means anything."""

MOST_AWAITED = 1000
"""Sessions: what goes unheard is waited out."""


class Bells:
    """All doorbells of one store."""

    def __init__(self) -> None:
        self._all: list[ZooKeeperDoorbell] = []
        self._lock = native.threading().Lock()
        self.watching: tuple[Link, int] | None = None
        """The connection that has the watch, and which of its connections."""
        self._awaited: dict[SessionId, set[str]] = {}
        """By session that was ended early: the groups with claims that go when it is held no longer."""

    def add(self, bell: ZooKeeperDoorbell) -> None:
        with self._lock:
            self._all.append(bell)

    def remove(self, bell: ZooKeeperDoorbell) -> None:
        with self._lock:
            self._all = [one for one in self._all if one is not bell]

    def rung(self, group: str) -> None:
        for bell in self._listed():
            bell.ring(groups={group})

    def lost(self, sessions: Collection[SessionId]) -> None:
        for bell in self._listed() if sessions else ():
            bell.ring(lost=sessions)

    def await_(self, group: str, sessions: Collection[SessionId]) -> None:
        with self._lock:
            for session in sessions:
                self._awaited.setdefault(session, set()).add(group)
            while len(self._awaited) > MOST_AWAITED:
                self._awaited.pop(next(iter(self._awaited)))

    def let_go(self, session: SessionId) -> None:
        """It is held no longer."""
        with self._lock:
            groups = self._awaited.pop(session, set())
        for group in groups:
            self.rung(group)

    def all_rung(self) -> None:
        for bell in self._listed():
            bell.ring_for_all()

    def _listed(self) -> list[ZooKeeperDoorbell]:
        with self._lock:
            return list(self._all)


class ZooKeeperDoorbell:
    def __init__(self, bells: Bells, eyes: Callable[[], Link], root: str, patience: Seconds) -> None:
        self._bells, self._eyes, self._root, self._patience = bells, eyes, root, patience
        self._rung: Any = native.threading().Condition()
        self._groups: set[str] = set()
        self._lost: set[SessionId] = set()
        self._everything = False
        self._woken = False
        self._served_at = 0.0
        self._watch(time.monotonic() + patience)
        bells.add(self)

    def ring(self, groups: Collection[str] = (), lost: Collection[SessionId] = ()) -> None:
        with self._rung:
            self._groups.update(groups)
            self._lost.update(lost)
            self._rung.notify_all()

    def ring_for_all(self) -> None:
        with self._rung:
            self._everything = True
            self._rung.notify_all()

    def wait(self, timeout: Seconds) -> Ring:
        asked = time.monotonic()
        link = self._watch(asked + self._patience)
        if not self._heard() and asked >= self._served_at + POLL:
            link.ask(Sync(self._root), until=asked + self._patience)
            self._served_at = asked
        with self._rung:
            self._rung.wait_for(
                lambda: self._heard() or self._moved(link), max(0.0, asked + timeout - time.monotonic())
            )
            self._woken = False
            groups: frozenset[str] = frozenset(self._groups)
            lost, everything = frozenset(self._lost), self._everything
            self._groups.clear()
            self._lost.clear()
            self._everything = False
        if everything or self._moved(link):
            return Ring(groups=None, lost=lost)
        return Ring(groups=dict.fromkeys(groups), lost=lost)

    def _heard(self) -> bool:
        return bool(self._woken or self._everything or self._groups or self._lost)

    def _moved(self, link: Link) -> bool:
        """Whether the watch is gone with its connection."""
        return self._bells.watching != (link, link.generation) or not link.connected

    def _watch(self, until: Seconds) -> Link:
        link = self._eyes()
        link.connect(until)
        generation = link.generation
        if self._bells.watching != (link, generation):
            link.ask(AddWatch(self._root), until=until)
            self._bells.watching = (link, generation)
            self._bells.all_rung()
        return link

    def wake(self) -> None:
        with self._rung:
            self._woken = True
            self._rung.notify_all()

    def close(self) -> None:
        self._bells.remove(self)
        self.wake()
