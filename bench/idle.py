"""What does a process cost that has nothing to do but be there?

A watcher looks at its doorbell, beats, and reads what rang: in a group in which nothing happens, nothing.
On SQLite a look is a PRAGMA that reads no row, forty times a second; on PostgreSQL one row in five seconds,
behind LISTEN; on MySQL one row each half second. Somebody moves the clock each second, and two stand by.
ZooKeeper and etcd tell by a watch; there, a look is the small question whether its silence means anything,
and nobody ticks. Statements are counted in the client, by what they are for: `looks` at the doorbell;
`served`, to beat, to tick and to see whether a sweep is due; and `reads`, which is everything else. The
server's own count stands beside them: of transactions on PostgreSQL, of statements on MariaDB, of packets on
ZooKeeper, of calls on etcd.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, enter_of, opened, session_of, with_options
from headcount.register import replace
from headcount.stores.sql.server import ServerStore
from headcount.stores.sql.sqlite import SQLiteStore
from headcount.stores.url import parse

SECONDS = 20.0
MEMBERS = 100
WATCHERS = 50
JOINERS = 4
TTL = 15.0

NUMBERS = ("cpu", "looks", "served", "reads")
LOOKS = {"sqlite": 50.0, "postgresql": 0.25, "mysql": 2.05, "zookeeper": 0.25, "etcd": 0.25}
"""The most looks a second: one in 5 s, in 0.5 s, and one more at the edge of the time that is looked at."""
HELD = {"postgresql": 1.0, "mysql": 1.0, "zookeeper": 2.0, "etcd": 1.0}
"""Connections of a member. On ZooKeeper reading must not keep a session alive whose heart has stopped: so
it has another one."""

LOOKING = ("data_version", "sum(revision)")
"""By which the statements are known that look at a doorbell: SQLite's, and the servers'."""


class Found(NamedTuple):
    work: str
    unit: str
    figure: Figure
    goal: float | dict[str, float] | None = None


def measure(run: Run) -> Iterator[Line]:
    seconds = max(0.5, SECONDS * run.scale)
    found: dict[tuple[str, str], dict[str, Found]] = {}
    for store in run.stores:
        for who, one in _memory(run, seconds) if store == "memory" else _idle_on(run, store, seconds):
            found.setdefault((who, one.work), {})[store] = one
    for by_store in found.values():
        one = next(iter(by_store.values()))
        figures = {store: each.figure for store, each in by_store.items()}
        yield Line(one.work, one.unit, figures, goal=one.goal)


def _idle_on(run: Run, store: str, seconds: float) -> Iterator[tuple[str, Found]]:
    many = run.size(WATCHERS, 2)
    alone, asked, held = _town(run, store, 1, seconds)
    yield from _of_each("1 idle watcher", alone)
    if store in run.hosts:
        yield "1 idle watcher", Found("… what the server counts of all this", "/s", Figure(asked))
        yield "1 idle watcher", Found("… its connections", "", Figure(held), 2)
    crowd, _, held = _town(run, store, many, seconds)
    total = Figure(sum(watcher["cpu"] for watcher in crowd))
    yield "many", Found(f"{many} idle watchers: CPU of a core", "%", total)
    if store in run.hosts:
        yield "many", Found("… connections of each", "", Figure(held / many), 2)
    yield from _of_each("one of them", crowd)
    joiner, held = _joiner(run, store, seconds)
    minute = Figure(joiner["cpu"] / 100 * 60)
    yield "joiner", Found("a member that only joined: CPU a minute", "s", minute)
    total = Figure(sum(joiner[key] for key in NUMBERS[1:]))
    yield "joiner", Found("… its statements, of any kind", "/s", total)
    if store in run.hosts:
        yield "joiner", Found("… its connections, longest", "", Figure(held), HELD)


def _of_each(who: str, watchers: list[dict[str, Any]]) -> Iterator[tuple[str, Found]]:
    for role in ("ticker", "standby", "other"):
        found = [watcher for watcher in watchers if watcher["role"] == role]
        if found:
            mean = {key: Figure(sum(one[key] for one in found) / len(found)) for key in NUMBERS}
            name = f"{who} ({role})"
            yield name, Found(f"{name}: CPU of a core", "%", mean["cpu"])
            yield name, Found("… looks at the doorbell", "/s", mean["looks"], LOOKS)
            yield name, Found("… statements to beat and to tick", "/s", mean["served"])
            yield name, Found("… reads of the register", "/s", mean["reads"], 0.2)


def _town(run: Run, store: str, count: int, seconds: float) -> tuple[list[dict[str, Any]], float, float]:
    """What so many watchers do; what the server says it was asked a second, and its connections."""
    ttl, interval = run.ttl(TTL)
    url = run.url(store, interval=interval)
    raw = opened(url)
    raw.create_group("crowd")
    # Rows of no session: one that is there and does not beat would be taken for somebody to stand by.
    rows = [replace(enter_of(f"m{number}"), session="") for number in range(run.size(MEMBERS, 5))]
    raw.commit("crowd", rows)
    raw.close()
    with ExitStack() as stack:
        children = [stack.enter_context(Child(watcher, url, ttl)) for _ in range(count)]
        asked, held = 0.0, 0.0

        def look(first: bool) -> None:
            nonlocal asked, held
            if store in run.hosts:
                database = parse(url).path.strip("/")
                asked = run.hosts[store].asked(database) - (0 if first else asked)
                held = run.hosts[store].connections(database)

        found = _measured(children, seconds, ttl, interval, look)
        return found, asked / seconds, held


def _measured(
    children: list[Child],
    seconds: float,
    ttl: float,
    interval: float,
    look: Callable[[bool], object] = lambda first: None,
) -> list[dict[str, Any]]:
    for child in children:
        child.hear()
    time.sleep(ttl / 2 + 4 * interval)  # until the roles are dealt out, and the start is over
    look(True)
    for child in children:
        child.tell(seconds)
    found = [child.hear() for child in children]
    look(False)
    for child in children:
        child.tell("go")
    return found


def _joiner(run: Run, store: str, seconds: float) -> tuple[dict[str, Any], float]:
    """Somebody else has to watch, and tick: that is not what is asked for here."""
    ttl, interval = run.ttl(TTL)
    url = run.url(store, interval=interval)
    host, database = run.hosts.get(store), parse(url).path.strip("/")

    def held() -> int:
        return host.connections(database) if host is not None else 0

    with ExitStack() as stack:
        other = stack.enter_context(Child(watcher, url, ttl))
        other.hear()
        time.sleep(ttl / 3 + interval)  # until it has beaten, on a connection of its own
        before = held()
        others = [stack.enter_context(Child(member, url, f"m{number}", ttl)) for number in range(JOINERS)]
        all_of_them = 0.0

        def look(_: bool) -> None:
            nonlocal all_of_them
            all_of_them = max(all_of_them, held() - before)

        found = [one for one in _measured(others, seconds, ttl, interval, look) if one["role"] == "other"]
        other.tell(0.0)
        other.hear()
        other.tell("go")
        nothing = {"cpu": float("nan"), **dict.fromkeys(NUMBERS[1:], float("nan"))}
        return found[0] if found else nothing, all_of_them / JOINERS


def _memory(run: Run, seconds: float) -> Iterator[tuple[str, Found]]:
    """In this process: what its threads take while nothing happens."""
    url = run.url("memory")
    raw = opened(url)
    raw.create_group("crowd")
    raw.open_session(session_of("m"))
    raw.commit("crowd", [enter_of("m")])
    with headcount.connect(with_options(url, interval=1), ttl=TTL) as c:
        c.group("crowd").view()
        time.sleep(1.0)
        began = time.process_time()
        time.sleep(seconds)
        taken = Figure((time.process_time() - began) / seconds * 100)
        yield "1 idle watcher (ticker)", Found("1 idle watcher (ticker): CPU of a core", "%", taken)


# ── the other processes ──


def watcher(pipe: Connection, url: str, ttl: float) -> None:
    count = Count(parse(url).scheme)
    with headcount.connect(url, ttl=ttl, timeout=60) as c:
        c.create_group("crowd")
        c.group("crowd").view()
        pipe.send("watching")
        _idle(pipe, c, count)


def member(pipe: Connection, url: str, name: str, ttl: float) -> None:
    count = Count(parse(url).scheme)
    with headcount.connect(url, member_id=name, ttl=ttl, timeout=60) as c:
        c.join_group("crowd", create=True)
        pipe.send("joined")
        _idle(pipe, c, count)


def _idle(pipe: Connection, c: headcount.Coordinator, count: Count) -> None:
    seconds = pipe.recv()
    before, began, at = count.so_far(), time.process_time(), time.monotonic()
    time.sleep(seconds)
    took = max(1e-9, time.monotonic() - at)
    told = count.so_far() - before
    cpu = (time.process_time() - began) / took * 100
    role = _role(c, count)
    pipe.send({"cpu": cpu, "role": role, **{key: told[key] / took for key in NUMBERS[1:]}})
    pipe.recv()


def _role(c: headcount.Coordinator, count: Count) -> str:
    session = c.health()["session"]
    return "ticker" if session == count.ticker else "standby" if session in count.standbys else "other"


class Count:
    """Counts what is asked of a store in this process, by the thread that asks: the heart's are all to
    beat and tick; of the watcher's, the look that follows a tick, whether a sweep is due, is part of it."""

    def __init__(self, scheme: str) -> None:
        self.said: Counter[str] = Counter()
        self.ticker = ""
        self.standbys: tuple[str, ...] = ()
        self.sweeping = False
        kinds = {
            "sqlite": self._of_sqlite,
            "postgresql": self._of_psycopg,
            "mysql": self._of_pymysql,
            "zookeeper": self._of_kazoo,
            "etcd": self._of_grpc,
        }
        kinds[scheme]()
        if Run.ticks(scheme):
            self._mark_sweeps(SQLiteStore if scheme == "sqlite" else ServerStore)
            self._watch_the_clock()

    def count(self, statement: str) -> None:
        self.put_down(looks=any(word in statement for word in LOOKING))

    def put_down(self, *, looks: bool) -> None:
        if looks:
            self.said["looks"] += 1
        elif threading.current_thread().name == "headcount-heart" or self.sweeping:
            self.said["served"] += 1
        else:
            self.said["reads"] += 1

    def so_far(self) -> Counter[str]:
        return Counter(self.said)

    # All of this is for this process only.

    def _of_sqlite(self) -> None:
        connect = sqlite3.connect

        def counted(*args: Any, **named: Any) -> sqlite3.Connection:
            con = connect(*args, **named)
            con.set_trace_callback(self.count)
            return con

        sqlite3.connect = counted  # type: ignore[assignment]

    def _of_psycopg(self) -> None:
        import psycopg

        execute = psycopg.Connection.execute

        def counted(con: Any, query: Any, *args: Any, **named: Any) -> Any:
            self.count(str(query))
            return execute(con, query, *args, **named)

        psycopg.Connection.execute = counted  # type: ignore[method-assign]

    def _of_pymysql(self) -> None:
        from pymysql.connections import Connection
        from pymysql.constants.COMMAND import COM_QUERY, COM_STMT_EXECUTE

        kind: Any = Connection
        execute = kind._execute_command  # what is prepared goes through here too

        def counted(con: Any, command: int, sql: Any) -> Any:
            if command in (COM_QUERY, COM_STMT_EXECUTE):
                self.count(sql.decode(errors="replace") if isinstance(sql, bytes | bytearray) else str(sql))
            return execute(con, command, sql)

        kind._execute_command = counted

    def _of_kazoo(self) -> None:
        from kazoo.protocol.serialization import Sync

        from headcount.stores.zookeeper.link import Link
        from headcount.stores.zookeeper.words import AddWatch

        ask = Link.ask

        def counted(link: Link, *requests: Any, **named: Any) -> Any:
            alone = len(requests) == 1 and isinstance(requests[0], AddWatch | Sync)
            for _ in requests:
                self.put_down(looks=alone)
            return ask(link, *requests, **named)

        Link.ask = counted  # type: ignore[method-assign]

    def _of_grpc(self) -> None:
        from headcount.stores.etcd.client import RANGE, Client

        ask = Client._ask_one

        def counted(client: Client, host: str, method: Any, request: Any, seconds: float) -> Any:
            self.put_down(looks=method is RANGE and request.count_only)
            return ask(client, host, method, request, seconds)

        Client._ask_one = counted  # type: ignore[method-assign]

    def _mark_sweeps(self, kind: Any) -> None:
        sweep = kind.sweep

        def swept(*args: Any, **named: Any) -> Any:
            self.sweeping = True
            try:
                return sweep(*args, **named)
            finally:
                self.sweeping = False

        kind.sweep = swept

    def _watch_the_clock(self) -> None:
        """Who ticks, as the heart hears it anyway."""
        from headcount.core.expiry import Clock

        heard = Clock.heard

        def listening(clock: Clock, tick: Any, *args: Any, **named: Any) -> object:
            self.ticker, self.standbys = tick.ticker, tick.standbys
            return heard(clock, tick, *args, **named)

        Clock.heard = listening  # type: ignore[method-assign]
