"""What a session believes, and until when. Two clocks, given by hand."""

from headcount.core.session import Presence, margin_of
from headcount.model import Granted, Moment, Session

TTL = 10.0
MARGIN = 0.25
SESSION = Session(id="s1", instance="i", host="h", process="p", ttl=TTL)


def at(boot: float, *, ahead: float = 0.0) -> Moment:
    """An instant; `ahead`: by how much the time of day has run ahead of our clock."""
    return Moment(boot, 1_000_000.0 + boot + ahead)


def opened(asked: float = 0.0, now: float = 0.0, *, ttl: float = TTL, beat: float | None = None) -> Presence:
    presence = Presence("i", ttl, beat)
    presence.opened(SESSION, Granted(ttl=ttl), at(asked), at(now))
    return presence


def test_the_margin_pays_for_clocks_that_differ_by_one_percent():
    """A fiftieth of the ttl: one percent for each side. Short ttls get a quarter of a second."""
    assert margin_of(100.0) == 2.0
    assert margin_of(3.0) == 0.25


def test_opening_counts_as_a_beat():
    """Who has just opened a session may act at once."""
    presence = opened()

    assert presence.trusts(at(TTL - MARGIN - 0.01))
    assert not presence.trusts(at(TTL - MARGIN))


def test_a_slow_answer_shortens_trust():
    """Trust counts from the question: the store has counted since then too."""
    presence = opened()
    presence.taken(0, at(3.0), at(8.0))

    assert presence.trusted_until == 3.0 + TTL - MARGIN


def test_an_answer_whose_deadline_has_passed_is_a_refusal():
    """By the time it is here the store may have ended the session; so it is asked again, soon."""
    presence = opened()
    presence.taken(0, at(3.0), at(12.75))

    assert not presence.trusts(at(12.75))
    assert 12.75 < presence.next_beat <= 12.75 + 0.1


def test_a_beat_that_was_asked_earlier_never_takes_trust_back():
    """Answers may overtake one another; the newest question counts."""
    presence = opened()
    presence.taken(0, at(5.0), at(5.1))
    presence.taken(0, at(4.0), at(5.2))

    assert presence.trusted_until == 5.0 + TTL - MARGIN


def test_the_next_beat_counts_from_the_question_too():
    """Else a slow store would be beaten less and less often."""
    presence = opened()
    presence.taken(0, at(3.0), at(5.0))

    assert presence.next_beat == 3.0 + TTL / 3


def test_missed_beats_are_retried_within_the_interval():
    """A ttl must hold several tries: a store that stops for a third of it has to cost nobody its life."""
    presence = opened()
    now, tries = 3.0, 0
    while now < 3.0 + TTL / 3:
        presence.missed(at(now))
        assert now < presence.next_beat <= now + TTL / 6
        now, tries = presence.next_beat, tries + 1

    assert tries >= 5


def test_a_taken_beat_ends_the_retries():
    """After an outage the next failure is a first one again."""
    presence = opened()
    for _ in range(10):
        presence.missed(at(3.0))
    presence.taken(0, at(4.0), at(4.0))
    presence.missed(at(7.0))

    assert presence.next_beat <= 7.1


# ── notices ──


def test_a_notice_keeps_trust_back_until_the_rows_are_read():
    """Somebody else touched our rows: what the beat would have given waits until we know what it was."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    assert presence.trusted_until == TTL - MARGIN

    presence.read(3.2, at(3.3))
    assert presence.trusted_until == 3.0 + TTL - MARGIN


def test_a_read_sent_before_the_notice_arrived_does_not_clear_it():
    """It may have been answered before the rows were touched."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    presence.read(3.05, at(3.3))

    assert presence.unread == 3.1
    assert presence.trusted_until == TTL - MARGIN


