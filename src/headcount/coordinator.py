"""The public face: a coordinator is one identity in one store, and answers who is here.

    with headcount.connect("sqlite:///app.db", member_id="worker-1") as c:
        workers = c.join_group("workers", create=True)
        print(workers.view().up)

It may be shared by any number of threads. It reaches the store on threads of its own, and only from
the process that made it first reach it: a coordinator that was made, but not used, before a fork may be
used in the child.
"""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, TypeVar

from headcount import native
from headcount.core.agent import Agent
from headcount.core.membership import Desired, Identity, Membership, Phase
from headcount.core.replica import Replica
from headcount.engine.callers import in_doubt
from headcount.engine.hub import Hub
from headcount.engine.identity import boot, fresh, host_id, process_id
from headcount.engine.notifier import Listener
from headcount.engine.settings import Settings, check_id, gather
from headcount.errors import (
    CapabilitiesTooLarge,
    Closed,
    ConfigError,
    Forked,
    GroupNotFound,
    HeadcountError,
    MemberNotFound,
    MemberTaken,
    NotJoined,
    OutcomeUnknown,
    nearest,
)
from headcount.group import FORKED, OBSERVES, Changes, Group, seconds
from headcount.model import Change, View
from headcount.stores.base import Store
from headcount.stores.url import parse

T = TypeVar("T")

MEANWHILE = "this coordinator was closed while the call waited"


def connect(
    url: str | None = None,
    *,
    member_id: str | None = None,
    ttl: float | None = None,
    namespace: str | None = None,
    timeout: float | None = 10.0,
    on_conflict: Literal["take_over", "fail", "wait", "share"] | None = None,
    **options: str | float | bool,
) -> Coordinator:
    """Reach a store, and return a coordinator on it.

    `url` names the store, such as `sqlite:///app.db`; without it, HEADCOUNT_URL. `member_id` is who we
    are in every group; without one we only observe. `ttl` (15 s): how long the store waits for a beat.
    `timeout`: seconds that each call may take, this one too; None waits as long as it takes.
    `on_conflict`: what to do where our name is taken on this host: take it over, fail, wait, or share it.
    What is not an argument may come from the URL's query, the environment or a file.

    Raises `ConfigError`, `MissingDependency`, `StoreUnavailable`, and what else the store refuses with."""
    coordinator = Coordinator(
        url,
        member_id=member_id,
        ttl=ttl,
        namespace=namespace,
        timeout=timeout,
        on_conflict=on_conflict,
        **options,
    )
    try:
        coordinator._reach()
    except BaseException:
        coordinator.close(timeout=1.0)
        raise
    return coordinator


