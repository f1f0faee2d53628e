"""How long until another process has heard of a join, an update, a leave?

From the beginning of the call in one process to the callback in the other. On SQLite the other process
looks at the file each 25 ms, so that half of that is waiting on average: the limit, a bare INSERT seen by
a loop that looks as often, has it too. In memory both sides are in one process, each with an engine of its
own, and the limit is a condition.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import headcount
from bench.children import Child
from bench.harness import Line, Run, shares, with_options

POLL = 0.025
MILLI = 1e3
KINDS = {"join": "joined", "update": "updated", "leave": "left"}
GOAL = 60.0


def measure(run: Run) -> Iterator[Line]:
    rounds = run.size(30 * run.repeat, 5)
    between = _in_sqlite(run, rounds)
    in_one = _in_memory(run, rounds)
    for work in KINDS:
        for part, name in ((0.5, "p50"), (0.99, "p99")):
            figures = {
                store: shares(ours[work], raw, part, MILLI)
                for store, (ours, raw) in (("memory", in_one), ("sqlite", between))
            }
            limit = "an INSERT seen by polling; in memory a condition"
            goal = GOAL if part == 0.5 else None
            yield Line(f"{work} seen by another process, {name}", "ms", figures, goal=goal, limit=limit)


Waits = tuple[dict[str, list[float]], list[float]]


def _in_sqlite(run: Run, rounds: int) -> Waits:
    url, raw = run.url("sqlite"), run.path()
    with Child(watcher, url, raw) as other:
        other.hear()
        did = act(url, raw_writer(raw), rounds, random.Random(1))
        return _matched(did, other.ask("tell"))


def _in_memory(run: Run, rounds: int) -> Waits:
    """Two engines in one process: their URLs differ in what does not matter."""
    url, bell = run.url("memory"), threading.Condition()
    seen: list[tuple[str, int, float]] = []
    raw: list[int] = []
    ended = threading.Event()

    def listen() -> None:
        heard = 0
        while not ended.is_set():
            with bell:
                while len(raw) == heard and not ended.is_set():
                    bell.wait(1.0)
                at = time.monotonic()
                fresh, heard = raw[heard:], len(raw)
            seen.extend(("raw", number, at) for number in fresh)

    def write(number: int) -> None:
        with bell:
            raw.append(number)
            bell.notify_all()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        with headcount.connect(with_options(url, interval=1)) as c:
            c.create_group("crowd")
            c.set_notifier_func("crowd", lambda change: _note(seen, change))
            did = act(url, write, rounds, random.Random(1))
            time.sleep(0.3)
    finally:
        ended.set()
        thread.join()
    return _matched(did, seen)


def act(
    url: str, write: Callable[[int], object], rounds: int, chance: random.Random
) -> list[tuple[str, int, float]]:
    """Join, update, leave, and write by hand, in turns, at moments that have nothing to do with anybody's
    poll. Answers what was done, and when it began."""
    did = []
    with headcount.connect(url, member_id="actor", ttl=60) as c:
        for number in range(1, rounds + 1):
            steps: dict[str, Callable[[], object]] = {
                "join": lambda number=number: c.join_group("crowd", b"j%d" % number),
                "update": lambda number=number: c.update_capabilities(b"u%d" % number),
                "leave": lambda: c.leave_group("crowd"),
                "raw": lambda number=number: write(number),
            }
            for name, step in steps.items():
                did.append((name, number, time.monotonic()))
                step()
                time.sleep(POLL + chance.random() * 2 * POLL)
    return did


def _note(seen: list[tuple[str, int, float]], change: headcount.Change) -> None:
    at = time.monotonic()
    if change.member is not None and change.member.capabilities:
        seen.append((change.kind.value, int(change.member.capabilities[1:]), at))


def _matched(did: list[tuple[str, int, float]], seen: list[tuple[str, int, float]]) -> Waits:
    at = {(kind, number): when for kind, number, when in reversed(seen)}
    waits: dict[str, list[float]] = {work: [] for work in [*KINDS, "raw"]}
    for work, number, began in did:
        heard = at.get((KINDS.get(work, work), number))
        if heard is not None:
            waits[work].append(heard - began)
    return waits, waits.pop("raw")


# ── the other process ──


def watcher(pipe: Connection, url: str, raw: str) -> None:
    seen: list[tuple[str, int, float]] = []
    ended = threading.Event()
    with headcount.connect(url, ttl=60) as c:
        c.create_group("crowd")
        c.set_notifier_func("crowd", lambda change: _note(seen, change))
        thread = threading.Thread(target=poll, args=(raw, seen, ended))
        thread.start()
        pipe.send("watching")
        pipe.recv()
        time.sleep(0.3)
        ended.set()
        thread.join()
    pipe.send(seen)


def raw_writer(path: str) -> Callable[[int], object]:
    con = raw_table(path)
    return lambda number: con.execute("INSERT INTO members VALUES (?)", (number,))


def raw_table(path: str) -> sqlite3.Connection:
    con = sqlite3.connect(path, isolation_level=None)
    con.execute("PRAGMA journal_mode = WAL")
    con.execute("PRAGMA synchronous = FULL")
    con.execute("CREATE TABLE IF NOT EXISTS members (number INTEGER PRIMARY KEY)")
    return con


def poll(path: str, seen: list[Any], ended: threading.Event) -> None:
    """The least that SQLite asks of whoever wants to be told."""
    con = raw_table(path)
    version, heard = 0, 0
    while not ended.is_set():
        (now,) = con.execute("PRAGMA data_version").fetchone()
        if now != version:
            version = now
            for (number,) in con.execute("SELECT number FROM members WHERE number > ?", (heard,)).fetchall():
                seen.append(("raw", number, time.monotonic()))
                heard = number
        time.sleep(POLL)
    con.close()
