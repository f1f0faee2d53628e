"""Many members of ZooKeeper's store, to whom something happens at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from headcount.model import Committed, Delta, Empty, Enter, Outcome, Session, State, Wish
from headcount.stores import make
from headcount.stores.zookeeper import reading
from headcount.stores.zookeeper.commit import Commit
from headcount.stores.zookeeper.store import ZooKeeperStore
from tests.processes.waiting import eventually
from tests.servers.zookeeper import ZooKeeper

LARGE = b"x" * 65_536
MEMBERS = 33
"""With such capabilities more than two requests can hold."""

TTL = 2.0


@pytest.fixture
def client(zookeeper_server: ZooKeeper) -> Iterator[Callable[[], ZooKeeperStore]]:
    """A function that opens one more client of the same fresh prefix."""
    made: list[ZooKeeperStore] = []
    url = zookeeper_server.url(zookeeper_server.fresh_path())

    def new() -> ZooKeeperStore:
        store = make(url)
        assert isinstance(store, ZooKeeperStore)
        store.open()
        made.append(store)
        return store

    yield new
    for store in made:
        store.close()


def enter(store: ZooKeeperStore, number: int, shards: frozenset[int] = frozenset()) -> None:
    name = f"m{number:02}"
    store.open_session(Session(id=name, instance=name, host="h", process="p", ttl=TTL))
    entering = Enter(
        key=name, member_id=name, session=name, instance=name, host="h", ttl=TTL, seen=0,
        capabilities=LARGE, shards=shards,
    )  # fmt: skip
    assert isinstance(store.commit("web", [entering], by=name), Committed)


def dead(dying: ZooKeeperStore, other: ZooKeeperStore) -> None:
    """As if its process were gone, until its sessions are."""
    dying._hearts.stop()
    eventually(lambda: other.beat(["m00"]).notices["m00"] is None, "the end of the sessions", 4 * TTL)


def test_many_with_large_capabilities_may_die_at_once(client: Callable[[], ZooKeeperStore]) -> None:
    """What takes them down is more than ZooKeeper takes at once, and goes in several; whoever watched is told
    of all, and whoever comes reads them all."""
    dying, watching = client(), client()
    dying.create_group("web")
    for number in range(MEMBERS):
        enter(dying, number)
    before = watching.read("web").revision
    dead(dying, watching)
    delta = watching.read("web", before)

    assert isinstance(delta, Delta)
    assert [row.state for row in delta.rows] == [State.DOWN] * MEMBERS
    assert [row.state for row in client().read("web").rows] == [State.DOWN] * MEMBERS


def test_who_wants_what_many_had_who_died_at_once_gets_it(client: Callable[[], ZooKeeperStore]) -> None:
    """Also if nobody has read the group since: the commit takes them down first."""
    dying, heir = client(), client()
    dying.create_group("web")
    for number in range(MEMBERS):
        enter(dying, number, frozenset([number]))
    dead(dying, heir)

    def inherit() -> Outcome:
        entering = Enter(
            key="heir", member_id="heir", session="", instance="heir", host="h", ttl=TTL, seen=0,
            shards=frozenset([0]),
        )  # fmt: skip
        return heir.commit("web", [entering], expect=[Empty(shards=frozenset([0]))])

    eventually(lambda: isinstance(inherit(), Committed), "a place", TTL)


def test_one_of_those_who_see_a_death_writes_it_down(
    client: Callable[[], ZooKeeperStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others look again, and find it written; though all were woken by it at once."""
    dying, watching = client(), [client() for _ in range(4)]
    dying.create_group("web")
    enter(dying, 0)
    revisions = [store.read("web").revision for store in watching]
    pauses, commits = iter([0.001, 1.5, 1.6, 1.7]), list[str]()
    carry_out = Commit.carry_out

    def counted(commit: Commit, wishes: Sequence[Wish], settle: Iterable[str] = ()) -> list[Outcome]:
        commits.append("tried")
        return carry_out(commit, wishes, settle)

    monkeypatch.setattr(reading, "random", SimpleNamespace(uniform=lambda least, most: next(pauses)))
    monkeypatch.setattr(Commit, "carry_out", counted)
    dead(dying, watching[0])
    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda store, revision: store.read("web", revision), watching, revisions))

    assert [[row.state for row in one.rows] for one in told] == [[State.DOWN]] * 4
    assert commits == ["tried"]
