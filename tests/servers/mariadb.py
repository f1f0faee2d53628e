"""A private MariaDB server, and a replica of it where one is wanted."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pymysql

from tests.servers import programs
from tests.servers.base import (
    HOST,
    PASSWORD,
    USER,
    Server,
    ServerError,
    Value,
    copy_template,
    fresh_name,
    new_folder,
    run,
)
from tests.servers.certificate import certificate

ADMIN = "root"

QUICK: dict[str, Value] = {
    # A killed server loses nothing that it has written: only a machine that goes down would.
    "innodb_flush_log_at_trx_commit": 2,
    "sync_binlog": 0,
    "debug_no_sync": True,
    "innodb_buffer_pool_size": "32M",
    "innodb_use_native_aio": False,  # the system has a limited number of those
    "max_connections": 200,
    "performance_schema": False,
    "skip_name_resolve": True,
}
# A data directory is laid out by it, so the template has it too.
LOG_SIZE = "--innodb-log-file-size=16M"


def as_root() -> list[str]:
    """It runs as root where we do, but wants to be told so."""
    return ["--user=root"] if os.geteuid() == 0 else []


@cache
def template() -> Path:
    """An initialised data directory; to copy it takes a tenth of the time."""
    folder = new_folder("mariadb-template", owner=None)
    data = folder / "data"
    # A server that starts removes what it takes for leftovers in its temporary folder: never share one.
    common = [
        "--no-defaults", *as_root(), LOG_SIZE, "--debug-no-sync", f"--datadir={data}", f"--tmpdir={folder}"
    ]  # fmt: skip
    installer = programs.find_program("mariadb-install-db")
    run([str(installer), *common, "--auth-root-authentication-method=normal", "--skip-test-db"])
    run(
        [str(programs.found("mariadb")), *common, "--bootstrap"],
        input_="FLUSH PRIVILEGES;\n"
        f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
        # The underscores are wildcards if they are not escaped.
        f"GRANT ALL ON `headcount\\_test\\_%`.* TO {USER}@'%';\n",
    )
    return data


class MariaDB(Server):
    """`MariaDB(innodb_lock_wait_timeout=1).start()`: settings are MariaDB's own, with underscores. With
    `debug_no_sync=False` its data is on a disk, and what it syncs is synced there.

    `replicated`: it writes a binary log, and so can have replicas. `ssl`: TLS is offered, with
    `certificate`, which is its own authority. Users need their passwords; root has none.
    """

    what = "mariadb"
    scheme = "mysql"

    def __init__(
        self,
        *,
        replicated: bool = False,
        ssl: bool = False,
        clock_offset: str | None = None,
        primary: MariaDB | None = None,
        **settings: Value,
    ) -> None:
        on_disk = settings.get("debug_no_sync") is False
        super().__init__({**QUICK, **settings}, clock_offset, on_disk=on_disk)
        self.replicated = replicated
        self.primary = primary
        self.certificate: Path | None = None
        self._standbys: list[MariaDB] = []
        if ssl:
            self.certificate, key = certificate(self.folder, owner=self.owner)
            self.settings |= {"ssl_cert": str(self.certificate), "ssl_key": str(key)}

    def _install(self) -> None:
        copy_template(template(), self.data)

    def _configure(self) -> None:
        """All settings are on the command line."""

    def _command(self) -> list[str]:
        own: dict[str, Value] = {
            "datadir": str(self.data),
            "tmpdir": str(self.folder),
            "bind_address": HOST,
            "port": self.port,
            "socket": str(self.folder / "socket"),
            "pid_file": str(self.folder / "pid"),
        }
        if self.replicated:
            own |= {
                "log_bin": "binlog",
                "relay_log": "relay",
                "log_slave_updates": True,
                "server_id": self.port,
            }
        program = str(programs.found("mariadb"))
        options = [_option(name, value) for name, value in (self.settings | own).items()]
        return [*self._faked(), program, "--no-defaults", *as_root(), LOG_SIZE, *options]

    def _ask(self) -> None:
        self.admin().close()

    def _not_yet(self) -> type[Exception]:
        return pymysql.err.OperationalError

    # --- reaching it ---

    def url(
        self, database: str = "", user: str = USER, password: str | None = PASSWORD, **options: object
    ) -> str:
        return self._url(user, password, database, options)

    def admin(self, database: str | None = None) -> pymysql.Connection[pymysql.cursors.Cursor]:
        """A connection as superuser; each statement commits by itself."""
        return pymysql.connect(
            host=HOST, port=self.port, user=ADMIN, database=database, autocommit=True, connect_timeout=5
        )

    def ask(self, query: str, *values: object, database: str | None = None) -> tuple[tuple[object, ...], ...]:
        """The rows of one statement, as superuser; none if it is no query."""
        with self.admin(database) as con, con.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def fresh_database(self) -> str:
        """A new, empty database, which USER may do everything in."""
        name = fresh_name()
        self.ask(f"CREATE DATABASE `{name}`")
        return name

    def drop_database(self, name: str) -> None:
        self.ask(f"DROP DATABASE IF EXISTS `{name}`")

    def create_user(self, name: str, password: str = PASSWORD) -> None:
        self.ask("CREATE USER %s@'%%' IDENTIFIED BY %s", name, password)

    # --- what goes wrong ---

    def kill_connection(self, number: int) -> None:
        """End one connection (CONNECTION_ID() is its number), as an operator does."""
        self.ask(f"KILL CONNECTION {number:d}")

    def standby(self, **settings: Value) -> MariaDB:
        """A replica of this server, started; it is discarded with this one.

        It begins with the same template and reads the log from its beginning."""
        if not self.replicated:
            raise ServerError("only a server made with replicated=True has a log that a standby can read")
        made = MariaDB(
            replicated=True,
            ssl=self.certificate is not None,
            clock_offset=self.clock_offset,
            primary=self,
            **{
                **{name: value for name, value in self.settings.items() if not name.startswith("ssl")},
                "read_only": True,
                **settings,
            },
        )
        self._standbys.append(made)
        made.start()
        made.ask(
            f"CHANGE MASTER TO MASTER_HOST = '{HOST}', MASTER_PORT = {self.port}, MASTER_USER = '{ADMIN}', "
            "MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 1"
        )
        made.ask("START SLAVE")
        return made

    def catch_up(self, within: float = 10.0) -> None:
        """Wait until this replica has replayed all that its primary has written by now."""
        assert self.primary is not None, "this server is no replica"
        ((goal,),) = self.primary.ask("SELECT @@gtid_binlog_pos")
        if self.ask("SELECT MASTER_GTID_WAIT(%s, %s)", goal, within) != ((0,),):
            raise ServerError(f"the replica has not caught up within {within:.0f} s:\n{self.last_words()}")

    def stop_following(self) -> None:
        """From here on this replica hears nothing of its primary, as if the network between them were cut."""
        self.ask("STOP SLAVE")

    def promote(self) -> None:
        """Make this replica a primary; returns when it takes writes."""
        assert self.primary is not None, "this server is no replica"
        for statement in ("STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"):
            self.ask(statement)
        self.settings["read_only"] = False
        self.primary = None

    def discard(self) -> None:
        for standby in self._standbys:
            standby.discard()
        super().discard()


def _option(name: str, value: Value) -> str:
    written = int(value) if isinstance(value, bool) else value
    return f"--{name.replace('_', '-')}={written}"
