"""A private PostgreSQL server, and a standby of it where one is wanted."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from tests.servers import programs
from tests.servers.base import (
    HOST,
    PASSWORD,
    STARTING_S,
    USER,
    Server,
    Value,
    copy_template,
    fresh_name,
    new_folder,
    run,
    servers_user,
)
from tests.servers.certificate import certificate

ADMIN = "postgres"

QUICK: dict[str, Value] = {
    # A killed process loses nothing that it has written: only a machine that goes down would.
    "fsync": False,
    "full_page_writes": False,
    "shared_buffers": "32MB",
    # With fsync: one call after a crash, not one for each of a thousand files.
    "recovery_init_sync_method": "syncfs",
    "max_connections": 200,
    "max_wal_size": "256MB",
    # In the data directory, where a killed server's segments are removed with everything else.
    "dynamic_shared_memory_type": "mmap",
}


@cache
def template() -> Path:
    """An initialised data directory; to copy it takes a tenth of the time."""
    folder = new_folder("postgresql-template", owner="postgres")
    words = folder / "words"
    words.write_text(PASSWORD)
    words.chmod(0o644)
    bin_ = programs.found("postgresql")
    run(
        [*servers_user(), f"{bin_}/initdb", "--pgdata", f"{folder}/data", "--username", ADMIN, "--no-sync",
         "--pwfile", str(words), "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"]
    )  # fmt: skip
    run(
        [*servers_user(), f"{bin_}/postgres", "--single", "-F", "-D", f"{folder}/data", "postgres"],
        input_=f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'\n",
    )
    return folder / "data"


class PostgreSQL(Server):
    """`PostgreSQL(fsync=True, commit_delay=10).start()`: settings are PostgreSQL's own. With `fsync` its
    data is on a disk, otherwise in memory where there is room.

    `authentication`: "trust", or "scram-sha-256", when all users need PASSWORD. `ssl`: TLS is offered,
    with `certificate`, which is its own authority. `hba`: the lines of pg_hba.conf.
    """

    what = "postgresql"
    scheme = "postgresql"
    stop_signal = signal.SIGINT
    owner = "postgres"

    def __init__(
        self,
        *,
        authentication: str = "trust",
        ssl: bool = False,
        clock_offset: str | None = None,
        primary: PostgreSQL | None = None,
        **settings: Value,
    ) -> None:
        super().__init__({**QUICK, **settings}, clock_offset, on_disk=bool(settings.get("fsync")))
        self.authentication = authentication
        self.primary = primary
        self.hba = [f"host {which} all {HOST}/32 {authentication}" for which in ("all", "replication")]
        self.certificate: Path | None = None
        self._standbys: list[PostgreSQL] = []
        if ssl:
            self.certificate, key = certificate(self.folder, owner=self.owner)
            self.settings |= {"ssl": True, "ssl_cert_file": str(self.certificate), "ssl_key_file": str(key)}

    def _install(self) -> None:
        if self.primary is None:
            copy_template(template(), self.data)
            return
        command = [f"{programs.found('postgresql')}/pg_basebackup", "--pgdata", str(self.data), "--no-sync"]
        command += ["--host", HOST, "--port", str(self.primary.port), "--username", ADMIN]
        command += ["--write-recovery-conf", "--checkpoint", "fast", "--wal-method", "stream"]
        run([*servers_user(), *command], PGPASSWORD=PASSWORD)

    def _configure(self) -> None:
        settings = {
            **self.settings,
            "port": self.port,
            "listen_addresses": HOST,
            "unix_socket_directories": str(self.folder),
        }
        lines = [f"{name} = {_quoted(value)}\n" for name, value in settings.items()]
        # Written into, not replaced: they belong to the server's user.
        (self.data / "postgresql.conf").write_text("".join(lines))
        (self.data / "pg_hba.conf").write_text("".join(f"{line}\n" for line in self.hba))

    def _command(self) -> list[str]:
        return [
            *servers_user(), *self._faked(), f"{programs.found('postgresql')}/postgres", "-D", str(self.data)
        ]  # fmt: skip

    def _ask(self) -> None:
        self.admin().close()

    def _not_yet(self) -> type[Exception]:
        return psycopg.OperationalError

    # --- reaching it ---

    def url(
        self, database: str = "postgres", user: str = USER, password: str | None = None, **options: object
    ) -> str:
        """The URL of a store there; a password only where one is asked for, unless you give one."""
        if password is None and self.authentication != "trust":
            password = PASSWORD
        return self._url(user, password, database, options)

    def admin(self, database: str | None = None) -> psycopg.Connection:
        """A connection as superuser; each statement commits by itself."""
        return psycopg.connect(
            host=HOST,
            port=self.port,
            user=ADMIN,
            password=PASSWORD,
            dbname=database or "postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def ask(
        self, query: LiteralString, *values: object, database: str | None = None
    ) -> list[tuple[object, ...]]:
        """The rows of one query, as superuser."""
        with self.admin(database) as con:
            return con.execute(query, values).fetchall()

    def fresh_database(self, owner: str = USER) -> str:
        """A new, empty database, which `owner` may do everything in. The copy goes through the log, as is
        the default: by file is no faster, and begins with a checkpoint of what other tests have written."""
        name = fresh_name()
        with self.admin() as con:
            con.execute(
                sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                    sql.Identifier(name), sql.Identifier(owner)
                )
            )
        return name

    def drop_database(self, name: str) -> None:
        """Whoever is connected to it is thrown out."""
        with self.admin() as con:
            con.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def create_user(self, name: str, password: str = PASSWORD) -> None:
        with self.admin() as con:
            con.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(name), sql.Literal(password)
                )
            )

    # --- what goes wrong ---

    def kill_backend(self, pid: int) -> None:
        """SIGKILL to one backend. It may have left shared memory in disorder, so the server throws out
        everybody, recovers, and empties all UNLOGGED tables; we return when it answers again."""
        before = self.processes()
        first = next(iter(before))
        if pid not in before or pid == first:
            raise ValueError(f"{pid} is no backend of this server")
        os.kill(pid, signal.SIGKILL)
        # Only when none of the old processes is left has it noticed.
        self._wait(lambda: self.processes().keys() & before.keys() <= {first}, "does not recover", STARTING_S)
        self.wait_until_it_answers()

    def standby(self, **settings: Value) -> PostgreSQL:
        """A server that streams from this one, started; it is discarded with this one."""
        made = PostgreSQL(
            authentication=self.authentication,
            ssl=self.certificate is not None,
            clock_offset=self.clock_offset,
            primary=self,
            **{
                **{name: value for name, value in self.settings.items() if not name.startswith("ssl")},
                **settings,
            },
        )
        self._standbys.append(made)
        return made.start()

    def catch_up(self, within: float = 10.0) -> None:
        """Wait until this standby has replayed all that its primary has written by now."""
        assert self.primary is not None, "this server is no standby"
        ((goal,),) = self.primary.ask("SELECT pg_current_wal_lsn()::text")

        def there() -> bool:
            return self.ask("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", goal) == [(True,)]

        self._wait(there, "has not caught up", within)

    def stop_following(self) -> None:
        """From here on this standby hears nothing of its primary, as if the network between them were cut."""
        with self.admin() as con:
            con.execute("ALTER SYSTEM SET primary_conninfo = ''")
            con.execute("SELECT pg_reload_conf()")
        self._wait(
            lambda: self.ask("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)],
            "does not stop following",
            STARTING_S,
        )

    def promote(self) -> None:
        """Make this standby a primary; returns when it takes writes."""
        assert self.primary is not None, "this server is no standby"
        assert self.ask("SELECT pg_promote(true, 30)") == [(True,)]
        self._wait(lambda: self.ask("SELECT pg_is_in_recovery()") == [(False,)], "is no primary", STARTING_S)
        self.primary = None

    def discard(self) -> None:
        for standby in self._standbys:
            standby.discard()
        self._let_go()
        # It marks its data directory as in use by a few bytes of shared memory. A server that was killed
        # leaves them, and its file, behind, and the system has a limited number of those.
        with contextlib.suppress(OSError):
            for line in (self.data / "postmaster.pid").read_text().splitlines()[6:7]:
                subprocess.run(["ipcrm", "-m", line.split()[1]], capture_output=True, check=False)
        super().discard()


def _quoted(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "'" + str(value).replace("'", "''") + "'"
