"""What each of our stores brings to the suite. A driver that is added gets a class here and a module of
five lines beside it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from kazoo.client import KazooClient

from headcount.errors import HeadcountError
from headcount.model import Seconds, SessionId
from headcount.stores import make, memory
from headcount.stores.base import Store
from headcount.stores.etcd import store as etcd
from headcount.stores.memory import MemoryServer, MemoryStore
from headcount.stores.sql import sqlite
from headcount.stores.sql.server_options import PROMISES
from headcount.stores.zookeeper import store as zookeeper
from headcount.testing.conformance.harness import Harness, TickingHarness
from tests.servers.etcd import Etcd
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.zookeeper import ZooKeeper


class MemoryHarness(Harness):
    """One server in this process; it is unreachable when its clients are told so."""

    server: MemoryServer

    def connect(self) -> MemoryStore:
        return MemoryStore(self.server)

    def break_(self) -> None:
        self._reach(False)

    def mend(self) -> None:
        self._reach(True)

    def _reach(self, reachable: bool) -> None:
        for store in self.made:
            assert isinstance(store, MemoryStore)
            store.reachable = reachable

    def forget(self) -> None:
        self.server.begin()


class MemoryTicks(MemoryHarness, TickingHarness):
    guarantees = memory.TICKS

    def __init__(self) -> None:
        super().__init__()
        self.server = MemoryServer()


class MemorySessions(MemoryHarness):
    guarantees = memory.SESSIONS

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.server = MemoryServer(mode="sessions", clock=lambda: self.now)

    def end_session(self, owner: Store, session: SessionId) -> None:
        self.server.end_early(session)

    def pass_time(self, seconds: Seconds, *, kept: Collection[SessionId] = ()) -> None:
        """In steps of a quarter of a ttl, so that those who are kept can beat in between."""
        heart, end = self.connect(), self.now + seconds
        while self.now < end:
            if kept:
                heart.beat(list(kept))
            self.now = min(end, self.now + self.ttl / 4)


class SQLiteTicks(TickingHarness):
    """Two files in a directory of their own; out of reach while somebody else holds their locks."""

    guarantees = sqlite.PROMISES

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "headcount.db"
        self.held: list[sqlite3.Connection] = []

    def connect(self) -> Store:
        return make(f"sqlite:///{self.path}", options={"lock_timeout": self.patience})

    def break_(self) -> None:
        for path in (self.path, f"{self.path}-beats"):
            con = sqlite3.connect(path, isolation_level=None)
            con.execute("BEGIN IMMEDIATE")
            self.held.append(con)

    def mend(self) -> None:
        while self.held:
            self.held.pop().close()

    def lose_beats(self) -> None:
        self.close()
        for path in self.path.parent.glob("headcount.db-beats*"):
            path.unlink()

    def close(self) -> None:
        self.mend()
        super().close()


class PostgreSQLTicks(TickingHarness):
    """A database of its own; out of reach when the server lets nobody in, and throws out who is there."""

    guarantees = PROMISES

    def __init__(self, server: PostgreSQL) -> None:
        super().__init__()
        self.server = server
        self.database = server.fresh_database()

    def connect(self) -> Store:
        url = self.server.url(self.database)
        return make(url, options={"timeout": self.patience})

    def break_(self) -> None:
        with self.server.admin() as admin:
            admin.execute(f'ALTER DATABASE "{self.database}" ALLOW_CONNECTIONS false')
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [self.database],
            )

    def mend(self) -> None:
        with self.server.admin() as admin:
            admin.execute(f'ALTER DATABASE "{self.database}" ALLOW_CONNECTIONS true')

    def restart(self) -> None:
        super().close()
        self.server.restart()

    def lose_beats(self) -> None:
        super().close()
        with self.server.admin(self.database) as admin:
            admin.execute("TRUNCATE headcount.beats")

    def close(self) -> None:
        super().close()
        self.server.drop_database(self.database)


class MariaDBTicks(TickingHarness):
    """A database of its own; out of reach while the server stands still."""

    guarantees = PROMISES

    def __init__(self, server: MariaDB) -> None:
        super().__init__()
        self.server = server
        self.database = server.fresh_database()

    def connect(self) -> Store:
        return make(self.server.url(self.database), options={"timeout": self.patience})

    def break_(self) -> None:
        self.server.freeze()

    def mend(self) -> None:
        self.server.thaw()

    def restart(self) -> None:
        super().close()
        self.server.restart()

    def lose_beats(self) -> None:
        super().close()
        self.server.ask("TRUNCATE headcount_beats", database=self.database)

    def close(self) -> None:
        self.mend()
        super().close()
        self.server.drop_database(self.database)


class EngineHarness(Harness):
    """A server that expires sessions itself, by a time that cannot be moved, and passes."""

    server: ZooKeeper | Etcd
    slack = 1.5

    def restart(self) -> None:
        super().close()
        self.server.restart()

    def close(self) -> None:
        self.mend()
        super().close()


class ZooKeeperSessions(EngineHarness):
    """A prefix of its own; out of reach while the server stands still. Time is the server's, and passes."""

    guarantees = zookeeper.PROMISES

    def __init__(self, server: ZooKeeper) -> None:
        super().__init__()
        self.server: ZooKeeper = server
        self.path = server.fresh_path()

    def connect(self) -> Store:
        return make(self.server.url(self.path), options={"timeout": self.patience})

    def pass_time(self, seconds: Seconds, *, kept: Collection[SessionId] = ()) -> None:
        """Only the client that has opened a session keeps it, so all of them beat."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for store in self.made if kept else ():
                with contextlib.suppress(HeadcountError):
                    store.beat(list(kept))
            time.sleep(min(left, self.ttl / 6))

    def end_session(self, owner: Store, session: SessionId) -> None:
        self.server.end_owner_of(self.node(session))

    def node(self, session: SessionId) -> str:
        return f"/{self.path}/.headcount/sessions/{session}"

    def break_(self) -> None:
        self.server.freeze()

    def mend(self) -> None:
        self.server.thaw()


class ZooKeeperNodes(ZooKeeperSessions):
    """The same, where somebody removes the nodes of a session, one by one."""

    def end_session(self, owner: Store, session: SessionId) -> None:
        with self.server.client() as admin:
            number = admin.exists(self.node(session)).ephemeralOwner
            for path in owned(admin, f"/{self.path}", number):
                admin.delete(path)


def owned(admin: KazooClient, path: str, number: int) -> Iterator[str]:
    """The ephemeral nodes of a session of ZooKeeper, from here on."""
    for name in admin.get_children(path):
        yield from owned(admin, f"{path}/{name}", number)
        if admin.exists(f"{path}/{name}").ephemeralOwner == number:
            yield f"{path}/{name}"


class EtcdSessions(EngineHarness):
    """A server of its own, which is killed to be out of reach, and waited for: time cannot be moved there."""

    guarantees = etcd.PROMISES

    def __init__(self, server: Etcd) -> None:
        super().__init__()
        self.server: Etcd = server
        self.prefix = server.fresh_database()

    def connect(self) -> Store:
        return make(self.server.url(self.prefix), options={"timeout": self.patience})

    def pass_time(self, seconds: Seconds, *, kept: Collection[SessionId] = ()) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if kept:
                self.made[-1].beat(list(kept))
            time.sleep(min(left, self.ttl / 4))

    def end_session(self, owner: Store, session: SessionId) -> None:
        """The lease of its key is revoked."""
        self.server.revoke(f"/{self.prefix}/default/life/{session}")

    def break_(self) -> None:
        self.server.kill()

    def mend(self) -> None:
        if not self.server.running:
            self.server.start()

    def close(self) -> None:
        super().close()
        self.server.drop_database(self.prefix)
