"""The nine calls of the group membership service, as its proposal states them, word for word.

Each test quotes the sentence that it holds Headcount to. They run on the memory of one process and
on SQLite, and every caller is a coordinator of its own.
"""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import headcount
from headcount import Change, Coordinator, GroupNotFound, Kind, MemberNotFound, Status
from tests.processes.waiting import SOON, eventually

Connect = Callable[..., Coordinator]


@pytest.fixture(params=["memory", "sqlite"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Connects callers to one store; the two spellings of its address are two hubs in this process, as if
    these were two processes."""
    made: list[Coordinator] = []
    where = f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"sqlite:///{tmp_path}/seeds.db"

    def call(member_id: str | None = None, *, elsewhere: bool = False) -> Coordinator:
        url = f"{where}?interval={'0.10' if elsewhere else '0.1'}"
        made.append(headcount.connect(url, member_id=member_id, ttl=1.0))
        return made[-1]

    yield call
    for coordinator in made:
        coordinator.close()


# ── the nine calls ──


def test_create_group_that_exists_has_no_effects(connect: Connect) -> None:
    """“This function creates the group named by the group_id parameter, if the group already exist then
    it has no effects.” Neither on the group nor on who is in it."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    assert ann.create_group("workers") is True
    ann.join_group("workers", b"v1")
    before = ann.group("workers").view()

    assert ann.create_group("workers") is False
    assert ben.create_group("workers") is False

    after = ben.group("workers").view()
    assert after.revision == before.revision
    assert [(m.member_id, m.capabilities) for m in after.up] == [("ann", b"v1")]


def test_get_all_group_ids_lists_every_created_group(connect: Connect) -> None:
    """“This function returns the list of all created groups.” Also empty ones; whoever asks."""
    ann = connect("ann")
    assert ann.get_all_group_ids() == []
    for group in ("zebras", "ants", "ärzte"):
        ann.create_group(group)
    ann.join_group("ants")
    assert connect().get_all_group_ids() == sorted(["zebras", "ants", "ärzte"])


def test_join_group_twice_has_no_effects(connect: Connect) -> None:
    """“This function permits to the caller to join the group, if the caller already joined the group then
    it has no effects.” Not even on the capabilities: to change them is update_capabilities."""
    ann = connect("ann")
    ann.create_group("workers")
    ann.join_group("workers", b"v1")
    before = ann.group("workers").view()

    ann.join_group("workers", b"v2")

    after = ann.group("workers").view(fresh=True)
    assert after.revision == before.revision
    assert after["ann"].incarnation == before["ann"].incarnation
    assert ann.get_member_capabilities("workers", "ann") == b"v1"


def test_join_group_that_does_not_exist_raises(connect: Connect) -> None:
    """“If the group doesn't exist then it raises an exception.” It names one that is nearly spelt so, says
    what to do, and leaves nothing behind; who means to make the group says so."""
    ann = connect("ann")
    ann.create_group("workers")
    with pytest.raises(GroupNotFound, match=r"'workrs'.*did you mean 'workers'.*create_group"):
        ann.join_group("workrs")
    assert ann.get_all_group_ids() == ["workers"]

    ann.join_group("others", create=True)
    assert ann.get_members("others") == ["ann"]


def test_leave_group_that_was_left_has_no_effects(connect: Connect) -> None:
    """“This function permits to the caller to leave the group, if the caller already leaved the group then
    it has no effects.” Nor if it never joined."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.join_group("workers", create=True)
    ben.join_group("workers")
    ann.leave_group("workers")
    assert ann.get_members("workers") == ["ben"]
    revision = ann.group("workers").view(fresh=True).revision

    ann.leave_group("workers")
    connect("cid").leave_group("workers")

    view = ann.group("workers").view(fresh=True)
    assert view.revision == revision
    assert view["ann"].status is Status.LEFT
    assert ann.get_members("workers") == ["ben"]


def test_leave_group_that_does_not_exist_raises(connect: Connect) -> None:
    """“If the group doesn't exist then it raises an exception.”"""
    with pytest.raises(GroupNotFound, match="'workers'"):
        connect("ann").leave_group("workers")


def test_get_members_are_those_that_belong_now(connect: Connect) -> None:
    """“This function returns the current members of the group identified by the parameter group_id. A
    member is online if it belongs to the group.”"""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.create_group("workers")
    assert ann.get_members("workers") == []
    ben.join_group("workers")
    ann.join_group("workers")
    assert ann.get_members("workers") == ["ann", "ben"]
    eventually(lambda: ben.get_members("workers") == ["ann", "ben"], "ben sees both")
    ben.leave_group("workers")
    assert ben.get_members("workers") == ["ann"]


def test_who_asks_for_members_need_not_be_one(connect: Connect) -> None:
    """“The caller is not necessarily a member of the group.” It need not even have a name."""
    connect("ann").join_group("workers", b"v1", create=True)
    observer = connect(elsewhere=True)
    assert observer.member_id is None
    assert observer.get_members("workers") == ["ann"]
    assert observer.get_member_capabilities("workers", "ann") == b"v1"
    assert observer.get_leader("workers") == "ann"


def test_get_members_of_no_group_raises(connect: Connect) -> None:
    """“If the group doesn't exist then it raises an exception.” Also when the group was there a moment ago,
    and is watched."""
    ann = connect("ann")
    with pytest.raises(GroupNotFound, match="'workers'"):
        ann.get_members("workers")
    ann.create_group("workers")
    assert ann.group("workers").view().up == ()
    ann.delete_group("workers")
    with pytest.raises(GroupNotFound, match="'workers'"):
        ann.get_members("workers")


def test_get_member_capabilities_are_the_bytes_that_were_published(connect: Connect) -> None:
    """“The capabilities correspond to an array of bytes which can contains information about the member.”
    All 256 of them, and none at all."""
    every_byte = bytes(range(256))
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.join_group("workers", every_byte, create=True)
    ben.join_group("workers")
    assert ben.get_member_capabilities("workers", "ann") == every_byte
    assert ben.get_member_capabilities("workers", "ben") == b""
    assert isinstance(ben.get_member_capabilities("workers", "ann"), bytes)


def test_get_member_capabilities_of_no_group_or_member_raises(connect: Connect) -> None:
    """“If the group or the member doesn't exist then it raises an exception.” A member that has left does
    not exist any more; what it last published is still to be seen in the view."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    with pytest.raises(GroupNotFound, match="'workers'"):
        ann.get_member_capabilities("workers", "ann")
    ann.join_group("workers", create=True)
    ben.join_group("workers", b"last words")
    with pytest.raises(MemberNotFound, match=r"'workers' has no member 'bem'.*did you mean 'ben'"):
        ann.get_member_capabilities("workers", "bem")
    ben.leave_group("workers")
    with pytest.raises(MemberNotFound, match=r"'ben' now \(it is left since \d{4}-"):
        ann.get_member_capabilities("workers", "ben")
    assert ann.group("workers").view(fresh=True)["ben"].capabilities == b"last words"


def test_capabilities_can_be_message_pack(connect: Connect) -> None:
    """“I suggest to use a serialization format for the capabilities like Google Protocol Buffers or
    MessagePack.” pack and unpack are MessagePack; others give their own bytes."""
    value = {"binary": "nova-compute", "zone": "nova", "free": 12, "tags": ["ssd", "gpu"]}
    ann = connect("ann")
    ann.join_group("workers", headcount.pack(value), create=True)
    assert headcount.unpack(ann.get_member_capabilities("workers", "ann")) == value


def test_update_capabilities_publishes_in_all_groups_of_the_caller(connect: Connect) -> None:
    """“This function publish the new capabilities of the caller.” It takes no group: all of them. With one,
    that one. The same bytes again write nothing."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    for group in ("workers", "singers"):
        ann.join_group(group, b"v1", create=True)
        ben.join_group(group, b"ben's")

    ann.update_capabilities(b"v2")
    assert [ben.get_member_capabilities(group, "ann") for group in ("workers", "singers")] == [b"v2"] * 2
    assert ben.get_member_capabilities("workers", "ben") == b"ben's"

    ann.update_capabilities(b"v3", group_id="singers")
    assert ben.get_member_capabilities("workers", "ann") == b"v2"
    assert ben.get_member_capabilities("singers", "ann") == b"v3"

    before = ann.group("singers").view(fresh=True).revision
    ann.update_capabilities(b"v3", group_id="singers")
    assert ann.group("singers").view(fresh=True).revision == before


def test_the_configuration_of_a_member_can_be_tracked(connect: Connect) -> None:
    """“it can be very useful to keep track the current configuration of a member”: a change of it shows
    what it was and what it is."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.join_group("workers", b"v1", create=True)
    with ben.group("workers").changes(initial=False) as changes:
        ann.update_capabilities(b"v2")
        change = changes.get(timeout=SOON)
    assert change.kind is Kind.UPDATED
    assert change.before is not None and change.before.capabilities == b"v1"
    assert change.member is not None and change.member.capabilities == b"v2"
    assert change.view["ann"].capabilities == b"v2"


def test_set_notifier_func_is_called_when_the_group_changes(connect: Connect) -> None:
    """“This function register the function “notifier” as the function to call when the configuration of the
    group “group_id” has changed. For instance when a member join/leave the member.” And capabilities,
    marks and the leader are its configuration too."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.create_group("workers")
    heard: queue.Queue[Change] = queue.Queue()
    ann.set_notifier_func("workers", heard.put)

    def next_change() -> tuple[str, str | None]:
        change = heard.get(timeout=SOON)
        return str(change.kind), change.member.member_id if change.member else None

    ben.join_group("workers")
    assert [next_change(), next_change()] == [("joined", "ben"), ("leader", "ben")]
    ben.update_capabilities(b"v2")
    assert next_change() == ("updated", "ben")
    ann.group("workers").mark("cid", disabled="not yet")
    assert next_change() == ("marked", "cid")
    ben.leave_group("workers")
    assert [next_change(), next_change()] == [("left", "ben"), ("leader", None)]


def test_set_notifier_func_sets_the_one_function(connect: Connect) -> None:
    """“the function to call”: there is one for each group. Another replaces it, None takes it away."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.create_group("workers")
    first: queue.Queue[Change] = queue.Queue()
    second: queue.Queue[Change] = queue.Queue()
    ann.set_notifier_func("workers", first.put)
    ann.set_notifier_func("workers", second.put)
    ben.join_group("workers")
    assert second.get(timeout=SOON).kind is Kind.JOINED
    assert second.get(timeout=SOON).kind is Kind.LEADER
    ann.set_notifier_func("workers", None)
    with ann.group("workers").changes(initial=False) as changes:
        ben.leave_group("workers")
        changes.get(timeout=SOON)  # ann has seen it
    assert first.empty()
    assert second.empty()


def test_the_remaining_get_notified(connect: Connect) -> None:
    """“when a service join or leave the group then the remaining get notified”: all of them."""
    ann, ben, cid = connect("ann"), connect("ben", elsewhere=True), connect("cid")
    ann.join_group("workers", create=True)
    cid.join_group("workers")
    with (
        ann.group("workers").changes(initial=False) as anns,
        cid.group("workers").changes(initial=False) as cids,
    ):
        ben.join_group("workers")
        for changes in (anns, cids):
            change = changes.get(timeout=SOON)
            assert (change.kind, change.member and change.member.member_id) == (Kind.JOINED, "ben")
        ben.leave_group("workers")
        for changes in (anns, cids):
            change = changes.get(timeout=SOON)
            assert (change.kind, change.member and change.member.member_id) == (Kind.LEFT, "ben")


def test_get_leader_is_one_that_all_agree_on(connect: Connect) -> None:
    """“This function returns the id of the current leader of the group. A leader is a special member on
    which all members agreed on.” Every group that has members has one; when it goes, all agree on another."""
    ann, ben, cid = connect("ann"), connect("ben", elsewhere=True), connect("cid")
    ann.create_group("workers")
    assert ann.get_leader("workers") is None
    for member in (ann, ben, cid):
        member.join_group("workers")
    everybody = [ann, ben, cid, connect()]

    def named() -> set[str | None]:
        return {asked.get_leader("workers") for asked in everybody}

    eventually(lambda: named() == {"ann"}, "all name ann")
    ann.leave_group("workers")
    eventually(lambda: named() == {"ben"}, "all name ben")


def test_get_leader_of_no_group_raises(connect: Connect) -> None:
    with pytest.raises(GroupNotFound, match="'workers'"):
        connect("ann").get_leader("workers")


# ── who a member is ──


def test_a_member_is_identified_by_group_and_name(connect: Connect) -> None:
    """“A member is completely identified by the tuple (group_id, member_id)”: one name in two groups is two
    members, with capabilities of their own."""
    ann, ben = connect("ann"), connect("ben", elsewhere=True)
    ann.join_group("workers", b"w", create=True)
    ann.join_group("singers", b"s", create=True)
    assert ben.get_member_capabilities("workers", "ann") == b"w"
    assert ben.get_member_capabilities("singers", "ann") == b"s"
    ann.leave_group("singers")
    assert ben.get_members("singers") == []
    assert ben.get_members("workers") == ["ann"]


@pytest.mark.parametrize(
    "name",
    ["compute@host-1.example.org:8774", "/a//b#c?d=e&f", "日本語", "é" * 100, "a" * 200, "%2F", "'; --"],
)
def test_any_printable_name_is_a_name(connect: Connect, name: str) -> None:
    """Ids are whatever their owners call things: hosts, paths, topics."""
    ann = connect(name)
    ann.join_group(name, b"x", create=True)
    other = connect(elsewhere=True)
    assert other.get_all_group_ids() == [name]
    assert other.get_members(name) == [name]
    assert other.get_member_capabilities(name, name) == b"x"
    assert other.get_leader(name) == name


def test_ids_can_be_stored_in_a_configuration_file(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """“those IDs can be stored either in the database or in a configuration file.”"""
    file = tmp_path / "headcount.toml"
    file.write_text('member_id = "from-the-file"\n')
    monkeypatch.setenv("HEADCOUNT_CONFIG", str(file))
    member = connect()
    member.join_group("workers", create=True)
    assert member.get_members("workers") == ["from-the-file"]
