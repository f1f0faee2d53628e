"""SQL on a server: locks, snapshots and round trips, which only a real one can show."""

from __future__ import annotations

import time

from headcount.stores.sql import clock, commit, mysql_connection, server_sweep
from tests.mutants.hunting import Attack, Law, Story, mutant
from tests.mutants.planting import Planter

POSTGRESQL, MYSQL = "postgresql/store", "mysql/store"


def pause():
    """Long enough for somebody else to get between."""
    time.sleep(0.02)


@mutant(Law("a_beat_counts_from_the_tick_it_answers_with", store="postgresql", tries=40))
def an_older_beat_that_lands_late(plant: Planter) -> None:
    """It reads the clock once, and then waits: it brings the deadline back to what it was when it set out."""
    word = "pg_sequence_last_value('hc.word'::regclass)"
    once = f"(SELECT w FROM (SELECT {word} AS w, pg_sleep(0.03 * power(random(), 6)) OFFSET 0) early)"
    plant.sql(POSTGRESQL, "beat_one", word, once)


@mutant(Law("an_enter_and_a_goodbye_do_not_pass_each_other", store="postgresql", tries=10))
def an_enter_that_does_not_lock_its_session(plant: Planter) -> None:
    """A row is up in a session that has gone meanwhile, and nobody will ever expire it."""
    plant.sql(POSTGRESQL, "alive_of", "FOR KEY SHARE", "")
    plant.edit(commit.Commit._apply, "records = loader", "pause()\n    records = loader", pause=pause)


@mutant(Law("an_enter_and_a_goodbye_do_not_pass_each_other", store="postgresql", tries=10))
def a_goodbye_under_a_lock_that_enters_do_not_meet(plant: Planter) -> None:
    """To fence a session changes none of its keys; so it takes the lock of one who does."""
    plant.sql(POSTGRESQL, "lock_session", "FOR UPDATE", "")
    plant.edit(commit.Commit._apply, "records = loader", "pause()\n    records = loader", pause=pause)


@mutant(Law("a_beat_and_a_sweep_do_not_pass_each_other", store="postgresql", tries=10))
def the_overdue_are_not_locked(plant: Planter) -> None:
    """Without a lock: a beat that is taken in between is of no use."""
    plant.sql(POSTGRESQL, "overdue", "FOR UPDATE SKIP LOCKED", "")
    plant.edit(
        server_sweep.Sweep._fence,
        "guarded = [session",
        "pause()\n        guarded = [session",
        pause=pause,
    )


@mutant(Law("a_first_beat_is_no_sign_that_all_are_there", store="postgresql"))
def an_empty_table_is_the_sign_of_a_restart(plant: Planter) -> None:
    """The first who writes a beat after it was emptied hides that all others are missing."""
    plant.sql(POSTGRESQL, "marked", "JOIN hc.clock c ON b.notice = c.epoch WHERE b.session = ''", "LIMIT 1")


@mutant(Story("read", store="postgresql", tries=40))
def rows_and_then_the_revision(plant: Planter) -> None:
    """Each statement of a read has a snapshot of its own."""
    plant.sql(POSTGRESQL, "begin_reading", "REPEATABLE READ", "READ COMMITTED")


@mutant(Law("a_picture_is_of_one_revision", store="postgresql", tries=40))
def a_picture_of_several_moments(plant: Planter) -> None:
    """Each statement of a read has a snapshot of its own."""
    plant.sql(POSTGRESQL, "begin_reading", "REPEATABLE READ", "READ COMMITTED")


@mutant(Law("counters_lose_no_update", store="postgresql", tries=10))
def what_is_looked_at_before_the_lock(plant: Planter) -> None:
    """What a commit tests is read when the group is not locked yet."""
    plant.edit(
        commit.Commit.carry_out,
        'found = sql.later("group_if_free", self._group)\n'
        "        loader = Loader(sql, self._group, self._wishes)\n"
        "        free = found()",
        "loader = Loader(sql, self._group, self._wishes)\n"
        '        pause()\n        free = sql.all("group_if_free", self._group)',
        pause=pause,
    )


