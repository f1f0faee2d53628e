"""The face that an application sees: what each call does, and what it says to whoever uses it wrongly.

Everything here runs on the memory of this process. Where two coordinators should be strangers to each
other, they spell the address of their store differently, and so have hubs of their own.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headcount
from headcount import (
    CapabilitiesTooLarge,
    Change,
    Closed,
    ConfigError,
    Coordinator,
    Expelled,
    GroupNotEmpty,
    GroupNotFound,
    Kind,
    LockTimeout,
    MemberNotFound,
    MemberTaken,
    NotJoined,
    NotTrusted,
    OutcomeUnknown,
    Stale,
    Status,
    StoreUnavailable,
    Superseded,
)
from tests.processes.waiting import SOON, changes_until, eventually, is_, told

TTL = 1.0

Connect = Callable[..., Coordinator]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects to one store. `elsewhere=n`: from another process, as far as the library can tell."""
    name, made = uuid.uuid4().hex, []

    def call(member_id: str | None = None, *, elsewhere: int = 0, **more: Any) -> Coordinator:
        url = f"memory://{name}?interval=0.1{'0' * elsewhere}"
        made.append(headcount.connect(url, member_id=member_id, **{"ttl": TTL, **more}))
        return made[-1]

    yield call
    for coordinator in made:
        if coordinator._hub is not None:
            coordinator._hub.store.reachable = True  # type: ignore[attr-defined]
        coordinator.close(timeout=2.0)


def cut_off(coordinator: Coordinator, cut: bool = True) -> None:
    """From now on this coordinator's process cannot reach the store."""
    assert coordinator._hub is not None
    coordinator._hub.store.reachable = not cut  # type: ignore[attr-defined]
    coordinator._hub.wake()


# ── mistakes of a new user ──


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "\ud800", b"bytes", None, 7])
def test_every_call_refuses_what_cannot_be_an_id(connect: Connect, name: Any) -> None:
    """At once, and naming the argument; nothing is sent to the store."""
    ann = connect("ann")
    calls: list[Callable[[], object]] = [
        lambda: ann.create_group(name),
        lambda: ann.join_group(name),
        lambda: ann.leave_group(name),
        lambda: ann.get_members(name),
        lambda: ann.get_member_capabilities(name, "ann"),
        lambda: ann.set_notifier_func(name, lambda change: None),
        lambda: ann.get_leader(name),
        lambda: ann.delete_group(name),
        lambda: ann.group(name),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"^group_id "):
            call()
    for call in (
        lambda: ann.get_member_capabilities("workers", name),
        lambda: ann.group("workers").mark(name, disabled="broken"),
        lambda: ann.group("workers").forget(name),
    ):
        with pytest.raises(ConfigError, match=r"^member_id "):
            call()
    if name is not None:
        with pytest.raises(ConfigError, match=r"^member_id "):
            connect(name)
        with pytest.raises(ConfigError, match=r"^group_id "):
            ann.update_capabilities(b"", group_id=name)


@pytest.mark.parametrize("wrong", ["text", 7, None, {"zone": "nova"}])
def test_capabilities_are_bytes_and_pack_makes_them(connect: Connect, wrong: Any) -> None:
    ann = connect("ann")
    ann.create_group("workers")
    with pytest.raises(ConfigError, match=r"capabilities must be bytes, not \w+; pack\(\) makes bytes"):
        ann.join_group("workers", wrong)
    with pytest.raises(ConfigError, match=r"capabilities must be bytes, not \w+; pack\(\) makes bytes"):
        ann.update_capabilities(wrong)


def test_capabilities_have_a_limit_that_is_named(connect: Connect) -> None:
    ann = connect("ann")
    limit = 1 << 20
    ann.join_group("workers", bytes(limit), create=True)
    with pytest.raises(
        CapabilitiesTooLarge, match=r"1,048,577 bytes are more than the 1,048,576 that memory://"
    ):
        ann.update_capabilities(bytes(limit + 1))
    with pytest.raises(CapabilitiesTooLarge):
        ann.join_group("singers", bytes(limit + 1), create=True)
    assert ann.get_all_group_ids() == ["workers"]


def test_unpack_says_that_bytes_are_not_message_pack() -> None:
    with pytest.raises(ConfigError, match="these 3 bytes are not MessagePack"):
        headcount.unpack(b"\xc1ab")


@pytest.mark.parametrize("wrong", [object(), [object()], 1 << 70, "\ud800"])
def test_pack_refuses_what_message_pack_does_not_know(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"this {type(wrong).__name__} cannot be MessagePack: "):
        headcount.pack(wrong)


@pytest.mark.parametrize("wrong", ["x", None, 7])
def test_unpack_takes_bytes(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"capabilities are bytes, not {type(wrong).__name__}"):
        headcount.unpack(wrong)


def test_a_ttl_takes_three_ticks(connect: Connect) -> None:
    """The store says how long its ticks are; so it is known only once it is reached, and said then."""
    with pytest.raises(ConfigError, match=r"ttl=0\.2 is too short.*ticks every 0\.1 s.*three ticks, 0\.3 s"):
        connect("ann", ttl=0.2)


def test_an_observer_joins_nothing(connect: Connect) -> None:
    observer = connect()
    observer.create_group("workers")
    with pytest.raises(
        NotJoined, match=r"this coordinator only observes: give connect\(\) a member_id, or set HEAD"
    ):
        observer.join_group("workers")
    for call in (
        observer.group("workers").leadership().__enter__,
        observer.group("workers").resign,
        lambda: observer.update_capabilities(b"x"),
        lambda: observer.update_capabilities(b"x", group_id="workers"),
    ):
        with pytest.raises(NotJoined, match="this coordinator only observes"):
            call()
    observer.leave_group("workers")  # never joined: no effect


