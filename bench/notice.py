"""How long until another process has heard of a join, an update, a leave?

From the beginning of the call in one process to the callback in the other. On SQLite the other process
looks at the file each 25 ms, so that half of that is waiting on average: the limit, a bare INSERT seen by
a loop that looks as often, has it too. So it is on MySQL, where a look each 0.5 s is the most that an idle
server should be asked. PostgreSQL tells: there, the limit is an INSERT with a NOTIFY; on ZooKeeper and etcd
it is a number that is written and watched. In memory both sides
are in one process, each with an engine of its own, and the limit is a condition.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Line, Run, shares, with_options
from bench.raw import Place, Raw

MILLI = 1e3
LEAST_PAUSE = 0.025
PAUSE = {"mysql": 0.5}
"""Seconds between two changes, and up to three times that: the last one has been seen by then."""
KINDS = {"join": "joined", "update": "updated", "leave": "left"}
GOALS = {"memory": 60.0, "sqlite": 60.0, "postgresql": 20.0, "mysql": 500.0, "zookeeper": 20.0, "etcd": 20.0}


def measure(run: Run) -> Iterator[Line]:
    taken = {}
    for store in run.stores:
        rounds = run.size((5 if store == "mysql" else 30) * run.repeat, 5)
        taken[store] = _in_memory(run, rounds) if store == "memory" else _between(run, store, rounds)
    for work in KINDS:
        for part, name in ((0.5, "p50"), (0.99, "p99")):
            figures = {store: shares(ours[work], raw, part, MILLI) for store, (ours, raw) in taken.items()}
            limit = "an INSERT seen by polling, or told: by NOTIFY, by a watch; in memory a condition"
            goal = GOALS if part == 0.5 else None
            yield Line(f"{work} seen by another process, {name}", "ms", figures, goal=goal, limit=limit)


Waits = tuple[dict[str, list[float]], list[float]]


def _between(run: Run, store: str, rounds: int) -> Waits:
    url, place = run.url(store), run.place(store)
    with Child(watcher, url, place) as other:
        other.hear()
        pause = PAUSE.get(store, LEAST_PAUSE)
        return _matched(act(url, raw_news(place).tell, rounds, random.Random(1), pause), other.ask("tell"))


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
    url: str,
    write: Callable[[int], object],
    rounds: int,
    chance: random.Random,
    pause: float = LEAST_PAUSE,
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
                time.sleep(pause + chance.random() * 2 * pause)
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


def watcher(pipe: Connection, url: str, place: Place) -> None:
    seen: list[tuple[str, int, float]] = []
    ended = threading.Event()
    with headcount.connect(url, ttl=60) as c:
        c.create_group("crowd")
        c.set_notifier_func("crowd", lambda change: _note(seen, change))
        thread = threading.Thread(target=poll, args=(raw_news(place), seen, ended))
        thread.start()
        pipe.send("watching")
        pipe.recv()
        time.sleep(0.3 + PAUSE.get(place.store, 0))
        ended.set()
        thread.join()
    pipe.send(seen)


def raw_news(place: Place) -> Raw:
    raw = place.connect()
    raw.prepare_news()
    return raw


def poll(raw: Raw, seen: list[tuple[str, int, float]], ended: threading.Event) -> None:
    """The least that the store asks of whoever wants to be told."""
    while not ended.is_set():
        for number in raw.news():
            seen.append(("raw", number, time.monotonic()))
    raw.close()
