"""What people get wrong has an error each, in their terms, and is not waited for: on both servers alike. What
only one of them has is in `test_postgresql_bad_input` and `test_mysql_bad_input`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pymysql
import pytest

import headcount
from headcount.errors import AccessDenied, ConfigError, NotPromised, SchemaMismatch, StoreUnavailable
from headcount.stores import make
from headcount.stores.sql import mysql, postgresql
from tests.conformance.sites import MariaDBSite, Opened, PostgreSQLSite, Site, refused
from tests.servers.base import HOST, PASSWORD

CROWD = 20


@pytest.fixture(params=[PostgreSQLSite, MariaDBSite], ids=["postgresql", "mysql"])
def kind(request: pytest.FixtureRequest) -> type[Site]:
    chosen: type[Site] = request.param
    return chosen


@pytest.fixture
def site(kind: type[Site], request: pytest.FixtureRequest) -> Iterator[Site]:
    """On the session's server."""
    made = kind(request.getfixturevalue(f"{kind.program}_server"))
    yield made
    made.close()


@pytest.fixture
def own_site(kind: type[Site], request: pytest.FixtureRequest) -> Callable[..., Site]:
    """A function that starts a server of this test's own, with these settings."""
    start = request.getfixturevalue(f"own_{kind.program}")
    return lambda **settings: kind(start(**settings))


# ── who may do what ──


def test_who_is_not_let_in(kind: type[Site], own_site: Callable[..., Site], opened: Opened) -> None:
    site = own_site(**kind.guarded)
    url = site.server.url
    for wrong in ("another", "pässwörd ☃"):
        with refused(AccessDenied, "password"):
            opened(url(site.database, password=wrong))
    with refused(AccessDenied, "password"):
        opened(site.without_password)
    with refused(AccessDenied, "nobody"):
        opened(url(site.database, user="nobody"))
    with refused(ConfigError, "headcount_test_nowhere", kind.makes_a_database):
        opened(url("headcount_test_nowhere"))
    assert opened(site.url).groups() == []


def test_a_password_is_read_from_a_file_each_time(
    kind: type[Site], own_site: Callable[..., Site], opened: Opened, tmp_path: Path
) -> None:
    site = own_site(**kind.guarded)
    words = tmp_path / "words"
    with refused(ConfigError, "password_file", "words"):
        opened(site.without_password, password_file=str(words))
    words.write_text("another\n")
    store = make(site.without_password, options={"password_file": str(words)})
    with refused(AccessDenied):
        store.open()
    words.write_text(f"{PASSWORD}\n")
    store.open()
    store.close()
    with refused(ConfigError, "one of them"):
        opened(site.url, password_file=str(words))


def test_who_may_not_make_tables(site: Site, opened: Opened) -> None:
    """It is told whom to ask; and with the rights of the documentation, which do not include making them, it
    is a member like everybody."""
    user = site.newcomer()
    for _ in ("before there are any", "when they are there"):
        with refused(AccessDenied, "store init", site.page):
            opened(site.url_of(user))
        opened(site.url)
    site.grant(user)
    with headcount.connect(site.url_of(user), member_id="ann") as ann:
        assert "ann" in ann.join_group("web", create=True).view()


def test_who_may_read_only(site: Site, opened: Opened) -> None:
    opened(site.url).create_group("web")
    user = site.newcomer()
    site.grant_reading(user)
    reader = opened(site.url_of(user))
    assert reader.groups() == ["web"]
    with refused(AccessDenied, site.refuses_a_reader):
        reader.create_group("other")


# ── the schema ──


@pytest.mark.parametrize("namespace", ["default", "second-1"])
def test_the_printed_schema_is_all_that_is_needed(site: Site, opened: Opened, namespace: str) -> None:
    """An administrator runs what is printed, even with another interval; nobody else may make anything."""
    store = make(site.url, namespace=namespace, options={"interval": 0.5})
    assert isinstance(store, postgresql.PostgreSQLStore | mysql.MySQLStore)
    site.run(store.schema_sql())
    user = site.newcomer()
    site.grant(user, namespace)
    printed = opened(site.url_of(user), namespace)
    assert printed.create_group("web")
    tick = printed.tick()
    assert (tick.interval, tick.epoch > 0) == (0.5, True)


