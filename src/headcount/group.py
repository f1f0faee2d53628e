"""A group as an application holds it: views, changes, leadership, an operator's marks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any

from headcount.core.leadership import TermState
from headcount.core.membership import Membership
from headcount.core.replica import Replica
from headcount.engine.hub import Hub
from headcount.engine.identity import boot, moment
from headcount.engine.notifier import Queue
from headcount.engine.settings import check_id, storable
from headcount.errors import (
    Closed,
    ConfigError,
    Forked,
    HeadcountError,
    LockTimeout,
    MemberNotFound,
    NotJoined,
    NotTrusted,
    OutcomeUnknown,
    Stale,
    StoreUnavailable,
    nearest,
)
from headcount.model import Change, Kind, Refused, Remark, Revision, Status, View, Withdraw, Write
from headcount.stores.base import Store

if TYPE_CHECKING:
    from headcount.coordinator import Coordinator

MARKS = ("disabled", "forced_down", "expelled")

ATTEMPTS = 10
"""How often a write that somebody else's got before is repeated on what is there now."""

FOREVER = 1e9
"""Seconds that stand for no bound at all."""

FORKED = (
    "this coordinator belongs to the parent process: it cannot be used after a fork. "
    "Connect in the child, after the fork"
)

OBSERVES = "this coordinator only observes: give connect() a member_id, or set HEADCOUNT_MEMBER_ID"


def seconds(value: object, what: str, *, zero: bool = True, none: str | None = "to wait") -> float:
    """A number of seconds that was given as `what`; infinity is no bound, nor is None where there is a word
    for what it does. `zero`: whether 0 may be given. Raises `ConfigError`."""
    if value is None and none is not None:
        return FOREVER
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not (value > 0 or (zero and value == 0))
    ):
        least = "0 or more seconds" if zero else "seconds above 0"
        otherwise = f", or None {none}" if none is not None else ""
        raise ConfigError(f"{what} must be {least}{otherwise}, not {value!r}")
    return float(min(value, FOREVER))


