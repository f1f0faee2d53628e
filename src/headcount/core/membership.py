"""One coordinator in one group: what it wants against what the register says, and so the next write.

Nothing here remembers what was sent. Each time, the row that was last read is held against what is
wanted, and the difference is the next write. A lost answer, a doubled one, a store that forgot, an
operator's hand: each is just another difference, found out by looking before anything is repeated.

      want                       our row is there
    ───────► joining ─────────────────────────────────► joined ─── unwant ──► leaving ──► out
               │  ▲                                       │ │
       refused │  └── session lost, row gone: come back ──┘ │
               ▼                                            ▼ a newer life under our name
      taken · expelled · no such group                  superseded, for good

Coming back is conditional. A process that lost its session enters again by itself only if there is no
row of its name, or that row's life is none newer than the newest that it knows as its own, or the row
bears its own instance: a zombie must not supersede its successor, and a lost answer must not lock
anybody out. What the application asks for (`want`) may take a name over from a predecessor on the
same host, whether or not that still runs; never from another living host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from headcount.core.backoff import Backoff
from headcount.core.leadership import TermState
from headcount.core.session import Presence
from headcount.errors import Expelled, GroupNotFound, HeadcountError, MemberTaken, Superseded
from headcount.model import (
    Amend,
    Claim,
    Committed,
    Enter,
    Kind,
    Mark,
    Moment,
    Refusal,
    Refused,
    Revision,
    Row,
    Seconds,
    Snapshot,
    Standing,
    State,
    Vacate,
    Withdraw,
    Write,
)

FREE = 2
"""Answers in a row that bring us no further before we wait between one try and the next. The first few
cost nothing: a row that moved, a group that had to be made, are everyday."""

LOOKS = 6
"""After a commit of which we do not know whether it was written, we look so often, each time after twice
as long: it may still be on its way when the first look finds nothing."""

OnConflict = Literal["take_over", "fail", "wait", "share"]


class Phase(Enum):
    JOINING = "joining"
    JOINED = "joined"
    BARRED = "barred"
    LEAVING = "leaving"
    OUT = "out"


class Step(Enum):
    """What is to be done that is not a commit."""

    LOOK = "look"
    CREATE = "create"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a coordinator is: its name, its object, its machine."""

    member_id: str
    instance: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the application asked for in one group."""

    capabilities: bytes = b""
    stand: bool = True
    create: bool = False
    on_conflict: OnConflict = "take_over"


@dataclass
class Membership:
    group: str
    me: Identity
    presence: Presence
    desired: Desired | None = None
    phase: Phase = Phase.OUT
    error: HeadcountError | None = None
    """Why it is not joined, once that is settled."""
    incarnation: Revision = 0
    newest_own: Revision = 0
    """The newest life that we know as our own; coming back is measured by it."""
    committed: Revision = 0
    """The revision of our last commit: a view that answers our own call must be no older."""
    looked_at: Seconds = float("-inf")
    not_before: Seconds = 0.0
    retry_at: Seconds = 0.0
    """After a failure: when to ask the store again."""
    look_again_at: Seconds = math.inf
    """When to look whether a commit that we gave up has been written after all."""
    following: int = 0
    """How many of our callers want to lead."""
    inside: bool = False
    """Whether a caller still acts within a term, over or not: its place is not given up before it is out."""
    term: TermState | None = None
    _shares: bool = False
    _spent: Revision = 0
    _returning: bool = False
    _lost: bool = False
    _must_look: bool = False
    _looks: int = 0
    _must_create: bool = False
    _rows: dict[str, Row] = field(default_factory=dict)
    _mark: Mark | None = None
    _claims: tuple[Claim, ...] = ()
    _told: list[Kind] = field(default_factory=list)
    _retry: Backoff = field(init=False)

    def __post_init__(self) -> None:
        # Each waits for itself: one group that fails must not keep the watcher from all the others.
        self._retry = Backoff(0.1, min(2.0, self.presence.ttl / 6), f"{self.me.instance}/{self.group}")

    # ── what the application says ──

    @property
    def key(self) -> str:
        """The key of our row: one per process for a shared member, else the member itself."""
        return f"{self.me.member_id}\x1f{self.me.instance}" if self._shares else self.me.member_id

    def want(self, desired: Desired) -> None:
        """Join. Who has joined already, or is about to, stays as it is."""
        if self.desired is not None:
            return
        self._shares = desired.on_conflict == "share"
        self._must_look |= self._shares  # rows of dead fellows are swept up with the enter
        self.desired = desired
        self.phase = Phase.JOINING
        self.error = None
        self._returning = self._lost = False
        self.not_before = self.retry_at = 0.0

    def unwant(self) -> None:
        self.desired = None
        self.step_down("left the group")
        if self.presence.session is None:
            self._out()  # what an earlier session entered went down with it
        elif self.phase is not Phase.OUT:
            self.phase = Phase.LEAVING
        self.not_before = self.retry_at = 0.0

    def update(self, capabilities: bytes) -> None:
        if self.desired is not None:
            self.desired = replace(self.desired, capabilities=capabilities)

    @property
    def settled(self) -> bool:
        return self.phase in (Phase.JOINED, Phase.OUT, Phase.BARRED)

    @property
    def forgettable(self) -> bool:
        """Whether nothing about it matters any more."""
        if self.phase is not Phase.OUT or self.desired is not None or self.error is not None:
            return False
        return not self.following and self.look_again_at == math.inf

    @property
    def waits(self) -> bool:
        """Whether it is waiting to see something in the register."""
        return self._must_look or self.phase is Phase.BARRED or self.look_again_at < math.inf

    def told(self) -> list[Kind]:
        """What has happened to us since the last call."""
        told, self._told = self._told, []
        return told

    # ── what the store says ──

    def observe(self, seen: Snapshot, asked_at: Seconds, now: Seconds) -> None:
        """Our records were read, by a question sent at `asked_at`."""
        if asked_at < self.looked_at or seen.revision < self.committed:
            self._stumbled(now, free=0)
            return  # older than what we know
        self.looked_at = asked_at
        self._must_look = self._must_create = False
        self._seen_again(now)
        self._rows = {row.key: row for row in seen.rows}
        self._note_place()
        self._mark = seen.marks[0] if seen.marks else None
        self._claims = seen.claims
        self._face()

    def answered(self, outcome: Committed | Refused, now: Seconds) -> None:
        """Our last commit was answered."""
        match outcome:
            case Committed():
                self.committed = max(self.committed, outcome.revision)
                self._rows = {row.key: row for row in outcome.rows} or self._rows
                self._note_place()
                self._claims = ()
                self._must_look = not outcome.rows
                if not outcome.rows:
                    self._stumbled(now)
                self._face()
            case Refused(reason=Refusal.BARRED) if self.phase in (Phase.JOINING, Phase.JOINED):
                self._barred()
                self.not_before = now + self.presence.ttl
            case Refused():
                self._must_look = True
                self._stumbled(now)

    def failed(self, error: HeadcountError, asked_at: Seconds, now: Seconds) -> None:
        """Our last request got no usable answer, or an error that says what is wrong."""
        if isinstance(error, GroupNotFound):
            self.looked_at = max(self.looked_at, asked_at)  # that there are no rows is seen too
            self._stumbled(now)
            self._seen_again(now)
            self._no_group(error)
        else:
            self._must_look = True
            self._stumbled(now, free=0)
            if self.phase is Phase.JOINING and not self._returning and not isinstance(error, ConnectionError):
                self._give_up(error)

    def _note_place(self) -> None:
        self.presence.held |= any(
            row.standing_since or row.shards
            for row in self._rows.values()
            if row.session == self.presence.session_id
        )

    def doubted(self, now: Seconds) -> None:
        """We do not know whether our last commit was written, or will be yet. One look does not tell:
        who does not watch the group would never learn that it came late."""
        self._looks = LOOKS
        self._seen_again(now)

    def _seen_again(self, now: Seconds) -> None:
        self.look_again_at = math.inf
        if self._looks > 0:
            self.look_again_at = now + min(1.0, self.presence.ttl / 6) * 2.0 ** (LOOKS - self._looks)
            self._looks -= 1

    def session_lost(self) -> None:
        """Our session is gone. If we were in, we come back; the newest life stays known."""
        self._looks, self.look_again_at = 0, math.inf  # what was on its way is refused now
        self.end_term("the session was lost")
        self._claims = ()
        self.committed = 0  # whoever forgot our session may have forgotten our commits
        if self.phase is Phase.JOINED:
            self._drop(Phase.JOINING)
        elif self.phase is Phase.LEAVING:
            self._out()
        self._must_look = True
        self.not_before = 0.0

    # ── what to do ──

    @property
    def row(self) -> Row | None:
        return self._rows.get(self.key)

    @property
    def ours(self) -> bool:
        """Whether the row under our key is our present life."""
        row = self.row
        return row is not None and row.live and row.session == self.presence.session_id != ""

    def next(self, ready: bool, now: Seconds) -> Sequence[Write] | Step | None:
        """The next thing to ask of the store; None: nothing, for now."""
        if self.presence.session is None or now < self.retry_at:
            return None
        if now >= self.look_again_at:
            return Step.LOOK
        if self.phase is Phase.OUT:
            return None
        if self.phase is Phase.BARRED and (acknowledged := self._acknowledge()):
            return acknowledged  # others wait for the place, however long we wait for ours
        if now < self.not_before:
            return None
        if self._must_create:
            return Step.CREATE
        if self._must_look:
            return Step.LOOK
        match self.phase:
            case Phase.LEAVING:
                return self._goodbye()
            case Phase.BARRED:
                return self._look_again(now)
            case Phase.JOINING:
                return self._enter(ready, now)
            case Phase.JOINED:
                step = self._acknowledge() or self._amend(ready)
                if step is None:
                    self._retry.reset()
                return step

    def _look_again(self, now: Seconds) -> Step:
        """Has the operator let us in again? Once in a ttl."""
        self.not_before = now + self.presence.ttl
        return Step.LOOK

    def _enter(self, ready: bool, now: Seconds) -> Sequence[Write] | Step | None:
        aliens = self._aliens()
        if any(not self._may_pass(row) for row in aliens):
            if not self._returning and self.desired is not None and self.desired.on_conflict == "wait":
                self.not_before = now + min(1.0, self.presence.ttl / 3)
                self._must_look = True
                return None
            self._refuse(aliens)
            return None
        row, desired, session = self.row, self.desired, self.presence.session
        assert desired is not None
        assert session is not None
        evict: list[Write] = [
            Withdraw(key=alien.key, incarnation=alien.incarnation, seen=alien.revision, forget=True)
            for alien in [*aliens, *self._former()]
            if alien.key != self.key
        ]
        if self._shares:
            evict += self._litter()
        return [
            *evict,
            Enter(
                key=self.key,
                member_id=self.me.member_id,
                seen=row.revision if row else 0,
                session=session.id,
                instance=self.me.instance,
                host=self.me.host,
                ttl=self.presence.ttl,  # as granted: so long we may trust it, so long a claim is kept
                capabilities=desired.capabilities,
                ready=ready,
                stand=desired.stand or self.following > 0,
                share=self._shares,
            ),
        ]

    def _aliens(self) -> list[Row]:
        """Rows of our name that stand in the way of a new life of ours."""
        rows = [row for row in self._rows.values() if not row.mode and row.instance != self.me.instance]
        if self._returning:
            return [row for row in rows if row.key == self.key or (row.live and not self._shared(row))]
        return [row for row in rows if row.live and not self._shared(row)]

    def _former(self) -> list[Row]:
        """Our own row from when we shared the name, now that we do not, or the other way round."""
        return [
            row
            for row in self._rows.values()
            if row.live and not row.mode and row.instance == self.me.instance
        ]

    def _shared(self, row: Row) -> bool:
        """Whether the row is a fellow process of a member that this one shares."""
        return self._shares and row.host == self.me.host and row.key != row.member_id

    def _may_pass(self, row: Row) -> bool:
        """Whether a life of ours may follow this one."""
        if self._returning:
            return row.incarnation <= self.newest_own
        conflict = self.desired.on_conflict if self.desired else "fail"
        return row.host == self.me.host and conflict in ("take_over", "share")

    def _litter(self) -> list[Write]:
        """Dead rows that earlier processes of this shared member left on this host."""
        return [
            Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision, forget=True)
            for row in self._rows.values()
            if not row.live and row.key != self.key and self._shared(row)
        ]

    def _amend(self, ready: bool) -> Sequence[Write] | None:
        row, desired = self.row, self.desired
        if row is None or desired is None:
            return None
        barred = self._mark is not None and self._mark.bars_standing
        standing = Standing.KEEP
        if not (desired.stand or self.following):
            standing = Standing.RESIGN if row.standing_since else Standing.KEEP
        elif ready and not barred:
            if not row.standing_since:
                standing = Standing.STAND
            elif row.standing_since <= self._spent:
                standing = Standing.ANEW
        amend = Amend(
            key=row.key,
            incarnation=row.incarnation,
            seen=row.revision,
            capabilities=desired.capabilities if desired.capabilities != row.capabilities else None,
            ready=ready if ready is not row.ready else None,
            standing=standing,
            present=row.state is State.SUSPECT,
        )
        if amend.ready is False or standing in (Standing.RESIGN, Standing.ANEW):
            # Stop acting first: once this has left, another may lead before its answer is here.
            self.step_down("gave up the place")
        idle = amend.capabilities is None and amend.ready is None and not amend.present
        return None if idle and standing is Standing.KEEP else [amend]

    def _acknowledge(self) -> Sequence[Write] | None:
        """Give up places that were taken away from us: our terms on them have ended before this, and
        whoever acted within one is out. If it stays, the place goes when it can no longer be trusted."""
        if self.inside:
            return None
        session = self.presence.session_id
        return [Vacate(claim=claim.key) for claim in self._claims if claim.session == session] or None

    def _goodbye(self) -> Sequence[Write] | None:
        row = self.row
        if row is None or not self.ours:
            self._out()
            return None
        return [Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision)]

    # ── leading ──

    def follow_lead(self, leader: Row | None, now: Moment) -> bool:
        """Whether a term of ours begins, now that `leader` is known to lead at our last reading."""
        if not self.following or self.term is not None or leader is None or not self.ours:
            return False
        if self.phase is not Phase.JOINED:
            return False  # a goodbye may be on its way
        row = self.row
        if row is None or row.key != leader.key or row.standing_since != leader.standing_since:
            return False
        if row.standing_since <= self._spent or not self.presence.trusts(now):
            return False
        self.term = TermState(self.group, row.standing_since, self.presence)
        return True

    def end_term(self, why: str) -> None:
        if self.term is not None:
            self.term.end(why)
            self._spent = max(self._spent, self.term.token)
            self.term = None

    def resign(self) -> None:
        """Give up the place, whether or not a term of ours has begun: we stand anew, behind the others."""
        self.step_down("resigned")

    def step_down(self, why: str) -> None:
        """No term begins or goes on at the place that we have now, even if nobody else takes it."""
        self.end_term(why)
        if self.row is not None and self.ours:
            self._spent = max(self._spent, self.row.standing_since)

    def review(self, now: Moment) -> bool:
        """Whether our term is over because trust ran out."""
        if self.term is None:
            return False
        self.term.review(now)
        if self.term.over is None:
            return False
        self.end_term(self.term.over)
        return True

    # ── small things ──

    def _stumbled(self, now: Seconds, free: int = FREE) -> None:
        """An answer brought us no further. Who asks again at once, again and again, asks for ever."""
        wait = self._retry.failed()
        if self._retry.failures > free:
            self.retry_at = now + wait

    def _face(self) -> None:
        """Draw the conclusions from the records that we hold now."""
        row = self.row
        if self.term is not None and (row is None or not self.ours or row.standing_since != self.term.token):
            self.end_term("the place was taken away" if row is not None else "the row is gone")
        if row is not None and row.live and row.instance == self.me.instance:
            self.newest_own = max(self.newest_own, row.incarnation)
        if self._mark is not None and self._mark.expelled and self.phase in (Phase.JOINING, Phase.JOINED):
            self._barred()
        elif self.phase is Phase.BARRED and (self._mark is None or not self._mark.expelled):
            self.phase, self.error, self.not_before = Phase.JOINING, None, 0.0
        if self.phase is Phase.JOINING and self.ours and row is not None:
            self._in(row)
        elif self.phase is Phase.JOINED and self.ours and row is not None:
            self.incarnation = row.incarnation  # an enter that was given up may have come after the look
        elif self.phase is Phase.JOINED and not self.ours:
            aliens = self._aliens()
            if any(not self._may_pass(row) for row in aliens):
                self._refuse(aliens)
            else:
                self._drop(Phase.JOINING)
        if self.phase is Phase.LEAVING and not self.ours:
            self._out()
        elif self.phase is Phase.OUT and self.ours:
            self.phase = Phase.LEAVING  # an enter that was given up has been written all the same

    def _in(self, row: Row) -> None:
        self.phase = Phase.JOINED
        self.error = None
        self.incarnation = row.incarnation
        if self._lost:
            self._told.append(Kind.REJOINED)
        self._lost = False
        self._returning = True

    def _drop(self, phase: Phase) -> None:
        """We were in, and are not any more; we mean to come back."""
        self.phase = phase
        self.incarnation = 0
        self._returning = self._lost = True
        self._told.append(Kind.LOST)

    def _out(self) -> None:
        self.phase = Phase.OUT
        self.incarnation = 0
        self._must_look = self._must_create = False
        self._rows, self._claims, self._mark = {}, (), None  # by the next time, they may be lifted

    def _barred(self) -> None:
        self.end_term("expelled")
        self.error = Expelled(
            f"{self.me.member_id!r} was expelled from group {self.group!r} by an operator; "
            f"`headcount mark {self.group} {self.me.member_id} --no-expelled` lets it in again"
        )
        if self.phase is Phase.JOINED:
            self._drop(Phase.BARRED)
        elif self._returning:
            self.phase = Phase.BARRED
        else:
            self._give_up(self.error)

    def _refuse(self, aliens: list[Row]) -> None:
        name, host = self.me.member_id, aliens[0].host
        if self._returning:
            self._told.append(Kind.SUPERSEDED)
            self._give_up(
                Superseded(
                    f"{name!r} in group {self.group!r} is another process now, on host {host!r}; "
                    "this one stays out. Join again to take the name back"
                )
            )
        else:
            self._give_up(
                MemberTaken(
                    f"{name!r} in group {self.group!r} is a living member on host {host!r}; "
                    'choose another member_id, wait for it (on_conflict="wait"), or expel it first'
                )
            )

    def _give_up(self, error: HeadcountError) -> None:
        self._out()
        self.desired = None
        self.error = error

    def _no_group(self, error: GroupNotFound) -> None:
        self._must_look = False
        if self.phase in (Phase.LEAVING, Phase.OUT):
            self._out()
        elif self.phase is Phase.BARRED:
            self._rows, self._claims = {}, ()  # whoever was put out does not make the group again
        elif self._returning or (self.desired is not None and self.desired.create):
            self._rows, self._claims = {}, ()
            self._must_create = True
            if self.phase is Phase.JOINED:
                self.end_term("the group is gone")
                self._drop(Phase.JOINING)
        elif self.phase is Phase.JOINING:
            self._give_up(error)

    def created(self) -> None:
        """The group is there now."""
        self._must_create = False
