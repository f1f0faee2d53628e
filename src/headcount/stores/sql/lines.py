"""Connections to a database server: as few as possible, and the heart is not kept waiting.

A server with two thousand processes on it feels every connection. So heart and watcher of a process
share one, in turns, as long as nobody watches; what they do there takes a millisecond. Two cases are
others, and then the heart has a connection of its own:

    somebody watches            the other one is then waited on for the doorbell
    the shared one is busy      for longer than the heart's patience: a commit that meets a lock or a slow
                                disk must not cost a beat. After a minute of calm it is closed again
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, Protocol, TypeVar

from headcount import native
from headcount.stores.sql.speaking import Found, Sql

PATIENCE = 0.2
"""Seconds for which a beat waits for the connection that it shares."""

CALM = 60.0
"""Seconds after which the heart gives its own connection up again."""


class Line(Protocol):
    """One connection, opened when it is first used, and anew when it has broken. For one thread at a time.

    Raises `StoreUnavailable` where nothing was written, `OutcomeUnknown` where something may have been,
    and what else the store contract names.
    """

    def connect(self) -> None:
        """Connect, if need be."""
        ...

    def ask(self, name: str, *values: Any) -> Found:
        """The rows of one statement, in a transaction of its own."""
        ...

    def writing(self, *, durable: bool = True) -> AbstractContextManager[Sql]:
        """A transaction that is committed at its end, unless something was raised. `durable`: it is on the
        disk when the end is reached."""
        ...

    def reading(self) -> AbstractContextManager[Sql]:
        """One snapshot for all that is read within."""
        ...

    def making(self) -> AbstractContextManager[tuple[Sql, Callable[[str], None]]]:
        """Alone among those who make or migrate the schema; the function runs a script."""
        ...

    def close(self) -> None: ...


L = TypeVar("L", bound=Line)


class Lines(Generic[L]):
    def __init__(self, make: Callable[[], L]) -> None:
        self._make = make
        self._shared = make()
        self._own: L | None = None
        self._own_since = 0.0
        self._turn = native.threading().Lock()
        self.watched = False
        """Whether the watcher waits on its connection: from then on it is never shared."""

    @contextmanager
    def watcher(self) -> Iterator[L]:
        with self._turn:
            yield self._shared

    @contextmanager
    def heart(self) -> Iterator[L]:
        if self._own is not None and not self.watched and time.monotonic() > self._own_since + CALM:
            self._drop_own()
        if self._own is None and not self.watched and self._turn.acquire(timeout=PATIENCE):
            try:
                if not self.watched:  # nobody began to wait there, while we waited
                    yield self._shared
                    return
            finally:
                self._turn.release()
        yield self._own_line()

    def _own_line(self) -> L:
        """Kept only if it can connect: where the server takes no more connections, the shared one, which it
        has, is the better hope."""
        if self._own is None:
            self._own, self._own_since = self._make(), time.monotonic()
        try:
            self._own.connect()
        except BaseException:
            self._drop_own()
            raise
        return self._own

    def _drop_own(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def close(self) -> None:
        self._shared.close()
        self._drop_own()
