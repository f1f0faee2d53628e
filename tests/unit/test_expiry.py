"""Whose turn it is to move the store's clock, and how many sessions may expire at once."""

import math

import pytest

from headcount.core.expiry import Clock, judge
from headcount.model import Census, Tick, deadline_ticks


def tick(number: int, *, ticker: str = "t", standbys: tuple[str, ...] = ("u", "v"), epoch: int = 1) -> Tick:
    return Tick(epoch=epoch, number=number, interval=1.0, ticker=ticker, standbys=standbys)


def heard(number: int = 5, now: float = 100.0, *, beaten: bool = True) -> Clock:
    clock = Clock()
    clock.heard(tick(number), now, beaten=beaten)
    return clock


# ── who may ──


def test_a_tick_waits_a_whole_interval_from_when_the_answer_arrived():
    """The number cannot have been reached later than that; so the clock never runs fast."""
    assert heard(5, 100.0).advance_at({"t"}) == 101.0


def test_only_who_was_served_in_this_tick_may_advance():
    """A store that takes ticks but chokes on beats would kill everybody it does not serve."""
    clock = heard(beaten=False)
    assert clock.advance_at({"t"}) == math.inf

    clock.heard(tick(5), 100.5, beaten=True)
    assert clock.advance_at({"t"}) == 101.0


def test_hearing_the_same_number_again_does_not_start_the_interval_anew():
    """Else a heart that beats often would never tick."""
    clock = heard(5, 100.0)
    clock.heard(tick(5), 100.9, beaten=True)

    assert clock.advance_at({"t"}) == 101.0


def test_having_ticked_one_must_be_served_again():
    """The beat of the last tick proves nothing about this one."""
    clock = heard(5, 100.0)
    clock.heard(tick(6), 101.0)

    assert not clock.served
    assert clock.advance_at({"t"}) == math.inf
    assert clock.beat_at({"t"}, beaten_at=100.0) == 101.0


def test_a_refused_tick_is_not_tried_again_before_a_beat():
    """Our session may be gone, and only a beat says so: who asks on and on never learns of it."""
    clock = heard()
    clock.refused()
    assert clock.advance_at({"t"}) == math.inf
    assert clock.beat_at({"t"}, beaten_at=100.0) == 101.0

    clock.heard(tick(5), 101.0, beaten=True)
    assert clock.advance_at({"t"}) == 101.0


def test_a_late_answer_does_not_turn_the_clock_back():
    """It says what was so before."""
    clock = heard(7)
    clock.heard(tick(6), 100.1, beaten=True)

    assert clock.tick == tick(7)


def test_ticks_of_another_epoch_are_another_clock():
    """A store that was restored may show a lower number; it is the number now. And nobody has been
    served in it yet."""
    clock = heard(7)
    clock.heard(tick(2, epoch=9), 100.1)

    assert clock.tick == tick(2, epoch=9)
    assert not clock.served


def test_without_a_session_nobody_ticks():
    """There is no beat of one's own to be served."""
    assert heard().advance_at(()) == math.inf
    assert Clock().advance_at({"t"}) == math.inf


# ── who does ──


@pytest.mark.parametrize(("ours", "patience"), [("t", 1.0), ("u", 2.0), ("v", 3.0)])
def test_the_ticker_ticks_and_the_standbys_step_in_one_after_the_other(ours, patience):
    """However many try, one wins; the roles only spare the store the attempts."""
    assert heard(5, 100.0).advance_at({ours}) == 100.0 + patience


def test_others_leave_the_clock_alone_while_it_moves():
    """A thousand members beat; three of them look after the clock."""
    clock = heard(5, 100.0)
    clock.heard(tick(10), 105.0, beaten=True)

    assert clock.advance_at({"x"}) == math.inf


def test_others_step_in_when_the_number_has_fallen_behind():
    """The ticker and both standbys died together: the beats' answers show it."""
    clock = heard(5, 100.0)
    clock.heard(tick(7), 105.0, beaten=True)

    assert clock.advance_at({"x"}) == 106.0


def test_others_step_in_when_the_number_stands_still():
    """However often it was heard: the standstill counts from the first time."""
    clock = heard(5, 100.0)
    for now in (101.0, 102.0, 102.9):
        clock.heard(tick(5), now, beaten=True)
        assert clock.advance_at({"x"}) == math.inf
    clock.heard(tick(5), 103.0, beaten=True)

    assert clock.advance_at({"x"}) == 101.0
    assert clock.standstill(103.0) == 3.0


def test_others_fall_back_once_somebody_ticks_again():
    """What was behind is not caught up: nobody gets older faster than the clock."""
    clock = heard(5, 100.0)
    clock.heard(tick(6), 105.0, beaten=True)
    clock.heard(tick(11), 110.0, beaten=True)

    assert clock.advance_at({"x"}) == math.inf


