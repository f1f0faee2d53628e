"""The store contract: sessions that expire, and per group an ordered register whose rows belong to them.

A store translates between this contract and one backend, and does nothing else. It has no retries,
no timers, no caches of what the backend holds, and no threads. What the records mean is decided in
`headcount.register`, what to do next in `headcount.core`.

Who calls it. Two threads, never more at once, and each always the same for its methods:

    the heart    beat · tick · advance
    the watcher  everything else; the doorbell it got from `doorbell()` is waited on by it alone

so that a register that is slow or locked delays nobody's beat. `close` is called last, by either.

What it raises. `StoreUnavailable` when nothing was written, `OutcomeUnknown` when something may have
been; `AccessDenied`, `ReadOnlyStore`, `SchemaMismatch`, which are not retried; `GroupNotFound`. A
record that cannot be decoded is skipped and handed to `on_corrupt`; the rest is served. Every call
returns or raises within about `timeout` seconds, whatever the backend does.

Order. The revision of a group is taken under the group's lock in the commit that writes, so that
revision order is commit order, without gaps. Where a store has histories (`epoch`), a revision is
`epoch << 32 | n`, and raising the epoch raises every later revision above all earlier ones.

Ticks. On a store whose sessions do not expire by themselves (`TickingStore`):

    beat      tests that the session is not fenced, and writes `deadline = max(deadline, tick + D)`
              with `D = deadline_ticks(ttl, interval)`, under one lock with the fence
    sweep     tests `deadline <= tick` under that same lock, fences, and marks the rows down

so that the two cannot pass each other. The notice that a beat reports is read after the beat is
taken, or in the same transaction: never before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from headcount.errors import GroupNotEmpty
from headcount.model import (
    Beat,
    Census,
    Delta,
    Entry,
    Expect,
    Granted,
    Guarantees,
    Outcome,
    Revision,
    Ring,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Swept,
    Tick,
    Wish,
    Write,
)

TOMBSTONES = 1000
"""How many removals a group remembers, for deltas; a reader further behind gets a snapshot."""

WINDOW: Seconds = 30.0
"""Over which the guard counts expiries."""

HISTORY = 10_000
"""How many lines of history a group keeps."""


log = logging.getLogger("headcount")


def log_corrupt(message: str) -> None:
    """What a store's `on_corrupt` is, unless somebody wants to know it otherwise."""
    log.error("%s", message)


def not_empty(group: str, live: Collection[str], claiming: Collection[str]) -> GroupNotEmpty:
    """Why a group is not deleted: these members are in it, or only places of these are not free yet."""
    if live:
        what = f"still has {len(live)} member{'' if len(live) == 1 else 's'}: "
        some = live
    else:
        what = "has no members, but places in it are not free before their time is over: "
        some = claiming
    return GroupNotEmpty(
        f"group {group!r} {what}{', '.join(sorted(some)[:3])}{', …' if len(some) > 3 else ''}"
    )


class Doorbell(Protocol):
    def wait(self, timeout: Seconds) -> Ring:
        """Wait until a group may have changed since the last `wait`, or the time is over (an empty
        ring), or `wake` was called. May ring twice for one change, and for none."""
        ...

    def wake(self) -> None:
        """End the current or the next wait at once. The only method that any thread may call."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """One connection, or a few, to a backend. Made without touching it; `open` connects."""

    @property
    def guarantees(self) -> Guarantees: ...

    @property
    def address(self) -> str:
        """Where it is, for messages: never with a password."""
        ...

    on_corrupt: Callable[[str], object]
    """Told of what cannot be read. At first, `log_corrupt`."""

    def open(self) -> None:
        """Connect, and create or migrate what is missing where the store may. Once open, nothing to do."""
        ...

    def close(self) -> None:
        """Let go of everything. Returns whether the backend is up or down. Nobody calls it while another
        call is under way."""
        ...

    def create_group(self, group: str) -> bool:
        """Create it; False if it was there."""
        ...

    def delete_group(self, group: str) -> bool:
        """Delete it with its dead rows and marks; False if there was none. Raises `GroupNotEmpty` while
        it has live rows or claims. A group made again under the name starts at a higher revision."""
        ...

    def groups(self) -> list[str]:
        """The ids of all groups that are not hidden, sorted."""
        ...

    def open_session(self, session: Session) -> Granted:
        """Begin a session. It counts as a beat, and where there are ticks the answer bears the tick.
        Opening it twice under one id has no further effect."""
        ...

    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]:
        """Begin all of these, in one go where the backend can. If it raises, some may be open."""
        ...

    def close_session(self, session: SessionId) -> None:
        """Its owner is done with it, and trusts nothing of it any more: end it at once, if it is not over.
        What rows it still has go down as if it had expired, and claims of it go."""
        ...

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        """Renew these sessions, in one round trip where the backend can."""
        ...

    def commit(
        self, group: str, writes: Sequence[Write], expect: Collection[Expect] = (), *, by: SessionId = ""
    ) -> Outcome:
        """All of these writes, or none. `by` is the session that writes; empty: an operator."""
        ...

    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        """What several ask for, one after the other, as if each had come by itself; to each its answer. In
        one go, where the backend can: so a crowd that joins at once is one transaction and not a hundred.
        If it raises `OutcomeUnknown`, any of them may have been carried out; if anything else, none."""
        ...

    def read(
        self, group: str, after: Revision | None = None, *, only: Collection[str] | None = None
    ) -> Snapshot | Delta:
        """The group at one revision, or what changed after one. `only`: a snapshot of the records of
        these members alone."""
        ...

    def doorbell(self) -> Doorbell: ...

    def last_seen(self, group: str) -> Mapping[str, datetime]:
        """Per live member, the wall time of its last beat: for people, read on demand."""
        ...

    def history(
        self, group: str | None = None, *, member_id: str | None = None, limit: int = 100
    ) -> list[Entry]:
        """What was committed, newest last."""
        ...


class Together(Protocol):
    """For a store that does several at once: one is several of which there is one."""

    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]: ...
    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]: ...

    def open_session(self, session: Session) -> Granted:
        (granted,) = self.open_sessions([session])
        return granted

    def commit(
        self, group: str, writes: Sequence[Write], expect: Collection[Expect] = (), *, by: SessionId = ""
    ) -> Outcome:
        (outcome,) = self.commit_together(group, [Wish(writes, expect, by)])
        return outcome


@runtime_checkable
class TickingStore(Store, Protocol):
    """A store whose sessions do not expire by themselves. `Beat.tick` is always there."""

    def tick(self) -> Tick: ...

    def advance(self, seen: Tick, ticker: SessionId) -> Tick:
        """Compare-and-set from `seen` to the next number; answers with the tick as it is then,
        whoever moved it. The ticker moves into the row; of the standbys that are still live those
        stay, and empty places are filled with other live sessions, of other processes first."""
        ...

    def sweep(self, judge: Callable[[Census], int], *, limit: int = 500) -> Swept:
        """Under the tick's lock: find the overdue sessions, ask `judge` how many may be fenced now,
        fence those (the longest overdue first) and mark their rows down; lapse the others. Then set
        `vacates_at = tick + D` on claims that have none, and remove claims whose time has come or
        whose session is gone. Resumes what an earlier sweep left. Also forgets old tombstones and
        history."""
        ...

    def release_guard(self) -> None:
        """An operator's word that the overdue are dead: for one window, the guard holds nobody back. The
        history says so, under no group."""
        ...
