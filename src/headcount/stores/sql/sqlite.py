"""SQLite: the store of one host, and the default. Needs no server and no library.

    sqlite:///relative.db       sqlite:////absolute/path.db?interval=0.5

Two files. PATH is the register: what is durable, one write lock for all, each commit on the disk before
it is answered. PATH-beats is what is volatile: the clock and the deadlines, written all the time,
under a lock of its own, so that a register that is slow, locked or being copied delays nobody's beat.
A namespace other than `default` has files of its own, PATH.NAMESPACE and PATH.NAMESPACE-beats.

Whom it believes, and until when

    session     in the register: it exists, and is fenced or not.  Who has fenced it, is believed.
    deadline    in the beats: until when it need not be fenced.    Lost with its file; then everybody
                                                                   gets a whole ttl anew.
    clock       in the beats: (epoch, n). Moved by compare-and-set; an epoch a file.
    epoch       in the register: names one history of it. A file that is not the one that it says it
                is (restored, copied, made anew) begins a new one, above all that it can know of.

                 open_session: beats row, then session
        ┌───────────────────────────────────────────────────┐
        ▼                                                   │
      alive ── tick reaches the deadline ──► overdue ── a beat ──► alive
                                                │
                                                ├─ held back by the guard: rows lapse, notice raised
                                                ▼
                                sweep: fenced, rows down, in one commit of the register
                                       (under the lock that a beat takes), then forgotten

Order of locks: the register, then the beats. A beat or a tick takes the beats' alone, and while it holds
it only looks at the register, for which WAL needs no lock. Hence no circle, and no beat that passes
between a sweep's test and its fence: sqlite_sweep tells this from the other side.

This differs from writing the fence into the beats first and into the session afterwards: with the
beats' lock held over the register's commit the fence, the rows and the notices are one step, and no
sweep cut short needs to be resumed. The price is that beats wait while a sweep that found something
syncs the disk once.

What is not synced. Sessions (and beats) are written with synchronous=NORMAL: they survive every end of
a process, and may be lost with the machine, but then so are all whose sessions they were.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from headcount.errors import ConfigError, NotPromised
from headcount.model import (
    Beat,
    Census,
    Claim,
    Delta,
    Entry,
    Granted,
    Guarantees,
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
    hidden,
    when,
)
from headcount.register import apply_all
from headcount.stores.base import Together, not_empty
from headcount.stores.sql.mounts import on_network
from headcount.stores.sql.recording import SqlRecords
from headcount.stores.sql.sqlite_beats import SQL as BEATS
from headcount.stores.sql.sqlite_beats import Beats
from headcount.stores.sql.sqlite_doorbell import SQLiteDoorbell
from headcount.stores.sql.sqlite_files import Link, Synchronous, history_id
from headcount.stores.sql.sqlite_register import (
    SQL,
    SqliteSql,
    group_named,
    head,
    named,
    raise_epoch,
    save,
)
from headcount.stores.sql.sqlite_sweep import Work, rolled_back, sweep
from headcount.stores.sql.statements import migrations
from headcount.stores.sql.ticks import next_epoch, window_of
from headcount.stores.sql.unreadable import R, Reading
from headcount.stores.url import Url

INTERVAL = 1.0
LEAST_INTERVAL = 0.05
REGISTER, VOLATILE = "sqlite/register", "sqlite/beats"

NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
TAKEN = ("-beats", "-wal", "-shm", "-journal")
"""What SQLite and we put behind a path: a namespace that ends so would be another one's file."""

PROMISES = Guarantees(
    scope="host",
    expiry="ticks",
    deltas=True,
    stall_safe=True,
    exclusive=True,
    durable=True,
    advisory_failover=False,
    max_capabilities=65_536,
    precision=0.0,
    recheck=None,
)


