"""What ZooKeeper's users get wrong, and what others do to our nodes: told in time, and so that they know what
to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from kazoo.security import make_digest_acl

from headcount.errors import (
    AccessDenied,
    CapabilitiesTooLarge,
    ConfigError,
    HeadcountError,
    OutcomeUnknown,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.model import Committed, Enter, Ring, Session, State, Wish
from headcount.stores import make
from headcount.stores.base import Store
from headcount.stores.zookeeper import store as zookeeper
from tests.servers.base import PASSWORD, USER
from tests.servers.zookeeper import ZooKeeper

Client = zookeeper.ZooKeeperStore


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    """A function that makes the store at a URL, not opened; in the end all are closed."""
    made: list[Client] = []

    def new(url: str, **options: float | str | bool) -> Client:
        store = make(url, options={"timeout": 2.0, **options})
        assert isinstance(store, Client)
        made.append(store)
        return store

    yield new
    for store in made:
        store.close()


@pytest.fixture
def prefix(zookeeper_server: ZooKeeper) -> str:
    return zookeeper_server.fresh_path()


def opened(store: Client) -> Client:
    store.open()
    return store


def enter(
    store: Store, name: str, *, group: str = "web", capabilities: bytes = b"", stand: bool = True
) -> None:
    store.open_session(Session(id=f"s-{name}", instance=name, host="h", process=name, ttl=5.0))
    enters = entering(name, capabilities=capabilities, stand=stand)
    assert isinstance(store.commit(group, [enters], by=f"s-{name}"), Committed)


def entering(name: str, *, capabilities: bytes = b"", stand: bool = True) -> Enter:
    return Enter(
        key=name, member_id=name, session=f"s-{name}", instance=name, host="h", ttl=5.0, seen=0,
        capabilities=capabilities, stand=stand,
    )  # fmt: skip


def hidden(error: HeadcountError) -> str:
    """The message, in which there is no password."""
    assert PASSWORD not in str(error) and "wrong" not in str(error)
    return str(error)


# ── who we are ──


def test_who_is_known_by_sasl_comes_in(own_zookeeper: Callable[..., ZooKeeper], client) -> None:
    """And its nodes are its own: nobody else reads or writes them."""
    server = own_zookeeper(sasl=True)
    store = opened(client(server.url("web", user=USER, auth="sasl")))
    store.create_group("web")
    enter(store, "ann")
    for stranger in [server.url("web"), server.url("web", user="bystander", auth="sasl")]:
        with pytest.raises(AccessDenied, match="ACL"):
            client(stranger).open()

    assert [row.key for row in store.read("web").rows] == ["ann"]


def test_a_wrong_sasl_password_is_denied(own_zookeeper: Callable[..., ZooKeeper], client) -> None:
    """Though the client library says that it is connected. At once, and again whenever it is tried."""
    server = own_zookeeper(sasl=True)
    store = client(server.url("web", user=USER, password="wrong", auth="sasl"))
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(AccessDenied, match="password") as raised:
            store.open()
        assert time.monotonic() - started < 1.5
        hidden(raised.value)


def test_a_digest_keeps_others_out(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """Any server knows it, but only its nodes do: another password makes another user."""
    store = opened(client(zookeeper_server.url(prefix, user=USER)))
    store.create_group("web")
    enter(store, "ann")
    with pytest.raises(AccessDenied, match="ACL") as raised:
        client(zookeeper_server.url(prefix, user=USER, password="wrong")).open()

    hidden(raised.value)
    again = opened(client(zookeeper_server.url(prefix, user=USER)))
    assert [row.key for row in again.read("web").rows] == ["ann"]


def test_the_password_may_be_in_a_file(zookeeper_server: ZooKeeper, prefix: str, client, tmp_path) -> None:
    """In its first line."""
    opened(client(zookeeper_server.url(prefix, user=USER))).create_group("web")
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nthe rest is for people\n")
    store = opened(client(zookeeper_server.url(prefix, user=USER, password=None), password_file=str(file)))

    assert store.groups() == ["web"]


def test_an_acl_that_forbids_is_named(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """The prefix is somebody's, who lets us look and nothing else."""
    with zookeeper_server.client() as admin:
        admin.create(f"/{prefix}", acl=[make_digest_acl("root", "x", read=True)])
    with pytest.raises(AccessDenied, match="ACL"):
        client(zookeeper_server.url(prefix)).open()