def test_what_needs_a_membership_says_that_join_group_comes_first(connect: Connect) -> None:
    ann = connect("ann")
    ann.create_group("workers")
    with pytest.raises(NotJoined, match="'ann' is not a member of any group"):
        ann.update_capabilities(b"x")
    with pytest.raises(NotJoined, match="'ann' is not a member of group 'workers'"):
        ann.update_capabilities(b"x", group_id="workers")
    with pytest.raises(NotJoined, match="'ann' is not a member of group 'workers'; join_group comes first"):
        ann.group("workers").resign()
    with pytest.raises(NotJoined, match="join_group comes first"), ann.group("workers").leadership():
        pass


def test_marks_are_checked_before_they_are_written(connect: Connect) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    with pytest.raises(ConfigError, match="disabled must be a reason in words, or None, not True"):
        group.mark("ann", disabled=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="forced_down must be True or False, not 'yes'"):
        group.mark("ann", forced_down="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expelled must be True or False, not None"):
        group.mark("ann", expelled=None)  # type: ignore[arg-type]
    with pytest.raises(GroupNotFound, match=r"'workrs'.*did you mean 'workers'"):
        ann.group("workrs").mark("ann", disabled="broken")
    with pytest.raises(MemberNotFound, match=r"knows no member 'an'; did you mean 'ann'\?"):
        group.forget("an")


def test_a_notifier_is_something_to_call(connect: Connect) -> None:
    ann = connect("ann")
    ann.create_group("workers")
    with pytest.raises(ConfigError, match="a notifier must be callable with one Change, not 'me'"):
        ann.set_notifier_func("workers", "me")  # type: ignore[arg-type]
    with pytest.raises(GroupNotFound, match="'nobody'"):
        ann.set_notifier_func("nobody", lambda change: None)


@pytest.mark.parametrize("wrong", [0, -1, "soon", True])
def test_readiness_is_vouched_for_in_seconds(connect: Connect, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="for_ must be seconds above 0, not"):
        connect("ann").ready(for_=wrong)


def test_a_group_with_members_is_not_deleted(connect: Connect) -> None:
    ann = connect("ann")
    ann.join_group("workers", create=True)
    with pytest.raises(GroupNotEmpty, match="'workers' still has 1 member: ann"):
        ann.delete_group("workers")
    with pytest.raises(GroupNotFound, match="'nobody'"):
        ann.delete_group("nobody")
    ann.leave_group("workers")
    ann.delete_group("workers")
    assert ann.get_all_group_ids() == []


def test_after_close_every_call_says_closed(connect: Connect) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    ann.close()
    ann.close()  # twice is no mistake
    for call in (
        lambda: ann.create_group("x"),
        ann.get_all_group_ids,
        lambda: ann.join_group("workers"),
        lambda: ann.leave_group("workers"),
        lambda: ann.get_members("workers"),
        lambda: ann.update_capabilities(b"x"),
        lambda: ann.get_leader("workers"),
        lambda: ann.group("workers"),
        ann.ready,
        group.view,
        lambda: group.is_up("ann"),
        group.changes,
        group.resign,
    ):
        with pytest.raises(Closed, match="this coordinator has been closed"):
            call()
    assert ann.health()["closed"] is True


Call = Callable[[], object]


def waits_for_the_turn(ann: Coordinator) -> Call:
    mine = ann.join_group("mine", create=True)
    leads = mine.leadership(SOON)
    leads.__enter__()

    def wait(held: object = leads) -> None:
        mine.leadership().__enter__()

    return wait


def waits_for_a_change(ann: Coordinator) -> Call:
    changes = ann.group("workers").changes(initial=False)

    def read() -> None:
        while True:
            changes.get()  # that the store is down is one

    return read


WAITS: dict[str, Callable[[Coordinator], Call]] = {
    "view": lambda ann: lambda: ann.group("others").view(),
    "view(fresh)": lambda ann: lambda: ann.group("workers").view(fresh=True),
    "view(max_age)": lambda ann: lambda: ann.group("workers").view(max_age=0),
    "is_up": lambda ann: lambda: ann.group("others").is_up("ann"),
    "changes": lambda ann: lambda: ann.group("others").changes(),
    "changes.get": waits_for_a_change,
    "on_change": lambda ann: lambda: ann.group("others").on_change(print),
    "join_group": lambda ann: lambda: ann.join_group("others"),
    "leave_group": lambda ann: lambda: ann.leave_group("workers"),
    "leave_group, not joined": lambda ann: lambda: ann.leave_group("others"),
    "update_capabilities": lambda ann: lambda: ann.update_capabilities(b"x"),
    "get_members": lambda ann: lambda: ann.get_members("others"),
    "get_member_capabilities": lambda ann: lambda: ann.get_member_capabilities("others", "ann"),
    "get_leader": lambda ann: lambda: ann.get_leader("others"),
    "get_all_group_ids": lambda ann: ann.get_all_group_ids,
    "create_group": lambda ann: lambda: ann.create_group("third"),
    "delete_group": lambda ann: lambda: ann.delete_group("others"),
    "mark": lambda ann: lambda: ann.group("workers").mark("ann", disabled="broken"),
    "forget": lambda ann: lambda: ann.group("workers").forget("ann"),
    "leadership": lambda ann: lambda: ann.group("workers").leadership().__enter__(),
    "leadership, the turn": waits_for_the_turn,
}


@contextlib.contextmanager
def down(coordinator: Coordinator) -> Iterator[None]:
    cut_off(coordinator)
    yield
    cut_off(coordinator, False)


@contextlib.contextmanager
def hanging(coordinator: Coordinator) -> Iterator[None]:
    """The store answers nothing, and both threads of the hub are stuck in it."""
    assert coordinator._hub is not None
    store: Any = coordinator._hub.store
    held, goes_on = store._held, threading.Event()

    @contextlib.contextmanager
    def stuck() -> Iterator[Any]:
        goes_on.wait(3 * SOON)
        with held() as server:
            yield server

    store._held = stuck
    yield
    goes_on.set()


