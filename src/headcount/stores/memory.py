"""The memory of one process: the reference, the shortest code that keeps every law of the contract.

It has two modes. In *ticks*, sessions expire by the ticks that its users move, as on SQL. In
*sessions*, they expire by the store's own clock, reads are snapshots only, and whoever touches the
rows of another raises that session's notice in the same step, as on ZooKeeper and etcd; a client
that cannot reach it is SUSPENDED (its calls raise `StoreUnavailable`), and one whose session is gone
is told LOST by its doorbell and by its next beat.

    memory://                       the nameless store of this process
    memory://name                   another one
    memory://name?mode=sessions
    memory://name?interval=0.1      seconds between ticks

Whoever names the same store in the same process shares it. A forked child has stores of its own.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from headcount import native
from headcount.errors import ConfigError, GroupNotFound, StoreUnavailable
from headcount.model import (
    Beat,
    Census,
    Claim,
    Delta,
    Entry,
    Expect,
    Granted,
    Guarantees,
    Mark,
    Outcome,
    RecordKind,
    Refused,
    Revision,
    Ring,
    Row,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Swept,
    Tick,
    Wish,
    Write,
    deadline_ticks,
    hidden,
    when,
)
from headcount.register import Ledger, apply, replace
from headcount.stores.base import HISTORY, TOMBSTONES, WINDOW, log_corrupt, not_empty
from headcount.stores.url import Url

R = TypeVar("R", Row, Mark, Claim)

TICKS = Guarantees(
    scope="process",
    expiry="ticks",
    deltas=True,
    stall_safe=True,
    exclusive=True,
    durable=False,
    advisory_failover=False,
    max_capabilities=1 << 20,
    precision=0.0,
    recheck=None,
)
SESSIONS = Guarantees(
    scope="process",
    expiry="sessions",
    deltas=False,
    stall_safe=False,
    exclusive=True,
    durable=False,
    advisory_failover=False,
    max_capabilities=1 << 20,
    precision=0.5,
    recheck=None,
)


@dataclass
class _Group:
    revision: Revision
    oldest: Revision = 0
    """A delta after an older revision than this cannot be given any more."""
    rows: dict[str, Row] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    tombstones: deque[tuple[Revision, RecordKind, str]] = field(default_factory=deque)


@dataclass
class _Session:
    session: Session
    deadline: float
    """In ticks of the store's clock; in sessions mode, in seconds of it."""
    seen: float
    notice: int = 0
    fenced_at: int | None = None
    """The tick at which it was fenced; kept for the guard's window."""
    had_rows: bool = False