def test_a_clock_that_nobody_moves_yet_is_everybodys():
    """The first session of a new store."""
    clock = Clock()
    clock.heard(tick(1, ticker="", standbys=()), 100.0, beaten=True)

    assert clock.advance_at({"x"}) == 101.0


def test_the_session_that_has_the_role_ticks_for_its_process():
    """Else the role would wander with each tick, and with it the extra beats."""
    assert heard().hand({"a", "u"}) == "u"
    assert heard().hand({"b", "a"}) == "a"
    assert heard().hand(()) == ""


def test_who_has_a_role_beats_every_interval():
    """Whoever may have to tick has to be served in that very tick."""
    clock = heard(5, 100.0)

    assert clock.beat_at({"u"}, beaten_at=100.0) == 101.0


def test_who_is_new_looks_after_three_intervals_whether_anybody_ticks():
    """Else, with a long ttl and nobody else there, a death just then would be noticed a beat late."""
    clock = heard(5, 100.0)
    assert clock.beat_at({"x"}, beaten_at=100.0) == 103.0
    assert clock.beat_at({"x"}, beaten_at=103.0) == 104.0

    clock.heard(tick(6), 103.0)
    assert clock.beat_at({"x"}, beaten_at=103.0) == math.inf


def test_who_is_new_and_hears_of_no_ticker_ticks_after_one_interval():
    """The first on a store that was just made, or the only one that is left."""
    clock = Clock()
    clock.heard(Tick(epoch=1, number=1), 100.0, beaten=True)

    assert clock.advance_at({"x"}) == 101.0


def test_a_beat_that_does_not_serve_is_not_repeated_at_once():
    """A store that answers with yesterday's tick would be beaten without a pause."""
    clock = heard(5, 100.0)
    clock.heard(tick(6), 101.0)

    assert clock.beat_at({"t"}, beaten_at=101.0) == 102.0


# ── deadlines ──


@pytest.mark.parametrize(
    ("ttl", "interval", "ticks"), [(10.0, 1.0, 11), (10.5, 1.0, 12), (3.0, 1.0, 4), (1.0, 0.1, 11)]
)
def test_a_deadline_is_one_tick_more_than_the_ttl(ttl, interval, ticks):
    """A beat may land at the very end of a tick: without the one more, two leaders appear."""
    assert deadline_ticks(ttl, interval) == ticks


# ── the guard ──


def judged(live: int, expired: int, overdue: int) -> int:
    return judge(Census(live=live, expired=expired, overdue=overdue))


@pytest.mark.parametrize("overdue", [0, 1, 2, 3])
def test_with_three_sessions_or_fewer_there_is_no_guard(overdue):
    """A fraction of a small number: the dead would be held for ever, and the group be leaderless."""
    assert judged(live=3, expired=0, overdue=overdue) == overdue


def test_three_may_always_expire():
    """The guard is about many at once."""
    assert judged(live=10, expired=0, overdue=3) == 3
    assert judged(live=10, expired=2, overdue=1) == 1


def test_fifteen_percent_may_expire_at_once():
    """A rack may die; a data centre is more likely to have lost its store."""
    assert judged(live=100, expired=0, overdue=15) == 15
    assert judged(live=100, expired=0, overdue=16) < 16


def test_what_expired_in_the_window_counts():
    """Else everybody goes, a few at every sweep."""
    assert judged(live=90, expired=10, overdue=5) == 5
    assert judged(live=90, expired=10, overdue=6) == 5
    assert judged(live=85, expired=15, overdue=6) == 0


def test_a_guard_that_holds_lets_fifteen_percent_go_in_each_window():
    """Those who are really dead go, a portion at a time."""
    assert judged(live=100, expired=0, overdue=100) == 15
    assert judged(live=85, expired=15, overdue=85) == 0


def test_a_guard_that_holds_lets_at_least_one_go_in_each_window():
    """In a small town the dead go one after the other; none stays for ever."""
    assert judged(live=5, expired=0, overdue=5) == 1
    assert judged(live=4, expired=1, overdue=4) == 0


def test_the_dead_of_a_small_town_all_go_in_the_end():
    """One a window, until so few are left that no guard is needed."""
    live, windows = 5, 0
    while live:
        live -= judged(live=live, expired=0, overdue=live)
        windows += 1

    assert windows == 3


def test_a_namespace_may_set_its_own_threshold():
    """A town of batch workers may well lose half of itself at once."""
    census = Census(live=100, expired=0, overdue=50)

    assert judge(census, fraction=0.5) == 50
    assert judge(census, fraction=0.0, least=0) == 1
