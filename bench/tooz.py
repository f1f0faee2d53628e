"""What does tooz's way of it cost, and what does ours, on the same server?

The limit here is tooz: a ratio of 0.1 is ten times better. Whoever has many members has a coordinator of
tooz's for each, with a connection and a heart of its own; ours share both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing.connection import Connection

import headcount
from bench import crowd
from bench.beat import Paid
from bench.children import Child
from bench.harness import Action, Figure, Line, Run, in_turns, opened, populate, session_of, with_options
from bench.peer import CAPABILITIES, GROUP, Tooz
from bench.raw import Place

PROCESSES = 100
"""With one session each."""
BATCH = 1000
SIZES = (100, 1000, 5000)
JOINERS = 2000
AHEAD = 0.1
"""Looking is to be ten times better; the rest is not to be behind."""

Answer = tuple[str, str, Figure, float | None]
"""What was done, its unit, what it took, and the most that the ratio may be."""


def measure(run: Run) -> Iterator[Line]:
    yield from compared(run, (_beats, _reading, _joining))


def compared(run: Run, parts: Iterable[Callable[[Run, str], Iterator[Answer]]]) -> Iterator[Line]:
    found: dict[tuple[str, str], dict[str, tuple[Figure, float | None]]] = {}
    for store in run.stores:
        for part in parts:
            for work, unit, figure, goal in part(run, store):
                found.setdefault((work, unit), {})[store] = figure, goal
    for (work, unit), by_store in found.items():
        figures = {store: figure for store, (figure, _) in by_store.items()}
        goals = {store: goal for store, (_, goal) in by_store.items() if goal is not None}
        yield Line(work, unit, figures, goal=goals or None, of_ratio=True, limit="tooz 9.1")


# ── beats ──


def _beats(run: Run, store: str) -> Iterator[Answer]:
    """Single sessions, each on a connection of its own; and ours together, against as many of tooz's."""
    host, place = run.hosts[store], run.place(store)
    count, batch = run.size(PROCESSES, 4), run.size(BATCH, 10)
    sessions = [session_of(f"own-{n}") for n in range(count)]
    with ExitStack() as stack:
        theirs = [stack.enter_context(Tooz(place, f"m{n}", 3600)) for n in range(count)]
        ours = [stack.enter_context(closing(opened(place.url))) for _ in range(count)]
        for client, session in zip(ours, sessions, strict=True):
            client.open_session(session)

        def single() -> None:
            for client, session in zip(ours, sessions, strict=True):
                client.beat([session.id])

        def of_theirs() -> None:
            for one in theirs:
                one.beat()

        paid = Paid(run, host, single, of_theirs, times=run.size(10), warm=2)
        thousand = 1000 / count * 1e3
        work = f"1,000 beats, {count} sessions, 1 each"
        yield f"server CPU of {work}; limit: tooz's", "ms", paid.by_the_server(thousand), 1.0
        yield f"client CPU of {work}; limit: tooz's", "ms", paid.by_the_client(thousand), 1.0

        client = stack.enter_context(closing(opened(run.url(store))))
        names = [session_of(name).id for name in populate(client, GROUP, batch)]

        def as_many() -> None:
            for n in range(batch):
                theirs[n % count].beat()

        paid = Paid(run, host, lambda: client.beat(names), as_many, times=1, warm=1)
        thousand = 1000 / batch * 1e3
        work = f"1,000 beats, ours in one process with {batch:,} sessions"
        yield f"server CPU of {work}; limit: tooz's", "ms", paid.by_the_server(thousand), 1.0
        yield f"client CPU of {work}; limit: tooz's", "ms", paid.by_the_client(thousand), 1.0


# ── reading ──


def _reading(run: Run, store: str) -> Iterator[Answer]:
    for size in SIZES:
        count, place = run.size(size, 5), run.place(store)
        with ExitStack() as stack:
            client = stack.enter_context(closing(opened(place.url)))
            populate(client, GROUP, count, CAPABILITIES)
            theirs = stack.enter_context(Tooz(place, "reader", 3600))
            theirs.populate(GROUP, count)
            c = stack.enter_context(headcount.connect(with_options(place.url, timeout=30), timeout=60))
            group = c.group(GROUP)
            assert len(group.view()) == len(theirs.read(GROUP)) == count
            ways: dict[str, tuple[Action, Action, float]] = {
                "view()": (group.view, partial(theirs.read, GROUP), AHEAD),
                "view(fresh=True)": (partial(group.view, fresh=True), partial(theirs.read, GROUP), 1.0),
                "a read of all, by nobody who watches": (
                    partial(client.read, GROUP),
                    partial(theirs.read, GROUP),
                    1.0,
                ),
                "the same": (partial(client.read, GROUP), partial(theirs.each, GROUP), 1.0),
            }
            for name, (ours, limit, goal) in ways.items():
                figure = in_turns(ours, limit, times=run.size(1000 // size), rounds=run.repeat, factor=1e3)
                calls = f", a call for each of {count:,}" if name == "the same" else ""
                yield (
                    f"{count:,} members with capabilities by {name}; limit: tooz's{calls}",
                    "ms",
                    figure,
                    goal,
                )


# ── joining ──


def _joining(run: Run, store: str) -> Iterator[Answer]:
    """Connections are open; all join at once."""
    count = run.size(JOINERS, crowd.PROCESSES)
    ours, _ = crowd._between_processes(run, count, store)
    place = run.place(store)
    with Tooz(place, "creator", 60) as c:
        c.create(GROUP)
    with ExitStack() as stack:
        part = count // crowd.PROCESSES
        parts = [stack.enter_context(Child(joiner, place, n, part)) for n in range(crowd.PROCESSES)]
        theirs, _ = crowd._together(parts, None)
    figure = Figure(ours, theirs, ours / theirs)
    yield f"{count:,} members join from {crowd.PROCESSES} processes; limit: tooz's", "s", figure, 1.0


def joiner(pipe: Connection, place: Place, part: int, count: int) -> None:
    members = [Tooz(place, f"p{part}-{n}", 60) for n in range(count)]
    pipe.send("connected")
    crowd._sleep_until(pipe.recv())
    for asked in [member.join(GROUP, wait=False) for member in members]:
        asked.get()
    pipe.send(time.monotonic())
    pipe.recv()
