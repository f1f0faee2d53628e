"""Whether a town is as it should be: everybody in who wants in, every view agreed, every group led."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headcount.core.agent import Agent
from headcount.core.membership import Membership, Phase
from headcount.errors import Expelled, MemberTaken, Superseded
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.town import Town

Reason = tuple[str, str]
"""The promise that is not kept yet, and what is wrong."""


def unsettled(town: Town) -> Reason | None:
    """What is not yet as it should be: the promise, and what is wrong."""
    for process in town.living:
        found = _unsettled(town, process)
        if found is not None:
            return found
    for group in town.truth.latest:
        found = _disordered(town, group)
        if found is not None:
            return found
    for process in town.living:
        reason = process.eyes.complete()
        if reason is not None:
            return ("completeness", reason)
    return None


def _unsettled(town: Town, process: Process) -> Reason | None:
    now, name = process.clock.boot(), process.name
    if process.node.outage.since is not None:
        return (
            "nobody is locked out",
            f"{name} still believes in an outage: {process.node.outage.error}",
        )
    for agent in process.agents:
        if agent.closing and agent.presence.session is not None:
            return ("it stops", f"{name} does not get closed")
        session = agent.presence.session_id
        if session and not town.server.alive(session):
            return ("nobody is locked out", f"{name} does not know that its session {session} is over")
        if agent.needs_session and (town.mode == "ticks" or agent.memberships):
            return ("nobody is locked out", f"{name} has no session")
        for group, membership in agent.memberships.items():
            wanted = process.wanted.get((agent.me.instance, group))
            if wanted is None:
                if membership.phase is not Phase.OUT:
                    return ("leaving is leaving", f"{name} is still {membership.phase} in {group}")
                continue
            found = _member(town, process, agent, membership, now)
            if found is not None:
                return found
    return None


def _member(town: Town, process: Process, agent: Agent, membership: Membership, now: float) -> Reason | None:
    group, who = membership.group, f"{process.name} ({agent.me.instance})"
    past = town.truth.latest.get(group)
    row = past.rows.get(membership.key) if past is not None else None
    mark = past.marks.get(agent.me.member_id) if past is not None else None
    if membership.error is not None:
        good = False
        match membership.error:
            case Superseded():
                good = town.truth.others(group, membership.key, agent.me.instance)
            case MemberTaken():
                good = process.plan.name == "rival"
            case Expelled():
                good = town.truth.expelled.get((group, agent.me.member_id), False)
        if not good or (mark is None and membership.phase is Phase.BARRED):
            return ("nobody is locked out", f"{who} is out of {group}: {membership.error}")
        if membership.phase is Phase.OUT:
            process.wanted.pop((agent.me.instance, group))
        return None
    if membership.phase is not Phase.JOINED or row is None or not row.live:
        return ("nobody is locked out", f"{who} is {membership.phase} in {group}, where its row is {row}")
    if row.session != agent.presence.session_id or row.state != "up":
        return ("nobody is locked out", f"{who} has another row in {group} than it thinks: {row}")
    if membership.desired is None or row.capabilities != membership.desired.capabilities:
        return ("capabilities", f"{who} in {group} is shown with {row.capabilities!r}")
    ready = agent.is_ready(now)
    if row.ready != ready:
        return ("capabilities", f"{who} in {group} is shown as ready={row.ready}")
    bars = mark is not None and mark.bars_standing
    stands = membership.desired.stand or membership.following > 0
    if (row.standing_since > 0) != (stands and ready and not bars):
        return ("always led", f"{who} in {group} wants to stand, or not to: {row}")
    return None


def _disordered(town: Town, group: str) -> Reason | None:
    past = town.truth.latest[group]
    for claim in past.claims.values():
        return ("claims go", f"in {group} there is still the claim {claim}")
    for row in past.rows.values():
        if not row.live:
            continue
        process = town.owner(row.session)
        if process is None or process.dead:
            return ("completeness", f"in {group} the row {row} of a dead process is not down")
        agent = next(a for a in process.agents if a.me.instance == row.instance)
        if (row.instance, group) not in process.wanted:
            return ("leaving is leaving", f"{process.name} is in {group}, and does not want to be: {row}")
        if agent.membership(group).incarnation != row.incarnation:
            return ("nobody is locked out", f"{process.name} does not know its own row in {group}: {row}")
    terms = town.truth.trusted(group)
    leads = town.leader(group)
    if leads is None:
        if any(row.standing_since for row in past.rows.values()):
            return ("always led", f"nobody leads {group}")
        return None
    process, _, membership = leads
    follows = bool(membership.following)
    if [p for p, _ in terms] != [process] * follows:
        return (
            "always led",
            f"{process.name} leads {group} and {'does not know it' if follows else 'did not ask for it'}",
        )
    return None
