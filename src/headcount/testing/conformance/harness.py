"""What a driver brings to the suite: clients of one clean backend, and a way to make time pass.

A harness is made for one test and closed after it. Its methods stand for the world around a store: an
operator who restarts it, a network that fails, hours that go by. A law calls them instead of knowing how
that is done. Time passes in one of two ways, as the guarantees say:

    ticks      `TickingHarness.pass_time` moves the store's ticks as a real ticker would, through
               `beat`, `advance` and `sweep` alone; no clock is moved, and nothing sleeps
    sessions   the harness moves the server's own clock, or waits for it
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, TypeAlias, TypeVar

from headcount.model import Census, Guarantees, Seconds, Session, SessionId
from headcount.stores.base import Store, TickingStore

Judge: TypeAlias = Callable[[Census], int]
L = TypeVar("L", bound=Callable[..., None])


def everyone(census: Census) -> int:
    """A judge without mercy: whoever is overdue is fenced."""
    return census.overdue


def nobody(census: Census) -> int:
    """A judge who holds everyone back: whoever is overdue lapses."""
    return 0


def only_if(**flags: object) -> Callable[[L], L]:
    """The law holds only for stores whose guarantees say this."""

    def mark(law: L) -> L:
        law.__dict__["only_if"] = flags
        return law

    return mark


def applies(law: Callable[..., None], guarantees: Guarantees) -> bool:
    """Whether a store with these guarantees has to keep the law."""
    flags: dict[str, Any] = law.__dict__.get("only_if", {})
    return all(getattr(guarantees, flag) == value for flag, value in flags.items())


class Harness(ABC):
    """One clean backend. `guarantees` is what its stores declare; a law compares the two."""

    guarantees: Guarantees
    ttl: Seconds = 3.0
    """A short ttl that the backend grants as it is, at least three ticks long."""
    slack: Seconds = 2.0
    """What must pass beyond the ttl until an expiry is certain."""
    patience: Seconds = 10.0
    """How long a call of the clients that are made from now on may wait for the backend, where that can
    be said. A crowd of threads needs patience; a law that breaks the backend need not have any."""

    def __init__(self) -> None:
        self.made: list[Store] = []
        self.lives = itertools.count(1)

    @abstractmethod
    def connect(self) -> Store:
        """A client that is not open yet."""

    def store(self) -> Store:
        """A fresh, open client of the same backend, which shares nothing with the others but that."""
        store = self.connect()
        store.open()
        self.made.append(store)
        return store

    @abstractmethod
    def pass_time(self, seconds: Seconds, *, kept: Collection[SessionId] = ()) -> None:
        """Let time go by in which nobody beats, except for the sessions that are `kept` alive."""

    @abstractmethod
    def break_(self) -> None:
        """Make the backend unreachable: from now on, nothing can be written to it."""

    @abstractmethod
    def mend(self) -> None:
        """End what `break_` began; the backend has lost nothing."""

    def restart(self) -> None:
        """Stop and start the backend; all clients are closed. Called only if it is `durable`."""
        self.close()

    def lose_beats(self) -> None:
        """Make the backend lose what it keeps of beats and ticks, and nothing else; all clients are closed.
        Called only if it is `durable` and on ticks, where the two are never kept together."""
        raise TypeError("the harness of a durable store on ticks has to bring lose_beats()")

    def end_session(self, owner: Store, session: SessionId) -> None:
        """End a session before its time, as an administrator can with the backend's own tools; its owner's
        client has a part in it only where the backend lets nobody else. Called only if `expiry` is
        "sessions"."""
        raise TypeError("the harness of a store that expires sessions has to bring end_session()")

    def forget(self) -> None:
        """Make the backend lose everything, as by a restart. Called only if it is not `durable`."""
        raise TypeError("the harness of a store that is not durable has to bring forget()")

    def close(self) -> None:
        while self.made:
            self.made.pop().close()


TICKER = "ticker-of-the-harness"


class TickingHarness(Harness):
    """A backend whose ticks are moved by its users; here, by a live ticker without rows."""

    _hands: Store | None = None

    def hands(self) -> TickingStore:
        """The client that moves the ticks."""
        if self._hands is None or self._hands not in self.made:
            self._hands = self.store()
        return ticking(self._hands)

    def pass_time(
        self, seconds: Seconds, *, kept: Collection[SessionId] = (), judge: Judge | None = everyone
    ) -> None:
        self.pass_ticks(math.ceil(seconds / self.hands().tick().interval), kept=kept, judge=judge)

    def pass_ticks(
        self, ticks: int, *, kept: Collection[SessionId] = (), judge: Judge | None = everyone
    ) -> None:
        """Move that many ticks, one by one; after each comes a sweep, unless there is no judge."""
        store = self.hands()
        store.open_session(
            Session(id=TICKER, instance=TICKER, host="harness", process="harness", ttl=max(60.0, self.ttl))
        )
        for _ in range(ticks):
            store.beat([TICKER, *kept])
            before = store.tick()
            assert store.advance(before, TICKER).number == before.number + 1, "the tick did not move"
            if judge is not None:
                self.sweep(judge)

    def sweep(self, judge: Judge = everyone) -> None:
        while self.hands().sweep(judge).more:
            pass


def ticking(store: Store) -> TickingStore:
    """The store as one that has ticks, which it must be if its guarantees say so."""
    assert isinstance(store, TickingStore), f"{type(store).__name__} declares ticks, and has none"
    return store
