"""The doorbell: `PRAGMA data_version`, which moves when another connection has committed to the file.

It costs about 3 µs, so that it can be asked forty times a second. It says that something was
committed, not what; a count of changes in the register, with an index, says which groups. Sessions that
come and go move it too, and then no group is found and the wait goes on.

It waits on an event of the native `threading`. (`SimpleQueue.get(timeout=…)` of CPython 3.11 can wait for
ever when the machine is busy and the time is up within the call.)
"""

from __future__ import annotations

import time

from headcount import native
from headcount.model import Ring, Seconds
from headcount.stores.sql.sqlite_files import Link
from headcount.stores.sql.sqlite_register import SQL

FAR_BEHIND = 10_000
"""A bell that is more changes behind than this rings for all groups: the names of deleted ones are
remembered for as long."""


class SQLiteDoorbell:
    def __init__(self, link: Link, poll: Seconds) -> None:
        self._link = link
        self._poll = poll
        self._woken = native.threading().Event()
        self._opened = self._version = self._heard = 0
        self._link.get()
        self._begin()

    def wait(self, timeout: Seconds) -> Ring:
        until = time.monotonic() + timeout
        while True:
            rung = self._look()
            left = until - time.monotonic()
            if rung is not None:
                return rung
            if left <= 0 or self._was_woken(min(self._poll, left)):
                return Ring()

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._link.close()

    def _look(self) -> Ring | None:
        self._link.get()
        if self._link.opened != self._opened:
            self._begin()
            return Ring(groups=None)
        ((version,),) = self._link.query("PRAGMA data_version")
        if version == self._version:
            return None
        # The version was read before the count: what is committed between the two rings again.
        self._version = version
        ((changes,),) = self._link.query(SQL["changes"])
        heard, self._heard = self._heard, changes
        if not heard <= changes <= heard + FAR_BEHIND:
            return Ring(groups=None)
        names = self._link.query(SQL["changed_since"], {"heard": heard}) if changes > heard else []
        return Ring(groups={name: None for (name,) in names}) if names else None

    def _begin(self) -> None:
        self._opened = self._link.opened
        ((self._version,),) = self._link.query("PRAGMA data_version")
        ((self._heard,),) = self._link.query(SQL["changes"])

    def _was_woken(self, seconds: Seconds) -> bool:
        """Whoever wakes us between the two lines is not missed: we return, and what is to be done is
        looked for after that."""
        if not self._woken.wait(seconds):
            return False
        self._woken.clear()
        return True
