"""The watcher's part: sessions opened and closed, what each membership needs, groups read, sweeps.

In this order: the coordinators that have something to do, each in turn; groups that rang; the sweep
that follows our tick; and then it listens at the doorbell. When it gets that far, it has finished a
*pass*: it has seen all that had rung. Coordinators that keep it busy wait for a pass every now and
then: else a thousand that join at once would leave all of them blind.

What several coordinators ask alike (a session; a commit to the same group) goes together, in one request:
so a thousand that join at once are a few transactions. What fails for one need not fail for the others: after
a failure fewer go together, or each by itself if it is no failure that passes; and more again once they are
served.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeGuard

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
    DoTogether,
    ForMembership,
    Listen,
    WatchAnswer,
    WatchRequest,
    parts,
)
from headcount.errors import GroupNotFound, HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import (
    Amend,
    Committed,
    Delta,
    Enter,
    Granted,
    Moment,
    Refusal,
    Refused,
    Ring,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Swept,
    Vacate,
)

if TYPE_CHECKING:
    from headcount.core.node import Node

LONGEST = 1.0
"""Seconds that it listens at most: then the view's age begins anew, and timers are looked at."""


GLANCE = 0.5
"""Seconds after which those that keep the watcher busy wait for a pass."""

AGAIN = 1.0
"""Seconds between a sweep that failed and the next."""

TOGETHER = 200
"""How many coordinators are served in one request, at most."""

MOST_BYTES = 1 << 20
"""Of capabilities in one request; a single commit may have more."""


