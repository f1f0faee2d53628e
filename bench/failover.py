"""When a leader resigns, how long until the next one's term begins in another process?

The processes lead in turn: each waits for its term, holds it for a moment, and leaves. A handing-over is from
the moment of leaving to the beginning of the next term. The limit is a row that one connection writes and
another hears of, as in the question before; in memory, a condition.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Line, Run, shares, with_options
from bench.notice import LEAST_PAUSE, poll, raw_news

PROCESSES = 3
MILLI = 1e3
GOAL = 200.0

Terms = list[tuple[int, float, float]]
"""Token, when it began, when it was left."""


def measure(run: Run) -> Iterator[Line]:
    seconds = max(2.0, 4.0 * run.repeat * run.scale)
    taken = {
        store: _in_memory(run, seconds) if store == "memory" else _between_processes(run, store, seconds)
        for store in run.stores
    }
    for part, name in ((0.5, "p50"), (0.99, "p99")):
        figures = {store: shares(ours, raw, part, MILLI) for store, (ours, raw) in taken.items()}
        limit = "a row written, seen by polling or told by the server; in memory a condition"
        yield Line(f"resign until the next term, {name}", "ms", figures, goal=GOAL, limit=limit)


def _between_processes(run: Run, store: str, seconds: float) -> tuple[list[float], list[float]]:
    url, place = run.url(store), run.place(store)
    seen: list[tuple[str, int, float]] = []
    wrote: dict[int, float] = {}
    ended = threading.Event()
    thread = threading.Thread(target=poll, args=(raw_news(place), seen, ended))
    with ExitStack() as stack:
        children = [stack.enter_context(Child(candidate, url, n)) for n in range(PROCESSES)]
        for child in children:
            child.hear()
        for child in children:
            child.tell(seconds)
        thread.start()
        write, chance, until = raw_news(place).tell, random.Random(1), time.monotonic() + seconds
        while time.monotonic() < until:
            number = len(wrote) + 1
            wrote[number] = time.monotonic()
            write(number)
            time.sleep(LEAST_PAUSE + chance.random() * 2 * LEAST_PAUSE)
        ended.set()
        thread.join()
        terms = [term for child in children for term in child.hear()]
    return _between(terms), [at - wrote[number] for _, number, at in seen]


def _in_memory(run: Run, seconds: float) -> tuple[list[float], list[float]]:
    url = run.url("memory")
    urls = [url, with_options(url, interval=1), with_options(url, mode="ticks")]
    found: list[Terms] = []

    def one(number: int) -> None:
        with headcount.connect(urls[number], member_id=f"m{number}", ttl=10) as c:
            found.append(lead(c, seconds))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _between([term for terms in found for term in terms]), _through_a_condition(100)


def _through_a_condition(times: int) -> list[float]:
    bell, taken = threading.Condition(), []
    said: list[float] = []

    def listen() -> None:
        for number in range(times):
            with bell:
                bell.wait_for(lambda number=number: len(said) > number, 5.0)
                taken.append(time.monotonic() - said[number])

    thread = threading.Thread(target=listen)
    thread.start()
    for _ in range(times):
        time.sleep(0.002)
        with bell:
            said.append(time.monotonic())
            bell.notify_all()
    thread.join()
    return taken


def _between(terms: Terms) -> list[float]:
    """From each leaving to the next beginning."""
    ordered = sorted(terms)
    return [after[1] - before[2] for before, after in itertools.pairwise(ordered)]


def lead(c: headcount.Coordinator, seconds: float) -> Terms:
    """Lead whenever it is our turn, for so long."""
    group = c.join_group("crowd", create=True)
    until, terms = time.monotonic() + seconds, []
    chance = random.Random(c.member_id)
    while (left := until - time.monotonic()) > 0:
        try:
            with group.leadership(timeout=left) as term:
                began = time.monotonic()
                time.sleep(0.02 + chance.random() * 2 * LEAST_PAUSE)
                terms.append((term.token, began, time.monotonic()))
        except headcount.LockTimeout:
            break
    return terms


# ── the other processes ──


def candidate(pipe: Connection, url: str, number: int) -> None:
    with headcount.connect(url, member_id=f"m{number}", ttl=10) as c:
        c.join_group("crowd", create=True)
        pipe.send("joined")
        pipe.send(lead(c, pipe.recv()))
