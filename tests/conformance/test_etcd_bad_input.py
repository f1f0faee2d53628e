"""etcd: what people get wrong has an error each, in their terms, and is not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import headcount
from headcount.errors import (
    AccessDenied,
    CapabilitiesTooLarge,
    ConfigError,
    GroupNotFound,
    HeadcountError,
    NotPromised,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.model import Committed, Enter, Remark, Session, Wish
from headcount.stores import make
from headcount.stores.etcd import store as etcd
from headcount.stores.etcd.store import EtcdStore
from tests.servers.base import HOST, PASSWORD, free_port
from tests.servers.etcd import Cluster, Etcd


@pytest.fixture
def opened() -> Iterator[Callable[..., EtcdStore]]:
    made: list[EtcdStore] = []

    def open_(url: str, namespace: str = "default", **options: str | float | bool) -> EtcdStore:
        store = make(url, namespace=namespace, options=options)
        assert isinstance(store, EtcdStore)
        made.append(store)
        store.open()
        return store

    yield open_
    for store in made:
        store.close()


@contextmanager
def refused(kind: type[HeadcountError], *words: str) -> Iterator[None]:
    """This error, which says these things and no password; soon."""
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        yield
    assert [word for word in words if word not in str(caught.value)] == []
    assert PASSWORD not in str(caught.value)
    assert time.monotonic() - started < 10


def entering(name: str, session: str = "", **more: object) -> Enter:
    about = {"instance": name, "host": "h", "ttl": 10.0, "seen": 0, **more}
    return Enter(key=name, member_id=name, session=session, **about)  # type: ignore[arg-type]


def session(store: EtcdStore, name: str) -> str:
    store.open_session(Session(id=name, instance=name, host="h", process=name, ttl=10.0))
    return name


def the_root(prefix: str, namespace: str = "default") -> str:
    return f"/{prefix}/{namespace}/"


# ── who is let in ──


def test_who_is_not_let_in(own_etcd, opened) -> None:
    server: Etcd = own_etcd(authentication=True)
    with refused(AccessDenied, "invalid user ID or password"):
        opened(server.url("x", password="another"))
    with refused(AccessDenied, "invalid user ID or password"):
        opened(server.url("x", user="nobody"))
    with refused(AccessDenied, "user name is empty"):
        opened(f"etcd://{HOST}:{server.port}/x")
    assert opened(server.url("x")).groups() == []


def test_a_password_is_read_from_a_file(own_etcd, opened, tmp_path) -> None:
    server: Etcd = own_etcd(authentication=True)
    url = f"etcd://root@{HOST}:{server.port}/x"
    words = tmp_path / "words"
    with refused(ConfigError, "password_file", "words"):
        opened(url, password_file=str(words))
    words.write_text("another\n")
    with refused(AccessDenied):
        opened(url, password_file=str(words))
    words.write_text(f"{PASSWORD}\n")
    assert opened(url, password_file=str(words)).groups() == []


def test_a_token_that_is_over_is_asked_for_anew(own_etcd, opened) -> None:
    """etcd forgets its tokens when it is restarted, and after a while."""
    server: Etcd = own_etcd(authentication=True)
    store = opened(server.url("x"))
    bell = store.doorbell()
    server.restart()
    assert store.create_group("web")
    with pytest.raises(StoreUnavailable):
        bell.wait(1.0)
    assert bell.wait(0).groups is None
    store.create_group("later")
    assert bell.wait(2.0).groups == {"later": None}
    bell.close()


def test_who_may_do_what_is_listed(own_etcd, opened) -> None:
    """With reading and writing below the prefix, one is a member like everybody."""
    server: Etcd = own_etcd(authentication=True)
    server.create_user("app", "/x/")
    with headcount.connect(server.url("x", user="app"), member_id="ann", ttl=3.0) as ann:
        assert "ann" in ann.join_group("web", create=True).view()
    with refused(AccessDenied, "permission denied", "docs/stores/etcd.md", "/y/"):
        opened(server.url("y", user="app"))


def test_who_may_only_read(own_etcd, opened) -> None:
    server: Etcd = own_etcd(authentication=True)
    opened(server.url("x")).create_group("web")
    server.create_user("eye", "/x/", "READ")
    reader = opened(server.url("x", user="eye"))
    assert reader.groups() == ["web"]
    assert reader.read("web").rows == ()
    with refused(AccessDenied, "permission denied"):
        reader.create_group("other")
    with refused(AccessDenied, "permission denied"):
        reader.commit("web", [Remark(member_id="ann", seen=0, disabled="")])


def test_users_where_there_are_none(etcd_server, opened) -> None:
    with refused(ConfigError, "knows no users"):
        opened(f"etcd://ann:secret@{HOST}:{etcd_server.port}/x")


# ── TLS ──


def test_tls_and_none_do_not_fit(own_etcd, etcd_server, opened, tmp_path) -> None:
    server: Etcd = own_etcd(tls=True)
    plain = f"{HOST}:{etcd_server.port}"
    with refused(ConfigError, "speaks TLS", "?ca="):
        opened(f"etcd://{HOST}:{server.port}/x", timeout=1.0)
    with refused(ConfigError, "does not speak TLS"):
        opened(f"etcd://{plain}/x?tls=true", timeout=1.0)
    with refused(AccessDenied, "not trusted", "?ca="):
        opened(f"etcd://{HOST}:{server.port}/x?tls=true", timeout=1.0)
    assert opened(server.url("x")).create_group("web")


def test_who_has_no_certificate(own_etcd, opened) -> None:
    server: Etcd = own_etcd(tls=True, client_certificates=True)
    with refused(StoreUnavailable):
        opened(server.url("x"), timeout=1.0)
    both = {"cert": str(server.certificate), "key": str(server.key)}
    assert opened(server.url("x"), **both).create_group("web")


def test_files_and_options_that_make_no_sense(tmp_path) -> None:
    nothing = tmp_path / "nothing"
    with refused(ConfigError, "cannot be read"):
        make(f"etcd://h/x?ca={nothing}")
    with refused(ConfigError, "go together"):
        make(f"etcd://h/x?cert={__file__}")
    with refused(ConfigError, "tls=false"):
        make(f"etcd://h/x?tls=false&ca={__file__}")
    with refused(ConfigError, "timeout"):
        make("etcd://h/x?timeout=0")
    with refused(ConfigError, "nobody whose it is"):
        make("etcd://h/x?password_file=x")
    with refused(ConfigError, "no option"):
        make("etcd://h/x?interval=1")
    with refused(ConfigError, "cannot be part of a key"):
        make("etcd://h/a%0Ab")


# ── what is found there ──


def test_nobody_is_there(opened) -> None:
    with refused(StoreUnavailable, HOST):
        opened(f"etcd://{HOST}:{free_port()}/x", timeout=0.5)


def test_a_prefix_of_something_else(etcd_server, opened) -> None:
    """Who uses what is there already, is told before anything is written among it."""
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    server.put(f"{the_root(prefix)}pods/web", "theirs")
    with refused(ConfigError, "something else", "pods/web"):
        opened(server.url(prefix))
    assert list(server.keys(f"/{prefix}/")) == [f"{the_root(prefix)}pods/web"]
    server.drop_database(prefix)


def test_an_about_that_is_none(etcd_server, opened) -> None:
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    server.put(f"{the_root(prefix)}about", "theirs")
    with refused(SchemaMismatch, "not Headcount's", "another path"):
        opened(server.url(prefix))
    server.put(f"{the_root(prefix)}about", '{"format": 2, "history": "x", "epoch": 1}')
    with refused(SchemaMismatch, "format 2", "format 1"):
        opened(server.url(prefix))
    server.drop_database(prefix)


def test_namespaces_and_prefixes_do_not_see_each_other(etcd_server, opened) -> None:
    """However alike they are, and however odd."""
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    places = [(prefix, "default"), (prefix, "other"), (prefix, "a/b"), (f"{prefix}x", "default")]
    places += [(f"{prefix}/ö %2F'\"*", "default"), (f"{prefix}/default", "a")]
    stores = [opened(server.url(path), namespace) for path, namespace in places]
    for n, store in enumerate(stores):
        store.create_group(f"group {n}")
    assert [store.groups() for store in stores] == [[f"group {n}"] for n in range(len(stores))]
    server.drop_database(prefix)
    server.drop_database(f"{prefix}x")


def test_what_cannot_be_read_is_left_out_and_told_once(etcd_server, opened) -> None:
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    store = opened(server.url(prefix))
    told: list[str] = []
    store.on_corrupt = told.append
    store.create_group("web")
    store.commit("web", [entering("ann", session(store, "ann"))], by="ann")
    server.put(f"{the_root(prefix)}record/web/row/bob", "theirs")
    server.put(f"{the_root(prefix)}record/web/mark/cid", '{"member_id": "dan", "revision": 1}')
    server.put(f"{the_root(prefix)}record/web/other", "theirs")
    server.put(f"{the_root(prefix)}told/web/1", "theirs")
    for _ in range(2):
        assert [row.key for row in store.read("web").rows] == ["ann"]
        assert store.read("web").marks == ()
        assert [entry.what for entry in store.history("web")] == ["joined"]
    assert len(told) == 3
    assert any("record/web/row/bob" in one for one in told)
    done = store.commit("web", [entering("bob", session(store, "bob"))], by="bob")
    assert isinstance(done, Committed)
    assert len(store.read("web").rows) == 2
    server.drop_database(prefix)


def test_keys_that_are_removed_by_hand(etcd_server, opened) -> None:
    """A row is gone; a presence is a death, of which its owner gets a notice; a session is lost; a group is
    none any more, and nothing of it comes back with the next of its name."""
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    store, root = opened(server.url(prefix)), the_root(prefix)
    store.create_group("web")
    for name in ("ann", "bob", "cid"):
        store.commit("web", [entering(name, session(store, name))], by=name)
    assert server.delete(f"{root}record/web/row/ann") == 1
    assert server.delete(f"{root}here/web/bob") == 1
    assert {row.key: row.state.value for row in store.read("web").rows} == {"bob": "down", "cid": "up"}
    assert server.delete(f"{root}life/cid") == 1
    assert store.beat(["bob", "cid"]).notices == {"bob": 1, "cid": None}
    revision = store.read("web").revision
    assert server.delete(f"{root}group/web") == 1
    with refused(GroupNotFound, "web"):
        store.read("web")
    assert store.create_group("web")
    assert store.read("web").rows == ()
    assert store.read("web").revision != revision
    assert server.delete(f"{root}about") == 1
    with refused(StoreUnavailable, "has lost the key"):
        store.create_group("other")
    assert opened(server.url(prefix)).groups() == ["web"]
    assert store.create_group("other")
    server.drop_database(prefix)


def test_a_head_that_is_removed_takes_no_token_with_it(etcd_server, opened) -> None:
    """The next group of its name begins above what the history knows; and a new epoch, above everything."""
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    store = opened(server.url(prefix))
    store.create_group("web")
    for name in ("ann", "bob"):
        store.commit("web", [entering(name, session(store, name))], by=name)
    seen = [store.read("web").revision]
    server.delete(f"{the_root(prefix)}group/web")
    store.create_group("web")
    seen.append(store.read("web").revision)
    assert store.read("web", seen[0]).rows == ()
    epoch = store.new_epoch()
    store.create_group("other")
    seen.append(store.read("other").revision)
    assert seen == sorted(set(seen))
    assert epoch == seen[-1] >> 32 > seen[1] >> 32
    server.drop_database(prefix)


def test_a_server_too_old(etcd_server, opened, monkeypatch) -> None:
    monkeypatch.setattr(etcd, "OLDEST", (99, 0))
    with refused(NotPromised, "etcd 3."):
        opened(etcd_server.url(etcd_server.fresh_database()))


# ── how much ──


def test_a_crowd_with_large_capabilities(etcd_server, opened) -> None:
    """Together they are more than one request may be; they go in several."""
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    store = opened(server.url(prefix))
    store.create_group("web")
    large = b"x" * etcd.PROMISES.max_capabilities
    wishes = []
    for n in range(25):
        name = session(store, f"m{n}")
        wishes.append(Wish([entering(name, name, capabilities=large)], by=name))
    outcomes = store.commit_together("web", wishes)
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    assert len(store.read("web").rows) == 25
    server.drop_database(prefix)


def test_two_hundred_at_once(etcd_server, opened) -> None:
    """More than etcd takes in one transaction."""
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    store = opened(server.url(prefix))
    store.create_group("web")
    names = [f"m{n}" for n in range(200)]
    store.open_sessions([Session(id=n, instance=n, host="h", process="p", ttl=10.0) for n in names])
    outcomes = store.commit_together("web", [Wish([entering(name, name)], by=name) for name in names])
    assert all(isinstance(outcome, Committed) for outcome in outcomes)
    assert {row.key for row in store.read("web").rows} == set(names)
    for name in names:
        store.close_session(name)
    assert {row.state.value for row in store.read("web").rows} == {"down"}
    server.drop_database(prefix)


def test_more_than_a_request_may_be(etcd_server, opened) -> None:
    server: Etcd = etcd_server
    prefix = server.fresh_database()
    store = opened(server.url(prefix))
    store.create_group("web")
    name = session(store, "ann")
    with refused(CapabilitiesTooLarge, "--max-request-bytes"):
        store.commit("web", [entering("ann", name, capabilities=b"x" * 2_000_000)], by=name)
    with refused(CapabilitiesTooLarge, "at once"):
        store.commit("web", [Remark(member_id=f"m{n}", seen=0, disabled="") for n in range(5000)])
    assert store.read("web").rows == ()
    server.drop_database(prefix)


def test_a_server_that_is_full(own_etcd, opened) -> None:
    """It takes no writes any more; what is there can be read, and who beats lives on."""
    server: Etcd = own_etcd(quota_backend_bytes=400_000)
    store = opened(server.url("x"))
    store.create_group("web")
    name = session(store, "ann")
    row = store.commit("web", [entering("ann", name)], by=name)
    assert isinstance(row, Committed)
    with refused(ReadOnlyStore, "full", "alarm disarm"):
        for n in range(100):
            store.commit("web", [entering(f"m{n}", "", capabilities=b"x" * 60_000, stand=False)])
    assert store.beat(["ann"]).notices == {"ann": 0}
    assert "ann" in {row.key for row in store.read("web").rows}


# ── no majority ──


def test_no_majority_and_then_one_again(own_etcd_cluster, opened) -> None:
    """Nothing is read or written, and every call says so in time, the doorbell too. Then all goes on."""
    cluster: Cluster = own_etcd_cluster()
    store = opened(cluster.url("x"), timeout=1.0)
    store.create_group("web")
    store.commit("web", [entering("ann", session(store, "ann"))], by="ann")
    bell = store.doorbell()
    two = cluster.followers()
    for member in two:
        member.kill()
    for call in (store.groups, lambda: store.create_group("other"), lambda: store.beat(["ann"])):
        with refused(HeadcountError):
            call()
    with refused(StoreUnavailable):
        for _ in range(10):
            bell.wait(1.0)
    for member in two:
        member.launch()
    for member in two:
        member.wait_until_it_answers()
    cluster.leader()
    assert store.beat(["ann"]).notices == {"ann": 0}
    assert store.read("web").rows[0].live
    while bell.wait(0).groups is not None:
        pass
    store.create_group("third")
    assert bell.wait(2.0).groups == {"third": None}
    bell.close()


def test_what_was_compacted_is_read_again(etcd_server, opened) -> None:
    """A watch that a compaction has overtaken says that anything may have changed."""
    server: Etcd = etcd_server
    store = opened(server.url(server.fresh_database()))
    store.create_group("web")
    bell = store.doorbell()
    server.compact()
    store.create_group("other")
    assert bell.wait(2.0).groups == {"other": None}
    server.compact()
    bell.close()
    late = store.doorbell()
    store.create_group("third")
    assert late.wait(2.0).groups == {"third": None}
    late.close()
