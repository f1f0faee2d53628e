"""Who leads, read off the register; and one term of it."""

from headcount.core.leadership import TermState, leader
from headcount.core.session import Presence
from headcount.model import Claim, Granted, Moment, Row, Session, State


def row(key: str, standing: int, state: State = State.UP) -> Row:
    return Row(
        key=key,
        member_id=key,
        incarnation=1,
        revision=9,
        state=state,
        session="s",
        instance="i",
        host="h",
        standing_since=standing,
    )


def claim(standing: int) -> Claim:
    return Claim(
        key="x@1",
        row="x",
        member_id="x",
        incarnation=1,
        revision=1,
        session="s",
        ttl=1.0,
        standing_since=standing,
    )


def at(boot: float) -> Moment:
    return Moment(boot, boot)


def presence() -> Presence:
    found = Presence("i", 10.0)
    session = Session(id="s1", instance="i", host="h", process="p", ttl=10.0)
    found.opened(session, Granted(ttl=10.0), at(0.0), at(0.0))
    return found


# ── who leads ──


def test_the_one_that_has_stood_longest_leads():
    """Whatever order the rows come in: every reader names the same one."""
    rows = [row("a", 7), row("b", 5), row("c", 9)]

    assert leader(rows) == row("b", 5)
    assert leader(reversed(rows)) == row("b", 5)


def test_nobody_leads_where_nobody_stands():
    """Being here is not being willing."""
    assert leader([row("a", 0), row("b", 0)]) is None
    assert leader([]) is None


def test_only_who_is_up_leads():
    """A suspect's place is free: failover never waits for the guard."""
    rows = [row("a", 5, State.SUSPECT), row("b", 6, State.DOWN), row("c", 7, State.LEFT), row("d", 8)]

    assert leader(rows) == row("d", 8)


def test_nobody_leads_while_a_claim_stands_before_the_first():
    """Its owner may still trust the place: to name the next would make two leaders."""
    assert leader([row("b", 8)], [claim(5)]) is None


def test_a_claim_behind_the_leader_holds_nobody_up():
    """It never was the leader's place."""
    assert leader([row("b", 8)], [claim(9)]) == row("b", 8)


def test_a_claim_without_standing_holds_nobody_up():
    """It keeps shards, not the lead."""
    assert leader([row("b", 8)], [claim(0)]) == row("b", 8)


# ── a term ──


def test_a_term_lasts_as_long_as_trust():
    """Its owner can ask at any time, without the store."""
    term = TermState("g", 7, presence())

    assert term.trusted(at(9.7))
    assert not term.trusted(at(9.75))


def test_a_beat_prolongs_the_term():
    """The same trust, further on."""
    trust = presence()
    term = TermState("g", 7, trust)
    trust.taken(0, at(5.0), at(5.0))

    assert term.trusted(at(14.0))
    assert term.trusted_until() == 14.75


def test_trust_that_ran_out_and_came_back_does_not_bring_the_term_back():
    """In between somebody else may have led; even if nobody looked while it was out."""
    trust = presence()
    term = TermState("g", 7, trust)
    trust.taken(0, at(11.0), at(11.0))

    assert trust.trusts(at(11.0))
    assert not term.trusted(at(11.0))


def test_a_term_does_not_outlive_its_session():
    """A new session is trusted, and has another row."""
    trust = presence()
    term = TermState("g", 7, trust)
    trust.lost()
    assert not term.trusted(at(1.0))

    trust.opened(
        Session(id="s2", instance="i", host="h", process="p", ttl=10.0), Granted(ttl=10.0), at(1.0), at(1.0)
    )
    assert not term.trusted(at(1.0))


def test_what_has_once_been_doubted_is_over():
    """`review` makes the end final, and says why."""
    trust = presence()
    term = TermState("g", 7, trust)
    term.review(at(9.0))
    assert term.trusted(at(9.0))

    term.review(at(9.8))
    assert term.over == "the store did not confirm our session in time"
    assert term.trusted_until() == 0.0


def test_the_first_reason_stays():
    """Whoever asks why it ended hears what ended it, not what came after."""
    term = TermState("g", 7, presence())
    term.end("resigned")
    term.end("the session was lost")

    assert term.over == "resigned"
    assert not term.trusted(at(0.0))
