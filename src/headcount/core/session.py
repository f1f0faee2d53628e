"""One coordinator's presence in the store: when to beat, and what to believe.

      wanted            Open ─► opened                   a beat says: lost
    ─────────► closed ─────────────────► open ─────────────────────────────► closed, and wanted:
                 ▲                        │  ▲                                open another, come back
                 └────── Close ───────────┘  └─ taken · missed: beat again

Trust. A member acts on a row of its own only until

    trusted_until = asked_at + ttl - margin

of the last beat that was *taken* and whose answer carried no unread notice. `asked_at` is read before
the question leaves: a slow answer shortens trust, and never stretches it. A notice says that somebody
else touched our rows; what that beat would have given is kept back until the rows have been read by
a read that was sent after the notice arrived. Trust also ends if the time of day ran ahead of our
clock by more than the margin: the machine was frozen in a way that the clock did not see.

A store whose servers hear of a beat from one another (`Granted.margin`) may not have told the one that
would end the session yet, when it took the beat. What is sure is the beat before, if it was a while before:
so trust never goes beyond the ttl from that one. While beats come in time, the wider margin is the shorter of
the two.

`generation` counts how often trust ran out. A term remembers the one it began in.

Blind. If a notice has stayed unread for a ttl, or the watcher has finished no pass for a ttl, the heart
stops beating: better lost and back than leading what one cannot see. The time of an outage does not
count: while no beat is taken either, nobody leads, and to stop asking would turn the outage into a loss.
So the time is counted up to the last beat that was taken: whether the store serves us since then, only
the next beat can tell.
"""

from __future__ import annotations

import math

from headcount.core.backoff import Backoff
from headcount.model import Granted, Moment, Seconds, Session, SessionId

APART = 0.75
"""Part of a margin that a beat must be older than the next, to be surely known to all when that is taken: a
little less than between two beats of which the second went along with others."""


def margin_of(ttl: Seconds) -> Seconds:
    """What pays for clocks that differ in rate by up to 1 % on either side."""
    return max(0.25, ttl / 50)


class Presence:
    """The session of one coordinator, over all the sessions it will have."""

    def __init__(self, name: str, ttl: Seconds, beat: Seconds | None = None) -> None:
        self.ttl = ttl
        self.beat_every = beat if beat is not None else ttl / 3
        self._beat_part = self.beat_every / ttl
        self.session: Session | None = None
        self.generation = 0
        self.next_beat = 0.0
        self.retry_at = 0.0
        self._margin = margin_of(ttl)
        self._trust = (0.0, 0.0)
        """Until when, and by how much wall time was ahead then: one value, since others may look at it
        while we change it."""
        self._pending: tuple[float, float] | None = None
        self._notice_read = 0
        self._notice_told = 0
        self._told_at = 0.0
        self._unread_since: float | None = None
        self._taken_at = 0.0
        self.held = False
        """Whether a row in this session has had a place that others may be waiting for."""
        self._told_late = False
        """Whether those who would end the session hear of a beat only a while after it was taken."""
        self._sure_at = self._asked_at = 0.0
        """When the beat was asked that they have surely heard of, and when the next one was after it."""
        self._unserved = (0.0, 0.0)
        """From when until when no beat was taken though we asked: the last such time, perhaps not over."""
        self._retry = Backoff(min(0.1, self.beat_every / 8), self.beat_every / 2, name)

    @property
    def session_id(self) -> SessionId:
        return self.session.id if self.session else ""

    @property
    def trusted_until(self) -> Seconds:
        """The instant up to which we may act on what is ours, unless wall time runs ahead."""
        return self._trust[0]

    @property
    def unread(self) -> float | None:
        """When the newest notice was told, if our rows have not been read since."""
        return self._told_at if self._unread_since is not None else None

    def opened(self, session: Session, granted: Granted, asked: Moment, now: Moment) -> None:
        self.session = session
        self.ttl = granted.ttl
        self.beat_every = min(self.beat_every, granted.ttl * self._beat_part)  # a store may grant less
        self._margin = granted.margin if granted.margin is not None else margin_of(granted.ttl)
        self._told_late = granted.margin is not None
        self._sure_at = self._asked_at = asked.boot - granted.late
        self._pending = None
        self._notice_read = self._notice_told = 0
        self._unread_since = None
        self._unserved = (0.0, 0.0)
        self.held = False
        self.generation += 1
        self.taken(0, asked, now)

    def taken(self, notice: int, asked: Moment, now: Moment) -> None:
        """A beat asked at `asked` was taken, and its answer is here at `now`."""
        self._doubt(now)
        until = asked.boot + self.ttl - self._margin
        if now.boot >= until:
            self.missed(now)
            return
        self._retry.reset()
        if self._unserved[1] > now.boot:
            self._unserved = (self._unserved[0], now.boot)
        self._taken_at = now.boot
        if self._told_late:
            # It surely has this beat only by the next one; so it may have counted from the one before.
            until = min(until, self._sure(asked.boot) + self.ttl - margin_of(self.ttl))
        self.next_beat = asked.boot + self.beat_every
        trust = (until, asked.wall - asked.boot)
        if notice <= self._notice_read:
            self._extend(trust)
            return
        if notice > self._notice_told:
            self._notice_told = notice
            self._told_at = now.boot
        if self._unread_since is None:
            self._unread_since = now.boot
        self._pending = trust

    def _sure(self, asked: Seconds) -> Seconds:
        """When the beat was asked that they have surely heard of, now that another one was taken."""
        if asked - self._asked_at >= APART * self._margin:
            self._sure_at, self._asked_at = self._asked_at, asked
        return self._sure_at

    def missed(self, now: Moment) -> None:
        """A beat got no usable answer: try again soon, well within the interval."""
        if self._unserved[1] < math.inf:
            self._unserved = (self._taken_at, math.inf)
        self.next_beat = self.retry_at = now.boot + self._retry.failed()

    def lost(self) -> None:
        """The store has ended the session, or we have."""
        self.session = None
        self.generation += 1
        self._trust = (0.0, 0.0)
        self._pending = None
        self._unread_since = None

    def read(self, asked_at: Seconds, now: Moment) -> None:
        """All our rows have been read, by reads that were sent at `asked_at` or later."""
        if self._unread_since is None or asked_at < self._told_at:
            return
        self._doubt(now)
        self._notice_read = self._notice_told
        self._unread_since = None
        if self._pending is not None and now.boot < self._pending[0]:
            self._extend(self._pending)
        self._pending = None

    def trusts(self, now: Moment) -> bool:
        """Whether we may act on what the register said was ours."""
        until, skew = self._trust
        if now.boot >= until:
            return False
        return (now.wall - now.boot) - skew <= self._margin

    def blind(self, pass_at: Seconds | None) -> bool:
        """Whether we can no longer see what we are responsible for. `pass_at`: when the watcher last
        finished a pass; None: it watches nothing."""
        since = [at for at in (self._unread_since, pass_at) if at is not None]
        return any(self._served_for(at) > self.ttl for at in since)

    def _served_for(self, since: Seconds) -> Seconds:
        """How long, since then, the store has taken our beats. Only the last outage is left out: beats
        that fail every now and then must not keep us from going blind."""
        began, ended = self._unserved
        return self._taken_at - since - max(0.0, min(self._taken_at, ended) - max(since, began))

    def _extend(self, trust: tuple[float, float]) -> None:
        if trust[0] > self.trusted_until:
            self._trust = trust

    def _doubt(self, now: Moment) -> None:
        """Trust that has run out before it is renewed is not the same trust."""
        if not self.trusts(now):
            self.generation += 1