# ── how we get there ──


def test_tls(own_zookeeper: Callable[..., ZooKeeper], client) -> None:
    """A server whose authority is given is believed; one whose authority is not known is not."""
    server = own_zookeeper(ssl=True)
    store = opened(client(server.url("web", tls="true", tls_ca=server.certificate)))
    store.create_group("web")
    enter(store, "ann", capabilities=b"x" * 60_000)

    assert len(store.read("web").rows[0].capabilities) == 60_000
    with pytest.raises(AccessDenied, match="certificate"):
        client(server.url("web", tls="true")).open()


def test_what_the_system_believes_is_believed(
    own_zookeeper: Callable[..., ZooKeeper], client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no authority is given."""
    server = own_zookeeper(ssl=True)
    with pytest.raises(AccessDenied, match="certificate"):
        client(server.url("web", tls="true")).open()
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))

    assert opened(client(server.url("web", tls="true"))).create_group("web")


def test_a_call_waits_for_as_long_as_it_is_told(own_zookeeper: Callable[..., ZooKeeper], client) -> None:
    """Where the server takes connections, and answers nothing."""
    server = own_zookeeper()
    for timeout in (0.5, 1.5):
        store = opened(client(server.url("web"), timeout=timeout))
        server.freeze()
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.groups()
        took = time.monotonic() - began
        server.thaw()
        assert timeout <= took < timeout + 1.0


def test_a_server_that_wants_to_know_whose_certificate_it_is(
    own_zookeeper: Callable[..., ZooKeeper], client
) -> None:
    """Who shows one that it believes comes in; who shows none does not, and is not kept waiting for longer
    than a call may take."""
    server = own_zookeeper(ssl=True, **{"ssl.clientAuth": "need"})
    url = server.url("web", tls="true", tls_ca=server.certificate)
    store = opened(client(url, tls_cert=str(server.certificate), tls_key=str(server.key)))

    assert store.create_group("web")
    with pytest.raises((ConfigError, StoreUnavailable)):
        client(url).open()


def test_who_speaks_plainly_to_a_tls_port(own_zookeeper: Callable[..., ZooKeeper], client) -> None:
    """The server says nothing, and so all that can be said is what it might be."""
    with pytest.raises(StoreUnavailable, match="tls=true"):
        client(own_zookeeper(ssl=True).url("web")).open()


def test_who_speaks_tls_to_a_plain_port(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """That is nothing which waiting would mend."""
    with pytest.raises(ConfigError, match="secureClientPort"):
        client(zookeeper_server.url(prefix, tls="true")).open()


def test_files_of_tls_that_cannot_be_used(zookeeper_server: ZooKeeper, prefix: str, client, tmp_path) -> None:
    """Named by the one who opens the store, not by a thread of its own."""
    file = tmp_path / "ca.pem"
    for _ in range(2):
        with pytest.raises(ConfigError, match="tls_ca"):
            client(zookeeper_server.url(prefix, tls="true", tls_ca=file)).open()
        file.write_text("no certificate")


def test_a_name_that_is_none_is_no_crash(client) -> None:
    """Nobody can tell the client library's thread what is wrong with it."""
    for name in ("no-such-host.invalid", "a..b", "x" * 70):
        with pytest.raises(StoreUnavailable):
            client(f"zookeeper://{name}/x", timeout=0.3).open()


def test_a_path_that_is_not_there_is_made(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """Also where those above it are missing."""
    store = opened(client(zookeeper_server.url(f"{prefix}/deep/down")))

    assert store.create_group("web")
    with zookeeper_server.client() as admin:
        assert sorted(admin.get_children(f"/{prefix}/deep/down")) == [".headcount", "web"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("zookeeper:///web", "no host"),
        ("zookeeper://h/../x", r"\.\."),
        ("zookeeper://h/zookeeper/quota", "server's own"),
        ("zookeeper://me@h/x", "no password"),
        ("zookeeper://me:secret@h/x?auth=kerberos", "digest or sasl"),
        ("zookeeper://h/x?tls_ca=/some/file", "tls=true"),
        ("zookeeper://h/x?tls=true&tls_cert=/some/file", "together"),
        ("zookeeper://h/x?timeout=0", "timeout"),
        ("zookeeper://h/x?chroot=/y", "no option"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_tried(url: str, why: str) -> None:
    """By the URL alone, which does not show its password."""
    with pytest.raises(ConfigError, match=why) as raised:
        make(url)
    assert "secret" not in str(raised.value)


def test_namespaces_do_not_touch_each_other(zookeeper_server: ZooKeeper, prefix: str) -> None:
    """Each has a prefix of its own, beside the others."""
    stores = [make(zookeeper_server.url(prefix), namespace=name) for name in ("default", "blue")]
    for store in stores:
        store.open()
    stores[0].create_group("web")

    assert [store.groups() for store in stores] == [["web"], []]
    for store in stores:
        store.close()


# ── what others do to our nodes ──


def test_ls_lists_who_is_live(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """Nobody more and nobody less, whoever left, was removed, or went down."""
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    for name in ("ann", "a/b", "cid", "字节"):
        enter(store, name)
    store.close_session("s-cid")
    with zookeeper_server.client() as admin:
        assert sorted(admin.get_children(f"/{prefix}/web")) == ["a%2Fb", "ann", "字节"]
    assert {row.key: row.state for row in store.read("web").rows}["cid"] is State.DOWN


def test_a_foreign_value_in_a_record_is_left_out(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """It is named once, the rest is served, and its member can enter again."""
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    enter(store, "ann")
    enter(store, "bob")
    heard: list[str] = []
    store.on_corrupt = heard.append
    node = f"/{prefix}/.headcount/groups/web/r:ann"
    for value in (b"what is this?", b'{"row": {}}', json.dumps([1]).encode(), b""):
        with zookeeper_server.client() as admin:
            admin.set(node, value)
        assert [row.key for row in store.read("web").rows] == ["bob"]
    store.read("web")
    assert len(heard) == 1 and "r:ann" in heard[0]

    store.commit("web", [entering("ann")], by="s-ann")
    assert {row.key for row in store.read("web").rows} == {"ann", "bob"}


def test_a_foreign_head_makes_the_group_unusable(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """Nothing is made up; the others go on."""
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    store.create_group("api")
    with zookeeper_server.client() as admin:
        admin.set(f"/{prefix}/.headcount/groups/web", b"mine now")
    with pytest.raises(SchemaMismatch, match="web"):
        store.read("web")
    with pytest.raises(SchemaMismatch, match="web"):
        store.commit("web", [entering("ann")])

    assert store.read("api").rows == ()
    assert store.groups() == ["api", "web"]


@pytest.mark.parametrize("value", [b"something", b'{"layout": 7}'])
def test_another_layout_is_not_touched(
    zookeeper_server: ZooKeeper, prefix: str, client, value: bytes
) -> None:
    """A later release's, or somebody else's."""
    with zookeeper_server.client() as admin:
        admin.create(f"/{prefix}/.headcount", value, makepath=True)
    with pytest.raises(SchemaMismatch, match="prefix"):
        client(zookeeper_server.url(prefix)).open()


def test_a_prefix_may_be_shared(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """What others have there is no group, and no group is made of it."""
    with zookeeper_server.client() as admin:
        admin.create(f"/{prefix}/brokers/1", b"kafka's", makepath=True)
    store = opened(client(zookeeper_server.url(prefix)))

    assert store.groups() == []
    with pytest.raises(ConfigError, match="somebody else's"):
        store.create_group("brokers")
    assert store.groups() == []
    assert store.create_group("web")


def test_nodes_that_are_removed_by_hand(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """A session's: it is lost, at once. A listing's: the member is up all the same. A record's: it is not
    known any more. The rest of the bookkeeping: it is made again."""
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    for name in ("ann", "bob", "cid"):
        enter(store, name)
    bell = store.doorbell()
    while bell.wait(0.1) != Ring():
        pass
    with zookeeper_server.client() as admin:
        admin.delete(f"/{prefix}/.headcount/sessions/s-ann")
        admin.delete(f"/{prefix}/web/bob")
        admin.delete(f"/{prefix}/.headcount/groups/web/r:cid")
        admin.delete(f"/{prefix}/.headcount/floor")
    lost: frozenset[str] = frozenset()
    until = time.monotonic() + 2
    while not lost and time.monotonic() < until:
        lost |= bell.wait(0.5).lost

    assert lost == {"s-ann"}
    assert store.beat(["s-ann", "s-bob"]).notices == {"s-ann": None, "s-bob": 0}
    assert {row.key: row.state for row in store.read("web").rows} == {"ann": State.DOWN, "bob": State.UP}
    assert opened(client(zookeeper_server.url(prefix))).create_group("api")
    bell.close()


def test_more_than_fits_in_a_request_goes_in_several(
    zookeeper_server: ZooKeeper, prefix: str, client
) -> None:
    """As long as each wish fits in one: ZooKeeper ends a connection over which more than 1 MB comes."""
    store = opened(client(zookeeper_server.url(prefix), timeout=10.0))
    store.create_group("web")
    names = [f"m{n}" for n in range(40)]
    store.open_sessions([Session(id=f"s-{n}", instance=n, host="h", process=n, ttl=20.0) for n in names])
    wishes = [Wish([entering(n, capabilities=b"x" * 65_536)], by=f"s-{n}") for n in names]

    assert all(isinstance(one, Committed) for one in store.commit_together("web", wishes))
    assert len(store.read("web").rows) == 40
    everything = [entering(f"all-{n}", capabilities=b"x" * 65_536) for n in names]
    everything = [
        Enter(**{f: getattr(e, f) for f in e.__struct_fields__} | {"session": "s-m1"}) for e in everything
    ]
    with pytest.raises(CapabilitiesTooLarge, match="1,000,000"):
        store.commit("web", everything, by="s-m1")
    assert store.beat(["s-m1"]).notices == {"s-m1": 0}


# ── what it takes ──


def test_who_looks_has_one_connection_and_a_member_two_and_who_stands_three(
    zookeeper_server: ZooKeeper, prefix: str, client
) -> None:
    """Each with one thread; however many sessions there are of one ttl."""

    def connections() -> int:
        return sum(line.strip().startswith("/") for line in zookeeper_server.word("cons").splitlines())

    def threads() -> int:
        return sum(thread.name == "headcount-zookeeper" for thread in threading.enumerate())

    connected, running = connections(), threads()
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    store.doorbell().close()
    assert (connections() - connected, threads() - running) == (1, 1)

    for number in range(20):
        enter(store, f"m{number}", stand=False)
    assert (connections() - connected, threads() - running) == (2, 2)

    for number in range(20):
        enter(store, f"s{number}")
    assert (connections() - connected, threads() - running) == (3, 3)


def test_a_heart_that_stops_is_not_kept_alive_by_the_client_library(
    zookeeper_server: ZooKeeper, prefix: str, client
) -> None:
    """Its thread goes on, and would go on pinging; reading goes on as well."""
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    store.open_session(Session(id="s-ann", instance="ann", host="h", process="p", ttl=1.5))
    store.commit("web", [entering("ann")], by="s-ann")
    until = time.monotonic() + 3.0
    while time.monotonic() < until and store.read("web").rows[0].live:
        time.sleep(0.1)

    assert store.read("web").rows[0].state is State.DOWN
    assert store.beat(["s-ann"]).notices == {"s-ann": None}


def test_a_call_that_was_given_up_is_not_carried_out_later(
    own_zookeeper: Callable[..., ZooKeeper], client
) -> None:
    """The client library would keep it, and ask it when there is a connection again."""
    server = own_zookeeper()
    store = opened(client(server.url("web"), timeout=0.5))
    server.kill()
    for group in ("first", "second"):
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            store.create_group(group)
    server.start()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            found = store.groups()
            break
        except StoreUnavailable:
            continue

    assert "second" not in found


def test_no_password_is_shown(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """Neither by the store, nor by what it holds, whichever way it shows who it is."""
    for auth in ("digest", "sasl"):
        store = client(zookeeper_server.url(prefix, user=USER, auth=auth))
        assert PASSWORD not in repr(store) + repr(store._where) + repr(vars(store))


def test_a_node_that_is_nobodys_group_is_left_out(zookeeper_server: ZooKeeper, prefix: str, client) -> None:
    """Its name is none that we would give."""
    store = opened(client(zookeeper_server.url(prefix)))
    store.create_group("web")
    with zookeeper_server.client() as admin:
        for name in ("%FF", "%ED%A0%80", "%zz", "a%2f"):
            admin.create(f"/{prefix}/.headcount/groups/{name}")

    assert store.groups() == ["web"]
    assert [entry.group for entry in store.history()] == []
    assert store.new_epoch() > 0
    enter(store, "ann")
    assert [row.key for row in store.read("web").rows] == ["ann"]
