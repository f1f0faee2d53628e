"""The words of Headcount, as frozen values. No behaviour beyond what a value can say of itself.

Three kinds of record make up the register of a group, and every one of them bears the revision at
which it was last written:

    Row     one participant's entry: who, which life of it, up or down, since when it stands to lead
    Mark    what an operator said of (group, member), before, during and after its lives
    Claim   the place of a row that somebody else took away, kept while its owner may still trust it

A `Row` has a *key* that need not be its member_id: a lock has one row per acquire, a shared member
one per process, an assignment one for its plan. Whoever lists members groups rows by member_id.

Times: `float` seconds of a clock that is named where it is used; wall-clock times (`since`, `at`) are
Unix seconds, are for people, and decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Seconds: TypeAlias = float
Revision: TypeAlias = int
SessionId: TypeAlias = str


class Status(StrEnum):
    """What a member is to those who look at it."""

    UP = "up"
    UNREADY = "unready"
    SUSPECT = "suspect"
    DOWN = "down"
    LEFT = "left"


class Kind(StrEnum):
    """What a `Change` tells."""

    JOINED = "joined"
    LEFT = "left"
    DOWN = "down"
    UPDATED = "updated"
    MARKED = "marked"
    LEADER = "leader"
    RESYNC = "resync"
    DEGRADED = "degraded"
    STEADY = "steady"
    LOST = "lost"
    REJOINED = "rejoined"
    SUPERSEDED = "superseded"


# ── what an application sees ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One participant of a group, as a view shows it.

    `since` is when its status last changed, by the wall clock of whoever wrote it: for people.
    """

    group_id: str
    member_id: str
    incarnation: int
    status: Status
    since: datetime
    capabilities: bytes = b""
    disabled: str | None = None
    forced_down: bool = False
    expelled: bool = False

    @property
    def present(self) -> bool:
        """Whether it counts as a member now: up, or merely suspected, and not forced down."""
        return self.status in (Status.UP, Status.SUSPECT) and not self.forced_down

    @property
    def usable(self) -> bool:
        """Whether to give it work: up, ready, enabled and not forced down."""
        return self.status is Status.UP and self.disabled is None and not self.forced_down


