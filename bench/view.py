"""What does it cost to look, and to take in one change, in a group of 10,000 members?"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import headcount
from bench.harness import Figure, Line, Run, in_turns, opened, populate, timed, with_options
from headcount.core.replica import Replica
from headcount.model import Delta, Snapshot
from headcount.register import replace

MICRO = 1e6


class Holder:
    """What the limit of a view is: an attribute, read."""

    def __init__(self, value: object) -> None:
        self.value = value


def measure(run: Run) -> Iterator[Line]:
    count, times = run.size(10_000, 10), run.size(200_000, 100)
    found: dict[str, dict[str, Figure]] = {}
    for store in run.stores:
        for work, figure in _looked(run, store, count, times):
            found.setdefault(work, {})[store] = figure
    goals = {"view()": 5.0, "is_up()": 1.0}
    limits = {
        "view()": "an attribute read",
        "is_up()": "a dict lookup",
        "view()[id]": "a dict lookup",
        "get_members()": "the same again, nothing changed",
        "apply a delta of one row": "a dict of that size copied",
    }
    for work, figures in found.items():
        yield Line(f"{work}, {count:,} members", "µs", figures, goal=goals.get(work), limit=limits[work])


def _looked(run: Run, store: str, count: int, times: int) -> Iterator[tuple[str, Figure]]:
    url = run.url(store)
    raw = opened(url)
    names = populate(raw, "crowd", count)
    whole = raw.read("crowd")
    assert isinstance(whole, Snapshot)
    raw.close()
    random.Random(1).shuffle(names)
    # A second engine on the same store: one that has only to look.
    with headcount.connect(with_options(url, interval=1)) as c:
        group = c.group("crowd")
        group.view()
        plain, holder = dict.fromkeys(names, True), Holder(1)
        ids = itertools.cycle(names)
        there = group.view()

        def of(look: Callable[[str], Any]) -> Callable[[], object]:
            return lambda: look(next(ids))

        rounds = run.repeat
        yield "view()", in_turns(group.view, lambda: holder.value, times=times, rounds=rounds, factor=MICRO)
        yield (
            "is_up()",
            in_turns(of(group.is_up), of(plain.__getitem__), times=times, rounds=rounds, factor=MICRO),
        )
        yield (
            "view()[id]",
            in_turns(of(there.__getitem__), of(plain.__getitem__), times=times, rounds=rounds, factor=MICRO),
        )
    yield from _changed(whole, rounds)


def _changed(whole: Snapshot, rounds: int) -> Iterator[tuple[str, Figure]]:
    """The core alone: the same for every store, but the records come from this one."""
    replica = Replica("crowd", lambda: 0.0)
    replica.apply(whole, 0.0)
    revision = itertools.count(whole.revision + 1)
    rows = itertools.cycle(whole.rows)
    copied = {row.key: (row,) for row in whole.rows}

    def change() -> None:
        number = next(revision)
        row = replace(next(rows), revision=number, capabilities=b"%d" % number)
        replica.apply(Delta(group="crowd", after=number - 1, revision=number, rows=(row,)), 0.0)

    yield "apply a delta of one row", in_turns(change, copied.copy, times=20, rounds=rounds, factor=MICRO)

    def first() -> tuple[object, ...]:
        assert replica.view is not None
        return replica.view.up

    pairs = []
    for _ in range(max(3, rounds)):
        change()
        pairs.append((timed(first), timed(first, 10)))
    a, b = min(pairs)
    yield "get_members()", Figure(a * MICRO, b * MICRO, a / b)
