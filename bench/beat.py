"""How many beats can one process have taken, and what do they cost it?"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.harness import (
    STORES,
    Figure,
    Line,
    Run,
    cpu_of,
    in_turns,
    io_of_process,
    opened,
    populate,
    session_of,
)

BATCH = 1000


def measure(run: Run) -> Iterator[Line]:
    found: dict[str, dict[str, Figure]] = {}
    for store in STORES:
        for work, figure in _beaten(run, store):
            found.setdefault(work, {})[store] = figure
    limit = "a prepared UPDATE, WAL, NORMAL; in memory a dict"
    for work, figures in found.items():
        per_second = work.startswith("beats")
        yield Line(work, "/s" if per_second else "µs", figures, at_least=per_second, limit=limit)


def _beaten(run: Run, store: str) -> Iterator[tuple[str, Figure]]:
    batch = run.size(BATCH, 10)
    client = opened(run.url(store))
    names = [session_of(name).id for name in populate(client, "crowd", batch)]
    one, many = Raw(run, batch).both() if store == "sqlite" else _in_a_dict(names)
    few, often = run.size(50, 3), run.size(1000, 10)

    single = in_turns(lambda: client.beat(names[:1]), one, times=often, rounds=run.repeat)
    whole = in_turns(lambda: client.beat(names), many, times=few, rounds=run.repeat)
    yield "beats, one session a call", _rate(single, 1)
    yield f"beats, {batch:,} sessions a call", _rate(whole, batch)

    spent: list[float] = []
    raw_spent: list[float] = []
    before = io_of_process()
    with cpu_of(spent):
        for _ in range(few):
            client.beat(names)
    after = io_of_process()
    with cpu_of(raw_spent):
        for _ in range(few):
            many()
    finally_ = io_of_process()
    yield (
        f"CPU of {batch:,} beats, one call",
        Figure(spent[0] / few * 1e6, raw_spent[0] / few * 1e6, spent[0] / raw_spent[0]),
    )
    if after and store == "sqlite":
        ours, raw = after["wchar"] - before["wchar"], finally_["wchar"] - after["wchar"]
        yield (
            f"kB written by {batch:,} beats, one call",
            Figure(ours / few / 1e3, raw / few / 1e3, ours / raw),
        )
    client.close()


def _rate(figure: Figure, count: int) -> Figure:
    assert figure.limit is not None
    return Figure(count / figure.ours, count / figure.limit, figure.ratio)


def _in_a_dict(names: list[str]) -> tuple[Callable[[], object], Callable[[], object]]:
    deadlines = dict.fromkeys(names, 0.0)

    def one() -> None:
        deadlines[names[0]] = time.time()

    return one, lambda: deadlines.update(dict.fromkeys(names, time.time()))


class Raw:
    """The cheapest that SQLite can do: rows of the same shape, a connection in autocommit."""

    def __init__(self, run: Run, count: int) -> None:
        self.con = sqlite3.connect(Path(run.path()), isolation_level=None)
        self.con.execute("PRAGMA journal_mode = WAL")
        self.con.execute("PRAGMA synchronous = NORMAL")
        self.con.execute(
            "CREATE TABLE beats (session TEXT PRIMARY KEY, deadline INTEGER, lasts INTEGER, seen REAL)"
            " WITHOUT ROWID"
        )
        rows = [(f"{i:032}", 1, 16, 0.0) for i in range(count)]
        self.con.executemany("INSERT INTO beats VALUES (?, ?, ?, ?)", rows)
        self.first = rows[0][0]

    def both(self) -> tuple[Callable[[], object], Callable[[], object]]:
        return (
            lambda: self.con.execute(
                "UPDATE beats SET deadline = max(deadline, ? + lasts), seen = ? WHERE session = ?",
                (1, time.time(), self.first),
            ),
            lambda: self.con.execute(
                "UPDATE beats SET deadline = max(deadline, ? + lasts), seen = ?", (1, time.time())
            ),
        )
