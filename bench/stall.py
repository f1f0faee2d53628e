"""The database stops for a while: who is reported dead when it is back?

Nobody died. Members of ours, in several processes, and services that beat by Nova's pattern share a server
that is stopped for longer than the ttl of the ones and the down time of the others (four beats). Counted is
who of ours went down in the eyes of a watcher, or is not there in the end, and how many Nova's reader, who
looks again and again, found down at once. Of Nova the limit is taken, and it is nothing to reach for.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run
from bench.nova import Nova, beat, listing
from bench.raw import Place

MEMBERS = 50
PROCESSES = 10
STALL = 15.0
TTL = 10.0
REPORT = 3.0
"""Seconds between two beats of a service, of which four may be missed."""

LEAST = 0.2
"""A small run takes no shorter times than this part: a busy machine would kill by itself."""


def measure(run: Run) -> Iterator[Line]:
    part = min(1.0, max(LEAST, run.scale))
    count = run.size(MEMBERS, PROCESSES)
    figures = {store: _stalled(run, store, count, part) for store in run.stores}
    work = f"dead of {count} after the server stood still for {STALL * part:g} s; limit: Nova's"
    yield Line(work, "", figures, goal=0, limit="Nova's pattern")


def _stalled(run: Run, store: str, count: int, part: float) -> Figure:
    url, place, server = run.url(store, interval=part), run.place(store), run.hosts[store].server
    with ExitStack() as stack:
        watching = stack.enter_context(Child(watcher, url, count))
        watching.hear()
        for n in range(PROCESSES):
            mine = range(n, count, PROCESSES)
            stack.enter_context(Child(members, url, [f"m{i}" for i in mine], TTL * part)).hear()
        services = stack.enter_context(Child(nova, place, count, REPORT * part))
        services.hear()
        time.sleep(2 * TTL * part)
        server.freeze()
        try:
            time.sleep(STALL * part)
        finally:
            server.thaw()
        time.sleep(2 * TTL * part + 5)
        return Figure(len(watching.ask("who?")), services.ask("how many?"))


# ── the other processes ──


def watcher(pipe: Connection, url: str, count: int) -> None:
    """Says who of so many went down, or is not there when it is asked."""
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
        pipe.send(dead | ({f"m{n}" for n in range(count)} - up))


def members(pipe: Connection, url: str, names: list[str], ttl: float) -> None:
    with ExitStack() as stack:
        for name in names:
            c = stack.enter_context(headcount.connect(url, member_id=name, ttl=ttl, timeout=60))
            c.join_group("crowd", create=True)
        pipe.send("joined")
        pipe.recv()


def nova(pipe: Connection, place: Place, count: int, report: float) -> None:
    """So many services, each with a connection of its own, and one who lists them."""
    worst, ended = 0, threading.Event()
    reader = Nova(place, count)

    def service(number: int) -> None:
        con = place.connect()
        ended.wait(random.random() * report)
        while not ended.is_set():
            beat(con, reader.columns, number)
            ended.wait(report)

    threads = [threading.Thread(target=service, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    pipe.send("reporting")
    while not pipe.poll(report / 10):
        worst = max(worst, listing(reader.con, reader.columns, 4 * report).count(False))
    pipe.recv()
    ended.set()
    pipe.send(worst)
