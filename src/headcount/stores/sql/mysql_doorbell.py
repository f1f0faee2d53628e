"""The doorbell: a look at one small row, often while something happens, and seldom when nothing does.

The server has no way to tell that something has changed. What is looked at is a row that is another one
whenever some group is; only then are the revisions of all groups read.
"""

from __future__ import annotations

import time

from headcount.model import Ring, Seconds
from headcount.stores.sql.lines import Lines
from headcount.stores.sql.mysql_line import MySQLLine
from headcount.stores.sql.revisions import Revisions
from headcount.stores.sql.waking import Waker

LEAST = 0.05
"""Seconds from one look to the next, while something happens."""

GROWTH = 1.25
"""After each look that found nothing, the next one comes later by this."""


class MySQLDoorbell:
    def __init__(self, lines: Lines[MySQLLine], poll: Seconds) -> None:
        self._lines = lines
        self._poll = poll
        self._pause = LEAST
        self._waker = Waker()
        self._revisions = Revisions()
        self._look_at = 0.0
        lines.watched = True
        try:
            self._look()
        except BaseException:
            self._waker.close()
            raise

    def wait(self, timeout: Seconds) -> Ring:
        until = time.monotonic() + timeout
        while True:
            if time.monotonic() >= self._look_at:
                rung = self._look()
                if rung is not None:
                    return rung
            woken, _ = self._waker.wait((), min(until, self._look_at) - time.monotonic())
            if woken or time.monotonic() >= until:
                return Ring()

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._waker.close()

    def _look(self) -> Ring | None:
        self._look_at = time.monotonic() + self._pause
        with self._lines.watcher() as line:
            line.connect()
            rung = self._revisions.look(line, line.opened)
        self._pause = LEAST if rung is not None else min(self._poll, self._pause * GROWTH)
        self._look_at = time.monotonic() + self._pause
        return rung
