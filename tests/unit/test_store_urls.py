"""A store is found by its URL, which never shows its password, and what is wrong with one is said."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from headcount import errors, stores
from headcount.model import Enter, Session
from headcount.stores.memory import MemoryStore
from headcount.stores.sql.sqlite import SQLiteStore


def test_the_parts_of_a_url() -> None:
    url = stores.parse("etcd://ann:p%40ss@one:2379,[::1]:2380,three/a%20b?x=1&y=")
    assert (url.scheme, url.path, url.query) == ("etcd", "/a b", {"x": "1", "y": ""})
    assert (url.user, url.password) == ("ann", "p@ss")
    assert url.hosts == (("one", 2379), ("::1", 2380), ("three", None))


@pytest.mark.parametrize("shown", [repr, str, lambda url: url.safe], ids=["repr", "str", "safe"])
def test_a_password_is_never_shown(shown) -> None:
    text = shown(stores.parse("postgresql://ann:hunter2@db:5432/x?sslpassword=hunter2&application_name=n"))
    assert "hunter2" not in text
    assert "postgresql://ann:***@db:5432/x?sslpassword=***&application_name=n" in text


@pytest.mark.parametrize("url", ["ann:hunter2@db", "pg//ann:hunter2@db", "://ann:hunter2@db", ""])
def test_what_is_no_url_is_said_without_its_secrets(url: str) -> None:
    with pytest.raises(errors.ConfigError, match="looks like scheme://") as caught:
        stores.parse(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memry://", "did you mean 'memory'"),
        ("gopher://x", "memory, mysql, postgresql, sqlite"),
        ("redis://db", "no store for redis:// yet"),
        ("memory://?mod=ticks", "no option 'mod'; did you mean 'mode'"),
        ("memory://?interval=often", "'interval' of the memory store is a number, not 'often'"),
        ("memory://?mode=ticks&mode=sessions", "twice"),
        ("memory://?mode=clock", "ticks or sessions"),
        ("memory://a/b", "a name and nothing else"),
        ("memory://a:0", "not a port"),
        ("memory://a:b:c", "not host or host:port"),
        ("sqlite://file.db", "three slashes"),
        ("sqlite:///", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///x.db?poll=0", "from 0.02 to 1"),
        ("sqlite:///x.db?interval=0.01", "from 0.05"),
        ("sqlite:///x.db?poll=nan", "from 0.02 to 1"),
    ],
)
def test_a_mistake_in_a_url_is_told_with_the_remedy(url: str, says: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        stores.make(url)
    assert says in str(caught.value)


def test_options_have_types_and_go_before_the_url(tmp_path: Path) -> None:
    store = stores.make(f"sqlite:///{tmp_path}/h.db?interval=2&poll=0.5", options={"interval": 3})
    assert isinstance(store, SQLiteStore)
    assert (store._interval, store._poll) == (3.0, 0.5)
    with pytest.raises(errors.ConfigError, match="is a number, not True"):
        stores.make("sqlite:///h.db", options={"interval": True})


def test_a_path_is_spelt_as_for_sqlalchemy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stores.make("sqlite:///h.db").address == f"sqlite:///{tmp_path}/h.db"
    assert stores.make("sqlite:////srv/h%20c.db", namespace="n").address == "sqlite:////srv/h c.db.n"


def test_a_memory_store_is_shared_by_name_and_namespace() -> None:
    def store(name: str, namespace: str = "default") -> MemoryStore:
        made = stores.make(f"memory://{name}", namespace=namespace)
        assert isinstance(made, MemoryStore)
        return made

    assert store("town").server is store("town").server
    assert store("town").server is not store("city").server
    assert store("town").server is not store("town", "other").server
    with pytest.raises(errors.ConfigError, match="mode=ticks"):
        stores.make("memory://town?mode=sessions")


def test_a_store_is_made_without_being_touched(tmp_path: Path) -> None:
    stores.make(f"sqlite:///{tmp_path}/h.db")
    assert list(tmp_path.iterdir()) == []


class Foreign(MemoryStore):
    """Somebody else's store, as an entry point names it."""


def test_others_stores_come_in_by_their_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("foreign", f"{__name__}:Foreign", "headcount.stores")
    monkeypatch.setattr(EntryPoint, "load", lambda self: Foreign)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])
    assert isinstance(stores.make("foreign://"), Foreign)


def test_a_missing_client_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stores.BUILT_IN, "redis", "no_such_library.store:Store")
    with pytest.raises(errors.MissingDependency, match=r'no_such_library.*pip install "headcount\[redis\]"'):
        stores.make("redis://db")


def test_importing_the_stores_imports_no_store() -> None:
    """Nor asks which entry points are installed: both take longer than all the rest."""
    probe = (
        "import sys, headcount.stores; "
        "sys.exit(bool({'sqlite3', 'importlib.metadata', 'headcount.stores.memory'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_read_of_some_members_is_whole_whatever_the_reader_has_seen() -> None:
    """`only` asks for a snapshot; one without the older records would make them look forgotten."""
    store = stores.make("memory://whole")
    store.create_group("g")
    store.open_session(Session(id="s", instance="i", host="h", process="p", ttl=3))
    for member in ("a", "b"):
        enter = Enter(key=member, member_id=member, seen=0, session="s", instance="i", host="h", ttl=3)
        store.commit("g", [enter], by="s")
    newest = store.read("g").revision
    assert [row.key for row in store.read("g", newest, only=["a"]).rows] == ["a"]
