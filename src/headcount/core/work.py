"""What a hand may be asked to do, and what the application hears of it. Values, and nothing else.

    heart    DoBeat (all sessions that are due, in one batch) · DoAdvance (the store's clock) · Rest
    watcher  DoOpen · DoClose · DoCommit · DoCreate · DoLook (one member) · DoRead (a group) · DoSweep
             · DoTogether (what several ask, in one go) · Listen (at the doorbell)

What a hand brings back is the store's answer, or the error that the store raised.
"""

from __future__ import annotations

from dataclasses import dataclass

from headcount.errors import HeadcountError
from headcount.model import (
    Change,
    Committed,
    Delta,
    Granted,
    Kind,
    Outcome,
    Refused,
    Revision,
    Ring,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Swept,
    Tick,
    Write,
)


@dataclass(frozen=True, slots=True)
class DoBeat:
    sessions: tuple[SessionId, ...]


@dataclass(frozen=True, slots=True)
class DoAdvance:
    seen: Tick
    ticker: SessionId


@dataclass(frozen=True, slots=True)
class Rest:
    until: Seconds


@dataclass(frozen=True, slots=True)
class DoOpen:
    instance: str
    session: Session


@dataclass(frozen=True, slots=True)
class DoClose:
    instance: str
    session: SessionId


@dataclass(frozen=True, slots=True)
class DoCommit:
    group: str
    writes: tuple[Write, ...]
    by: SessionId
    instance: str = ""


@dataclass(frozen=True, slots=True)
class DoTogether:
    """Sessions to be opened, or commits to one group: of different coordinators, and more than one. The
    answers come in the same order, or there is one error for all."""

    requests: tuple[DoOpen | DoCommit, ...]


@dataclass(frozen=True, slots=True)
class DoCreate:
    group: str
    instance: str


@dataclass(frozen=True, slots=True)
class DoLook:
    group: str
    member_id: str
    instance: str


@dataclass(frozen=True, slots=True)
class DoRead:
    group: str
    after: Revision | None


@dataclass(frozen=True, slots=True)
class DoSweep:
    pass


@dataclass(frozen=True, slots=True)
class Listen:
    until: Seconds
    doorbell: bool


HeartRequest = DoBeat | DoAdvance | Rest
ForMembership = DoCommit | DoCreate | DoLook
WatchRequest = DoOpen | DoClose | ForMembership | DoTogether | DoRead | DoSweep | Listen
WatchAnswer = (
    Granted
    | Committed
    | Refused
    | list[Granted]
    | list[Outcome]
    | Snapshot
    | Delta
    | Swept
    | Ring
    | bool
    | None
)


def parts(request: WatchRequest) -> tuple[WatchRequest, ...]:
    """The requests of which this one consists."""
    return request.requests if isinstance(request, DoTogether) else (request,)


@dataclass(frozen=True, slots=True)
class Told:
    """Changes of a group, for all who watch it."""

    group: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class ToldSelf:
    """What happened to one coordinator's own membership."""

    instance: str
    group: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class OutageBegan:
    error: HeadcountError


@dataclass(frozen=True, slots=True)
class OutageEnded:
    seconds: Seconds


Tiding = Told | ToldSelf | OutageBegan | OutageEnded


HEART = "heart"
"""The kind of all that the heart asks; the watcher's kinds are named after its requests."""

FORGOTTEN = 10.0
"""Seconds after which a kind of request that failed, and was not made again, is wanted no longer. Whatever
is wanted is tried again sooner."""


class Outage:
    """One outage, from the first failure of any kind of request until each kind that failed has succeeded
    again, or is wanted no longer. A store that can be read, but not written to, is one outage; not one
    at each write, ended by the read that follows."""

    def __init__(self) -> None:
        self.since: Seconds | None = None
        self.error: HeadcountError | None = None
        self._failing: dict[str, Seconds] = {}

    def failed(self, kind: str, error: HeadcountError, now: Seconds) -> OutageBegan | None:
        self._failing[kind] = now
        self.error = error
        if self.since is not None:
            return None
        self.since = now
        return OutageBegan(error)

    def fails(self, kind: str) -> bool:
        return kind in self._failing

    def served(self, kind: str, now: Seconds) -> OutageEnded | None:
        self._failing.pop(kind, None)
        if self.since is None:
            return None
        self._failing = {k: at for k, at in self._failing.items() if now - at < FORGOTTEN}
        return self._end(now)

    def idle(self, now: Seconds) -> OutageEnded | None:
        """The watcher wants nothing any more that could fail."""
        self._failing = {k: at for k, at in self._failing.items() if k == HEART}
        return self._end(now)

    def _end(self, now: Seconds) -> OutageEnded | None:
        if self.since is None or self._failing:
            return None
        seconds, self.since, self.error = now - self.since, None, None
        return OutageEnded(seconds)
