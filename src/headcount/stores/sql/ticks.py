"""Ticks as every SQL store has them: what is in the clock's row, and the numbers of epochs."""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from headcount.model import Seconds, Tick
from headcount.stores.base import WINDOW

EPOCH_ZERO = 1_735_689_600
"""The beginning of 2025: epochs count seconds from here, unless they are pushed on faster."""


class Row(Protocol):
    """What a clock's row holds, whatever else it does."""

    @property
    def epoch(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def interval(self) -> Seconds: ...
    @property
    def ticker(self) -> str: ...
    @property
    def standbys(self) -> str:
        """JSON."""
        ...

    @property
    def ticked_at(self) -> float: ...


def tick_of(row: Row) -> Tick:
    return Tick(
        epoch=row.epoch,
        number=row.number,
        interval=row.interval,
        ticker=row.ticker,
        standbys=tuple(msgspec.json.decode(row.standbys)),
        ticked_at=row.ticked_at,
    )


def window_of(interval: Seconds) -> int:
    """How many ticks the guard looks back."""
    return int(WINDOW / interval)


def next_epoch(*seen: int) -> int:
    """Above all that were seen, and normally above all that there ever were."""
    return max(*seen, int(time.time()) - EPOCH_ZERO) + 1
