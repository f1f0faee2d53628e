"""The doorbell: a look at one small row, often while something happens, and seldom when nothing does.

The server has no way to tell that something has changed. What is looked at is a row that is another one
whenever some group is; only then are the revisions of all groups read.
"""

from __future__ import annotations

import time

from headcount.model import Ring, Seconds
from headcount.stores.sql.lines import Lines
from headcount.stores.sql.mysql_line import MySQLLine
from headcount.stores.sql.server_doorbell import ServerDoorbell
from headcount.stores.sql.server_options import LEAST_POLL

GROWTH = 1.25
"""After each look that found nothing, the next one comes later by this. Each that found something is soon
followed by another one."""


class MySQLDoorbell(ServerDoorbell[MySQLLine]):
    def __init__(self, lines: Lines[MySQLLine], poll: Seconds) -> None:
        self._pause = LEAST_POLL
        super().__init__(lines, poll)

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

    def _look(self) -> Ring | None:
        self._look_at = time.monotonic() + self._pause
        with self._lines.watcher() as line:
            line.connect()
            rung = self._revisions.look(line, line.opened)
        self._pause = LEAST_POLL if rung is not None else min(self._poll, self._pause * GROWTH)
        self._look_at = time.monotonic() + self._pause
        return rung
