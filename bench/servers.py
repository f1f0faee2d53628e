"""Private database servers for one run, and what they cost.

They sync what they commit: the cost of that is most of what a commit costs, and a benchmark that leaves it
out measures something that nobody runs. What a server costs is the CPU of all its processes, those that
have ended among them, as the kernel counts it.
"""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.raw import Place
from headcount import stores
from headcount.errors import HeadcountError
from tests.servers import programs
from tests.servers.base import Server

SERVERS = {"postgresql": "postgresql", "mysql": "mariadb", "zookeeper": "zookeeper", "etcd": "etcd"}
"""The program behind each store."""

CONNECTIONS = 600
LONGEST_SESSION_MS = 2 * 3600 * 1000


def lacking(store: str) -> str | None:
    """Why there can be no measuring on this store, or None if there can be."""
    try:
        stores.make(f"{store}://nowhere/nothing")
    except HeadcountError as error:
        return str(error)
    return programs.missing(SERVERS[store])


def started(store: str) -> Host:
    """A server of this store's kind."""
    kinds: dict[str, type[Host]] = {
        "postgresql": PostgreSQLHost,
        "mysql": MariaDBHost,
        "zookeeper": ZooKeeperHost,
        "etcd": EtcdHost,
    }
    return kinds[store](store)


class Host:
    """One server of a run, by the name of its store."""

    def __init__(self, store: str) -> None:
        self.store = store
        self.server: Any = self._made().start()

    def _made(self) -> Server:
        raise NotImplementedError

    def discard(self) -> None:
        self.server.discard()

    def fresh(self) -> Place:
        """An empty database; where there is no such thing, a prefix that nobody has used."""
        database = self.server.fresh_database()
        return Place(self.store, self.server.port, database, self.server.url(database))

    @property
    def program(self) -> str:
        """The server and its version, for people."""
        raise NotImplementedError

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
        raise NotImplementedError

    def asked(self, database: str) -> int:
        """What was asked of the server so far, as it counts itself."""
        raise NotImplementedError


class PostgreSQLHost(Host):
    def _made(self) -> Server:
        from tests.servers.postgresql import PostgreSQL

        return PostgreSQL(
            fsync=True, full_page_writes=True, max_connections=CONNECTIONS, shared_buffers="128MB"
        )

    @property
    def program(self) -> str:
        return f"PostgreSQL {_first(self.server.ask('SHOW server_version')[0][0])}"

    def connections(self, database: str) -> int:
        found = self.server.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", database)
        return int(found[0][0])

    def asked(self, database: str) -> int:
        """Transactions in this database."""
        found = self.server.ask("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", database)
        return int(found[0][0])

    @contextmanager
    def delaying_commits(self) -> Iterator[None]:
        """With `commit_delay`: each sync of the log waits 5 ms for others to come along."""
        settings = {"commit_delay": 5000, "commit_siblings": 0}
        with self.server.admin() as con:
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


class MariaDBHost(Host):
    def _made(self) -> Server:
        from tests.servers.mariadb import MariaDB

        return MariaDB(
            innodb_flush_log_at_trx_commit=1,
            debug_no_sync=False,
            innodb_buffer_pool_size="128M",
            max_connections=CONNECTIONS,
        )

    @property
    def program(self) -> str:
        return f"MariaDB {_first(self.server.ask('SELECT version()')[0][0])}"

    def connections(self, database: str) -> int:
        found = self.server.ask("SELECT count(*) FROM information_schema.processlist WHERE db = %s", database)
        return int(found[0][0])

    def asked(self, database: str) -> int:
        """Statements of any kind: it does not count by database."""
        return int(self.server.ask("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])


class ZooKeeperHost(Host):
    def _made(self) -> Server:
        from tests.servers.zookeeper import ZooKeeper

        return ZooKeeper(
            on_disk=True,
            forceSync="yes",
            preAllocSize=65_536,
            tickTime=1000,
            maxSessionTimeout=LONGEST_SESSION_MS,
        )

    @property
    def program(self) -> str:
        found = re.search(r"version: ([0-9.]+)", self.server.word("srvr"))
        return f"ZooKeeper {found[1] if found else '?'}"

    def connections(self, database: str) -> int:
        return connections_to(self.server.port, besides=self.server.processes())

    def asked(self, database: str) -> int:
        """Packets, pings among them."""
        found = re.search(r"Received: (\d+)", self.server.word("srvr"))
        return int(found[1]) if found else 0


class EtcdHost(Host):
    def _made(self) -> Server:
        from tests.servers.etcd import Etcd

        return Etcd(on_disk=True, unsafe_no_fsync=False)

    @property
    def program(self) -> str:
        return f"etcd {self.server.call('maintenance/status')['version']}"

    def connections(self, database: str) -> int:
        return connections_to(self.server.port, besides=self.server.processes())

    def asked(self, database: str) -> int:
        """Calls that have begun, of any kind."""
        with urllib.request.urlopen(f"{self.server.client_url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return round(sum(float(x.split()[-1]) for x in lines if x.startswith("grpc_server_started_total{")))


def _first(version: object) -> str:
    return re.split("[ -]", str(version))[0]


def connections_to(port: int, besides: Iterable[int]) -> int:
    """How many there are to this port of this host, but for those that these processes hold."""
    own: set[str] = set()
    for pid in besides:
        with suppress(OSError):
            own.update(os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
    found = 0
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                _, _, remote, state, *_, inode = line.split()[:10]
                established = state == "01" and int(remote.rpartition(":")[2], 16) == port
                found += established and f"socket:[{inode}]" not in own
    return found


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
