"""Every known mistake, planted one at a time, is caught by a promise; and without it nothing is.

A mutant that escapes is either harmless, and then does not belong here, or shows a promise that nobody
holds the library to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headcount import register
from headcount.stores import memory
from tests.mutants import coming_back, engines, ensembles, files, servers, ticks, trust, views, writes
from tests.mutants.hunting import MUTANTS, SERVERS, Attack, Law, Mutant, Stored, Story, Towns, server
from tests.mutants.planting import NoPlace, Planter
from tests.servers import fixtures

TOPICS = (trust, ticks, writes, coming_back, views, files, servers, engines, ensembles)

MOST_TOWNS = 6
"""So many towns are visited in one test of the control."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_planted_mistake_is_caught(
    mutant: Mutant, tmp_path: Path, record_property, unavailable: fixtures.Unavailable
) -> None:
    """A promise that it is known to break breaks, in one of a few towns, or by its law."""
    if isinstance(mutant.hunt, Law | Story | Attack):
        need_server(mutant.hunt.store, unavailable)
    with pytest.MonkeyPatch.context() as patch:
        mutant.plant(Planter(patch))
        found = mutant.hunt.hunt(tmp_path)
    record_property("mutant", (mutant.topic, mutant.name, found.by, found.where, found.tries))


def visits() -> Iterator[tuple[Towns, list[int]]]:
    """The towns in which mutants are hunted, each once, a few at a time."""
    seeds: dict[object, set[int]] = {}
    hunts: dict[object, Towns] = {}
    for hunt in [mutant.hunt for mutant in MUTANTS if isinstance(mutant.hunt, Towns)]:
        hunts[hunt.kind] = hunt
        seeds.setdefault(hunt.kind, set()).update(hunt.seeds)
    for kind, hunt in hunts.items():
        found = sorted(seeds[kind])
        for start in range(0, len(found), MOST_TOWNS):
            yield hunt, found[start : start + MOST_TOWNS]


def named(value: object) -> str:
    if isinstance(value, Towns):
        few = [f"{value.tombstones}-tombstones"] if value.forgets else []
        kind = value.mode if value.engine == "plain" else value.engine
        return "-".join([kind, *(value.scenes or ("all",)), *few])
    return f"{value[0]}-{value[-1]}" if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("towns", "seeds"), list(visits()), ids=named)
def test_without_a_mistake_nothing_is_caught(towns: Towns, seeds: list[int]) -> None:
    """The same towns, with nothing planted, keep every promise: it is the mistake that is caught."""
    for seed in seeds:
        broken = towns.town(seed)
        assert broken is None, str(broken)


def need_server(store: Stored, unavailable: fixtures.Unavailable) -> None:
    """Started before anything is planted, so that it is the same for all."""
    if store in SERVERS:
        fixtures.need(unavailable, SERVERS[store])
        server(store)


@pytest.mark.parametrize(
    ("law", "store"), sorted({(m.hunt.law, m.hunt.store) for m in MUTANTS if isinstance(m.hunt, Law)})
)
def test_without_a_mistake_the_law_is_kept(
    law: str, store: Stored, tmp_path: Path, unavailable: fixtures.Unavailable
) -> None:
    """By the store as it is."""
    need_server(store, unavailable)
    Law(law, store=store).obey(tmp_path / "store")


@pytest.mark.parametrize("store", sorted({m.hunt.store for m in MUTANTS if isinstance(m.hunt, Story)}))
def test_without_a_mistake_a_history_is_in_order(
    store: Stored, tmp_path: Path, unavailable: fixtures.Unavailable
) -> None:
    need_server(store, unavailable)
    assert Story(store=store).tell(tmp_path) == []


def test_a_plant_without_its_place_says_so() -> None:
    """What was to be changed is gone, stands there twice, or is no function: no mutant is planted in vain."""
    with pytest.MonkeyPatch.context() as patch:
        planter = Planter(patch)
        with pytest.raises(NoPlace):
            planter.edit(register.Ledger._enter, "a line that nobody wrote", "pass")
        with pytest.raises(NoPlace):
            planter.edit(memory.MemoryStore.beat, "server", "client")
        with pytest.raises(NoPlace):
            planter.put(memory.MemoryStore, "a_method_that_nobody_wrote", None)
        with pytest.raises(NoPlace):
            planter.sql("sqlite/beats", "grant", "a line that nobody wrote", "")


def test_what_is_planted_is_taken_out() -> None:
    """The next hunt begins with the library as it is."""
    before = memory.MemoryStore._extend.__code__
    with pytest.MonkeyPatch.context() as patch:
        Planter(patch).edit(memory.MemoryStore._extend, "max(found.deadline, deadline)", "deadline")
        assert memory.MemoryStore._extend.__code__ is not before
    assert memory.MemoryStore._extend.__code__ is before


def test_there_are_enough_of_them() -> None:
    """At least 25, some in each file; and most of those seen by the simulation that are not of a store."""
    assert len(MUTANTS) >= 25
    ours = [mutant for mutant in MUTANTS if mutant.topic not in ("files", "servers", "engines")]
    assert sum(isinstance(mutant.hunt, Towns) for mutant in ours) > len(ours) / 2
    assert {mutant.topic for mutant in MUTANTS} == {topic.__name__.rsplit(".", 1)[-1] for topic in TOPICS}