@mutant(Story("order", "gap", "read", "token", store="postgresql"))
def a_commit_without_the_lock_of_its_group(plant: Planter) -> None:
    """Two take the same revision."""
    plant.sql(POSTGRESQL, "group_if_free", "FOR UPDATE SKIP LOCKED", "")


@mutant(Law("a_lost_session_is_lost_for_ever", store="postgresql"))
def a_beat_that_does_not_test_the_fence(plant: Planter) -> None:
    """A fenced session's beat is taken."""
    for statement in ("beat_one", "beat_many"):
        plant.sql(POSTGRESQL, statement, "AND NOT b.fenced", "")


@mutant(Law("a_beat_and_a_lapse_do_not_pass_each_other", store="postgresql", tries=10))
def a_lapse_that_does_not_look_again(plant: Planter) -> None:
    """Who was overdue when it was judged lapses, though its beat has been taken by then."""
    plant.edit(
        server_sweep.Sweep.settle,
        'late = [s for (s,) in sql.all("still_overdue", sql.many(lapsing), clock.number)]',
        "late = list(lapsing)",
    )


@mutant(Law("who_takes_over_tells_the_owner", store="postgresql"))
def a_notice_in_the_session_alone(plant: Planter) -> None:
    """A beat reads its own row, and there the notice never comes."""
    plant.sql(POSTGRESQL, "raise_notice", "DO UPDATE SET notice = excluded.notice", "DO NOTHING")


@mutant(Law("a_group_made_again_starts_above", store="postgresql"))
def a_floor_that_is_not_raised(plant: Planter) -> None:
    """The revision restarts with a group."""
    plant.sql(POSTGRESQL, "raise_floor", "greatest(floor, %s)", "greatest(floor, 0 * %s)")


# ── the same on MySQL, where its locks and snapshots are others ──


@mutant(Law("a_beat_counts_from_the_tick_it_answers_with", store="mysql"))
def a_second_beat_in_one_tick_that_changes_nothing(plant: Planter) -> None:
    """MySQL counts the rows that an UPDATE has changed, unless it is told to count those that it found. So a
    session looks lost, as soon as nobody writes the time of day with its beat."""
    plant.edit(mysql_connection.Connector._made, "CLIENT.FOUND_ROWS | ", "")
    plant.sql(MYSQL, "beat_one", "seen = ?", "seen = 0 * ?")


@mutant(Law("a_beat_and_a_sweep_do_not_pass_each_other", store="mysql", tries=10))
def the_overdue_are_not_locked_on_mysql(plant: Planter) -> None:
    """A beat that is taken between the look and the fence is of no use."""
    plant.sql(MYSQL, "overdue", "FOR UPDATE SKIP LOCKED", "")


@mutant(Law("an_enter_and_a_goodbye_do_not_pass_each_other", store="mysql", tries=10))
def an_enter_that_does_not_lock_its_session_on_mysql(plant: Planter) -> None:
    """A row is up in a session that has gone meanwhile."""
    plant.sql(MYSQL, "alive_of", "FOR UPDATE", "")
    plant.edit(commit.Commit._apply, "records = loader", "pause()\n    records = loader", pause=pause)


@mutant(Law("a_first_beat_is_no_sign_that_all_are_there", store="mysql"))
def beats_without_a_marker_on_mysql(plant: Planter) -> None:
    """The first who writes a beat after they were lost hides that all others are missing."""
    plant.sql(MYSQL, "marked", "JOIN hc.clock c ON b.notice = c.epoch WHERE b.session = ''", "LIMIT 1")


@mutant(Story("read", store="mysql", tries=40))
def rows_and_then_the_revision_on_mysql(plant: Planter) -> None:
    """Each statement of a read has a snapshot of its own."""
    plant.sql(MYSQL, "begin_reading", "REPEATABLE READ", "READ COMMITTED")


@mutant(Story("order", "gap", "read", "token", store="mysql"))
def a_commit_without_the_lock_of_its_group_on_mysql(plant: Planter) -> None:
    """Two take the same revision."""
    plant.sql(MYSQL, "group_if_free", "FOR UPDATE SKIP LOCKED", "")


@mutant(Law("a_lost_session_is_lost_for_ever", store="mysql"))
def a_beat_that_does_not_test_the_fence_on_mysql(plant: Planter) -> None:
    """A fenced session's beat is taken."""
    for statement in ("beat_one", "beat_many"):
        plant.sql(MYSQL, statement, "AND fenced = 0", "")


