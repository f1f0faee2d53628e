"""A private PgBouncer before a PostgreSQL server: what many a store's URL really leads to."""

from __future__ import annotations

import signal
from typing import Any

import psycopg

from tests.servers import keeper, programs
from tests.servers.base import HOST, PASSWORD, USER, Server, Value, servers_user
from tests.servers.postgresql import ADMIN, PostgreSQL

QUICK: dict[str, Value] = {
    "pool_mode": "transaction",
    "max_client_conn": 500,
    "default_pool_size": 20,
    # It says so at once when the server is down, instead of letting its clients wait for two minutes.
    "server_login_retry": 1,
}


class PgBouncer(Server):
    """`PgBouncer(server, pool_mode="session").start()`: settings are PgBouncer's own.

    Its users are ADMIN and USER, and those in `users`; they show it what the server asks for too.
    """

    what = "pgbouncer"
    scheme = "postgresql"
    stop_signal = signal.SIGINT
    owner = "postgres"

    def __init__(self, server: PostgreSQL, **settings: Value) -> None:
        super().__init__({**QUICK, **settings})
        self.server = server
        self.users = {ADMIN: PASSWORD, USER: PASSWORD}

    def _install(self) -> None:
        self.data.mkdir()

    def _configure(self) -> None:
        settings = {
            **self.settings,
            "listen_addr": HOST,
            "listen_port": self.port,
            "auth_type": "trust" if self.server.authentication == "trust" else "scram-sha-256",
            "auth_file": self.data / "users",
            "admin_users": ADMIN,
            "unix_socket_dir": "",
            "pidfile": self.folder / "pid",
        }
        users = "".join(f'"{name}" "{password}"\n' for name, password in self.users.items())
        (self.data / "users").write_text(users)
        lines = ["[databases]", f"* = host={HOST} port={self.server.port}", "[pgbouncer]"]
        lines += [f"{name} = {_written(value)}" for name, value in settings.items()]
        (self.data / "pgbouncer.ini").write_text("".join(f"{line}\n" for line in lines))

    def _command(self) -> list[str]:
        return [*servers_user(), str(programs.found("pgbouncer")), str(self.data / "pgbouncer.ini")]

    def _ask(self) -> None:
        self.admin().close()

    def _not_yet(self) -> type[Exception]:
        return psycopg.OperationalError

    def discard(self) -> None:
        # The signal by which the keeper asks servers to leave at once is one that it ignores.
        keeper.send(list(self.processes())[:1], signal.SIGTERM)
        super().discard()

    def url(
        self, database: str = "postgres", user: str = USER, password: str | None = None, **options: object
    ) -> str:
        """The URL of a store on the server behind it."""
        if password is None and self.server.authentication != "trust":
            password = PASSWORD
        return self._url(user, password, database, options)

    def admin(self, database: str = "pgbouncer") -> psycopg.Connection[Any]:
        """A connection through it as superuser; to its own console (SHOW POOLS, PAUSE, …) if you name no
        database. The console knows simple queries only: use `psycopg.ClientCursor`, which this does."""
        return psycopg.connect(
            host=HOST,
            port=self.port,
            user=ADMIN,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
            cursor_factory=psycopg.ClientCursor,
        )


def _written(value: object) -> object:
    return int(value) if isinstance(value, bool) else value
