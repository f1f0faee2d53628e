"""When somebody comes, or dies: how long until others are told, and what does it cost that they watch?

Whoever watches with tooz has to ask each second (`run_watchers`), and is told then. The limit here is tooz,
on the same server and at the same time.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import chain
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, opened, populate, with_options
from bench.peer import CAPABILITIES, GROUP, Tooz
from bench.raw import Place
from bench.tooz import AHEAD, Answer, compared

JOINS = 20
"""As many as are enough for the middle of them."""
TTL, VICTIMS = 10.0, 6
MEMBERS, WATCHERS, HOLDERS = 1000, 50, 5
"""Idle watchers of so many members, in so many processes."""
SECONDS = 20.0
EACH = 1.0
"""Seconds between two calls of `run_watchers`."""


def measure(run: Run) -> Iterator[Line]:
    yield from compared(run, (_hearing, _dying, _watching))


# ── hearing ──


def _hearing(run: Run, store: str) -> Iterator[Answer]:
    """From the beginning of a join in one process to the callback in another."""
    place, times, chance = run.place(store), run.size(JOINS, 3), random.Random(1)
    url = place.url
    with ExitStack() as stack:
        children = [stack.enter_context(Child(main, place)) for main in (our_watcher, their_watcher)]
        for child in children:
            child.hear()
        ours = [stack.enter_context(headcount.connect(url, member_id=f"m{n}", ttl=60)) for n in range(times)]
        theirs = [stack.enter_context(Tooz(place, f"m{n}", 60)) for n in range(times)]
        began: tuple[dict[str, float], dict[str, float]] = {}, {}
        for n, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            began[0][f"m{n}"] = time.monotonic()
            our.join_group(GROUP)
            time.sleep(chance.random() * EACH / 4)
            began[1][f"m{n}"] = time.monotonic()
            their.join(GROUP)
            time.sleep(chance.random() * EACH / 4)
        time.sleep(2 * EACH + 1)
        heard = [child.ask("tell") for child in children]
    a, b = (
        statistics.median(at[f"m{n}"] - since[f"m{n}"] for n in range(times)) * 1e3
        for at, since in zip(heard, began, strict=True)
    )
    yield "a join until another process is called back, p50; limit: tooz's", "ms", Figure(a, b, a / b), 1.0


def our_watcher(pipe: Connection, place: Place) -> None:
    """Tells who came, or who went, and when."""
    told: dict[str, float] = {}

    def note(change: headcount.Change) -> None:
        if change.kind in ("joined", "down") and change.member is not None:
            told[change.member.member_id] = time.monotonic()

    with headcount.connect(place.url, ttl=60) as c:
        c.create_group(GROUP)
        c.set_notifier_func(GROUP, note)
        pipe.send("watching")
        while pipe.recv():
            pipe.send(told)


def their_watcher(pipe: Connection, place: Place) -> None:
    told: dict[str, float] = {}
    with Tooz(place, "watcher", 60, heart=True) as c:
        c.create(GROUP)
        c.watch(GROUP, lambda event: told.update({event.member_id.decode(): time.monotonic()}))
        pipe.send("watching")
        while True:
            c.poll()
            if pipe.poll(EACH):
                pipe.recv()
                pipe.send(told)


# ── dying ──


def _dying(run: Run, store: str) -> Iterator[Answer]:
    """SIGKILL of processes with one member each, until the callback in another. Both have the same ttl, and
    die at any moment between two beats."""
    ttl, count, place = max(1.0, run.ttl(TTL)[0]), run.size(VICTIMS, 2), run.place(store)
    with ExitStack() as stack:
        watchers = [stack.enter_context(Child(main, place)) for main in (our_watcher, their_watcher)]
        for child in watchers:
            child.hear()
        members = [
            [stack.enter_context(Child(main, place, f"m{n}", ttl)) for n in range(count)]
            for main in (our_member, their_member)
        ]
        for child in chain(*members):
            child.hear()
        time.sleep(2 * EACH + ttl / 2)
        killed: list[dict[str, float]] = [{}, {}]
        for n, pair in enumerate(zip(*members, strict=True)):
            for at, child in zip(killed, pair, strict=True):
                at[f"m{n}"] = child.kill()
                time.sleep(random.random() * ttl / 10)
        time.sleep(1.5 * ttl + 2 * EACH + 2)
        told = [child.ask("tell") for child in watchers]
    a, b = (
        statistics.median(heard[name] - since for name, since in at.items())
        for heard, at in zip(told, killed, strict=True)
    )
    yield f"SIGKILL until the callback, ttl {ttl:g} s, p50; limit: tooz's", "s", Figure(a, b, a / b), 1.0


def our_member(pipe: Connection, place: Place, name: str, ttl: float) -> None:
    with headcount.connect(place.url, member_id=name, ttl=ttl) as c:
        c.join_group(GROUP)
        pipe.send("joined")
        pipe.recv()


def their_member(pipe: Connection, place: Place, name: str, ttl: float) -> None:
    with Tooz(place, name, ttl, heart=True) as c:
        c.join(GROUP)
        pipe.send("joined")
        pipe.recv()


# ── watching ──


def _watching(run: Run, store: str) -> Iterator[Answer]:
    """The share of a core that watchers of a group take in which nothing happens. What the server takes by
    itself is left out: it beats for itself, and cleans up."""
    host, count, many = run.hosts[store], run.size(MEMBERS, 5), run.size(WATCHERS, 2)
    place, seconds = run.place(store), max(1.0, SECONDS * run.scale)
    client = opened(place.url)
    populate(client, GROUP, count, CAPABILITIES)
    shares = [many // HOLDERS + (n < many % HOLDERS) for n in range(HOLDERS)]
    taken: list[tuple[float, float]] = []
    with closing(client), Tooz(place, "members", 3600) as theirs:
        theirs.populate(GROUP, count)
        for main in (None, our_watchers, their_watchers, None):
            with ExitStack() as stack:
                children = [stack.enter_context(Child(main, place, n)) for n in shares if n and main]
                for child in children:
                    child.hear()
                time.sleep(2 * EACH)
                spent: list[float] = []
                with host.cpu_of(spent):
                    for child in children:
                        child.tell(seconds)
                    time.sleep(seconds)
                used = sum(child.hear() for child in children)
                taken.append((spent[0] / seconds * 100, used / seconds * 100))
    before, ours, others, after = taken
    alone = min(before[0], after[0])
    work = f"{many} idle watchers at {count:,} members; limit: tooz's"
    yield f"server CPU of a core, {work}", "%", _of(ours[0] - alone, others[0] - alone), AHEAD
    yield f"client CPU of a core, {work}", "%", _of(ours[1], others[1]), 1.0


def _of(ours: float, theirs: float) -> Figure:
    """Less than nothing cannot be measured."""
    ours, theirs = max(0.0, ours), max(0.0, theirs)
    return Figure(ours, theirs, ours / theirs if theirs else None)


# ── the other processes ──


def our_watchers(pipe: Connection, place: Place, count: int) -> None:
    """Their URLs differ in what does not matter, so that each has an engine of its own."""
    with ExitStack() as stack:
        for n in range(count):
            url = with_options(place.url, timeout=5 + n / 1000)
            c = stack.enter_context(headcount.connect(url, ttl=TTL, timeout=60))
            c.set_notifier_func(GROUP, lambda change: None)
            c.group(GROUP).view()
        pipe.send("watching")
        pipe.send(_idle(pipe.recv()))


def their_watchers(pipe: Connection, place: Place, count: int) -> None:
    """One thread calls them all, each once a second, one after the other."""
    ended = threading.Event()

    def call(watchers: list[Tooz]) -> None:
        due = time.monotonic()
        while not ended.is_set():
            for one in watchers:
                due += EACH / len(watchers)
                one.poll()
                ended.wait(max(0.0, due - time.monotonic()))

    with ExitStack() as stack:
        watchers = [stack.enter_context(Tooz(place, f"w{n}", TTL, heart=True)) for n in range(count)]
        for one in watchers:
            one.watch(GROUP, lambda event: None)
            one.poll()
        thread = threading.Thread(target=call, args=(watchers,), daemon=True)
        thread.start()
        pipe.send("watching")
        pipe.send(_idle(pipe.recv()))
        ended.set()
        thread.join()


def _idle(seconds: float) -> float:
    began = time.process_time()
    time.sleep(seconds)
    return time.process_time() - began
