"""100,000 sessions that beat for ten minutes: what does it cost the server, and does it get slower?

One process beats them in batches of 1,000, spread over a third of the ttl; another client moves the clock
each second and sweeps. Nobody may be lost. The beats are rewritten all the time: whether what is dead of them
is cleared away shows in the size of their table, and whether their index stays untouched in the share of HOT
updates.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from bench.harness import Figure, Line, Run, cpu_of, opened, session_of
from bench.servers import Host
from headcount.stores.url import parse

SESSIONS = 100_000
BATCH = 1000
TTL = 30.0


def measure(run: Run) -> Iterator[Line]:
    for store in run.stores:
        yield from _endured(run, store)


def _endured(run: Run, store: str) -> Iterator[Line]:
    host, url, count = run.hosts[store], run.url(store, interval=1), run.size(SESSIONS, 100)
    database = parse(url).path.strip("/")
    with closing(opened(url)) as client, closing(opened(url)) as other:
        sessions = [session_of(f"s{n}", TTL).id for n in range(count)]
        clock = Clock(other, sessions[0])
        started = time.monotonic()
        for n in range(count):
            client.open_session(session_of(f"s{n}", TTL))
        opening = time.monotonic() - started
        client.beat(sessions)
        before, size, server, ours = _counts(host, database), _size(host, database), [], []
        clock.start()  # not before: nobody beats while the sessions are opened
        began = time.monotonic()
        with host.cpu_of(server), cpu_of(ours):
            beats, lost = _beat(client, sessions, run.minutes * 60)
        took = time.monotonic() - began
        clock.end()
        after, size_after = _counts(host, database), _size(host, database)
    each = f"{count:,} sessions for {took / 60:.2g} min"

    def line(work: str, unit: str, value: float, goal: float | None = None) -> Line:
        return Line(work, unit, {store: Figure(value)}, goal)

    yield line(f"{each}: server CPU of a core", "%", server[0] / took * 100)
    yield line("… client CPU of a core", "%", ours[0] / took * 100)
    yield line("… sessions lost", "", lost, 0)
    yield line(f"… a beat of {BATCH:,}, p50", "ms", statistics.median(beats) * 1e3)
    yield line("… longest", "ms", max(beats) * 1e3)
    yield line("… a sweep, p50", "ms", statistics.median(clock.sweeps) * 1e3)
    yield line("… longest", "ms", max(clock.sweeps) * 1e3)
    yield line("… table of the beats, before", "MB", size / 1e6)
    yield line("… table of the beats, after", "MB", size_after / 1e6)
    yield line("… its dead rows, after", "", after["dead"])
    updates = after["updates"] - before["updates"]
    yield line("… HOT of its updates", "%", (after["hot"] - before["hot"]) / max(1, updates) * 100)
    yield line("… vacuums of it", "", after["vacuums"] - before["vacuums"])
    yield line("… a session opened, before all this", "ms", opening / count * 1e3)


def _beat(client: Any, sessions: list[str], seconds: float) -> tuple[list[float], int]:
    """How long each batch took, and how many were not taken."""
    batches = [sessions[start : start + BATCH] for start in range(0, len(sessions), BATCH)]
    pause = TTL / 3 / len(batches)
    taken: list[float] = []
    lost: set[str] = set()
    began = due = time.monotonic()
    while due < began + seconds:
        for batch in batches:
            time.sleep(max(0.0, due - time.monotonic()))
            asked = time.perf_counter()
            notices = client.beat(batch).notices
            taken.append(time.perf_counter() - asked)
            lost.update(session for session in batch if notices[session] is None)
            due += pause
    return taken, len(lost)


class Clock(threading.Thread):
    """Moves the store's clock, and sweeps, as a ticker does."""

    def __init__(self, store: Any, ticker: str) -> None:
        super().__init__(daemon=True)
        self._store, self._ticker = store, ticker
        self._ended = threading.Event()
        self.sweeps: list[float] = []

    def run(self) -> None:
        while not self._ended.wait(1.0):
            self._store.advance(self._store.tick(), self._ticker)
            began = time.perf_counter()
            self._store.sweep(lambda census: census.overdue)
            self.sweeps.append(time.perf_counter() - began)

    def end(self) -> None:
        self._ended.set()
        self.join()


def _size(host: Host, database: str) -> int:
    server: Any = host.server
    return int(server.ask("SELECT pg_total_relation_size('headcount.beats')", database=database)[0][0])


def _counts(host: Host, database: str) -> dict[str, int]:
    server: Any = host.server
    time.sleep(2)  # until all backends have said what they did
    ((*values,),) = server.ask(
        "SELECT n_tup_upd, n_tup_hot_upd, n_dead_tup, vacuum_count + autovacuum_count "
        "FROM pg_stat_user_tables WHERE schemaname = 'headcount' AND relname = 'beats'",
        database=database,
    )
    return dict(zip(("updates", "hot", "dead", "vacuums"), map(int, values), strict=True))
