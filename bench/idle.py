"""What does a process cost that has nothing to do but be there?

A watcher looks at SQLite's doorbell (one PRAGMA that reads no row) forty times a second, beats, and
reads what rang: in a group in which nothing happens, nothing. Somebody moves the clock each second, and two
stand by. Statements are counted by what they are for: `looks` at the doorbell; `served`, to beat, to tick and
to see whether a sweep is due; and `reads`, which is everything else.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, enter_of, opened, session_of, with_options
from headcount.register import replace
from headcount.stores.sql.sqlite import SQLiteStore

SECONDS = 20.0
MEMBERS = 100
WATCHERS = 50
TTL = 15.0


def measure(run: Run) -> Iterator[Line]:
    seconds = max(0.5, SECONDS * run.scale)
    many = run.size(WATCHERS, 2)
    memory = _memory(run, seconds)
    for watchers, who in (
        (_town(run, 1, seconds), "1 idle watcher"),
        (_town(run, many, seconds), "one of them"),
    ):
        if who == "one of them":
            total = sum(watcher["cpu"] for watcher in watchers)
            yield Line(f"{many} idle watchers: CPU of a core", "%", {"sqlite": Figure(total)})
        for role in ("ticker", "standby", "other"):
            found = [watcher for watcher in watchers if watcher["role"] == role]
            if found:
                yield from _lines(f"{who} ({role})", found, memory if len(watchers) == 1 else None)
    joiner = _joiner(run, seconds)
    yield Line("a member that only joined: CPU a minute", "s", {"sqlite": Figure(joiner["cpu"] / 100 * 60)})
    total = sum(joiner[key] for key in NUMBERS[1:])
    yield Line("… its statements, of any kind", "/s", {"sqlite": Figure(total)})


def _lines(who: str, found: list[dict[str, Any]], memory: float | None) -> Iterator[Line]:
    mean = {key: sum(watcher[key] for watcher in found) / len(found) for key in NUMBERS}
    figures = {"sqlite": Figure(mean["cpu"])}
    yield Line(
        f"{who}: CPU of a core", "%", figures if memory is None else {"memory": Figure(memory), **figures}
    )
    yield Line("… looks at the doorbell, which read no row", "/s", {"sqlite": Figure(mean["looks"])})
    yield Line("… statements to beat and to tick", "/s", {"sqlite": Figure(mean["served"])})
    yield Line("… reads of the register", "/s", {"sqlite": Figure(mean["reads"])}, goal=0.2)


NUMBERS = ("cpu", "looks", "served", "reads")


def _town(run: Run, count: int, seconds: float) -> list[dict[str, Any]]:
    ttl, interval = run.ttl(TTL)
    url = run.url("sqlite", interval=interval)
    raw = opened(url)
    raw.create_group("crowd")
    # Rows of no session: one that is there and does not beat would be taken for somebody to stand by.
    rows = [replace(enter_of(f"m{number}"), session="") for number in range(run.size(MEMBERS, 5))]
    raw.commit("crowd", rows)
    raw.close()
    with ExitStack() as stack:
        children = [stack.enter_context(Child(watcher, url, ttl)) for _ in range(count)]
        return _measured(children, seconds, ttl, interval)


def _measured(children: list[Child], seconds: float, ttl: float, interval: float) -> list[dict[str, Any]]:
    for child in children:
        child.hear()
    time.sleep(ttl / 2 + 4 * interval)  # until the roles are dealt out, and the start is over
    for child in children:
        child.tell(seconds)
    found = [child.hear() for child in children]
    for child in children:
        child.tell("go")
    return found


def _joiner(run: Run, seconds: float) -> dict[str, Any]:
    """Somebody else has to watch, and tick: that is not what is asked for here."""
    ttl, interval = run.ttl(TTL)
    url = run.url("sqlite", interval=interval)
    with ExitStack() as stack:
        other = stack.enter_context(Child(watcher, url, ttl))
        other.hear()
        others = [stack.enter_context(Child(member, url, f"m{number}", ttl)) for number in range(4)]
        found = [one for one in _measured(others, seconds, ttl, interval) if one["role"] == "other"]
        other.tell(0.0)
        other.hear()
        other.tell("go")
        return found[0] if found else {"cpu": float("nan"), **dict.fromkeys(NUMBERS[1:], float("nan"))}


def _memory(run: Run, seconds: float) -> float:
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
        return (time.process_time() - began) / seconds * 100


# ── the other processes ──


def watcher(pipe: Connection, url: str, ttl: float) -> None:
    count = Count()
    with headcount.connect(url, ttl=ttl, timeout=60) as c:
        c.create_group("crowd")
        c.group("crowd").view()
        pipe.send("watching")
        _idle(pipe, c, count)


def member(pipe: Connection, url: str, name: str, ttl: float) -> None:
    count = Count()
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
    """Counts what is asked of SQLite in this process, by the thread that asks: the heart's are all to
    beat and tick; of the watcher's, the look that follows a tick, whether a sweep is due, is part of it."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self.ticker = ""
        self.standbys: tuple[str, ...] = ()
        self.sweeping = False
        connect, sweep = sqlite3.connect, SQLiteStore.sweep

        def counted(*args: Any, **named: Any) -> sqlite3.Connection:
            con = connect(*args, **named)
            con.set_trace_callback(self.count)
            return con

        def swept(*args: Any, **named: Any) -> Any:
            self.sweeping = True
            try:
                return sweep(*args, **named)
            finally:
                self.sweeping = False

        sqlite3.connect = counted  # type: ignore[assignment]  # in this process only
        SQLiteStore.sweep = swept  # type: ignore[method-assign]
        self._watch_the_clock()

    def count(self, statement: str) -> None:
        if "data_version" in statement:
            self.said["looks"] += 1
        elif threading.current_thread().name == "headcount-heart" or self.sweeping:
            self.said["served"] += 1
        else:
            self.said["reads"] += 1

    def so_far(self) -> Counter[str]:
        return Counter(self.said)

    def _watch_the_clock(self) -> None:
        """Who ticks, as the heart hears it anyway."""
        from headcount.core.expiry import Clock

        heard = Clock.heard

        def listening(clock: Clock, tick: Any, *args: Any, **named: Any) -> object:
            self.ticker, self.standbys = tick.ticker, tick.standbys
            return heard(clock, tick, *args, **named)

        Clock.heard = listening  # type: ignore[method-assign]  # in this process only
