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
from typing import Any

import headcount
from bench.children import Child
from bench.harness import Figure, Line, Run, enter_of, opened, session_of, with_options

TTL = 10.0
PROCESSES = 5
VICTIMS = ("a plain member", "the ticker", "the leader", "the leader, who ticks")
"""Of whom those that tick are to be found only where there are ticks."""

Killed = tuple[float, float | None]
"""Seconds until it was down everywhere, and until somebody else led, if it had."""


def measure(run: Run) -> Iterator[Line]:
    ttl, _ = run.ttl(TTL)
    killed: dict[tuple[str, str], list[Killed]] = {}
    for store in run.stores:
        victims = [victim for victim in VICTIMS if run.ticks(store) or "tick" not in victim]
        for _ in range(max(1, run.repeat - 2) if store != "memory" else 0):
            with ThreadPoolExecutor(len(victims)) as pool:
                answers = pool.map(lambda victim, store=store: _town(run, store, victim), victims)
                for victim, answer in zip(victims, answers, strict=True):
                    killed.setdefault((store, victim), []).append(answer)
    slack = run.ttl(1.0)[0] * 2.5
    longer = run.ttl(1.0)[0] * 3
    for victim in VICTIMS:
        goal = ttl + slack + (longer if "tick" in victim else 0)
        found = {store: killed[store, victim] for store in run.stores if (store, victim) in killed}
        figures = {store: Figure(max(down for down, _ in answers)) for store, answers in found.items()}
        if victim == "a plain member" and "memory" in run.stores:
            figures["memory"] = Figure(_fades(run))
        if figures:
            work = f"SIGKILL of {victim} until down everywhere, ttl {ttl:g} s, longest"
            yield Line(work, "s", figures, goal)
        led = {store: [term for _, term in answers if term is not None] for store, answers in found.items()}
        terms = {store: Figure(max(taken)) for store, taken in led.items() if taken}
        if terms:
            work = f"SIGKILL of {victim} until the next term, ttl {ttl:g} s, longest"
            yield Line(work, "s", terms, goal)


def _town(run: Run, store: str, victim: str) -> Killed:
    ttl, interval = run.ttl(TTL)
    url = run.url(store, interval=interval)
    with ExitStack() as stack:
        # One after the other: the first to come ticks, and the first of those who stand leads.
        children: dict[str, Child] = {}
        for number in range(run.size(PROCESSES, 3)):
            stands = number > 0 or victim == "the leader, who ticks"
            child = stack.enter_context(Child(member, url, f"m{number}", ttl, stands))
            child.hear()
            children[f"m{number}"] = child
        time.sleep(ttl / 3 + 2 * interval + random.random() * ttl / 3)
        if run.ticks(store):
            name = _chosen(children, victim, url, patience=5 * interval)
        else:
            name = children["m0"].ask(("leader", None)) if victim == "the leader" else "m0"
        killed = children.pop(name)
        at = killed.kill()
        for child in children.values():
            child.tell(("down", name))
        patience = 3 * ttl + 10
        down = max(child.hear(patience) for child in children.values()) - at
        if "leader" not in victim:
            return down, None
        time.sleep(0.1 + ttl / 10)
        terms = [child.ask(("led", None), patience) for child in children.values()]
        return down, min((term for term in terms if term is not None), default=at + patience) - at


def _chosen(children: dict[str, Child], victim: str, url: str, patience: float) -> str:
    """Who is to die. Who ticks may change; if it does not become as wanted, it is as good as it gets."""
    store: Any = opened(url)
    until = time.monotonic() + patience
    try:
        while True:
            found = store.tick().ticker
            ticker = next((n for n, c in children.items() if c.ask(("session", None)) == found), "m0")
            leader = children[ticker].ask(("leader", None)) or "m1"
            plain = [name for name in children if name not in (ticker, leader)]
            wanted = {"a plain member": plain[-1], "the ticker": ticker}.get(victim, leader)
            if (ticker == leader) == (victim == "the leader, who ticks") or time.monotonic() > until:
                return wanted
            time.sleep(0.05)
    finally:
        store.close()


def _fades(run: Run) -> float:
    """In memory: a member whose last beat was just now."""
    ttl, interval = run.ttl(TTL)
    url = run.url("memory", interval=interval)
    raw = opened(url)
    raw.create_group("town")
    found = threading.Event()
    with headcount.connect(with_options(url.partition("?")[0], mode="ticks"), ttl=ttl) as c:
        c.set_notifier_func("town", lambda change: found.set() if change.kind == "down" else None)
        time.sleep(ttl / 3 + 2 * interval)  # the watcher moves the clock from its first beat on
        raw.open_session(session_of("gone", ttl))
        raw.commit("town", [enter_of("gone", ttl)], by=session_of("gone").id)
        began = time.monotonic()
        found.wait(3 * ttl + 10)
        return time.monotonic() - began


# ── the other processes ──


def member(pipe: Connection, url: str, name: str, ttl: float, stands: bool) -> None:
    """Answers what it is asked: its `session`, the `leader`, when somebody went `down`, since when it
    `led`."""
    down: dict[str, float] = {}
    led: list[float] = []
    rung = threading.Condition()

    def note(change: headcount.Change) -> None:
        if change.kind == "down" and change.member is not None:
            with rung:
                down[change.member.member_id] = time.monotonic()
                rung.notify_all()

    with headcount.connect(url, member_id=name, ttl=ttl) as c:
        group = c.join_group("town", create=True, stand=stands)
        c.set_notifier_func("town", note)
        if stands:
            threading.Thread(target=_lead, args=(group, led), daemon=True).start()
        pipe.send("joined")
        while True:
            question, who = pipe.recv()
            match question:
                case "session":
                    pipe.send(c.health()["session"])
                case "leader":
                    pipe.send(c.get_leader("town"))
                case "led":
                    pipe.send(led[-1] if led else None)
                case "down":
                    down.clear()
                    with rung:
                        rung.wait_for(lambda who=who: who in down)
                    pipe.send(down[who])


def _lead(group: headcount.Group, led: list[float]) -> None:
    with suppress(headcount.HeadcountError):  # the town is over
        while True:
            with group.leadership() as term:
                led.append(time.monotonic())
                term.wait()
