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
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, TypeVar

from headcount import native
from headcount.core.agent import Agent
from headcount.core.membership import Desired, Identity, Membership, Phase
from headcount.core.replica import Replica
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
    MemberNotFound,
    MemberTaken,
    NotJoined,
    nearest,
)
from headcount.group import Changes, Group
from headcount.model import Change, View
from headcount.stores.base import Store
from headcount.stores.url import parse

T = TypeVar("T")

FOREVER = 1e9
"""Seconds that stand for no bound at all."""


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
        if not _seconds(timeout):
            raise ConfigError(f"timeout must be seconds above 0, or None to wait, not {timeout!r}")
        self._address = parse(self._settings.url).safe
        self.member_id = self._settings.member_id
        self.timeout = FOREVER if timeout is None else float(timeout)
        self._instance = fresh()
        self._pid: int | None = None
        self._hub: Hub | None = None
        self._agent: Agent | None = None
        self._lock = native.threading().RLock()
        self._groups: dict[str, Group] = {}
        self._notifiers: dict[str, Callable[[], None]] = {}
        self._listeners: set[Listener] = set()
        self._open_changes: set[Changes] = set()
        self._closing = False

    # ── the seeds' nine calls ──

    def create_group(self, group_id: str) -> bool:
        """Create a group; False, and no effect, if it exists."""
        check_id(group_id, "group_id")
        return self._call(lambda store: store.create_group(group_id))

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
            raise NotJoined(
                "an observer joins nothing: give connect() a member_id, or set HEADCOUNT_MEMBER_ID"
            )
        desired = Desired(
            capabilities=bytes(capabilities),
            stand=stand,
            create=create,
            on_conflict=self._settings.on_conflict,
        )
        with hub.lock:
            known = agent.memberships.get(group_id)
            wanted_before = known is not None and known.desired is not None
            membership = hub.node.want(agent, group_id, desired)
        in_time = hub.wait_until(
            lambda: membership.settled or hub.fatal is not None or self._closing, self.timeout, of=agent
        )
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
        if self._closing:
            raise Closed("the coordinator was closed while it joined")
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
        """Leave a group; no effect if we are not in it. Raises `GroupNotFound`."""
        hub = self._ready_hub()
        check_id(group_id, "group_id")
        membership = self._require_agent().memberships.get(group_id)
        if membership is None or membership.phase is Phase.OUT:
            self._call(lambda store: store.read(group_id, only=()), group_id)
            return
        with hub.lock:
            membership.unwant()
        self._poke()
        if not hub.wait_until(lambda: membership.phase is Phase.OUT, self.timeout, of=self._agent):
            raise hub.unavailable(self.timeout)

    def get_members(self, group_id: str) -> list[str]:
        """The ids of the members that are here, sorted. Raises `GroupNotFound`."""
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
                f"group {group_id!r} has no member {member_id!r} now{was}{nearest(member_id, here)}"
            )
        return member.capabilities

    def update_capabilities(self, capabilities: bytes, *, group_id: str | None = None) -> None:
        """Publish new capabilities, in all groups that we are in or in one. The same bytes write
        nothing. Raises `NotJoined`, `Superseded`, `CapabilitiesTooLarge`."""
        hub = self._ready_hub()
        self._check_capabilities(hub, capabilities)
        agent, value = self._require_agent(), bytes(capabilities)
        if group_id is not None:
            check_id(group_id, "group_id")
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

        if not hub.wait_until(published, self.timeout, of=agent):
            raise hub.unavailable(self.timeout)
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
        if not self._call(lambda store: store.delete_group(group_id)):
            raise self._group_not_found(group_id)
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
        if not _seconds(for_):
            raise ConfigError(f"for_ must be seconds above 0, not {for_!r}")
        until = boot() + for_ if for_ is not None else math.inf
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
        whether the store is up or down; if it is down, our members expire after their ttl."""
        if self._of_parent():  # nothing here is ours, and its lock may have been held at the fork
            self._closing = True
            return
        with self._lock:
            hub, agent = self._hub, self._agent
            if self._closing or hub is None or agent is None:
                self._closing = True
                return
            self._closing = True
        until = boot() + timeout
        for listener in list(self._listeners):
            hub.silence(listener)
        with hub.lock:
            agent.closing = True
            for membership in agent.memberships.values():
                membership.unwant()
        self._poke()
        hub.wait_until(lambda: agent.presence.session is None, timeout * 0.8, of=agent)
        for changes in list(self._open_changes):
            changes.close()
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
            raise Forked(
                "this coordinator belongs to the parent process: it cannot be used after a fork. "
                "Connect in the child, after the fork"
            )
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
            if self._hub is None:
                self._start()
            hub = self._hub
        assert hub is not None
        if not hub.wait_until(lambda: hub.opened or hub.fatal is not None, self.timeout):
            raise hub.unavailable(self.timeout)
        if not hub.opened and hub.fatal is not None:
            raise hub.fatal
        self._check_ttl(hub)
        return hub

    def _start(self) -> None:
        settings = self._settings
        hub = Hub.of(settings.url, settings.namespace, settings.options)
        host = settings.host or host_id()
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

    def _call(self, call: Callable[[Store], T], group_id: str | None = None) -> T:
        hub = self._ready_hub()
        try:
            return hub.call(call, self.timeout)
        except GroupNotFound:
            if group_id is None:
                raise
            raise self._group_not_found(group_id) from None

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
            hub.wait_until(
                lambda: replica.asked_at >= asked or hub.node.outage.since is not None, self.timeout
            )

    def _look(self, group_id: str) -> View:
        """A view of a group: the one that is watched, or one read for this call."""
        hub = self._ready_hub()
        check_id(group_id, "group_id")
        if group_id in hub.node.replicas:
            return self.group(group_id).view()
        replica = Replica(group_id, boot)
        asked = boot()
        replica.apply(self._call(lambda store: store.read(group_id), group_id), asked)
        assert replica.view is not None
        return replica.view

    def _group_not_found(self, group_id: str) -> GroupNotFound:
        near = ""
        with contextlib.suppress(Exception):  # the hint is a courtesy, not the message
            known = self._ready_hub().call(lambda store: store.groups(), min(1.0, self.timeout))
            near = nearest(group_id, known)
        return GroupNotFound(
            f"there is no group {group_id!r}{near}. create_group makes one; join_group(create=True) too"
        )

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


def _seconds(value: object) -> bool:
    """Whether this is a number of seconds above 0, or None."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)