@mutant(Law("who_takes_over_tells_the_owner", store="mysql"))
def a_notice_in_the_session_alone_on_mysql(plant: Planter) -> None:
    """A beat reads its own row, and there the notice never comes."""
    plant.sql(MYSQL, "raise_notice", "UPDATE notice = VALUES(notice)", "UPDATE lasts = VALUES(lasts)")


# ── where somebody gets in between ──


def without_the_second_look(plant: Planter) -> None:
    plant.edit(
        server_sweep.Sweep._clock_claims,
        "epoch = clock_of(self._line).epoch\n",
        "clock = clock_of(self._line)\n    epoch = clock.epoch\n",
    )
    plant.edit(
        server_sweep.Sweep._clock_claims, "    clock = clock_of(self._line)\n    if clock", "    if clock"
    )


@mutant(Attack("a_claim_counts_from_no_tick_older_than_itself", store="postgresql"))
def a_claim_that_counts_from_before_it_was(plant: Planter) -> None:
    """The clock is read before the claims are: a place is given away while its owner trusts a later beat."""
    without_the_second_look(plant)


@mutant(Attack("a_claim_counts_from_no_tick_older_than_itself", store="mysql"))
def a_claim_that_counts_from_before_it_was_on_mysql(plant: Planter) -> None:
    """The same."""
    without_the_second_look(plant)


def what_was_read_before_the_lock(plant: Planter) -> None:
    plant.edit(
        clock.locked_clock,
        'sql.run("lock_clock")\n    return Clock(*sql.all("clock")[0])',
        'found = sql.all("clock")\n    sql.run("lock_clock")\n    return Clock(*found[0])',
    )


@mutant(Attack("of_those_who_tick_at_once_one_does", store="postgresql"))
def a_clock_that_is_read_before_it_is_locked(plant: Planter) -> None:
    """All who have waited for it believe that it still stands where they saw it."""
    what_was_read_before_the_lock(plant)


@mutant(Attack("of_those_who_tick_at_once_one_does", store="mysql"))
def a_clock_that_is_read_before_it_is_locked_on_mysql(plant: Planter) -> None:
    """The same."""
    what_was_read_before_the_lock(plant)


@mutant(Attack("who_waits_for_a_tick_that_comes_to_nothing_sees_what_it_left", store="postgresql"))
def a_number_that_is_read_by_the_statement_that_locks(plant: Planter) -> None:
    """The row is the newest one, but the sequence is looked at before the row is waited for; and again only
    if that has changed."""
    plant.sql(POSTGRESQL, "clock", "FROM hc.clock", "FROM hc.clock FOR UPDATE")
    plant.sql(POSTGRESQL, "lock_clock", "SELECT 1 FROM hc.clock FOR UPDATE", "SELECT 1")


@mutant(Attack("a_beat_tells_who_ticks", store="postgresql"))
def roles_that_are_never_read_again(plant: Planter) -> None:
    """Who ticked when the connection was made does so for ever."""
    plant.edit(clock.clock_told, "clock.roles & ROLES != roles or ", "")


@mutant(Attack("a_tick_that_comes_to_nothing_stops_nobody", store="postgresql"))
def roles_by_the_count_of_a_tick_that_came_to_nothing(plant: Planter) -> None:
    """The next who does become the ticker has the same count, and nobody hears of it."""
    plant.edit(clock.clock_told, "clock_of(line)", "clock_of(line)._replace(roles=roles)")


@mutant(Attack("a_group_that_is_locked_keeps_no_other_waiting", store="postgresql"))
def one_locked_group_ends_a_sweep(plant: Planter) -> None:
    """The dead stay up in all groups behind it."""
    plant.edit(server_sweep.Sweep.run, "stuck = error\n            continue", "raise")


@mutant(Attack("beats_and_notices_are_locked_in_one_order", store="postgresql"))
def beats_in_whatever_order_they_lie(plant: Planter) -> None:
    """Who beats many sessions, and who raises notices on them, wait for each other."""
    plant.sql(POSTGRESQL, "beat_many", 'ORDER BY session COLLATE "C" FOR NO KEY UPDATE', "")
