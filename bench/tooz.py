"""What does tooz's way of it cost, and what does ours, on the same server and at the same time?

tooz 9.1 keeps groups on ZooKeeper by kazoo, and on etcd by its JSON gateway. Its beat is a read on ZooKeeper,
a keepalive on etcd; its watchers are told when they ask, as they have to each second. The limit here is tooz:
a ratio of 0.1 is ten times better. Whoever has many members has a coordinator of tooz's for each, with a
connection and a heart of its own; ours share both.
"""

from __future__ import annotations

import logging
import random
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import chain
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import headcount
from bench import crowd
from bench.beat import Paid
from bench.children import Child
from bench.harness import Action, Figure, Line, Run, in_turns, opened, populate, session_of, with_options
from bench.raw import Place
from tests.servers.base import HOST

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore"
    )  # a library of tooz's takes up eventlet where it finds it, which complains
    from tooz import ToozError
    from tooz.coordination import get_coordinator
    from tooz.utils import dumps

for library in ("kazoo", "tooz"):  # what they say of a server that stands still is not for the table
    logging.getLogger(library).setLevel(logging.CRITICAL)

GROUP = "crowd"
CAPABILITIES = b'{"cpus": 8, "zone": "a"}'

PROCESSES = 100
"""With one session each."""
BATCH = 1000
SIZES = (100, 1000, 5000)
JOINERS = 2000
JOINS = 20
"""Seen by a watcher; as many as are enough for the middle of them."""
TTL, VICTIMS = 10.0, 6
MEMBERS, WATCHERS, HOLDERS = 1000, 50, 5
"""Idle watchers of so many members, in so many processes."""
SECONDS = 20.0
EACH = 1.0
"""Seconds between two calls of `run_watchers`."""
AHEAD = 0.1
"""Ten times better is what looking, and what watching costs the server, are to be; the rest is not to be
behind."""

Answer = tuple[str, str, Figure, float | None]
"""What was done, its unit, what it took, and the most that the ratio may be."""


def measure(run: Run) -> Iterator[Line]:
    found: dict[tuple[str, str], dict[str, tuple[Figure, float | None]]] = {}
    parts = (_beats, _reading, _joining, _hearing, _dying, _watching)
    for store in run.stores:
        for part in parts:
            for work, unit, figure, goal in part(run, store):
                found.setdefault((work, unit), {})[store] = figure, goal
    for (work, unit), by_store in found.items():
        figures = {store: figure for store, (figure, _) in by_store.items()}
        goals = {store: goal for store, (_, goal) in by_store.items() if goal is not None}
        yield Line(work, unit, figures, goal=goals or None, of_ratio=True, limit="tooz 9.1")


# ── tooz ──


class Tooz:
    """One coordinator. `heart`: it beats by itself; else only when it is told to."""

    def __init__(self, place: Place, name: str, ttl: float, *, heart: bool = False) -> None:
        self._kazoo = place.store == "zookeeper"
        where = f"{HOST}:{place.port}"
        whole = max(1, round(ttl))
        url = (
            f"zookeeper://{where}?namespace=tooz-{place.database}&timeout={whole}"
            if self._kazoo
            else f"etcd3+http://{where}?api_version=v3&timeout=30&membership_timeout={whole}"
        )
        self._c: Any = get_coordinator(url, name.encode())
        self._prefix = "" if self._kazoo else f"{place.database}-"
        """tooz's etcd has no namespaces: the group's name has to do."""
        self._c.start(start_heart=heart)

    def _group(self, group: str) -> bytes:
        return f"{self._prefix}{group}".encode()

    def create(self, group: str) -> None:
        self._c.create_group(self._group(group)).get()

    def join(self, group: str, *, wait: bool = True) -> Any:
        asked = self._c.join_group(self._group(group), capabilities=CAPABILITIES)
        return asked.get() if wait else asked

    def leave(self, group: str) -> None:
        self._c.leave_group(self._group(group)).get()

    def beat(self) -> None:
        self._c.heartbeat()

    def ids(self, group: str) -> set[bytes]:
        found: set[bytes] = self._c.get_members(self._group(group)).get()
        return found

    def read(self, group: str) -> dict[bytes, Any]:
        """All members with their capabilities, in the fewest calls that it has for that."""
        found: dict[bytes, Any] = self._c.get_members_with_capabilities(self._group(group)).get()
        return found

    def each(self, group: str) -> dict[bytes, Any]:
        """The same, as it had to be done before 9.1: the ids, then one call for each of them."""
        name = self._group(group)
        asked = {one: self._c.get_member_capabilities(name, one) for one in self.ids(group)}
        return {one: answer.get() for one, answer in asked.items()}

    def watch(self, group: str, told: Callable[[Any], object]) -> None:
        self._c.watch_join_group(self._group(group), told)
        self._c.watch_leave_group(self._group(group), told)

    def poll(self) -> None:
        self._c.run_watchers()

    def populate(self, group: str, count: int) -> None:
        """Members as it writes them, without a coordinator for each."""
        self.create(group)
        value, name = dumps(CAPABILITIES), self._group(group)
        if self._kazoo:
            paths = [self._c._path_member(name, b"member-%05d" % n) for n in range(count)]
            for asked in [self._c._coord.create_async(path, value, ephemeral=True) for path in paths]:
                asked.get()
        else:
            for n in range(count):
                self._c.client.put(self._c._prefix_group(name) + b"member-%05d" % n, value)

    def close(self) -> None:
        """Its own `stop` takes a second for each on etcd, and leaves sockets open on both."""
        self._c.heart.stop()
        if self._kazoo:
            with suppress(ToozError):
                self._c.stop()
            self._c._coord.close()
        else:
            self._c.client.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
