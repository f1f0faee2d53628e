"""Private database servers for one run, and what they cost.

They sync what they commit: the cost of that is most of what a commit costs, and a benchmark that leaves it
out measures something that nobody runs. What a server costs is the CPU of all its processes, those that
have ended among them, as the kernel counts it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.raw import Place
from headcount import stores
from headcount.errors import HeadcountError
from tests.servers import programs
from tests.servers.base import Server

SERVERS = {"postgresql": "postgresql", "mysql": "mariadb"}
"""The program behind each store."""

CONNECTIONS = 600


def lacking(store: str) -> str | None:
    """Why there can be no measuring on this store, or None if there can be."""
    try:
        stores.make(f"{store}://nowhere/nothing")
    except HeadcountError as error:
        return str(error)
    return programs.missing(SERVERS[store])


class Host:
    """One server of a run, by the name of its store."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.server = _made(store).start()

    def discard(self) -> None:
        self.server.discard()

    def fresh(self) -> Place:
        """An empty database."""
        server: Any = self.server
        database = server.fresh_database()
        return Place(self.store, server.port, database, server.url(database))

    @property
    def program(self) -> str:
        """The server and its version, for people."""
        server: Any = self.server
        if self.store == "postgresql":
            name, found = "PostgreSQL", server.ask("SHOW server_version")
        else:
            name, found = "MariaDB", server.ask("SELECT version()")
        return f"{name} {re.split('[ -]', str(found[0][0]))[0]}"

    # ── what it costs ──

    def cpu(self) -> float:
        """Seconds of CPU that all of its processes have taken so far, those that have ended among them."""
        pids = list(self.server.processes())
        ended = _stat(pids[0])[13:15]  # of the children that the first process has waited for
        return sum(map(_cpu, pids)) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")

    @contextmanager
    def cpu_of(self, found: list[float]) -> Iterator[None]:
        """Adds the seconds of CPU that the server took within."""
        began = self.cpu()
        yield
        found.append(self.cpu() - began)

    def connections(self, database: str) -> int:
        """How many there are to this database, but for the one that asks."""
        server: Any = self.server
        if self.store == "postgresql":
            found = server.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", database)
        else:
            found = server.ask("SELECT count(*) FROM information_schema.processlist WHERE db = %s", database)
        return int(found[0][0])

    def asked(self, database: str) -> int:
        """What was asked of the server so far: transactions in this database, or on MariaDB, which does not
        count by database, statements of any kind."""
        server: Any = self.server
        if self.store == "postgresql":
            return int(
                server.ask("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", database)[0][0]
            )
        return int(server.ask("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    @contextmanager
    def delaying_commits(self) -> Iterator[None]:
        """PostgreSQL with `commit_delay`: each sync of the log waits 5 ms for others to come along."""
        server: Any = self.server
        settings = {"commit_delay": 5000, "commit_siblings": 0}
        with server.admin() as con:
            for name, value in settings.items():
                con.execute(f"ALTER SYSTEM SET {name} = {value}")
            con.execute("SELECT pg_reload_conf()")
            try:
                time.sleep(0.2)
                yield
            finally:
                for name in settings:
                    con.execute(f"ALTER SYSTEM RESET {name}")
                con.execute("SELECT pg_reload_conf()")


def _made(store: str) -> Server:
    if store == "postgresql":
        from tests.servers.postgresql import PostgreSQL

        return PostgreSQL(
            fsync=True, full_page_writes=True, max_connections=CONNECTIONS, shared_buffers="128MB"
        )
    from tests.servers.mariadb import MariaDB

    return MariaDB(
        innodb_flush_log_at_trx_commit=1,
        debug_no_sync=False,
        innodb_buffer_pool_size="128M",
        max_connections=CONNECTIONS,
    )


def _cpu(pid: int) -> float:
    """Of all threads of one process. To the nanosecond where the kernel tells: what one connection of many
    does is less than the hundredth of a second that `stat` is counted in."""
    with suppress(OSError):
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        found = 0.0
        for thread in threads:
            with suppress(OSError):
                found += int((thread / "schedstat").read_text().split()[0]) / 1e9
        if found:
            return found
        return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _stat(pid: int) -> list[str]:
    """What follows the name, which may itself hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
