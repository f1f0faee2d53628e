"""The heart: which sessions beat now, and whether to move the store's clock. Answers given by hand."""

from __future__ import annotations

import itertools

import pytest

from headcount.core.agent import Agent
from headcount.core.heart import BATCH, LONGEST
from headcount.core.membership import Desired, Identity
from headcount.core.node import Node
from headcount.core.work import DoAdvance, DoBeat, OutageBegan, OutageEnded, Rest
from headcount.errors import StoreUnavailable
from headcount.model import Beat, Granted, Moment, SessionId, Snapshot, Tick
from headcount.stores.memory import SESSIONS, TICKS, MemoryServer, MemoryStore

TTL = 9.0
DOWN = StoreUnavailable("down")


def at(boot: float) -> Moment:
    return Moment(boot, boot)


def tick(number: int, ticker: str = "", *standbys: str) -> Tick:
    return Tick(epoch=1, number=number, interval=1.0, ticker=ticker, standbys=standbys)


class Process:
    """A node whose heart the test moves by hand."""

    def __init__(self, guarantees=TICKS) -> None:
        self.now = 100.0
        self.node = Node(guarantees, lambda: self.now)
        self.numbers = itertools.count(1)

    def session(self, *, ttl: float = TTL, group: str = "g") -> SessionId:
        """Another coordinator, with a session opened just now."""
        number = next(self.numbers)
        me = Identity(member_id=f"m{number}", instance=f"i{number}", host="h")
        agent = Agent(me, "p", ttl, lambda: f"s{number}")
        agent.want(group, Desired())
        self.node.add(agent)
        session = agent.next_session()
        agent.presence.opened(session, Granted(ttl=ttl), at(self.now), at(self.now))
        self.node.by_session[session.id] = agent
        return session.id

    def agent(self, session: SessionId) -> Agent:
        return self.node.by_session[session]

    def ask(self):
        return self.node.heart.next(at(self.now))

    def hear(self, request, answer, *, took: float = 0.0) -> None:
        asked = self.now
        self.now += took
        self.node.heart.done(request, at(asked), at(self.now), answer)

    def rest(self):
        """Rest until there is something to do; what it is."""
        for _ in range(100):
            request = self.ask()
            if not isinstance(request, Rest):
                return request
            assert request.until > self.now
            self.now = request.until
        raise AssertionError("it never has anything to do")

    def beat(self, number: int = 0, ticker: str = "x", *, took: float = 0.0) -> DoBeat:
        """Rest until the next beat, and have it taken. Somebody else moves the clock, unless it is said."""
        request = self.rest()
        assert isinstance(request, DoBeat)
        answer = Beat(notices=dict.fromkeys(request.sessions, 0), tick=tick(number or int(self.now), ticker))
        self.hear(request, answer, took=took)
        return request


# ── beats ──


def test_nothing_beats_without_a_session():
    """It looks again in a second."""
    assert Process().ask() == Rest(100.0 + LONGEST)


def test_a_session_beats_every_third_of_its_ttl():
    """Counted from question to question."""
    process = Process()
    session = process.session()

    assert process.beat() == DoBeat((session,))
    assert process.now == 103.0
    process.beat(took=0.5)
    process.beat()
    assert process.now == 109.0


def test_sessions_that_are_nearly_due_go_along():
    """One statement for all: that is what a database with many processes lives on."""
    process = Process()
    first = process.session()
    process.now += 0.5
    second = process.session()
    process.now += 1.5
    third = process.session()

    assert process.rest() == DoBeat((first, second))
    assert third not in process.ask().sessions


def test_nobody_beats_alone_because_somebody_is_nearly_due():
    """Being early is for going along, no reason to go."""
    process = Process()
    process.session()
    process.now += 2.9

    assert isinstance(process.ask(), Rest)


def test_a_batch_is_bounded():
    """What is due and does not fit goes at once after it."""
    process = Process()
    sessions = [process.session() for _ in range(BATCH + 5)]
    first, second = process.beat(), process.beat()

    assert len(first.sessions) == BATCH
    assert sorted(first.sessions + second.sessions) == sorted(sessions)


