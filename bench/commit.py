"""What does a commit cost, against the same rows written by hand; and what does this disk cost?"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator

import headcount
from bench.harness import (
    Figure,
    Line,
    Run,
    enter_of,
    in_turns,
    opened,
    session_of,
    timed,
    with_options,
)
from headcount.model import Amend, Committed, Withdraw
from headcount.register import replace

MICRO = 1e6


def measure(run: Run) -> Iterator[Line]:
    found: dict[str, dict[str, Figure]] = {}
    for store in run.stores:
        for work, figure in _committed(run, store):
            found.setdefault(work, {})[store] = figure
    for work, figures in found.items():
        yield Line(
            work,
            "µs",
            figures,
            limit="two rows (nodes, keys) written and synced, on SQLite one; in memory a dict",
        )
    synced = Figure(_synced(run) * MICRO)
    on_disk = {store: synced for store in run.stores if store != "memory"}
    yield Line("this disk: 4 KiB written and synced", "µs", on_disk)


def _committed(run: Run, store: str) -> Iterator[tuple[str, Figure]]:
    url = run.url(store)
    client = opened(url)
    times, rounds = run.size(200, 5), run.repeat
    raw, change = (_dict(),) * 2 if store == "memory" else _raw(run, store)
    client.create_group("crowd")
    fresh = itertools.count()
    session = session_of("one")
    client.open_session(session)

    def enter() -> Committed:
        name = f"m{next(fresh)}"
        write = replace(enter_of(name), session=session.id)
        done = client.commit("crowd", [write], by=session.id)
        assert isinstance(done, Committed)
        return done

    row = enter().rows[0]

    def amend() -> None:
        nonlocal row
        write = Amend(
            key=row.key, incarnation=row.incarnation, seen=row.revision, capabilities=b"%d" % next(fresh)
        )
        done = client.commit("crowd", [write], by=session.id)
        assert isinstance(done, Committed)
        row = done.rows[0]

    def come_and_go() -> None:
        row = enter().rows[0]
        client.commit(
            "crowd",
            [Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision, forget=True)],
            by=session.id,
        )

    yield "commit: enter", in_turns(enter, raw, times=times, rounds=rounds, factor=MICRO)
    yield "commit: amend", in_turns(amend, change, times=times, rounds=rounds, factor=MICRO)
    yield (
        "commits: enter, then forget",
        in_turns(come_and_go, lambda: (raw(), raw()), times=times, rounds=rounds, factor=MICRO),
    )
    sessions = itertools.count()
    yield (
        "open a session",
        in_turns(
            lambda: client.open_session(session_of(f"s{next(sessions)}")),
            raw,
            times=times,
            rounds=rounds,
            factor=MICRO,
        ),
    )
    another = {"interval": 1} if run.ticks(store) else {"timeout": 5}
    with headcount.connect(with_options(url, **another), member_id="joiner") as c:
        c.join_group("crowd")
        pairs = []
        for number in range(max(10, times)):
            took = timed(lambda number=number: c.update_capabilities(b"%d" % number))
            pairs.append((took, timed(change)))
        a, b = (statistics.median(column) * MICRO for column in zip(*pairs, strict=True))
        yield "update_capabilities, the whole call", Figure(a, b, a / b)
    client.close()


def _raw(run: Run, store: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """To insert a row, and to change one: on a server along with the number of the group that they are in."""
    con = run.place(store).connect()
    con.prepare()
    numbers = itertools.count(1)
    return lambda: con.add_counted(next(numbers)), lambda: con.change_counted(next(numbers))


def _dict() -> Callable[[], object]:
    members: dict[str, tuple[int, str, float]] = {}
    numbers = itertools.count()

    def write() -> None:
        number = next(numbers)
        members[f"m{number}"] = (number, "up", time.time())

    return write


def _synced(run: Run) -> float:
    with open(run.path(), "wb", buffering=0) as file:
        file.write(b"x" * 4096)

        def once() -> None:
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())

        return statistics.median(timed(once) for _ in range(run.size(500, 20)))