def test_a_second_notice_needs_a_second_read():
    """The read that was sent after the first may not have seen what the second is about."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    presence.taken(2, at(6.0), at(6.1))
    presence.read(4.0, at(6.2))
    assert presence.trusted_until == TTL - MARGIN

    presence.read(6.15, at(6.3))
    assert presence.trusted_until == 6.0 + TTL - MARGIN


def test_a_notice_that_was_read_is_not_news():
    """The store goes on reporting the same number; beats that bring no higher one extend at once."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    presence.read(3.2, at(3.3))
    presence.taken(1, at(6.0), at(6.1))

    assert presence.unread is None
    assert presence.trusted_until == 6.0 + TTL - MARGIN


def test_a_later_beat_with_the_same_unread_notice_gives_more_once_it_is_read():
    """One read answers for all beats that reported the notice; the newest of them counts."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    presence.taken(1, at(6.0), at(6.1))
    presence.read(3.2, at(6.3))

    assert presence.trusted_until == 6.0 + TTL - MARGIN


def test_a_read_that_comes_too_late_gives_nothing():
    """What the beat would have given is over by then; it must not look like trust."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    presence.read(3.2, at(12.75))

    assert presence.unread is None
    assert not presence.trusts(at(12.75))


def test_a_new_session_begins_without_notices():
    """Notices are numbered per session: an old number must not swallow the first of a new one."""
    presence = opened()
    presence.taken(5, at(3.0), at(3.1))
    presence.read(3.2, at(3.2))
    presence.lost()
    presence.opened(SESSION, Granted(ttl=TTL), at(4.0), at(4.0))
    presence.taken(1, at(6.0), at(6.1))

    assert presence.unread == 6.1
    assert presence.trusted_until == 4.0 + TTL - MARGIN


def test_an_unread_notice_of_a_lost_session_is_forgotten():
    """Its late read must not extend the trust of the session that followed."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.1))
    presence.lost()
    presence.read(3.2, at(3.3))

    assert presence.unread is None
    assert not presence.trusts(at(3.3))


# ── trust that ends ──


def test_trust_regained_is_another_trust():
    """Between the two somebody else may have acted: a term of the first must be able to tell."""
    presence = opened()
    before = presence.generation
    presence.taken(0, at(3.0), at(3.0))
    assert presence.generation == before

    presence.taken(0, at(13.0), at(13.0))
    assert presence.trusts(at(13.0))
    assert presence.generation > before


def test_trust_regained_by_a_read_is_another_trust_too():
    """The notice kept it back for so long that it ran out in between."""
    presence = opened()
    presence.taken(1, at(9.0), at(9.1))
    before = presence.generation
    presence.read(9.8, at(9.9))

    assert presence.trusts(at(9.9))
    assert presence.generation > before


def test_losing_the_session_ends_trust_now():
    """Whatever was still to run."""
    presence = opened()
    before = presence.generation
    presence.lost()

    assert not presence.trusts(at(0.1))
    assert presence.session_id == ""
    assert presence.generation > before


def test_a_frozen_machine_does_not_trust_when_it_thaws():
    """The clock stood still, the time of day did not: others have long taken over."""
    presence = opened()

    assert presence.trusts(at(5.0, ahead=MARGIN))
    assert not presence.trusts(at(5.0, ahead=MARGIN + 0.01))


def test_trust_after_a_thaw_is_another_trust():
    """A beat taken then counts from then; the term of before stays over."""
    presence = opened()
    before = presence.generation
    presence.taken(0, at(5.0, ahead=60.0), at(5.0, ahead=60.0))

    assert presence.trusts(at(5.1, ahead=60.0))
    assert presence.generation > before


def test_a_clock_set_back_costs_nothing():
    """Only time that ran ahead may have been lived through by others."""
    assert opened().trusts(at(5.0, ahead=-3600.0))


# ── what a store grants ──


def test_the_granted_ttl_counts():
    """A store may negotiate: to trust or to beat by what we asked for would be too long."""
    presence = Presence("i", 30.0)
    presence.opened(SESSION, Granted(ttl=6.0, margin=2.0), at(0.0), at(0.0))

    assert presence.trusted_until == 4.0
    assert presence.next_beat == 2.0


def test_a_longer_grant_does_not_slow_the_heart():
    """Who asked for quick detection of its own troubles keeps it."""
    presence = Presence("i", 3.0)
    presence.opened(SESSION, Granted(ttl=30.0), at(0.0), at(0.0))

    assert presence.next_beat == 1.0


# ── a heart without eyes ──


def test_a_notice_unread_for_a_ttl_blinds():
    """Better lost and back than leading what one cannot see."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.0))
    presence.taken(2, at(3.0 + TTL), at(3.0 + TTL))
    assert not presence.blind(None)

    presence.taken(2, at(3.01 + TTL), at(3.01 + TTL))
    assert presence.blind(None)


