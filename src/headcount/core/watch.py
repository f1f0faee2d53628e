"""The watcher's part: sessions opened and closed, what each membership needs, groups read, sweeps.

In this order: the coordinators that have something to do, each in turn; groups that rang; the sweep
that follows our tick; and then it listens at the doorbell. When it gets that far, it has finished a
*pass*: it has seen all that had rung.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headcount.core.agent import Agent
from headcount.core.backoff import Backoff
from headcount.core.membership import Membership, Phase, Step
from headcount.core.replica import Replica
from headcount.core.work import (
    DoClose,
    DoCommit,
    DoCreate,
    DoLook,
    DoOpen,
    DoRead,
    DoSweep,
    ForMembership,
    Listen,
    WatchAnswer,
    WatchRequest,
)
from headcount.errors import GroupNotFound, HeadcountError
from headcount.model import (
    Committed,
    Delta,
    Granted,
    Moment,
    Refusal,
    Refused,
    Ring,
    Seconds,
    Session,
    Snapshot,
    Swept,
    Vacate,
)

if TYPE_CHECKING:
    from headcount.core.node import Node

LONGEST = 1.0
"""Seconds that it listens at most: then the view's age begins anew, and timers are looked at."""


class Watcher:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._retry = Backoff(0.05, 2.0, "watcher")
        self._not_before = 0.0
        self._recheck_at = 0.0
        self._busy: dict[str, None] = {}
        self._wake_at: dict[str, Seconds] = {}
        self._whole: set[str] = set()
        self._claims_seen: dict[tuple[str, str], Seconds] = {}

    def poke(self, agent: Agent) -> None:
        """This coordinator may have something to do."""
        self._busy.setdefault(agent.me.instance)

    @property
    def pending(self) -> bool:
        """Whether there is something to do now, as far as can be told without looking."""
        return bool(self._busy or self._node.dirty or self._node.sweep)

    # ── what to do next ──

    def next(self, now: Moment) -> WatchRequest:
        """What to do now, or until when to listen."""
        node, at = self._node, now.boot
        node.review(now)
        if at < self._not_before:
            return Listen(self._not_before, doorbell=False)
        request = self._for_agents(at)
        if request is not None:
            return request
        if node.dirty:
            return self._read(min(node.dirty))
        if node.sweep:
            node.sweep = False
            return DoSweep()
        recheck = node.guarantees.recheck
        if recheck is not None and node.replicas and at >= self._recheck_at:
            self._recheck_at = at + recheck
            node.dirty.update(node.replicas)
            return self._read(min(node.dirty))
        waited = self._wait_out(at)
        if waited is not None:
            return waited
        if node.replicas:
            node.pass_at = at
        wake_at = min(self._wake_at.values(), default=math.inf)
        return Listen(max(at, min(wake_at, at + LONGEST)), doorbell=bool(node.replicas))

    def _for_agents(self, at: Seconds) -> WatchRequest | None:
        """The first thing that a coordinator needs; who needs nothing now is not looked at again
        before its time comes, or something happens to it."""
        for instance in [i for i, wake_at in self._wake_at.items() if wake_at <= at]:
            del self._wake_at[instance]
            self._busy.setdefault(instance)
        while self._busy:
            instance = next(iter(self._busy))
            agent = self._node.agents.get(instance)
            del self._busy[instance]
            if agent is None:
                continue
            found = self._for_agent(agent, at)
            self._node.tell_self(agent)
            if found is None or isinstance(found, float):
                self._wake_at.pop(instance, None)
                if found is not None and found < math.inf:
                    self._wake_at[instance] = found
                continue
            self._busy[instance] = None  # behind the others, and again after this
            return found
        return None

    def _for_agent(self, agent: Agent, at: Seconds) -> WatchRequest | float | None:
        """What this coordinator needs now, or when it will."""
        instance, session = agent.me.instance, agent.presence.session_id
        if agent.needs_session and (self._node.ticks or agent.memberships):
            return agent.open_at if at < agent.open_at else DoOpen(instance, agent.next_session())
        if not session:
            return None
        if agent.gone:
            return DoClose(instance, session)
        ready = agent.is_ready(at)
        wake_at = agent.ready_until if ready else math.inf
        for membership in agent.memberships.values():
            if membership.phase is Phase.OUT:
                continue
            step = membership.next(ready, at)
            if step is None and self._unread(agent, membership):
                step = Step.LOOK
            if step is not None:
                return self._request(membership, step)
            if membership.not_before > at:
                wake_at = min(wake_at, membership.not_before)
        return wake_at

    @staticmethod
    def _unread(agent: Agent, membership: Membership) -> bool:
        """Whether a notice says that somebody touched our rows, and these have not been read since."""
        told_at = agent.presence.unread
        return told_at is not None and membership.looked_at < told_at

    def _request(self, membership: Membership, step: object) -> WatchRequest:
        instance, group = membership.me.instance, membership.group
        if step is Step.CREATE:
            return DoCreate(group, instance)
        if step is Step.LOOK:
            replica = self._node.replicas.get(group)
            if replica is not None and replica.view is not None:
                return self._read(group)
            return DoLook(group, membership.me.member_id, instance)
        assert isinstance(step, list)
        return DoCommit(group, tuple(step), membership.presence.session_id, instance)

    def _read(self, group: str) -> DoRead:
        self._node.dirty.discard(group)
        return DoRead(group, None if group in self._whole else self._node.replicas[group].revision)

    def _wait_out(self, at: Seconds) -> DoCommit | None:
        """Where the store expires sessions itself, a claim goes once anybody has seen it stand for
        its owner's ttl and margin, on a clock that may be 1 % fast."""
        if self._node.ticks:
            return None
        standing = {
            (group, claim.key): claim.ttl * 1.02 + 0.5
            for group, replica in self._node.replicas.items()
            for claim in replica.claims.values()
        }
        self._claims_seen = {key: self._claims_seen.get(key, at) for key in standing}
        for (group, key), patience in standing.items():
            if at >= self._claims_seen[group, key] + patience:
                self._claims_seen[group, key] = at
                return DoCommit(group, (Vacate(claim=key, waited=True),), "")
        return None

    # ── what came of it ──

    def done(
        self, request: WatchRequest, asked: Moment, now: Moment, answer: WatchAnswer | HeadcountError
    ) -> None:
        """The request was carried out: asked at `asked`, answered at `now`."""
        node = self._node
        if isinstance(answer, HeadcountError) and not isinstance(answer, GroupNotFound):
            node.failed("watcher", answer, now.boot)
            self._not_before = now.boot + self._retry.failed()
        elif not isinstance(request, Listen) or request.doorbell:
            node.served("watcher", now.boot)
            self._retry.reset()
        agent = node.agents.get(getattr(request, "instance", ""))
        match request:
            case DoOpen(session=session) if agent is not None:
                self._opened(agent, session, asked, now, answer)
            case DoClose(session=closed) if agent is not None and not isinstance(answer, HeadcountError):
                node.by_session.pop(closed, None)
                agent.presence.lost()
            case DoRead(group=group):
                self._was_read(group, asked, now, answer)
            case DoSweep():
                node.sweep |= isinstance(answer, HeadcountError) or (
                    isinstance(answer, Swept) and answer.more
                )
            case Listen() if isinstance(answer, Ring):
                self._rang(answer, asked)
            case DoCommit() | DoCreate() | DoLook() if agent is not None:
                self._for_membership(agent, request, asked, now, answer)
            case DoCommit(group=group):
                node.touch(group)
        node.review(now)

    def _opened(
        self, agent: Agent, session: Session, asked: Moment, now: Moment, answer: WatchAnswer | HeadcountError
    ) -> None:
        if isinstance(answer, Granted):
            agent.opened()
            agent.presence.opened(session, answer, asked, now)
            self._node.by_session[session.id] = agent
        else:
            agent.open_failed(now.boot)
        self.poke(agent)

    def _for_membership(
        self,
        agent: Agent,
        request: ForMembership,
        asked: Moment,
        now: Moment,
        answer: WatchAnswer | HeadcountError,
    ) -> None:
        node, membership = self._node, agent.membership(request.group)
        match answer:
            case HeadcountError():
                membership.failed(answer)
            case Refused(reason=Refusal.FENCED):
                if isinstance(request, DoCommit) and request.by == agent.presence.session_id:
                    node.lose(agent)
            case Committed() | Refused():
                membership.answered(answer, now.boot)
                node.touch(request.group)
            case Snapshot():
                membership.observe(answer, asked.boot)
            case bool():
                membership.created()
                node.touch(request.group)
        self._after(agent, membership, now)

    def _after(self, agent: Agent, membership: Membership, now: Moment) -> None:
        """One of its memberships was looked at, or moved on."""
        agent.presence.read(agent.looked_at, now)
        self._node.follow(membership, now)
        self._node.tell_self(agent)
        self.poke(agent)

    def _was_read(self, group: str, asked: Moment, now: Moment, answer: WatchAnswer | HeadcountError) -> None:
        replica = self._node.replicas.get(group)
        if replica is None:
            return  # nobody watches it any more
        if isinstance(answer, GroupNotFound):
            self._whole.discard(group)
            self._node.tell(group, replica.vanish(asked.boot))
            for agent, membership in self._members(replica, everybody=True):
                membership.failed(answer)
                self._after(agent, membership, now)
        elif isinstance(answer, Snapshot | Delta):
            changes = replica.apply(answer, asked.boot)
            if changes is None:
                self._whole.add(group)
                self._node.dirty.add(group)
                return
            self._whole.discard(group)
            self._node.tell(group, changes)
            for agent, membership in self._members(replica):
                membership.observe(replica.of(agent.me.member_id), asked.boot)
                self._after(agent, membership, now)
        else:
            self._node.dirty.add(group)

    def _members(self, replica: Replica, *, everybody: bool = False) -> list[tuple[Agent, Membership]]:
        """Our memberships in a group that was just read, where the reading may have told them something."""
        found = []
        for agent in self._node.agents.values():
            membership = agent.memberships.get(replica.group)
            if membership is None or membership.phase is Phase.OUT:
                continue
            touched = agent.me.member_id in replica.touched or agent.presence.unread is not None
            if everybody or touched or membership.waits:
                found.append((agent, membership))
        return found

    def _rang(self, ring: Ring, asked: Moment) -> None:
        node = self._node
        node.dirty.update(node.replicas if ring.groups is None else ring.groups.keys() & node.replicas.keys())
        for session in ring.lost & node.by_session.keys():
            node.lose(node.by_session[session])
        if node.guarantees.recheck is None:
            for group, replica in node.replicas.items():
                if group not in node.dirty:
                    replica.confirm(asked.boot)
