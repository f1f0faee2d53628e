"""The engine: real threads over a store in memory that can be cut off, hang, or fail in odd ways."""

from __future__ import annotations

import copy
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import headcount
from headcount import Closed, Coordinator, Kind, NotTrusted, OutcomeUnknown, Status, StoreUnavailable
from headcount.engine.hub import Hub
from headcount.stores.memory import MemoryStore
from tests.processes.waiting import SOON, changes_until, eventually, is_

TTL, INTERVAL = 1.0, 0.1

DOWN = TTL + 2 * INTERVAL + 1.0
"""Seconds within which a stopped member is down: the first bound of the guarantees, in whole ticks."""

Connect = Callable[..., Coordinator]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects to one store. `elsewhere=n`: from another process, as far as the library can tell."""
    name, made = uuid.uuid4().hex, []

    def call(member_id: str | None = None, *, elsewhere: int = 0, **more: Any) -> Coordinator:
        url = f"memory://{name}?interval={INTERVAL}{'0' * elsewhere}"
        made.append(headcount.connect(url, member_id=member_id, **{"ttl": TTL, **more}))
        return made[-1]

    yield call
    for coordinator in made:
        if coordinator._hub is not None:
            store(coordinator).reachable = True
        coordinator.close(timeout=2.0)


def hub(coordinator: Coordinator) -> Hub:
    assert coordinator._hub is not None
    return coordinator._hub


def store(coordinator: Coordinator) -> Any:
    return hub(coordinator).store


def cut_off(coordinator: Coordinator, cut: bool = True) -> None:
    store(coordinator).reachable = not cut
    hub(coordinator).wake()


class Hang:
    """From now on this call of a store answers only once it is let go."""

    def __init__(self, coordinator: Coordinator, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(store(coordinator), name)
        self.reached, self._free = threading.Event(), threading.Event()

        def call(*args: Any, **more: Any) -> Any:
            if not self._free.is_set():
                self.reached.set()
                assert self._free.wait(60), "nobody let it go"
            return real(*args, **more)

        monkeypatch.setattr(store(coordinator), name, call)

    def let_go(self) -> None:
        self._free.set()


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Coordinator, str], Hang]]:
    made: list[Hang] = []

    def call(coordinator: Coordinator, name: str) -> Hang:
        made.append(Hang(coordinator, name, monkeypatch))
        return made[-1]

    yield call
    for one in made:
        one.let_go()


def said(caplog: pytest.LogCaptureFixture, words: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if words in record.getMessage()]


# ── outages ──


def test_an_outage_is_one_warning_and_one_line_at_its_end(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """However many calls fail meanwhile; the line at the end says how long it was."""
    caplog.set_level(logging.DEBUG, "headcount")
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    group.view()
    caplog.clear()
    cut_off(ann)
    eventually(lambda: said(caplog, "does not serve us"), "the warning")
    eventually(lambda: (ann.health()["outage_seconds"] or 0.0) > 1.2, "it lasts")  # type: ignore[operator]
    cut_off(ann, False)
    eventually(lambda: said(caplog, "serves us again"), "its end")
    eventually(lambda: ann.health()["connected"], "connected")
    (began,) = said(caplog, "does not serve us")
    (ended,) = said(caplog, "serves us again")
    assert (began.levelno, ended.levelno) == (logging.WARNING, logging.INFO)
    seconds = float(ended.getMessage().rpartition("after ")[2].removesuffix(" s"))
    assert 1.2 <= seconds < 1.2 + SOON
    assert [r.getMessage() for r in caplog.records if r.levelno > logging.INFO] == [began.getMessage()]


def test_an_outage_of_everybody_kills_nobody(connect: Connect) -> None:
    """Three ttls long; afterwards all are the same lives as before, and nobody was told of a loss."""
    everybody = [connect(name, elsewhere=n) for n, name in enumerate(("ann", "ben", "cid"))]
    for one in everybody:
        one.join_group("workers", create=True)
    watch = everybody[0].group("workers").changes(initial=False)
    lives = {m.member_id: m.incarnation for m in everybody[0].group("workers").view(fresh=True).up}
    for one in everybody:
        cut_off(one)
    eventually(lambda: everybody[0].group("workers").view().age > 3 * TTL, "three ttls")
    for one in everybody:
        cut_off(one, False)
    server = store(everybody[0]).server
    ticks = server.clock_row.number
    eventually(lambda: server.clock_row.number > ticks + 2 * TTL / INTERVAL, "two ttls of the store's clock")
    view = everybody[0].group("workers").view(fresh=True)
    assert {m.member_id: m.incarnation for m in view.up} == lives
    watch.close()
    assert {change.kind for change in watch} <= {Kind.DEGRADED, Kind.STEADY, Kind.LEADER, Kind.UPDATED}


def test_who_lost_its_session_is_back_by_itself_and_told(connect: Connect) -> None:
    """`lost`, then `rejoined`, to itself; down and joined, as a new life, to the others."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", b"x", create=True)
    bens = ben.join_group("workers")
    life = bens.view(fresh=True)["ann"].incarnation
    with anns.changes(initial=False) as heard, bens.changes(initial=False) as seen:
        cut_off(ann)
        changes_until(seen, is_(Kind.DOWN, "ann"), within=DOWN + SOON)
        cut_off(ann, False)
        own = changes_until(heard, is_(Kind.REJOINED))
        changes_until(seen, is_(Kind.JOINED, "ann"))
    about_us = [c.kind for c in own if c.kind in (Kind.LOST, Kind.REJOINED, Kind.SUPERSEDED)]
    assert about_us == [Kind.LOST, Kind.REJOINED]
    back = bens.view()["ann"]
    assert back.incarnation > life and back.capabilities == b"x" and back.status is Status.UP