class Changes(AbstractContextManager["Changes"], Iterator[Change]):
    """The changes of one group, in order, from now on. Ends when it or its coordinator is closed, and in a
    forked child."""

    def __init__(self, hub: Hub, queue: Queue, close: Callable[[Changes], None]) -> None:
        self._hub = hub
        self._queue = queue
        self._close = close

    def get(self, timeout: float | None = None) -> Change:
        """The next change. Raises `TimeoutError` if none comes within `timeout` seconds, `Closed` when there
        will be no more, and `Forked` in a child of the process that they belong to."""
        bound = seconds(timeout, "timeout")
        change = None if self._hub.forked else self._queue.get(bound)
        if change is not None:
            return change
        if self._hub.forked:
            raise Forked(FORKED)
        if self._queue.closed:
            raise Closed("these changes are closed")
        raise TimeoutError(f"no change within {bound:g} s")

    def __next__(self) -> Change:
        try:
            return self.get()
        except Closed:
            raise StopIteration from None

    def close(self) -> None:
        """No more changes: whoever waits for one gets `Closed`. What came before can still be read. Twice is
        no mistake; raises nothing."""
        if not self._hub.forked:  # a thread that is not here may have held a lock of the queue
            self._queue.close()
            self._close(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Term:
    """One leadership: act only while `trusted`, and give `token` along with whatever is written."""

    def __init__(self, hub: Hub, state: TermState) -> None:
        self._hub = hub
        self._state = state
        self.token = state.token

    @property
    def trusted(self) -> bool:
        """Whether to act on it, at this very moment. What has once been doubted stays so."""
        if self._hub.forked:
            self._state.end("it belongs to the parent process")
        if self._state.trusted(moment()):
            return True
        self._state.end("the store did not confirm our session in time")
        return False

    @property
    def trusted_for(self) -> float:
        """Seconds for which it is trusted, counted from now, if no further beat is taken."""
        return max(0.0, self._state.trusted_until() - boot()) if self.trusted else 0.0

    def check(self) -> int:
        """The token; raises `NotTrusted` if the term is over."""
        if not self.trusted:
            raise NotTrusted(f"the term with token {self.token} is over: {self._state.over}")
        return self.token

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the term is over: True if it is, False if `timeout` seconds passed first."""
        until = boot() + seconds(timeout, "timeout")
        while self.trusted:
            left = min(self._state.trusted_until(), until) - boot()
            if left <= 0 and boot() >= until:
                return not self.trusted
            self._hub.wait_until(lambda: self._state.over is not None, max(0.001, left))
        return True

    def __repr__(self) -> str:
        return f"<Term {self.token} of {self._state.group!r}: {self._state.over or 'trusted'}>"


class Group:
    """One group, seen through one coordinator. Made by `Coordinator.group` and `join_group`."""

    def __init__(self, coordinator: Coordinator, group_id: str) -> None:
        self.group_id = group_id
        self._coordinator = coordinator
        self._led = False
        """Whether a thread leads, or is about to. Guarded by the hub's lock. Nothing else is kept here:
        a group that nobody holds is forgotten, and made anew when it is asked for."""

    # ── looking ──

    def view(self, *, max_age: float | None = None, fresh: bool = False) -> View:
        """The group as it stands, answered from memory; the first call begins to watch.

        `max_age`: seconds; an older view is read anew first, and `Stale` raised if that fails.
        `fresh`: read the store in any case. Raises `GroupNotFound`, and `StoreUnavailable` where
        nothing has been read yet."""
        hub = self._coordinator._ready_hub()
        oldest = None if max_age is None else seconds(max_age, "max_age", none="for any age")
        replica = self._coordinator._replicas.get(self.group_id)
        view = replica.view if replica is not None else None
        if view is None or replica is None or self._behind(replica, view):
            replica, view = self._first_view(hub)
        if fresh or (oldest is not None and view.age > oldest):
            return self._read_anew(hub, replica, view, oldest)
        return view

    def is_up(self, member_id: str) -> bool:
        """Whether this member is here: up, or merely suspected. Answered from memory."""
        member = self.view().get(member_id)
        return member is not None and member.present

    def _membership(self) -> Membership | None:
        agent = self._coordinator._agent
        return agent.memberships.get(self.group_id) if agent is not None else None

    def _behind(self, replica: Replica, view: View) -> bool:
        """Whether the view is older than what our own calls have written."""
        membership = self._membership()
        written = self._coordinator._written.get(replica, 0)
        return view.revision < max(written, membership.committed if membership is not None else 0)

    def _first_view(self, hub: Hub) -> tuple[Replica, View]:
        coordinator, asked = self._coordinator, boot()
        until = asked + coordinator.timeout
        while True:
            replica = coordinator._watch(hub, self.group_id)
            with hub.lock:
                if replica.missing:
                    hub.node.touch(self.group_id)  # it may have been made since
            there = partial(self._there, hub, replica, asked)
            in_time = coordinator._wait(there, max(0.0, until - boot()))
            view = replica.view
            if view is not None:
                return replica, view
            if replica.missing and replica.asked_at >= asked:
                raise coordinator._group_not_found(self.group_id)
            if not in_time:
                raise hub.unavailable(coordinator.timeout)
            # It was let go, on an answer that is older than our question.

    def _there(self, hub: Hub, replica: Replica, asked: float) -> bool:
        """Whether a view is there that is not behind, or that there is none is known."""
        view = replica.view
        if view is not None:
            return not self._behind(replica, view) or hub.node.outage.since is not None
        gone = hub.node.replicas.get(self.group_id) is not replica
        return gone or (replica.missing and replica.asked_at >= asked)

    def _read_anew(self, hub: Hub, replica: Replica, old: View, max_age: float | None) -> View:
        asked = boot()

        def read() -> bool:
            return replica.missing or replica.asked_at >= asked

        with hub.lock:
            hub.node.touch(self.group_id)
        if not self._coordinator._wait(read, self._coordinator.timeout):
            if max_age is None:
                raise hub.unavailable(self._coordinator.timeout)
            raise Stale(
                f"the view of group {self.group_id!r} is {old.age:.1f} s old, more than the {max_age:g} s "
                f"allowed, and the store could not be read: {hub.unavailable(self._coordinator.timeout)}"
            )
        view = replica.view
        return self._first_view(hub)[1] if view is None else view

    # ── being told ──

    def changes(self, *, initial: bool = True) -> Changes:
        """An iterator over what changes. It begins with who is here (unless `initial` is False), as
        `joined` and `leader`; a reader that falls 1,000 changes behind gets one `resync`."""
        hub = self._coordinator._ready_hub()
        self.view()
        queue = Queue(bound=1_000_000)
        with hub.lock:
            replica = self._coordinator._replicas.get(self.group_id)
            view = replica.view if replica is not None else None
            if view is None:
                raise self._coordinator._group_not_found(self.group_id)
            if initial:
                queue.put(_who_is_here(view))
            queue.bound = len(queue) + 1000
            hub.subscribe(self.group_id, self._coordinator._instance, queue)
        changes = Changes(hub, queue, lambda changes: self._forget_changes(hub, changes, queue))
        if not self._coordinator._keep(self._coordinator._open_changes, changes):
            changes.close()
            self._coordinator._check_usable()
        return changes

    def _forget_changes(self, hub: Hub, changes: Changes, queue: Queue) -> None:
        hub.unsubscribe(self.group_id, queue)
        with self._coordinator._lock:
            self._coordinator._open_changes.discard(changes)

    def on_change(self, callback: Callable[[Change], object]) -> Callable[[], None]:
        """Call `callback` with each change, on a thread of the library's own; never two at once.
        Returns what ends it."""
        if not callable(callback):
            raise ConfigError(f"a notifier must be callable with one Change, not {callback!r}")
        hub = self._coordinator._ready_hub()
        self.view()
        listener = hub.listen(self.group_id, self._coordinator._instance, callback)

        def end() -> None:
            if not hub.forked:
                hub.silence(listener)
                with self._coordinator._lock:
                    self._coordinator._listeners.discard(listener)

        if not self._coordinator._keep(self._coordinator._listeners, listener):
            end()
            self._coordinator._check_usable()
        return end

    # ── leading ──

    @contextlib.contextmanager
    def leadership(self, timeout: float | None = None) -> Iterator[Term]:
        """Wait for our turn to lead, at most `timeout` seconds (`LockTimeout`), and lead while inside.

        Leaving it stands behind the others. Inside, ask `term.trusted` before each act, and give
        `term.token` to whatever is written to. Raises `NotJoined`; several threads take turns."""
        hub = self._coordinator._ready_hub()
        bound = seconds(timeout, "timeout")
        until = boot() + bound
        self._take_turn(hub, until)
        try:
            membership = self._joined()
            self.view()
            with hub.lock:
                hub.node.lead(membership)
                hub.node.follow(membership, moment())  # we may lead already, and need not wait
                hub.node.watcher.poke(self._coordinator._require_agent())
            try:
                term = Term(hub, self._await_term(membership, bound, until))
                membership.inside = True
                yield term
            finally:
                if not hub.forked:  # what the parent leads is not the child's to give up
                    with hub.lock:
                        hub.node.lead_less(membership)
                        hub.node.watcher.poke(self._coordinator._require_agent())
        finally:
            with hub.lock:
                self._led = False
            if not hub.forked:
                hub.wake()  # and so ask those who wait for the turn

    def _take_turn(self, hub: Hub, until: float) -> None:
        """One thread of this process after the other."""
        while True:
            with hub.lock:
                if not self._led:
                    self._led = True
                    return
            if not self._coordinator._wait(lambda: not self._led, max(0.0, until - boot())):
                raise LockTimeout(f"another thread of this process leads group {self.group_id!r}")

    def _await_term(self, membership: Membership, bound: float, until: float) -> TermState:
        def settled() -> bool:
            if membership.error is not None or membership.desired is None:
                return True
            return membership.term is not None and membership.term.trusted(moment())

        in_time = self._coordinator._wait(settled, max(0.0, until - boot()))
        term = membership.term
        if term is not None and term.trusted(moment()):
            return term
        if not in_time:
            raise LockTimeout(f"did not come to lead group {self.group_id!r} within {bound:g} s")
        raise membership.error or NotJoined(f"no longer a member of group {self.group_id!r}")

    def resign(self) -> None:
        """Stop leading: our member stands anew, behind the others. Nothing happens if it does not lead.
        Raises `NotJoined`, and what took the membership away: `Superseded`, `Expelled`."""
        hub = self._coordinator._ready_hub()
        membership = self._joined()
        with hub.lock:
            membership.resign()
        hub.poke(self._coordinator._require_agent())

    def _joined(self) -> Membership:
        membership = self._membership()
        if membership is not None and membership.error is not None:
            raise membership.error
        if self._coordinator.member_id is None:
            raise NotJoined(OBSERVES)
        if membership is None or membership.desired is None:
            raise NotJoined(
                f"{self._coordinator.member_id!r} is not a member of group {self.group_id!r}; "
                "join_group comes first"
            )
        return membership

    # ── an operator's words ──

    def mark(
        self,
        member_id: str,
        *,
        disabled: str | EllipsisType | None = ...,
        forced_down: bool | EllipsisType = ...,
        expelled: bool | EllipsisType = ...,
        fenced: bool = False,
    ) -> None:
        """Say something of a member, present or not; what is not given stays as it is.

        `disabled`: a reason, or None to enable it. `forced_down`: not up for anybody, whatever it beats.
        `expelled`: out, and barred until this is lifted. `fenced`: the operator knows its process to be
        dead, so that its place is free at once; recorded."""
        hub = self._coordinator._ready_hub()
        check_id(member_id, "member_id")
        given: dict[str, object] = {"disabled": disabled, "forced_down": forced_down, "expelled": expelled}
        given = {name: value for name, value in given.items() if value is not ...}
        if not isinstance(given.get("disabled", ""), str | None):
            raise ConfigError(f"disabled must be a reason in words, or None, not {disabled!r}")
        if isinstance(disabled, str) and not storable(disabled):
            raise ConfigError(f"disabled must be a reason that can be written as UTF-8, not {disabled!r}")
        for name, value in {**given, "disabled": True, "fenced": fenced}.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be True or False, not {value!r}")

        def write(store: Store) -> Revision:
            def remark() -> list[Write]:
                found = store.read(self.group_id, only=[member_id])
                old = found.marks[0] if found.marks else None
                fields = {} if old is None else {name: getattr(old, name) for name in MARKS}
                seen = old.revision if old else 0
                said: dict[str, Any] = {**fields, **given}
                return [Remark(member_id=member_id, seen=seen, fenced=fenced, **said)]

            return _commit(store, self.group_id, remark)

        self._operate(hub, write)

    def forget(self, member_id: str) -> None:
        """Take a member off the lists. One that is up is taken out, and comes back by itself unless
        it is expelled first. Its marks stay. Raises `MemberNotFound`."""
        hub = self._coordinator._ready_hub()
        check_id(member_id, "member_id")
        doubted = False
        """Whether an earlier try may have done it already."""

        def write(store: Store) -> Revision:
            nonlocal doubted

            def withdraw() -> list[Write]:
                rows = store.read(self.group_id, only=[member_id]).rows
                return [
                    Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision, forget=True)
                    for row in rows
                ]

            if not doubted and not withdraw():
                known = {row.member_id for row in store.read(self.group_id).rows}
                near = nearest(member_id, known) or "."
                raise MemberNotFound(
                    f"group {self.group_id!r} knows no member {member_id!r}{near} view() lists those it knows"
                )
            try:
                return _commit(store, self.group_id, withdraw)
            except OutcomeUnknown:
                doubted = True
                raise

        self._operate(hub, write)

    def _operate(self, hub: Hub, write: Callable[[Store], Revision]) -> None:
        coordinator = self._coordinator
        revision = coordinator._call(write, self.group_id, writes=True)
        with hub.lock:
            replica = hub.node.replicas.get(self.group_id)
            hub.node.touch(self.group_id)
        if replica is not None:  # else whoever begins to watch reads what was written
            with coordinator._lock:
                coordinator._written[replica] = max(coordinator._written.get(replica, 0), revision)
        hub.wake()

    def __repr__(self) -> str:
        return f"<Group {self.group_id!r} of {self._coordinator!r}>"


def _commit(store: Store, group: str, writes: Callable[[], list[Write]]) -> Revision:
    """Commit what follows from what is there now, again if somebody else was quicker. The revision."""
    for _ in range(ATTEMPTS):
        wanted = writes()
        if not wanted:
            return 0
        outcome = store.commit(group, wanted)
        if not isinstance(outcome, Refused):
            return outcome.revision
    raise StoreUnavailable(f"group {group!r} is being changed by others all the time; try again")


def _who_is_here(view: View) -> Iterator[Change]:
    here = (Status.UP, Status.UNREADY, Status.SUSPECT)
    for member_id in sorted(view):
        member = view[member_id]
        if member.status in here and not member.forced_down:
            yield Change(kind=Kind.JOINED, view=view, member=member)
    if view.leader is not None:
        yield Change(kind=Kind.LEADER, view=view, member=view.leader)


__all__ = ["Changes", "Group", "HeadcountError", "Term"]
