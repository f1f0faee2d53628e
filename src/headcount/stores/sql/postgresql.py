"""PostgreSQL: the store of those who have one, for all hosts that reach it. From version 12 on.

    postgresql://user:password@host:5432/database?sslmode=verify-full
    postgresql://host1,host2/database            several hosts: whichever is the primary

What the server has to do is in `server`; here is what is PostgreSQL's own: the UNLOGGED beats, which cost no
write to the log and no sync, statements that go out without waiting for each other (a commit is two
round trips), and NOTIFY.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from headcount.errors import ConfigError, NotPromised
from headcount.model import Seconds, SessionId, Tick
from headcount.stores.sql.clock import ROLES, ROLES_BITS, clock_told
from headcount.stores.sql.postgresql_doorbell import PostgreSQLDoorbell
from headcount.stores.sql.postgresql_errors import cannot_connect, read_only
from headcount.stores.sql.postgresql_line import PostgreSQLLine, Timed, limits
from headcount.stores.sql.server import ServerStore
from headcount.stores.sql.server_options import OPTIONS
from headcount.stores.url import Url

OLDEST = 120_000
"""The oldest server whose SQL suffices, as `server_version_num`; the tests run on the one of Debian, 15."""

POLL, POLL_ALONE = 5.0, 0.5
"""Seconds between looks for what NOTIFY did not tell; and where it cannot tell anything."""

TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding")
"""Options that are passed on to the server's own client library."""

NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,50}")


class PostgreSQLStore(ServerStore[PostgreSQLLine]):
    """One client of a store in PostgreSQL.

    `interval`       seconds between ticks; decided when the store is made, and the same for all ever after
    `timeout`        seconds for which a call waits for the server, from 0.1 to 60
    `poll`           seconds between looks for changes that NOTIFY did not tell
    `pooled`         true: there is a pooler in transaction mode between us, so that nobody can listen
    `password_file`  a file with the password in its first line
    `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `sslcrl`, `channel_binding`   as libpq has them
    """

    options: Mapping[str, type] = {
        **OPTIONS,
        "pooled": bool,
        **dict.fromkeys(TLS, str),
    }
    dialect = "postgresql"

    def __init__(
        self,
        url: Url,
        *,
        namespace: str = "default",
        interval: Seconds | None = None,
        timeout: Seconds = 5.0,
        poll: Seconds | None = None,
        pooled: bool = False,
        password_file: str | None = None,
        **tls: str,
    ) -> None:
        if not NAMESPACE.fullmatch(namespace):
            raise ConfigError(
                f"the namespace {namespace!r} cannot be part of a schema's name: letters, digits, _ and -, "
                "50 at most"
            )
        self._schema = "headcount" if namespace == "default" else f"headcount_{namespace}"
        self._pooled = pooled
        self._tls = tls
        if poll is None:
            poll = POLL_ALONE if pooled else POLL
        super().__init__(url, interval=interval, timeout=timeout, poll=poll, password_file=password_file)

    def _named(self, text: str) -> str:
        """The SQL with the schema's name in it, which is `hc` in the files."""
        return text.replace("hc.", f'"{self._schema}".').replace(" hc;", f' "{self._schema}";')

    # ── connecting ──

    def _line(self) -> PostgreSQLLine:
        return PostgreSQLLine(
            self._connect,
            self._statements,
            self.address,
            self._settle,
            named=self._named,
            timeout=self._timeout,
            pooled=self._pooled,
        )

    def _connect(self) -> Timed:
        prepare = None if self._pooled else 3
        try:
            con = Timed.connect("", autocommit=True, prepare_threshold=prepare, **self._libpq())
        except psycopg.Error as exc:
            raise cannot_connect(exc, self.address) from exc
        assert isinstance(con, Timed)
        return con

    def _libpq(self) -> dict[str, Any]:
        hosts = self._url.hosts
        given: dict[str, Any] = {
            "host": ",".join(host for host, _ in hosts) or None,
            "port": ",".join(str(port or 5432) for _, port in hosts) or None,
            "dbname": self._url.path.strip("/") or None,
            "user": self._url.user,
            "password": self._password(),
            "application_name": "headcount",
            "connect_timeout": max(2, round(self._timeout)),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "client_encoding": "utf8",
            **self._tls,
        }
        if len(hosts) > 1:
            given["target_session_attrs"] = "read-write"
        if not self._pooled:
            # Whoever gave up does not go on waiting in the server; whoever was stopped in the middle of a
            # transaction does not keep its locks. And nothing that we ask is worth being compiled.
            lock, statement, idle = limits(self._timeout)
            given["options"] = (
                f"-c lock_timeout={lock} -c statement_timeout={statement} "
                f"-c idle_in_transaction_session_timeout={idle} -c jit=off"
            )
        return {name: value for name, value in given.items() if value is not None}

    def identity(self, line: PostgreSQLLine) -> str:
        ((identity, version, standby),) = line.ask("identity")
        if version < OLDEST:
            raise NotPromised(f"{self.address} is PostgreSQL {version // 10_000}: it takes 12 or later")
        if standby:
            raise read_only(self.address)
        return str(identity)

    # ── what is PostgreSQL's own ──

    def beat_some(
        self, line: PostgreSQLLine, sessions: Sequence[SessionId]
    ) -> tuple[dict[SessionId, int], Tick | None]:
        if len(sessions) == 1:
            found = line.ask("beat_one", time.time(), sessions[0])
            if not found:
                return {}, None
            ((notice, word),) = found
            return {sessions[0]: notice}, _tick(line, word)
        ((word, count, noticed, notices),) = line.ask("beat_many", list(sessions), time.time())
        if not count:
            return {}, None
        raised = dict(zip(noticed or (), notices or (), strict=True))
        if count == len(sessions):
            return dict.fromkeys(sessions, 0) | raised, _tick(line, word)
        return dict(line.ask("beating", list(sessions))), _tick(line, word)

    def ring(self, line: PostgreSQLLine, group: str) -> None:
        line.ring(self._schema, group)

    def doorbell(self) -> PostgreSQLDoorbell:
        return PostgreSQLDoorbell(
            self.lines, self.address, None if self._pooled else self._schema, self._poll
        )


def _tick(line: PostgreSQLLine, word: int) -> Tick:
    """The tick that a beat met, of the clock's word."""
    return clock_told(line, word >> ROLES_BITS, word & ROLES).tick