def test_a_join_that_is_repeated_in_an_outage_takes_nothing_back(connect: Connect) -> None:
    """Who has joined stays wanted, though the repetition fails: it comes back when the store does."""
    ann, ben = connect("ann", timeout=0.2), connect("ben", elsewhere=1)
    ann.join_group("workers", b"x", create=True)
    ben.join_group("workers")
    bens = ben.group("workers")
    cut_off(ann)
    eventually(lambda: bens.view()["ann"].status is Status.DOWN, "ann is down")
    # It learns of its loss only when it can reach the store; so the store serves its beats alone.
    with hub(ann).lock:
        hub(ann).node.lose(ann._require_agent())
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        ann.join_group("workers", b"x")
    cut_off(ann, False)
    eventually(lambda: bens.is_up("ann"), "ann is back")


def test_an_observer_keeps_the_clock_going(connect: Connect) -> None:
    """With one member and one observer, it is the observer that has to notice."""
    ann, observer = connect("ann"), connect(elsewhere=1)
    ann.join_group("workers", create=True)
    with observer.group("workers").changes(initial=False) as changes:
        cut_off(ann)
        changes_until(changes, is_(Kind.DOWN, "ann"), within=DOWN + SOON)
    assert observer.get_members("workers") == []


# ── what hangs ──


def test_a_heart_without_eyes_stops_and_comes_back(
    connect: Connect, hang: Callable[[Coordinator, str], Hang]
) -> None:
    """While the watcher hangs, nobody would notice what was taken away; after a ttl of that it is better to
    be lost. When it moves again, the member is back by itself."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    with anns.leadership(SOON) as term, bens.changes(initial=False) as seen:
        hung = hang(ann, "read")
        ben.update_capabilities(b"to be read")
        assert hung.reached.wait(SOON)
        began = time.monotonic()
        changes_until(seen, is_(Kind.DOWN, "ann"), within=TTL + DOWN + SOON)
        assert time.monotonic() - began > TTL, "not before its eyes were shut for a ttl"
        assert not term.trusted
        assert anns.is_up("ben")  # the view answers all the same
        hung.let_go()
        changes_until(seen, is_(Kind.JOINED, "ann"))


def test_a_heart_that_hangs_ends_trust_in_time(
    connect: Connect, hang: Callable[[Coordinator, str], Hang]
) -> None:
    """A beat that gets no answer extends nothing, however long the answer takes."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    anns = ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    with anns.leadership(SOON) as term:
        hung = hang(ann, "beat")
        assert hung.reached.wait(SOON)
        assert term.wait(SOON) is True
        with pytest.raises(NotTrusted, match="the store did not confirm our session in time"):
            term.check()
        with bens.leadership(DOWN + SOON) as theirs:
            assert theirs.token > term.token
            hung.let_go()
            eventually(lambda: ann.get_members("workers") == ["ann", "ben"], "ann is back")
            assert theirs.trusted
            assert not term.trusted