class Coordinator(AbstractContextManager["Coordinator"]):
    """One identity in one store. Made by `connect`; made by itself, it connects when it is first used."""

    def __init__(
        self,
        url: str | None = None,
        *,
        member_id: str | None = None,
        ttl: float | None = None,
        namespace: str | None = None,
        timeout: float | None = 10.0,
        on_conflict: Literal["take_over", "fail", "wait", "share"] | None = None,
        **options: str | float | bool,
    ) -> None:
        own: dict[str, object] = {name: options.pop(name) for name in ("beat", "host") if name in options}
        given: dict[str, object] = {"url": url, "member_id": member_id, "ttl": ttl, "namespace": namespace}
        self._settings: Settings = gather({**given, **own, "on_conflict": on_conflict}, options)
        for name, value in self._settings.options.items():
            if not isinstance(value, str | int | float):
                raise ConfigError(f"{name} must be a string, a number or a bool, not {value!r}")
        self._address = parse(self._settings.url).safe
        self.member_id = self._settings.member_id
        self.timeout = seconds(timeout, "timeout", zero=False)
        self._instance = ""
        self._pid: int | None = None
        self._hub: Hub | None = None
        self._agent: Agent | None = None
        # Guards all that follows, and that hub and agent are made once. The hub's lock guards what the hub's
        # threads work on: the agent, its memberships, the replicas. It is taken within this one, never the
        # other way round: a predicate that is waited for, for one, does not take this one.
        self._lock = native.threading().RLock()
        self._groups: weakref.WeakValueDictionary[str, Group] = weakref.WeakValueDictionary()
        self._replicas: weakref.WeakValueDictionary[str, Replica] = weakref.WeakValueDictionary()
        """Of the groups that we watch, and that the hub holds."""
        self._written: weakref.WeakKeyDictionary[Replica, int] = weakref.WeakKeyDictionary()
        """At which revision we last wrote an operator's word: no view of ours is to be older."""
        self._notifiers: dict[str, Callable[[], None]] = {}
        self._listeners: set[Listener] = set()
        self._open_changes: set[Changes] = set()
        self._closing = False  # set once, and so read without it

    # ── the seeds' nine calls ──

    def create_group(self, group_id: str) -> bool:
        """Create a group; False, and no effect, if it exists."""
        check_id(group_id, "group_id")
        return self._call(in_doubt(lambda store: store.create_group(group_id)), writes=True)

    def get_all_group_ids(self) -> list[str]:
        """The ids of all groups, also of empty ones, sorted."""
        return self._call(lambda store: store.groups())

    def join_group(
        self, group_id: str, capabilities: bytes = b"", *, create: bool = False, stand: bool = True
    ) -> Group:
        """Join a group and publish `capabilities`; no effect if we have joined already.

        `create`: make the group if there is none. `stand`: be willing to lead. Raises `GroupNotFound`,
        `MemberTaken`, `Expelled`, `CapabilitiesTooLarge`, `NotJoined` for an observer."""
        hub = self._ready_hub()
        check_id(group_id, "group_id")
        self._check_capabilities(hub, capabilities)
        agent = self._require_agent()
        if self.member_id is None:
            raise NotJoined(OBSERVES)
        desired = Desired(
            capabilities=bytes(capabilities),
            stand=stand,
            create=create,
            on_conflict=self._settings.on_conflict,
        )
        with hub.lock:
            self._check_usable()  # who closes takes this lock afterwards, and finds what is wanted here
            known = agent.memberships.get(group_id)
            wanted_before = known is not None and known.desired is not None
            membership = hub.node.want(agent, group_id, desired)
        in_time = self._wait(lambda: membership.settled or hub.fatal is not None, self.timeout, of=agent)
        if membership.phase is not Phase.JOINED:
            self._not_joined(hub, membership, in_time, wanted_before)
        return self.group(group_id)

    def _not_joined(self, hub: Hub, membership: Membership, in_time: bool, wanted_before: bool) -> None:
        error = membership.error
        if isinstance(error, GroupNotFound):
            raise self._group_not_found(membership.group)
        if error is not None:
            raise error
        if not wanted_before:  # who had joined, and lost its session in an outage, still comes back
            with hub.lock:
                membership.unwant()  # what did get written all the same is withdrawn
            self._poke()
        if in_time and hub.fatal is not None:
            raise hub.fatal
        if in_time:
            raise NotJoined(
                f"group {membership.group!r} was left, by another thread, while this one joined it"
            )
        if self._settings.on_conflict == "wait" and hub.node.outage.since is None:
            raise MemberTaken(
                f"{self.member_id!r} in group {membership.group!r} is still a living member, after a wait "
                f"of {self.timeout:g} s: wait longer, or choose another member_id"
            )
        raise hub.unavailable(self.timeout)

    def leave_group(self, group_id: str) -> None:
        """Leave a group; no effect if we are not in it. Raises `GroupNotFound`, and `OutcomeUnknown` if the
        store does not confirm it in time: it is still wanted then, and done once the store serves."""
        hub = self._ready_hub()
        check_id(group_id, "group_id")
        membership = self._require_agent().memberships.get(group_id)
        if membership is None or membership.phase is Phase.OUT:
            self._call(lambda store: store.read(group_id, only=()), group_id)
            return
        with hub.lock:
            membership.unwant()
        self._poke()
        if not self._wait(lambda: membership.phase is Phase.OUT, self.timeout, of=self._agent):
            raise self._unconfirmed(hub, f"leaving group {group_id!r}")

    def get_members(self, group_id: str) -> list[str]:
        """The ids of the members that are here, sorted. Raises `GroupNotFound`, and `StoreUnavailable` where
        the group is not watched and cannot be read."""
        return [member.member_id for member in self._look(group_id).up]

    def get_member_capabilities(self, group_id: str, member_id: str) -> bytes:
        """What a member published. Raises `GroupNotFound`, and `MemberNotFound` if it is not here."""
        check_id(member_id, "member_id")
        view = self._look(group_id)
        member = view.get(member_id)
        if member is None or not member.present:
            here = [other.member_id for other in view.up]
            was = f" (it is {member.status} since {member.since:%Y-%m-%d %H:%M:%S} UTC)" if member else ""
            raise MemberNotFound(
                f"group {group_id!r} has no member {member_id!r} now{was}{nearest(member_id, here) or '.'} "
                "get_members lists those it has"
            )
        return member.capabilities

    def update_capabilities(self, capabilities: bytes, *, group_id: str | None = None) -> None:
        """Publish new capabilities, in all groups that we are in or in one. The same bytes write
        nothing. Raises `NotJoined`, `Superseded`, `Expelled`, `CapabilitiesTooLarge`, and `OutcomeUnknown` if
        the store does not confirm it in time: it is still wanted then, and done once the store serves."""
        hub = self._ready_hub()
        self._check_capabilities(hub, capabilities)
        agent, value = self._require_agent(), bytes(capabilities)
        if group_id is not None:
            check_id(group_id, "group_id")
        if self.member_id is None:
            raise NotJoined(OBSERVES)
        with hub.lock:
            chosen = [m for m in agent.memberships.values() if group_id in (None, m.group)]
        failed = next((m.error for m in chosen if m.error is not None), None)
        chosen = [m for m in chosen if m.desired is not None]
        if not chosen:
            where = f"group {group_id!r}" if group_id is not None else "any group"
            raise failed or NotJoined(f"{self.member_id!r} is not a member of {where}")
        with hub.lock:
            for membership in chosen:
                membership.update(value)
        self._poke()

        def published() -> bool:
            return all(m.error is not None or m.desired is None or (m.ours and _published(m)) for m in chosen)

        if not self._wait(published, self.timeout, of=agent):
            raise self._unconfirmed(hub, "the update of the capabilities")
        for membership in chosen:
            if membership.error is not None:
                raise membership.error

    def set_notifier_func(self, group_id: str, notifier: Callable[[Change], object] | None) -> None:
        """Have `notifier` called with each change of a group; it replaces the one before, None ends it.
        Raises `GroupNotFound`."""
        group = self.group(group_id)
        end = group.on_change(notifier) if notifier is not None else None
        with self._lock:
            before = self._notifiers.pop(group_id, None)
            if end is not None:
                self._notifiers[group_id] = end
        if before is not None:
            before()

    def get_leader(self, group_id: str) -> str | None:
        """Who leads, as every member agrees; None if nobody stands, or a place is being handed over."""
        leader = self.group(group_id).view().leader
        return leader.member_id if leader is not None else None

    # ── and ──

    def delete_group(self, group_id: str) -> None:
        """Delete a group with what it remembers. Raises `GroupNotFound`, `GroupNotEmpty`."""
        check_id(group_id, "group_id")
        if not self._call(in_doubt(lambda store: store.delete_group(group_id)), writes=True):
            raise self._group_not_found(group_id, "get_all_group_ids lists those there are")
        self._reread(group_id)

    def group(self, group_id: str) -> Group:
        """The group as an object: views, changes, leadership, marks. Does not touch the store."""
        self._check_usable()
        check_id(group_id, "group_id")
        with self._lock:
            found = self._groups.get(group_id)
            if found is None:
                found = self._groups[group_id] = Group(self, group_id)
            return found

    def ready(self, ready: bool = True, *, for_: float | None = None) -> None:
        """Vouch for the application: its members are ready. With `for_`, for so many seconds: not said
        again in time, they are `unready`, while their session and rows stay."""
        hub = self._ready_hub()
        until = math.inf if for_ is None else boot() + seconds(for_, "for_", zero=False, none=None)
        with hub.lock:
            self._require_agent().say_ready(bool(ready), until)
        self._poke()

    def health(self) -> Mapping[str, object]:
        """How this coordinator fares, for a probe or a log line. Never touches the store.

        `groups` names the phase of each membership; `incarnations` its life, which is another one
        after each loss, however short; `errors` why it is out, where it did not leave by itself."""
        hub, agent = self._hub, self._agent
        if hub is None or agent is None or hub.forked:
            return {"connected": False, "closed": self._closing}
        with hub.lock:
            since = hub.node.outage.since
            return {
                "connected": hub.opened and since is None,
                "closed": self._closing,
                "store": hub.store.address,
                "outage_seconds": None if since is None else boot() - since,
                "error": None if hub.node.outage.error is None else str(hub.node.outage.error),
                "session": agent.presence.session_id or None,
                "trusted_for": max(0.0, agent.presence.trusted_until - boot()),
                "ready": agent.is_ready(boot()),
                "groups": {m.group: m.phase.value for m in agent.memberships.values()},
                "incarnations": {m.group: m.incarnation for m in agent.memberships.values()},
                "errors": {m.group: str(m.error) for m in agent.memberships.values() if m.error},
            }

    def close(self, timeout: float = 5.0) -> None:
        """Leave every group, end the session and let go of the store. Returns within `timeout` seconds,
        whether the store is up or down; if it is down, our members expire after their ttl.

        Calls that wait, in other threads, get `Closed`. Twice is no mistake. Raises nothing but
        `ConfigError` for what is no number of seconds."""
        bound = seconds(timeout, "timeout", none=None)
        if self._of_parent():  # nothing here is ours, and its lock may have been held at the fork
            self._closing = True
            return
        until = boot() + bound
        with self._lock:
            hub, agent = self._hub, self._agent
            if self._closing or hub is None or agent is None:
                self._closing = True
                return
            self._closing = True
            listeners, open_changes = list(self._listeners), list(self._open_changes)
        for listener in listeners:
            hub.silence(listener)
        for changes in open_changes:
            changes.close()
        with hub.lock:
            agent.closing = True
            for membership in agent.memberships.values():
                membership.unwant()
        hub.cancel(self._instance, Closed(MEANWHILE))
        self._poke()
        hub.wait_until(lambda: agent.presence.session is None, bound * 0.8, of=agent)
        hub.drop(agent)
        hub.release(max(0.0, until - boot()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Coordinator {self.member_id or 'observer'!r} on {self._address!r}>"

    # ── reaching the store ──

    def _of_parent(self) -> bool:
        return self._pid is not None and self._pid != os.getpid()

    def _check_usable(self) -> None:
        if self._of_parent():
            raise Forked(FORKED)
        if self._closing:
            raise Closed("this coordinator has been closed")

    def _ready_hub(self) -> Hub:
        hub = self._hub
        if hub is None or hub.forked or self._closing:
            return self._reach()
        return hub

    def _require_agent(self) -> Agent:
        assert self._agent is not None
        return self._agent

    def _reach(self) -> Hub:
        """The hub, started and with its store open. Raises what the store refuses with."""
        self._check_usable()
        with self._lock:
            self._check_usable()  # who closed before we came to start it has nothing to let go of
            if self._hub is None:
                self._start()
            hub = self._hub
        assert hub is not None
        if not self._wait(lambda: hub.opened or hub.fatal is not None, self.timeout):
            raise hub.unavailable(self.timeout)
        if not hub.opened and hub.fatal is not None:
            raise hub.fatal
        self._check_ttl(hub)
        return hub

    def _start(self) -> None:
        settings = self._settings
        hub = Hub.of(settings.url, settings.namespace, settings.options)
        host = settings.host or host_id()
        # Here, and not when we were made: the children of a fork would all have it, and would each take the
        # others' rows for their own, and take them over, without end.
        self._instance = fresh()
        me = Identity(member_id=self.member_id or "", instance=self._instance, host=host)
        agent = Agent(me, process_id(host), settings.ttl, fresh, beat=settings.beat)
        with hub.lock:
            hub.node.add(agent)
        self._pid, self._hub, self._agent = os.getpid(), hub, agent

    def _check_ttl(self, hub: Hub) -> None:
        if hub.interval is not None and self._settings.ttl < 3 * hub.interval:
            raise ConfigError(
                f"ttl={self._settings.ttl:g} is too short for this store: its clock ticks every "
                f"{hub.interval:g} s, and a ttl takes at least three ticks, {3 * hub.interval:g} s"
            )

    def _wait(self, predicate: Callable[[], bool], timeout: float, *, of: Agent | None = None) -> bool:
        """Every wait of a call: until this is so, time is up, or the coordinator is closed (`Closed`)."""
        hub = self._hub
        assert hub is not None
        in_time = hub.wait_until(lambda: self._closing or predicate(), timeout, of=of)
        if self._closing:
            raise Closed(MEANWHILE)
        return in_time

    def _call(self, call: Callable[[Store], T], group_id: str | None = None, *, writes: bool = False) -> T:
        """One call of the store, carried out by the hub. It looks whether we were closed just before it was
        handed over, too late for `Hub.cancel` to know of it."""
        hub = self._ready_hub()

        def unless_closed(store: Store) -> T:
            if self._closing:
                raise Closed(MEANWHILE)
            return call(store)

        try:
            return hub.call(unless_closed, self.timeout, owner=self._instance, writes=writes)
        except GroupNotFound:
            if group_id is None:
                raise
            raise self._group_not_found(group_id) from None

    def _watch(self, hub: Hub, group_id: str) -> Replica:
        with self._lock:
            self._check_usable()  # what a closed one watched would be watched for ever
            replica = self._replicas[group_id] = hub.watch(group_id, self._require_agent())
            return replica

    def _keep(self, kept: set[T], one: T) -> bool:
        """Have `close` end this one too; False if it no longer will."""
        with self._lock:
            if not self._closing:
                kept.add(one)
            return not self._closing

    def _unconfirmed(self, hub: Hub, what: str) -> HeadcountError:
        error = OutcomeUnknown(
            f"{hub.store.address}: {what} was not confirmed within {self.timeout:g} s; it is still wanted, "
            "and is done once the store serves"
        )
        error.__cause__ = hub.open_error or hub.node.outage.error
        return error

    def _poke(self) -> None:
        if self._hub is not None and self._agent is not None:
            self._hub.poke(self._agent)

    def _reread(self, group_id: str) -> None:
        """Where a group is watched, see what a call of ours just did to it before the call returns."""
        hub, asked = self._ready_hub(), boot()
        with hub.lock:
            replica = hub.node.replicas.get(group_id)
            hub.node.touch(group_id)
        if replica is not None:

            def read() -> bool:
                gone = hub.node.replicas.get(group_id) is not replica
                return gone or replica.asked_at >= asked or hub.node.outage.since is not None

            with contextlib.suppress(Closed):  # what the call was to do is done
                self._wait(read, self.timeout)

    def _look(self, group_id: str) -> View:
        """A view of a group: the one that is watched, or one read for this call."""
        hub = self._ready_hub()
        check_id(group_id, "group_id")
        if group_id in hub.node.replicas:  # one look, which needs no lock: gone since, view() watches anew
            return self.group(group_id).view()
        replica = Replica(group_id, boot)
        asked = boot()
        replica.apply(self._call(lambda store: store.read(group_id), group_id), asked)
        assert replica.view is not None
        return replica.view

    def _group_not_found(
        self, group_id: str, step: str = "create_group makes one; join_group(create=True) too"
    ) -> GroupNotFound:
        near = ""
        with contextlib.suppress(Exception):  # the hint is a courtesy, not the message
            hub, soon = self._ready_hub(), min(1.0, self.timeout)
            known = hub.call(lambda store: store.groups(), soon, owner=self._instance, writes=False)
            near = nearest(group_id, known)
        return GroupNotFound(f"there is no group {group_id!r}{near or '.'} {step}")

    @staticmethod
    def _check_capabilities(hub: Hub, capabilities: object) -> None:
        if not isinstance(capabilities, bytes | bytearray | memoryview):
            raise ConfigError(
                f"capabilities must be bytes, not {type(capabilities).__name__}; "
                "pack() makes bytes of a value"
            )
        limit = hub.store.guarantees.max_capabilities
        if len(capabilities) > limit:
            raise CapabilitiesTooLarge(
                f"capabilities of {len(capabilities):,} bytes are more than the {limit:,} that "
                f"{hub.store.address} takes; publish where to find them instead"
            )


def _published(membership: Membership) -> bool:
    """Whether its row has the capabilities that are wanted by now: those of this call, or of a later one by
    another thread, which has taken their place before they were written."""
    row, desired = membership.row, membership.desired
    return row is not None and desired is not None and row.capabilities == desired.capabilities
