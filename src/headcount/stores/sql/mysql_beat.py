"""A beat of one session: one statement, whose answer bears all that a beat has to tell.

A second statement, to read the clock, would make a beat twice as dear. But an UPDATE can answer with one
number, the one that LAST_INSERT_ID was given:

    ┌ notice, 18 bits ┬ roles, 12 bits ┬ tick, 33 bits ┐

The rest of the clock is read when it has changed, which `roles` tells: see `clock`.
"""

from __future__ import annotations

import time

from headcount.model import SessionId, Tick
from headcount.stores.sql.clock import ROLES, ROLES_BITS, clock_told
from headcount.stores.sql.mysql_line import MySQLLine

TICK_BITS, NOTICE_BITS = 33, 18
"""At 20 ticks a second, they last for 13 years."""

TICKS, NOTICES = (1 << TICK_BITS) - 1, (1 << NOTICE_BITS) - 1


def beat(line: MySQLLine, session: SessionId) -> tuple[dict[SessionId, int], Tick | None]:
    taken = line.changed("beat_one", time.time(), session)
    if not taken.affected:
        return {}, None
    number = taken.given & TICKS
    roles = taken.given >> TICK_BITS & ROLES
    notice = taken.given >> TICK_BITS + ROLES_BITS
    if notice == NOTICES:  # or more: it does not fit
        return dict(line.ask("beating", [session])), None
    return {session: notice}, clock_told(line, number, roles).tick