def test_a_missed_beat_is_retried_well_within_the_interval():
    """Once a tenth of a second or so, then less often, never less often than every sixth of a ttl."""
    process = Process()
    process.session()
    tries = []
    while process.now < 106.0:
        request = process.rest()
        assert isinstance(request, DoBeat)
        tries.append(process.now)
        process.hear(request, DOWN)

    assert tries[0] == 103.0
    assert tries[1] - tries[0] <= 0.2
    assert len(tries) >= 5
    assert all(0 < later - earlier <= TTL / 6 for earlier, later in itertools.pairwise(tries))


def test_a_lost_session_beats_no_more_and_its_owner_is_looked_after():
    """The watcher opens another."""
    process = Process()
    session, other = process.session(), process.session()
    agent = process.agent(session)
    request = process.rest()
    process.hear(request, Beat(notices={session: None, other: 0}, tick=tick(5, "x")))

    assert agent.presence.session is None and agent.needs_session
    assert process.beat() == DoBeat((other,))


def test_the_answer_for_a_session_of_before_is_nobodys():
    """It was lost by another word while the beat was on its way."""
    process = Process()
    session = process.session()
    agent = process.agent(session)
    request = process.rest()
    process.node.lose(agent)
    process.hear(request, Beat(notices={session: 0}, tick=tick(5, "x")))

    assert not agent.presence.trusts(at(process.now))


def test_a_notice_sends_the_watcher_to_read():
    """Before the trust is given, somebody has to look."""
    process = Process()
    session = process.session()
    process.node.watcher._busy.clear()
    process.hear(process.rest(), Beat(notices={session: 1}, tick=tick(5, "x")))

    assert process.agent(session).presence.unread == 103.0
    assert process.node.watcher.pending


def test_a_notice_without_rows_is_read_already():
    """Whoever has left every group has nothing to look at: it must not go blind over it."""
    process = Process()
    session = process.session()
    process.agent(session).membership("g").phase = process.agent(session).membership("x").phase
    process.hear(process.rest(), Beat(notices={session: 1}, tick=tick(5, "x")))

    assert process.agent(session).presence.unread is None


# ── blind hearts ──


def test_a_blind_heart_stops_and_resumes():
    """The watcher hangs: better lost and back than leading what one cannot see."""
    process = Process()
    session, other = process.session(), process.session()
    process.node.watch("g")
    process.agent(session).watching = 1
    while process.now <= 100.0 + TTL:
        assert session in process.beat().sessions
    assert session not in process.beat().sessions

    process.node.pass_at = process.now
    assert session in process.beat().sessions
    assert other in process.node.by_session


def test_a_notice_unread_for_a_ttl_stops_that_session_only():
    """The others of the process can see what is theirs."""
    process = Process()
    session, other = process.session(), process.session()
    while process.now <= 103.0 + TTL:
        process.hear(process.rest(), Beat(notices={session: 1, other: 0}, tick=tick(int(process.now), "x")))

    assert process.beat() == DoBeat((other,))


def test_a_blind_session_does_not_tick():
    """It no longer beats: the store may have ended it, and would refuse every tick of ours."""
    process = Process()
    session, other = process.session(), process.session()
    process.beat(5, session)
    process.node.watch("g")
    process.agent(session).watching = 1
    process.node.pass_at = process.now - TTL - 1
    while not isinstance(request := process.rest(), DoAdvance):
        assert isinstance(request, DoBeat)
        process.hear(request, Beat(notices=dict.fromkeys(request.sessions, 0), tick=tick(5, session)))

    assert request.ticker == other


# ── ticks ──


def test_the_ticker_beats_once_in_every_tick_and_moves_it():
    """Beat, an interval, tick, beat: the sweep follows."""
    process = Process()
    session = process.session()
    process.beat(5, session)
    began = process.now
    advance = process.rest()
    assert advance == DoAdvance(tick(5, session), session)
    assert process.now == began + 1.0

    process.hear(advance, tick(6, session))
    assert process.node.sweep
    assert process.ask() == DoBeat((session,))


