"""The store's clock, one row: where it stands, and who moves it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from headcount.model import SessionId, Tick
from headcount.stores.sql.lines import Line
from headcount.stores.sql.speaking import Sql

EPOCH_ZERO = 1_735_689_600
"""The beginning of 2025: epochs count seconds from here, unless they are pushed on faster."""

WINDOW = 30.0
"""Seconds over which the guard counts expiries."""


class Clock(NamedTuple):
    epoch: int
    number: int
    interval: float
    ticker: str
    standbys: str
    ticked_at: float

    @property
    def tick(self) -> Tick:
        return Tick(
            epoch=self.epoch,
            number=self.number,
            interval=self.interval,
            ticker=self.ticker,
            standbys=tuple(msgspec.json.decode(self.standbys)),
            ticked_at=self.ticked_at,
        )

    @property
    def window(self) -> int:
        """How many ticks the guard looks back."""
        return int(WINDOW / self.interval)


def clock_of(line: Line) -> Clock:
    return Clock(*line.ask("clock")[0])


def next_epoch(*seen: int) -> int:
    """Above all that were seen, and normally above all that there ever were."""
    return max(*seen, int(time.time()) - EPOCH_ZERO) + 1


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
