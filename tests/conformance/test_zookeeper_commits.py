"""What comes between a commit to ZooKeeper and what it rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headcount.errors import GroupNotEmpty
from headcount.model import Delta
from headcount.stores.zookeeper import commit, groups
from tests.conformance.test_zookeeper_sessions import Place
from tests.servers.zookeeper import ZooKeeper


@pytest.fixture
def places(zookeeper_server: ZooKeeper) -> Iterator[tuple[Place, Place]]:
    """Two clients of one prefix."""
    url = zookeeper_server.url(zookeeper_server.fresh_path())
    made = Place(url), Place(url)
    yield made
    for place in made:
        place.store.close()


def once(patch: pytest.MonkeyPatch, owner: type, name: str, then: Callable[[], object]) -> None:
    """Let this happen before the method is called for the first time."""
    real, left = getattr(owner, name), [then]

    def first(self: Any, *args: Any, **kwargs: Any) -> Any:
        if left:
            left.pop()()
        return real(self, *args, **kwargs)

    patch.setattr(owner, name, first)


def test_a_commit_does_not_land_in_another_group_of_the_name(
    places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group is deleted and made again while somebody enters: its head is at the same version as before.
    Whoever has read the new one is told of the enter."""
    ann, bob = places
    ann.open("ann")
    seen: list[int] = []

    def again() -> None:
        bob.store.delete_group("web")
        bob.store.create_group("web")
        seen.append(bob.store.read("web").revision)

    once(monkeypatch, commit.Commit, "_write", again)
    ann.enter("ann")
    delta = bob.store.read("web", seen[0])

    assert [row.key for row in bob.store.read("web").rows] == ["ann"]
    assert isinstance(delta, Delta)
    assert [row.key for row in delta.rows] == ["ann"]
    assert delta.revision > seen[0]


def test_a_group_that_is_deleted_is_the_one_that_was_empty(
    places: tuple[Place, Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the one of this name that has taken its place since, and has a member."""
    ann, bob = places
    ann.enter("ann", ttl=20.0)
    ann.store.close_session("ann")

    def again() -> None:
        bob.store.delete_group("web")
        bob.store.create_group("web")
        for name in ("bob", "cid"):
            bob.enter(name, ttl=20.0)

    once(monkeypatch, groups.Groups, "_floor", again)
    with pytest.raises(GroupNotEmpty):
        ann.store.delete_group("web")

    assert set(bob.states()) == {"bob", "cid"}


def test_who_removes_the_node_that_says_which_group_it_is_stops_nobody(
    zookeeper_server: ZooKeeper, places: tuple[Place, Place]
) -> None:
    """By hand; and groups that an older release has made have none."""
    ann, bob = places
    with zookeeper_server.client() as admin:
        head = ann.store._paths.head("web")
        (born,) = [name for name in admin.get_children(head) if name.startswith("b:")]
        admin.delete(f"{head}/{born}")
        ann.enter("ann", ttl=20.0)
        ann.store.new_epoch()
        ann.store.close_session("ann")
        assert bob.store.delete_group("web")
        assert admin.exists(head) is None
