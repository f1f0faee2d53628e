"""One coordinator, as the core knows it: who it is, its session, its memberships, its readiness.

Readiness is another thing than beating. A heart that beats proves that the process lives; the
application vouches for itself with `ready`, for a time if it likes. When that has passed without
being said again, its members are unready in every group, while session and rows stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from headcount.core.backoff import Backoff
from headcount.core.membership import Desired, Identity, Membership, Phase
from headcount.core.session import Presence
from headcount.model import Seconds, Session, SessionId


class Agent:
    """`member_id` is empty for an observer, which joins nothing."""

    def __init__(
        self,
        me: Identity,
        process: str,
        ttl: Seconds,
        fresh: Callable[[], SessionId],
        *,
        beat: Seconds | None = None,
    ) -> None:
        self.me = me
        self.presence = Presence(me.instance, ttl, beat)
        self.memberships: dict[str, Membership] = {}
        self.watching = 0
        """How many of its callers watch a group: an observer that does needs a session, to tick."""
        self.closing = False
        self.ready = True
        self.ready_until = math.inf
        self.open_at = 0.0
        self.close_at = 0.0
        self._asked_ttl = ttl
        self._process = process
        self._fresh = fresh
        self._retry = Backoff(0.2, min(5.0, ttl / 6), me.instance)
        self._opened_at = -math.inf

    def membership(self, group: str) -> Membership:
        found = self.memberships.get(group)
        if found is None:
            found = Membership(group=group, me=self.me, presence=self.presence)
            self.memberships[group] = found
        return found

    def want(self, group: str, desired: Desired) -> Membership:
        found = self.membership(group)
        found.want(desired)
        return found

    def tidy(self) -> None:
        """Forget the groups that we have left for good: a process may come and go in thousands. Why we
        are out of one against our will is kept, to be told to whoever asks."""
        for group, m in list(self.memberships.items()):
            if m.forgettable:
                del self.memberships[group]

    @property
    def needs_session(self) -> bool:
        if self.presence.session is not None or self.closing:
            return False
        return self.watching > 0 or any(m.phase is not Phase.OUT for m in self.memberships.values())

    def next_session(self) -> Session:
        """A new life in the store: a session once lost is never taken up again."""
        return Session(
            id=self._fresh(),
            instance=self.me.instance,
            host=self.me.host,
            process=self._process,
            ttl=self._asked_ttl,
        )

    def open_failed(self, now: Seconds) -> None:
        self.open_at = now + self._retry.failed()

    def close_failed(self, now: Seconds) -> None:
        self.close_at = now + self._retry.failed()

    def opened(self, now: Seconds) -> None:
        """A session that is lost as soon as it was opened must not be opened again ever faster."""
        if now - self._opened_at > self.presence.beat_every:
            self._retry.reset()
        self._opened_at = now
        self.open_at = now + self._retry.failed()

    def lost(self) -> None:
        """The session is gone: every membership that was in is to come back."""
        self.presence.lost()
        for membership in self.memberships.values():
            membership.session_lost()

    def say_ready(self, ready: bool, until: Seconds = math.inf) -> None:
        self.ready, self.ready_until = ready, until

    def is_ready(self, now: Seconds) -> bool:
        return self.ready and now < self.ready_until

    @property
    def looked_at(self) -> Seconds:
        """Since when all our rows have been read; infinity if we have none."""
        return min(
            (m.looked_at for m in self.memberships.values() if m.phase is not Phase.OUT), default=math.inf
        )

    @property
    def gone(self) -> bool:
        """Whether its goodbye is complete but for the session itself."""
        return self.closing and all(m.phase is Phase.OUT for m in self.memberships.values())
