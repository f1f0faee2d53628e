"""The store's clock, the sweep and its guard."""

from __future__ import annotations

from zlib import crc32

from headcount import model, register
from headcount.core import agent, expiry, heart, session
from headcount.stores import memory
from tests.mutants.hunting import FEW, Towns, mutant
from tests.mutants.planting import Planter


@mutant(Towns("accuracy"))
def the_overdue_are_read_and_then_expired(plant: Planter) -> None:
    """A sweep fences whom an earlier look found overdue, though they may have beaten since."""

    def late(server, live, now):
        before = getattr(server, "looked", ())
        server.looked = [(s.deadline, k) for k, s in live if s.deadline <= now.number]
        return sorted((d, k) for d, k in before if server.alive(k))

    plant.edit(
        memory.MemoryStore.sweep,
        "sorted((s.deadline, k) for k, s in live if s.deadline <= now.number)",
        "late(server, live, now)",
        late=late,
    )


@mutant(Towns("accuracy", scenes=("old_beat",)))
def an_older_beat_lowers_the_deadline(plant: Planter) -> None:
    """A beat that was kept waiting in the store sets the deadline that it had in mind."""
    plant.edit(memory.MemoryStore._extend, "max(found.deadline, deadline)", "deadline")


@mutant(Towns("stall safety"))
def whose_beats_fail_ticks(plant: Planter) -> None:
    """Anybody who knows the number moves the clock, whether or not a beat of its own was taken in it."""
    plant.edit(expiry.Clock.served, "and self._served == self.tick.at", "")


@mutant(Towns("completeness", scenes=("crash",), seeds=FEW))
def a_slow_tick_is_not_counted(plant: Planter) -> None:
    """A tick that comes later than its interval might be a stall, and so ages nobody."""

    def excuse(server, row):
        if server.wall() - row.ticked_at > row.interval:
            for found in server.sessions.values():
                found.deadline += 1
        return server.wall()

    plant.edit(
        memory.MemoryStore.advance, "ticked_at=server.wall()", "ticked_at=excuse(server, row)", excuse=excuse
    )


@mutant(Towns("completeness", scenes=("death_before_a_stall",), seeds=FEW))
def a_fresh_ttl_for_all_after_a_stall(plant: Planter) -> None:
    """When the clock stood still for two intervals, everybody is given a whole ttl anew: the dead too."""

    def grace(server, row):
        if server.wall() - row.ticked_at > 1.5 * row.interval:
            for found in server.sessions.values():
                found.deadline = row.number + 1 + model.deadline_ticks(found.session.ttl, row.interval)
        return server.wall()

    plant.edit(
        memory.MemoryStore.advance, "ticked_at=server.wall()", "ticked_at=grace(server, row)", grace=grace
    )


@mutant(Towns("accuracy", "one leader"))
def the_interval_is_configuration(plant: Planter) -> None:
    """Some nodes tick twice as often as the others."""

    def configured(ours, interval):
        return interval / 2 if crc32(min(ours).encode()) % 3 == 0 else interval

    plant.edit(
        expiry.Clock.advance_at,
        "patience * self.tick.interval",
        "patience * configured(ours, self.tick.interval)",
        configured=configured,
    )


@mutant(Towns("stall safety", "accuracy"))
def a_tick_is_not_compared(plant: Planter) -> None:
    """Whoever wants to move the clock moves it, from wherever it is by then."""
    plant.edit(memory.MemoryStore.advance, "if row.at == seen.at and", "if")


@mutant(Towns("completeness", scenes=("only_an_observer_is_left",), seeds=FEW))
def an_observer_never_ticks(plant: Planter) -> None:
    """Who joins nothing opens no session, and so cannot move the clock when all the others are dead."""
    plant.edit(agent.Agent.needs_session, "self.watching > 0 or any(", "any(")


@mutant(Towns("completeness"))
def those_without_a_role_never_step_in(plant: Planter) -> None:
    """When the ticker and both standbys are gone, nobody moves the clock."""
    plant.edit(expiry.Clock.advance_at, "or self._behind >= LATE", "")


@mutant(Towns("completeness", scenes=("hung_watcher_of_the_ticker",), seeds=FEW))
def ticks_without_sweeps(plant: Planter) -> None:
    """Who cannot sweep moves the clock all the same, so that nobody else does either."""
    plant.edit(heart.Heart._may_tick, "return unswept is None or", "return True or")


@mutant(Towns("completeness"))
def a_sweep_takes_down_the_rows_of_one_group(plant: Planter) -> None:
    """The session is fenced, and its rows in other groups are up for ever."""
    plant.edit(memory.MemoryServer.end, "in self.groups.items():", "in list(self.groups.items())[:1]:")


@mutant(Towns("guard"))
def the_guard_counts_for_each_sweep(plant: Planter) -> None:
    """Who expired a moment ago does not count: each sweep lets as many go as it likes."""
    plant.edit(expiry.judge, "if census.expired + census.overdue", "if census.overdue")
    plant.edit(expiry.judge, "release - census.expired", "release")


@mutant(Towns("guard"))
def the_guard_releases_some_in_each_sweep(plant: Planter) -> None:
    """What a guard that holds lets go is not counted over the window."""
    plant.edit(expiry.judge, "release - census.expired", "release")


@mutant(Towns("guard", scenes=("few_may_always_die",), seeds=FEW))
def the_guard_holds_a_small_number(plant: Planter) -> None:
    """A fraction of few is one or none: of three sessions, the second that dies is held back."""
    plant.edit(expiry.judge, "max(least,", "max(1,")


@mutant(Towns("completeness", "guard fairness"))
def failover_waits_for_the_guard(plant: Planter) -> None:
    """Who is held back keeps its place, so that nobody leads for as long as the guard holds."""
    plant.put(memory.MemoryStore, "_lapse", lambda self, held: ())


@mutant(Towns("tokens only grow"))
def a_lapse_keeps_the_standing(plant: Planter) -> None:
    """Who beats again has its old place back, before those who have led since."""
    plant.edit(
        register.Ledger.lapse,
        "_ended(row, State.SUSPECT, self._next(), self._now)",
        "replace(row, state=State.SUSPECT, revision=self._next(), since=self._now)",
    )


@mutant(Towns("stall safety", "nobody is locked out", "always led"))
def a_failed_beat_is_not_retried(plant: Planter) -> None:
    """After a failure, the next beat is a whole ttl away."""
    plant.edit(session.Presence.missed, "now.boot + self._retry.failed()", "now.boot + self.ttl")
