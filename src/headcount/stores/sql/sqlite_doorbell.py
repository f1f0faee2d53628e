"""The doorbell: `PRAGMA data_version`, which moves when another connection has committed to the file.

It costs about 3 µs, so that it can be asked forty times a second. It says that something was
committed, not what; a count of changes in the register, with an index, says which groups. Sessions that
come and go move it too, and then no group is found and the wait goes on.
"""

from __future__ import annotations

import time

# Not `queue`, and no Event of `threading`: under eventlet or gevent those are patched, and this
# waits in a native thread. The queue in C knows nothing of either.
from _queue import Empty, SimpleQueue

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
        self._woken: SimpleQueue[None] = SimpleQueue()
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
        self._woken.put(None)

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
        try:
            self._woken.get(timeout=seconds)
            while not self._woken.empty():
                self._woken.get(block=False)
        except Empty:
            return False
        return True
