"""Stores with one bug each, and the law that each of them breaks.

A law that no bug can break is no law. These are memory stores in which one thing was got wrong that
somebody did get wrong, or easily could.
"""

# mypy: ignore-errors
# A bug bends what it inherits; that its types are wrong is the least of it.

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from headcount.errors import GroupNotEmpty
from headcount.model import Census, Committed, Delta, Enter, Refused, Ring, Snapshot, Swept, Tick
from headcount.register import Ledger, replace
from headcount.stores import memory
from headcount.stores.memory import MemoryDoorbell, MemoryServer, MemoryStore
from headcount.testing.conformance import Harness
from tests.conformance.harnesses import MemorySessions, MemoryTicks


@dataclass
class Bug:
    name: str
    law: str
    store: type[MemoryStore]
    server: type[MemoryServer]
    mode: str

    def harness(self) -> Harness:
        harness = MemorySessions() if self.mode == "sessions" else MemoryTicks()
        harness.server = self.server(mode=self.mode, clock=harness.server.clock)
        harness.connect = lambda: self.store(harness.server)  # type: ignore[method-assign]
        return harness


BUGS: list[Bug] = []


def breaks(*laws: str, mode: str = "ticks"):
    """The class below is a bug, and these are the laws that see it."""

    def note(cls):
        for law in laws:
            store = cls if issubclass(cls, MemoryStore) else MemoryStore
            server = cls if issubclass(cls, MemoryServer) else MemoryServer
            BUGS.append(Bug(cls.__name__, f"test_{law}", store, server, mode))
        return cls

    return note


# ── groups ──


@breaks("a_group_made_again_starts_above")
class TheRevisionRestartsWithAGroup(MemoryStore):
    def delete_group(self, group):
        floor = self.server.floor
        try:
            return super().delete_group(group)
        finally:
            self.server.floor = floor


@breaks("deleting_a_young_group_does_not_lower_the_floor")
class TheFloorIsThatOfTheLastDeleted(MemoryStore):
    def delete_group(self, group):
        found = self.server.groups.get(group)
        done = super().delete_group(group)
        if done:
            self.server.floor = found.revision
        return done


@breaks("one_of_many_creators_wins")
class CreatingLooksFirst(MemoryStore):
    def create_group(self, group):
        if group in self.server.groups:
            return False
        time.sleep(0.01)
        super().create_group(group)
        return True


@breaks("groups_that_look_alike_are_different")
class ACarelessCollation(MemoryStore):
    def create_group(self, group):
        return group.lower() not in map(str.lower, self.server.groups) and super().create_group(group)


@breaks("hidden_groups_are_not_listed")
class HiddenGroupsAreListed(MemoryStore):
    def groups(self):
        return sorted(self.server.groups)


@breaks("a_group_with_a_claim_is_not_deleted")
class AClaimDoesNotHoldAGroup(MemoryStore):
    def delete_group(self, group):
        try:
            return super().delete_group(group)
        except GroupNotEmpty:
            found = self.server.groups[group]
            if any(row.live for row in found.rows.values()):
                raise
            found.claims.clear()
            return super().delete_group(group)


# ── sessions ──


