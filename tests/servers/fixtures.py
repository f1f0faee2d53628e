"""The servers as tests ask for them.

A test that only stores something takes the session's server and a fresh database on it; a test that
kills, freezes or steers its server takes one of its own, with its own settings:

    def test_a(postgresql_server: PostgreSQL) -> None:
        url = postgresql_server.url(postgresql_server.fresh_database())

    def test_b(own_postgresql: Callable[..., PostgreSQL]) -> None:
        server = own_postgresql(fsync=True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, TypeVar

import pytest

from tests.servers import programs

if TYPE_CHECKING:
    from tests.servers.etcd import Cluster, Etcd
    from tests.servers.mariadb import MariaDB
    from tests.servers.pgbouncer import PgBouncer
    from tests.servers.postgresql import PostgreSQL
    from tests.servers.zookeeper import Ensemble, ZooKeeper

# The modules of the servers need the client libraries, and so are imported when a test asks for one:
# most test runs have none.

Unavailable = Callable[[str, str], NoReturn]


class Startable(Protocol):
    def start(self) -> Self: ...
    def discard(self) -> None: ...


S = TypeVar("S", bound=Startable)


@pytest.fixture(scope="session")
def postgresql_server(unavailable: Unavailable) -> Iterator[PostgreSQL]:
    """One for the whole session; take a fresh database of it."""
    need(unavailable, "postgresql")
    from tests.servers.postgresql import PostgreSQL

    yield from one(PostgreSQL())


@pytest.fixture(scope="session")
def mariadb_server(unavailable: Unavailable) -> Iterator[MariaDB]:
    """One for the whole session; take a fresh database of it."""
    need(unavailable, "mariadb")
    from tests.servers.mariadb import MariaDB

    yield from one(MariaDB())


@pytest.fixture(scope="session")
def zookeeper_server(unavailable: Unavailable) -> Iterator[ZooKeeper]:
    """One for the whole session; take a fresh path of it."""
    need(unavailable, "zookeeper")
    from tests.servers.zookeeper import ZooKeeper

    yield from one(ZooKeeper())


@pytest.fixture
def own_zookeeper(unavailable: Unavailable) -> Iterator[Callable[..., ZooKeeper]]:
    """A function that starts a server with these settings (see `ZooKeeper`); it ends with the test."""
    need(unavailable, "zookeeper")
    from tests.servers.zookeeper import ZooKeeper

    yield from several(ZooKeeper, unavailable)


@pytest.fixture
def own_ensemble(unavailable: Unavailable) -> Iterator[Callable[..., Ensemble]]:
    """A function that starts an ensemble with these settings (see `Ensemble`); it ends with the test."""
    need(unavailable, "zookeeper")
    from tests.servers.zookeeper import Ensemble

    made: list[Ensemble] = []

    def make(size: int = 3, **settings: Any) -> Ensemble:
        made.append(Ensemble(size, **settings))
        return made[-1].start()

    try:
        yield make
    finally:
        for ensemble in made:
            ensemble.discard()


@pytest.fixture(scope="session")
def etcd_server(unavailable: Unavailable) -> Iterator[Etcd]:
    """One for the whole session; take a fresh prefix on it."""
    need(unavailable, "etcd")
    from tests.servers.etcd import Etcd

    yield from one(Etcd())


@pytest.fixture
def own_etcd(unavailable: Unavailable) -> Iterator[Callable[..., Etcd]]:
    """A function that starts a server with these settings (see `Etcd`); it ends with the test."""
    need(unavailable, "etcd")
    from tests.servers.etcd import Etcd

    yield from several(Etcd, unavailable)


@pytest.fixture
def own_etcd_cluster(unavailable: Unavailable) -> Iterator[Callable[..., Cluster]]:
    """A function that starts three servers which agree among themselves; they end with the test."""
    need(unavailable, "etcd")
    from tests.servers.etcd import Cluster

    yield from several(Cluster, unavailable)


@pytest.fixture
def own_postgresql(unavailable: Unavailable) -> Iterator[Callable[..., PostgreSQL]]:
    """A function that starts a server with these settings (see `PostgreSQL`); it ends with the test."""
    need(unavailable, "postgresql")
    from tests.servers.postgresql import PostgreSQL

    yield from several(PostgreSQL, unavailable)


@pytest.fixture
def own_mariadb(unavailable: Unavailable) -> Iterator[Callable[..., MariaDB]]:
    """A function that starts a server with these settings (see `MariaDB`); it ends with the test."""
    need(unavailable, "mariadb")
    from tests.servers.mariadb import MariaDB

    yield from several(MariaDB, unavailable)


@pytest.fixture
def own_pgbouncer(unavailable: Unavailable) -> Iterator[Callable[..., PgBouncer]]:
    """A function that starts a pooler before a PostgreSQL server (see `PgBouncer`); it ends with the test."""
    need(unavailable, "postgresql")
    need(unavailable, "pgbouncer")
    from tests.servers.pgbouncer import PgBouncer

    yield from several(PgBouncer, unavailable)


def need(unavailable: Unavailable, what: str) -> None:
    why = programs.missing(what)
    if why is not None:
        unavailable(what, why)


def one(server: S) -> Iterator[S]:
    try:
        yield server.start()
    finally:
        server.discard()


def several(kind: Callable[..., S], unavailable: Unavailable) -> Iterator[Callable[..., S]]:
    made: list[S] = []

    def make(*arguments: object, **settings: object) -> S:
        if settings.get("clock_offset") is not None:
            need(unavailable, "faketime")
        if settings.get("ssl") or settings.get("tls"):
            need(unavailable, "openssl")
        server = kind(*arguments, **settings)
        made.append(server)
        return server.start()

    try:
        yield make
    finally:
        for server in reversed(made):
            server.discard()
