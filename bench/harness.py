"""What all questions share: sizes, measuring in turns, and places to put files.

A machine that does other work besides makes every number larger, and not always by the same amount. So
ours and the limit are measured in turns (ours, limit, ours, limit …), each turn gives a ratio, and the
median of the ratios is what to compare from one day to the next.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.raw import Place
from bench.servers import Host
from headcount import stores
from headcount.model import Committed, Enter, Session, Wish
from headcount.stores.base import Store

EMBEDDED = ("memory", "sqlite")
HOST = "bench-host/0123456789ab"

Action = Callable[[], object]

_made = itertools.count()


@dataclass(frozen=True)
class Figure:
    """One number of ours, and the raw client's beside it."""

    ours: float
    limit: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Line:
    """One line of the table. `goal` is the most it may be (the least, if `at_least`), of each store or of
    all."""

    work: str
    unit: str
    figures: dict[str, Figure]
    goal: float | dict[str, float] | None = None
    at_least: bool = False
    limit: str = ""
    """What the limit is, in words."""

    of_ratio: bool = False
    """Whether the goal is one for the ratio."""

    def goals(self) -> dict[str, float]:
        """Of the stores that have one here."""
        if self.goal is None:
            return {}
        if isinstance(self.goal, dict):
            return {store: self.goal[store] for store in self.figures if store in self.goal}
        return dict.fromkeys(self.figures, self.goal)

    def met(self) -> bool | None:
        pairs = [
            ((self.figures[store].ratio if self.of_ratio else self.figures[store].ours) or 0.0, goal)
            for store, goal in self.goals().items()
        ]
        if not pairs:
            return None
        return all(value >= goal if self.at_least else value <= goal for value, goal in pairs)


@dataclass
class Run:
    """One run of the benchmarks. `scale` makes all sizes smaller, `repeat` takes more turns."""

    folder: Path
    scale: float = 1.0
    repeat: int = 5
    stores: tuple[str, ...] = EMBEDDED
    hosts: dict[str, Host] = field(default_factory=dict)
    """The servers, of those stores that have one."""
    minutes: float = 10.0
    """What endurance is to be."""

    def size(self, full: int, least: int = 1) -> int:
        return max(least, round(full * self.scale))

    def ttl(self, full: float, interval: float = 1.0) -> tuple[float, float]:
        """A ttl and the interval of ticks that goes with it. A small run takes both smaller."""
        shrink = min(1.0, max(self.scale, 0.05))
        return full * shrink, interval * shrink

    def fresh(self) -> str:
        return f"bench-{os.getpid()}-{next(_made)}"

    def path(self) -> str:
        return str(self.folder / f"{self.fresh()}.db")

    def place(self, store: str) -> Place:
        """A database that nobody has used yet, for raw clients; of SQLite, its path is all there is to it."""
        if store in self.hosts:
            return self.hosts[store].fresh()
        return Place(store, 0, self.path(), "")

    @staticmethod
    def ticks(store: str) -> bool:
        """Whether it has a clock, whose interval can be chosen; else it expires sessions itself."""
        return store in EMBEDDED or stores.make(f"{store}://nowhere/nothing").guarantees.expiry == "ticks"

    def url(self, store: str, **options: float) -> str:
        """A store that nobody has used yet. An interval is for those that tick."""
        if not self.ticks(store):
            options.pop("interval", None)
        if store in self.hosts:
            where = self.hosts[store].fresh().url
        else:
            where = f"memory://{self.fresh()}" if store == "memory" else f"sqlite:///{self.path()}"
        return with_options(where, **options)


def with_options(url: str, **options: float | str) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}?{query}" if query else url


def opened(url: str) -> Store:
    """A store without an engine."""
    store = stores.make(url, namespace="default", options={})
    store.open()
    return store


def session_of(name: str, ttl: float = 3600.0) -> Session:
    """All of one process, as they are in whoever has many: on etcd these share a lease."""
    return Session(id=f"{name:0>32}", instance=f"{name:0>32}", host=HOST, process=f"{HOST}/bench", ttl=ttl)


def enter_of(name: str, ttl: float = 3600.0, capabilities: bytes = b"", seen: int = 0) -> Enter:
    session = session_of(name, ttl)
    return Enter(
        key=name,
        member_id=name,
        seen=seen,
        session=session.id,
        instance=session.instance,
        host=HOST,
        ttl=ttl,
        capabilities=capabilities,
        stand=False,
    )


def populate(store: Store, group: str, count: int, capabilities: bytes = b"") -> list[str]:
    """A group of so many members, whose sessions last for an hour."""
    names = [f"member-{i:05}" for i in range(count)]
    store.create_group(group)
    for start in range(0, count, 500):
        part = names[start : start + 500]
        store.open_sessions([session_of(name) for name in part])
        outcomes = store.commit_together(
            group,
            [Wish((enter_of(name, capabilities=capabilities),), by=session_of(name).id) for name in part],
        )
        assert all(isinstance(outcome, Committed) for outcome in outcomes)
    return names


# ── measuring ──


def timed(action: Action, times: int = 1) -> float:
    """Seconds for one of so many."""
    began = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - began) / times


def in_turns(ours: Action, limit: Action, *, times: int = 1, rounds: int = 5, factor: float = 1.0) -> Figure:
    """Both, measured in turns; `factor` turns seconds into the unit wanted."""
    ours(), limit()
    gc.collect()
    pairs = [(timed(ours, times), timed(limit, times)) for _ in range(max(3, rounds))]
    return of_pairs(pairs, factor)


def of_pairs(pairs: Sequence[tuple[float, float]], factor: float = 1.0) -> Figure:
    return Figure(
        ours=statistics.median(a for a, _ in pairs) * factor,
        limit=statistics.median(b for _, b in pairs) * factor,
        ratio=statistics.median(a / b for a, b in pairs if b > 0),
    )


def share(values: Sequence[float], part: float) -> float:
    """The value that this part of them do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, math.ceil(part * len(ranked)) - 1)] if ranked else math.nan


def shares(ours: Sequence[float], limit: Sequence[float], part: float, factor: float) -> Figure:
    """One percentile of many single measurements that were taken in turns."""
    a, b = share(ours, part) * factor, share(limit, part) * factor
    return Figure(a, b, a / b if b else None)


@contextmanager
def cpu_of(found: list[float]) -> Iterator[None]:
    """Adds the seconds of CPU that this process took within."""
    began = time.process_time()
    yield
    found.append(time.process_time() - began)


def io_of_process() -> dict[str, int]:
    """What this process has read and written, where the system tells."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def resident() -> int:
    """Bytes of memory that this process has in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
