"""A town of real processes on one store, as a test handles it: start, kill, stop, and listen."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from headcount import stores
from headcount.model import Snapshot
from headcount.stores.base import TickingStore
from tests.processes.member import now
from tests.processes.places import EXPIRING

ROOT = Path(__file__).resolve().parents[2]

INTERVAL = 0.2
"""Seconds between the ticks of the town's store."""

TTL = 1.0

ROUND_TRIP = 0.05
"""What one tick may take besides its interval, on a machine with other work to do."""

STARTING = 20.0
"""Seconds that a process may take until it has joined."""

Event = dict[str, Any]


def down_within(
    ttl: float = TTL, interval: float = INTERVAL, *, ticker: bool = False, standbys: bool = False
) -> float:
    """The promise of completeness: a stopped member is down in every view within so many seconds.

    `ticker`: it moved the clock, and the others notice first that nobody does: three intervals more.
    `standbys`: both that would have stepped in are gone with it: one beat more."""
    bound = (math.ceil(ttl / interval) + 1) * (interval + ROUND_TRIP) + 1.0
    return bound + (3 * interval if ticker else 0.0) + (ttl / 3 if standbys else 0.0)


class Process:
    """One member process, or a crowd of them, and what it has said so far."""

    def __init__(self, config: Event) -> None:
        self.name = config["member_id"]
        self.events: list[Event] = []
        self._said = threading.Condition()
        # The package as this process has it, whichever that is.
        path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.member", json.dumps(config)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._said:
                self.events.append(json.loads(line))
                self._said.notify_all()

    def wait_for(self, event: str, within: float, since: int = 0, **like: Any) -> Event:
        """The first event of this name, from number `since` on, with these fields."""

        def found() -> Event | None:
            return next((e for e in self.events[since:] if matches(e, event, like)), None)

        with self._said:
            if not self._said.wait_for(lambda: found() is not None, within):
                raise AssertionError(
                    f"{self.name} did not say {event!r} {like} within {within:.1f} s; it said: {self.tail()}"
                )
            seen = found()
        assert seen is not None
        return seen

    def said(self, event: str, since: int = 0, **like: Any) -> list[Event]:
        with self._said:
            return [e for e in self.events[since:] if matches(e, event, like)]

    def tail(self) -> str:
        return "\n".join(str(event) for event in self.events[-12:]) or "nothing"

    def joined(self) -> Process:
        self.wait_for("joined", STARTING)
        return self

    @property
    def session(self) -> str:
        return str(self.said("joined")[0]["session"])

    @property
    def heard(self) -> int:
        """How many events it has said: what comes later has a higher number."""
        return len(self.events)

    def signal(self, number: int) -> float:
        """Send it, and say when."""
        at = now()
        os.killpg(self.popen.pid, number)
        return at

    def kill(self) -> float:
        at = self.signal(signal.SIGKILL)
        self.popen.wait(10)
        return at

    def stop(self) -> float:
        return self.signal(signal.SIGSTOP)

    def go_on(self) -> float:
        return self.signal(signal.SIGCONT)

    def end(self) -> float:
        """Ask it to say goodbye, and wait until it has."""
        at = self.signal(signal.SIGTERM)
        self.popen.wait(15)
        self._reader.join(5)
        return at

    def discard(self) -> None:
        for number in (signal.SIGCONT, signal.SIGKILL):
            try:
                os.killpg(self.popen.pid, number)
            except ProcessLookupError:
                break
        self.popen.wait(10)
        self._reader.join(10)
        assert self.popen.stdout is not None
        self.popen.stdout.close()


def matches(seen: Event, event: str, like: Event) -> bool:
    return seen["event"] == event and all(seen.get(name) == value for name, value in like.items())