class View(Mapping[str, Member]):
    """An immutable picture of a group at a revision: every known member, also down and left ones.

    `leader`: who leads, as every member agrees; None if nobody stands, or a place is being handed over. It
    tells whom to ask. Whoever acts as the leader asks its `Term`, for a view may be behind."""

    __slots__ = ("_confirmed", "_members", "_now", "_up", "degraded", "group_id", "leader", "revision")

    def __init__(
        self,
        group_id: str,
        revision: Revision,
        members: Mapping[str, Member],
        *,
        leader: Member | None = None,
        degraded: str | None = None,
        confirmed: list[float],
        now: Callable[[], float],
    ) -> None:
        self.group_id = group_id
        self.revision = revision
        self.leader = leader
        self.degraded = degraded
        self._members = members
        self._confirmed = confirmed
        self._now = now
        self._up: tuple[Member, ...] | None = None

    @property
    def age(self) -> float:
        """Seconds since the store last confirmed that this is how the group stands."""
        return max(0.0, self._now() - self._confirmed[0])

    @property
    def up(self) -> tuple[Member, ...]:
        """The members that are here: up or suspect, not forced down. Sorted by member_id."""
        if self._up is None:
            found = map(self._members.__getitem__, sorted(self._members))
            self._up = tuple(member for member in found if member.present)
        return self._up

    def __getitem__(self, member_id: str) -> Member:
        return self._members[member_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        leader = self.leader.member_id if self.leader else None
        return f"<View of {self.group_id!r} at {self.revision}: {len(self)} known, leader {leader!r}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two views. `view` is the newer one.

    `member` is how it is now (None: no longer known), `before` how it was (None: not known before).
    """

    kind: Kind
    view: View
    member: Member | None = None
    before: Member | None = None


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


class Moment(NamedTuple):
    """Two clocks read together: `boot` runs on in a suspended machine and never jumps; `wall` is the
    time of day, kept to notice that the machine was frozen in a way `boot` could not see."""

    boot: float
    wall: float


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A reading of the store's clock, with who moves it. Ticks of two epochs cannot be compared."""

    epoch: int
    number: int
    interval: Seconds = 1.0
    ticker: SessionId = ""
    standbys: tuple[SessionId, ...] = ()
    ticked_at: float = 0.0

    @property
    def at(self) -> tuple[int, int]:
        return (self.epoch, self.number)


# ── sessions ─────────────────────────────────────────────────────────────────────────────────────


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One coordinator's presence in the store.

    `instance` names the coordinator object over all its sessions, `host` the machine (so that a
    restart there may take its own name back), `process` the operating system's process.
    """

    id: SessionId
    instance: str
    host: str
    process: str
    ttl: Seconds


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """What the store gave: the ttl it will keep to, a margin where it needs a wider one, and the tick at
    which the session began, where the store has ticks.

    `late`: with a margin, how long before the question those who would end the session have surely heard of
    us last. Not 0 where the session shares the life of others, which this one does not begin."""

    ttl: Seconds
    margin: Seconds | None = None
    late: Seconds = 0.0
    tick: Tick | None = None


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a beat: per session its notice, or None if the session is lost; and the tick. Of a
    session that is not named nothing is said, and nothing is extended: it has to be beaten again."""

    notices: Mapping[SessionId, int | None]
    tick: Tick | None = None


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard judges by. Only sessions that have rows are counted."""

    live: int
    expired: int
    overdue: int


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep did; `more` if its limit left something for another one."""

    fenced: tuple[SessionId, ...] = ()
    lapsed: tuple[SessionId, ...] = ()
    vacated: int = 0
    more: bool = False


# ── the register ─────────────────────────────────────────────────────────────────────────────────


class State(StrEnum):
    """What a row says of its participant. (`unready` is a live row whose `ready` is false.)"""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    LEFT = "left"


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the register. `standing_since` is the revision at which it stood (0: it does not)
    and *is* the fencing token. `session` is empty for a row that belongs to nobody (a plan)."""

    key: str
    member_id: str
    incarnation: Revision
    revision: Revision
    state: State
    session: SessionId
    instance: str
    host: str
    ttl: Seconds = 0.0
    ready: bool = True
    standing_since: Revision = 0
    capabilities: bytes = b""
    shards: frozenset[int] = frozenset()
    mode: str = ""
    since: float = 0.0

    @property
    def live(self) -> bool:
        return self.state in (State.UP, State.SUSPECT)


class Mark(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an operator said of `(group, member_id)`."""

    member_id: str
    revision: Revision
    disabled: str | None = None
    forced_down: bool = False
    expelled: bool = False
    since: float = 0.0

    @property
    def bars_standing(self) -> bool:
        return self.disabled is not None or self.forced_down or self.expelled


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A place that was taken away from a row whose owner may still trust it.

    `key` is unique in the group; `row` is the key of the row it was taken from.
    """

    key: str
    row: str
    member_id: str
    incarnation: Revision
    revision: Revision
    session: SessionId
    ttl: Seconds
    standing_since: Revision = 0
    shards: frozenset[int] = frozenset()
    mode: str = ""


Record: TypeAlias = Row | Mark | Claim
RecordKind: TypeAlias = Literal["row", "mark", "claim"]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The records of a group at a revision: all of them, or those of the members that were asked for."""

    group: str
    revision: Revision
    rows: tuple[Row, ...] = ()
    marks: tuple[Mark, ...] = ()
    claims: tuple[Claim, ...] = ()


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What was written after revision `after`, and what was removed. Without gaps, or the store
    answers with a `Snapshot` instead."""

    group: str
    after: Revision
    revision: Revision
    rows: tuple[Row, ...] = ()
    marks: tuple[Mark, ...] = ()
    claims: tuple[Claim, ...] = ()
    removed: tuple[tuple[RecordKind, str], ...] = ()


# ── writes ───────────────────────────────────────────────────────────────────────────────────────


class Standing(StrEnum):
    """What an amend does to a row's standing. To stand while standing changes nothing; `ANEW` gives
    up the place and takes a new one behind the others."""

    KEEP = "keep"
    STAND = "stand"
    RESIGN = "resign"
    ANEW = "anew"


class Enter(msgspec.Struct, frozen=True, kw_only=True):
    """Begin a life. `seen` is the revision of the row found under `key` (0: none was found)."""

    key: str
    member_id: str
    seen: Revision
    session: SessionId
    instance: str
    host: str
    ttl: Seconds
    capabilities: bytes = b""
    ready: bool = True
    stand: bool = True
    share: bool = False
    shards: frozenset[int] = frozenset()
    mode: str = ""


class Amend(msgspec.Struct, frozen=True, kw_only=True):
    """Change one's own live row. None keeps what is there; `present` takes back a suspicion."""

    key: str
    incarnation: Revision
    seen: Revision
    capabilities: bytes | None = None
    ready: bool | None = None
    standing: Standing = Standing.KEEP
    present: bool = False
    shards: frozenset[int] | None = None


class Withdraw(msgspec.Struct, frozen=True, kw_only=True):
    """End a life: the owner's goodbye, or (by another) taking it away. `forget` removes the row from
    all lists. `fenced`: an operator vouches that the owner is dead, so that no claim is kept."""

    key: str
    incarnation: Revision
    seen: Revision
    forget: bool = False
    fenced: bool = False


class Remark(msgspec.Struct, frozen=True, kw_only=True):
    """Set the marks of a member to exactly these. `seen` is the revision of the mark found (0: none)."""

    member_id: str
    seen: Revision
    disabled: str | None = None
    forced_down: bool = False
    expelled: bool = False
    fenced: bool = False


class Vacate(msgspec.Struct, frozen=True, kw_only=True):
    """Give up a claim: the owner acknowledges. `waited`: on a store that expires sessions itself,
    somebody else has watched the claim for its ttl and margin; refused where ticks tell the time."""

    claim: str
    waited: bool = False


Write: TypeAlias = Enter | Amend | Withdraw | Remark | Vacate


class Unchanged(msgspec.Struct, frozen=True, kw_only=True):
    """Expect the row under `key` at this revision (0: no such row)."""

    key: str
    revision: Revision


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """Expect the row under `key` to be up and to have stood since `token`."""

    key: str
    token: Revision


class Empty(msgspec.Struct, frozen=True, kw_only=True):
    """Expect that no live row and no claim holds any of these shards."""

    shards: frozenset[int]


Expect: TypeAlias = Unchanged | Stands | Empty


class Wish(msgspec.Struct, frozen=True):
    """What is asked of a group: all of these writes, or none. `by` is the session that writes; empty: an
    operator."""

    writes: Sequence[Write]
    expect: Collection[Expect] = ()
    by: SessionId = ""


class Refusal(StrEnum):
    STALE = "stale"
    """The row is another than the one that the write has seen."""
    FENCED = "fenced"
    """The session of the write is lost."""
    BARRED = "barred"
    """The member was expelled, and nobody has lifted that."""
    UNMET = "unmet"
    """What the commit expects is not so."""


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """All of it was written. `revision` is the group's, `rows` those that the commit wrote; a commit
    that changes nothing writes nothing and keeps the revision."""

    revision: Revision
    rows: tuple[Row, ...] = ()
    claims: tuple[Claim, ...] = ()


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was written, and why. An answer, not an error."""

    reason: Refusal
    key: str = ""
    row: Row | None = None


Outcome: TypeAlias = Committed | Refused


class Ring(msgspec.Struct, frozen=True, kw_only=True):
    """What the doorbell says: groups that may have changed, with the row keys where they are known
    (None: any of them); `groups` None means that any group may have changed. `lost` names sessions
    that the store has said to be lost."""

    groups: Mapping[str, frozenset[str] | None] | None = msgspec.field(default_factory=dict)
    lost: frozenset[SessionId] = frozenset()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a group's history: what was committed, by whom, and why. `at` is wall time."""

    at: float
    group: str
    member_id: str
    what: str
    who: str = ""
    revision: Revision = 0
    detail: str = ""


# ── what a store promises ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantees:
    """What a store can promise; the conformance suite proves each line, `docs/guarantees.md` lists them.

    scope              who can share it: the threads of a process, the processes of a host, a network
    expiry             who decides that a session is overdue: our ticks, the store's own sessions, gossip
    deltas             `read(after=)` can answer with the difference
    stall_safe         an outage that stops everybody's beats expires nobody, however long it lasts
    exclusive          trusted intervals never overlap: one leader, one holder, one owner
    durable            groups, marks and tokens survive a restart of the store
    advisory_failover  after an asynchronous failover `exclusive` does not hold across the epoch
    max_capabilities   bytes of capabilities that one member can publish
    precision          seconds by which an expiry may come late, beyond what the ttl and ticks say
    recheck            seconds between looks that do not wait for the doorbell; None: it drops nothing
    """

    scope: Literal["process", "host", "network"]
    expiry: Literal["ticks", "sessions", "gossip"]
    deltas: bool
    stall_safe: bool
    exclusive: bool
    durable: bool
    advisory_failover: bool
    max_capabilities: int
    precision: Seconds
    recheck: Seconds | None


HIDDEN = "\x1f"
"""Groups whose id begins with this are nobody's to list: locks and plans live there. An id that a
person chooses is printable, so the two can never meet."""


def hidden(group: str) -> bool:
    """Whether a group is one that no listing shows."""
    return group.startswith(HIDDEN)


def deadline_ticks(ttl: Seconds, interval: Seconds) -> int:
    """D: how many ticks after the one that a beat met, its session is overdue.

    The one more than the ttl itself pays for a beat that lands at the very end of a tick: without
    it the next tick, which may follow at once, would be counted as a whole interval.
    """
    return math.ceil(ttl / interval) + 1


def when(at: float) -> datetime:
    """Wall-clock seconds as people read them."""
    return datetime.fromtimestamp(at, UTC)