class SQLiteStore(Reading, Together):
    """One client of a store in SQLite.

    `interval`      seconds between ticks; decided when the store is made, and the same for all ever after
    `poll`          seconds between looks at the doorbell, from 0.02 to 1
    `lock_timeout`  seconds for which a call waits for a lock
    """

    options: Mapping[str, type] = {"interval": float, "poll": float, "lock_timeout": float}
    guarantees = PROMISES

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        namespace: str = "default",
        interval: Seconds | None = None,
        poll: Seconds = 0.025,
        lock_timeout: Seconds = 1.0,
    ) -> None:
        if not NAMESPACE.fullmatch(namespace) or namespace.endswith(TAKEN):
            raise ConfigError(
                f"the namespace {namespace!r} cannot be part of a file's name: use letters, digits, _ and -, "
                f"and none of {', '.join(TAKEN)} at its end"
            )
        _within("interval", interval if interval is not None else INTERVAL, LEAST_INTERVAL, 3600)
        _within("poll", poll, 0.02, 1)
        _within("lock_timeout", lock_timeout, 0.01, 60)
        self.path = os.path.abspath(path) + ("" if namespace == "default" else f".{namespace}")
        super().__init__(self.path)
        self.address = f"sqlite:///{self.path}"
        self._interval = interval
        self._poll = poll
        self._lock_timeout = lock_timeout
        self._seen = 0
        """The newest epoch of the register that this client has seen."""

        # The heart's own, so that nothing of the watcher's can hold it up.
        self._heart = Beats(self._beats_link(), self._register_link("NORMAL"))
        # The watcher's.
        self._register = self._register_link("FULL")
        self._sessions = self._register_link("NORMAL")
        self._beats = Beats(self._beats_link(), self._register)

    @classmethod
    def from_url(cls, url: Url, namespace: str, options: Mapping[str, object]) -> SQLiteStore:
        """The store at a URL that is spelt as for SQLAlchemy: three slashes and a path."""
        path = url.path[1:]
        if url.hosts or url.user is not None:
            raise ConfigError(
                f"{url.safe}: SQLite has no host; a relative path follows three slashes, as in "
                "sqlite:///headcount.db, and an absolute one four"
            )
        if path in ("", ":memory:"):
            raise ConfigError(
                "a SQLite store is a file that processes share; for one in memory use memory://"
            )
        given = {name: value for name, value in options.items() if isinstance(value, float)}
        return cls(path, namespace=namespace, **given)

    @staticmethod
    def schema_sql() -> str:
        """All that is run to make the two files, as one text."""
        return "\n".join(
            f"-- {title}: {migration.number:04} {migration.name}\n\n{migration.sql}"
            for part, title in ((REGISTER, "PATH"), (VOLATILE, "PATH-beats"))
            for migration in migrations(part)
        )

    # ── opening ──

    def open(self) -> None:
        network = on_network(os.path.dirname(self.path))
        if network is not None:
            kind, point = network
            raise NotPromised(
                f"{self.path} is on {point}, a filesystem of the network ({kind}), where SQLite's locks do "
                "not keep hosts apart: put it on a local disk, or use a store for several hosts"
            )
        if rolled_back(self._beats):
            self.new_epoch()
        self._beats.tick()

    init = open
    """To make the store is to open it."""

    def close(self) -> None:
        for link in (
            self._heart.link,
            self._heart.register,
            self._register,
            self._sessions,
            self._beats.link,
        ):
            link.close()

    def new_epoch(self) -> int:
        """Begin a new history, and say its epoch: what to do after restoring an old register."""
        with self._register.writing() as con:
            self._raise_epoch(con)
        return self._seen

    def _register_link(self, synchronous: Synchronous) -> Link:
        return Link(
            self.path,
            REGISTER,
            synchronous=synchronous,
            timeout=self._lock_timeout,
            found=self._found,
            settle=self._settle,
        )

    def _beats_link(self) -> Link:
        return Link(f"{self.path}-beats", VOLATILE, synchronous="NORMAL", timeout=self._lock_timeout)

    def _found(self, con: sqlite3.Connection) -> None:
        """Fill a register that has just been made."""
        self._seen = epoch = next_epoch(self._seen)
        interval = self._interval if self._interval is not None else INTERVAL
        con.execute(SQL["found_register"], (history_id(self.path), epoch, epoch << 32, interval))

    def _settle(self, con: sqlite3.Connection) -> None:
        """Look at a register that has just been opened: is it the one that it says it is?"""
        here, this = head(con), history_id(self.path)
        if self._interval not in (None, here.interval):
            raise ConfigError(
                f"{self.path} ticks every {here.interval:g} s, not every {self._interval:g} s: the interval "
                "is decided when a store is made, and is the same for all. Leave the option out"
            )
        if here.history != this or here.epoch < self._seen:
            con.execute("BEGIN IMMEDIATE")
            try:
                here = head(con)
                if here.history != this or here.epoch < self._seen:
                    self._raise_epoch(con)
                con.execute("COMMIT")
            finally:
                if con.in_transaction:
                    con.execute("ROLLBACK")
        self._seen = max(self._seen, head(con).epoch)

    def _raise_epoch(self, con: sqlite3.Connection) -> None:
        epoch = next_epoch(self._seen, head(con).epoch)
        raise_epoch(con, history=history_id(self.path), epoch=epoch)
        self._seen = epoch

    # ── groups ──

    def create_group(self, group: str) -> bool:
        with self._register.writing() as con:
            if con.execute(SQL["group"], (group,)).fetchone() is not None:
                return False
            con.execute(SQL["count_change"])
            con.execute(SQL["create_group"], (group,))
            con.execute(SQL["undo_departure"], (group,))
            return True

    def delete_group(self, group: str) -> bool:
        with self._register.writing() as con:
            if con.execute(SQL["group"], (group,)).fetchone() is None:
                return False
            found = group_named(con, group)
            rows = self._decoded(group, Row, con.execute(SQL["rows_all"], (found.id,)))
            live = {row.member_id for row in rows if row.live}
            claims = self._decoded(group, Claim, con.execute(SQL["claims_after"], (found.id, 0)))
            if live or claims:
                raise not_empty(group, live, {claim.member_id for claim in claims})
            con.execute(SQL["count_change"])
            con.execute(SQL["raise_floor"], (found.revision,))
            for table in ("rows", "marks", "claims", "tombstones", "group"):
                con.execute(SQL[f"drop_{table}"], (found.id,))
            con.execute(SQL["depart"], (group,))
            return True

    def groups(self) -> list[str]:
        with self._register.reading() as con:
            return [name for (name,) in con.execute(SQL["group_names"]) if not hidden(name)]

    # ── sessions ──

    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]:
        """The beats' rows first: a session without one is then one whose beats were lost."""
        self._beats.refresh()
        with self._beats.link.writing() as volatile:
            clock = self._beats.clock(volatile, self._beats.head())
            for one in sessions:
                self._beats.grant(volatile, clock, one.id, one.ttl)
        with self._sessions.writing() as con:
            now = time.time()
            con.executemany(
                SQL["open_session"],
                [(one.id, one.instance, one.host, one.process, one.ttl, now) for one in sessions],
            )
        return [Granted(ttl=one.ttl, tick=clock.tick) for one in sessions]

    def close_session(self, session: SessionId) -> None:
        self._beats.tick()
        clock = self._beats.peek(self._beats.head())
        with self._sessions.writing() as con:
            alive = con.execute(SQL["alive"], (session,)).fetchone() is not None
            if alive and clock is not None:
                work = Work(con, clock, self._corrupt)
                work.drop(session)
                work.finish()
            con.execute(SQL["drop_session"], (session,))
        with self._beats.link.writing() as volatile:
            volatile.execute(BEATS["remove"], (named(session),))

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        notices, tick = self._heart.beat(sessions)
        return Beat(notices=notices, tick=tick)

    # ── the register ──

    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        with self._register.writing() as con:
            found = group_named(con, group)
            records = SqlRecords(SqliteSql(con), found, self._corrupt)
            done, outcomes = apply_all(records, group, wishes, revision=found.revision, now=time.time())
            save(con, found, done)
            return outcomes

    def read(
        self, group: str, after: Revision | None = None, *, only: Collection[str] | None = None
    ) -> Snapshot | Delta:
        with self._register.reading() as con:
            found = group_named(con, group)

            def get(kind: type[R], statement: str, value: object) -> tuple[R, ...]:
                return tuple(self._decoded(group, kind, con.execute(SQL[statement], (found.id, value))))

            delta = after is not None and only is None and found.oldest <= after <= found.revision
            how = "after" if only is None else "of"
            value = named(*only) if only is not None else after if delta else 0
            rows, marks = get(Row, f"rows_{how}", value), get(Mark, f"marks_{how}", value)
            claims = get(Claim, f"claims_{how}", value)
            if not delta or after is None:
                return Snapshot(group=group, revision=found.revision, rows=rows, marks=marks, claims=claims)
            removed = tuple(con.execute(SQL["tombstones_after"], (found.id, after)))
        return Delta(
            group=group,
            after=after,
            revision=found.revision,
            rows=rows,
            marks=marks,
            claims=claims,
            removed=removed,
        )

    def doorbell(self) -> SQLiteDoorbell:
        return SQLiteDoorbell(self._register_link("NORMAL"), self._poll)

    def last_seen(self, group: str) -> dict[str, datetime]:
        with self._register.reading() as con:
            found = group_named(con, group)
            rows = con.execute(SQL["live_sessions_of_group"], (found.id,)).fetchall()
        self._beats.refresh()
        beats = dict(self._beats.link.query(BEATS["seen"], (named(*{session for _, session in rows}),)))
        seen: dict[str, float] = {}
        for member_id, session in rows:
            if session in beats:
                seen[member_id] = max(seen.get(member_id, 0.0), beats[session])
        return {member_id: when(at) for member_id, at in seen.items()}

    def history(
        self, group: str | None = None, *, member_id: str | None = None, limit: int = 100
    ) -> list[Entry]:
        statement = SQL["history" if group is None else "history_of_group"]
        with self._register.reading() as con:
            found = con.execute(statement, {"group": group, "member": member_id, "limit": limit}).fetchall()
        return [
            Entry(**dict(zip(Entry.__struct_fields__, values, strict=True))) for values in reversed(found)
        ]

    # ── ticks ──

    def tick(self) -> Tick:
        return self._heart.tick()

    def advance(self, seen: Tick, ticker: SessionId) -> Tick:
        return self._heart.advance(seen, ticker)

    def sweep(self, judge: Callable[[Census], int], *, limit: int = 500) -> Swept:
        if rolled_back(self._beats):
            self.new_epoch()
        return sweep(self._register, self._beats, judge, limit, self._corrupt)

    def release_guard(self) -> None:
        self._beats.refresh()
        with self._beats.link.writing() as volatile:
            clock = self._beats.clock(volatile, self._beats.head())
            until = clock.number + window_of(clock.interval)
            volatile.execute(BEATS["set_clock"], clock._replace(released_until=until))
        with self._register.writing() as con:
            con.execute(SQL["add_history"], (time.time(), "", "", "guard released", "", 0, ""))


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(
            f"the option {name!r} of the sqlite store goes from {least:g} to {most:g}, not {value:g}"
        )
