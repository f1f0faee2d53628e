"""What one process was shown and told, held against what the store truly had.

Each view is checked against the revision that it claims to be, once, when it appears; the changes that
were told are added up; and each term that the application was given is handed to `Truth`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headcount.core.replica import Replica
from headcount.core.work import Told
from headcount.model import Change, Kind, Member
from tests.simulation.past import shown_as
from tests.simulation.truth import Truth

if TYPE_CHECKING:
    from tests.simulation.process import Process


class Eyes:
    """What one process was shown and told."""

    def __init__(self, process: Process, truth: Truth) -> None:
        self._process = process
        self._truth = truth
        self._seen: dict[str, Any] = {}
        self._at: dict[str, int] = {}
        self._told: dict[str, dict[str, Member]] = {}
        self._leads: dict[str, str | None] = {}

    def look(self) -> None:
        """After anything that this process did."""
        process = self._process
        for membership in process.node.leading.values():
            term = membership.term
            if term is not None and term is not process.terms.get((membership.me.instance, membership.group)):
                process.terms[membership.me.instance, membership.group] = term
                process.led.setdefault(membership.group)
                process.trust[term] = term.trusted_until()
                self._truth.term(process, term)
        if process.led:
            self._truth.terms(process)
        for group, replica in process.node.replicas.items():
            if replica.view is not self._seen.get(group):
                self._view(group, replica)

    def _view(self, group: str, replica: Replica) -> None:
        view, old = replica.view, self._seen.get(group)
        self._seen[group] = view
        if view is None:
            return
        world, name = self._truth.world, self._process.name
        if group not in self._told:  # who begins to listen is given the first view
            self._told[group] = dict(view)
            self._leads[group] = view.leader.member_id if view.leader else None
        past = self._truth.past.get((group, view.revision))
        if past is None:
            raise world.broken("order", f"{name} sees {group} at {view.revision}, which never was")
        if view.revision <= self._at.get(group, 0):
            if old is None or view.revision < self._at[group]:
                raise world.broken("order", f"{name} sees {group} go back to revision {view.revision}")
            return
        self._at[group] = view.revision
        before = self._truth.past.get((group, old.revision)) if old is not None else None
        known = before.members if before is not None else {}
        for member, shown in past.members.items():
            if known.get(member) != shown and shown_as(view.get(member)) != shown:
                raise world.broken(
                    "order", f"{name} sees {member} in {group} as {view.get(member)}, but it is {shown}"
                )
        leader = replica.leader.standing_since if replica.leader else 0
        if leader != (past.leader.standing_since if past.leader else 0) or len(view) != len(past.members):
            raise world.broken("order", f"{name} sees another group {group} at {view.revision} than it was")
        world.kept["order"] += 1

    def hear(self, told: Told) -> None:
        """Changes, added up, make the view."""
        known = self._told.setdefault(told.group, {})
        for change in told.changes:
            self._hear(known, told.group, change)

    def _hear(self, known: dict[str, Member], group: str, change: Change) -> None:
        if change.kind is Kind.RESYNC:
            known.clear()
            known.update(change.view)
            self._leads[group] = change.view.leader.member_id if change.view.leader else None
        elif change.kind is Kind.LEADER:
            self._leads[group] = change.member.member_id if change.member else None
        elif change.kind not in (Kind.DEGRADED, Kind.STEADY):
            named = change.member or change.before
            assert named is not None
            known.pop(named.member_id, None)
            if change.member is not None:
                known[named.member_id] = change.member

    def complete(self) -> str | None:
        """Whether all of each view is as the store has it, and as the changes have told it."""
        for group, replica in self._process.node.replicas.items():
            latest, view = self._truth.latest.get(group), replica.view
            if (view is None) != (latest is None):
                return f"{self._process.name} sees {group} as {view}"
            if view is None or latest is None:
                continue
            if view.revision != latest.revision:
                return f"{self._process.name} sees {group} at {view.revision}, not at {latest.revision}"
            if {member: shown_as(view[member]) for member in view} != latest.members:
                return f"{self._process.name} sees other members in {group}"
            told = self._told.get(group, {})
            if {m: shown_as(told[m]) for m in told} != latest.members:
                return (
                    f"{self._process.name} was told of {sorted(told)} in {group}, "
                    f"which do not add up to {sorted(latest.members)}"
                )
            if self._leads.get(group) != (latest.leader.member_id if latest.leader else None):
                return f"{self._process.name} was told that {self._leads.get(group)} leads {group}"
        return None

    def honest(self) -> None:
        """A view that says it is so many seconds old was true so many seconds ago."""
        process, world = self._process, self._truth.world
        for group, replica in process.node.replicas.items():
            view = replica.view
            if view is None or math.isinf(view.age):
                continue
            if process.clock.boot() - view.age < process.clock.thawed:
                continue  # the clock stood still meanwhile: no age can be known
            past = self._truth.past.get((group, view.revision))
            confirmed = process.clock.true(process.clock.boot() - view.age)
            if past is not None and past.until < confirmed - self._truth.blur - 1e-6:
                raise world.broken(
                    "age",
                    f"{process.name} says its view of {group} is {view.age:.3f} s old, "
                    f"but it was outdated {world.now - past.until:.3f} s ago",
                )
            world.kept["age"] += 1
