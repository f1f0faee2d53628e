"""The servers of the tests really do what the tests of the stores take for granted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from tests.processes.town import ROOT, until
from tests.servers.base import HOST, PASSWORD, USER
from tests.servers.certificate import certificate
from tests.servers.mariadb import MariaDB
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgreSQL

Sql = PostgreSQL | MariaDB
REFUSED = (psycopg.Error, pymysql.Error)


@pytest.fixture(params=["postgresql", "mariadb"])
def own(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"own_{request.param}")


@pytest.fixture(params=["postgresql", "mariadb"])
def shared(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_server")


def connect(server: Sql, database: str, password: str = PASSWORD, **options: Any) -> Any:
    """As the ordinary user that a store would be."""
    if isinstance(server, PostgreSQL):
        return psycopg.connect(server.url(database, password=password, **options), autocommit=True)
    return pymysql.connect(
        host=HOST,
        port=server.port,
        user=USER,
        password=password,
        database=database,
        autocommit=True,
        **options,
    )


def fill(server: Sql, database: str, value: int) -> None:
    server.ask("INSERT INTO t VALUES (%s) RETURNING a", value, database=database)


def filled(server: Sql, database: str) -> list[object]:
    return [value for (value,) in server.ask("SELECT a FROM t ORDER BY a", database=database)]


def with_table(server: Sql) -> str:
    database = server.fresh_database()
    with connect(server, database) as con:
        con.cursor().execute("CREATE TABLE t (a INT)")
    return database


def test_a_fresh_database_is_empty_and_its_users_own(shared: Sql) -> None:
    """Whatever another test has stored on the same server, an ordinary user makes the same tables again."""
    one, other = with_table(shared), with_table(shared)
    fill(shared, one, 1)
    assert (filled(shared, one), filled(shared, other)) == ([1], [])
    shared.drop_database(one)
    with pytest.raises(REFUSED):
        connect(shared, one)


def test_a_frozen_server_takes_connections_and_answers_when_it_is_thawed(own: Callable[..., Sql]) -> None:
    server = own()
    answers: list[object] = []
    with connect(server, server.fresh_database()) as con:
        cursor = con.cursor()

        def ask() -> None:
            cursor.execute("SELECT 1")
            answers.append(cursor.fetchone())

        asking = threading.Thread(target=ask)
        server.freeze()
        asking.start()
        socket.create_connection((HOST, server.port), 1).close()
        asking.join(0.5)
        assert answers == []
        server.thaw()
        asking.join(10)
        assert answers == [(1,)]


def test_a_killed_server_is_gone_and_comes_back_with_what_was_committed(own: Callable[..., Sql]) -> None:
    server = own()
    database = with_table(server)
    fill(server, database, 1)
    everybody = server.processes()
    server.kill()
    assert [pid for pid in everybody if Path(f"/proc/{pid}").exists()] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, server.port), 1)
    server.start()
    fill(server, database, 2)
    server.restart()
    assert filled(server, database) == [1, 2]


def test_a_killed_backend_empties_unlogged_tables(own_postgresql: Callable[..., PostgreSQL]) -> None:
    """And only those; and the server answers when the call returns."""
    server = own_postgresql()
    database = with_table(server)
    fill(server, database, 1)
    with server.admin(database) as con:
        con.execute("CREATE UNLOGGED TABLE beats AS SELECT 1 AS a")
        server.kill_backend(con.info.backend_pid)
        assert server.ask("SELECT a FROM beats", database=database) == []
        assert filled(server, database) == [1]
        with pytest.raises(psycopg.OperationalError):
            con.execute("SELECT 1")
    with pytest.raises(ValueError, match="no backend"):
        server.kill_backend(os.getpid())


def test_a_killed_connection_is_lost_alone(mariadb_server: MariaDB) -> None:
    database = mariadb_server.fresh_database()
    with connect(mariadb_server, database) as one, connect(mariadb_server, database) as other:
        mariadb_server.kill_connection(one.thread_id())
        with pytest.raises(pymysql.Error):
            one.query("SELECT 1")
        other.query("SELECT 1")


@pytest.mark.parametrize(("kind", "settings"), [("postgresql", {}), ("mariadb", {"replicated": True})])
def test_a_standby_follows_and_takes_over(
    kind: str, settings: dict[str, bool], request: pytest.FixtureRequest
) -> None:
    primary: Sql = request.getfixturevalue(f"own_{kind}")(**settings)
    database = with_table(primary)
    fill(primary, database, 1)
    standby = primary.standby()
    fill(primary, database, 2)
    standby.catch_up()
    assert filled(standby, database) == [1, 2]
    with connect(standby, database) as con, pytest.raises(REFUSED):
        con.cursor().execute("INSERT INTO t VALUES (3)")
    primary.kill()
    standby.promote()
    with connect(standby, database) as con:
        con.cursor().execute("INSERT INTO t VALUES (4)")
    standby.restart()
    assert filled(standby, database) == [1, 2, 4]


@pytest.mark.parametrize(
    ("kind", "clock", "offset"),
    [
        ("postgresql", "extract(epoch FROM clock_timestamp())", 3600),
        ("mariadb", "unix_timestamp(sysdate(6))", -86400),
    ],
)
def test_a_clock_goes_wrong_by_what_was_said(
    kind: str, clock: str, offset: int, request: pytest.FixtureRequest
) -> None:
    """Only the time of day does: a second of waiting still takes a second."""
    server: Sql = request.getfixturevalue(f"own_{kind}")(clock_offset=f"{offset:+d}s")
    ((told,),) = server.ask(f"SELECT {clock}")
    assert float(str(told)) - time.time() == pytest.approx(offset, abs=5)
    began = time.monotonic()
    server.ask("SELECT pg_sleep(0.3)" if kind == "postgresql" else "SELECT sleep(0.3)")
    assert 0.3 <= time.monotonic() - began < 5


def test_postgresql_asks_for_a_password_and_shows_a_certificate(
    own_postgresql: Callable[..., PostgreSQL], tmp_path: Path
) -> None:
    server = own_postgresql(ssl=True, authentication="scram-sha-256")
    database = server.fresh_database()
    verified = {"sslmode": "verify-full", "sslrootcert": str(server.certificate)}
    other, _ = certificate(tmp_path, owner=None)
    with connect(server, database, **verified) as con:
        row = con.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        connect(server, database, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        connect(server, database, **{**verified, "sslrootcert": str(other)})


def test_mariadb_asks_for_a_password_and_shows_a_certificate(
    own_mariadb: Callable[..., MariaDB], tmp_path: Path
) -> None:
    server = own_mariadb(ssl=True)
    database = server.fresh_database()
    other, _ = certificate(tmp_path, owner=None)
    with connect(server, database, ssl_ca=str(server.certificate)) as con, con.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchone()[1].startswith("TLS_")
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        connect(server, database, password="wrong")
    with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        connect(server, database, ssl_ca=str(other), ssl_verify_cert=True)


def test_a_pooler_leads_to_its_server(
    own_postgresql: Callable[..., PostgreSQL], own_pgbouncer: Callable[..., PgBouncer]
) -> None:
    """Two clients in turn have the same backend: there is one, and it is pooled by transaction."""
    server = own_postgresql(authentication="scram-sha-256")
    pooler = own_pgbouncer(server, default_pool_size=1)
    database = with_table(server)
    with psycopg.connect(pooler.url(database)) as one, psycopg.connect(pooler.url(database)) as other:
        seen = []
        for con in (one, other):
            seen += con.execute("SELECT pg_backend_pid()").fetchall()
            con.commit()
    assert seen[0] == seen[1]
    with pooler.admin() as con:
        assert ("transaction",) in [row[-1:] for row in con.execute("SHOW POOLS").fetchall()]


def test_nothing_is_left_when_its_test_is_killed(
    postgresql_server: PostgreSQL, mariadb_server: MariaDB
) -> None:
    """Not even of a server that is frozen, and of one that was stopped: no process and no folder."""
    story = """
from tests.servers import postgresql
frozen, stopped = postgresql.PostgreSQL().start(), postgresql.PostgreSQL().start()
frozen.freeze()
stopped.stop()
print(frozen.folder.parent, *frozen.processes(), flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", story], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as test:
        assert test.stdout is not None
        folder, *pids = test.stdout.readline().split()
        assert len(pids) > 2
        test.send_signal(signal.SIGKILL)

    def left() -> list[str]:
        return [str(path) for path in (Path(folder), *(Path("/proc", pid) for pid in pids)) if path.exists()]

    until(lambda: not left(), left, within=10)