@pytest.mark.parametrize("fails", [down, hanging])
@pytest.mark.parametrize("name", WAITS)
def test_close_ends_every_call_that_waits(connect: Connect, name: str, fails: Any) -> None:
    """At once and with Closed: without a bound in time, the store down, and others still using the hub."""
    other, ann = connect("other"), connect("ann", timeout=None)
    other.join_group("workers", create=True)
    ann.join_group("workers")
    ann.create_group("others")
    ann.group("workers").view()
    call = WAITS[name](ann)
    told: list[object] = []

    def wait() -> None:
        try:
            told.append(call())
        except headcount.HeadcountError as error:
            told.append(error)

    hub = ann._hub
    assert hub is not None and hub is other._hub
    waiter = threading.Thread(target=wait)
    closer = threading.Thread(target=ann.close, args=(math.inf,))
    with fails(ann):
        waiter.start()
        if name != "changes.get":  # of which nobody can tell whether it waits by now
            eventually(lambda: hub._jobs._jobs or hub._jobs.running or hub._waiters._waiters, "it waits")
        closer.start()
        waiter.join(SOON)
        assert len(told) == 1, "it waits still"
        assert type(told[0]) is Closed, told
        assert closer.is_alive(), "the session is ended once the store serves"
    closer.join(SOON)
    assert not closer.is_alive()
    assert other.get_members("workers") == ["other"]


def test_changes_that_are_made_while_it_closes_are_closed(connect: Connect) -> None:
    """What close cannot have seen ends all the same, and is not left behind in the hub that others use."""
    other, ann = connect("other"), connect("ann")
    group = ann.join_group("workers", create=True)
    group.view()
    hub = ann._hub
    assert hub is not None
    subscribe = hub.subscribe

    def late(*arguments: Any) -> None:
        subscribe(*arguments)
        ann._closing = True  # as close does it, and it has looked at what is open by now

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "subscribe", late)
        with pytest.raises(Closed):
            group.changes()
    assert hub._queues.get("workers", []) == []
    ann._closing = False
    other.close()


def test_what_is_not_confirmed_in_time_is_still_wanted(connect: Connect) -> None:
    """Who changes its capabilities or leaves while the store is down is told so, and it is done later."""
    ann, ben = connect("ann", timeout=0.3), connect("ben", elsewhere=1)
    ann.join_group("workers", b"v1", create=True)
    text = r"was not confirmed within 0\.3 s; it is still wanted, and is done once the store serves$"
    cut_off(ann)
    with pytest.raises(OutcomeUnknown, match=r"^memory://.*: the update of the capabilities " + text) as told:
        ann.update_capabilities(b"v2")
    assert isinstance(told.value.__cause__, StoreUnavailable)
    cut_off(ann, False)
    eventually(
        lambda: ben.group("workers").view()["ann"].capabilities == b"v2" and ben.get_members("workers"),
        "published",
    )
    cut_off(ann)
    with pytest.raises(OutcomeUnknown, match=r"leaving group 'workers' " + text):
        ann.leave_group("workers")
    cut_off(ann, False)
    eventually(lambda: ben.group("workers").view()["ann"].status is Status.LEFT, "left")


