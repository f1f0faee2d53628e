"""The doorbell: LISTEN, on the connection that the watcher works with, and a slow poll behind it.

A commit rings after it, in a transaction of its own: NOTIFY within it would take a lock that all commits of
the database share, until each is on the disk. So a process that dies between the two leaves a change that
nobody was told of, and the poll finds it: one row, which is another one whenever some group is.

Through a pooler in transaction mode nobody can listen, and the poll is all there is.
"""

from __future__ import annotations

import time

import psycopg

from headcount.model import Ring, Seconds
from headcount.stores.sql.lines import Lines
from headcount.stores.sql.postgresql_errors import translate
from headcount.stores.sql.postgresql_line import PostgreSQLLine, Timed
from headcount.stores.sql.server_doorbell import ServerDoorbell


class PostgreSQLDoorbell(ServerDoorbell[PostgreSQLLine]):
    def __init__(
        self, lines: Lines[PostgreSQLLine], address: str, channel: str | None, poll: Seconds
    ) -> None:
        """`channel`: None, if one cannot listen."""
        self._address = address
        self._channel = channel
        self._heard: set[str] = set()
        super().__init__(lines, poll)

    def wait(self, timeout: Seconds) -> Ring:
        until = time.monotonic() + timeout
        while True:
            if self._heard:
                groups, self._heard = self._heard, set()
                return Ring(groups=dict.fromkeys(groups))
            now = time.monotonic()
            rung = self._look() if now >= self._look_at else None
            if rung is not None:
                return rung
            if self._wait(min(until, self._look_at)) or (time.monotonic() >= until and not self._heard):
                return Ring()

    def _look(self) -> Ring | None:
        self._look_at = time.monotonic() + self._poll
        with self._lines.watcher() as line:
            con, opened = line.con(), line.opened
            if self._channel is not None and opened != self._revisions.opened:
                con.add_notify_handler(lambda notify: self._heard.add(notify.payload))
                line.listen(self._channel)
            return self._revisions.look(line, opened)

    def _wait(self, until: float) -> bool:
        """Until something was heard, or the time is over. Whether somebody woke us."""
        with self._lines.watcher() as line:
            con = line.con()
            if line.opened != self._revisions.opened:
                self._look_at = 0.0
                return False
        self._take(con)
        if self._heard:
            return False
        others = [con.pgconn.socket] if self._channel is not None else []
        woken, ready = self._waker.wait(others, until - time.monotonic())
        if ready:
            self._hear(con)
        return woken

    def _hear(self, con: Timed) -> None:
        try:
            con.pgconn.consume_input()
            self._take(con)
        except psycopg.Error as exc:
            con.close()
            raise translate(exc, self._address) from exc

    def _take(self, con: Timed) -> None:
        """What has come in already."""
        while (notify := con.pgconn.notifies()) is not None:
            self._heard.add(notify.extra.decode())
