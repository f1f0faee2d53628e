"""The store's clock: whose turn it is to move it, and how many sessions may expire at once.

Stores without sessions of their own measure a ttl in ticks: a number that some coordinator moves by
compare-and-set, at most once an interval, and only while the store serves. So nobody ages while the
store stands still, and no wall clock decides anything.

Who may move it from t to t + 1. Whoever heard "the tick is t" a whole interval ago, by its own clock,
counted from when the answer *arrived*: the number cannot have become t later than that. And only who
was served in this very tick: a beat of its own was taken at t. A store that takes ticks but chokes on
beats therefore stops ageing anybody.

Who does. However many try, compare-and-set lets one win; so roles are about load, never about safety.
The tick's row names them:

    ticker        beats once in every tick, and moves it after one interval
    two standbys  beat every interval, and step in after two and three
    all others    see the number in the answers to their beats, and step in when it has fallen
                  three ticks behind what their own clock expects; who is new looks after three

The guard. When many sessions are overdue at once, the fault is more likely to be in the store or the
network than in all of them. `judge` says how many of the overdue may be fenced now; the others are
held back, suspect.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from headcount.model import Census, Seconds, SessionId, Tick

FRACTION = 0.15
"""Share of the sessions that may expire within one window before the guard holds the rest."""

LEAST = 3
"""So many may always expire: with three sessions or fewer there is no guard."""

LATE = 3
"""Ticks that the number may fall behind before those without a role step in."""


def judge(census: Census, *, fraction: float = FRACTION, least: int = LEAST) -> int:
    """How many of the overdue sessions may be fenced now.

    All of them, while no more than max(3, 15 %) of the sessions that have rows expired within the
    window or are overdue; else what is left of max(1, 15 %) a window, so that even a guard that holds
    lets the dead go, one after the other.
    """
    population = census.live + census.expired
    if census.expired + census.overdue <= max(least, math.floor(population * fraction)):
        return census.overdue
    release = max(1, math.floor(population * fraction))
    return max(0, min(census.overdue, release - census.expired))


class Clock:
    """What one process knows of the store's clock, and when it is to move it."""

    def __init__(self) -> None:
        self.tick: Tick | None = None
        self._arrived = 0.0
        self._served: tuple[int, int] | None = None
        self._heard: tuple[int, int, float] | None = None
        self._behind = 0.0
        self._moves = False
        """Whether we have seen the number move at all."""

    def heard(self, tick: Tick, now: Seconds, *, beaten: bool = False) -> None:
        """The store said "the tick is …"; `beaten` if it said so in taking a beat of ours."""
        if self.tick is not None and tick.epoch == self.tick.epoch and tick.number < self.tick.number:
            return  # a late answer
        self._behind = self._lag(tick, now)
        self._heard = (tick.epoch, tick.number, now)
        if self.tick is None or tick.at != self.tick.at:
            self._moves = self.tick is not None and self.tick.epoch == tick.epoch
            self._arrived = now
        self.tick = tick
        if beaten:
            self._served = tick.at

    def refused(self) -> None:
        """The number did not move for us: be served once more before trying it again. Our session may
        be gone, and only a beat says so."""
        self._served = None

    def _lag(self, tick: Tick, now: Seconds) -> float:
        """By how many ticks the number fell behind our own clock since we last heard it."""
        if self._heard is None or self._heard[0] != tick.epoch:
            return 0.0
        _, number, at = self._heard
        if number == tick.number:
            return (now - self._arrived) / tick.interval
        return (now - at) / tick.interval - (tick.number - number)

    def role(self, ours: Collection[SessionId]) -> int | None:
        """0: one of our sessions is the ticker; 1, 2: a standby; None: neither."""
        if self.tick is None:
            return None
        for place, session in enumerate((self.tick.ticker, *self.tick.standbys)):
            if session in ours:
                return place
        return None

    def hand(self, ours: Collection[SessionId]) -> SessionId:
        """Which of our sessions ticks, and is named in the row."""
        place = self.role(ours)
        if place is None or self.tick is None:
            return min(ours, default="")
        return (self.tick.ticker, *self.tick.standbys)[place]

    @property
    def served(self) -> bool:
        """Whether a beat of ours was taken in this very tick."""
        return self.tick is not None and self._served == self.tick.at

    def advance_at(self, ours: Collection[SessionId]) -> float:
        """When we are to move the clock; infinity: not before we have heard more."""
        if self.tick is None or not ours or not self.served:
            return math.inf
        place = self.role(ours)
        if place is not None:
            patience = 1.0 + place
        elif not self.tick.ticker or self._behind >= LATE:
            patience = 1.0
        else:
            return math.inf
        return self._arrived + patience * self.tick.interval

    def beat_at(self, ours: Collection[SessionId], beaten_at: Seconds) -> float:
        """When the session that ticks for us must beat, besides for its own sake."""
        place = self.role(ours)
        if self.tick is None or (place is None and self._moves):
            return math.inf
        if place is None:
            # New here: does anybody tick? Who waits for its own beat to learn it may wait for long.
            return max(self._arrived + LATE * self.tick.interval, beaten_at + self.tick.interval)
        if place == 0 and not self.served and beaten_at < self._arrived:
            return self._arrived
        return beaten_at + self.tick.interval

    def standstill(self, now: Seconds) -> float:
        """Seconds since we first heard the number that we know."""
        return 0.0 if self.tick is None else now - self._arrived