def test_what_was_done_by_a_try_that_nobody_heard_of_is_told_as_done(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has done it, and its answer was lost; the next try finds it done, and so it is ours."""
    ann = connect("ann")
    assert ann._hub is not None
    store = ann._hub.store

    def deaf(name: str) -> None:
        """The first answer of this call is lost."""
        real, heard = getattr(store, name), itertools.count()

        def call(*arguments: Any, **more: Any) -> Any:
            answer = real(*arguments, **more)
            if next(heard) == 0:
                raise OutcomeUnknown("no answer")
            return answer

        monkeypatch.setattr(store, name, call)

    deaf("create_group")
    assert ann.create_group("workers") is True
    assert ann.create_group("workers") is False
    deaf("delete_group")
    ann.delete_group("workers")
    with pytest.raises(GroupNotFound):
        ann.delete_group("workers")
    ben = connect("ben", elsewhere=1)
    ben.join_group("workers", create=True)
    ben.leave_group("workers")
    deaf("commit")
    ann.group("workers").forget("ben")
    with pytest.raises(MemberNotFound):
        ann.group("workers").forget("ben")


def test_what_had_not_begun_is_never_done(connect: Connect) -> None:
    ann = connect("ann", timeout=0.3)
    ann.join_group("workers", create=True)
    cut_off(ann)
    for call in (
        lambda: ann.create_group("x"),
        ann.get_all_group_ids,
        lambda: ann.group("workers").mark("ann", disabled="x"),
    ):
        with pytest.raises(StoreUnavailable, match=r"cannot be reached|did not answer"):
            call()
    cut_off(ann, False)
    eventually(lambda: ann.health()["connected"], "it serves again")
    assert ann.get_all_group_ids() == ["workers"]
    assert ann.group("workers").view(fresh=True)["ann"].disabled is None


@pytest.mark.parametrize("wrong", ["1", -1, -0.5, math.nan, True, [1]])
def test_a_number_of_seconds_is_one(connect: Connect, wrong: Any) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    with group.leadership(math.inf) as term, group.changes() as changes:
        assert changes.get(math.inf).kind is Kind.JOINED
        for call in (
            lambda: connect("ben", timeout=wrong),
            lambda: changes.get(wrong),
            lambda: term.wait(wrong),
            lambda: group.view(max_age=wrong),
            lambda: ann.close(wrong),
            group.leadership(wrong).__enter__,
        ):
            with pytest.raises(ConfigError, match=r"^(timeout|max_age) must be .*seconds.*, not "):
                call()
        assert term.wait(0) is False
        assert group.view(max_age=math.inf)
    with pytest.raises(ConfigError, match="timeout must be 0 or more seconds, not None"):
        ann.close(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="fenced must be True or False, not 'no'"):
        group.mark("ann", fenced="no")  # type: ignore[arg-type]
    assert connect("ben", timeout=math.inf).get_members("workers") == ["ann"]
    ann.close(0)


@pytest.mark.parametrize("wrong", [[1], {"a": 1}, None, b"1"])
def test_an_option_of_the_store_is_a_word_or_a_number(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="poll must be a string, a number or a bool, not "):
        Coordinator("memory://options", poll=wrong)


def test_a_group_that_nobody_holds_is_forgotten(connect: Connect) -> None:
    """And what was said through it is not: the next view of it shows it. Who holds it shares it."""
    ann = connect("ann")
    ann.join_group("workers", create=True)
    ann.get_leader("workers")
    for n in range(50):
        ann.group("workers").mark("ann", disabled=f"reason {n}")
        gc.collect()
        assert ann.group("workers").view()["ann"].disabled == f"reason {n}"
    ann.group("workers").mark("ann", disabled=None)
    heard: list[Change] = []
    ann.set_notifier_func("workers", heard.append)
    ann.set_notifier_func("workers", None)
    with ann.group("workers").leadership(SOON) as term:
        gc.collect()
        with pytest.raises(LockTimeout), ann.group("workers").leadership(timeout=0):
            pass
        assert term.trusted
    gc.collect()
    assert len(ann._groups) == 0
    group = ann.group("workers")
    assert ann.group("workers") is group


def test_a_message_ends_as_a_sentence_does(connect: Connect) -> None:
    ann = connect("ann")
    ann.join_group("workers", create=True)
    group = ann.group("workers")
    for call, error, text in (
        (
            lambda: ann.get_members("workrs"),
            GroupNotFound,
            "'workrs'; did you mean 'workers'? create_group makes",
        ),
        (lambda: ann.get_members("x"), GroupNotFound, "there is no group 'x'. create_group makes one; join_"),
        (
            lambda: ann.delete_group("x"),
            GroupNotFound,
            "there is no group 'x'. get_all_group_ids lists those",
        ),
        (
            lambda: ann.get_member_capabilities("workers", "an"),
            MemberNotFound,
            "mean 'ann'? get_members lists",
        ),
        (lambda: group.forget("x"), MemberNotFound, "knows no member 'x'. view() lists those it knows"),
    ):
        with pytest.raises(error) as told:
            call()
        assert text in str(told.value)


# ── views ──


def test_a_call_of_ones_own_is_seen_by_the_next(connect: Connect) -> None:
    """Join, update, mark, leave, create, delete: the very next view shows each of them, a hundred times."""
    ann = connect("ann")
    group = ann.join_group("workers", b"", create=True)
    assert group.view()["ann"].status is Status.UP
    for n in range(100):
        ann.update_capabilities(b"%d" % n)
        assert group.view()["ann"].capabilities == b"%d" % n
        group.mark("ann", disabled=f"reason {n}")
        assert group.view()["ann"].disabled == f"reason {n}"
    ann.leave_group("workers")
    assert group.view()["ann"].status is Status.LEFT
    ann.delete_group("workers")
    with pytest.raises(GroupNotFound):
        group.view()
    ann.create_group("workers")
    assert len(group.view()) == 0


def test_threads_that_publish_at_once_do_not_wait_for_what_was_replaced(connect: Connect) -> None:
    """One call's capabilities take the place of another's before these are written. Both have done what was
    asked for, the one just before the other; neither waits for what will never be there."""
    ann = connect("ann", timeout=5.0)
    ann.join_group("workers", create=True)
    faults: list[BaseException] = []

    def publish(n: int) -> None:
        try:
            for turn in range(100):
                ann.update_capabilities(b"%d of %d" % (turn, n))
        except headcount.HeadcountError as error:
            faults.append(error)

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SOON)
    assert faults == []
    assert ann.get_member_capabilities("workers", "ann").startswith(b"99 of ")


def test_is_up_of_a_stranger_is_false_and_never_raises(connect: Connect) -> None:
    """Whatever it is asked about, even what could be no id at all."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    assert group.is_up("ann") is True
    for stranger in ("ben", "", "x" * 999, "\ud800"):
        assert group.is_up(stranger) is False
    group.mark("ann", forced_down=True)
    assert group.is_up("ann") is False


def test_view_and_is_up_answer_while_the_store_is_down(connect: Connect) -> None:
    """From memory, with an age that grows and a reason; at once when it serves again."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    ben.join_group("workers")
    group = ann.group("workers")
    eventually(lambda: group.is_up("ben"), "ann sees ben")
    assert group.view().degraded is None

    cut_off(ann)
    degraded = eventually(lambda: group.view() if group.view().degraded else None, "degraded")
    assert degraded is not None
    assert "cannot be reached" in str(degraded.degraded)
    age = group.view().age
    eventually(lambda: group.view().age > age + 0.1, "the age grows")
    began = time.monotonic()
    assert group.is_up("ann") and group.is_up("ben") and not group.is_up("cid")
    assert time.monotonic() - began < 0.5  # far below the timeout of 10 s: nothing was asked of the store

    cut_off(ann, False)
    eventually(lambda: group.view().degraded is None and group.view().age < 0.5, "steady again")


def test_max_age_reads_first_and_raises_only_if_that_fails(connect: Connect) -> None:
    ann = connect("ann", timeout=0.4)
    group = ann.join_group("workers", create=True)
    group.view()
    eventually(lambda: group.view().age > 0.05, "it is 50 ms old")
    assert group.view(max_age=0.05).age <= 0.05  # old, but could be read anew

    cut_off(ann)
    eventually(lambda: group.view().age > 0.3, "it is 0.3 s old")
    with pytest.raises(
        Stale, match=r"view of group 'workers' is \d.*more than the 0\.1 s allowed.*cannot be"
    ):
        group.view(max_age=0.1)
    assert group.view(max_age=3600).revision == group.view().revision
    with pytest.raises(StoreUnavailable, match=r"cannot be reached \(waited 0\.4 s; worth trying again\)"):
        group.view(fresh=True)


def test_fresh_reads_the_store(connect: Connect) -> None:
    """A view may be behind by what is on its way; a fresh one is not."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    group = ben.join_group("workers")
    for n in range(50):
        ann.update_capabilities(b"%d" % n)
        assert group.view(fresh=True)["ann"].capabilities == b"%d" % n


def test_what_was_never_read_cannot_be_answered(connect: Connect) -> None:
    ann = connect("ann", timeout=0.2)
    ann.create_group("workers")
    cut_off(ann)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        ann.group("workers").view()


def test_down_and_left_members_stay_listed_until_forgotten(connect: Connect) -> None:
    ann, ben, cid = connect("ann"), connect("ben", elsewhere=1), connect("cid", elsewhere=2)
    for member in (ann, ben, cid):
        member.join_group("workers", b"x", create=True)
    group = ann.group("workers")
    ben.leave_group("workers")
    cut_off(cid)
    eventually(lambda: "cid" in group.view() and group.view()["cid"].status is Status.DOWN, "cid is down")
    assert group.view()["ben"].status is Status.LEFT
    assert [m.member_id for m in group.view().up] == ["ann"]
    assert ann.get_members("workers") == ["ann"]
    with pytest.raises(MemberNotFound, match="it is down since"):
        ann.get_member_capabilities("workers", "cid")
    group.forget("ben")
    group.forget("cid")
    assert list(group.view()) == ["ann"]


def test_who_is_forgotten_alive_comes_back(connect: Connect) -> None:
    """To take a member out for good is to expel it."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    ben.join_group("workers")
    group = ann.group("workers")
    life = group.view(fresh=True)["ben"].incarnation
    with ben.group("workers").changes(initial=False) as bens:
        group.forget("ben")
        changes_until(bens, is_(Kind.REJOINED))
    assert group.view(fresh=True)["ben"].incarnation > life


# ── changes ──


def test_changes_begin_with_who_is_here(connect: Connect) -> None:
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    ben.join_group("workers")
    ann.group("workers").mark("cid", disabled="not here yet")
    cid = connect("cid", elsewhere=2)
    cid.join_group("workers")
    cid.leave_group("workers")
    group = ann.group("workers")
    group.view(fresh=True)
    with group.changes() as changes:
        assert told([changes.get(SOON) for _ in range(3)]) == [
            ("joined", "ann"),
            ("joined", "ben"),
            ("leader", "ann"),
        ]
        with pytest.raises(TimeoutError, match=r"no change within 0\.01 s"):
            changes.get(timeout=0.01)
    with group.changes(initial=False) as changes, pytest.raises(TimeoutError):
        changes.get(timeout=0.01)


def test_changes_are_an_iterator_that_ends_with_its_coordinator(connect: Connect) -> None:
    """Even for a thread that is waiting for the next one."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    heard: list[Change] = []
    started = threading.Event()

    def read() -> None:
        for change in group.changes():
            heard.append(change)
            started.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert started.wait(SOON)
    ann.close()
    reader.join(SOON)
    assert not reader.is_alive()
    assert told(heard)[:2] == [("joined", "ann"), ("leader", "ann")]


def test_changes_end_when_they_are_closed(connect: Connect) -> None:
    ann = connect("ann")
    with ann.join_group("workers", create=True).changes(initial=False) as changes:
        pass
    with pytest.raises(Closed, match="these changes are closed"):
        changes.get()
    assert list(changes) == []
    ann.update_capabilities(b"x")
    assert list(changes) == []


def test_a_slow_reader_gets_exactly_one_resync(connect: Connect) -> None:
    """It falls far behind, and then hears how things stand, and what comes after; never an old story with
    holes, and never more than the bound."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    with group.changes(initial=False) as changes:
        for n in range(2500):
            ann.update_capabilities(b"%d" % n)
        group.view(fresh=True)
        waiting = len(changes._queue)
        heard = [changes.get(0) for _ in range(waiting)]
    assert waiting <= 1000
    assert [change.kind for change in heard].count(Kind.RESYNC) == 1
    assert heard[0].kind is Kind.RESYNC
    assert heard[-1].view["ann"].capabilities == b"2499"
    seen = [heard[0].view["ann"].capabilities] + [c.member.capabilities for c in heard[1:] if c.member]
    assert seen == [b"%d" % n for n in range(2500 - waiting, 2500)], "nothing is left out after the resync"


def test_each_watcher_sees_growing_revisions(connect: Connect) -> None:
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    with ben.group("workers").changes() as changes:
        for n in range(200):
            ann.update_capabilities(b"%d" % n)
        heard = changes_until(changes, lambda c: c.member is not None and c.member.capabilities == b"199")
    revisions = [change.view.revision for change in heard]
    assert revisions == sorted(revisions)
    for one, next_ in itertools.pairwise(heard):
        if one.kind is next_.kind is Kind.UPDATED:
            assert next_.before == one.member


# ── notifiers ──


def test_a_notifier_that_raises_is_called_again(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """And says so in the log, with its traceback. Not even a SystemExit stops the calls."""
    ann = connect("ann")
    ann.join_group("workers", create=True)
    heard: list[bytes] = []

    def notifier(change: Change) -> None:
        assert change.member is not None
        heard.append(change.member.capabilities)
        raise SystemExit if len(heard) == 2 else ZeroDivisionError

    ann.set_notifier_func("workers", notifier)
    for value in (b"1", b"2", b"3"):
        ann.update_capabilities(value)
        eventually(lambda value=value: value in heard, "called")  # type: ignore[misc]
    assert heard == [b"1", b"2", b"3"]
    eventually(lambda: len(raised(caplog)) == 3, "logged thrice")
    assert raised(caplog)[0] == "a notifier of group 'workers' raised on updated"


def raised(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.exc_info]


def test_a_slow_notifier_is_never_called_twice_at_once_and_misses_nothing(connect: Connect) -> None:
    """Calls of one notifier never overlap, though changes come faster than it works."""
    ann = connect("ann")
    ann.join_group("workers", create=True)
    inside, overlaps, heard = threading.Lock(), [], []

    def notifier(change: Change) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(change)
            return
        time.sleep(0.01)  # this is the work, not a wait
        heard.append(change.member.capabilities if change.member else b"")
        inside.release()

    ann.set_notifier_func("workers", notifier)
    for n in range(30):
        ann.update_capabilities(b"%d" % n)
    eventually(lambda: len(heard) == 30, "thirty calls")
    assert overlaps == []
    assert heard == [b"%d" % n for n in range(30)]


def test_that_a_notifier_is_slow_is_logged_once(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    ann = connect("ann")
    ann.join_group("workers", create=True)
    heard: list[Change] = []

    def notifier(change: Change) -> None:
        time.sleep(1.1)  # this is the work, not a wait
        heard.append(change)

    ann.set_notifier_func("workers", notifier)
    ann.update_capabilities(b"1")
    ann.update_capabilities(b"2")
    eventually(lambda: len(heard) == 2, "called twice")
    eventually(lambda: slow(caplog), "logged")
    assert len(slow(caplog)) == 1
    assert "it delays all others of this process" in slow(caplog)[0]


def slow(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    return [text for text in said if text.startswith("a notifier of group 'workers' took")]


def test_a_notifier_may_call_its_coordinator(connect: Connect) -> None:
    """Any of its calls, also those that wait for the store, also to unset itself, also close."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.create_group("workers")
    answers: list[object] = []
    done = threading.Event()

    def notifier(change: Change) -> None:
        if change.kind is not Kind.JOINED:
            return
        answers.append(ann.get_members("workers"))
        answers.append(ann.create_group("made-within"))
        ann.join_group("workers")
        answers.append(ann.get_leader("workers"))
        ann.set_notifier_func("workers", None)
        ann.close()
        done.set()

    ann.set_notifier_func("workers", notifier)
    ben.join_group("workers")
    assert done.wait(SOON), answers
    assert answers == [["ben"], True, "ben"]
    eventually(lambda: ben.get_members("workers") == ["ben"], "ann has left")


def test_on_change_returns_what_ends_it(connect: Connect) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    first: list[Change] = []
    second: list[Change] = []
    end = group.on_change(first.append)
    group.on_change(second.append)
    ann.update_capabilities(b"1")
    eventually(lambda: len(first) == len(second) == 1, "both are called")
    end()
    end()  # twice is no mistake
    ann.update_capabilities(b"2")
    eventually(lambda: len(second) == 2, "the other is called")
    assert len(first) == 1


# ── leading ──


def test_leadership_waits_for_its_turn(connect: Connect) -> None:
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    with anns.leadership(SOON) as term:
        assert term.check() == term.token
        assert 0 < term.trusted_for <= TTL
        too_late = pytest.raises(LockTimeout, match=r"did not come to lead group 'workers' within 0\.2 s")
        with too_late, bens.leadership(timeout=0.2):
            pass
        waiting: list[int] = []

        def wait() -> None:
            with bens.leadership(timeout=SOON) as theirs:
                waiting.append(theirs.token)

        thread = threading.Thread(target=wait)
        thread.start()
        assert not term.wait(0.2)
        assert waiting == []
    thread.join(SOON)
    assert len(waiting) == 1 and waiting[0] > term.token
    assert not term.trusted
    with pytest.raises(NotTrusted, match=f"the term with token {term.token} is over: resigned"):
        term.check()


def test_leadership_without_waiting_is_given_to_who_leads(connect: Connect) -> None:
    """timeout=0 asks how things stand: it fails for the others, and not for the leader."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    assert ben.get_leader("workers") == "ann"
    assert ann.get_leader("workers") == "ann"
    with anns.leadership(timeout=0) as term:
        assert term.trusted
        with pytest.raises(LockTimeout), bens.leadership(timeout=0):
            pass


def test_who_does_not_stand_stands_for_leadership(connect: Connect) -> None:
    """And only while it asks for it."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    group = ann.join_group("workers", create=True, stand=False)
    ben.join_group("workers", stand=False)
    assert ann.get_leader("workers") is None
    with group.leadership(SOON) as term:
        assert term.trusted
        eventually(lambda: ben.get_leader("workers") == "ann", "ben sees ann lead")
    eventually(lambda: ben.get_leader("workers") is None, "nobody stands any more")


def test_resign_hands_over(connect: Connect) -> None:
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", create=True)
    ben.join_group("workers")
    assert eventually(lambda: ben.get_leader("workers"), "somebody leads") == "ann"
    with anns.leadership(SOON) as term:
        anns.resign()
        assert not term.trusted
        assert term.wait(0) is True
        eventually(lambda: ben.get_leader("workers") == "ben", "ben leads")
    ben.group("workers").resign()
    eventually(lambda: ann.get_leader("workers") == "ann", "ann leads again, behind ben")


def test_threads_of_one_member_take_turns(connect: Connect) -> None:
    """Never two of them within at once, and each has a token of its own."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    inside, tokens, faults = threading.Lock(), [], []

    def work() -> None:
        for _ in range(3):
            with group.leadership(timeout=SOON) as term:
                if not inside.acquire(blocking=False):
                    faults.append("two at once")
                    continue
                tokens.append(term.check())
                inside.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SOON)
    assert faults == []
    assert len(tokens) == 12
    assert tokens == sorted(set(tokens))


def disable(operator: Coordinator) -> None:
    operator.group("workers").mark("ann", disabled="maintenance")


def force_down(operator: Coordinator) -> None:
    operator.group("workers").mark("ann", forced_down=True)


def expel(operator: Coordinator) -> None:
    operator.group("workers").mark("ann", expelled=True)


def forget(operator: Coordinator) -> None:
    operator.group("workers").forget("ann")


@pytest.mark.parametrize("take_away", [disable, force_down, expel, forget])
def test_what_takes_the_place_away_ends_the_term_first(
    connect: Connect, take_away: Callable[[Coordinator], None]
) -> None:
    """The next one leads only when the term is over for its owner too."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    with anns.leadership(SOON) as term:
        take_away(ben)
        with bens.leadership(SOON) as theirs:
            assert not term.trusted
            assert theirs.token > term.token
        assert term.wait(0) is True
        with pytest.raises(NotTrusted, match=f"token {term.token} is over"):
            term.check()


def test_a_takeover_ends_the_term_first(connect: Connect) -> None:
    """A process started anew under the name is a member at once, and leads when its predecessor cannot."""
    ann = connect("ann")
    with ann.join_group("workers", create=True).leadership(SOON) as term:
        again = connect("ann", elsewhere=1)
        with again.join_group("workers").leadership(SOON) as theirs:
            assert not term.trusted
            assert theirs.token > term.token


def test_a_term_ends_without_the_store(connect: Connect) -> None:
    """Whoever cannot reach the store stops by itself, before anybody else may begin; and so hears `wait`."""
    ann = connect("ann")
    with ann.join_group("workers", create=True).leadership(SOON) as term:
        cut_off(ann)
        began = time.monotonic()
        assert term.wait(SOON) is True
        assert time.monotonic() - began < TTL
        assert not term.trusted
        cut_off(ann, False)
        eventually(lambda: ann.health()["outage_seconds"] is None, "it serves again")
        assert not term.trusted, "what has once been doubted stays so"


def test_leadership_that_is_closed_while_it_waits_says_so(connect: Connect) -> None:
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    errors: list[BaseException] = []
    waits = threading.Event()

    def wait() -> None:
        try:
            waits.set()
            with bens.leadership():
                pass
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(SOON)
    ben.close()
    thread.join(SOON)
    assert len(errors) == 1


# ── readiness ──


def test_readiness_runs_out_and_comes_back(connect: Connect) -> None:
    """Not vouched for in time, a member is unready: no member, and no leader, while it stays listed."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    ben.join_group("workers")
    group = ben.group("workers")
    life = group.view(fresh=True)["ann"].incarnation
    ann.ready(for_=0.2)
    assert ann.health()["ready"] is True
    eventually(lambda: group.view()["ann"].status is Status.UNREADY, "ann is unready")
    assert ann.health()["ready"] is False
    assert ben.get_members("workers") == ["ben"]
    eventually(lambda: ben.get_leader("workers") == "ben", "ben leads")
    assert not group.view()["ann"].usable

    ann.ready()
    eventually(lambda: group.view()["ann"].status is Status.UP, "ann is ready")
    assert group.view()["ann"].incarnation == life
    assert ben.get_leader("workers") == "ben"


def test_readiness_that_is_said_again_in_time_lasts(connect: Connect) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    seen = set()
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        ann.ready(for_=0.5)
        seen.add(group.view(fresh=True)["ann"].status)
    assert seen == {Status.UP}


def test_unready_from_the_start_joins_unready(connect: Connect) -> None:
    ann = connect("ann")
    ann.ready(False)
    ann.join_group("workers", create=True)
    assert ann.group("workers").view()["ann"].status is Status.UNREADY
    assert ann.get_members("workers") == []
    assert ann.get_leader("workers") is None


# ── marks ──


def test_the_disabled_stay_members_but_do_not_lead(connect: Connect) -> None:
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    ben.join_group("workers")
    group = ben.group("workers")
    group.mark("ann", disabled="maintenance")
    member = group.view()["ann"]
    assert (member.status, member.disabled, member.usable) == (Status.UP, "maintenance", False)
    assert ben.get_members("workers") == ["ann", "ben"]
    eventually(lambda: ben.get_leader("workers") == "ben", "ben leads")
    group.mark("ann", disabled=None)
    assert group.view()["ann"].usable
    eventually(lambda: ann.get_leader("workers") == "ben", "ann stands behind ben")


def test_a_mark_says_what_it_is_given_and_leaves_the_rest(connect: Connect) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    group.mark("ann", disabled="maintenance")
    group.mark("ann", forced_down=True)
    member = group.view()["ann"]
    assert (member.disabled, member.forced_down, member.expelled) == ("maintenance", True, False)
    group.mark("ann", disabled=None)
    assert group.view()["ann"].forced_down
    group.mark("nobody", disabled="before its first life")
    assert group.view()["nobody"].status is Status.LEFT


def test_the_expelled_are_barred_until_that_is_lifted(connect: Connect) -> None:
    """They are told, every call says why, and when it is lifted they are back by themselves."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", b"v1", create=True)
    ben.join_group("workers")
    with anns.changes(initial=False) as changes:
        ben.group("workers").mark("ann", expelled=True)
        changes_until(changes, is_(Kind.LOST))
        assert ben.get_members("workers") == ["ben"]
        for call in (
            lambda: ann.join_group("workers"),
            lambda: ann.update_capabilities(b"v2"),
            lambda: ann.update_capabilities(b"v2", group_id="workers"),
            anns.resign,
        ):
            with pytest.raises(Expelled, match="'ann' was expelled from group 'workers' by an operator"):
                call()
        with pytest.raises(Expelled), anns.leadership(SOON):
            pass
        with pytest.raises(Expelled):
            connect("ann", elsewhere=2).join_group("workers")

        ben.group("workers").mark("ann", expelled=False)
        changes_until(changes, is_(Kind.REJOINED))
    assert eventually(lambda: ben.get_members("workers") == ["ann", "ben"], "ann is back")


