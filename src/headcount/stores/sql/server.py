"""A store on a database server: what PostgreSQL and MySQL have in common, which is nearly all.

Whom it believes, and until when

    session     a row of `sessions`: it exists, and is fenced or not.  Durable.
    beat        a row of `beats`: until when it need not be fenced, its fence, and its notice (a copy of the
                session's), so that a beat reads and writes one row.  May be lost: see the life marker.
    clock       one row, and a number: (epoch, n). Moved by compare-and-set under the row's lock. On
                PostgreSQL the number is in a sequence, and no transaction takes it back: it may have moved
                where the rest has not. It was moved by who had the right to, and goes on from there.
    epoch       one row: names one history of the register. A server that is not the one that the row
                says it is (failed over, restored) begins a new one, above all that anybody can know of.

The life marker is a beat of no session, which bears the clock's epoch. Who beats and is told of fewer
sessions than it asked for looks for it. Where it is missing, or bears another epoch, the beats were lost:
under the clock's lock a new epoch of ticks begins, and every session that is not fenced gets its whole
time. Where it is there, they are asked for once more (the beats may just have been filled), and who is
missing then is lost.

Locks, always in this order:  floor ─► group ─► session ─► beat;  and  floor ─► clock ─► beat

    a beat     locks its beats alone, and tests the fence on them
    a commit   locks its group; keeps its session from being fenced; where it raises a notice, it
               changes that session and its beat
    a sweep    first a transaction that fences: it locks the clock, so that the guard counts once, and the
               overdue beats with their sessions, *waiting for none of them*: who holds one is at work, and
               is found by the next sweep. Then, group by group, commits that take rows down
    a lapse    is such a commit, but its session lives. So it looks once more, under the lock of the beat,
               whether the session is overdue still: a beat that was taken meanwhile trusts its rows

A sweep that is cut short after its fences leaves live rows of fenced sessions, which every sweep looks for.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import msgspec

from headcount.errors import (
    ConfigError,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.model import (
    Beat,
    Census,
    Claim,
    Delta,
    Entry,
    Granted,
    Mark,
    Outcome,
    Revision,
    Row,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Swept,
    Tick,
    Wish,
    deadline_ticks,
    hidden,
    when,
)
from headcount.stores.base import Together, not_empty
from headcount.stores.sql.clock import Clock, Hearing, clock_of, locked_clock, standbys
from headcount.stores.sql.collisions import again
from headcount.stores.sql.commit import Commit, no_group
from headcount.stores.sql.lines import Lines
from headcount.stores.sql.recording import Group, write_history
from headcount.stores.sql.server_options import INTERVAL, PROMISES, check
from headcount.stores.sql.server_sweep import Sweep
from headcount.stores.sql.speaking import Found, Sql
from headcount.stores.sql.statements import Migration, migrations, statements
from headcount.stores.sql.ticks import next_epoch
from headcount.stores.sql.unreadable import Reading
from headcount.stores.url import Url, password

L = TypeVar("L", bound=Hearing)

BATCH = 1000
"""Sessions in one statement."""


class Head(NamedTuple):
    """What schema this is, and which history of the register."""

    version: int
    needs: int
    history: str
    epoch: int
    interval: float
    number: int | None


class ServerStore(Reading, Together, ABC, Generic[L]):
    """One client of a store on a database server. A dialect brings its lines, and its doorbell."""

    guarantees = PROMISES
    dialect: ClassVar[str]
    """Whose SQL it speaks: the folder of its scripts."""

    def __init__(
        self,
        url: Url,
        *,
        interval: Seconds | None,
        timeout: Seconds,
        poll: Seconds,
        password_file: str | None,
    ) -> None:
        """A dialect calls it last: with what it has of its own, `_named` and `_line` have to work here."""
        check(url, password_file, interval=interval, timeout=timeout, poll=poll)
        super().__init__(url.bare)
        self.address = url.bare
        self._url = url
        self._password_file = password_file
        self._timeout = timeout
        self._poll = poll
        self._migrations: Sequence[Migration] = migrations(f"{self.dialect}/schema")
        texts = statements(f"{self.dialect}/store")
        self._statements = {name: self._named(text) for name, text in texts.items()}
        self._interval = interval
        self._seen = 0
        """The newest epoch of the register that this client has seen."""
        self.lines = Lines(self._line)

    @classmethod
    def from_url(cls, url: Url, namespace: str, options: Mapping[str, Any]) -> Self:
        """The store at a URL as SQLAlchemy and the client libraries spell it."""
        return cls(url, namespace=namespace, **options)  # type: ignore[call-arg]

    @abstractmethod
    def _line(self) -> L:
        """A line to the server, on which nobody has connected yet."""

    @abstractmethod
    def _named(self, text: str) -> str:
        """The SQL of a file with the names of this namespace in it."""

    def _password(self) -> str | None:
        return password(self._url, self._password_file)

    def schema_sql(self) -> str:
        """All that makes the tables of this namespace, as one text."""
        texts = statements(f"{self.dialect}/store")
        return self._named(printed(self._migrations, texts, self._interval))

    @abstractmethod
    def identity(self, line: L) -> str:
        """Which history of the server this is. Raises `NotPromised` if the server is too old."""

    # ── opening ──

    def open(self) -> None:
        with self.lines.watcher() as line:
            line.ask("clock")

    init = open
    """To make the store is to open it."""

    def close(self) -> None:
        self.lines.close()

    def new_epoch(self) -> int:
        """Begin a new history, and say its epoch: what to do after restoring an old register."""
        with self.lines.watcher() as line:
            self._raise_epoch(line, self.identity(line), forced=True)
        return self._seen

    def _settle(self, line: L) -> None:
        """Look at a server to which a connection was just made: is it the one that the register belongs to,
        and does it have the schema that this release knows?"""
        identity = self.identity(line)
        head = _head(line.ask("head")) if line.ask("made") else None
        newest = self._migrations[-1].number
        if head is None or head.version < newest:
            head = self._migrate(line, identity)
        if head.needs > newest:
            raise SchemaMismatch(
                f"{self.address} has schema version {head.version}, which needs a release of Headcount that "
                f"knows version {head.needs}, and this one knows up to {newest}: upgrade this one"
            )
        if head.number is None:
            raise SchemaMismatch(
                f"{self.address} has a clock without a number: its sequence was not restored with the "
                "tables, or this user may not read it; docs/stores/postgresql.md says what to do"
            )
        if self._interval not in (None, head.interval):
            raise ConfigError(
                f"{self.address} ticks every {head.interval:g} s, not every {self._interval:g} s: the "
                "interval is decided when a store is made, and is the same for all. Leave the option out"
            )
        self._interval = head.interval
        if head.history != identity or head.epoch < self._seen:
            self._raise_epoch(line, identity)
        self._seen = max(self._seen, head.epoch)

    def _migrate(self, line: L, identity: str) -> Head:
        """Make what is missing. Another process may have done it before we were alone."""
        newest = self._migrations[-1].number
        with line.making() as (sql, run):
            head = _head(sql.all("head")) if sql.all("made") else None
            version = head.version if head is not None else 0
            for migration in self._migrations:
                if migration.number > version:
                    run(migration.sql)
            if head is None:
                epoch = next_epoch(self._seen)
                sql.run("found_register", newest, 1, identity, epoch, epoch << 32)
                sql.run("found_clock", epoch, self._interval or INTERVAL, time.time())
                sql.run("set_marker", epoch)
            elif version < newest:
                sql.run("set_version", newest)
            head = _head(sql.all("head"))
        if head is None:
            raise StoreUnavailable(f"{self.address} was taken away while it was made")
        return head

    def _raise_epoch(self, line: L, identity: str, *, forced: bool = False) -> None:
        with line.writing() as sql:
            ((history, epoch, _),) = sql.all("lock_floor")
            if forced or history != identity or epoch < self._seen:
                epoch = next_epoch(self._seen, epoch)
                sql.run("raise_epoch", identity, epoch, epoch << 32)
                sql.run("raise_groups", epoch << 32, epoch << 32)
                sql.run("forget_tombstones")
                self._begin_clock(sql, epoch)
        self._seen = max(self._seen, epoch)

    # ── groups ──

    @again
    def create_group(self, group: str) -> bool:
        with self.lines.watcher() as line:
            if line.ask("group", group):
                return False
            with line.writing() as sql:
                ((_, _, floor),) = sql.all("lock_floor")
                if sql.all("group", group):
                    return False
                sql.run("create_group", group, floor + 1, floor + 1)
            self.ring(line, group)
            return True

    @again
    def delete_group(self, group: str) -> bool:
        with self.lines.watcher() as line:
            with line.writing() as sql:
                sql.all("lock_floor")
                found = sql.all("group_locked", group)
                if not found:
                    return False
                this = Group(*found[0])
                rows = self._decoded(group, Row, sql.all("rows_all", this.id))
                live = {row.member_id for row in rows if row.live}
                claims = self._decoded(group, Claim, sql.all("claims_after", this.id, 0))
                if live or claims:
                    raise not_empty(group, live, {claim.member_id for claim in claims})
                sql.run("raise_floor", this.revision)
                for table in ("rows", "marks", "claims", "tombstones", "group"):
                    sql.run(f"drop_{table}", this.id)
            self.ring(line, group)
            return True

    def groups(self) -> list[str]:
        with self.lines.watcher() as line:
            return sorted(name for (name,) in line.ask("group_names") if not hidden(name))

    # ── sessions ──

    @again
    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]:
        with self.lines.watcher() as line:
            line.connect()  # from here on the interval is known
            now, interval = time.time(), self._interval or INTERVAL
            lasting = {one.id: deadline_ticks(one.ttl, interval) for one in sessions}
            with line.writing(durable=False) as sql:
                for one in sorted(sessions, key=lambda one: one.id):
                    lasts = lasting[one.id]
                    sql.run("open_session", one.id, one.instance, one.host, one.process, one.ttl, lasts, now)
                    sql.run("open_beat", one.id, lasts, lasts, now)
                tick = Clock(*sql.all("clock")[0]).tick
        return [Granted(ttl=one.ttl, tick=tick) for one in sessions]

    @again
    def close_session(self, session: SessionId) -> None:
        """Fenced first, so that nothing of it comes after; then its rows go, and then it does."""
        with self.lines.watcher() as line:
            with line.writing(durable=False) as sql:
                sql.all("lock_session", session)
                sql.run("retire_session", session)
                sql.run("fence_beats", sql.many([session]))
                of_rows = sql.later("groups_of_sessions", sql.many([session]))
                of_claims = sql.later("groups_of_claims", session)
                groups = {name for (name,) in of_rows() + of_claims()}
            for group in sorted(groups):
                self._sweep(line).settle(group)
            with line.writing(durable=False) as sql:
                sql.run("drop_session", session)
                sql.run("drop_beat", session)

    @again
    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        with self.lines.heart() as line:
            notices: dict[SessionId, int | None] = {}
            tick: Tick | None = None
            for start in range(0, len(sessions), BATCH):
                batch = sessions[start : start + BATCH]
                taken, tick = self.beat_some(line, batch)
                missing = [session for session in batch if session not in taken]
                if missing:
                    self._fill(line)
                    again, tick = self.beat_some(line, missing)
                    taken.update(again)
                notices.update((session, taken.get(session)) for session in batch)
            return Beat(notices=notices, tick=tick or clock_of(line).tick)

    @abstractmethod
    def beat_some(self, line: L, sessions: Sequence[SessionId]) -> tuple[dict[SessionId, int], Tick | None]:
        """The notices of those that were taken; and the tick, where it came along."""

    def _fill(self, line: L) -> None:
        """If the beats were lost, begin anew: every session that is not fenced gets its whole time."""
        if line.ask("marked"):
            return
        with line.writing() as sql:
            sql.run("lock_clock")
            if not sql.all("marked"):
                self._begin_clock(sql, self._seen)

    def _begin_clock(self, sql: Sql, epoch: int) -> None:
        """A new epoch of ticks. Their number goes on, so that no deadline is far off."""
        clock = locked_clock(sql)
        ((claimed,),) = sql.all("newest_claim_epoch")
        begun = next_epoch(epoch, claimed, clock.epoch)
        sql.run("set_epoch", begun, time.time())
        sql.run("grant_all")
        sql.run("set_marker", begun)

    # ── the register ──

    @again
    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        with self.lines.watcher() as line:
            moved, outcomes = Commit(group, wishes, self._corrupt).carry_out(line)
            if moved:
                self.ring(line, group)
            return outcomes

    def read(
        self, group: str, after: Revision | None = None, *, only: Collection[str] | None = None
    ) -> Snapshot | Delta:
        with self.lines.watcher() as line, line.reading() as sql:
            of_group = sql.later("group", group)
            removed: Callable[[], Found] = list
            if only is not None:
                members = sql.many(only)
                rows, marks, claims = (
                    sql.later(f"only_{kind}", group, members) for kind in ("rows", "marks", "claims")
                )
            else:
                since = {"group": group, "after": -1 if after is None else after}
                rows, marks, claims = (
                    sql.later(f"read_{kind}", since) for kind in ("rows", "marks", "claims")
                )
                if after is not None:
                    removed = sql.later("read_removed", since)
            found = of_group()
            if not found:
                raise no_group(group)
            this = Group(*found[0])
            read_rows = tuple(self._decoded(group, Row, rows()))
            read_marks = tuple(self._decoded(group, Mark, marks()))
            read_claims = tuple(self._decoded(group, Claim, claims()))
            gone = tuple((kind, key) for kind, key in removed())
        if after is None or only is not None or not this.oldest <= after <= this.revision:
            return Snapshot(
                group=group, revision=this.revision, rows=read_rows, marks=read_marks, claims=read_claims
            )
        return Delta(
            group=group,
            after=after,
            revision=this.revision,
            rows=read_rows,
            marks=read_marks,
            claims=read_claims,
            removed=gone,
        )

    def ring(self, line: L, group: str) -> None:
        """Tell those who wait that a group has changed, where the server can."""

    def last_seen(self, group: str) -> dict[str, datetime]:
        with self.lines.watcher() as line:
            if not line.ask("group", group):
                raise no_group(group)
            return {member_id: when(at) for member_id, at in line.ask("last_seen", group)}

    def history(
        self, group: str | None = None, *, member_id: str | None = None, limit: int = 100
    ) -> list[Entry]:
        statement = "history" if group is None else "history_of_group"
        with self.lines.watcher() as line:
            found = line.ask(statement, {"group": group, "member": member_id, "limit": limit})
        return [
            Entry(**dict(zip(Entry.__struct_fields__, values, strict=True))) for values in reversed(found)
        ]

    # ── ticks ──

    def tick(self) -> Tick:
        with self.lines.heart() as line:
            self._fill(line)
            return clock_of(line).tick

    @again
    def advance(self, seen: Tick, ticker: SessionId) -> Tick:
        with self.lines.heart() as line, line.writing(durable=False) as sql:
            clock = line.heard = locked_clock(sql)
            before = msgspec.json.decode(clock.standbys)
            alive: dict[SessionId, str] = dict(sql.all("processes", sql.many([ticker, *before])))
            if (clock.epoch, clock.number) != seen.at or ticker not in alive:
                return clock.tick
            ticked = clock._replace(
                number=clock.number + 1,
                ticker=ticker,
                standbys=msgspec.json.encode(standbys(sql, clock, ticker, before, alive)).decode(),
                ticked_at=time.time(),
            )
            sql.run("set_tick", ticked.number, ticked.ticker, ticked.standbys, ticked.ticked_at)
        return ticked.tick

    @again
    def release_guard(self) -> None:
        with self.lines.watcher() as line, line.writing() as sql:
            clock = locked_clock(sql)
            sql.run("release_guard", clock.number + clock.window)
            write_history(
                sql, [Entry(at=time.time(), group="", member_id="", what="guard released", revision=0)]
            )

    @again
    def sweep(self, judge: Callable[[Census], int], *, limit: int = 500) -> Swept:
        with self.lines.watcher() as line:
            return self._sweep(line).run(judge, limit, fill=lambda: self._fill(line))

    def _sweep(self, line: L) -> Sweep:
        return Sweep(line, self._corrupt, lambda group: self.ring(line, group))


def printed(made: Sequence[Migration], texts: Mapping[str, str], interval: Seconds | None) -> str:
    """All that makes the tables, as one text. The first client that connects sees that the register belongs
    to no history yet, and begins one."""
    scripts = [f"-- {one.number:04} {one.name}\n\n{one.sql}" for one in made]
    register = texts["found_register"] % (made[-1].number, 1, "''", 0, 0)
    clock = texts["found_clock"] % (0, f"{interval or INTERVAL:g}", 0)
    return "\n".join([*scripts, f"{register};\n{clock};\n"])


def _head(found: Found) -> Head | None:
    return Head(*found[0]) if found else None
