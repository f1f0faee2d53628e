"""The server stops for a while: who is reported dead when it is back, and who is still missing later?

Nobody died. Members of ours, in several processes, and as many of somebody else's share a server that is
stopped for longer than the ttl of both. On a database these are services that beat by Nova's pattern, and
may miss four beats; on ZooKeeper and etcd they are coordinators of tooz, each with its heart. Counted is who
of ours went down in the eyes of a watcher, and who is not there 30 s after; and how many the others' reader
found down at once, and in the end. Of them the limit is taken, and it is nothing to reach for.

ZooKeeper and etcd end sessions by their own clocks, so there members do go down; that they are back by
themselves is what is promised.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run
from bench.nova import Nova, beat, connected, listing
from bench.peer import GROUP, Tooz
from bench.raw import Place

MEMBERS = 50
PROCESSES = 10
STALL = 15.0
AFTER = 30.0
"""Seconds after which nobody is to be missing any more."""
TTL = 10.0
REPORT = 3.0
"""Seconds between two beats of a service, of which four may be missed."""

LEAST = 0.2
"""A small run takes no shorter times than this part: a busy machine would kill by itself."""


Counted = tuple[int, int]
"""How many were found down, and how many were missing in the end."""


def measure(run: Run) -> Iterator[Line]:
    part = min(1.0, max(LEAST, run.scale))
    count = run.size(MEMBERS, PROCESSES)
    counted = {store: _stalled(run, store, count, part) for store in run.stores}
    down = {store: Figure(ours[0], theirs[0]) for store, (ours, theirs) in counted.items()}
    missing = {store: Figure(ours[1], theirs[1]) for store, (ours, theirs) in counted.items()}
    safe = {store: 0.0 for store in run.stores if run.ticks(store)}
    peers = " / ".join(dict.fromkeys(NAMES[PEERS[store]] for store in run.stores))
    stall = f"the server stood still for {STALL * part:g} s; limit: {peers}'s"
    yield Line(f"dead of {count} after {stall}", "", down, goal=safe or None, limit=f"{peers}'s")
    missed = f"missing of {count}, {_after(part):g} s after {stall}"
    yield Line(missed, "", missing, goal=0, limit=f"{peers}'s")


def _stalled(run: Run, store: str, count: int, part: float) -> tuple[Counted, Counted]:
    place, server = run.place(store), run.hosts[store].server
    url = run.url(store, interval=part)
    with ExitStack() as stack:
        watching = stack.enter_context(Child(watcher, url, count))
        watching.hear()
        for n in range(PROCESSES):
            mine = range(n, count, PROCESSES)
            stack.enter_context(Child(members, url, [f"m{i}" for i in mine], TTL * part)).hear()
        others = stack.enter_context(Child(PEERS[store], place, count, part))
        others.hear()
        time.sleep(2 * TTL * part)
        server.freeze()
        try:
            time.sleep(STALL * part)
        finally:
            server.thaw()
        time.sleep(_after(part))
        return watching.ask("who?"), others.ask("who?")


def _after(part: float) -> float:
    return max(AFTER * part, 2 * TTL * part + 5)


# ── the other processes ──


def watcher(pipe: Connection, url: str, count: int) -> None:
    """Says how many of so many went down or are not there when it is asked, and how many are not there."""
    dead: set[str] = set()

    def note(change: headcount.Change) -> None:
        if change.kind == "down" and change.member is not None:
            dead.add(change.member.member_id)

    with headcount.connect(url, ttl=60, timeout=60) as c:
        c.create_group("crowd")
        c.set_notifier_func("crowd", note)
        pipe.send("watching")
        pipe.recv()
        up = {member.member_id for member in c.group("crowd").view(fresh=True).up}
        missing = {f"m{n}" for n in range(count)} - up
        pipe.send((len(dead | missing), len(missing)))


def members(pipe: Connection, url: str, names: list[str], ttl: float) -> None:
    with ExitStack() as stack:
        for name in names:
            c = stack.enter_context(headcount.connect(url, member_id=name, ttl=ttl, timeout=60))
            c.join_group("crowd", create=True)
        pipe.send("joined")
        pipe.recv()


def nova(pipe: Connection, place: Place, count: int, part: float) -> None:
    """So many services, each with a connection of its own, and one who lists them."""
    worst, ended, report = 0, threading.Event(), REPORT * part
    reader = Nova(place, count)

    def service(number: int) -> None:
        con = connected(place)
        ended.wait(random.random() * report)
        while not ended.is_set():
            beat(con, reader.columns, number)
            ended.wait(report)

    threads = [threading.Thread(target=service, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    pipe.send("reporting")
    while not pipe.poll(report / 10):
        now = listing(reader.con, reader.columns, 4 * report).count(False)
        worst = max(worst, now)
    pipe.recv()
    ended.set()
    pipe.send((worst, now))


def tooz(pipe: Connection, place: Place, count: int, part: float) -> None:
    """So many coordinators, each with a connection and a heart of its own, and one who lists them."""
    with ExitStack() as stack:
        reader = stack.enter_context(Tooz(place, "reader", 60.0))
        reader.create(GROUP)
        for n in range(count):
            stack.enter_context(Tooz(place, f"m{n}", TTL * part, heart=True)).join(GROUP)
        pipe.send("joined")
        worst = 0
        while not pipe.poll(part):
            with suppress(Exception):  # it does not answer, now and then
                worst = max(worst, count - len(reader.ids(GROUP)))
        pipe.recv()
        pipe.send((worst, count - len(reader.ids(GROUP))))


PEERS = {"postgresql": nova, "mysql": nova, "zookeeper": tooz, "etcd": tooz}
NAMES = {nova: "Nova", tooz: "tooz"}