def test_the_expelled_close_at_once(connect: Connect) -> None:
    """They have no row to take back, and their session is ended all the same."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    group.mark("ann", expelled=True)
    eventually(lambda: ann.health()["groups"] == {"workers": "barred"}, "ann is barred")
    began = time.monotonic()
    ann.close(timeout=5.0)
    assert time.monotonic() - began < 1.0
    assert ann.health()["session"] is None


# ── one name, two processes ──


def test_the_predecessor_is_superseded_once_and_for_good(connect: Connect) -> None:
    """Started anew on the same host, a process is a member at once; the one before hears so once, and does
    not come back by itself, whatever happens."""
    old = connect("ann")
    group = old.join_group("workers", b"old", create=True)
    life = group.view()["ann"].incarnation
    with group.changes(initial=False) as changes:
        new = connect("ann", elsewhere=1)
        new.join_group("workers", b"new")
        assert new.group("workers").view()["ann"].incarnation > life
        heard = changes_until(changes, is_(Kind.SUPERSEDED))
        for call in (lambda: old.update_capabilities(b"x"), group.resign):
            with pytest.raises(Superseded, match=r"is another process now, on host .*this one stays out"):
                call()
        new.leave_group("workers")
        heard += changes_until(changes, is_(Kind.LEFT, "ann"))
        new.create_group("a-sign")
        eventually(lambda: "a-sign" in old.get_all_group_ids(), "the store serves it")
        with pytest.raises(TimeoutError):
            heard.append(changes.get(timeout=TTL))
    assert [change.kind for change in heard].count(Kind.SUPERSEDED) == 1
    assert new.get_members("workers") == []
    old.join_group("workers", b"asked for")  # but if it is asked to, it may
    assert new.group("workers").view(fresh=True)["ann"].capabilities == b"asked for"


def test_another_host_does_not_take_a_living_name(connect: Connect) -> None:
    here = connect("ann", host="here")
    here.join_group("workers", b"here", create=True)
    there = connect("ann", elsewhere=1, host="there")
    with pytest.raises(
        MemberTaken, match=r"'ann' in group 'workers' is a living member on host 'here'; choose an"
    ):
        there.join_group("workers")
    assert there.get_member_capabilities("workers", "ann") == b"here"
    cut_off(here)
    eventually(lambda: there.get_members("workers") == [], "the other is down")
    there.join_group("workers", b"there")
    assert there.get_member_capabilities("workers", "ann") == b"there"
    cut_off(here, False)


def test_on_conflict_fail_refuses_on_the_same_host_too(connect: Connect) -> None:
    connect("ann").join_group("workers", create=True)
    again = connect("ann", elsewhere=1, on_conflict="fail")
    with pytest.raises(MemberTaken, match="is a living member"):
        again.join_group("workers")


def test_on_conflict_wait_waits_for_the_other_to_go(connect: Connect) -> None:
    ann = connect("ann")
    ann.join_group("workers", b"first", create=True)
    again = connect("ann", elsewhere=1, on_conflict="wait")
    joined = threading.Event()

    def join() -> None:
        again.join_group("workers", b"second")
        joined.set()

    thread = threading.Thread(target=join)
    thread.start()
    try:
        assert not joined.wait(0.5)
        assert ann.get_member_capabilities("workers", "ann") == b"first"
    finally:
        ann.leave_group("workers")
        thread.join(SOON)
    assert joined.is_set()
    assert again.get_member_capabilities("workers", "ann") == b"second"


def test_those_that_share_a_name_are_one_member(connect: Connect) -> None:
    """Named once, up while any of them is; leaving is not the others' business."""
    one = connect("ann", on_conflict="share")
    two = connect("ann", elsewhere=1, on_conflict="share")
    other = connect(elsewhere=2)
    one.join_group("workers", b"x", create=True)
    two.join_group("workers", b"x")
    with other.group("workers").changes() as changes:
        assert changes.get(SOON).kind is Kind.JOINED
        assert other.get_members("workers") == ["ann"]
        assert len(other.group("workers").view()) == 1
        one.leave_group("workers")
        other.group("workers").view(fresh=True)
        assert other.get_members("workers") == ["ann"]
        two.leave_group("workers")
        heard = changes_until(changes, is_(Kind.LEFT, "ann"))
    assert Kind.JOINED not in [change.kind for change in heard], "it was there all the time"
    assert other.get_members("workers") == []