class MemoryServer:
    """What would be the server: everything that the clients of one memory store share."""

    def __init__(
        self,
        mode: str = "ticks",
        *,
        interval: Seconds = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.mode = mode
        self.clock = clock
        self.wall = wall
        self.lock = native.threading().RLock()
        self.rung = native.threading().Condition(self.lock)
        self.begin(interval)

    def begin(self, interval: Seconds | None = None) -> None:
        """Start empty, under a new epoch: what a store does that has forgotten everything."""
        with self.lock:
            old = getattr(self, "clock_row", None)
            self.epoch = max(getattr(self, "epoch", 0), int(self.wall()) - 1735689600) + 1
            self.floor: Revision = self.epoch << 32
            self.groups: dict[str, _Group] = {}
            self.sessions: dict[SessionId, _Session] = {}
            self.early: dict[SessionId, float] = {}
            """By session that was ended before its time: until when its owner may trust."""
            self.vacates: dict[tuple[str, str], tuple[int, int]] = {}
            self.entries: defaultdict[str, deque[tuple[int, Entry]]] = defaultdict(
                lambda: deque(maxlen=HISTORY)
            )
            """By group, with the order over all groups."""
            self.told = itertools.count()
            self.released_until = -1
            self.clock_row = Tick(
                epoch=self.epoch, number=1, interval=interval or (old.interval if old else 1.0)
            )
            self.lost: deque[tuple[int, SessionId]] = deque(maxlen=1000)
            self.changes: int = getattr(self, "changes", 0) + 1
            self.changed: dict[str, int] = dict.fromkeys(getattr(self, "changed", {}), self.changes)
            self.rung.notify_all()

    # ── the register ──

    def group(self, name: str) -> _Group:
        try:
            return self.groups[name]
        except KeyError:
            raise GroupNotFound(f"there is no group {name!r} in this store") from None

    def alive(self, session: SessionId) -> bool:
        found = self.sessions.get(session)
        return found is not None and found.fenced_at is None

    def write(self, name: str, ledger: Ledger) -> None:
        """Make the changes of a ledger so."""
        group = self.group(name)
        if ledger.revision == group.revision:
            return
        _lay(group.rows, ledger.rows)
        _lay(group.marks, ledger.marks)
        _lay(group.claims, ledger.claims)
        for (kind, key), revision in ledger.removed.items():
            group.tombstones.append((revision, kind, key))
            self.vacates.pop((name, key), None)
        while len(group.tombstones) > TOMBSTONES:
            group.oldest = group.tombstones.popleft()[0]
        for session in ledger.notices & self.sessions.keys():
            self.sessions[session].notice += 1
        for row in ledger.rows.values():
            if row is not None and row.session in self.sessions:
                self.sessions[row.session].had_rows = True
        self.entries[name].extend(zip(self.told, ledger.entries, strict=False))
        group.revision = ledger.revision
        self.ring(name)

    def ring(self, name: str) -> None:
        self.changes += 1
        self.changed[name] = self.changes
        self.rung.notify_all()

    # ── expiry ──

    def end(self, ended: Collection[SessionId]) -> None:
        """Fence these sessions and take their rows down, one commit a group."""
        for session in ended:
            self.sessions[session].fenced_at = self.clock_row.number
        for name, group in self.groups.items():
            ledger = self.ledger(name)
            for row in [row for row in group.rows.values() if row.live and row.session in ended]:
                ledger.expire(row, early=row.session in self.early)
            for claim in list(group.claims.values()):
                if not self.alive(claim.session) and claim.session not in self.early:
                    ledger.vacate(claim, "its session is gone")
            self.write(name, ledger)

    def end_early(self, session: SessionId) -> None:
        """What an administrator can do where the store expires sessions itself."""
        with self.lock:
            self.expire_by_clock()
            if self.alive(session):
                self.early[session] = self.sessions[session].deadline
                self._forget({session})

    def expire_by_clock(self) -> None:
        """In sessions mode, before anything else is looked at: what is over by now, is over."""
        if self.mode != "sessions":
            return
        now = self.clock()
        ended = {key for key, s in self.sessions.items() if s.fenced_at is None and s.deadline <= now}
        waited = {session for session, until in self.early.items() if until <= now}
        if not ended and not waited:
            return
        for session in waited:
            del self.early[session]
        self._forget(ended)

    def _forget(self, ended: Collection[SessionId]) -> None:
        self.end(ended)
        for session in ended:
            del self.sessions[session]
            self.changes += 1
            self.lost.append((self.changes, session))
        self.rung.notify_all()

    def ledger(self, name: str) -> Ledger:
        group = self.groups[name]
        return Ledger(_Records(self, group), name, max(group.revision, self.epoch << 32), self.wall())


@dataclass
class _Records:
    """One group as the law of the register looks at it."""

    server: MemoryServer
    group: _Group

    def row(self, key: str) -> Row | None:
        return self.group.rows.get(key)

    def rows_of(self, member_id: str) -> list[Row]:
        return [row for row in self.group.rows.values() if row.member_id == member_id]

    def mark(self, member_id: str) -> Mark | None:
        return self.group.marks.get(member_id)

    def claim(self, key: str) -> Claim | None:
        return self.group.claims.get(key)

    def claims_of(self, member_id: str) -> list[Claim]:
        return [claim for claim in self.group.claims.values() if claim.member_id == member_id]

    def holding(self) -> list[Row | Claim]:
        return [
            *(row for row in self.group.rows.values() if row.live and row.shards),
            *(claim for claim in self.group.claims.values() if claim.shards),
        ]

    def alive(self, session: SessionId) -> bool:
        return self.server.alive(session)


_servers: dict[tuple[int, str, str], MemoryServer] = {}
"""By process, namespace and name: what is in the memory of a parent is not the child's to change."""
_servers_lock = native.threading().Lock()


def _shared(namespace: str, name: str, mode: str | None, interval: Seconds | None) -> MemoryServer:
    with _servers_lock:
        key = (os.getpid(), namespace, name)
        server = _servers.get(key)
        if server is None:
            server = _servers[key] = MemoryServer(mode or "ticks", interval=interval or 1.0)
        if mode not in (None, server.mode):
            raise ConfigError(
                f"memory://{name} is open already, with mode={server.mode}; it cannot be {mode} too"
            )
        if interval not in (None, server.clock_row.interval):
            raise ConfigError(
                f"memory://{name} is open already, with interval={server.clock_row.interval:g}; "
                f"it cannot be {interval:g} too"
            )
        return server


class MemoryStore:
    """One client of a memory store."""

    options: Mapping[str, type] = {"mode": str, "interval": float}

    def __init__(self, server: MemoryServer | None = None, *, name: str = "") -> None:
        self.server = server if server is not None else MemoryServer()
        self.reachable = True
        """Set to False to cut this client off: SUSPENDED, in the words of ZooKeeper."""
        self.on_corrupt: Callable[[str], object] = log_corrupt
        self.address = f"memory://{name}"

    @classmethod
    def from_url(cls, url: Url, namespace: str, options: Mapping[str, object]) -> MemoryStore:
        """The store of this process under the name that stands where others have a host."""
        if url.path.strip("/") or len(url.hosts) > 1 or url.user is not None:
            raise ConfigError(f"a memory store has a name and nothing else, as in memory://name: {url.safe}")
        mode, interval = options.get("mode"), options.get("interval")
        if mode is not None and mode not in ("ticks", "sessions"):
            raise ConfigError(f"the mode of a memory store is ticks or sessions, not {mode!r}")
        if isinstance(interval, float) and not 0 < interval < float("inf"):
            raise ConfigError(
                f"the interval of a memory store is a number of seconds above 0, not {interval:g}"
            )
        name = url.hosts[0][0] if url.hosts else ""
        server = _shared(
            namespace,
            name,
            mode if isinstance(mode, str) else None,
            interval if isinstance(interval, float) else None,
        )
        return cls(server, name=name)

    @property
    def guarantees(self) -> Guarantees:
        return TICKS if self.server.mode == "ticks" else SESSIONS

    @contextmanager
    def _held(self) -> Iterator[MemoryServer]:
        if not self.reachable:
            raise StoreUnavailable(f"{self.address} cannot be reached")
        with self.server.lock:
            self.server.expire_by_clock()
            yield self.server

    def open(self) -> None:
        with self._held():
            pass

    def close(self) -> None:
        pass

    # ── groups ──

    def create_group(self, group: str) -> bool:
        with self._held() as server:
            if group in server.groups:
                return False
            server.groups[group] = _Group(revision=server.floor + 1, oldest=server.floor + 1)
            server.ring(group)
            return True

    def delete_group(self, group: str) -> bool:
        with self._held() as server:
            found = server.groups.get(group)
            if found is None:
                return False
            live = {row.member_id for row in found.rows.values() if row.live}
            if live or found.claims:
                raise not_empty(group, live, {claim.member_id for claim in found.claims.values()})
            server.floor = max(server.floor, found.revision)
            del server.groups[group]
            server.ring(group)
            return True

    def groups(self) -> list[str]:
        with self._held() as server:
            return sorted(name for name in server.groups if not hidden(name))

    # ── sessions ──

    def open_session(self, session: Session) -> Granted:
        with self._held() as server:
            if session.id not in server.sessions:
                server.sessions[session.id] = _Session(session, 0, server.wall())
            self._extend(session.id)
            return Granted(ttl=session.ttl, tick=server.clock_row if server.mode == "ticks" else None)

    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]:
        with self._held():
            return [self.open_session(session) for session in sessions]

    def close_session(self, session: SessionId) -> None:
        with self._held() as server:
            early = server.early.pop(session, None) is not None
            if early or server.alive(session):
                server.end({session} & server.sessions.keys())
            server.sessions.pop(session, None)

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        with self._held() as server:
            for session in sessions:
                self._extend(session)
            notices = {s: server.sessions[s].notice if server.alive(s) else None for s in sessions}
            return Beat(notices=notices, tick=server.clock_row if server.mode == "ticks" else None)

    def _extend(self, session: SessionId) -> None:
        server = self.server
        if not server.alive(session):
            return
        found = server.sessions[session]
        ttl = found.session.ttl
        if server.mode == "ticks":
            deadline: float = server.clock_row.number + deadline_ticks(ttl, server.clock_row.interval)
        else:
            deadline = server.clock() + ttl
        found.deadline = max(found.deadline, deadline)
        found.seen = server.wall()

    # ── the register ──

    def commit(
        self, group: str, writes: Sequence[Write], expect: Collection[Expect] = (), *, by: SessionId = ""
    ) -> Outcome:
        with self._held() as server:
            found = server.group(group)
            revision = max(found.revision, server.epoch << 32)
            done = apply(
                _Records(server, found),
                group,
                writes,
                expect,
                revision=revision,
                now=server.wall(),
                by=by,
                unclocked=server.mode == "sessions",
            )
            if isinstance(done, Refused):
                return done
            server.write(group, done)
            return done.outcome()

    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        with self._held():
            return [self.commit(group, wish.writes, wish.expect, by=wish.by) for wish in wishes]

    def read(
        self, group: str, after: Revision | None = None, *, only: Collection[str] | None = None
    ) -> Snapshot | Delta:
        with self._held() as server:
            found = server.group(group)
            whole = after is None or only is not None or server.mode == "sessions"
            gap = whole or after is None or not found.oldest <= after <= found.revision
            floor: Revision = 0 if gap or after is None else after

            def wanted(record: Row | Mark | Claim) -> bool:
                return record.revision > floor and (only is None or record.member_id in only)

            rows = tuple(filter(wanted, found.rows.values()))
            marks = tuple(filter(wanted, found.marks.values()))
            claims = tuple(filter(wanted, found.claims.values()))
            if gap or after is None:
                return Snapshot(group=group, revision=found.revision, rows=rows, marks=marks, claims=claims)
            here: dict[str, Collection[str]] = {"row": found.rows, "mark": found.marks, "claim": found.claims}
            removed = {(k, key): None for r, k, key in found.tombstones if r > after and key not in here[k]}
            return Delta(
                group=group,
                after=after,
                revision=found.revision,
                rows=rows,
                marks=marks,
                claims=claims,
                removed=tuple(removed),
            )

    def doorbell(self) -> MemoryDoorbell:
        return MemoryDoorbell(self)

    def last_seen(self, group: str) -> dict[str, datetime]:
        with self._held() as server:
            rows = [
                row
                for row in server.group(group).rows.values()
                if row.live and row.session in server.sessions
            ]
            seen: dict[str, float] = {}
            for row in rows:
                seen[row.member_id] = max(seen.get(row.member_id, 0.0), server.sessions[row.session].seen)
            return {member: when(at) for member, at in seen.items()}

    def history(
        self, group: str | None = None, *, member_id: str | None = None, limit: int = 100
    ) -> list[Entry]:
        with self._held() as server:
            found = sorted(
                (number, entry)
                for name, lines in server.entries.items()
                for number, entry in lines
                if group in (None, name) and member_id in (None, entry.member_id)
            )
            return [entry for _, entry in found[-limit:]]

    # ── ticks ──

    def tick(self) -> Tick:
        with self._held() as server:
            return server.clock_row

    def advance(self, seen: Tick, ticker: SessionId) -> Tick:
        with self._held() as server:
            row = server.clock_row
            if row.at == seen.at and server.alive(ticker):
                standbys = tuple(s for s in row.standbys if s != ticker and self._serves(s))
                server.clock_row = replace(
                    row,
                    number=row.number + 1,
                    ticker=ticker,
                    standbys=(*standbys, *self._volunteers(ticker, standbys))[:2],
                    ticked_at=server.wall(),
                )
            return server.clock_row

    def _serves(self, session: SessionId) -> bool:
        return (
            self.server.alive(session)
            and self.server.sessions[session].deadline > self.server.clock_row.number
        )

    def _volunteers(self, ticker: SessionId, standbys: tuple[SessionId, ...]) -> list[SessionId]:
        if len(standbys) >= 2:
            return []
        sessions = self.server.sessions
        taken = {sessions[s].session.process for s in (ticker, *standbys)}
        free = [s for s in sessions if s != ticker and s not in standbys and self._serves(s)]
        return sorted(free, key=lambda s: (sessions[s].session.process in taken, s))

    def sweep(self, judge: Callable[[Census], int], *, limit: int = 500) -> Swept:
        with self._held() as server:
            now = server.clock_row
            window = int(WINDOW / now.interval)
            for key in [
                k for k, s in server.sessions.items() if s.fenced_at and s.fenced_at + window <= now.number
            ]:
                del server.sessions[key]

            live = [(k, s) for k, s in server.sessions.items() if s.fenced_at is None]
            overdue = sorted((s.deadline, k) for k, s in live if s.deadline <= now.number)
            guarded = [k for _, k in overdue if server.sessions[k].had_rows]
            census = Census(
                live=sum(s.had_rows for _, s in live),
                expired=sum(s.had_rows and s.fenced_at is not None for s in server.sessions.values()),
                overdue=len(guarded),
            )
            released = now.number <= server.released_until
            allowed = len(guarded) if released else max(0, judge(census)) if guarded else 0
            fenced = [k for _, k in overdue if not server.sessions[k].had_rows] + guarded[:allowed]
            server.end(fenced[:limit])
            held = self._lapse(set(guarded[allowed:]))
            vacated = self._vacate(now)
            return Swept(fenced=tuple(fenced[:limit]), lapsed=held, vacated=vacated, more=len(fenced) > limit)

    def _lapse(self, held: set[SessionId]) -> tuple[SessionId, ...]:
        lapsed = set()
        for name, group in self.server.groups.items():
            ledger = self.server.ledger(name)
            for row in list(group.rows.values()):
                if row.session in held and row.live:
                    ledger.lapse(row)
            lapsed |= ledger.notices
            self.server.write(name, ledger)
        return tuple(sorted(lapsed))

    def _vacate(self, now: Tick) -> int:
        """A claim's time is set by a later step than the one that made it, and counts in ticks of
        this epoch only: a claim from before a new epoch waits its full time again."""
        server, gone = self.server, 0
        for name, group in server.groups.items():
            ledger = server.ledger(name)
            for claim in list(group.claims.values()):
                epoch, number = server.vacates.get((name, claim.key), (0, 0))
                if not server.alive(claim.session) or (epoch == now.epoch and now.number >= number):
                    ledger.vacate(claim, "its time is over")
                    gone += 1
                elif epoch != now.epoch:
                    due = now.number + deadline_ticks(claim.ttl, now.interval)
                    server.vacates[name, claim.key] = (now.epoch, due)
            server.write(name, ledger)
        return gone

    def release_guard(self) -> None:
        with self._held() as server:
            server.released_until = server.clock_row.number + int(WINDOW / server.clock_row.interval)
            entry = Entry(at=server.wall(), group="", member_id="", what="guard released")
            server.entries[""].append((next(server.told), entry))


