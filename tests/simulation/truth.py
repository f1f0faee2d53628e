"""What the library promises, held against what truly happened at the store.

`Truth` stands beside the store: it keeps every revision of every group, and checks each commit, each
fence and each tick when it happens, and all terms against each other. Nothing here asks the code under
test what is right: the time at which a session may be fenced at the earliest, who leads, which token
comes next are computed again, from the records and true time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from headcount.core.agent import Agent
from headcount.core.leadership import TermState
from headcount.model import Claim, Mark, Moment, Row, Session, SessionId, State
from tests.simulation.past import Past, short
from tests.simulation.world import DRIFT, World

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.server import Server

WINDOW = 30.0
"""Seconds over which the guard counts, as the design says it."""


class Truth:
    """All that the store ever held, and the laws it has to keep."""

    server: Server

    def __init__(self, world: World) -> None:
        self.world = world
        self.past: dict[tuple[str, int], Past] = {}
        self.latest: dict[str, Past] = {}
        self.sessions: dict[SessionId, Session] = {}
        self.taken: dict[SessionId, float] = {}
        self.counted: dict[SessionId, float] = {}
        """From when its ttl counts, for whoever may end it: since it heard of a beat that was taken."""
        self.blur = 0.0
        """Seconds for which a server that is cut off may confirm what is not so any more."""
        self.taken_in: dict[str, tuple[int, int]] = {}
        self.fenced: dict[SessionId, float] = {}
        self.given_up: dict[SessionId, None] = {}
        """Sessions that their own process has ended, while it beat others."""
        self.sheltered: dict[SessionId, str] = {}
        """Sessions that must not be fenced now, and why."""
        self.on_beat: list[Callable[[SessionId], None]] = []
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

    def took(
        self,
        session: SessionId,
        opened: Session | None = None,
        at: float | None = None,
        *,
        counts: bool = True,
    ) -> None:
        """A beat was taken, or a session opened, which counts as one. `counts`: who ends sessions knows."""
        when = self.world.now if at is None else at
        if opened is not None:
            self.sessions[session] = opened
        self.taken[session] = max(self.taken.get(session, 0.0), when)
        if counts:
            self.counts(session, when)
        self.taken_in[self.sessions[session].process] = self.server.clock_row.at
        for hear in self.on_beat:
            hear(session)

    def counts(self, session: SessionId, at: float | None = None) -> None:
        """Whoever may end this session has heard of it."""
        when = self.world.now if at is None else at
        self.counted[session] = max(self.counted.get(session, 0.0), when)

    def ticked(self, before: tuple[int, int], ticker: SessionId) -> None:
        self.world.note("tick", before[1] + 1, "by", ticker)
        if self.taken_in.get(self.sessions[ticker].process) != before:
            raise self.world.broken(
                "stall safety", f"{ticker} moved the tick {before}, in which no beat of its process was taken"
            )
        self.world.kept["only who was served ticks"] += 1

    def fences(self, sessions: list[SessionId]) -> None:
        """These sessions are about to be fenced for being overdue."""
        world, server = self.world, self.server
        for session in sessions:
            ttl, waited = self.sessions[session].ttl, world.now - self.counted[session]
            world.note("fenced", session, f"beat taken {waited:.3f} s ago, ttl {ttl:g}")
            if session not in self.given_up:
                self._overdue(session, "fenced")
            if session in self.sheltered:
                raise world.broken("stall safety", f"{session} was fenced: {self.sheltered[session]}")
            self.fenced[session] = world.now
        world.kept["accuracy"] += len(sessions)
        if server.mode == "ticks":
            self._guard(sessions)

    def ended_early(self, sessions: list[SessionId]) -> None:
        """Somebody has ended these from outside: that is no fault of the store's."""
        for session in sessions:
            self.world.note("ended from outside", session)
            self.fenced[session] = self.world.now

    def gives_up(self, session: SessionId, now: Moment) -> None:
        """Its own process ends it, for it has not been beaten in time: it must not be trusted any more."""
        self.given_up[session] = None
        presence = self.agents[self.sessions[session].instance].presence
        if presence.session_id == session and presence.trusts(now):
            raise self.world.broken("accuracy", f"{session} was given up by its process, which trusts it")

    def _overdue(self, session: SessionId, what: str) -> None:
        """A beat landing at the very end of a tick gains nothing; every tick after the next takes a
        whole interval of somebody's clock."""
        server, ttl = self.server, self.sessions[session].ttl
        interval = server.clock_row.interval
        whole = math.ceil(ttl / interval - 1e-9) * interval if server.mode == "ticks" else ttl
        waited = self.world.now - self.counted[session]
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
                    world.note(kind + "s", name, *(short(m) for m in after.values()))
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

    def _row(self, name: str, old: Row | None, row: Row) -> None:
        world = self.world
        world.note("row", name, short(row))
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
                raise world.broken("accuracy", f"{short(row)} in {name} is down, but its session is not")
        elif (name, row.incarnation) in self._ended:
            raise world.broken("final", f"{short(row)} in {name} has come back from the dead")
        if row.live and row.session and not self.server.alive(row.session):
            raise world.broken(
                "completeness",
                f"{short(row)} in {name} is up in a session that is gone: nobody will expire it",
            )
        if row.state is State.SUSPECT and (old is None or old.state is not State.SUSPECT):
            self._overdue(row.session, "held back")
        if old is None or old.incarnation != row.incarnation:
            self._life(name, old, row)
        said = int(row.capabilities or b"0")
        if said < self._said.get((name, row.instance), 0):
            raise world.broken("order", f"{short(row)} in {name} says again what it had said earlier")
        self._said[name, row.instance] = said
        held = old is not None and old.incarnation == row.incarnation and old.live
        if row.standing_since and not (held and old is not None and old.standing_since == row.standing_since):
            if row.standing_since <= self._tokens.get(name, 0):
                raise world.broken("tokens only grow", f"{short(row)} in {name} stands under a spent token")
            self._tokens[name] = row.standing_since

    def _life(self, name: str, old: Row | None, row: Row) -> None:
        """Somebody entered: was it allowed to follow the life that it found?"""
        if row.incarnation != row.revision:
            raise self.world.broken("final", f"{short(row)} in {name} has taken up an old incarnation")
        newest, want = self._entered.get((name, row.instance), (0, 0))
        wanted = self.wants.get((row.instance, name), 0)
        agent = self.agents.get(row.instance)
        known = agent.memberships.get(name) if agent is not None else None
        knows = known is not None and known.newest_own >= newest
        returns = newest > 0 and want == wanted and knows  # else it asks for the name, and may have it
        if returns:
            self.world.kept["coming back"] += 1
            if old is not None and old.instance != row.instance and old.incarnation > newest:
                raise self.world.broken(
                    "coming back", f"{row.instance} came back to {name} over its successor {short(old)}"
                )
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
