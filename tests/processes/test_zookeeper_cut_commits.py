"""The connection to ZooKeeper ends at a write, so that nobody can know whether it was carried out. Whoever
asked is told so; the engine looks, and goes on as if nothing had been."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

import headcount
from headcount import Coordinator, stores
from headcount.errors import OutcomeUnknown
from headcount.model import Committed
from tests.processes.test_cut_commits import TTL, WORDS, append, at_once, looked_at, published, told
from tests.processes.town import Town
from tests.processes.wire import Cut, Wire
from tests.processes.wire_zookeeper import ZooKeeperLanguage

STEPS = 12
"""Writes that pass while somebody joins, is served for a while, and leaves: two to open sessions, one to
enter, two for each beat, one to leave, one to end."""

Lay = Callable[[Callable[[int], Cut]], Wire]

on_zookeeper = pytest.mark.parametrize("town", ["zookeeper"], indirect=True)


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


@on_zookeeper
@pytest.mark.parametrize("way", ["before", "after"])
def test_a_write_that_is_cut_off_makes_nobody_join_or_leave_twice(town: Town, lay: Lay, way: Cut) -> None:
    """Twelve members join, each of whom loses its connection at another write: of a session, of its row, of a
    beat, of its goodbye. Each has joined once, and is the same life when two ttls have passed; each leaves
    once."""
    town.store.create_group("workers")
    names = {f"m{step:02}": step for step in range(1, STEPS + 1)}
    wires = {
        name: lay(lambda number, step=step: way if number == step else None)  # type: ignore[misc]
        for name, step in names.items()
    }
    people = {name: headcount.connect(wires[name].url, member_id=name, ttl=TTL) for name in names}
    at_once(lambda one: one.join_group("workers").view(), people.values())
    lives = {row.key: row.incarnation for row in town.snapshot().rows}
    time.sleep(2 * TTL)
    rows = town.snapshot().rows
    assert {row.key: (row.state.value, row.incarnation) for row in rows} == {
        name: ("up", life) for name, life in lives.items()
    }
    assert told(town.store) == Counter((name, "joined") for name in names)
    at_once(Coordinator.close, people.values())
    assert {row.state.value for row in town.snapshot().rows} == {"left"}
    assert told(town.store) == Counter((name, what) for name in names for what in ("joined", "left"))
    assert [wire.cuts for wire in wires.values()] == [[way]] * STEPS, "some were not cut off"


@on_zookeeper
@pytest.mark.parametrize("way", ["before", "after", "lost"])
def test_who_writes_is_told_that_nobody_knows(town: Town, lay: Lay, way: Cut) -> None:
    """And what is there afterwards is there for all."""
    town.store.create_group("workers")
    wire = lay(lambda number: way if number == 1 else None)
    store = stores.make(wire.url, options={"timeout": 1.0})
    store.open()
    with pytest.raises(OutcomeUnknown):
        store.commit("workers", [published("plan")])
    written = [row.key for row in town.snapshot().rows]

    assert written == (["plan"] if way == "after" else [])
    assert isinstance(town.store.commit("workers", [published("other")]), Committed)
    store.close()


@on_zookeeper
def test_what_is_told_of_a_write_is_so(town: Town, lay: Lay) -> None:
    """Four write into one row, and every fifth write is cut off. What they were told was written is there
    once; what was refused, or could not be, is not; and of what nobody knows each is there at most once."""
    chance = random.Random(7)
    ways: tuple[Cut, ...] = ("before", "after")
    wire = lay(lambda number: chance.choice(ways) if number % 5 == 0 else None)
    town.store.create_group("workers")
    assert isinstance(town.store.commit("workers", [published("plan")]), Committed)
    answers: dict[str, str] = {}
    faults: list[BaseException] = []

    def write(name: str) -> None:
        try:
            store = stores.make(wire.url, options={"timeout": 10.0})
            store.open()
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


def test_the_wire_knows_what_writes() -> None:
    """In whatever pieces it comes."""
    said = [b"\0\0\0\x04\0\0\0\x0e", b"\0\0\0\x08\0\0\0\x01\0\0\0\x0e", b"\0\0\0\x08\0\0\0\x02\0\0\0\x04"]
    language = ZooKeeperLanguage()
    heard = [
        one for at in range(len(b"".join(said))) for one in language.messages(b"".join(said)[at : at + 1])
    ]

    assert heard == list(zip(said, [False, True, False], strict=True))
