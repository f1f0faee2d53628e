"""PostgreSQL: what people get wrong here alone (see `test_bad_input`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from headcount.errors import (
    AccessDenied,
    ConfigError,
    HeadcountError,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.model import Session
from headcount.stores import make
from headcount.stores.base import Store
from headcount.stores.sql import postgresql
from headcount.stores.sql.statements import Migration
from tests.conformance.sites import Opened, PostgreSQLSite, refused
from tests.servers.base import HOST
from tests.servers.postgresql import PostgreSQL

PUT_RIGHT = ("SELECT setval('headcount.word', 4096)", "TRUNCATE headcount.beats")
"""What docs/stores/postgresql.md says for a clock without a number."""


@pytest.fixture
def site(postgresql_server: PostgreSQL) -> Iterator[PostgreSQLSite]:
    made = PostgreSQLSite(postgresql_server)
    yield made
    made.close()


def test_who_may_read_the_tables_but_no_sequence(site: PostgreSQLSite, opened: Opened) -> None:
    """There the number of the clock is."""
    opened(site.url)
    user = site.newcomer()
    site.grant_reading(user)
    site.run(f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA headcount FROM {user}")
    with refused(AccessDenied, "permission denied for sequence word", site.page):
        opened(site.url_of(user))


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


def test_a_standby(own_postgresql, opened) -> None:
    """Alone it is refused. With the primary in the same URL, the primary is found."""
    server: PostgreSQL = own_postgresql()
    name = server.fresh_database()
    opened(server.url(name)).create_group("web")
    standby = server.standby()
    standby.catch_up()
    for pooled in (False, True):
        with refused(ReadOnlyStore, "standby", "host1,host2"):
            opened(standby.url(name), pooled=pooled)

    def both(first: int, second: int) -> str:
        return f"postgresql://headcount@{HOST}:{first},{HOST}:{second}/{name}"

    assert opened(both(standby.port, server.port)).groups() == ["web"]
    with refused(ReadOnlyStore, "standby"):
        opened(both(standby.port, standby.port))
    server.kill()
    with refused(StoreUnavailable, "refused"):
        opened(both(standby.port, server.port))


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
