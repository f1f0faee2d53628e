"""What the application hears: queues that it reads, and callbacks that one thread runs for it.

Every queue is bounded. Who reads too slowly does not get an old story in full, but one `resync` with
the view as it is now, and what comes after that.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from headcount import native
from headcount.model import Change, Kind

log = logging.getLogger("headcount")

BOUND = 1000
"""Changes that wait for one reader."""

SLOW = 1.0
"""Seconds after which a callback is called slow, in the log."""


class Queue:
    """Changes on their way to one reader."""

    def __init__(self, bound: int = BOUND) -> None:
        self._changes: deque[Change] = deque()
        self.bound = bound
        self._ready = native.threading().Event()
        self.closed = False

    def __len__(self) -> int:
        return len(self._changes)

    def put(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if len(self._changes) >= self.bound:
                self._changes.clear()
                change = Change(kind=Kind.RESYNC, view=change.view)
            self._changes.append(change)
        self._ready.set()

    def get(self, timeout: float | None) -> Change | None:
        """The next change; None if none came in time, or the queue is closed and empty."""
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._changes.popleft()
            except IndexError:
                pass
            if self.closed:
                return None
            self._ready.clear()
            if self._changes or self.closed:
                continue
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return None
            native.wait(self._ready, left)

    def close(self) -> None:
        self.closed = True
        self._ready.set()


class Listener:
    """One callback, called with one change at a time, never concurrently with itself."""

    def __init__(self, group: str, callback: Callable[[Change], object]) -> None:
        self.group = group
        self.callback = callback
        self.queue = Queue()
        self._slow = False

    def run(self, change: Change) -> None:
        began = time.monotonic()
        try:
            self.callback(change)
        except BaseException:  # SystemExit too: it would end the thread, and so all other callbacks
            log.exception("a notifier of group %r raised on %s", self.group, change.kind)
        took = time.monotonic() - began
        if took > SLOW and not self._slow:
            self._slow = True
            log.warning(
                "a notifier of group %r took %.1f s; it delays all others of this process", self.group, took
            )


class Notifier:
    """The thread that runs the callbacks. Started when there is one to run."""

    def __init__(self) -> None:
        self._lock = native.threading().Lock()
        """Guards the list, which is replaced and never changed, and the start of the thread."""
        self._listeners: list[Listener] = []
        self._wake = native.threading().Event()
        self._thread: Any = None
        self._stopped = False

    def add(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [*self._listeners, listener]
            if self._thread is None:
                self._thread = native.threading().Thread(
                    target=self._run, name="headcount-notifier", daemon=True
                )
                self._thread.start()

    def remove(self, listener: Listener) -> None:
        listener.queue.close()
        with self._lock:
            self._listeners = [other for other in self._listeners if other is not listener]

    def wake(self) -> None:
        self._wake.set()

    def stop(self, timeout: float) -> None:
        self._stopped = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not native.threading().current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            busy = True
            while busy and not self._stopped:
                busy = False
                for listener in self._listeners:
                    change = None if listener.queue.closed else listener.queue.get(0)
                    if change is not None:
                        busy = True
                        listener.run(change)
