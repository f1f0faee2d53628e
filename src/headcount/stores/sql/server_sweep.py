"""The sweep on a database server: who is overdue is fenced, or lapses; whose claim has run out loses it.

A look first, at one row: if there is nothing to do, nothing is locked. Otherwise

    fence     one transaction under the clock's lock, so that the guard counts once: the overdue sessions that
              may go, and no group
    settle    one commit for each group: rows of fenced sessions go down, one cut and one ring of the bell.
              Rows of those who were held back lapse, if under the lock of their beat they are overdue still
    the rest  claims get their time, sessions are forgotten, history is pruned

Cut short anywhere, the next sweep finds what was left: live rows of fenced sessions, claims that are due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from headcount.errors import StoreUnavailable
from headcount.model import Census, Claim, Row, SessionId, Swept, deadline_ticks
from headcount.register import Ledger
from headcount.stores.base import HISTORY
from headcount.stores.sql.clock import Clock, clock_of, locked_clock
from headcount.stores.sql.intents import WANTED
from headcount.stores.sql.lines import Line
from headcount.stores.sql.recording import Corrupt, Group, SqlRecords, save
from headcount.stores.sql.records import decode_all

R = TypeVar("R", Row, Claim)

PRUNE_EVERY = 1000
"""Lines of history that may come in before the spare ones are removed."""

ALL_HISTORY = 10 * HISTORY
"""Lines of history of all groups together, those of deleted groups among them."""

Judge = Callable[[Census], int]


class Sweep:
    """One sweep, over one connection. `ring` tells of a group that has changed."""

    def __init__(self, line: Line, corrupt: Corrupt, ring: Callable[[str], None]) -> None:
        self._line = line
        self._corrupt = corrupt
        self._ring = ring

    def run(self, judge: Judge, limit: int, *, fill: Callable[[], None]) -> Swept:
        """`fill`: what to do where the life marker is missing."""
        line = self._line
        ((overdue, fenced, claimed, unmarked, unbeaten, unpruned),) = line.ask("look")
        if unmarked:
            fill()
            overdue = False
        if unbeaten:
            with line.writing(durable=False) as sql:
                sql.run("grant_missing")
        swept, lapsing = self._fence(judge, limit) if overdue else (Swept(), [])
        groups: dict[str, list[SessionId]] = {}
        if fenced or swept.fenced:
            groups.update((name, []) for (name,) in line.ask("groups_of_fenced"))
        if claimed:
            clock = clock_of(line)
            for (name,) in line.ask("claims_due", clock.epoch, clock.number):
                groups.setdefault(name, [])
        if lapsing:
            with line.reading() as sql:
                for name, session in sql.all("up_in_groups", sql.many(lapsing)):
                    groups.setdefault(name, []).append(session)
        lapsed: set[SessionId] = set()
        vacated = 0
        stuck: StoreUnavailable | None = None
        for group in sorted(groups):
            try:
                some, gone = self.settle(group, groups[group])
            except StoreUnavailable as error:  # one group that is locked must not keep the others waiting
                stuck = error
                continue
            lapsed |= some
            vacated += gone
        if claimed:
            self._clock_claims()
        if fenced:
            self._forget()
        if unpruned > PRUNE_EVERY:
            self._prune()
        if stuck is not None:
            raise stuck
        return msgspec.structs.replace(swept, lapsed=tuple(sorted(lapsed)), vacated=vacated)

    def _fence(self, judge: Judge, limit: int) -> tuple[Swept, list[SessionId]]:
        """Fence those who may be, and say who has to lapse instead."""
        with self._line.writing() as sql:
            clock = locked_clock(sql)
            stray = sql.all("stray_beats", clock.number)
            if stray:
                sql.run("forget_beats", sql.many([session for (session,) in stray]))
            late = sql.all("overdue", clock.number)
            ((live, expired),) = sql.all("census", clock.epoch, clock.window, clock.number)
            guarded = [session for session, had_rows in late if had_rows]
            census = Census(live=live, expired=expired, overdue=len(guarded))
            released = clock.number <= clock.released_until
            allowed = len(guarded) if released else max(0, judge(census)) if guarded else 0
            condemned = [session for session, had_rows in late if not had_rows] + guarded[:allowed]
            now = condemned[:limit]
            if now:
                taken = sql.many(now)
                sql.run("fence_sessions", clock.epoch, clock.number, taken)
                sql.run("fence_beats", taken)
        return Swept(fenced=tuple(now), more=len(condemned) > limit), guarded[allowed:]

    def settle(self, group: str, lapsing: Collection[SessionId] = ()) -> tuple[set[SessionId], int]:
        """One commit of one group: rows of fenced sessions go down, those of sessions that are overdue still
        lapse, and claims whose time has come go. Which sessions lapsed, and how many claims went."""
        with self._line.writing() as sql:
            found = sql.all("group_locked", group)
            if not found:
                return set(), 0
            this = Group(*found[0])
            clock = Clock(*sql.all("clock")[0])
            ledger = Ledger(SqlRecords(sql, this, self._corrupt), group, this.revision, time.time())
            for row in self._decoded(group, Row, sql.all("rows_of_fenced", this.id)):
                ledger.expire(row)
            if lapsing:
                sql.all("sessions_locked", sql.many(lapsing))
                late = [s for (s,) in sql.all("still_overdue", sql.many(lapsing), clock.number)]
                for row in self._decoded(group, Row, sql.all("rows_of_sessions", sql.many(late), this.id)):
                    ledger.lapse(row)
            vacated = 0
            for gone, *values in sql.all("claims_due_of", this.id, clock.epoch, clock.number):
                for claim in self._decoded(group, Claim, [values]):
                    ledger.vacate(claim, "its session is gone" if gone else "its time is over")
                    vacated += 1
            moved = ledger.revision != this.revision
            if moved:
                save(sql, this, ledger)
        if moved:
            self._ring(group)
        return ledger.notices, vacated

    def _clock_claims(self) -> None:
        """A claim's time is set by a later commit than the one that made it, and counts in ticks of this
        epoch only: one from before a new epoch waits its full time again."""
        epoch = clock_of(self._line).epoch
        unclocked = self._line.ask("unclocked_claims", epoch)
        if not unclocked:
            return
        # Read after the claims were seen: a tick from before, in the hands of a sweep that was paused, would
        # give a place away while its owner trusts a beat that was taken since.
        clock = clock_of(self._line)
        if clock.epoch == epoch:
            with self._line.writing() as sql:
                sql.each(
                    "set_vacates",
                    [
                        (clock.epoch, clock.number + deadline_ticks(ttl, clock.interval), group_id, key)
                        for group_id, key, ttl in unclocked
                    ],
                )

    def _forget(self) -> None:
        clock = clock_of(self._line)
        found = self._line.ask("forgettable", clock.epoch, clock.window, clock.number)
        if found:
            with self._line.writing(durable=False) as sql:
                gone = sql.many([session for (session,) in found])
                sql.run("forget_sessions", gone)
                sql.run("forget_beats", gone)

    def _prune(self) -> None:
        groups = self._line.ask("groups_with_new_history")
        with self._line.writing(durable=False) as sql:
            for (group,) in groups:
                sql.run("prune_group_history", {"group": group, "keep": HISTORY})
            sql.run("prune_history", ALL_HISTORY)
            sql.run("set_pruned")
            sql.run("drop_old_intents", 10 * WANTED)

    def _decoded(self, group: str, kind: type[R], found: Iterable[Sequence[Any]]) -> list[R]:
        return decode_all(kind, found, partial(self._corrupt, group))
