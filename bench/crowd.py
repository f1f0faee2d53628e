"""How long do 2,000 members take to join one group, from 4 processes whose connections are open?

Each process has 500 coordinators, which share one engine and all join at once. The limit is 2,000 rows
(nodes, keys) inserted from 4 processes, each in a transaction of its own that is synced to the disk. The
memory store is one process: there, all 2,000 are in it. On PostgreSQL the question is asked a second time, of
a server whose every sync waits 5 ms for company (`commit_delay`), as a slow disk would.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, of_pairs, with_options
from bench.raw import Place

PROCESSES = 4
GOAL = 5.0
SLOW_GOAL = 10.0


def measure(run: Run) -> Iterator[Line]:
    count = run.size(2000, PROCESSES)
    rounds = max(1, run.repeat - 2)
    joined, seen = {}, {}
    for store in run.stores:
        joins = _in_memory if store == "memory" else partial(_between_processes, store=store)
        taken = [(joins(run, count), _raw(run, store, count)) for _ in range(rounds)]
        joined[store] = of_pairs([(join, raw) for (join, _), raw in taken])
        seen[store] = of_pairs([(watched, raw) for (_, watched), raw in taken])
    limit = f"{count:,} transactions of one row from {PROCESSES} processes; in memory a dict under a lock"
    yield Line(f"{count:,} members join one group, until all have joined", "s", joined, GOAL, limit=limit)
    yield Line(f"{count:,} members join one group, until a watcher sees all", "s", seen, GOAL, limit=limit)
    if "postgresql" in run.stores:
        host: Any = run.hosts["postgresql"]
        with host.delaying_commits():
            (joined_then, seen_then), raw = (
                _between_processes(run, count, "postgresql"),
                _raw(run, "postgresql", count),
            )
        for work, figure in (("joined", joined_then), ("are seen", seen_then)):
            slow = {"postgresql": Figure(figure, raw, figure / raw)}
            yield Line(f"… with commit_delay=5000, until all {work}", "s", slow, SLOW_GOAL, limit=limit)


def _between_processes(run: Run, count: int, store: str) -> tuple[float, float]:
    url = run.url(store)
    with ExitStack() as stack:
        other = stack.enter_context(Child(watcher, url, count))
        other.hear()
        parts = [stack.enter_context(Child(joiner, url, n, count // PROCESSES)) for n in range(PROCESSES)]
        return _together(parts, other)


def _together(parts: list[Child], other: Child | None) -> tuple[float, float]:
    for part in parts:
        part.hear()
    start = time.monotonic() + 0.2
    for part in parts:
        part.tell(start)
    done = max(part.hear() for part in parts) - start
    seen = other.hear() - start if other is not None else done
    for part in parts:
        part.tell("go")
    return done, seen


def _in_memory(run: Run, count: int) -> tuple[float, float]:
    url = run.url("memory")
    with headcount.connect(with_options(url, interval=1)) as c:
        c.create_group("crowd")
        changes = c.group("crowd").changes()
        with ExitStack() as stack:
            crowd = Crowd(stack, url, "m", count)
            start = time.monotonic()
            waiting = threading.Thread(target=lambda: found.append(_until_all(changes, count)))
            found: list[float] = []
            waiting.start()
            done = crowd.join() - start
            waiting.join()
            return done, found[0] - start


def _raw(run: Run, store: str, count: int) -> float:
    if store == "memory":
        return _into_a_dict(count)
    place = run.place(store)
    con = place.connect()
    con.prepare()
    con.close()
    with ExitStack() as stack:
        parts = [
            stack.enter_context(Child(raw_joiner, place, n, count // PROCESSES)) for n in range(PROCESSES)
        ]
        return _together(parts, None)[0]


def _into_a_dict(count: int) -> float:
    members: dict[str, float] = {}
    lock = threading.Lock()

    def write(part: int) -> None:
        for number in range(count // PROCESSES):
            with lock:
                members[f"m{part}-{number}"] = time.time()

    threads = [threading.Thread(target=write, args=(part,)) for part in range(PROCESSES)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - began


# ── the other processes ──


def watcher(pipe: Connection, url: str, count: int) -> None:
    with headcount.connect(url, ttl=60, timeout=60) as c:
        c.create_group("crowd")
        changes = c.group("crowd").changes()
        pipe.send("watching")
        pipe.send(_until_all(changes, count))


def _until_all(changes: headcount.Changes, count: int) -> float:
    for change in changes:
        if len(change.view) >= count:
            break
    return time.monotonic()


def joiner(pipe: Connection, url: str, part: int, count: int) -> None:
    with ExitStack() as stack:
        crowd = Crowd(stack, url, f"p{part}", count)
        pipe.send("connected")
        _sleep_until(pipe.recv())
        pipe.send(crowd.join())
        pipe.recv()
        stack.pop_all()  # to say goodbye is another question


class Crowd:
    """So many coordinators, each with a thread that waits for the word to join."""

    def __init__(self, stack: ExitStack, url: str, name: str, count: int) -> None:
        self._go = threading.Event()
        members = [
            stack.enter_context(headcount.connect(url, member_id=f"{name}-{n}", ttl=60, timeout=60))
            for n in range(count)
        ]
        before = threading.stack_size(256 * 1024)
        try:
            self._threads = [
                threading.Thread(target=self._join, args=(member,), daemon=True) for member in members
            ]
            for thread in self._threads:
                thread.start()
        finally:
            threading.stack_size(before)

    def _join(self, member: headcount.Coordinator) -> None:
        self._go.wait()
        member.join_group("crowd")

    def join(self) -> float:
        """Everybody at once; when all had joined."""
        self._go.set()
        for thread in self._threads:
            thread.join()
        return time.monotonic()


def raw_joiner(pipe: Connection, place: Place, part: int, count: int) -> None:
    con = place.connect()
    pipe.send("connected")
    _sleep_until(pipe.recv())
    for number in range(count):
        con.add(f"m{part}-{number}", number)
    pipe.send(time.monotonic())
    pipe.recv()
    con.close()


def _sleep_until(start: float) -> None:
    time.sleep(max(0.0, start - time.monotonic()))
