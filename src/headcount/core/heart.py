"""The heart's part: which sessions beat now, and whether to move the store's clock.

All sessions of a process that are due, or nearly so, go in one batch. The session that ticks for the
process beats every interval besides, so that only who was just served may tick.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headcount.core.backoff import Backoff
from headcount.core.expiry import LATE
from headcount.core.session import Presence
from headcount.core.work import HEART, DoAdvance, DoBeat, HeartRequest, Rest
from headcount.errors import HeadcountError
from headcount.model import Beat, Moment, Seconds, SessionId, Tick

if TYPE_CHECKING:
    from headcount.core.node import Node

BATCH = 1000
"""Sessions in one beat."""

SOON = 0.2
"""Part of its interval by which a session may beat early, to go along with others."""

LONGEST = 1.0
"""Seconds of rest after which the heart looks again in any case."""


class Heart:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._retry = Backoff(0.05, 0.5, "heart")
        self._not_before = 0.0
        self._beaten_at = 0.0
        self._rests_until = 0.0
        self._expected = False

    def expect(self, at: Seconds) -> None:
        """Something has come up that the heart will have to see to at `at`, or look at before."""
        self._expected |= at < self._rests_until

    def hurried(self) -> bool:
        """Whether it must not rest as long as it said. To look at every session each time that the
        watcher has done something would cost the square of their number."""
        expected, self._expected = self._expected, False
        return expected

    def next(self, now: Moment) -> HeartRequest:
        """What to do now, or until when to rest."""
        node, at = self._node, now.boot
        node.review(now)
        if at < self._not_before:
            return self._rest(min(self._not_before, node.trust_ends(at)))
        if not node.by_session:
            node.served(HEART, at)  # nothing is asked of it that could fail
        seeing = self._seeing()
        advance_at = node.clock.advance_at(seeing) if self._may_tick(at) else math.inf
        if at >= advance_at and node.clock.tick is not None:
            return DoAdvance(node.clock.tick, node.clock.hand(seeing))
        due, next_at = self._due(at, seeing)
        if due:
            return DoBeat(tuple(due[:BATCH]))
        return self._rest(min(next_at, advance_at, node.trust_ends(at), at + LONGEST))

    def _rest(self, until: Seconds) -> Rest:
        self._rests_until = until
        return Rest(until)

    def _may_tick(self, at: Seconds) -> bool:
        """Whoever moves the clock also sweeps. If our watcher does not get to it, somebody else must do
        both: else the clock runs on, and the overdue are never found."""
        clock, unswept = self._node.clock, self._node.unswept
        if not self._node.ticks or clock.tick is None:
            return False
        return unswept is None or at - unswept <= LATE * clock.tick.interval

    def _seeing(self) -> dict[SessionId, Presence]:
        """The sessions that are not blind. One that is neither beats nor ticks: the store may have
        ended it without our hearing of it."""
        node = self._node
        return {
            session: agent.presence
            for session, agent in node.by_session.items()
            if not agent.presence.blind(node.pass_at if agent.watching else None)
        }

    def _due(self, at: Seconds, seeing: dict[SessionId, Presence]) -> tuple[list[SessionId], Seconds]:
        """The sessions to beat now, and when the next one is to."""
        node = self._node
        hand, hand_at = "", math.inf
        if node.ticks:
            hand = node.clock.hand(seeing)
            hand_at = node.clock.beat_at(seeing, self._beaten_at)
        due, soon, next_at = [], [], math.inf
        for session, presence in seeing.items():
            beat_at = presence.next_beat
            if session == hand:
                beat_at = min(beat_at, max(hand_at, presence.retry_at))
            if beat_at <= at:
                due.append(session)
            elif beat_at - at < presence.beat_every * SOON:
                soon.append(session)
            next_at = min(next_at, beat_at)
        return (due + soon if due else []), next_at

    def done(
        self, request: HeartRequest, asked: Moment, now: Moment, answer: Beat | Tick | HeadcountError | None
    ) -> None:
        """The request was carried out: asked at `asked`, answered at `now`."""
        node = self._node
        match request, answer:
            case _, HeadcountError():
                self._failed(request, answer, now)
            case DoBeat(), Beat():
                self._served(now)
                self._beaten_at = asked.boot
                if answer.tick is not None:
                    taken = any(notice is not None for notice in answer.notices.values())
                    node.clock.heard(answer.tick, now.boot, beaten=taken)
                self._take(answer, asked, now)
            case DoAdvance(seen, ticker), Tick():
                self._served(now)
                node.clock.heard(answer, now.boot)
                if answer.at == seen.at:
                    node.clock.refused()
                if answer.at == (seen.epoch, seen.number + 1) and answer.ticker == ticker:
                    node.sweep = True
                    node.unswept = now.boot if node.unswept is None else node.unswept
            case _:
                pass
        node.review(now)

    def _take(self, answer: Beat, asked: Moment, now: Moment) -> None:
        node = self._node
        for session, notice in answer.notices.items():
            agent = node.by_session.get(session)
            if agent is None:
                continue
            if notice is None:
                node.lose(agent)
                continue
            agent.presence.taken(notice, asked, now)
            agent.presence.read(agent.looked_at, now)  # whoever has no rows has read them all
            if agent.presence.unread is not None:
                node.watcher.poke(agent)

    def _served(self, now: Moment) -> None:
        self._retry.reset()
        self._node.served(HEART, now.boot)

    def _failed(self, request: HeartRequest, error: HeadcountError, now: Moment) -> None:
        self._node.failed(HEART, error, now.boot)
        # Within a third of its ttl each session has to be tried again, and half of that goes for waiting
        # for an answer: after an outage so little may be left of it, and ticks follow at once.
        shortest = min((a.presence.beat_every for a in self._node.by_session.values()), default=math.inf)
        self._not_before = now.boot + min(self._retry.failed(), shortest / 2)
        if isinstance(request, DoAdvance):
            self._node.clock.refused()
        elif isinstance(request, DoBeat):
            for session in request.sessions:
                agent = self._node.by_session.get(session)
                if agent is not None:
                    agent.presence.missed(now)
