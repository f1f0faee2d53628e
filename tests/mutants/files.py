"""SQLite: locks, transactions and two files, which only the store itself can show."""

from __future__ import annotations

import time

from headcount.errors import StoreUnavailable
from headcount.model import Claim, Refused, deadline_ticks
from headcount.register import apply
from headcount.stores.sql import recording, sqlite, sqlite_beats, sqlite_files, sqlite_register, sqlite_sweep
from tests.mutants.hunting import Law, mutant
from tests.mutants.planting import Planter


@mutant(Law("a_picture_is_of_one_revision", tries=3))
def rows_and_revision_in_two_snapshots(plant: Planter) -> None:
    """Each statement of a read sees the register as it is by then."""
    plant.edit(sqlite_files.Link.reading, 'con.execute("BEGIN")', "pass")


@mutant(Law("counters_lose_no_update", by=StoreUnavailable))
def a_plain_begin(plant: Planter) -> None:
    """A commit takes the write lock in its middle, where waiting cannot help."""
    plant.edit(sqlite_files.Link._lock, '"BEGIN IMMEDIATE"', '"BEGIN"')


@mutant(Law("a_shard_has_one_taker", tries=3))
def what_is_expected_is_tested_before_the_commit(plant: Planter) -> None:
    """The plan and the holder are read first, and the shard is taken in a transaction of its own."""

    def tested(store, group, expect):
        with store._register.reading() as con:
            found = sqlite_register.group_named(con, group)
            records = recording.SqlRecords(sqlite_register.SqliteSql(con), found, store._corrupt)
            done = apply(records, group, [], expect, revision=found.revision, now=0.0)
        time.sleep(0.01)
        return done

    plant.edit(
        sqlite.SQLiteStore.commit_together,
        "with self._register.writing() as con:",
        "before = [tested(self, group, wish.expect) for wish in wishes]\n"
        "    if isinstance(before[0], Refused):\n"
        "        return before\n"
        "    wishes = [Wish(wish.writes, (), wish.by) for wish in wishes]\n"
        "    with self._register.writing() as con:",
        tested=tested,
        Refused=Refused,
    )


@mutant(Law("a_beat_and_a_sweep_do_not_pass_each_other", tries=3))
def a_fence_under_another_lock_than_the_beats(plant: Planter) -> None:
    """A sweep lets the beats go before its fences are committed."""

    def pause():
        time.sleep(0.02)

    plant.edit(
        sqlite_sweep.sweep,
        "work.finish()",
        "work.finish(); beats.link.commit(volatile); pause(); volatile.execute('BEGIN')",
        pause=pause,
    )


@mutant(Law("a_beat_and_a_sweep_do_not_pass_each_other", tries=3))
def a_sweep_does_not_look_again_under_its_locks(plant: Planter) -> None:
    """The overdue are read first, and expired once the locks are there."""

    def overdue(beats):
        clock = beats.peek(beats.head())
        found = beats.link.query(sqlite_beats.SQL["overdue"], (clock.number,)) if clock else []
        time.sleep(0.02)
        return found

    plant.edit(
        sqlite_sweep.sweep,
        "with register.held() as con,",
        "late = overdue(beats)\n    with register.held() as con,",
        overdue=overdue,
    )
    plant.edit(
        sqlite_sweep.sweep,
        "_judged(work, volatile, judge, limit)",
        "_judged(work, (volatile, late), judge, limit)",
    )
    plant.edit(
        sqlite_sweep._judged,
        'volatile.execute(BEATS["overdue"], (clock.number,))',
        "volatile[1]",
    )
    plant.edit(sqlite_sweep._judged, 'volatile.execute(BEATS["all"])', 'volatile[0].execute(BEATS["all"])')


@mutant(Law("no_beat_lowers_a_deadline"))
def opening_again_lowers_the_deadline(plant: Planter) -> None:
    """What a session was promised is taken back by a later word with less in it."""
    plant.sql("sqlite/beats", "grant", "max(deadline, excluded.deadline)", "excluded.deadline")


@mutant(Law("everybody_is_overdue_at_its_time"))
def overdue_one_tick_late(plant: Planter) -> None:
    """The deadline itself is still in time."""
    plant.sql("sqlite/beats", "overdue", "deadline <= ?", "deadline < ?")


@mutant(Law("a_group_made_again_starts_above"))
def the_floor_is_not_raised(plant: Planter) -> None:
    """The revision restarts with a group."""
    plant.sql("sqlite/register", "raise_floor", "max(floor, ?)", "max(floor, 0 * ?)")


@mutant(Law("the_time_of_a_claim_begins_with_a_sweep"))
def the_time_of_a_claim_begins_with_its_commit(plant: Planter) -> None:
    """Whoever takes a place away says at once when the claim goes, by a tick that it read before."""

    def told(store, con, group):
        clock = store._beats.peek(store._beats.head())
        for claim in store._decoded(
            group.name, Claim, con.execute(sqlite_register.SQL["claims_after"], (group.id, 0))
        ):
            due = clock.number + deadline_ticks(claim.ttl, clock.interval)
            con.execute(sqlite_register.SQL["set_vacates"], (clock.epoch, due, group.id, claim.key))

    plant.edit(
        sqlite.SQLiteStore.commit_together,
        "save(con, found, done)",
        "save(con, found, done)\n        told(self, con, found)",
        told=told,
    )


@mutant(Law("who_lost_the_beats_gives_everybody_a_whole_ttl"))
def no_beats_no_sessions(plant: Planter) -> None:
    """A file of beats that was lost is begun empty: all but the first who beats are taken for dead."""
    plant.edit(sqlite_beats.Beats._establish, 'in self.register.query(REGISTER["ttls"]):', "in ():")


@mutant(Law("who_lost_the_beats_has_a_new_clock"))
def a_lost_clock_begins_the_old_epoch(plant: Planter) -> None:
    """Ticks of a clock that was lost are taken for those of the new one."""
    plant.edit(
        sqlite_beats.Beats._establish,
        "next_epoch(head.epoch, claimed, self._seen, old.epoch if old else 0)",
        "head.epoch",
    )


@mutant(Law("a_row_needs_a_live_session"))
def an_enter_does_not_lock_its_session(plant: Planter) -> None:
    """A row is up in a session that is gone."""
    plant.put(recording.SqlRecords, "alive", lambda self, session: True)


@mutant(Law("a_lost_session_is_lost_for_ever"))
def a_fence_on_another_row_than_the_beats(plant: Planter) -> None:
    """A beat finds its own row as it was, and does not look at the fence."""
    plant.sql("sqlite/register", "beating", "AND sessions.fenced_at IS NULL", "")
    plant.sql("sqlite/beats", "remove", "WHERE", "WHERE 0 AND")
