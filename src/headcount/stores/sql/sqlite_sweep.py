"""The sweep: who is overdue is fenced, or lapses; whose claim has run out loses it.

It first looks without a lock, and if there is nothing to do does nothing: every client may sweep as
often as it likes. Otherwise it locks the register, then the beats (always in that order; a beat locks
the beats alone, so nobody waits in a circle), looks again, asks the judge, and writes everything
in one transaction of the register: fences, rows that go down, notices, lapses, claims. It commits the
register first and the beats second, and holds the beats' lock until the register is committed. A
fence, the rows that it takes down and the notices are thus one step, and nothing is left to resume.

After a crash between the two commits the register has the fences, which beats respect, and the beats
file some rows of sessions that are gone, which the next sweep removes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from headcount.errors import HeadcountError
from headcount.model import Census, Claim, Row, SessionId, Swept, deadline_ticks
from headcount.register import Ledger
from headcount.stores.base import HISTORY
from headcount.stores.sql.recording import Corrupt, Group, SqlRecords
from headcount.stores.sql.records import decode_all
from headcount.stores.sql.sqlite_beats import SQL as BEATS
from headcount.stores.sql.sqlite_beats import Beats, Clock
from headcount.stores.sql.sqlite_doorbell import FAR_BEHIND
from headcount.stores.sql.sqlite_files import Link
from headcount.stores.sql.sqlite_register import SQL, SqliteSql, named, save
from headcount.stores.sql.ticks import window_of

PRUNE_EVERY = 1000
"""Lines of history that may come in before the spare ones are removed."""

ALL_HISTORY = 10 * HISTORY
"""Lines of history of all groups together, those of deleted groups among them."""

Judge = Callable[[Census], int]


def sweep(register: Link, beats: Beats, judge: Judge, limit: int, corrupt: Corrupt) -> Swept:
    beats.tick()  # from here on there is a clock
    if _idle(beats):
        return Swept()
    with register.held() as con, beats.link.held() as volatile:
        clock = beats.clock(volatile, beats.head())
        work = Work(con, clock, corrupt)
        swept, spent = _judged(work, volatile, judge, limit)
        work.finish()
        register.commit(con)
        volatile.execute(BEATS["remove"], (named(*spent),))
        # The register has it all. If these rows stay, the next sweep finds that they are nobody's.
        with suppress(HeadcountError):
            beats.link.commit(volatile)
        return swept


def rolled_back(beats: Beats) -> bool:
    """Whether the clock has seen a later state of this register than there is now: somebody has put an
    old one into the place of the file, without making another file of it."""
    beats.refresh()
    head, clock = beats.head(), beats.raw()
    if clock is None:
        return False
    history, _, epoch = clock.mark.rpartition("/")
    return history == head.history and (int(epoch), clock.changes) > (head.epoch, head.changes)


def _idle(beats: Beats) -> bool:
    clock = beats.peek(beats.head())
    if clock is None:
        return False
    values = {"epoch": clock.epoch, "number": clock.number, "window": window_of(clock.interval)}
    ((_, live, forgettable, claimed, unpruned),) = beats.register.query(SQL["look"], values)
    ((beating, earliest),) = beats.link.query(BEATS["look"])
    overdue = earliest is not None and earliest <= clock.number
    return not (overdue or live > beating or forgettable or claimed or unpruned > PRUNE_EVERY)


def _judged(
    work: Work, volatile: sqlite3.Connection, judge: Judge, limit: int
) -> tuple[Swept, list[SessionId]]:
    """What was done, and the sessions whose beats are of no more use."""
    con, clock = work.con, work.clock
    con.execute(
        SQL["forget_sessions"],
        {"epoch": clock.epoch, "number": clock.number, "window": window_of(clock.interval)},
    )
    had_rows: dict[SessionId, int] = dict(con.execute(SQL["unfenced"]))
    late = [session for session, _ in volatile.execute(BEATS["overdue"], (clock.number,))]
    beating = {session for (session,) in volatile.execute(BEATS["all"])}
    # Without a beat, although there is a life marker: it was opened while the marker was lost.
    overdue = sorted(had_rows.keys() - beating) + [session for session in late if session in had_rows]

    guarded = [session for session in overdue if had_rows[session]]
    ((expired,),) = con.execute(SQL["expired"])
    census = Census(live=sum(had_rows.values()), expired=expired, overdue=len(guarded))
    released = clock.number <= clock.released_until
    allowed = len(guarded) if released else max(0, judge(census)) if guarded else 0
    condemned = [session for session in overdue if not had_rows[session]] + guarded[:allowed]
    fenced = condemned[:limit]

    work.expire(fenced)
    lapsed = work.lapse(guarded[allowed:])
    vacated = work.vacate(had_rows.keys() - set(fenced))
    swept = Swept(fenced=tuple(fenced), lapsed=lapsed, vacated=vacated, more=len(condemned) > limit)
    return swept, [*fenced, *(session for session in late if session not in had_rows)]


class Work:
    """One transaction of the register that takes rows and claims away, with a ledger for each group."""

    def __init__(self, con: sqlite3.Connection, clock: Clock, corrupt: Corrupt) -> None:
        self.con = con
        self.clock = clock
        self._corrupt = corrupt
        self._groups: dict[int, tuple[Group, Ledger]] = {}

    def expire(self, sessions: list[SessionId]) -> None:
        """Fence these sessions, and take their rows down."""
        at = (self.clock.epoch, self.clock.number)
        self.con.executemany(SQL["fence"], [(*at, session) for session in sessions])
        for ledger, row in self._rows_of(sessions):
            ledger.expire(row)

    def lapse(self, sessions: list[SessionId]) -> tuple[SessionId, ...]:
        lapsed: set[SessionId] = set()
        for ledger, row in self._rows_of(sessions):
            ledger.lapse(row)
            lapsed |= ledger.notices
        return tuple(sorted(lapsed))

    def vacate(self, alive: set[SessionId]) -> int:
        """A claim's time is set by a later commit than the one that made it, and counts in ticks of
        this epoch only: one from before a new epoch waits its full time again."""
        gone, clock = 0, self.clock
        for group_id, epoch, number, *values in self.con.execute(SQL["all_claims"]).fetchall():
            for claim in self._decoded(group_id, values):
                if claim.session not in alive:
                    self._ledger(group_id).vacate(claim, "its session is gone")
                    gone += 1
                elif epoch == clock.epoch and clock.number >= number:
                    self._ledger(group_id).vacate(claim, "its time is over")
                    gone += 1
                elif epoch != clock.epoch:
                    due = clock.number + deadline_ticks(claim.ttl, clock.interval)
                    self.con.execute(SQL["set_vacates"], (clock.epoch, due, group_id, claim.key))
        return gone

    def finish(self) -> None:
        for group, ledger in self._groups.values():
            save(self.con, group, ledger)
        self._prune()

    def drop(self, session: SessionId) -> None:
        """The end of a session that says so itself."""
        self.expire([session])
        for group_id, *values in self.con.execute(SQL["claims_of_session"], (session,)).fetchall():
            for claim in self._decoded(group_id, values):
                self._ledger(group_id).vacate(claim, "its session is gone")
        self.con.execute(SQL["drop_session"], (session,))

    def _prune(self) -> None:
        ((_, _, _, _, unpruned),) = self.con.execute(SQL["look"], {"epoch": 0, "number": 0, "window": 0})
        if unpruned <= PRUNE_EVERY:
            return
        for (group,) in self.con.execute(SQL["groups_with_new_history"]).fetchall():
            self.con.execute(SQL["prune_group_history"], {"group": group, "keep": HISTORY})
        self.con.execute(SQL["prune_history"], (ALL_HISTORY,))
        self.con.execute(SQL["prune_departed"], (FAR_BEHIND,))
        self.con.execute(SQL["set_pruned"])

    def _rows_of(self, sessions: list[SessionId]) -> Iterable[tuple[Ledger, Row]]:
        if not sessions:
            return
        wanted = named(*sessions)
        for (group_id,) in self.con.execute(SQL["groups_of_sessions"], (wanted,)).fetchall():
            ledger = self._ledger(group_id)
            found = self.con.execute(SQL["rows_of_sessions"], (wanted, group_id)).fetchall()
            for row in decode_all(Row, found, self._complain(group_id)):
                yield ledger, row

    def _decoded(self, group_id: int, values: list[object]) -> list[Claim]:
        return decode_all(Claim, [values], self._complain(group_id))

    def _ledger(self, group_id: int) -> Ledger:
        if group_id not in self._groups:
            group = Group(*self.con.execute(SQL["group_by_id"], (group_id,)).fetchone())
            records = SqlRecords(SqliteSql(self.con), group, self._corrupt)
            self._groups[group_id] = group, Ledger(records, group.name, group.revision, time.time())
        return self._groups[group_id][1]

    def _complain(self, group_id: int) -> Callable[[str, str, str], object]:
        return lambda *what: self._corrupt(self._ledger(group_id).group, *what)
