"""How much memory does a view of 10,000 members take in a process that watches?

Resident memory of a process that already watches another group, before and after it watches the large one,
and after it has looked at each member once. In memory the records are in the process anyway: there, what
the watching adds to them, as Python counts it.
"""

from __future__ import annotations

import ctypes
import gc
import tracemalloc
from collections.abc import Iterator
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, opened, populate, resident, with_options

MEMBERS = 10_000
CAPABILITIES = b'{"cpus": 8, "zone": "a"}'
MEGA = 1e6


def measure(run: Run) -> Iterator[Line]:
    count = run.size(MEMBERS, 50)
    watched, looked = {}, {}
    with Child(watcher, url := run.url("sqlite"), populated(url, count)) as child:
        before, after, seen = child.hear()
    watched["sqlite"], looked["sqlite"] = after - before, seen - before
    watched["memory"], looked["memory"] = _traced(run, count)

    def figures(found: dict[str, int], part: float) -> dict[str, Figure]:
        return {store: Figure(size / part) for store, size in found.items()}

    yield Line(f"a view of {count:,} members", "MB", figures(watched, MEGA), goal=10.0)
    yield Line("… once each of them was looked at", "MB", figures(looked, MEGA), goal=10.0)
    yield Line("… a member", "bytes", figures(looked, count))


def populated(url: str, count: int) -> int:
    raw = opened(url)
    raw.create_group("small")
    populate(raw, "crowd", count, CAPABILITIES)
    raw.close()
    return count


def _traced(run: Run, count: int) -> tuple[int, int]:
    url = run.url("memory")
    populated(url, count)
    with headcount.connect(with_options(url, interval=1)) as c:
        c.group("small").view()
        gc.collect()
        tracemalloc.start()
        try:
            view = c.group("crowd").view()
            gc.collect()
            first, _ = tracemalloc.get_traced_memory()
            assert len(view.up) == count
            gc.collect()
            return first, tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()


# ── the other process ──


def watcher(pipe: Connection, url: str, count: int) -> None:
    with headcount.connect(url, timeout=60) as c:
        c.group("small").view()
        before = _settled()
        view = c.group("crowd").view()
        after = _settled()
        assert len(view.up) == count
        pipe.send((before, after, _settled()))


def _settled() -> int:
    """Resident memory, once what is free was given back."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return resident()
