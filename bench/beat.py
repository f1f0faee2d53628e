"""How many beats can one process have taken, and what do they cost it, and the server?

On a server, the limit of one beat is a bare UPDATE of one row by its key, prepared, on a table of the same
kind; of many, one that names them all. On ZooKeeper it is a `multi` of checks, on etcd a keepalive and a
read. What many processes with one session each cost it is measured
with as many connections of one process, which beat in turns: to the server, they are the same.
"""

from __future__ import annotations

import gc
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.harness import (
    Action,
    Figure,
    Line,
    Run,
    cpu_of,
    in_turns,
    io_of_process,
    opened,
    populate,
    session_of,
)
from bench.raw import Raw
from bench.servers import Host
from headcount.stores.base import Store

BATCH = 1000
PROCESSES = 200
CHEAP = ("memory", "sqlite", "postgresql")
"""Where so little is written, or synced, that a thousand single beats are soon done."""
WARM = 12
"""Turns before the first that counts. psycopg prepares a statement that it has sent three times, and
PostgreSQL plans it five times more before it settles for one plan: eight would end on the edge of that."""

GOALS = {"beats, 1,000 sessions a call": {"postgresql": 200_000.0}}


def measure(run: Run) -> Iterator[Line]:
    found: dict[str, dict[str, Figure]] = {}
    for store in run.stores:
        for work, figure in _beaten(run, store):
            found.setdefault(work, {})[store] = figure
    limit = (
        "a prepared UPDATE, on SQLite WAL, NORMAL; on ZooKeeper a multi of a check, "
        "on etcd a keepalive and a read; in memory a dict"
    )
    for work, figures in found.items():
        per_second = work.startswith("beats")
        ratio = {"postgresql": 1.2} if "sessions, 1 each" in work and "server" in work else None
        yield Line(
            work,
            "/s" if per_second else "ms" if "sessions, 1 each" in work else "µs",
            figures,
            goal=ratio or GOALS.get(work),
            at_least=per_second,
            of_ratio=ratio is not None,
            limit=limit,
        )


def _beaten(run: Run, store: str) -> Iterator[tuple[str, Figure]]:
    batch = run.size(BATCH, 10)
    url = run.url(store)
    client = opened(url)
    names = [session_of(name).id for name in populate(client, "crowd", batch)]
    if store == "memory":
        one, many = _in_a_dict(names)
    elif store == "sqlite":
        one, many = RawBeats(run, batch).both()
    else:
        raw = run.place(store).connect()
        raw.bear(names)
        one, many = _raw_beat(raw, names[0]), lambda: raw.beat_all(names)
    few, often = run.size(50, 3), run.size(1000 if store in CHEAP else 300, 10)

    single = in_turns(lambda: client.beat(names[:1]), one, times=often, rounds=run.repeat)
    whole = in_turns(lambda: client.beat(names), many, times=few, rounds=run.repeat)
    yield "beats, one session a call", _rate(single, 1)
    yield f"beats, {batch:,} sessions a call", _rate(whole, batch)

    spent: list[float] = []
    raw_spent: list[float] = []
    before = io_of_process()
    with cpu_of(spent):
        for _ in range(few):
            client.beat(names)
    after = io_of_process()
    with cpu_of(raw_spent):
        for _ in range(few):
            many()
    finally_ = io_of_process()
    yield (
        f"CPU of {batch:,} beats, one call",
        Figure(spent[0] / few * 1e6, raw_spent[0] / few * 1e6, spent[0] / raw_spent[0]),
    )
    if after and store == "sqlite":
        ours, written = after["wchar"] - before["wchar"], finally_["wchar"] - after["wchar"]
        yield (
            f"kB written by {batch:,} beats, one call",
            Figure(ours / few / 1e3, written / few / 1e3, ours / written),
        )
    client.close()
    if store in run.hosts:
        raw.close()
        yield from _paid_by_the_server(run, store)


# ── what the server pays ──