@breaks("a_row_needs_a_live_session", "a_lost_session_is_lost_for_ever")
class AnEnterDoesNotLookAtItsSession(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        enters = [w.session for w in writes if isinstance(w, Enter)]
        alive = self.server.alive
        self.server.alive = lambda session: session in enters or alive(session)
        try:
            return super().commit(group, writes, expect, by=by)
        finally:
            self.server.alive = alive


@breaks("a_lost_session_is_lost_for_ever", "fenced_in_between", "a_beat_and_a_sweep_do_not_pass_each_other")
class AFencedSessionIsTaken(MemoryStore):
    def beat(self, sessions):
        with self._held() as server:
            for session in sessions:
                if session in server.sessions:
                    server.sessions[session].fenced_at = None
            return super().beat(sessions)


@breaks("a_session_nobody_opened_is_lost")
class BeatsMakeSessions(MemoryStore):
    def beat(self, sessions):
        answer = super().beat(sessions)
        return replace(answer, notices={key: notice or 0 for key, notice in answer.notices.items()})


@breaks("a_closed_session_is_lost_at_once")
class ClosingLeavesTheRows(MemoryStore):
    def close_session(self, session):
        self.server.sessions.pop(session, None)


@breaks("nobody_is_overdue_before_its_time", "a_claim_goes_when_its_time_has_come")
class DWithoutTheOneMore(MemoryStore):
    @contextmanager
    def _held(self) -> Iterator[MemoryServer]:
        with super()._held() as server:
            right = memory.deadline_ticks
            memory.deadline_ticks = lambda ttl, interval: math.ceil(ttl / interval)
            try:
                yield server
            finally:
                memory.deadline_ticks = right


@breaks("everybody_is_overdue_at_its_time")
class ATickTooLate(MemoryStore):
    def _extend(self, session):
        super()._extend(session)
        if session in self.server.sessions:
            self.server.sessions[session].deadline += 1


@breaks("no_beat_lowers_a_deadline")
class ABeatMayLowerADeadline(MemoryStore):
    def open_session(self, session):
        with self._held() as server:
            if session.id in server.sessions:
                server.sessions[session.id].session = session
                server.sessions[session.id].deadline = 0
            return super().open_session(session)


@breaks("a_beat_and_a_sweep_do_not_pass_each_other")
class TheOverdueAreReadAndThenExpired(MemoryStore):
    def sweep(self, judge, *, limit=500):
        now = self.server.clock_row.number
        late = [k for k, s in self.server.sessions.items() if s.deadline <= now and not s.fenced_at]
        time.sleep(0.02)
        with self._held() as server:
            server.end(late)
        return Swept(fenced=tuple(late))


# ── the register ──


class _Changing(MemoryStore):
    """One whose commits go wrong afterwards."""

    def commit(self, group, writes, expect=(), *, by=""):
        with self._held() as server:
            before = server.groups.get(group)
            old = dict(before.rows) if before else {}
            done = super().commit(group, writes, expect, by=by)
            if isinstance(done, Committed):
                self.spoil(server, group, old, done)
            return done

    def spoil(self, server, group, old, done):
        raise NotImplementedError


@breaks("each_wish_is_all_or_nothing_by_itself", "who_is_lost_is_refused_and_the_others_are_not")
class OneRefusalForAll(MemoryStore):
    def commit_together(self, group, wishes):
        writes = [write for wish in wishes for write in wish.writes]
        outcome = self.commit(group, writes, [c for wish in wishes for c in wish.expect], by=wishes[-1].by)
        return [outcome] * len(wishes)


@breaks("a_later_wish_finds_what_an_earlier_one_has_changed")
class AllAreJudgedBeforeAnyIsWritten(MemoryStore):
    def commit_together(self, group, wishes):
        before = {row.key: row.revision for row in self.read(group).rows}
        fair = [
            all(before.get(e.key, 0) == e.revision for e in w.expect if hasattr(e, "revision"))
            for w in wishes
        ]
        return [
            self.commit(group, wish.writes, () if ok else wish.expect, by=wish.by)
            for wish, ok in zip(wishes, fair, strict=True)
        ]


@breaks("revisions_count_on_from_wish_to_wish", "crowds_that_come_at_once_lose_nobody")
class EveryAnswerIsTheLast(MemoryStore):
    def commit_together(self, group, wishes):
        return [super().commit_together(group, wishes)[-1]] * len(wishes)


@breaks("history_tells_of_each_wish")
class TheOneWhoCommitsIsTheOneWhoAsked(MemoryStore):
    def commit_together(self, group, wishes):
        return [self.commit(group, w.writes, w.expect, by=wishes[0].by) for w in wishes]


@breaks("what_goes_and_comes_again_in_one_go_is_there")
class WhatWentInOneGoIsGone(MemoryStore):
    def read(self, group, after=None, *, only=None):
        seen = super().read(group, after, only=only)
        if isinstance(seen, Delta):
            gone = {(kind, key) for _, kind, key in self.server.groups[group].tombstones}
            return replace(seen, removed=tuple(sorted(gone)))
        return seen


@breaks("where_there_is_no_group_all_are_told")
class GoingTogetherMakesTheGroup(MemoryStore):
    def commit_together(self, group, wishes):
        self.create_group(group)
        return super().commit_together(group, wishes)


@breaks("a_place_that_is_taken_and_given_up_in_one_go")
class ToGiveUpWhatIsFreeIsACommit(MemoryStore):
    def commit_together(self, group, wishes):
        outcomes = super().commit_together(group, wishes)
        return [replace(o, revision=o.revision + n) for n, o in enumerate(outcomes)]


@breaks("sessions_that_are_opened_together_all_live")
class OnlyTheFirstIsOpened(MemoryStore):
    def open_sessions(self, sessions):
        return super().open_sessions(sessions[:1]) * len(sessions)


@breaks("two_stands_in_one_commit_get_two_tokens")
class OneTokenForACommit(_Changing):
    def spoil(self, server, group, old, done):
        for row in done.rows:
            if row.standing_since == row.revision:
                server.groups[group].rows[row.key] = replace(row, standing_since=done.revision)


@breaks("being_enabled_again_does_not_bring_a_token_back")
class EnablingBringsTheTokenBack(_Changing):
    tokens: dict[str, int] = {}  # noqa: RUF012

    def spoil(self, server, group, old, done):
        self.tokens = {r.key: r.standing_since for r in old.values() if r.standing_since} or self.tokens
        for key, row in server.groups[group].rows.items():
            if row.live and row.member_id not in server.groups[group].marks and not row.standing_since:
                server.groups[group].rows[key] = replace(row, standing_since=self.tokens.get(key, 0))


@breaks("a_mark_leaves_a_claim", "withdrawing_another_leaves_a_claim", "who_takes_over_leaves_a_claim")
class APlaceIsFreeAtOnce(_Changing):
    def spoil(self, server, group, old, done):
        server.groups[group].claims.clear()


@breaks("who_takes_over_tells_the_owner", "a_notice_is_for_the_owner_alone")
class TheOwnerIsNotTold(_Changing):
    def spoil(self, server, group, old, done):
        for session in server.sessions.values():
            session.notice = 0


@breaks("own_writes_leave_no_claim_and_no_notice", "a_notice_is_for_the_owner_alone")
class EverybodyIsTold(_Changing):
    def spoil(self, server, group, old, done):
        for row in (*old.values(), *done.rows):
            if row.session in server.sessions:
                server.sessions[row.session].notice += 1


@breaks("capabilities_are_bytes")
class CapabilitiesAreText(_Changing):
    def spoil(self, server, group, old, done):
        for row in done.rows:
            text = row.capabilities.rstrip(b"\x00")
            server.groups[group].rows[row.key] = replace(row, capabilities=text)


@breaks("an_amend_that_changes_nothing_commits_nothing", "an_empty_commit_changes_nothing")
class EveryCommitCounts(_Changing):
    def spoil(self, server, group, old, done):
        server.groups[group].revision += 1


@breaks("a_commit_is_all_or_nothing")
class WritesAreMadeOneByOne(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        for write in writes:
            done = super().commit(group, [write], expect, by=by)
            if isinstance(done, Refused):
                return done
        return done if writes else super().commit(group, writes, expect, by=by)


@breaks("expect_empty", "expect_stands", "expect_unchanged", "a_shard_has_one_taker")
class NothingIsExpected(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        return super().commit(group, writes, by=by)


@breaks("a_shard_has_one_taker")
class WhatIsExpectedIsLookedAtBefore(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        if expect:
            tested = super().commit(group, [], expect, by=by)
            if isinstance(tested, Refused):
                return tested
            time.sleep(0.01)
        return super().commit(group, writes, by=by)


@breaks("a_claimed_shard_is_not_empty")
class ClaimedShardsAreEmpty(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        with self._held() as server:
            claims, server.groups[group].claims = server.groups[group].claims, {}
            try:
                tested = super().commit(group, [], expect, by=by)
            finally:
                server.groups[group].claims = claims
            return tested if isinstance(tested, Refused) else super().commit(group, writes, by=by)


# ── claims, in time ──


@breaks("the_time_of_a_claim_begins_with_a_sweep")
class TheTimeOfAClaimIsSetByItsCommit(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        with self._held() as server:
            done = super().commit(group, writes, expect, by=by)
            self._vacate(server.clock_row)
            return done


@breaks("a_claim_goes_when_its_time_has_come")
class BeatsKeepAClaim(MemoryStore):
    def beat(self, sessions):
        for store in self.server.groups.values():
            if any(claim.session in sessions for claim in store.claims.values()):
                self.server.vacates.clear()
        return super().beat(sessions)


@breaks("the_time_of_a_claim_is_set_once")
class ASweepHastensAClaim(MemoryStore):
    def sweep(self, judge, *, limit=500):
        self.server.vacates = {key: (e, n - 1) for key, (e, n) in self.server.vacates.items()}
        return super().sweep(judge, limit=limit)


# ── reading ──


@breaks("what_was_removed_is_told", "deltas_make_the_same_picture")
class ADeltaForgetsWhatWasRemoved(MemoryStore):
    def read(self, group, after=None, *, only=None):
        found = super().read(group, after, only=only)
        return replace(found, removed=()) if isinstance(found, Delta) else found


@breaks("who_reads_from_too_long_ago_gets_all", "who_reads_from_another_history_gets_all")
class ADeltaFromAnywhere(MemoryStore):
    def read(self, group, after=None, *, only=None):
        with suppress(KeyError):
            self.server.groups[group].oldest = 0
        return super().read(group, after, only=only)


@breaks("of_nobody_there_is_nothing_to_say")
class OnlyNobodyIsEverybody(MemoryStore):
    def read(self, group, after=None, *, only=None):
        return super().read(group, after, only=only or None)


@breaks("a_picture_is_of_one_revision")
class RowsAreReadAndThenTheRevision(MemoryStore):
    def read(self, group, after=None, *, only=None):
        found = super().read(group, after, only=only)
        time.sleep(0.001)
        return replace(found, revision=super().read(group).revision)


@breaks("a_picture_is_of_one_revision")
class PairsAreReadOneByOne(MemoryStore):
    def read(self, group, after=None, *, only=None):
        found = super().read(group, after, only=only)
        if isinstance(found, Snapshot) and len(found.rows) > 1:
            time.sleep(0.001)
            later = super().read(group)
            return replace(later, rows=(*found.rows[:1], *later.rows[1:]))
        return found


# ── the doorbell ──


class _Ringing(MemoryStore):
    bell: type[MemoryDoorbell]

    def doorbell(self):
        return self.bell(self)


@breaks("it_rings_for_a_commit_of_another")
class TheDoorbellIsDeaf(_Ringing):
    class bell(MemoryDoorbell):
        def wait(self, timeout):
            time.sleep(min(timeout, 1.2))
            return Ring()


@breaks("what_changes_before_the_wait_is_rung_for", "it_rings_for_a_commit_of_another")
class TheDoorbellHearsOnlyWhileOneWaits(_Ringing):
    class bell(MemoryDoorbell):
        def wait(self, timeout):
            self._heard = self._store.server.changes
            return super().wait(timeout)


@breaks("waking_before_the_wait_is_not_lost")
class AWakeIsLost(_Ringing):
    class bell(MemoryDoorbell):
        def wait(self, timeout):
            self._woken = False
            return super().wait(min(timeout, 1.2))


@breaks("it_does_not_ring_for_beats", "it_does_not_ring_for_ticks")
class BeatsRing(MemoryStore):
    def beat(self, sessions):
        with self._held() as server:
            for group in server.groups:
                server.ring(group)
            return super().beat(sessions)


@breaks("it_rings_when_a_group_comes_and_goes")
class ADeletionDoesNotRing(MemoryStore):
    def delete_group(self, group):
        with self._held() as server:
            ring, server.ring = server.ring, lambda name: None
            try:
                return super().delete_group(group)
            finally:
                server.ring = ring


@breaks("several_bells_ring")
class OneBellSilencesTheOthers(_Ringing):
    class bell(MemoryDoorbell):
        def wait(self, timeout):
            ring = super().wait(timeout)
            self._store.server.changed.clear()
            return ring


# ── ticks and sweeps ──


@breaks("who_has_not_seen_the_last_tick_moves_nothing", "of_many_tickers_one_moves_it")
class ATickIsNotCompared(MemoryStore):
    def advance(self, seen, ticker):
        return super().advance(self.server.clock_row, ticker)


@breaks("who_is_lost_does_not_tick")
class AnybodyTicks(MemoryStore):
    def advance(self, seen, ticker):
        with self._held() as server:
            alive, server.alive = server.alive, lambda session: True
            try:
                return super().advance(seen, ticker)
            except KeyError:
                server.clock_row = replace(seen, number=seen.number + 1, ticker=ticker)
                return server.clock_row
            finally:
                server.alive = alive


@breaks("dead_standbys_are_replaced", "overdue_standbys_are_replaced")
class StandbysStayForEver(MemoryStore):
    def _serves(self, session):
        return True


@breaks("those_of_other_processes_stand_by_first")
class AnybodyStandsBy(MemoryStore):
    def _volunteers(self, ticker, standbys):
        found = {*super()._volunteers(ticker, standbys)}
        return sorted(found)


@breaks("standbys_stay")
class StandbysChangeEveryTick(MemoryStore):
    def advance(self, seen, ticker):
        self.server.clock_row = replace(self.server.clock_row, standbys=())
        return super().advance(self.server.clock_row if seen.at == self.server.clock_row.at else seen, ticker)


@breaks("a_tick_knows_its_interval")
class TheIntervalIsConfiguration(MemoryStore):
    count = 0

    def tick(self) -> Tick:
        type(self).count += 1
        return replace(super().tick(), interval=float(self.count))


@breaks("sessions_without_rows_do_not_count", "a_judge_is_told_how_many")
class ObserversCount(MemoryStore):
    def open_session(self, session):
        granted = super().open_session(session)
        self.server.sessions[session.id].had_rows = True
        return granted


@breaks("no_more_are_fenced_than_the_judge_allows", "who_lapses_loses_its_place")
class TheJudgeIsNotHeard(MemoryStore):
    def sweep(self, judge, *, limit=500):
        judge(Census(live=0, expired=0, overdue=0))
        return super().sweep(lambda census: census.overdue, limit=limit)


@breaks("a_sweep_of_a_crowd_is_cut_into_pieces")
class ASweepHasNoBounds(MemoryStore):
    def sweep(self, judge, *, limit=500):
        return super().sweep(judge)


@breaks("an_operator_overrules_the_guard")
class TheGuardIsReleasedForEver(MemoryStore):
    def release_guard(self):
        self.server.released_until = 1 << 40


@breaks("the_expired_count_for_a_window")
class TheExpiredAreForgottenAtOnce(MemoryStore):
    def sweep(self, judge, *, limit=500):
        with self._held() as server:
            for key in [key for key, s in server.sessions.items() if s.fenced_at is not None]:
                del server.sessions[key]
            return super().sweep(judge, limit=limit)


@breaks("who_lapses_loses_its_place")
class ALapseKeepsTheShards(MemoryStore):
    def _lapse(self, held):
        shards = {(g, k): r.shards for g, found in self.server.groups.items() for k, r in found.rows.items()}
        lapsed = super()._lapse(held)
        for (group, key), owned in shards.items():
            rows = self.server.groups[group].rows
            if key in rows:
                rows[key] = replace(rows[key], shards=owned)
        return lapsed


@breaks("who_lapses_loses_its_place", "who_lapsed_and_beats_again_is_back", "who_lapses_twice_is_told_twice")
class ALapseIsNotTold(MemoryStore):
    def _lapse(self, held):
        notices = {key: s.notice for key, s in self.server.sessions.items()}
        lapsed = super()._lapse(held)
        for key, notice in notices.items():
            self.server.sessions[key].notice = notice
        return lapsed


@breaks("the_longest_overdue_are_fenced_first")
class TheLatestOverdueFirst(MemoryStore):
    def sweep(self, judge, *, limit=500):
        sessions = self.server.sessions
        now = self.server.clock_row.number
        for session in sessions.values():
            if session.deadline <= now:
                session.deadline = -session.deadline
        return super().sweep(judge, limit=limit)


# ── what people are told ──


@breaks("a_busy_group_does_not_drown_the_history_of_another")
class HistoryHasNoBounds(MemoryServer):
    def begin(self, interval=None):
        super().begin(interval)
        self.entries.default_factory = memory.deque


@breaks("the_newest_history_comes_last")
class TheOldestHistory(MemoryStore):
    def history(self, group=None, *, member_id=None, limit=100):
        return super().history(group, member_id=member_id, limit=1 << 40)[:limit]


@breaks("the_last_beat_is_known", "the_last_beat_of_the_dead_is_not_told")
class TheDeadAreSeen(MemoryStore):
    def last_seen(self, group):
        now = memory.when(self.server.wall())
        return {row.member_id: now for row in self.read(group).rows}


@breaks("a_store_that_is_not_there_says_so")
class AStoreThatPretends(MemoryStore):
    def beat(self, sessions):
        self.reachable = True
        return super().beat(sessions)


@breaks("a_store_that_forgot_begins_above", "a_store_that_forgot_has_a_new_epoch")
class AnEpochThatComesAgain(MemoryServer):
    def begin(self, interval=None):
        self.epoch = 0
        wall, self.wall = self.wall, lambda: 1735689600.0
        super().begin(interval)
        self.wall = wall


# ── sessions that expire by themselves ──


@breaks("sessions_expire_by_the_clock_of_the_store", mode="sessions")
class NobodyExpiresByThemselves(MemoryServer):
    def expire_by_clock(self):
        pass


@breaks("who_is_lost_is_told_by_the_doorbell", mode="sessions")
class TheLostAreNotTold(MemoryServer):
    def expire_by_clock(self):
        super().expire_by_clock()
        self.lost.clear()


@breaks("an_expiry_rings_by_itself", mode="sessions")
class AnExpiryWaitsForSomebodyToLook(_Ringing):
    class bell(MemoryDoorbell):
        def _wait(self, timeout):
            self._store.server.rung.wait_for(lambda: self._store.server.changes > self._heard, timeout)


@breaks("a_claim_may_be_waited_out", mode="sessions")
class AClaimIsNeverWaitedOut(MemoryStore):
    def commit(self, group, writes, expect=(), *, by=""):
        return super().commit(
            group, [replace(w, waited=False) if hasattr(w, "waited") else w for w in writes], expect, by=by
        )


@breaks("who_is_ended_from_outside_is_down_at_once", mode="sessions")
class WhoIsEndedLivesOn(MemoryServer):
    def end_early(self, session):
        pass


@breaks(
    "a_place_outlives_a_session_that_was_ended_from_outside",
    "who_closes_a_session_that_is_over_gives_its_place_up",
    "a_place_of_a_session_that_was_ended_can_be_waited_out",
    "a_place_that_was_taken_over_is_kept_too",
    mode="sessions",
)
class AnEarlyEndIsLikeAnyOther(MemoryServer):
    def end_early(self, session):
        with self.lock:
            self._forget({session})


@breaks("who_dies_leaves_its_place_at_once", mode="sessions")
class EveryEndIsEarly(MemoryServer):
    def _forget(self, ended):
        self.early |= dict.fromkeys(ended, self.clock() + 1)
        super()._forget(ended)


@breaks("a_place_that_is_not_given_up_goes_when_nobody_can_trust_it", mode="sessions")
class APlaceIsKeptForEver(MemoryServer):
    def end_early(self, session):
        super().end_early(session)
        self.early |= dict.fromkeys(self.early, math.inf)


@breaks("who_closes_a_session_that_is_over_gives_its_place_up", mode="sessions")
class AGoodbyeThatComesTooLateIsNotHeard(MemoryStore):
    def close_session(self, session):
        if self.server.alive(session):
            super().close_session(session)


class _ClaimsAnything(Ledger):
    def _claim(self, row):
        super()._claim(replace(row, standing_since=row.standing_since or 1))


@breaks("who_held_nothing_leaves_nothing", mode="sessions")
class WhoHeldNothingIsMissedToo(MemoryServer):
    def ledger(self, name):
        return _ClaimsAnything(memory._Records(self, self.groups[name]), name, self.groups[name].revision, 0)
