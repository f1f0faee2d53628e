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
from dataclasses import dataclass
from pathlib import Path

from headcount import stores
from headcount.model import Enter, Session
from headcount.stores.base import Store

STORES = ("memory", "sqlite")
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
    """One line of the table. `goal` is the most it may be (the least, if `at_least`)."""

    work: str
    unit: str
    figures: dict[str, Figure]
    goal: float | None = None
    at_least: bool = False
    limit: str = ""
    """What the limit is, in words."""

    def met(self) -> bool | None:
        if self.goal is None or not self.figures:
            return None
        values = [figure.ours for figure in self.figures.values()]
        return min(values) >= self.goal if self.at_least else max(values) <= self.goal


@dataclass
class Run:
    """One run of the benchmarks. `scale` makes all sizes smaller, `repeat` takes more turns."""

    folder: Path
    scale: float = 1.0
    repeat: int = 5

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

    def url(self, store: str, **options: float) -> str:
        """A store that nobody has used yet."""
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
    return Session(id=f"{name:0>32}", instance=f"{name:0>32}", host=HOST, process=f"{HOST}/{name}", ttl=ttl)


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
    for name in names:
        store.open_session(session_of(name))
    for start in range(0, count, 500):
        store.commit(
            group, [enter_of(name, capabilities=capabilities) for name in names[start : start + 500]]
        )
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
