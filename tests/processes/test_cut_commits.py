"""The connection ends at a COMMIT, so that nobody can know whether it was carried out. Whoever asked is told
so; the engine looks, and goes on as if nothing had been."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

import headcount
from headcount import Coordinator, stores
from headcount.errors import OutcomeUnknown, StoreUnavailable
from headcount.model import Amend, Committed, Enter, Row, Snapshot
from headcount.stores.base import Store
from tests.processes.places import EXPIRING, SERVERS
from tests.processes.town import Town
from tests.processes.wire import Cut, Wire

TTL = 2.0
SOON = 20.0
STEPS = {"postgresql": 10, "mysql": 10, "etcd": 6, "zookeeper": 12}
"""COMMITs that surely pass while somebody joins, is served for a while, and leaves. On etcd, where a beat is
none: a lease, the session, the witness, enter, leave, the end."""

WORDS = 60
WAITS = 1.0
"""Seconds that a store waits for its server."""
PATIENCE = {"etcd": 0.5}
"""Seconds, where a commit that is cut off is asked again as long as there is time."""
STORM = {"etcd": (25, 50)}
"""Where it is not enough to cut every fifth: the first so many of so many, so that all that is asked again in
that time is cut off, too."""
STOPPED = 5.0
"""Seconds after which nobody is taken to be merely slow."""

on_every_wire = pytest.mark.parametrize("town", [*SERVERS, *EXPIRING], indirect=True)
"""A story about a store on a server."""

Lay = Callable[[Callable[[int], Cut]], Wire]


@pytest.fixture
def lay(town: Town) -> Iterator[Lay]:
    """A function that lays a wire to the town's store."""
    made: list[Wire] = []

    def lay(cut: Callable[[int], Cut]) -> Wire:
        made.append(Wire(town.url, cut))
        return made[-1]

    yield lay
    for wire in made:
        wire.close()


@on_every_wire
@pytest.mark.parametrize("way", ["before", "after"])
def test_a_commit_that_is_cut_off_makes_nobody_join_or_leave_twice(town: Town, lay: Lay, way: Cut) -> None:
    """Some members join, each of whom loses its connection at another COMMIT. Each has joined once, and is
    the same life when two ttls have passed; each leaves once."""
    town.store.create_group("workers")
    steps = STEPS[town.scheme]
    names = {f"m{step:02}": step for step in range(1, steps + 1)}
    wires = {
        name: lay(lambda number, step=step: way if number == step else None)  # type: ignore[misc]
        for name, step in names.items()
    }
    people = {name: headcount.connect(wires[name].url, member_id=name, ttl=TTL) for name in names}
    at_once(lambda one: one.join_group("workers").view(), people.values())
    lives = {row.key: row.incarnation for row in town.snapshot().rows}
    town.time_passes(2 * TTL)
    rows = town.snapshot().rows
    assert {row.key: (row.state.value, row.incarnation) for row in rows} == {
        name: ("up", life) for name, life in lives.items()
    }
    assert told(town.store) == Counter((name, "joined") for name in names)
    at_once(Coordinator.close, people.values())
    assert {row.state.value for row in town.snapshot().rows} == {"left"}
    assert told(town.store) == Counter((name, what) for name in names for what in ("joined", "left"))
    assert [wire.cuts for wire in wires.values()] == [[way]] * steps, "some were not cut off"


@on_every_wire
def test_who_is_lost_in_the_middle_of_a_commit_keeps_no_locks(town: Town, lay: Lay) -> None:
    """A machine loses its power, or is stopped, when half of what it wants has reached the server. The others
    commit before they have waited for long, and nothing of it is there."""
    town.store.create_group("workers")
    wire = lay(lambda number: "lost")
    lost, other = (stores.make(url, options={"timeout": WAITS}) for url in (wire.url, town.url))
    with pytest.raises(OutcomeUnknown):
        lost.commit("workers", [published("lost")])
    began = time.monotonic()
    while True:
        with suppress(StoreUnavailable, OutcomeUnknown):
            if isinstance(other.commit("workers", [published("other")]), Committed):
                break
        assert time.monotonic() - began < STOPPED + 4 * WAITS
    assert [row.key for row in town.snapshot().rows] == ["other"]
    for store in (lost, other):
        store.close()


def published(key: str) -> Enter:
    """A row of nobody."""
    return Enter(
        key=key, member_id=key, seen=0, session="", instance="", host="", ttl=0, capabilities=b"", stand=False
    )  # fmt: skip


def at_once(do: Callable[[Coordinator], object], people: Collection[Coordinator]) -> None:
    with ThreadPoolExecutor(len(people)) as threads:
        list(threads.map(do, people))


def told(store: Store) -> Counter[tuple[str, str]]:
    return Counter((entry.member_id, entry.what) for entry in store.history("workers"))


@on_every_wire
def test_what_is_told_of_a_commit_is_so(town: Town, lay: Lay) -> None:
    """Four write into one row, and some COMMITs are cut off. What they were told was written is there
    once; what was refused, or could not be, is not; and of what nobody knows each is there at most once."""
    chance = random.Random(7)
    ways: tuple[Cut, ...] = ("before", "after")
    cut, of = STORM.get(town.scheme, (1, 5))
    wire = lay(lambda number: chance.choice(ways) if number % of < cut else None)
    town.store.create_group("workers")
    assert isinstance(town.store.commit("workers", [published("plan")]), Committed)
    answers: dict[str, str] = {}
    faults: list[BaseException] = []

    def write(name: str) -> None:
        try:
            store = stores.make(wire.url, options={"timeout": PATIENCE.get(town.scheme, 10.0)})
            for number in range(WORDS):
                answers[f"{name}{number:02}"] = append(store, f"{name}{number:02}")
            store.close()
        except BaseException as error:  # noqa: BLE001 - shown below, in the thread of the test
            faults.append(error)

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not faults, faults
    assert len(answers) == 4 * WORDS
    written = Counter(looked_at(town.store).capabilities.decode().split())
    assert [name for name, answer in answers.items() if answer == "yes" and written[name] != 1] == []
    assert [name for name, times in written.items() if times > 1] == []
    assert {"yes", "unknown"} == set(answers.values()), "nobody was left in doubt, so this shows little"
    assert {"before", "after"} == set(wire.cuts)


def append(store: Store, word: str) -> str:
    """Write one word behind the others: once, and only over what was seen. Where nothing was written, or
    somebody else was faster, it is asked again."""
    while True:
        try:
            row = looked_at(store)
            text = row.capabilities + f"{word} ".encode()
            amend = Amend(key=row.key, incarnation=row.incarnation, seen=row.revision, capabilities=text)
            outcome = store.commit("workers", [amend])
        except OutcomeUnknown:
            return "unknown"
        except StoreUnavailable:
            continue
        if isinstance(outcome, Committed):
            return "yes"


def looked_at(store: Store) -> Row:
    found = store.read("workers", only=["plan"])
    assert isinstance(found, Snapshot)
    return found.rows[0]
