"""MySQL and MariaDB: what people get wrong here alone (see `test_bad_input`)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import headcount
from headcount.errors import AccessDenied, ConfigError, ReadOnlyStore, StoreUnavailable
from headcount.model import Enter, Session
from headcount.stores import make
from headcount.stores.sql.mysql import MySQLStore
from tests.conformance.sites import MariaDBSite, Opened, refused, statements
from tests.servers.base import HOST
from tests.servers.mariadb import MariaDB


@pytest.fixture
def site(mariadb_server: MariaDB) -> Iterator[MariaDBSite]:
    made = MariaDBSite(mariadb_server)
    yield made
    made.close()


def test_who_may_write_to_tables_that_are_not_there(site: MariaDBSite, opened: Opened) -> None:
    """Here the rights may be there before the tables are; it is told whom to ask for these."""
    user = site.newcomer()
    site.grant(user)
    with refused(AccessDenied, "store init", site.page):
        opened(site.url_of(user))


@pytest.mark.parametrize("after", range(0, 12, 3))
def test_a_schema_that_was_left_half_made_is_completed(site: MariaDBSite, opened: Opened, after: int) -> None:
    """DDL commits by itself, and whoever made the tables may die after any of them."""
    store = make(site.url)
    assert isinstance(store, MySQLStore)
    made = [one for one in statements(store.schema_sql()) if "CREATE TABLE" in one]
    site.run(";".join(made[: after or len(made)]))
    assert opened(site.url).create_group("web")


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