class Town:
    """`url`: of an empty store, which is made here; its processes are given the same one."""

    def __init__(self, url: str, *, interval: float = INTERVAL) -> None:
        self.url = url
        self.store = stores.make(self.url, options={} if self.scheme in EXPIRING else {"interval": interval})
        self.store.open()
        self.processes: list[Process] = []

    @property
    def scheme(self) -> str:
        return stores.parse(self.url).scheme

    def time_passes(self, seconds: float) -> None:
        """In ticks, where the store counts by these; else by the clock."""
        if self.scheme in EXPIRING:
            time.sleep(seconds)
            return
        number = self.ticking.tick().number
        until(lambda: self.ticking.tick().number > number + seconds / INTERVAL, self.ticking.tick, STARTING)

    @property
    def ticking(self) -> TickingStore:
        """The store, if it has ticks."""
        assert isinstance(self.store, TickingStore)
        return self.store

    @property
    def path(self) -> Path:
        """The register's file, if it is on SQLite."""
        return Path(self.url.removeprefix("sqlite:///"))

    @property
    def files(self) -> list[Path]:
        """All that SQLite's processes lock to write."""
        return [self.path, self.path.with_name(f"{self.path.name}-beats")]

    def start(self, name: str, **config: Any) -> Process:
        made = Process({"url": self.url, "ttl": TTL, "member_id": name, **config})
        self.processes.append(made)
        return made

    def members(self, *names: str, **config: Any) -> list[Process]:
        """Members that have joined, and see each other."""
        made = [self.start(name, **config) for name in names]
        for process in made:
            process.joined()
        for process in made:
            for name in names:
                process.wait_for("change", STARTING, kind="joined", member=name)
        return made

    def stop(self, process: Process) -> float:
        """SIGSTOP, but not in the middle of a write to SQLite: the lock would be stopped along with it, the
        store stand still for all, and nobody go down. (That is another story: see test_outages.)"""
        while True:
            at = process.stop()
            if not (self.url.startswith("sqlite:") and any(map(_locked, self.files))):
                return at
            process.go_on()
            time.sleep(0.01)

    def roles(self, processes: list[Process]) -> tuple[Process, list[Process]]:
        """Who ticks and who stands by, once there are a ticker and two standbys among these."""
        by_session = {process.session: process for process in processes}
        wanted = min(2, len(processes) - 1)
        until = time.monotonic() + 20
        while True:
            tick = self.ticking.tick()
            roles = [by_session[s] for s in (tick.ticker, *tick.standbys) if s in by_session]
            if tick.ticker in by_session and len(roles) == 1 + wanted:
                return roles[0], roles[1:]
            if time.monotonic() > until:
                raise AssertionError(f"no ticker with {wanted} standbys among {list(by_session)}: {tick}")
            time.sleep(0.02)

    def snapshot(self) -> Snapshot:
        found = self.store.read("workers")
        assert isinstance(found, Snapshot)
        return found

    def states(self) -> dict[str, str]:
        return {row.key: row.state.value for row in self.snapshot().rows}

    def close(self) -> None:
        for process in self.processes:
            process.discard()
        self.store.close()


def leader(people: list[Process]) -> Process:
    """Who said last that it is trusted to lead."""
    told = [(process.said("trusted")[-1]["at"], process) for process in people if process.said("trusted")]
    return max(told, key=lambda one: one[0])[1]


def trust(processes: list[Process]) -> list[tuple[int, float, float, str]]:
    """Of each token, when it was trusted and by whom: (token, first, last, name), by time."""
    longest: dict[tuple[str, int], tuple[int, float, float, str]] = {}
    for process in processes:
        for event in process.said("trusted"):
            if event["first"] is not None:
                longest[process.name, event["token"]] = (
                    event["token"],
                    event["first"],
                    event["last"],
                    process.name,
                )
    return sorted(longest.values(), key=lambda interval: interval[1])


def faults_of_trust(intervals: list[tuple[int, float, float, str]]) -> Iterator[str]:
    """What is wrong with these: two that overlap, or a token that is not above the one before."""
    for before, after in pairwise(sorted(intervals, key=lambda interval: interval[1])):
        if after[1] <= before[2]:
            yield f"two are trusted at once: {before} and {after}"
        if after[0] <= before[0]:
            yield f"the token does not grow: {before}, then {after}"


def until(look: Callable[[], bool], what: Callable[[], object], within: float) -> None:
    """Wait until this is so, asking ten times a second; `what` says what was seen instead."""
    end = time.monotonic() + within
    while not look():
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:.1f} s: {what()}")
        time.sleep(0.1)


def _locked(path: Path) -> bool:
    """Whether somebody is writing to this file."""
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as con:
        try:
            con.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        con.execute("ROLLBACK")
        return False
