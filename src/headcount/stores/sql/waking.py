"""Waiting for sockets so that another thread can end it."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable

from headcount import native
from headcount.model import Seconds


class Waker:
    """One thread waits; any thread wakes it, also after it has been closed."""

    def __init__(self) -> None:
        self._lock = native.threading().Lock()
        self._fd: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wait(self, sockets: Iterable[int], seconds: Seconds) -> tuple[bool, bool]:
        """Whether somebody woke us, and whether there is something to read on one of the sockets."""
        fd = self._fd
        if fd is None:
            return True, False
        poll = native.poll()
        for one in (fd, *sockets):
            poll.register(one, select.POLLIN)
        ready = {one for one, _ in poll.poll(max(0.0, seconds) * 1000)}
        if fd in ready:
            os.eventfd_read(fd)
        return fd in ready, bool(ready - {fd})

    def wake(self) -> None:
        with self._lock:  # a number that was closed may be somebody else's by now
            if self._fd is not None:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None