def test_the_answer_starts_the_interval_not_the_question():
    """The number may have been reached just before it was answered."""
    process = Process()
    session = process.session()
    process.beat(5, session, took=0.25)
    arrived = process.now
    process.beat(5, session)
    assert isinstance(process.rest(), DoAdvance)

    assert process.now == arrived + 1.0


def test_who_was_overtaken_does_not_sweep():
    """Another moved the clock, and sweeps after it."""
    process = Process()
    session = process.session()
    process.beat(5, session)
    process.hear(process.rest(), tick(6, "y"))

    assert not process.node.sweep


@pytest.mark.parametrize("answer", [tick(5, "s1"), DOWN], ids=["refused", "failed"])
def test_a_tick_that_does_not_move_is_not_asked_for_without_a_beat(answer):
    """Our session is gone, and only a beat says so: to try on and on would never beat again."""
    process = Process()
    session = process.session()
    process.beat(5, session)
    process.hear(process.rest(), answer)
    request = process.rest()
    assert request == DoBeat((session,))

    process.hear(request, Beat(notices={session: None}, tick=tick(5, session)))
    assert not process.node.by_session


def test_on_a_store_that_expires_sessions_itself_nobody_ticks():
    """Not even whoever was named."""
    process = Process(SESSIONS)
    session = process.session()
    process.hear(process.rest(), Beat(notices={session: 0}))

    assert process.rest() == DoBeat((session,))
    assert process.now == 106.0


def test_an_older_tick_does_not_make_the_ticker_beat_without_a_pause():
    """A store that lost its last tick answers with the one before: it is beaten once an interval."""
    process = Process()
    session = process.session()
    process.beat(5, session)
    process.hear(process.rest(), tick(6, session))
    began, beats = process.now, 0
    while process.now < began + 10.0:
        process.beat(5, session)
        beats += 1

    assert beats <= 12


# ── an outage, and rest ──


def test_an_outage_begins_once_and_ends_once():
    """And says how long it was."""
    process = Process()
    process.session()
    request = process.rest()
    process.hear(request, DOWN, took=1.0)
    process.hear(process.rest(), DOWN)
    while process.now < 105.0:
        process.hear(process.rest(), DOWN)
    ended = process.now
    process.hear(process.ask() if isinstance(process.ask(), DoBeat) else process.rest(), DOWN)
    process.beat()

    began, over = process.node.fetch()
    assert began == OutageBegan(DOWN)
    assert isinstance(over, OutageEnded)
    assert ended - 104.0 <= over.seconds == process.now - 104.0


def test_an_outage_ends_when_there_is_nothing_left_to_ask():
    """The only session was closed meanwhile: nobody will ever be served who could end it."""
    process = Process()
    session = process.session()
    process.hear(process.rest(), DOWN)
    process.node.drop(process.agent(session))
    process.now += 1.0
    process.ask()

    assert isinstance(process.node.fetch()[-1], OutageEnded)
    assert process.node.outage.since is None


def test_it_wakes_when_a_term_ends():
    """Its owner is told then, not at the next beat."""
    process = Process()
    session = process.session()
    agent = process.agent(session)
    membership = agent.membership("g")
    process.node.lead(membership)
    enter = membership.next(True, process.now)
    assert isinstance(enter, list)
    store = MemoryStore(MemoryServer(wall=lambda: 0.0))
    store.create_group("g")
    assert agent.presence.session is not None
    store.open_session(agent.presence.session)
    membership.answered(store.commit("g", enter, by=session), process.now)
    found = store.read("g")
    assert isinstance(found, Snapshot)
    process.node.watch("g").apply(found, process.now)
    process.node.review(at(process.now))
    term = membership.term
    assert term is not None

    request = process.ask()
    while term.over is None:
        if isinstance(request, Rest):
            process.now = request.until
        else:
            process.hear(request, DOWN)
        request = process.ask()
    assert process.now == 100.0 + TTL - 0.25
