"""One process on one store: what both of its hands know.

The engine has a thread for each hand, the simulation an event. Each hand asks `next` for one request,
carries it out, and brings the answer back with `done`; it does one thing at a time.

    heart    (`core.heart`)  beats and ticks, and nothing else: a register that is slow or locked must
                             not cost anybody its session
    watcher  (`core.watch`)  everything else

What the application is to hear collects in `tidings`, in order, until it is fetched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from headcount.core.agent import Agent
from headcount.core.expiry import Clock
from headcount.core.heart import Heart
from headcount.core.membership import Desired, Membership
from headcount.core.replica import Replica
from headcount.core.watch import Watcher
from headcount.core.work import HEART, Outage, OutageEnded, Tiding, Told, ToldSelf
from headcount.errors import HeadcountError
from headcount.model import Change, Guarantees, Moment, Seconds, SessionId


class Node:
    """Everything that one process knows of one store. Not thread-safe: the engine holds a lock."""

    def __init__(self, guarantees: Guarantees, now: Callable[[], Seconds]) -> None:
        self.guarantees = guarantees
        self.ticks = guarantees.expiry == "ticks"
        self.agents: dict[str, Agent] = {}
        self.by_session: dict[SessionId, Agent] = {}
        self.replicas: dict[str, Replica] = {}
        self.clock = Clock()
        self.outage = Outage()
        self.tidings: list[Tiding] = []
        self.pass_at: Seconds | None = None
        """When the watcher last had read all that had rung; None while nothing is watched."""
        self.dirty: set[str] = set()
        """Groups to be read."""
        self.vanished: set[str] = set()
        """Groups of which the store has just said that there is none."""
        self.sweep = False
        self.moved: set[str] = set()
        """Coordinators to which something may have happened since the engine last took note."""
        self.unswept: Seconds | None = None
        """Since when we move the clock, and no sweep of ours has followed."""
        self.leading: dict[tuple[str, str], Membership] = {}
        """Memberships whose application leads, or wants to."""
        self.heart = Heart(self)
        self.watcher = Watcher(self)
        self._now = now

    # ── who takes part ──

    def add(self, agent: Agent) -> None:
        self.agents[agent.me.instance] = agent
        self.watcher.poke(agent)

    def drop(self, agent: Agent) -> None:
        self.lead_no_more(agent.memberships.values())
        self.agents.pop(agent.me.instance, None)
        self.by_session.pop(agent.presence.session_id, None)

    def want(self, agent: Agent, group: str, desired: Desired) -> Membership:
        self.watcher.poke(agent)
        return agent.want(group, desired)

    def watch(self, group: str) -> Replica:
        """Begin to follow a group."""
        found = self.replicas.get(group)
        if found is None:
            found = Replica(group, self._now, deltas=self.guarantees.deltas)
            found.trouble(self._trouble)
            self.replicas[group] = found
            self.dirty.add(group)
            if self.pass_at is None:
                self.pass_at = self._now()
        return found

    def unwatch(self, group: str) -> None:
        self.replicas.pop(group, None)
        self.dirty.discard(group)
        if not self.replicas:
            self.pass_at = None

    def touch(self, group: str) -> None:
        """Read this group again soon, whatever the doorbell says."""
        if group in self.replicas:
            self.dirty.add(group)

    def lead(self, membership: Membership) -> None:
        """One more caller wants this membership to lead."""
        membership.following += 1
        self.leading[membership.me.instance, membership.group] = membership

    def lead_less(self, membership: Membership) -> None:
        """One caller less: the place goes to the others."""
        membership.following = max(0, membership.following - 1)
        membership.inside = False
        if membership.term is not None:
            membership.resign()
        if not membership.following:
            self.leading.pop((membership.me.instance, membership.group), None)

    def lead_no_more(self, memberships: Iterable[Membership]) -> None:
        for membership in memberships:
            membership.end_term("closed")
            membership.following = 0
            membership.inside = False
            self.leading.pop((membership.me.instance, membership.group), None)

    # ── what both hands do ──

    def lose(self, agent: Agent) -> None:
        """The store says that this session is lost. Where it may have ended before its time, its places are
        kept from the others until somebody says that nobody trusts them: we do."""
        session, held = agent.presence.session_id, agent.presence.held
        self.by_session.pop(session, None)
        agent.lost()
        if held and not self.ticks:
            self.watcher.part_with(session)
        self.watcher.poke(agent)
        self.tell_self(agent)

    def review(self, now: Moment) -> None:
        """Notice what time alone has changed: trust that ran out, terms that may begin."""
        for membership in self.leading.values():
            if membership.review(now):
                self.watcher.poke(self.agents[membership.me.instance])
            self.follow(membership, now)

    def follow(self, membership: Membership, now: Moment) -> None:
        replica = self.replicas.get(membership.group)
        if not membership.following or replica is None or replica.view is None:
            return
        if membership.follow_lead(replica.leader, now) and membership.term is not None:
            self.heart.expect(membership.term.trusted_until())

    def trust_ends(self, at: Seconds) -> Seconds:
        """When the next of our terms is over unless a beat is taken: its owner is to be told then."""
        ends = (m.term.trusted_until() for m in self.leading.values() if m.term is not None)
        return min((end for end in ends if end > at), default=math.inf)

    def failed(self, kind: str, error: HeadcountError, at: Seconds) -> None:
        """A request of this kind failed."""
        began = self.outage.failed(kind, error, at)
        if began is not None:
            self.tidings.append(began)
            self._doubt()

    def served(self, kind: str, at: Seconds) -> None:
        """A request of this kind succeeded."""
        if kind == HEART and self.outage.fails(kind):
            self.watcher.try_again()  # the store is back: soon enough that the heart need not go blind
        self._over(self.outage.served(kind, at))

    def idle(self, at: Seconds) -> None:
        """The watcher wants nothing of the store."""
        self._over(self.outage.idle(at))

    def _over(self, ended: OutageEnded | None) -> None:
        if ended is not None:
            self.tidings.append(ended)
            self._doubt()

    @property
    def _trouble(self) -> str | None:
        return None if self.outage.error is None else f"the store does not serve us: {self.outage.error}"

    def _doubt(self) -> None:
        for group, replica in self.replicas.items():
            self.tell(group, replica.trouble(self._trouble))

    # ── what the application hears ──

    def fetch(self) -> list[Tiding]:
        told, self.tidings = self.tidings, []
        return told

    def tell(self, group: str, changes: list[Change]) -> None:
        if changes:
            self.tidings.append(Told(group, tuple(changes)))

    def tell_self(self, agent: Agent) -> None:
        for membership in agent.memberships.values():
            for kind in membership.told():
                self.tidings.append(ToldSelf(agent.me.instance, membership.group, kind))