def test_many_make_it_at_once(site: Site) -> None:
    """One of them does, and the others find it; the same goes for what they make there."""

    def make_it(_: int) -> tuple[int, bool]:
        store = make(site.url)
        assert isinstance(store, postgresql.PostgreSQLStore | mysql.MySQLStore)
        store.open()
        made = store.tick().epoch, store.create_group("web")
        store.close()
        return made

    with ThreadPoolExecutor(CROWD) as pool:
        epochs, groups = zip(*pool.map(make_it, range(CROWD)), strict=True)
    assert len(set(epochs)) == 1
    assert sorted(groups) == [False] * (CROWD - 1) + [True]


def test_a_newer_schema(site: Site, opened: Opened) -> None:
    """A release works with the schema of the next one, unless that says that it cannot."""
    opened(site.url).create_group("web")
    site.change_meta("version = version + 1")
    assert opened(site.url).groups() == ["web"]
    site.change_meta("version = 99, needs = 98")
    with refused(SchemaMismatch, "99", "98", "upgrade"):
        opened(site.url)


def test_namespaces_do_not_see_each_other(site: Site, opened: Opened) -> None:
    assert opened(site.url, "one").create_group("web")
    assert opened(site.url, "two").groups() == []
    for bad in site.bad_namespaces:
        with refused(ConfigError, "namespace"):
            opened(site.url, bad)


# ── the server ──


def test_a_server_that_is_too_old(site: Site, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql, "OLDEST", 990_000)
    monkeypatch.setitem(mysql.OLDEST, "MariaDB", (99, 1, 0))
    with refused(NotPromised, *site.too_old):
        opened(site.url)


def test_no_more_connections(kind: type[Site], own_site: Callable[..., Site], opened: Opened) -> None:
    site = own_site(**kind.small)
    taken = []
    with contextlib.suppress(psycopg.OperationalError, pymysql.OperationalError):
        while True:
            taken.append(site.take_a_connection())
    with refused(StoreUnavailable, "max_connections"):
        opened(site.url)
    for con in taken:
        con.close()


def test_nobody_is_there(kind: type[Site], opened: Opened) -> None:
    with refused(StoreUnavailable, "refused"):
        opened(f"{kind.scheme}://a@{HOST}:1/x")
    with refused(StoreUnavailable, "no-such-host.invalid"):
        opened(f"{kind.scheme}://no-such-host.invalid/x")


# ── options and names ──


def test_options_that_are_not_there(kind: type[Site], opened: Opened) -> None:
    url = f"{kind.scheme}://a/x"
    with refused(ConfigError, "timeut", "timeout"):
        opened(f"{url}?timeut=3")
    with refused(ConfigError, "timeout", "0.1"):
        opened(f"{url}?timeout=0.01")
    with refused(ConfigError, "interval", "0.05"):
        opened(f"{url}?interval=0")
    with refused(ConfigError, "poll", "0.05"):
        opened(f"{url}?poll=0.01")
    with refused(ConfigError, "one name"):
        opened(f"{url}/y")


def test_another_interval_than_the_store_has(site: Site, opened: Opened) -> None:
    opened(site.url, interval=0.5)
    with refused(ConfigError, "0.5", "0.2"):
        opened(site.url, interval=0.2)


def test_members_that_differ_in_case_accents_or_spaces_only(site: Site) -> None:
    names = ["ann", "Ann", "änn", "a\u0308nn", "ann ", "ａnn", "ß", "ss"]
    with headcount.connect(site.url, member_id="watcher") as watcher:
        group = watcher.join_group("web", create=True)
        others = [headcount.connect(site.url, member_id=name) for name in names]
        for other in others:
            other.join_group("web")
        assert set(group.view(fresh=True)) == {"watcher", *names}
        for other in others:
            other.close()
