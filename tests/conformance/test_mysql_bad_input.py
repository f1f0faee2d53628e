"""MySQL and MariaDB: what people get wrong has an error each, in their terms, and is not waited for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pymysql
import pytest

import headcount
from headcount.errors import (
    AccessDenied,
    ConfigError,
    HeadcountError,
    NotPromised,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.model import Enter, Session
from headcount.stores import make
from headcount.stores.base import Store
from headcount.stores.sql import mysql
from headcount.stores.sql.mysql import MySQLStore
from tests.servers.base import HOST, PASSWORD
from tests.servers.mariadb import MariaDB

GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE ON `{0}`.* TO {1}"
"""What docs/stores/mysql.md lists for users who may not make tables."""

Opened = Callable[..., MySQLStore]


@pytest.fixture
def opened() -> Iterator[Opened]:
    made: list[Store] = []

    def open_(url: str, namespace: str = "default", **options: str | float | bool) -> MySQLStore:
        store = make(url, namespace=namespace, options=options)
        made.append(store)
        store.open()
        assert isinstance(store, MySQLStore)
        return store

    yield open_
    for store in made:
        store.close()


@contextmanager
def refused(kind: type[HeadcountError], *words: str) -> Iterator[None]:
    """Exactly this error, which says these things and no password."""
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert [word for word in words if word not in str(caught.value)] == []
    assert PASSWORD not in str(caught.value)


@pytest.fixture
def user(mariadb_server: MariaDB) -> Iterator[str]:
    """One who may nothing yet."""
    mariadb_server.create_user("poor")
    yield "poor"
    mariadb_server.ask("DROP USER poor@'%'")


def test_who_is_not_let_in(mariadb_server, opened) -> None:
    server: MariaDB = mariadb_server
    name = server.fresh_database()
    with refused(AccessDenied, "password"):
        opened(server.url(name, password="another"))
    with refused(AccessDenied, "password"):
        opened(server.url(name, password="pässwörd ☃"))
    with refused(AccessDenied, "nobody"):
        opened(server.url(name, user="nobody"))
    with refused(ConfigError, "headcount_test_nowhere", "CREATE DATABASE"):
        opened(server.url("headcount_test_nowhere"))
    with refused(ConfigError, "name of a database"):
        opened(server.url(""))
    assert opened(server.url(name)).groups() == []


def test_a_password_is_read_from_a_file_each_time(mariadb_server, opened, tmp_path) -> None:
    server: MariaDB = mariadb_server
    url = f"mariadb://headcount@{HOST}:{server.port}/{server.fresh_database()}"
    words = tmp_path / "words"
    with refused(ConfigError, "password_file", "words"):
        opened(url, password_file=str(words))
    words.write_text("another\n")
    store = make(url, options={"password_file": str(words)})
    with refused(AccessDenied):
        store.open()
    words.write_text(f"{PASSWORD}\n")
    store.open()
    store.close()
    with refused(ConfigError, "one of them"):
        opened(server.url("x", password="x"), password_file=str(words))


def test_who_may_not_make_tables(mariadb_server, opened, user) -> None:
    """It is told whom to ask; and with the rights of the documentation, which do not include making them, it
    is a member like everybody."""
    server: MariaDB = mariadb_server
    name = server.fresh_database()
    poor = server.url(name, user=user)
    with refused(AccessDenied, "store init", "docs/stores/mysql.md"):
        opened(poor)
    server.ask(GRANT.format(name, user))
    with refused(AccessDenied, "store init"):
        opened(poor)
    opened(server.url(name))
    with headcount.connect(poor, member_id="ann") as ann:
        assert "ann" in ann.join_group("web", create=True).view()


def test_who_may_read_only(mariadb_server, opened, user) -> None:
    server: MariaDB = mariadb_server
    name = server.fresh_database()
    opened(server.url(name)).create_group("web")
    server.ask(f"GRANT SELECT ON `{name}`.* TO {user}")
    reader = opened(server.url(name, user=user))
    assert reader.groups() == ["web"]
    with refused(AccessDenied, "store init"):
        reader.create_group("other")


@pytest.mark.parametrize("namespace", ["default", "second-1"])
def test_the_printed_schema_is_all_that_is_needed(mariadb_server, opened, user, namespace) -> None:
    """An administrator runs what is printed, even with another interval; nobody else may make anything."""
    server: MariaDB = mariadb_server
    name = server.fresh_database()
    store = make(server.url(name), namespace=namespace, options={"interval": 0.5})
    assert isinstance(store, MySQLStore)
    with server.admin(name) as admin, admin.cursor() as cursor:
        for statement in _statements(store.schema_sql()):
            cursor.execute(statement)
    server.ask(GRANT.format(name, user))
    printed = opened(server.url(name, user=user), namespace)
    assert printed.create_group("web")
    tick = printed.tick()
    assert (tick.interval, tick.epoch > 0) == (0.5, True)


def _statements(script: str) -> list[str]:
    lines = (line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in "\n".join(lines).split(";") if statement.strip()]


@pytest.mark.parametrize("after", range(0, 12, 3))
def test_a_schema_that_was_left_half_made_is_completed(mariadb_server, opened, after) -> None:
    """DDL commits by itself, and whoever made the tables may die after any of them."""
    server: MariaDB = mariadb_server
    name = server.fresh_database()
    store = make(server.url(name))
    assert isinstance(store, MySQLStore)
    made = [one for one in _statements(store.schema_sql()) if "CREATE TABLE" in one]
    with server.admin(name) as admin, admin.cursor() as cursor:
        for statement in made[: after or len(made)]:
            cursor.execute(statement)
    assert opened(server.url(name)).create_group("web")


def test_many_make_the_schema_at_once(mariadb_server) -> None:
    """One of them does, and the others find it."""
    from concurrent.futures import ThreadPoolExecutor

    url = mariadb_server.url(mariadb_server.fresh_database())

    def first(n: int) -> int:
        store = make(url)
        store.open()
        assert isinstance(store, MySQLStore)
        epoch = store.tick().epoch
        store.close()
        return epoch

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first, range(8)))) == 1


def test_namespaces_do_not_see_each_other(mariadb_server, opened) -> None:
    url = mariadb_server.url(mariadb_server.fresh_database())
    assert opened(url, "one").create_group("web")
    assert opened(url, "two").groups() == []
    for bad in ("a`; DROP", "Upper", "x" * 41):
        with refused(ConfigError, "namespace"):
            opened(url, bad)


def test_a_newer_schema(mariadb_server, opened) -> None:
    """A release works with the schema of the next one, unless that says that it cannot."""
    server: MariaDB = mariadb_server
    name = server.fresh_database()
    opened(server.url(name)).create_group("web")
    server.ask("UPDATE headcount_meta SET version = version + 1", database=name)
    assert opened(server.url(name)).groups() == ["web"]
    server.ask("UPDATE headcount_meta SET version = 99, needs = 98", database=name)
    with refused(SchemaMismatch, "99", "98", "upgrade"):
        opened(server.url(name))


def test_a_server_that_is_too_old(mariadb_server, opened, monkeypatch) -> None:
    monkeypatch.setitem(mysql.OLDEST, "MariaDB", (99, 1, 0))
    with refused(NotPromised, "MariaDB 1", "99.1.0"):
        opened(mariadb_server.url(mariadb_server.fresh_database()))


def test_a_replica(own_mariadb, opened) -> None:
    """Alone it is refused. With the primary in the same URL, the primary is found; and a replica that was
    made the primary is one with another history."""
    server: MariaDB = own_mariadb(replicated=True)
    name = server.fresh_database()
    store = opened(server.url(name))
    store.create_group("web")
    epoch = store.tick().epoch
    replica = server.standby()
    replica.catch_up()
    with refused(ReadOnlyStore, "replica", "host1,host2"):
        opened(replica.url(name))

    both = server.url(name).replace(f"{HOST}:{server.port}", f"{HOST}:{replica.port},{HOST}:{server.port}")
    survivor = opened(both)
    assert survivor.groups() == ["web"]
    with refused(ReadOnlyStore, "replica"):
        opened(both.replace(str(server.port), str(replica.port)))
    replica.catch_up()
    server.kill()
    with refused(ReadOnlyStore, "replica"):
        survivor.groups()
    replica.promote()
    assert survivor.groups() == ["web"]
    assert survivor.tick().epoch > epoch


def test_a_server_becomes_read_only_while_we_are_connected(own_mariadb, opened) -> None:
    server: MariaDB = own_mariadb()
    store = opened(server.url(server.fresh_database()))
    server.ask("SET GLOBAL read_only = 1")
    with refused(ReadOnlyStore, "replica"):
        store.create_group("web")
    server.ask("SET GLOBAL read_only = 0")
    assert store.create_group("web")


def test_no_more_connections(own_mariadb, opened) -> None:
    server: MariaDB = own_mariadb(max_connections=10)
    name = server.fresh_database()
    taken = []
    with contextlib.suppress(pymysql.Error):
        while True:
            taken.append(pymysql.connect(host=HOST, port=server.port, user="headcount", password=PASSWORD))
    with refused(StoreUnavailable, "max_connections"):
        opened(server.url(name))
    for con in taken:
        con.close()


def test_tls(own_mariadb, opened) -> None:
    server: MariaDB = own_mariadb(ssl=True)
    url = server.url(server.fresh_database())
    for options in (
        {},
        {"ssl_mode": "required"},
        {"ssl_ca": str(server.certificate)},
        {"ssl_mode": "verify_ca", "ssl_ca": str(server.certificate)},
    ):
        store = opened(url, **options)
        with store.lines.watcher() as line:
            assert line.variables["Ssl_cipher"]
    with opened(url, ssl_mode="disabled").lines.watcher() as line:
        assert not line.variables["Ssl_cipher"]
    with refused(ConfigError, "ssl_ca"):
        opened(url, ssl_mode="verify_ca")  # nobody else vouches for it
    with refused(ConfigError, "ssl_mode", "verify_identity"):
        opened(url, ssl_mode="perhaps")
    with refused(ConfigError, "ssl_ca"):
        opened(url, ssl_ca="/nowhere.pem")


def test_tls_that_the_server_does_not_have(mariadb_server, opened) -> None:
    url = mariadb_server.url(mariadb_server.fresh_database())
    with refused(ConfigError, "ssl_mode"):
        opened(url, ssl_mode="required")
    assert opened(url, ssl_mode="preferred").groups() == []


def test_nobody_is_there(opened) -> None:
    with refused(StoreUnavailable, "refused"):
        opened(f"mysql://a@{HOST}:1/x")
    with refused(StoreUnavailable, "no-such-host.invalid"):
        opened("mysql://no-such-host.invalid/x")


def test_options_that_are_not_there(opened) -> None:
    with refused(ConfigError, "timeut", "timeout"):
        opened("mysql://a/x?timeut=3")
    with refused(ConfigError, "timeout", "0.1"):
        opened("mysql://a/x?timeout=0.01")
    with refused(ConfigError, "interval"):
        opened("mysql://a/x?interval=0")
    with refused(ConfigError, "poll"):
        opened("mysql://a/x?poll=0.01")
    with refused(ConfigError, "one name"):
        opened("mysql://a/x/y")


def test_another_interval_than_the_store_has(mariadb_server, opened) -> None:
    url = mariadb_server.url(mariadb_server.fresh_database())
    opened(url, interval=0.5)
    with refused(ConfigError, "0.5", "0.2"):
        opened(url, interval=0.2)


def test_a_server_with_strange_settings(own_mariadb, opened) -> None:
    """What its administrator says of sessions changes nothing here."""
    server: MariaDB = own_mariadb(
        character_set_server="latin1",
        collation_server="latin1_swedish_ci",
        init_connect="SET SESSION sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE', time_zone = '-11:45', "
        "autocommit = 0, completion_type = 1, tx_read_only = 1, tx_isolation = 'SERIALIZABLE', "
        "sql_safe_updates = 1, sql_select_limit = 1, lock_wait_timeout = 0, innodb_lock_wait_timeout = 0",
    )
    url = server.url(server.fresh_database())
    reason = "\\ ' \" % ; -- \n 💥 " * 500
    with headcount.connect(url, member_id="o'hara \\") as ann, headcount.connect(url, member_id="ben") as ben:
        group = ann.join_group("wéb; % 'x'", bytes(range(256)), create=True)
        other = ben.join_group("wéb; % 'x'")
        group.mark("ben", disabled=reason)
        view = other.view(fresh=True)
        assert view["o'hara \\"].capabilities == bytes(range(256))
        assert view["ben"].disabled == reason


def test_members_that_differ_in_case_accents_or_spaces_only(mariadb_server) -> None:
    url = mariadb_server.url(mariadb_server.fresh_database())
    names = ["ann", "Ann", "änn", "a\u0308nn", "ann ", "ａnn", "ß", "ss"]
    with headcount.connect(url, member_id="watcher") as watcher:
        group = watcher.join_group("web", create=True)
        others = [headcount.connect(url, member_id=name) for name in names]
        for other in others:
            other.join_group("web")
        assert set(group.view(fresh=True)) == {"watcher", *names}
        for other in others:
            other.close()


def test_who_is_stopped_in_the_middle_does_not_keep_its_locks(mariadb_server, opened) -> None:
    """The server ends its connection, and nothing of it is there."""
    url = mariadb_server.url(mariadb_server.fresh_database())
    stopped, other = opened(url, timeout=0.5), opened(url, timeout=5.0)
    other.create_group("web")
    other.open_session(Session(id="s", instance="i", host="h", process="p", ttl=10.0))
    enter = Enter(key="ann", member_id="ann", session="s", instance="i", host="h", ttl=10.0, seen=0)

    def stop() -> None:
        with stopped.lines.watcher() as line, line.writing() as sql:
            assert sql.all("group_locked", "web")
            began = time.monotonic()
            assert other.commit("web", [enter], by="s")
            assert time.monotonic() - began < 3.0

    with refused(StoreUnavailable, "closed"):
        stop()


def test_a_lock_that_is_not_let_go(mariadb_server, opened) -> None:
    """Whoever waits for it says so before its own time is over, and goes on with the same connection."""
    url = mariadb_server.url(mariadb_server.fresh_database())
    holder, other = opened(url), opened(url, timeout=1.0)
    with holder.lines.watcher() as line, line.writing() as sql:
        sql.all("lock_floor")
        began = time.monotonic()
        with refused(StoreUnavailable, "lock"):
            other.create_group("web")
        assert time.monotonic() - began < 2.0
    assert other.create_group("web")


def test_a_connection_that_was_cut_while_nothing_was_asked(mariadb_server, opened) -> None:
    """It is noticed before the next question, which is asked on a new one."""
    store = opened(mariadb_server.url(mariadb_server.fresh_database()))
    store.create_group("web")
    ((number,),) = mariadb_server.ask(
        "SELECT id FROM information_schema.processlist WHERE db = %s", _database(store)
    )
    mariadb_server.kill_connection(number)
    time.sleep(0.2)
    assert store.groups() == ["web"]


def _database(store: MySQLStore) -> str:
    return store.address.rpartition("/")[2]