def test_a_call_waits_no_longer_than_its_timeout(
    connect: Connect, hang: Callable[[Coordinator, str], Hang]
) -> None:
    """Also if the store hangs in the middle of another one's call."""
    ann = connect("ann", timeout=0.3)
    ann.create_group("workers")
    hung = hang(ann, "groups")
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises((StoreUnavailable, OutcomeUnknown), match="did not answer"):
            ann.get_all_group_ids()
        assert 0.25 < time.monotonic() - began < 2.0
    hung.let_go()
    assert eventually(lambda: ann.get_all_group_ids() == ["workers"], "it answers again")


def test_what_changes_before_the_doorbell_is_hung_is_seen(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doorbell rings for what comes after it. What came between the first reading of a group and the
    first doorbell rang nowhere; a view then stayed as it was until the next change of that group."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.create_group("workers")
    ben.create_group("workers")
    real = store(ann).doorbell

    def doorbell() -> Any:
        ben.join_group("workers")
        return real()

    monkeypatch.setattr(store(ann), "doorbell", doorbell)
    group = ann.group("workers")
    eventually(lambda: group.is_up("ben"), "ann sees ben")


def test_a_register_that_can_be_read_but_not_written_is_one_outage(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one at each write, ended by each read between them: whoever is woken by it reads it once."""
    caplog.set_level(logging.INFO, "headcount")
    ann = connect("ann", timeout=5.0)
    group = ann.join_group("workers", create=True)
    group.view()
    real, locked = store(ann).commit, threading.Event()
    locked.set()

    def commit(*args: Any, **more: Any) -> Any:
        if locked.is_set():
            raise StoreUnavailable("locked by another process")
        return real(*args, **more)

    with group.changes(initial=False) as changes:
        monkeypatch.setattr(store(ann), "commit", commit)
        threading.Timer(1.5, locked.clear).start()
        ann.update_capabilities(b"new")
        eventually(lambda: said(caplog, "serves us again"), "the end of it")
        told = [change.kind for change in changes_until(changes, is_(Kind.STEADY))]
    assert len(said(caplog, "does not serve us")) == 1
    assert len(said(caplog, "serves us again")) == 1
    assert (told.count(Kind.DEGRADED), told.count(Kind.STEADY)) == (1, 1)


def test_a_log_handler_that_blocks_costs_nobody_a_session(connect: Connect) -> None:
    """A log may be on a full disk, or behind a socket. Beats go on meanwhile."""

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            blocked.set()
            free.wait(30)

    blocked, free, slow = threading.Event(), threading.Event(), Slow()
    logger = logging.getLogger("headcount")
    logger.addHandler(slow)
    try:
        ann, ben = connect("ann"), connect("ben", elsewhere=1)
        ann.join_group("workers", create=True)
        group = ben.group("workers")
        with group.changes() as changes:
            cut_off(ann)
            assert blocked.wait(SOON)
            cut_off(ann, False)
            eventually(lambda: ann.health()["connected"], "it is served again")
            with pytest.raises(AssertionError, match="not heard"):
                changes_until(changes, is_(Kind.DOWN, "ann"), 2 * DOWN)
        assert group.is_up("ann")
    finally:
        free.set()
        logger.removeHandler(slow)


def test_groups_that_come_and_go_leave_nothing_behind(connect: Connect) -> None:
    """A process may see thousands of them in its life."""
    ann = connect("ann")
    for number in range(20):
        ann.join_group(f"job-{number}", create=True).view()
        ann.leave_group(f"job-{number}")
        ann.delete_group(f"job-{number}")

    node = hub(ann).node
    eventually(lambda: not ann._require_agent().memberships, "its memberships are forgotten")
    eventually(lambda: not node.replicas and not hub(ann)._watched, "its replicas are forgotten")


def test_many_who_begin_to_listen_at_once_are_served_by_one_thread(connect: Connect) -> None:
    """Two would call a callback concurrently with itself."""
    ann = connect("ann")
    ann.create_group("workers")
    group = ann.group("workers")
    group.view()
    ready, ends = threading.Barrier(16), []

    def listen() -> None:
        ready.wait()
        ends.append(group.on_change(lambda change: None))

    threads = [threading.Thread(target=listen) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub(ann).notifier._listeners) == 16
    for end in ends:
        end()


# ── closing ──


def test_close_says_goodbye(connect: Connect) -> None:
    """The others see it leave at once, not after a ttl; and nothing of its session stays in the store."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    with bens.changes(initial=False) as seen:
        began = time.monotonic()
        ann.close()
        changes_until(seen, is_(Kind.LEFT, "ann"))
        assert time.monotonic() - began < TTL
    assert len(store(ben).server.sessions) == 1


def test_close_returns_while_the_store_is_down(connect: Connect) -> None:
    """Within its deadline; the members expire later."""
    ann, ben = connect("ann"), connect("ben", elsewhere=1)
    ann.join_group("workers", create=True)
    bens = ben.join_group("workers")
    bens.view()
    cut_off(ann)
    began = time.monotonic()
    ann.close(timeout=0.5)
    assert time.monotonic() - began < 1.0
    eventually(lambda: bens.view(fresh=True)["ann"].status is Status.DOWN, "ann expires", DOWN + SOON)


@pytest.mark.parametrize("what", ["beat", "read"])
def test_close_returns_while_the_store_hangs(
    connect: Connect, hang: Callable[[Coordinator, str], Hang], what: str
) -> None:
    """Within its deadline, whichever thread hangs; whoever waits for a call of its own hears of it."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    group.view()
    hung = hang(ann, what)
    with hub(ann).lock:
        hub(ann).node.touch("workers")
    hub(ann).wake()
    assert hung.reached.wait(SOON)
    began = time.monotonic()
    ann.close(timeout=0.5)
    assert time.monotonic() - began < 1.0
    ann.close()
    with pytest.raises(Closed):
        group.view()


@pytest.mark.parametrize("what", ["beat", "read"])
def test_a_store_is_not_closed_under_a_call(
    connect: Connect, hang: Callable[[Coordinator, str], Hang], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whichever thread is the last to come back closes it: SQLite, for one, does not survive to be closed in
    the middle of a statement."""
    ann = connect("ann")
    ann.join_group("workers", create=True).view()
    shared, closed = hub(ann), threading.Event()
    monkeypatch.setattr(shared.store, "close", closed.set)
    hung = hang(ann, what)
    with shared.lock:
        shared.node.touch("workers")
    shared.wake()
    assert hung.reached.wait(SOON)
    ann.close(timeout=0.3)
    assert not closed.wait(0.2)
    hung.let_go()
    assert closed.wait(SOON)


def test_threads_may_all_close_it(connect: Connect) -> None:
    ann = connect("ann")
    ann.join_group("workers", create=True)
    threads = [threading.Thread(target=ann.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert connect().get_members("workers") == []


# ── connecting ──


class Unreachable:
    """Makes all memory stores unreachable for whoever opens one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down, self.tries = True, 0
        real = MemoryStore.open

        def open_(memory: MemoryStore) -> None:
            self.tries += 1
            if self.down:
                raise StoreUnavailable("memory://there cannot be reached")
            real(memory)

        monkeypatch.setattr(MemoryStore, "open", open_)


def test_connect_gives_up_after_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it tried, and leaves no thread behind."""
    Unreachable(monkeypatch)
    before = threading.active_count()
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"memory://there cannot be reached \(waited 0\.3 s; worth tr"):
        headcount.connect("memory://there", timeout=0.3)
    assert time.monotonic() - began < 2.0
    eventually(lambda: threading.active_count() <= before, "its threads have ended")


def test_connect_without_timeout_waits_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unreachable = Unreachable(monkeypatch)
    connected: list[Coordinator] = []
    name = f"memory://{uuid.uuid4().hex}"
    thread = threading.Thread(target=lambda: connected.append(headcount.connect(name, timeout=None)))
    thread.start()
    eventually(lambda: unreachable.tries >= 4, "it tries again and again")
    assert connected == []
    unreachable.down = False
    thread.join(SOON)
    try:
        assert len(connected) == 1 and connected[0].get_all_group_ids() == []
        assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    finally:
        connected[0].close()


def test_what_waiting_does_not_mend_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_(memory: MemoryStore) -> None:
        raise headcount.AccessDenied("memory://there refuses the user 'ann'")

    monkeypatch.setattr(MemoryStore, "open", open_)
    began = time.monotonic()
    with pytest.raises(headcount.AccessDenied, match="refuses the user 'ann'"):
        headcount.connect("memory://there", timeout=30.0)
    assert time.monotonic() - began < 5.0


def test_one_made_by_itself_connects_when_it_is_used(connect: Connect) -> None:
    """Making it touches nothing, so that it may be made before a fork, or before the store is up."""
    before = threading.active_count()
    lazy = Coordinator(f"memory://{uuid.uuid4().hex}", member_id="ann")
    assert threading.active_count() == before
    assert lazy.join_group("workers", create=True).is_up("ann")
    lazy.close()
    unused = Coordinator("memory://unused")
    unused.close()
    with pytest.raises(Closed):
        unused.get_all_group_ids()


def test_copies_of_one_unused_are_two_to_the_store() -> None:
    """A fork makes two of what was one. Had both the same instance, each would take the row of the other for
    its own, from before its session was lost, and enter over it, and so on without end."""
    one = Coordinator(f"memory://{uuid.uuid4().hex}", member_id="ann", on_conflict="share")
    other = copy.copy(one)
    for coordinator in (one, other):
        coordinator.join_group("workers", create=True)
    rows = store(one).read("workers").rows
    assert [row.live for row in rows] == [True, True]
    assert {row.instance for row in rows} == {one._instance, other._instance}
    for coordinator in (one, other):
        coordinator.close()


# ── one hub for a process ──


def test_coordinators_of_one_store_share_heart_and_watcher(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty of them beat together, in batches, from one thread: those that are nearly due go along. Each is a
    member of its own, and closes by itself."""
    first = connect("m00")
    threads = threading.active_count()
    others = [connect(f"m{n:02}") for n in range(1, 50)]
    assert threading.active_count() == threads
    assert {hub(one) for one in others} == {hub(first)}
    batches: list[int] = []
    beaten: set[str] = set()
    hearts: set[int] = set()
    real = store(first).beat

    def beat(sessions: Sequence[str]) -> Any:
        batches.append(len(sessions))
        beaten.update(sessions)
        hearts.add(threading.get_ident())
        return real(sessions)

    monkeypatch.setattr(store(first), "beat", beat)
    for one in (first, *others):
        one.join_group("workers", create=True)
    batches.clear()
    beaten.clear()
    eventually(lambda: len(beaten) == 50, "all have beaten")
    # One fifth of an interval is near enough; the ticker beats by itself besides, once in a tick.
    assert max(batches) >= 10, batches
    assert len(hearts) == 1
    others[0].close()
    assert len(first.get_members("workers")) == 49
    assert first.health()["connected"]


def test_the_last_one_stops_the_threads(connect: Connect) -> None:
    one, two = connect("ann"), connect("ben")
    shared = hub(one)
    one.close()
    assert all(thread.is_alive() for thread in shared._threads)
    two.close()
    assert not any(thread.is_alive() for thread in shared._threads)
    again = connect("ann")
    assert hub(again) is not shared
    assert again.get_all_group_ids() == []


def test_many_threads_share_one_coordinator(connect: Connect) -> None:
    """Each call answers its own caller, and nothing is lost."""
    ann, faults = connect("ann"), []
    start = threading.Barrier(8)

    def work(n: int) -> None:
        try:
            start.wait(SOON)
            own = f"group-{n}"
            for turn in range(10):
                group = ann.join_group(own, b"0", create=True)
                ann.update_capabilities(b"%d" % turn, group_id=own)
                assert group.view()["ann"].capabilities == b"%d" % turn
                assert ann.get_members(own) == ["ann"]
                ann.leave_group(own)
                assert not group.is_up("ann")
                ann.create_group("all")
                assert {own, "all"} <= set(ann.get_all_group_ids())
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * SOON)
    assert not any(thread.is_alive() for thread in threads)
    assert faults == []


def test_a_store_that_fails_in_a_way_it_should_not_is_an_outage(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver's defect ends no thread: it is logged with its traceback, and tried again."""
    ann = connect("ann")
    group = ann.join_group("workers", create=True)
    real, failed = store(ann).beat, threading.Event()

    def beat(sessions: Sequence[str]) -> Any:
        if failed.is_set():
            return real(sessions)
        failed.set()
        raise ZeroDivisionError("a defect of the driver")

    monkeypatch.setattr(store(ann), "beat", beat)
    assert failed.wait(SOON)
    eventually(lambda: said(caplog, "the store failed in a way it should not"), "it is logged")
    eventually(lambda: ann.health()["connected"] and group.is_up("ann"), "it goes on")
    (record,) = said(caplog, "the store failed in a way it should not")
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
