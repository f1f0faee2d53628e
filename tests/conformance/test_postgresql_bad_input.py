"""PostgreSQL: what people get wrong has an error each, in their terms, and is not waited for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
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
from headcount.model import Session
from headcount.stores import make
from headcount.stores.base import Store
from headcount.stores.sql import postgresql
from headcount.stores.sql.statements import Migration
from tests.servers.base import HOST, PASSWORD
from tests.servers.postgresql import PostgreSQL

GRANTS = (
    "GRANT USAGE ON SCHEMA headcount TO {0}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA headcount TO {0}",
    "GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA headcount TO {0}",
)
"""What docs/stores/postgresql.md lists for users who may not make tables."""

PUT_RIGHT = ("SELECT setval('headcount.word', 4096)", "TRUNCATE headcount.beats")
"""What it says for a clock without a number."""


@pytest.fixture
def opened() -> Iterator[Callable[..., Store]]:
    made: list[Store] = []

    def open_(url: str, namespace: str = "default", **options: str | float | bool) -> Store:
        store = make(url, namespace=namespace, options=options)
        made.append(store)
        store.open()
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


def test_who_is_not_let_in(own_postgresql, opened) -> None:
    server: PostgreSQL = own_postgresql(authentication="scram-sha-256")
    name = server.fresh_database()
    with refused(AccessDenied, "password authentication failed"):
        opened(server.url(name, password="another"))
    with refused(AccessDenied, "password"):
        opened(f"postgresql://headcount@{HOST}:{server.port}/{name}")
    with refused(AccessDenied, "nobody"):
        opened(server.url(name, user="nobody"))
    with refused(ConfigError, "nowhere", "createdb"):
        opened(server.url("nowhere"))
    assert opened(server.url(name)).groups() == []


def test_a_password_is_read_from_a_file_each_time(own_postgresql, opened, tmp_path) -> None:
    server: PostgreSQL = own_postgresql(authentication="scram-sha-256")
    url = f"postgresql://headcount@{HOST}:{server.port}/{server.fresh_database()}"
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


def test_who_may_not_make_tables(postgresql_server, opened) -> None:
    """It is told whom to ask; and with the rights of the documentation, which do not include making them, it
    is a member like everybody."""
    server: PostgreSQL = postgresql_server
    name = server.fresh_database()
    with server.admin(name) as admin:
        admin.execute("DROP ROLE IF EXISTS poor")
        admin.execute("CREATE ROLE poor LOGIN")
        admin.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    poor = server.url(name, user="poor")
    with refused(AccessDenied, "store init", "docs/stores/postgresql.md"):
        opened(poor)
    opened(server.url(name))
    with refused(AccessDenied, "store init"):
        opened(poor)
    with server.admin(name) as admin:
        for grant in GRANTS:
            admin.execute(grant.format("poor"))
    with headcount.connect(poor, member_id="ann") as ann:
        assert "ann" in ann.join_group("web", create=True).view()
    server.drop_database(name)
    with server.admin() as admin:
        admin.execute("DROP ROLE poor")


def test_who_may_read_only(postgresql_server, opened) -> None:
    server: PostgreSQL = postgresql_server
    name = server.fresh_database()
    opened(server.url(name)).create_group("web")
    with server.admin(name) as admin:
        admin.execute("DROP ROLE IF EXISTS reader")
        admin.execute("CREATE ROLE reader LOGIN")
        admin.execute("GRANT USAGE ON SCHEMA headcount TO reader")
        admin.execute("GRANT SELECT ON ALL TABLES IN SCHEMA headcount TO reader")
    with refused(AccessDenied, "permission denied for sequence word", "docs/stores/postgresql.md"):
        opened(server.url(name, user="reader"))
    with server.admin(name) as admin:
        admin.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA headcount TO reader")
    reader = opened(server.url(name, user="reader"))
    assert reader.groups() == ["web"]
    with refused(AccessDenied, "permission denied"):
        reader.create_group("other")
    reader.close()
    server.drop_database(name)
    with server.admin() as admin:
        admin.execute("DROP ROLE reader")


@pytest.mark.parametrize("namespace", ["default", "second-1"])
def test_the_printed_schema_is_all_that_is_needed(postgresql_server, opened, namespace) -> None:
    """An administrator runs what is printed, even with another interval; nobody else may make anything."""
    server: PostgreSQL = postgresql_server
    name = server.fresh_database()
    store = make(server.url(name), namespace=namespace, options={"interval": 0.5})
    assert isinstance(store, postgresql.PostgreSQLStore)
    with server.admin(name) as admin:
        admin.execute(store.schema_sql())
        admin.execute("CREATE ROLE printed LOGIN")
        for grant in GRANTS:
            schema = "headcount" if namespace == "default" else f'"headcount_{namespace}"'
            admin.execute(grant.format("printed").replace("SCHEMA headcount", f"SCHEMA {schema}"))
    try:
        store = opened(server.url(name, user="printed"), namespace)
        assert store.create_group("web")
        tick = store.tick()
        assert (tick.interval, tick.epoch > 0) == (0.5, True)
    finally:
        store.close()
        server.drop_database(name)
        with server.admin() as admin:
            admin.execute("DROP ROLE printed")


def test_a_clock_without_a_number(postgresql_server, opened) -> None:
    """The tables were brought here, but not the sequence. Nobody joins, and who is there is told that its
    beats are not taken. What the documentation says puts it right."""
    server: PostgreSQL = postgresql_server
    name = server.fresh_database()
    old = opened(server.url(name))
    for session in ("ann", "bob"):
        old.open_session(Session(id=session, instance=session, host="h", process=session, ttl=10.0))
    before = old.tick()
    with server.admin(name) as admin:
        admin.execute("ALTER SEQUENCE headcount.word RESTART")
        with refused(SchemaMismatch, "without a number", "docs/stores/postgresql.md"):
            opened(server.url(name))
        for sessions in (["ann"], ["ann", "bob"]):
            with pytest.raises(SchemaMismatch, match="null value"):
                old.beat(sessions)
        for statement in PUT_RIGHT:
            admin.execute(statement)
    beat = old.beat(["ann", "bob"])
    assert beat.notices == {"ann": 0, "bob": 0}
    assert beat.tick is not None
    assert (beat.tick.epoch > before.epoch, beat.tick.number) == (True, 1)
    assert opened(server.url(name)).tick() == beat.tick


def test_namespaces_do_not_see_each_other(postgresql_server, opened) -> None:
    url = postgresql_server.url(postgresql_server.fresh_database())
    assert opened(url, "one").create_group("web")
    assert opened(url, "two").groups() == []
    with refused(ConfigError, "namespace"):
        opened(url, 'a"; DROP')


def test_a_newer_schema(postgresql_server, opened) -> None:
    """A release works with the schema of the next one, unless that says that it cannot."""
    server: PostgreSQL = postgresql_server
    name = server.fresh_database()
    opened(server.url(name)).create_group("web")
    with server.admin(name) as admin:
        admin.execute("UPDATE headcount.meta SET version = version + 1")
        assert opened(server.url(name)).groups() == ["web"]
        admin.execute("UPDATE headcount.meta SET version = 99, needs = 98")
    with refused(SchemaMismatch, "99", "98", "upgrade"):
        opened(server.url(name))


def test_a_rolling_upgrade(postgresql_server, opened) -> None:
    """A process of the next release brings the schema up to date while one of this release works; both go on.
    Twenty that come at once do it once."""
    url = postgresql_server.url(postgresql_server.fresh_database())
    old = opened(url)
    assert old.create_group("web")
    for _ in range(5):  # until its statements are prepared
        old.read("web")
    more = Migration(2, "more", "ALTER TABLE hc.rows ADD COLUMN note text NOT NULL DEFAULT '';")
    news = [make(url) for _ in range(20)]
    faults: list[HeadcountError] = []

    def open_(store: Store) -> None:
        assert isinstance(store, postgresql.PostgreSQLStore)
        store._migrations = [*store._migrations, more]
        try:
            store.open()
        except HeadcountError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=open_, args=[store]) for store in news]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
    for number, store in enumerate([old, *news]):
        assert store.create_group(f"web-{number}")
        store.close()
    assert len(opened(url).groups()) == 22


def test_twenty_make_it_at_once(postgresql_server) -> None:
    url = postgresql_server.url(postgresql_server.fresh_database())
    stores = [make(url) for _ in range(20)]
    made: list[bool] = []

    def work(store: Store) -> None:
        store.open()
        made.append(store.create_group("web"))
        store.close()

    threads = [threading.Thread(target=work, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(made) == [False] * 19 + [True]


def test_a_server_that_is_too_old(postgresql_server, opened, monkeypatch) -> None:
    monkeypatch.setattr(postgresql, "OLDEST", 990_000)
    with refused(NotPromised, "PostgreSQL 1"):
        opened(postgresql_server.url(postgresql_server.fresh_database()))


def test_a_standby(own_postgresql, opened) -> None:
    """Alone it is refused. With the primary in the same URL, the primary is found."""
    server: PostgreSQL = own_postgresql()
    name = server.fresh_database()
    opened(server.url(name)).create_group("web")
    standby = server.standby()
    standby.catch_up()
    with refused(ReadOnlyStore, "standby", "host1,host2"):
        opened(standby.url(name))

    def both(first: int, second: int) -> str:
        return f"postgresql://headcount@{HOST}:{first},{HOST}:{second}/{name}"

    assert opened(both(standby.port, server.port)).groups() == ["web"]
    with refused(ReadOnlyStore, "standby"):
        opened(both(standby.port, standby.port))
    server.kill()
    with refused(StoreUnavailable, "refused"):
        opened(both(standby.port, server.port))


def test_no_more_connections(own_postgresql, opened) -> None:
    server: PostgreSQL = own_postgresql(max_connections=6, superuser_reserved_connections=1)
    name = server.fresh_database()
    taken = []
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(host=HOST, port=server.port, user="headcount", dbname=name))
    with refused(StoreUnavailable, "max_connections"):
        opened(server.url(name))
    for con in taken:
        con.close()


def test_tls(own_postgresql, opened) -> None:
    server: PostgreSQL = own_postgresql(ssl=True)
    url = server.url(server.fresh_database())
    verified = opened(url, sslmode="verify-ca", sslrootcert=str(server.certificate))
    assert verified.create_group("web")
    found = server.ask(
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'headcount'"
    )
    assert found == [(True,)]
    with refused(ConfigError, "sslmode"):
        opened(url, sslmode="perhaps")


def test_tls_that_the_server_does_not_have(postgresql_server, opened) -> None:
    with refused(ConfigError, "SSL"):
        opened(postgresql_server.url("postgres"), sslmode="require")


def test_nobody_is_there(opened) -> None:
    with refused(StoreUnavailable, "refused"):
        opened(f"postgresql://a@{HOST}:1/x")
    with refused(StoreUnavailable, "no-such-host.invalid"):
        opened("postgresql://no-such-host.invalid/x")


def test_options_that_are_not_there(opened) -> None:
    with refused(ConfigError, "timeut", "timeout"):
        opened("postgresql://a/x?timeut=3")
    with refused(ConfigError, "timeout", "0.1"):
        opened("postgresql://a/x?timeout=0.01")
    with refused(ConfigError, "interval"):
        opened("postgresql://a/x?interval=0")
    with refused(ConfigError, "one name"):
        opened("postgresql://a/x/y")


def test_another_interval_than_the_store_has(postgresql_server, opened) -> None:
    url = postgresql_server.url(postgresql_server.fresh_database())
    opened(url, interval=0.5)
    with refused(ConfigError, "0.5", "0.2"):
        opened(url, interval=0.2)


def test_members_that_differ_in_case_accents_or_spaces_only(postgresql_server, opened) -> None:
    url = postgresql_server.url(postgresql_server.fresh_database())
    names = ["ann", "Ann", "änn", "a\u0308nn", "ann ", "ａnn"]
    with headcount.connect(url, member_id="watcher") as watcher:
        group = watcher.join_group("web", create=True)
        others = [headcount.connect(url, member_id=name) for name in names]
        for other in others:
            other.join_group("web")
        assert set(group.view(fresh=True)) == {"watcher", *names}
        for other in others:
            other.close()
