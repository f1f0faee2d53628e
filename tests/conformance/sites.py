"""Where people get things wrong: a server with an empty database, and what its administrator does there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import psycopg
import pymysql
import pytest

from headcount.errors import HeadcountError
from tests.servers.base import HOST, PASSWORD, USER
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

Opened = Callable[..., Any]
"""What the fixture `opened` is: a function of a URL, perhaps a namespace, and options."""


@contextmanager
def refused(kind: type[HeadcountError], *words: str) -> Iterator[None]:
    """Exactly this error, which says these things and no password."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert [word for word in words if word not in str(caught.value)] == []
    assert PASSWORD not in str(caught.value)


class Site(ABC):
    program: ClassVar[str]
    """Its fixtures are called `NAME_server` and `own_NAME`."""
    scheme: ClassVar[str]

    guarded: ClassVar[Mapping[str, str]] = {}
    """The settings of a server that asks for passwords."""
    small: ClassVar[Mapping[str, int]]
    """The settings of a server that takes few connections."""

    page: ClassVar[str]
    makes_a_database: ClassVar[str]
    refuses_a_reader: ClassVar[str]
    too_old: ClassVar[tuple[str, ...]]
    """What errors say in the words of one server."""

    bad_namespaces: ClassVar[tuple[str, ...]]

    def __init__(self, server: Any) -> None:
        self.server = server
        self.database = server.fresh_database()
        self.url: str = server.url(self.database)
        self._newcomers: list[str] = []

    @property
    def without_password(self) -> str:
        return f"{self.scheme}://{USER}@{HOST}:{self.server.port}/{self.database}"

    def url_of(self, user: str) -> str:
        return str(self.server.url(self.database, user=user))

    def newcomer(self) -> str:
        """The name of a user who may nothing yet."""
        name = f"newcomer_{len(self._newcomers)}"
        self.server.create_user(name)
        self._newcomers.append(name)
        return name

    def close(self) -> None:
        self.server.drop_database(self.database)
        for name in self._newcomers:
            self._drop_user(name)

    @abstractmethod
    def grant(self, user: str, namespace: str = "default") -> None:
        """What `page` lists for users who may not make tables."""

    @abstractmethod
    def grant_reading(self, user: str) -> None: ...

    @abstractmethod
    def run(self, script: str) -> None: ...

    @abstractmethod
    def change_meta(self, change: str) -> None:
        """As another release of Headcount does."""

    @abstractmethod
    def take_a_connection(self) -> Any: ...

    @abstractmethod
    def _drop_user(self, name: str) -> None: ...


class PostgreSQLSite(Site):
    program = scheme = "postgresql"
    guarded: ClassVar[Mapping[str, str]] = {"authentication": "scram-sha-256"}
    small: ClassVar[Mapping[str, int]] = {"max_connections": 6, "superuser_reserved_connections": 1}
    page = "docs/stores/postgresql.md"
    makes_a_database = "createdb"
    refuses_a_reader = "permission denied"
    too_old = ("PostgreSQL 1",)
    bad_namespaces = ('a"; DROP', "x" * 51)

    server: PostgreSQL

    def newcomer(self) -> str:
        self.run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        return super().newcomer()

    def grant(self, user: str, namespace: str = "default") -> None:
        schema = "headcount" if namespace == "default" else f'"headcount_{namespace}"'
        self.run(
            f"GRANT USAGE ON SCHEMA {schema} TO {user};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user};"
            f"GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA {schema} TO {user}"
        )

    def grant_reading(self, user: str) -> None:
        self.run(
            f"GRANT USAGE ON SCHEMA headcount TO {user};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA headcount TO {user};"
            f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA headcount TO {user}"
        )

    def run(self, script: Any) -> None:
        with self.server.admin(self.database) as admin:
            admin.execute(script)

    def change_meta(self, change: str) -> None:
        self.run(f"UPDATE headcount.meta SET {change}")

    def take_a_connection(self) -> Any:
        return psycopg.connect(self.url)

    def _drop_user(self, name: Any) -> None:
        with self.server.admin() as admin:
            admin.execute(f"DROP ROLE {name}")


class MariaDBSite(Site):
    program, scheme = "mariadb", "mysql"
    small: ClassVar[Mapping[str, int]] = {"max_connections": 10}
    page = "docs/stores/mysql.md"
    makes_a_database = "CREATE DATABASE"
    refuses_a_reader = "store init"
    too_old = ("MariaDB 1", "99.1.0")
    bad_namespaces = ("a`; DROP", "Upper", "x" * 41)

    server: MariaDB

    def grant(self, user: str, namespace: str = "default") -> None:
        self.server.ask(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{self.database}`.* TO {user}")

    def grant_reading(self, user: str) -> None:
        self.server.ask(f"GRANT SELECT ON `{self.database}`.* TO {user}")

    def run(self, script: str) -> None:
        with self.server.admin(self.database) as admin, admin.cursor() as cursor:
            for statement in statements(script):
                cursor.execute(statement)

    def change_meta(self, change: str) -> None:
        self.run(f"UPDATE headcount_meta SET {change}")

    def take_a_connection(self) -> Any:
        return pymysql.connect(host=HOST, port=self.server.port, user=USER, password=PASSWORD)

    def _drop_user(self, name: str) -> None:
        self.server.ask(f"DROP USER {name}@'%'")


def statements(script: str) -> list[str]:
    """One by one, as MariaDB's client library takes them."""
    lines = (line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]
