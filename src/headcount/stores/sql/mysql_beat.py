"""A beat of one session: one statement, whose answer bears all that a beat has to tell.

A second statement, to read the clock, would make a beat twice as dear. But an UPDATE can answer with one
number, the one that LAST_INSERT_ID was given:

    ┌ notice, 18 bits ┬ roles, 12 bits ┬ tick, 33 bits ┐

The rest of the clock (its epoch, who ticks and who stands by) changes seldom, and `roles` counts how often it
has. So it is read when the connection was made anew, and when the count is another one than when it was last
read: it is never out of date. Of `ticked_at`, which is for people, a beat tells what it was then.
"""

from __future__ import annotations

import time

from headcount.model import SessionId, Tick
from headcount.stores.sql.clock import Clock
from headcount.stores.sql.mysql_line import MySQLLine

TICK_BITS, ROLES_BITS, NOTICE_BITS = 33, 12, 18
"""At 20 ticks a second, they last for 13 years."""

TICKS, ROLES, NOTICES = (1 << TICK_BITS) - 1, (1 << ROLES_BITS) - 1, (1 << NOTICE_BITS) - 1


def beat(line: MySQLLine, session: SessionId) -> tuple[dict[SessionId, int], Tick | None]:
    taken = line.changed("beat_one", time.time(), session)
    if not taken.affected:
        return {}, None
    number = taken.given & TICKS
    roles = taken.given >> TICK_BITS & ROLES
    notice = taken.given >> TICK_BITS + ROLES_BITS
    if notice == NOTICES:  # or more: it does not fit
        return dict(line.ask("beating", [session])), None
    return {session: notice}, _clock(line, roles, number).tick


def _clock(line: MySQLLine, roles: int, number: int) -> Clock:
    if line.roles is not None:
        count, clock = line.roles
        # Each tick changes the roles once at most, so that fewer ticks than there are counts cannot hide any.
        if count & ROLES == roles and 0 <= number - clock.number < ROLES:
            return clock._replace(number=number)
    ((*values, count),) = line.ask("clock_and_roles")
    line.roles = count, Clock(*values)
    return line.roles[1]
