"""How long after its death is a member down in every view, and does somebody else lead?

Towns of their own, side by side, each with members in processes of their own that watch. In each, one is
killed with SIGKILL: a plain member, the one that leads, or the one that moves the store's clock. The
number is until the *last* of the others has heard. In memory, where nobody can be killed, a member that
is not there any more after its last beat: the longest that it can take.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, enter_of, opened, session_of, with_options

TTL = 10.0
PROCESSES = 5
VICTIMS = ("a plain member", "the ticker", "the leader", "the leader, who ticks")

Killed = tuple[float, float | None]
"""Seconds until it was down everywhere, and until somebody else led, if it had."""


def measure(run: Run) -> Iterator[Line]:
    ttl, _ = run.ttl(TTL)
    killed: dict[str, list[Killed]] = {victim: [] for victim in VICTIMS}
    for _ in range(max(1, run.repeat - 2)):
        with ThreadPoolExecutor(len(VICTIMS)) as pool:
            for victim, answer in zip(VICTIMS, pool.map(lambda v: _town(run, v), VICTIMS), strict=True):
                killed[victim].append(answer)
    slack = run.ttl(1.0)[0] * 2.5
    longer = run.ttl(1.0)[0] * 3
    for victim, answers in killed.items():
        goal = ttl + slack + (longer if "tick" in victim else 0)
        figures = {"sqlite": Figure(max(down for down, _ in answers))}
        if victim == "a plain member":
            figures["memory"] = Figure(_fades(run))
        yield Line(f"SIGKILL of {victim} until down everywhere, ttl {ttl:g} s, longest", "s", figures, goal)
        terms = [led for _, led in answers if led is not None]
        if terms:
            yield Line(
                f"SIGKILL of {victim} until the next term, ttl {ttl:g} s, longest",
                "s",
                {"sqlite": Figure(max(terms))},
                goal,
            )


def _town(run: Run, victim: str) -> Killed:
    ttl, interval = run.ttl(TTL)
    url = run.url("sqlite", interval=interval)
    with ExitStack() as stack:
        # One after the other, so that the first to join is the leader.
        children = []
        for number in range(run.size(PROCESSES, 3)):
            children.append(stack.enter_context(Child(member, url, f"m{number}", ttl)))
            children[-1].hear()
        chance = random.Random(victim)
        time.sleep(3 * interval + chance.random() * ttl / 3)
        killed = _chosen(children, victim, url)
        others = [child for child in children if child is not killed]
        at = killed.kill()
        for child in others:
            child.tell("killed")
        patience = 3 * ttl + 10
        down = max(child.hear(patience) for child in others) - at
        if killed is not children[0]:
            return down, None
        time.sleep(0.1 + ttl / 10)
        terms = [term for child in others if (term := child.ask("leading", patience)) is not None]
        return down, min(terms, default=at + patience) - at


def _chosen(children: list[Child], victim: str, url: str) -> Child:
    """Who is to die. The clock is moved by whom it pleases, so that it may need asking more than once."""
    store = opened(url)
    try:
        for _ in range(200):
            ticker = store.tick().ticker
            ticking = [child for child in children if child.ask("session") == ticker]
            leading = children[0]
            if victim == "a plain member" and ticking and ticking[0] is not children[-1]:
                return children[-1]
            if victim == "the ticker" and ticking and ticking[0] is not leading:
                return ticking[0]
            if victim == "the leader" and ticking and ticking[0] is not leading:
                return leading
            if victim == "the leader, who ticks" and ticking and ticking[0] is leading:
                return leading
            time.sleep(0.05)
    finally:
        store.close()
    return {"a plain member": children[-1], "the ticker": children[1]}.get(victim, children[0])


def _fades(run: Run) -> float:
    """In memory: a member whose last beat was just now."""
    ttl, interval = run.ttl(TTL)
    url = run.url("memory", interval=interval)
    raw = opened(url)
    raw.create_group("town")
    found = threading.Event()
    with headcount.connect(with_options(url.partition("?")[0], mode="ticks"), ttl=ttl) as c:
        c.set_notifier_func("town", lambda change: found.set() if change.kind == "down" else None)
        raw.open_session(session_of("gone", ttl))
        raw.commit("town", [enter_of("gone", ttl)], by=session_of("gone").id)
        began = time.monotonic()
        found.wait(3 * ttl + 10)
        return time.monotonic() - began


# ── the other processes ──


def member(pipe: Connection, url: str, name: str, ttl: float) -> None:
    """Answers what it is asked: `session`, `killed` (when the next one is down), `leading` (since when)."""
    found: dict[str, float] = {}
    went = threading.Event()

    def note(change: headcount.Change) -> None:
        if change.kind == "down":
            found["down"] = time.monotonic()
            went.set()

    with headcount.connect(url, member_id=name, ttl=ttl) as c:
        group = c.join_group("town", create=True)
        c.set_notifier_func("town", note)
        threading.Thread(target=_lead, args=(group, found), daemon=True).start()
        pipe.send("joined")
        while True:
            question = pipe.recv()
            if question == "killed":
                went.wait()
            pipe.send(
                {"session": c.health()["session"], "killed": found.get("down")}.get(
                    question, found.get("led")
                )
            )


def _lead(group: headcount.Group, found: dict[str, float]) -> None:
    with suppress(headcount.HeadcountError):  # the town is over
        while True:
            with group.leadership() as term:
                found["led"] = time.monotonic()
                term.wait()
