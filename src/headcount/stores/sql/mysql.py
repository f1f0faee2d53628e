"""MySQL and MariaDB: the store of those who have one, for all hosts that reach it.

    mysql://user:password@host:3306/database?ssl_mode=verify_identity
    mariadb://host1,host2/database               several hosts: the first one that takes writes

From MySQL 8.0.1 and MariaDB 10.6 on, which have SKIP LOCKED. What the server has to do is in `server`; here
is what is MySQL's own.

Deadlocks. Everything that writes runs at READ COMMITTED, where a search locks no gaps; and no table into
which several write at once has a second unique key, by which INSERT … ON DUPLICATE KEY UPDATE would lock
one. So two transactions wait for each other only where two rows that both want are locked in another order:

    sessions     each commit locks its own (`alive`), then raises notices on others: two members who take
                 something from each other, in two groups, in the same moment; or two crowds' commits, in two
                 groups, with some of the same sessions

InnoDB sees that at once, and ends one of the two with error 1213; nothing of it was written, and it is tried
again (see `collisions`). A session is locked exclusively from the beginning: with a shared lock, each commit
that then writes to it would be a candidate.

A cluster (Galera) finds two writes of one row when they are committed, on whichever nodes, but locks on what
was only read are known to one node. So all clients have to write to one node: give the same hosts, in the
same order.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from headcount.errors import ConfigError, NotPromised
from headcount.model import Seconds, SessionId, Tick
from headcount.stores.sql.mysql_beat import beat
from headcount.stores.sql.mysql_connection import Connector, literal
from headcount.stores.sql.mysql_doorbell import MySQLDoorbell
from headcount.stores.sql.mysql_line import MySQLLine
from headcount.stores.sql.server import ServerStore
from headcount.stores.sql.server_options import OPTIONS
from headcount.stores.url import Url

OLDEST = {"MariaDB": (10, 6, 0), "MySQL": (8, 0, 1)}

POLL = 0.5
"""Seconds between looks when nothing happens."""

TLS = ("ssl_mode", "ssl_ca", "ssl_cert", "ssl_key")

NAMESPACE = re.compile(r"[a-z0-9_-]{1,40}")
"""Some servers do not tell upper from lower case in the names of tables; and 64 letters is all they take."""

_TABLE = re.compile(r"\bhc\.(\w+)")


class MySQLStore(ServerStore[MySQLLine]):
    """One client of a store in MySQL or MariaDB.

    `interval`       seconds between ticks; decided when the store is made, and the same for all ever after
    `timeout`        seconds for which a call waits for the server, from 0.1 to 60
    `poll`           seconds between looks for changes when nothing happens
    `password_file`  a file with the password in its first line
    `ssl_mode`       disabled, preferred, required, verify_ca or verify_identity
    `ssl_ca`, `ssl_cert`, `ssl_key`   files; with ssl_ca, ssl_mode is verify_ca unless it says more
    """

    options: Mapping[str, type] = {**OPTIONS, **dict.fromkeys(TLS, str)}
    dialect = "mysql"

    def __init__(
        self,
        url: Url,
        *,
        namespace: str = "default",
        interval: Seconds | None = None,
        timeout: Seconds = 5.0,
        poll: Seconds = POLL,
        password_file: str | None = None,
        **tls: str,
    ) -> None:
        if not NAMESPACE.fullmatch(namespace):
            raise ConfigError(
                f"the namespace {namespace!r} cannot be part of a table's name: small letters, digits, _ and "
                "-, 40 at most"
            )
        if not url.path.strip("/"):
            raise ConfigError(f"{url.safe}: after the host comes the name of a database")
        self._prefix = "headcount_" if namespace == "default" else f"headcount_{namespace}_"
        self._connect = Connector(url, timeout=timeout, password=self._password, tls=tls)
        super().__init__(url, interval=interval, timeout=timeout, poll=poll, password_file=password_file)

    def _line(self) -> MySQLLine:
        return MySQLLine(
            self._connect,
            self._statements,
            self.address,
            self._settle,
            named=self._named,
            timeout=self._timeout,
        )

    def _named(self, text: str) -> str:
        """The SQL with the names of the tables in it."""
        text = text.replace("{clock}", literal(f"{self._prefix}clock"))
        return _TABLE.sub(rf"`{self._prefix}\1`", text)

    def identity(self, line: MySQLLine) -> str:
        """MySQL's server_uuid is of its data. MariaDB has no such thing: its server_uid is of the machine and
        the port; and no two servers that replicate have the same server_id. A cluster is one."""
        told = line.variables
        kind = "MariaDB" if "MariaDB" in told["version"] else "MySQL"
        version = tuple(int(part) for part in re.findall(r"\d+", told["version"])[:3])
        if version < OLDEST[kind]:
            oldest = ".".join(map(str, OLDEST[kind]))
            raise NotPromised(f"{self.address} is {kind} {told['version']}: it takes {oldest} or later")
        if told.get("wsrep_on") == "ON":
            return f"cluster {told.get('wsrep_cluster_state_uuid')}"
        if "server_uuid" in told:
            return told["server_uuid"]
        where = told.get("server_uid") or f"{told['hostname']}:{told['port']}{told['datadir']}"
        return f"{told['server_id']} {where}"[:500]

    # ── what is MySQL's own ──

    def beat_some(
        self, line: MySQLLine, sessions: Sequence[SessionId]
    ) -> tuple[dict[SessionId, int], Tick | None]:
        if len(sessions) == 1:
            return beat(line, sessions[0])
        (taken,) = line.results("beat_many", time.time(), sorted(sessions))
        if taken.affected < len(sessions):
            return dict(line.ask("beating", sorted(sessions))), None
        noticed: dict[SessionId, int] = dict(line.ask("noticed", sorted(sessions))) if taken.given else {}
        return dict.fromkeys(sessions, 0) | noticed, None

    def doorbell(self) -> MySQLDoorbell:
        return MySQLDoorbell(self.lines, self._poll)