class Watcher:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._retry = Backoff(0.05, 2.0, "watcher")
        self._not_before = 0.0
        self._recheck_at = 0.0
        self._busy: dict[str, None] = {}
        self._kept: tuple[WatchRequest, Phase | None] | None = None
        """What a coordinator needs that could not go together with what the others did: it is next, unless
        its membership is in another phase by then."""
        self._room = TOGETHER
        """How many go together at present."""
        self._wake_at: dict[str, Seconds] = {}
        self._whole: set[str] = set()
        self._last_read = ""
        self._patient_since = -math.inf
        self._sweep_at = 0.0
        self._strays: list[SessionId] = []
        self._claims_seen: dict[tuple[str, str], Seconds] = {}

    def poke(self, agent: Agent) -> None:
        """This coordinator may have something to do."""
        self._busy.setdefault(agent.me.instance)
        self._node.moved.add(agent.me.instance)

    def part_with(self, session: SessionId) -> None:
        """This session is over, and nobody trusts anything of it."""
        self._strays.append(session)

    @property
    def pending(self) -> bool:
        """Whether there is something to do now, as far as can be told without looking."""
        return bool(self._kept or self._strays or self._busy or self._node.dirty or self._node.sweep)

    def try_again(self) -> None:
        """There is reason to believe that the store serves again. What was asked before may still fail: it
        must not keep us waiting as long as if the outage went on."""
        self._not_before = 0.0
        self._retry.reset()

    # ── what to do next ──

    def next(self, now: Moment) -> WatchRequest:
        """What to do now, or until when to listen."""
        node, at = self._node, now.boot
        node.review(now)
        if at < self._not_before:
            return Listen(self._not_before, doorbell=False)
        request = None if self._must_glance(at) else self._for_agents(at)
        if request is not None:
            return request
        if node.dirty:
            return self._read_next()
        if node.sweep and at >= self._sweep_at:
            node.sweep = False
            return DoSweep()
        recheck = node.guarantees.recheck
        if recheck is not None and node.replicas and at >= self._recheck_at:
            self._recheck_at = at + recheck
            node.dirty.update(node.replicas)
            return self._read_next()
        waited = self._wait_out(at)
        if waited is not None:
            return waited
        if node.replicas:
            node.pass_at = at
        elif not self._wake_at:
            node.idle(at)
        wake_at = (
            at if self._kept or self._strays or self._busy else min(self._wake_at.values(), default=math.inf)
        )
        if node.sweep:
            wake_at = min(wake_at, self._sweep_at)
        return Listen(max(at, min(wake_at, at + LONGEST)), doorbell=bool(node.replicas))

    def _must_glance(self, at: Seconds) -> bool:
        """Whether those who have something to do wait, until all that has rung is read. If that fails,
        they have their turn again."""
        pass_at = self._node.pass_at
        return pass_at is not None and at - max(pass_at, self._patient_since) >= GLANCE

    def _read_next(self) -> DoRead:
        """Each in turn: a group that cannot be read does not keep us from the others."""
        dirty = self._node.dirty
        self._last_read = min((group for group in dirty if group > self._last_read), default=min(dirty))
        return self._read(self._last_read)

    def _for_agents(self, at: Seconds) -> WatchRequest | None:
        """The first thing that a coordinator needs, with those of others that can go along."""
        if self._strays:
            return DoClose("", self._strays.pop())
        for instance in [i for i, wake_at in self._wake_at.items() if wake_at <= at]:
            del self._wake_at[instance]
            self._busy.setdefault(instance)
        first = self._unkept() or self._for_next(at)
        if not isinstance(first, DoOpen | DoCommit):
            return first
        found: dict[str, DoOpen | DoCommit] = {first.instance: first}
        weight = _weight(first)
        while len(found) < self._room and weight < MOST_BYTES:
            another = self._for_next(at, found)
            if _goes_with(another, first):
                found[another.instance] = another
                weight += _weight(another)
                continue
            if isinstance(another, DoRead):  # until it is read, it is a group to be read
                self._node.dirty.add(another.group)
            elif another is not None:
                self._kept = another, self._phase(another)
            break
        return DoTogether(tuple(found.values())) if len(found) > 1 else first

    def _unkept(self) -> WatchRequest | None:
        """What was put aside, if whoever needed it still does; it has its turn again in any case."""
        kept, self._kept = self._kept, None
        if kept is None:
            return None
        request, phase = kept
        here = getattr(request, "instance", "") in self._node.agents
        return request if here and self._phase(request) is phase else None

    def _phase(self, request: WatchRequest) -> Phase | None:
        """Of the membership that a request is about, if it is about one."""
        agent = self._node.agents.get(getattr(request, "instance", ""))
        membership = agent.memberships.get(getattr(request, "group", "")) if agent is not None else None
        return membership.phase if membership is not None else None

    def _for_next(self, at: Seconds, besides: Collection[str] = ()) -> WatchRequest | None:
        """The first thing that a coordinator needs; who needs nothing now is not looked at again
        before its time comes, or something happens to it. None if it is the turn of one of `besides`."""
        while self._busy:
            instance = next(iter(self._busy))
            if instance in besides:
                return None
            agent = self._node.agents.get(instance)
            del self._busy[instance]
            if agent is None:
                continue
            found = self._for_agent(agent, at)
            self._node.moved.add(instance)  # it may have given up what it was to do
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
        ready = agent.is_ready(at)
        wake_at = agent.ready_until if ready else math.inf
        for membership in agent.memberships.values():
            if membership.phase is Phase.OUT and (agent.closing or membership.look_again_at == math.inf):
                continue
            step = membership.next(ready, at)
            if step is None and self._unread(agent, membership) and at >= membership.retry_at:
                step = Step.LOOK
            if step is not None:
                return self._request(membership, step)
            for later in (membership.not_before, membership.retry_at, membership.look_again_at):
                if later > at:
                    wake_at = min(wake_at, later)
        if agent.gone:  # only now: who has no row here needs no goodbye
            return agent.close_at if at < agent.close_at else DoClose(instance, session)
        agent.tidy()
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
        requests = parts(request)
        kind = type(requests[0]).__name__
        if isinstance(request, DoOpen | DoCommit | DoTogether):
            answer = self._make_room(len(requests), answer)
        if isinstance(answer, HeadcountError) and not _of_the_caller(request, answer):
            node.failed(kind, answer, now.boot)
            self._not_before = now.boot + self._retry.failed()
            if isinstance(request, DoRead | DoSweep | Listen):
                self._patient_since = now.boot
        elif not isinstance(request, Listen) or request.doorbell:
            node.served(kind, now.boot)
            self._retry.reset()
        answers = answer if isinstance(answer, list) else [answer] * len(requests)
        for one, its in zip(requests, answers, strict=True):
            self._took(one, asked, now, its)
        node.review(now)

    def _make_room(self, count: int, answer: WatchAnswer | HeadcountError) -> WatchAnswer | HeadcountError:
        """So many went together: how many may, the next time? An error that does not pass may be the fault of
        one of them, and is told to nobody before it was asked for by itself."""
        if isinstance(answer, HeadcountError):
            if count == 1 or isinstance(answer, LookupError):
                return answer
            passes = isinstance(answer, ConnectionError)
            self._room = max(1, count // 2) if passes else 1
            return answer if passes else StoreUnavailable(str(answer))
        self._room = min(TOGETHER, 2 * self._room)
        return answer

    def _took(
        self, request: WatchRequest, asked: Moment, now: Moment, answer: WatchAnswer | HeadcountError
    ) -> None:
        """What came of one request."""
        node = self._node
        agent = node.agents.get(getattr(request, "instance", ""))
        match request:
            case DoOpen(session=session) if agent is not None:
                self._opened(agent, session, asked, now, answer)
            case DoOpen(session=session) if isinstance(answer, Granted):
                self._strays.append(session.id)  # whoever it was for has been closed meanwhile
            case DoClose() if agent is not None and isinstance(answer, HeadcountError):
                agent.close_failed(now.boot)
            case DoClose(session=closed) if agent is None:
                if isinstance(answer, StoreUnavailable | OutcomeUnknown):
                    self._strays.append(closed)
            case DoClose(session=closed) if agent is not None:
                node.by_session.pop(closed, None)
                agent.presence.lost()
            case DoRead(group=group):
                self._was_read(group, asked, now, answer)
            case DoSweep():
                self._swept(now, answer)
            case Listen() if isinstance(answer, Ring):
                self._patient_since = now.boot
                self._rang(answer, asked)
            case Listen() if isinstance(answer, HeadcountError):
                node.dirty.update(node.replicas)  # it may have rung, and we did not hear it
            case DoCommit() | DoCreate() | DoLook() if agent is not None:
                self._for_membership(agent, request, asked, now, answer)
            case DoCommit(group=group):
                node.touch(group)

    def _opened(
        self, agent: Agent, session: Session, asked: Moment, now: Moment, answer: WatchAnswer | HeadcountError
    ) -> None:
        if isinstance(answer, Granted):
            agent.opened(now.boot)
            agent.presence.opened(session, answer, asked, now)
            self._node.by_session[session.id] = agent
            if answer.tick is not None:
                self._node.clock.heard(answer.tick, now.boot, beaten=True)  # it counts as a beat
            self._node.heart.expect(agent.presence.next_beat)
        else:
            agent.open_failed(now.boot)
        self.poke(agent)

    def _swept(self, now: Moment, answer: WatchAnswer | HeadcountError) -> None:
        failed = isinstance(answer, HeadcountError)
        self._node.sweep |= failed or (isinstance(answer, Swept) and answer.more)
        if failed:
            self._sweep_at = now.boot + AGAIN
        elif self._node.unswept is not None:
            self._node.unswept = now.boot if self._node.sweep else None
            self._node.heart.expect(now.boot)  # the clock may be moved on

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
                membership.failed(answer, asked.boot, now.boot)
                unknown = isinstance(request, DoCommit) and isinstance(answer, OutcomeUnknown)
                if unknown and request.group not in node.replicas:
                    membership.doubted(now.boot)  # who watches the group sees it come
            case Refused(reason=Refusal.FENCED):
                if isinstance(request, DoCommit) and request.by == agent.presence.session_id:
                    node.lose(agent)
            case Committed() | Refused():
                membership.answered(answer, now.boot)
                node.touch(request.group)
            case Snapshot():
                membership.observe(answer, asked.boot, now.boot)
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
            self._node.vanished.add(group)
            for agent, membership in self._members(replica, everybody=True):
                membership.failed(answer, asked.boot, now.boot)
                self._after(agent, membership, now)
        elif isinstance(answer, Snapshot | Delta):
            changes = replica.apply(answer, asked.boot)
            if changes is None:
                self._whole.add(group)
                self._node.dirty.add(group)
                return
            self._whole.discard(group)
            if replica.asked_at < asked.boot:  # dropped, because it is older than what we have
                self._node.dirty.add(group)
                self._not_before = now.boot + self._retry.failed()
                return
            self._node.tell(group, changes)
            for agent, membership in self._members(replica):
                membership.observe(replica.of(agent.me.member_id), asked.boot, now.boot)
                self._after(agent, membership, now)
        else:
            self._node.dirty.add(group)

    def _members(self, replica: Replica, *, everybody: bool = False) -> list[tuple[Agent, Membership]]:
        """Our memberships in a group that was just read, where the reading may have told them something."""
        found = []
        for agent in self._node.agents.values():
            membership = agent.memberships.get(replica.group)
            if membership is None:
                continue
            touched = agent.me.member_id in replica.touched
            concerned = everybody or agent.presence.unread is not None or membership.waits
            out = membership.phase is Phase.OUT and membership.look_again_at == math.inf
            if touched or (concerned and not out):
                found.append((agent, membership))
        return found

    def _rang(self, ring: Ring, asked: Moment) -> None:
        node = self._node
        node.dirty.update(node.replicas if ring.groups is None else ring.groups.keys() & node.replicas.keys())
        for session in sorted(ring.lost & node.by_session.keys()):  # in an order that can be repeated
            node.lose(node.by_session[session])
        if node.guarantees.recheck is None:
            for group, replica in node.replicas.items():
                if group not in node.dirty:
                    replica.confirm(asked.boot)


def _of_the_caller(request: WatchRequest, error: HeadcountError) -> bool:
    """Whether an error is about what was asked for, and says nothing of the store. Who reads has given
    nothing that could be wrong: a group that cannot be read is not asked for again at once."""
    if isinstance(error, ValueError):
        return not isinstance(request, DoRead | DoSweep | Listen)
    return isinstance(error, LookupError)


def _weight(request: DoOpen | DoCommit) -> int:
    """Bytes of capabilities."""
    writes = request.writes if isinstance(request, DoCommit) else ()
    return sum(len(write.capabilities or b"") for write in writes if isinstance(write, Enter | Amend))


def _goes_with(another: WatchRequest | None, first: DoOpen | DoCommit) -> TypeGuard[DoOpen | DoCommit]:
    """Whether the two can be asked in one go."""
    if isinstance(first, DoCommit):
        return isinstance(another, DoCommit) and another.group == first.group
    return isinstance(another, DoOpen)
