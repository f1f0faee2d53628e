"""The store's clock: where it stands, and who moves it.

Who ticks and who stands by changes seldom. So a beat is told only the number, and how often the roles
(epoch, ticker, standbys) have changed: the lowest bits of `roles`. The rest is read when a connection is new,
and when that count is another one than when it was last read there: it is never out of date. Of `ticked_at`,
which is for people, a beat tells what it was then.

Behind a pooler, another server may answer on the same connection, where another history has come to the same
count. Who takes its clock for the old one cannot move it, and trying to is told how it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from headcount.model import SessionId, Tick
from headcount.stores.sql.lines import Line
from headcount.stores.sql.speaking import Sql
from headcount.stores.sql.ticks import tick_of, window_of

ROLES_BITS = 12
ROLES = (1 << ROLES_BITS) - 1
"""Of the count of changes, what a beat is told."""


class Clock(NamedTuple):
    epoch: int
    number: int
    interval: float
    ticker: str
    standbys: str
    ticked_at: float
    released_until: int
    roles: int

    @property
    def tick(self) -> Tick:
        return tick_of(self)

    @property
    def window(self) -> int:
        """How many ticks the guard looks back."""
        return window_of(self.interval)


class Hearing(Line, Protocol):
    """A connection by which beats are told of the clock."""

    heard: Clock | None
    """The clock as it was last read here, with a number at which its roles were these."""


def clock_of(line: Line) -> Clock:
    return Clock(*line.ask("clock")[0])


def locked_clock(sql: Sql) -> Clock:
    """The clock, which nobody else can move until the transaction is over. It is read after it was locked: in
    the same statement, its number might be the one from before the lock was waited for."""
    sql.run("lock_clock")
    return Clock(*sql.all("clock")[0])


def clock_told(line: Hearing, number: int, roles: int) -> Clock:
    """The clock at the number that a beat has met, and with it so many changes of the roles."""
    clock = line.heard
    # Each tick changes the roles once at most, so that fewer ticks than there are counts cannot hide any. (So
    # do new epochs, but they do not come by the thousand.) The number is from before the rest was read.
    if clock is None or clock.roles & ROLES != roles or not 0 <= number - clock.number < ROLES:
        clock = clock_of(line)
    line.heard = clock._replace(number=number)
    return line.heard


def standbys(
    sql: Sql, clock: Clock, ticker: SessionId, before: Sequence[SessionId], alive: Mapping[SessionId, str]
) -> list[SessionId]:
    """Those that still beat stay. Empty places go to others, of other processes first."""
    old = [session for session in before if session != ticker and session in alive]
    serving = {s for (s,) in sql.all("serving_of", sql.many(old), clock.number)} if old else set()
    stay = [session for session in old if session in serving]
    if len(stay) >= 2:
        return stay
    taken = {ticker, *stay}
    processes = {alive[session] for session in taken}
    found = sql.all("serving", clock.number, sql.many(taken), sql.many(processes))
    for away in (True, False):
        for session, process in found:
            if len(stay) < 2 and session not in taken and (process not in processes) == away:
                stay.append(session)
                taken.add(session)
                processes.add(process)
    return stay
