"""Where a town of processes can be built: on a fresh store of any of these kinds.

Most stories are told on every store. They take a fresh database of the session's server; a story that
kills, freezes or steers its server takes one of its own (`own_server`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from headcount.stores import BUILT_IN

if TYPE_CHECKING:
    from tests.servers.mariadb import MariaDB
    from tests.servers.postgresql import PostgreSQL

    SqlServer: TypeAlias = PostgreSQL | MariaDB

SERVERS = tuple(kind for kind in ("postgresql", "mysql") if kind in BUILT_IN)
STORES = ("sqlite", *SERVERS)
EXPIRING = tuple(kind for kind in ("zookeeper", "etcd") if kind in BUILT_IN)
"""Those that expire sessions themselves: there is no clock to look at, and no guard."""

PROGRAMS = {"postgresql": "postgresql", "mysql": "mariadb", "zookeeper": "zookeeper", "etcd": "etcd"}
"""Which server the tests have for a store; its fixtures are called `NAME_server` and `own_NAME`."""


def new_server(kind: str, **settings: object) -> SqlServer:
    """A server for a store of this kind, not yet started."""
    from tests.servers.mariadb import MariaDB
    from tests.servers.postgresql import PostgreSQL

    make: Any = PostgreSQL if kind == "postgresql" else MariaDB
    made: SqlServer = make(**settings)
    return made


def connections(server: Any, database: str) -> list[int]:
    """The numbers of all connections of Headcount, the oldest first."""
    found: Iterable[tuple[object, ...]]
    if server.scheme == "postgresql":
        found = server.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'headcount' "
            "ORDER BY backend_start",
            database,
        )
    else:
        found = server.ask(
            "SELECT id FROM information_schema.processlist WHERE db = %s AND user = %s ORDER BY id",
            *(database, "headcount"),
        )
    return [int(str(number)) for (number,) in found]


on_every_store = pytest.mark.parametrize("town", STORES, indirect=True)
"""A story about the town that the fixture `town` builds, told on each kind of store."""

on_every_engine = pytest.mark.parametrize("town", [*STORES, *EXPIRING], indirect=True)
"""The same, of a story in which nobody looks at the clock of the store."""

on_shared_servers = pytest.mark.parametrize("town", SERVERS, indirect=True)
"""The same for what only a server can show, without harm to it."""

on_every_server = pytest.mark.parametrize("own_server", SERVERS, indirect=True)
"""A story about a server of its own, which the fixture `own_server` starts."""