def test_a_read_gives_sight_back():
    """The heart goes on beating: if the store has waited, nothing was lost."""
    presence = opened()
    presence.taken(1, at(3.0), at(3.0))
    presence.taken(1, at(13.5), at(13.5))
    assert presence.blind(None)

    presence.read(13.5, at(13.6))
    assert not presence.blind(None)


def test_a_watcher_that_finishes_no_pass_blinds():
    """It may hang; what it would have read, nobody reads."""
    presence = opened()
    presence.taken(0, at(TTL), at(TTL))
    assert not presence.blind(pass_at=0.0)

    presence.taken(0, at(TTL + 0.01), at(TTL + 0.01))
    assert presence.blind(pass_at=0.0)
    assert not presence.blind(pass_at=1.0)


def test_who_watches_nothing_needs_no_passes():
    """A process that only joins has no pass to finish."""
    presence = opened()
    presence.taken(0, at(1000.0), at(1000.0))

    assert not presence.blind(None)


def test_where_beats_are_told_late_trust_never_goes_beyond_the_ttl_from_the_one_before():
    """ZooKeeper: the server that took this beat dies before the leader has heard of it, which then counts
    from the one before. One that comes late is believed for less than it would be otherwise."""
    presence = Presence("ann", 6.0)
    presence.opened(SESSION, Granted(ttl=6.0, margin=2.0), at(0.0), at(0.0))
    presence.taken(0, at(2.0), at(2.1))
    assert presence.trusted_until == 0.0 + 6.0 - margin_of(6.0)

    presence.taken(0, at(5.5), at(5.6))
    assert presence.trusted_until == 2.0 + 6.0 - margin_of(6.0)

    presence.taken(0, at(7.1), at(7.2))
    assert presence.trusted_until == 7.1 + 6.0 - 2.0


def test_where_beats_are_told_late_one_right_after_another_makes_neither_sure():
    """After a long silence two beats follow each other: the server that ends sessions may have heard of none
    of them yet, and counts from the one before the silence."""
    presence = Presence("ann", 6.0, beat=0.5)
    presence.opened(SESSION, Granted(ttl=6.0, margin=2.0), at(0.0), at(0.0))
    presence.taken(0, at(5.0), at(5.1))
    presence.taken(0, at(5.5), at(5.6))
    assert presence.trusted_until == 0.0 + 6.0 - margin_of(6.0)

    presence.taken(0, at(6.5), at(6.6))
    assert presence.trusted_until == 6.5 + 6.0 - 2.0


def test_a_session_that_shares_a_life_is_trusted_by_the_beats_of_the_others():
    """ZooKeeper: it is opened in a session that others have beaten last four seconds ago, and of whose newest
    beat, which this is, the server that leads has not heard."""
    presence = Presence("ann", 6.0)
    presence.opened(SESSION, Granted(ttl=6.0, margin=2.0, late=4.0), at(10.0), at(10.0))
    assert presence.trusted_until == 10.0 - 4.0 + 6.0 - margin_of(6.0)

    presence.taken(0, at(12.0), at(12.1))
    assert presence.trusted_until == 10.0 + 6.0 - margin_of(6.0)


def test_where_beats_are_told_at_once_only_the_last_one_counts():
    """A store without a wider margin: trust goes with the last beat, however late it came."""
    presence = Presence("ann", 6.0)
    presence.opened(SESSION, Granted(ttl=6.0), at(0.0), at(0.0))
    presence.taken(0, at(5.0), at(5.1))

    assert presence.trusted_until == 5.0 + 6.0 - margin_of(6.0)