def _paid_by_the_server(run: Run, store: str) -> Iterator[tuple[str, Figure]]:
    host, place = run.hosts[store], run.place(store)
    batch, processes = run.size(BATCH, 10), run.size(PROCESSES, 4)
    client = opened(place.url)
    names = [session_of(name).id for name in populate(client, "crowd", batch)]
    with closing(client), closing(place.connect()) as raw:
        raw.bear(names)
        single = [_raw_beat(raw, name) for name in names]
        paid = Paid(run, host, lambda: client.beat(names), _all(single), times=run.size(5, 3), warm=2)
        yield f"server CPU of {batch:,} beats, one call; limit: one beat each", paid.by_the_server(1e6)
    clients = [opened(place.url) for _ in range(processes)]
    raws = [place.connect() for _ in range(processes)]
    own = [session_of(f"own-{n}") for n in range(processes)]
    for client, session, raw in zip(clients, own, raws, strict=True):
        client.open_session(session)
        raw.bear([session.id])
    ours = _all([_beat(one, session.id) for one, session in zip(clients, own, strict=True)])
    limit = _all([_raw_beat(one, session.id) for one, session in zip(raws, own, strict=True)])
    paid = Paid(run, host, ours, limit, times=run.size(10, 2))
    part = 1000 / processes
    yield f"server CPU of 1,000 beats, {processes} sessions, 1 each", paid.by_the_server(1e3 * part)
    yield f"client CPU of 1,000 beats, {processes} sessions, 1 each", paid.by_the_client(1e3 * part)
    for each in (*clients, *raws):
        each.close()


class Paid:
    """What two actions cost a server and us, in turns: ours, the limit, ours …"""

    def __init__(
        self, run: Run, host: Host, ours: Action, limit: Action, *, times: int, warm: int = WARM
    ) -> None:
        for _ in range(warm):
            ours(), limit()
        gc.collect()
        self._server: list[tuple[float, float]] = []
        self._client: list[tuple[float, float]] = []
        for _ in range(max(3, run.repeat)):
            (a, b), (c, d) = paid_for(host, ours, times), paid_for(host, limit, times)
            self._server.append((a, c))
            self._client.append((b, d))

    def by_the_server(self, factor: float) -> Figure:
        return _figure(self._server, factor)

    def by_the_client(self, factor: float) -> Figure:
        return _figure(self._client, factor)


def paid_for(host: Host, action: Action, times: int = 1) -> tuple[float, float]:
    """Seconds of CPU that one of so many costs the server, and this process."""
    server: list[float] = []
    client: list[float] = []
    with host.cpu_of(server), cpu_of(client):
        for _ in range(times):
            action()
    return server[0] / times, client[0] / times


def _figure(pairs: list[tuple[float, float]], factor: float) -> Figure:
    """The kernel may not have counted anything for so small a thing; then there is no ratio."""
    ratios = [ours / limit for ours, limit in pairs if limit > 0]
    return Figure(
        ours=statistics.median(ours for ours, _ in pairs) * factor,
        limit=statistics.median(limit for _, limit in pairs) * factor,
        ratio=statistics.median(ratios) if ratios else None,
    )


def _beat(client: Store, name: str) -> Action:
    return lambda: client.beat([name])


def _raw_beat(raw: Raw, name: str) -> Action:
    return lambda: raw.beat(name)


def _all(actions: list[Action]) -> Action:
    def together() -> None:
        for action in actions:
            action()

    return together


def _rate(figure: Figure, count: int) -> Figure:
    assert figure.limit is not None
    return Figure(count / figure.ours, count / figure.limit, figure.ratio)


def _in_a_dict(names: list[str]) -> tuple[Action, Action]:
    deadlines = dict.fromkeys(names, 0.0)

    def one() -> None:
        deadlines[names[0]] = time.time()

    return one, lambda: deadlines.update(dict.fromkeys(names, time.time()))


class RawBeats:
    """The cheapest that SQLite can do: rows of the same shape, a connection in autocommit."""

    def __init__(self, run: Run, count: int) -> None:
        self.con = sqlite3.connect(Path(run.path()), isolation_level=None)
        self.con.execute("PRAGMA journal_mode = WAL")
        self.con.execute("PRAGMA synchronous = NORMAL")
        self.con.execute(
            "CREATE TABLE beats (session TEXT PRIMARY KEY, deadline INTEGER, lasts INTEGER, seen REAL)"
            " WITHOUT ROWID"
        )
        rows = [(f"{i:032}", 1, 16, 0.0) for i in range(count)]
        self.con.executemany("INSERT INTO beats VALUES (?, ?, ?, ?)", rows)
        self.first = rows[0][0]

    def both(self) -> tuple[Action, Action]:
        return (
            lambda: self.con.execute(
                "UPDATE beats SET deadline = max(deadline, ? + lasts), seen = ? WHERE session = ?",
                (1, time.time(), self.first),
            ),
            lambda: self.con.execute(
                "UPDATE beats SET deadline = max(deadline, ? + lasts), seen = ?", (1, time.time())
            ),
        )
