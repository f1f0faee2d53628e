"""Beats and ticks: the file that is written all the time.

    a beat    locks this file; reads from the register, without a lock, which of its sessions are
              fenced and what their notices are; moves the deadlines of the others on
    a tick    locks this file, and sets the clock's row from (epoch, n) to n + 1
    a sweep   (sqlite_sweep) locks the register, then this file, and commits in that order

A beat reads the register *after* it has locked this file, and a sweep commits its fences while it holds
this file's lock. So of a beat and a sweep that meet, one comes wholly first: either the beat has
moved the deadline on, and the sweep finds the session not overdue, or the fence is there, and the
beat finds the session lost.

The clock's row is also the life marker. It names the history of the register that this file belongs to.
Where it is missing, because the file was deleted, or names another history, because the register
was restored, whoever finds it so begins a new epoch of ticks and gives every session that is not
fenced its whole time. From then on a session without a row here is a lost one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from headcount.errors import StoreUnavailable
from headcount.model import SessionId, Tick, deadline_ticks
from headcount.stores.sql.sqlite_files import Link
from headcount.stores.sql.sqlite_register import SQL as REGISTER
from headcount.stores.sql.sqlite_register import Head, named
from headcount.stores.sql.statements import statements
from headcount.stores.sql.ticks import next_epoch, tick_of

SQL = statements("sqlite/beats")

BATCH = 1000
"""Sessions in one statement."""


class Clock(NamedTuple):
    """The clock's row."""

    mark: str
    changes: int
    epoch: int
    number: int
    interval: float
    ticker: str
    standbys: str
    ticked_at: float
    released_until: int

    @property
    def tick(self) -> Tick:
        return tick_of(self)


def mark_of(head: Sequence[Any]) -> str:
    """What the life marker says: history and epoch of the register that the clock belongs to."""
    return f"{head[0]}/{head[1]}"


class Beats:
    """One thread's connections: to the beats, and to the register for looking only."""

    def __init__(self, beats: Link, register: Link) -> None:
        self.link = beats
        self.register = register
        self._seen = 0
        """The newest epoch of ticks that this client has seen."""

    def refresh(self) -> None:
        """Before any lock is taken: open whichever file has been replaced, the register first."""
        self.register.get()
        self.link.get()

    # ── reading the clock ──

    def tick(self) -> Tick:
        self.refresh()
        clock = self.peek(self.head())
        if clock is None:
            with self.link.writing() as con:
                clock = self.clock(con, self.head())
        return clock.tick

    def peek(self, head: Sequence[Any]) -> Clock | None:
        """The clock, if it belongs to the register whose history and epoch `head` begins with."""
        clock = self.raw()
        if clock is None or clock.mark != mark_of(head):
            return None
        self._seen = max(self._seen, clock.epoch)
        return clock

    def raw(self) -> Clock | None:
        """The clock, whichever register it belongs to."""
        found = self.link.query(SQL["clock"])
        return Clock(*found[0]) if found else None

    def head(self) -> Head:
        return Head(*self.register.query(REGISTER["head"])[0])

    # ── under this file's lock ──

    def clock(self, con: sqlite3.Connection, head: Head) -> Clock:
        """The clock; begun anew if it has to be."""
        return self.peek(head) or self._establish(con, head)

    def _establish(self, con: sqlite3.Connection, head: Head) -> Clock:
        if not self.register.current():
            # Ours is the register that was replaced: not for us to say that the clock is wrong.
            raise StoreUnavailable(f"{self.register.path} was replaced just now; it will be opened anew")
        old = self.raw()
        ((claimed,),) = self.register.query(REGISTER["newest_claim_epoch"])
        clock = Clock(
            mark=mark_of(head),
            changes=head.changes,
            epoch=next_epoch(head.epoch, claimed, self._seen, old.epoch if old else 0),
            number=1,
            interval=head.interval,
            ticker="",
            standbys="[]",
            ticked_at=time.time(),
            released_until=-1,
        )
        con.execute(SQL["clear"])
        con.execute(SQL["set_clock"], clock)
        for session, ttl in self.register.query(REGISTER["ttls"]):
            self.grant(con, clock, session, ttl)
        self._seen = max(self._seen, clock.epoch)
        return clock

    def grant(self, con: sqlite3.Connection, clock: Clock, session: SessionId, ttl: float) -> None:
        """A session's first beat, or one as good as that."""
        lasts = deadline_ticks(ttl, clock.interval)
        con.execute(SQL["grant"], (session, clock.number + lasts, lasts, time.time()))

    # ── beating ──

    def beat(self, sessions: Sequence[SessionId]) -> tuple[dict[SessionId, int | None], Tick]:
        self.refresh()
        notices: dict[SessionId, int | None] = {}
        clock: Clock | None = None
        for start in range(0, len(sessions), BATCH):
            clock = self._beat(sessions[start : start + BATCH], notices)
        return notices, clock.tick if clock else self.tick()

    def _beat(self, sessions: Sequence[SessionId], notices: dict[SessionId, int | None]) -> Clock:
        with self.link.writing() as con:
            found = self.register.query(REGISTER["beating"], (named(*sessions),))
            clock = self.peek(found[0][2:]) or self._establish(con, self.head())
            alive = [session for session, notice, _, _ in found if notice is not None]
            taken = named(*alive)
            done = con.execute(SQL["beat"], (clock.number, time.time(), taken))
            notices.update((session, notice) for session, notice, _, _ in found)
            if done.rowcount < len(set(alive)):
                here = {session for (session,) in con.execute(SQL["present"], (taken,))}
                notices.update((session, None) for session in alive if session not in here)
            return clock

    # ── ticking ──

    def advance(self, seen: Tick, ticker: SessionId) -> Tick:
        self.refresh()
        with self.link.writing() as con:
            head = self.head()
            clock = self.clock(con, head)
            if (clock.epoch, clock.number) != seen.at or not self._alive([ticker]):
                return clock.tick
            ticked = clock._replace(
                changes=max(clock.changes, head.changes),
                number=clock.number + 1,
                ticker=ticker,
                standbys=named(*self._standbys(con, clock, ticker)),
                ticked_at=time.time(),
            )
            con.execute(SQL["set_clock"], ticked)
            return ticked.tick

    def _standbys(self, con: sqlite3.Connection, clock: Clock, ticker: SessionId) -> list[SessionId]:
        """Those that still beat stay. Empty places go to others, of other processes first."""
        before = [session for session in msgspec.json.decode(clock.standbys) if session != ticker]
        serving = {s for (s,) in con.execute(SQL["serving_of"], (clock.number, named(*before)))}
        alive = self._alive(before)
        stay = [session for session in before if session in serving and session in alive]
        if len(stay) >= 2:
            return stay
        beating = [session for (session,) in con.execute(SQL["serving"], (clock.number,))]
        process = self._alive([*beating, ticker])
        taken = {process.get(session) for session in (ticker, *stay)}
        free = process.keys() - {ticker, *stay}
        return [*stay, *sorted(free, key=lambda session: (process[session] in taken, session))][:2]

    def _alive(self, sessions: Iterable[SessionId]) -> dict[SessionId, str]:
        """Of these, the sessions that are not fenced, and their processes."""
        return dict(self.register.query(REGISTER["processes"], (named(*sessions),)))
