"""How a planted mistake is hunted, and the list of all that are.

    Towns   simulated towns, seed after seed, until a promise breaks that this mistake is known to break
    Law     a law of the conformance suite, for what the simulation cannot see by its nature: files and
            locks, shards and locks of members, which no town has; and SQL, on a real server
    Story   several clients write and read one register, and the judge of histories is shown what they record
    Attack  somebody gets in between, as no law can arrange it on every store (`test_servers`)

A mutant is a function that plants one mistake; its docstring says in a sentence what is wrong then. It
counts as caught only by a *promise*: never by a test of the very line or constant that was changed.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import pytest

from headcount.errors import HeadcountError
from headcount.stores import memory
from headcount.stores.base import TOMBSTONES
from headcount.testing.conformance import laws
from headcount.testing.conformance.harness import Harness
from headcount.testing.conformance.town import at_once
from tests.conformance import test_servers
from tests.conformance.harnesses import (
    EtcdSessions,
    MariaDBTicks,
    MemoryTicks,
    PostgreSQLTicks,
    SQLiteTicks,
    ZooKeeperSessions,
)
from tests.conformance.places import Place
from tests.mutants.planting import Planter
from tests.mutants.scenes import SCENES
from tests.processes.history import Fault, Record, judge
from tests.processes.writer import GROUP, Writer
from tests.servers.base import Server
from tests.servers.etcd import Etcd
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL
from tests.servers.zookeeper import ZooKeeper
from tests.simulation import Broken, faults, run

QUIET = "idle"
"""Played among any few scenes: some of these end at once, and towns that never wait take for ever."""

FEW, SOME, MANY = range(4), range(8), range(3, 15)
"""The towns that are searched for a mutant: few where nearly every town shows it. More than are needed, so
that it is still found when the simulation changes, and with it what happens in a town."""

WRITERS, OPERATIONS = 4, 150
"""Of a story."""

Mode = Literal["ticks", "sessions"]


class Escaped(AssertionError):
    """A planted mistake that nothing saw."""


@dataclass(frozen=True)
class Found:
    """By what a mutant was caught, where, and at which try."""

    by: str
    where: str
    tries: int


class Towns:
    """Simulated towns. `promises`: any of these is the one that has to break.

    `engine`: what sessions stand on, where they expire by themselves.
    `scenes`: play only these, again and again, so that what is rare in a whole town is found in a few.
    `tombstones`: how many removals the store remembers, so that a delta cannot always be given."""

    def __init__(
        self,
        *promises: str,
        mode: Mode = "ticks",
        engine: str = "plain",
        seeds: range = SOME,
        scenes: tuple[str, ...] = (),
        tombstones: int = TOMBSTONES,
    ) -> None:
        self.promises = promises
        self.mode: Mode = mode if engine == "plain" else "sessions"
        self.engine = engine
        self.seeds = seeds
        self.scenes = scenes
        self.tombstones = tombstones

    @property
    def kind(self) -> tuple[Mode, str, tuple[str, ...], int]:
        """What must be the same for two hunts to visit the same towns."""
        return self.mode, self.engine, self.scenes, self.tombstones

    @property
    def forgets(self) -> bool:
        return self.tombstones != TOMBSTONES

    def town(self, seed: int) -> Broken | None:
        """What breaks in one town."""
        with self._staged():
            try:
                run(seed, mode=self.mode, engine=self.engine)
            except Broken as broken:
                return broken
        return None

    def hunt(self, _: Path) -> Found:
        others = []
        for tries, seed in enumerate(self.seeds, 1):
            broken = self.town(seed)
            if broken is not None and broken.promise in self.promises:
                where = self.mode if self.engine == "plain" else self.engine
                return Found(broken.promise, f"seed {seed}, {where}", tries)
            if broken is not None:
                others.append(f"seed {seed}: {broken.promise}: {broken.message}")
        raise Escaped(
            f"in {len(self.seeds)} towns none of {', '.join(self.promises)} was broken"
            + "".join(f"\n  but at {other}" for other in others)
        )

    @contextmanager
    def _staged(self) -> Iterator[None]:
        known = {scene.__name__: scene for scene in faults.SCENES} | SCENES
        missing = [name for name in (*self.scenes, QUIET) if name not in known]
        assert not missing, f"the simulation has no scene {missing}"
        with pytest.MonkeyPatch.context() as patch:
            if self.scenes:
                patch.setattr(faults, "SCENES", [known[name] for name in (*self.scenes, QUIET)])
            patch.setattr(memory, "TOMBSTONES", self.tombstones)
            yield


Stored = Literal["sqlite", "memory", "postgresql", "mysql", "zookeeper", "etcd"]
SERVERS = {"postgresql": "postgresql", "mysql": "mariadb", "zookeeper": "zookeeper", "etcd": "etcd"}
"""Stores that need a server, and the server by the name under which its programs are looked for."""


@cache
def server(store: Stored) -> Any:
    """One for all hunts of this process, started when it is first needed."""
    made: dict[str, Callable[[], Server]] = {
        "postgresql": PostgreSQL,
        "mysql": MariaDB,
        "zookeeper": ZooKeeper,
        "etcd": Etcd,
    }
    started = made[store]()
    atexit.register(started.discard)
    return started.start()


def harness_of(store: Stored, scratch: Path) -> Harness:
    match store:
        case "sqlite":
            return SQLiteTicks(scratch)
        case "memory":
            return MemoryTicks()
        case "postgresql":
            return PostgreSQLTicks(server(store))
        case "mysql":
            return MariaDBTicks(server(store))
        case "zookeeper":
            return ZooKeeperSessions(server(store))
        case "etcd":
            return EtcdSessions(server(store))


class Law:
    """A law of the conformance suite, on a store that is made for it. `tries`: for laws that depend on how
    threads meet. `by`: what the law fails by, if it does not get as far as to what it asserts."""

    def __init__(
        self,
        law: str,
        *,
        store: Stored = "sqlite",
        tries: int = 1,
        by: type[Exception] = AssertionError,
    ) -> None:
        self.law = law
        self.by = by
        self.store = store
        self.tries = tries

    def hunt(self, scratch: Path) -> Found:
        for attempt in range(1, self.tries + 1):
            try:
                self.obey(scratch / str(attempt))
            except (pytest.fail.Exception, self.by):
                return Found(self.law.replace("_", " "), f"law, {self.store}", attempt)
        raise Escaped(f"the law {self.law} was kept, {self.tries} times")

    def obey(self, scratch: Path) -> None:
        scratch.mkdir()
        harness = harness_of(self.store, scratch)
        try:
            laws(harness.guarantees)[f"test_{self.law}"](harness)
        finally:
            harness.close()


class Story:
    """What several clients record, held together by the judge of histories. `faults`: what it has to find."""

    def __init__(self, *faults: str, store: Stored, tries: int = 10) -> None:
        self.faults = faults
        self.store = store
        self.tries = tries

    def hunt(self, scratch: Path) -> Found:
        others: set[str] = set()
        for attempt in range(1, self.tries + 1):
            found = {fault for fault, _ in self.tell(scratch, attempt)}
            if found & set(self.faults):
                return Found(f"history: {', '.join(sorted(found))}", f"story, {self.store}", attempt)
            others |= found
        raise Escaped(f"the history was in order, {self.tries} times; other faults: {sorted(others)}")

    def tell(self, scratch: Path, seed: int = 1) -> list[Fault]:
        (scratch / str(seed)).mkdir()
        harness = harness_of(self.store, scratch / str(seed))
        try:
            keeper = harness.store()
            keeper.create_group(GROUP)
            start = keeper.read(GROUP).revision
            writers = [Writer(harness.store(), f"w{n}", 10 * seed + n) for n in range(WRITERS)]

            def write(number: int) -> list[Record]:
                steps = (writers[number].step() for _ in range(OPERATIONS))
                return [record for record in steps if record is not None]

            records = [record for some in at_once(WRITERS, write) for record in some]
            return judge(records, start=start, first=start)
        finally:
            harness.close()


class Attack:
    """A test of `test_servers`, which stops somebody in the middle of something, at a place of its own."""

    def __init__(self, attack: str, *, store: Literal["postgresql", "mysql"]) -> None:
        self.attack = attack
        self.store: Stored = store

    def hunt(self, _: Path) -> Found:
        test = getattr(test_servers, f"test_{self.attack}")
        place = Place(server(self.store))
        try:
            with pytest.MonkeyPatch.context() as patch:
                test(place, *([patch] if "monkeypatch" in signature(test).parameters else []))
        except (pytest.fail.Exception, AssertionError, HeadcountError):
            return Found(self.attack.replace("_", " "), f"attack, {self.store}", 1)
        finally:
            place.close()
        raise Escaped(f"{self.attack}, as it should be")


@dataclass(frozen=True)
class Mutant:
    name: str
    says: str
    topic: str
    plant: Callable[[Planter], None]
    hunt: Towns | Law | Story | Attack


MUTANTS: list[Mutant] = []


def mutant(
    hunt: Towns | Law | Story | Attack,
) -> Callable[[Callable[[Planter], None]], Callable[[Planter], None]]:
    """The function below plants a mistake, and this is how it is hunted."""

    def note(plant: Callable[[Planter], None]) -> Callable[[Planter], None]:
        assert plant.__doc__, f"{plant.__name__} does not say what is wrong"
        name, topic = plant.__name__.replace("_", " "), plant.__module__.rsplit(".", 1)[-1]
        assert name not in {known.name for known in MUTANTS}, f"two mutants are called {name}"
        MUTANTS.append(Mutant(name, plant.__doc__, topic, plant, hunt))
        return plant

    return note
