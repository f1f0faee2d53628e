"""What the library promises, held against what truly happened.

`Truth` stands beside the store: it keeps every revision of every group, and checks each commit, each
fence and each tick when it happens. `Eyes` stands beside one process: it checks each view against the
revision it claims to be, adds the told changes up, and keeps the terms that the application was given.

Nothing here asks the code under test what is right. The leader, the members, the time at which a
session may be fenced at the earliest: all are computed again, from the records and true time.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from headcount.core.agent import Agent
from headcount.core.leadership import TermState
from headcount.core.replica import Replica
from headcount.core.work import Told
from headcount.model import Change, Claim, Kind, Mark, Member, Row, Session, SessionId, State
from tests.simulation.world import DRIFT, World

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.server import Server

WINDOW = 30.0
"""Seconds over which the guard counts, as the design says it."""

Shown = tuple[str, int, bytes, str | None, bool, bool]
"""What a view has to say of a member: status, incarnation, capabilities, and the three marks."""


class Past:
    """A group as it stood at one revision."""

    __slots__ = ("_leader", "_members", "at", "claims", "marks", "revision", "rows", "until")

    def __init__(
        self,
        at: float,
        revision: int,
        rows: Mapping[str, Row],
        marks: Mapping[str, Mark],
        claims: Mapping[str, Claim],
    ) -> None:
        self.at = at
        self.until = math.inf
        self.revision = revision
        self.rows = dict(rows)
        self.marks = dict(marks)
        self.claims = dict(claims)
        self._leader: Row | str | None = "unknown"
        self._members: dict[str, Shown] | None = None

    @property
    def leader(self) -> Row | None:
        """The up row that has stood longest; none while a claim of earlier standing is there."""
        if isinstance(self._leader, str):
            best: Row | None = None
            for row in self.rows.values():
                up = row.state is State.UP and row.standing_since > 0
                if up and (best is None or row.standing_since < best.standing_since):
                    best = row
            for claim in self.claims.values():
                if best is not None and 0 < claim.standing_since < best.standing_since:
                    best = None
            self._leader = best
        return self._leader

    @property
    def members(self) -> dict[str, Shown]:
        if self._members is None:
            best: dict[str, tuple[int, int, Row]] = {}
            order = ("up", "unready", "suspect", "down", "left")
            for row in self.rows.values():
                place = (order.index(_status(row)), row.incarnation, row)
                if row.member_id not in best or place[:2] < best[row.member_id][:2]:
                    best[row.member_id] = place
            shown: dict[str, Shown] = {}
            for name in [*best, *(name for name in self.marks if name not in best)]:
                mark = self.marks.get(name)
                marks = (mark.disabled, mark.forced_down, mark.expelled) if mark else (None, False, False)
                if name in best:
                    row = best[name][2]
                    shown[name] = (_status(row), row.incarnation, row.capabilities, *marks)
                else:
                    shown[name] = ("left", 0, b"", *marks)
            self._members = shown
        return self._members


class Truth:
    """All that the store ever held, and the laws it has to keep."""

    server: Server

    def __init__(self, world: World) -> None:
        self.world = world
        self.past: dict[tuple[str, int], Past] = {}
        self.latest: dict[str, Past] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.taken: dict[SessionId, float] = {}
        self.taken_in: dict[str, tuple[int, int]] = {}
        self.fenced: dict[SessionId, float] = {}
        self.sheltered: dict[SessionId, str] = {}
        """Sessions that must not be fenced now, and why."""
        self.on_tick: list[Any] = []
        self.on_beat: list[Any] = []
        self.on_commit: list[Any] = []
        self.wants: dict[tuple[str, str], int] = {}
        """How often the application of this instance has asked to join this group."""
        self.expelled: dict[tuple[str, str], bool] = {}
        """Whom an operator has ever expelled."""
        self._lives: dict[tuple[str, str], dict[str, None]] = {}
        self.agents: dict[str, Agent] = {}
        """By instance."""
        self._revisions: dict[str, int] = {}
        self._tokens: dict[str, int] = {}
        self._led: dict[str, int] = {}
        self._terms: dict[str, int] = {}
        self._ended: set[tuple[str, int]] = set()
        self._entered: dict[tuple[str, str], tuple[int, int]] = {}
        self._said: dict[tuple[str, str], int] = {}
        self._expiries: list[tuple[int, SessionId]] = []
        self._open_terms: dict[str, list[tuple[Process, TermState]]] = {}

    # ── what the store does ──

    def began(self, server: Server) -> None:
        """The store has forgotten everything, or just begun."""
        self.server = server
        self.latest = {}
        self.taken_in = {}
        self._expiries = []
        self.sheltered = {}
        self.world.note("the store begins anew, epoch", server.epoch)

    def took(self, session: SessionId, opened: Session | None = None, at: float | None = None) -> None:
        """A beat was taken, or a session opened, which counts as one."""
        when = self.world.now if at is None else at
        if opened is not None:
            self.sessions[session] = opened
        self.taken[session] = max(self.taken.get(session, 0.0), when)
        self.taken_in[self.sessions[session].process] = self.server.clock_row.at
        for hear in self.on_beat:
            hear(session)

    def ticked(self, before: tuple[int, int], ticker: SessionId) -> None:
        self.world.note("tick", before[1] + 1, "by", ticker)
        if self.taken_in.get(self.sessions[ticker].process) != before:
            raise self.world.broken(
                "stall safety", f"{ticker} moved the tick {before}, in which no beat of its process was taken"
            )
        self.world.kept["only who was served ticks"] += 1
        for hear in self.on_tick:
            hear()

    def fences(self, sessions: list[SessionId]) -> None:
        """These sessions are about to be fenced for being overdue."""
        world, server = self.world, self.server
        for session in sessions:
            ttl, waited = self.sessions[session].ttl, world.now - self.taken[session]
            world.note("fenced", session, f"beat taken {waited:.3f} s ago, ttl {ttl:g}")
            self._overdue(session, "fenced")
            if session in self.sheltered:
                raise world.broken("stall safety", f"{session} was fenced: {self.sheltered[session]}")
            self.fenced[session] = world.now
        world.kept["accuracy"] += len(sessions)
        if server.mode == "ticks":
            self._guard(sessions)

    def _overdue(self, session: SessionId, what: str) -> None:
        """A beat landing at the very end of a tick gains nothing; every tick after the next takes a
        whole interval of somebody's clock."""
        server, ttl = self.server, self.sessions[session].ttl
        interval = server.clock_row.interval
        whole = math.ceil(ttl / interval - 1e-9) * interval if server.mode == "ticks" else ttl
        waited = self.world.now - self.taken[session]
        if waited < whole / (1 + DRIFT) - 1e-6:
            raise self.world.broken(
                "accuracy",
                f"{session} was {what} {waited:.3f} s after a beat of it was taken; its ttl is {ttl:g}",
            )

    def _guard(self, sessions: list[SessionId]) -> None:
        """No more than max(3, 15 %) of those with rows expire within a window."""
        server = self.server
        number = server.clock_row.number
        window = int(WINDOW / server.clock_row.interval)
        expired = [s for s in sessions if server.sessions[s].had_rows]
        if not expired:
            return
        self._expiries += [(number, s) for s in expired]
        self._expiries = [(n, s) for n, s in self._expiries if n > number - window]
        gone = [s for _, s in self._expiries]
        live = [s for s, found in server.sessions.items() if found.had_rows and found.fenced_at is None]
        population = len({*live, *gone})
        if number > server.released_until and len(gone) > max(3, math.floor(population * 0.15)):
            raise self.world.broken(
                "guard", f"{len(gone)} of {population} sessions expired within {WINDOW:g} s"
            )

    def deleted(self, name: str) -> None:
        old = self.latest.pop(name)
        old.until = self.world.now
        self._ended |= {(name, row.incarnation) for row in old.rows.values()}
        self.world.note("deleted", name)

    # ── what is written ──

    def wrote(
        self,
        name: str,
        revision: int,
        rows: Mapping[str, Row],
        marks: Mapping[str, Mark],
        claims: Mapping[str, Claim],
    ) -> None:
        world = self.world
        if revision <= self._revisions.get(name, 0):
            raise world.broken(
                "order", f"group {name} went from revision {self._revisions[name]} to {revision}"
            )
        old = self.latest.get(name)
        new = Past(world.now, revision, rows, marks, claims)
        self.latest[name] = self.past[name, revision] = new
        was = old.rows if old is not None else {}
        if old is not None:
            old.until = world.now
        for row in sorted((r for k, r in rows.items() if was.get(k) is not r), key=lambda r: r.revision):
            self._row(name, was.get(row.key), row)
        for key, gone in was.items():
            if key not in rows:
                self._ended.add((name, gone.incarnation))
                world.note("gone", name, gone.key.replace("\x1f", "/"), revision & 0xFFFFFFFF)
        if old is not None:
            for mark in marks.values():
                if mark.expelled:
                    self.expelled[name, mark.member_id] = True
            for kind, before, after in (("mark", old.marks, marks), ("claim", old.claims, claims)):
                if before != after:
                    world.note(kind + "s", name, *(_short(m) for m in after.values()))
        self._revisions[name] = revision
        leader = new.leader
        if leader is not None:
            token = leader.standing_since
            if token < self._led.get(name, 0):
                raise world.broken(
                    "tokens only grow", f"in {name} the token went from {self._led[name]} to {token}"
                )
            if token != self._led.get(name):
                world.kept["tokens only grow"] += 1
                world.note("leader", name, leader.member_id, token & 0xFFFFFFFF)
            self._led[name] = token
        for hear in self.on_commit:
            hear(name, old, new)

    def _row(self, name: str, old: Row | None, row: Row) -> None:
        world = self.world
        world.note("row", name, _short(row))
        if row.revision <= self._revisions.get(name, 0):
            raise world.broken(
                "order", f"a row of {name} was written at {row.revision}, which had been given"
            )
        if old is not None and old.incarnation != row.incarnation:
            self._ended.add((name, old.incarnation))
        if not row.live:
            self._ended.add((name, row.incarnation))
            if (
                row.state is State.DOWN
                and row.session not in self.fenced
                and row.session != self.server.closing
            ):
                raise world.broken("accuracy", f"{_short(row)} in {name} is down, but its session is not")
        elif (name, row.incarnation) in self._ended:
            raise world.broken("final", f"{_short(row)} in {name} has come back from the dead")
        if row.live and row.session and not self.server.alive(row.session):
            raise world.broken(
                "completeness",
                f"{_short(row)} in {name} is up in a session that is gone: nobody will expire it",
            )
        if row.state is State.SUSPECT and (old is None or old.state is not State.SUSPECT):
            self._overdue(row.session, "held back")
        if old is None or old.incarnation != row.incarnation:
            self._life(name, old, row)
        said = int(row.capabilities or b"0")
        if said < self._said.get((name, row.instance), 0):
            raise world.broken("order", f"{_short(row)} in {name} says again what it had said earlier")
        self._said[name, row.instance] = said
        held = old is not None and old.incarnation == row.incarnation and old.live
        if row.standing_since and not (held and old is not None and old.standing_since == row.standing_since):
            if row.standing_since <= self._tokens.get(name, 0):
                raise world.broken("tokens only grow", f"{_short(row)} in {name} stands under a spent token")
            self._tokens[name] = row.standing_since

    def _life(self, name: str, old: Row | None, row: Row) -> None:
        """Somebody entered: was it allowed to follow the life that it found?"""
        if row.incarnation != row.revision:
            raise self.world.broken("final", f"{_short(row)} in {name} has taken up an old incarnation")
        newest, want = self._entered.get((name, row.instance), (0, 0))
        wanted = self.wants.get((row.instance, name), 0)
        agent = self.agents.get(row.instance)
        knows = agent is not None and agent.memberships[name].newest_own >= newest
        returns = newest > 0 and want == wanted and knows  # else it asks for the name, and may have it
        if returns and old is not None and old.instance != row.instance:
            if old.incarnation > newest:
                raise self.world.broken(
                    "coming back", f"{row.instance} came back to {name} over its successor {_short(old)}"
                )
            self.world.kept["coming back over a predecessor"] += 1
        self._entered[name, row.instance] = (row.incarnation, wanted)
        self._lives.setdefault((name, row.key), {})[row.instance] = None

    def others(self, name: str, key: str, instance: str) -> bool:
        """Whether anybody else has ever entered under this key."""
        return any(other != instance for other in self._lives.get((name, key), ()))

    # ── terms ──

    def term(self, process: Process, term: TermState) -> None:
        """An application was given a term."""
        world, open_terms = self.world, self._open_terms.setdefault(term.group, [])
        world.note("term", process.name, term.group, term.token & 0xFFFFFFFF)
        if term.token <= self._terms.get(term.group, 0):
            raise world.broken(
                "tokens only grow",
                f"{process.name} leads {term.group} under {term.token}, after {self._terms[term.group]}",
            )
        self._terms[term.group] = term.token
        open_terms.append((process, term))

    def terms(self, process: Process) -> None:
        """Of all terms of a group, at most one is trusted at any instant of true time. Between events
        trust can only end, so it is enough to look after each event that can give or extend it."""
        for term, until in process.trust.items():
            if term.over is None and not process.clock.frozen:
                self._not_again(process, term, until)
        for group in process.led:
            found = self._open_terms.get(group, ())
            if len(found) > 1:
                self._one(group)

    def _not_again(self, process: Process, term: TermState, until: float) -> None:
        """Trust that has run out once does not come back to the same term."""
        now = process.clock.moment()
        if term.trusted(now):
            if now.boot >= until:
                raise self.world.broken(
                    "one leader", f"{process.name} trusts its term in {term.group} again, which was over"
                )
            process.trust[term] = term.trusted_until()

    def _one(self, group: str) -> None:
        kept = [(p, t) for p, t in self._open_terms[group] if t.over is None and not p.dead]
        self._open_terms[group] = kept
        trusted = [(p, t) for p, t in kept if not p.clock.frozen and t.trusted(p.clock.moment())]
        epochs = [t.token >> 32 for _, t in trusted]
        if len(set(epochs)) < len(epochs):  # a store that forgot has forgotten who led, too
            who = " and ".join(f"{p.name} ({t.token & 0xFFFFFFFF})" for p, t in trusted)
            raise self.world.broken("one leader", f"{who} lead {group} together")
        if len(kept) > 1:
            self.world.kept["one leader"] += 1

    def trusted(self, group: str) -> list[tuple[Process, TermState]]:
        found = self._open_terms.get(group, ())
        return [(p, t) for p, t in found if not p.dead and t.over is None and t.trusted(p.clock.moment())]


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
            if known.get(member) != shown and _shown(view.get(member)) != shown:
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
            if {member: _shown(view[member]) for member in view} != latest.members:
                return f"{self._process.name} sees other members in {group}"
            told = self._told.get(group, {})
            if {m: _shown(told[m]) for m in told} != latest.members:
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
            if past is not None and past.until < confirmed - 1e-6:
                raise world.broken(
                    "age",
                    f"{process.name} says its view of {group} is {view.age:.3f} s old, "
                    f"but it was outdated {world.now - past.until:.3f} s ago",
                )
            world.kept["age"] += 1


def _status(row: Row) -> str:
    return "unready" if row.state is State.UP and not row.ready else str(row.state.value)


def _shown(member: Member | None) -> Shown | None:
    if member is None:
        return None
    m = member
    return (str(m.status.value), m.incarnation, m.capabilities, m.disabled, m.forced_down, m.expelled)


def _short(record: Row | Mark | Claim) -> str:
    revision = record.revision & 0xFFFFFFFF
    match record:
        case Row():
            stands = f" stands {record.standing_since & 0xFFFFFFFF}" if record.standing_since else ""
            return (
                f"{record.key.replace(chr(31), '/')} #{record.incarnation & 0xFFFFFFFF} r{revision} "
                f"{_status(record)}{stands} {record.instance} in {record.session}"
            )
        case Mark():
            what = [
                record.disabled and "disabled",
                record.forced_down and "forced",
                record.expelled and "expelled",
            ]
            return f"[{record.member_id} {' '.join(w for w in what if w)}]"
        case Claim():
            return f"[{record.key.replace(chr(31), '/')} stood {record.standing_since & 0xFFFFFFFF}]"


def unique(names: Collection[str]) -> list[str]:
    """Sorted, so that no order of a set ever decides anything."""
    return sorted(set(names))