# ── health ──


def test_health_tells_how_it_fares(connect: Connect) -> None:
    lazy = Coordinator("memory://never-reached", member_id="ann")
    assert lazy.health() == {"connected": False, "closed": False}
    ann = connect("ann")
    ann.join_group("workers", create=True)
    health = ann.health()
    assert (health["connected"], health["error"], health["outage_seconds"]) == (True, None, None)
    assert health["groups"] == {"workers": "joined"}
    assert str(health["store"]).startswith("memory://")
    trusted = health["trusted_for"]
    assert isinstance(trusted, float) and 0 < trusted <= TTL

    cut_off(ann)
    eventually(lambda: not ann.health()["connected"], "cut off")
    assert "cannot be reached" in str(ann.health()["error"])
    eventually(lambda: ann.health()["trusted_for"] == 0.0, "trust runs out")
    cut_off(ann, False)
    eventually(lambda: ann.health()["connected"], "connected again")


def test_repr_says_who_and_where(connect: Connect) -> None:
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    assert repr(ann).startswith("<Coordinator 'ann' on 'memory://")
    assert repr(connect()).startswith("<Coordinator 'observer' on 'memory://")
    assert "'workers'" in repr(group) and "'ann'" in repr(group)
    with group.leadership(SOON) as term:
        assert repr(term) == f"<Term {term.token} of 'workers': trusted>"


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Connecting, joining, watching and closing over and over costs neither threads nor descriptors."""
    url = f"sqlite:///{tmp_path}/many.db?interval=0.1"

    def once() -> None:
        with headcount.connect(url, member_id="ann", ttl=TTL) as ann:
            ann.join_group("workers", create=True).changes().get(SOON)

    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    once()
    before = held()
    for _ in range(10):
        once()
    eventually(lambda: held() <= before, f"no more than {before}")
