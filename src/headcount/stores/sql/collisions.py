"""Two transactions that wait for each other: the server ends one of them, and it is tried again.

Nothing of it was written, and the other one goes on at once. So it is no outage, and nobody hears of it,
unless it happens over and over.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from headcount import native
from headcount.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

TRIES = 6

PATIENCE = 2.5
"""Seconds after which it is not tried again. PostgreSQL needs one to see that two wait for each other."""

LONGEST_PAUSE = 0.02
"""Seconds between two tries, at most and at first: a transaction takes a few milliseconds."""


class Collided(StoreUnavailable):
    """The server ended this transaction for the sake of another one."""


def again(call: Callable[P, T]) -> Callable[P, T]:
    """A call that may be made anew whenever it collided: what it does, it does in transactions that are
    there as a whole or not at all, or goes on where it stopped."""

    @wraps(call)
    def repeated(*args: P.args, **more: P.kwargs) -> T:
        until = time.monotonic() + PATIENCE
        for tried in range(1, TRIES):
            try:
                return call(*args, **more)
            except Collided:
                if time.monotonic() > until:
                    raise
                native.threading().Event().wait(random.uniform(0, LONGEST_PAUSE * tried))
        return call(*args, **more)

    return repeated