class MemoryDoorbell:
    """Rings for the groups that changed since the last wait. Exact: it drops nothing."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._heard = store.server.changes
        self._woken = False

    def wait(self, timeout: Seconds) -> Ring:
        server = self._store.server
        with server.rung:
            self._wait(timeout)
            self._woken = False
            if not self._store.reachable:
                raise StoreUnavailable(f"{self._store.address} cannot be reached")
            server.expire_by_clock()
            groups = {name: None for name, at in server.changed.items() if at > self._heard}
            lost = frozenset(session for at, session in server.lost if at > self._heard)
            self._heard = server.changes
            return Ring(groups=groups, lost=lost)

    def _wait(self, timeout: Seconds) -> None:
        """In slices, where sessions expire by the clock: that nobody else looks at the store does not
        keep it from ringing for them."""
        server = self._store.server
        slice_, end = max(SESSIONS.precision / 2, 0.01), time.monotonic() + timeout
        while True:
            left = end - time.monotonic()
            wait = min(left, slice_) if server.mode == "sessions" else left
            if server.rung.wait_for(lambda: self._woken or server.changes > self._heard, wait) or left <= 0:
                return
            server.expire_by_clock()

    def wake(self) -> None:
        with self._store.server.rung:
            self._woken = True
            self._store.server.rung.notify_all()

    def close(self) -> None:
        self.wake()


def _lay(records: dict[str, R], changes: Mapping[str, R | None]) -> None:
    for key, record in changes.items():
        if record is None:
            records.pop(key, None)
        else:
            records[key] = record
