"""The limit: each store's own client, with as little as possible on top of it.

The questions ask for what a store has to do at least: to beat, to write a row, to tell somebody a number.
How that is done at the least cost is in `raw_sql`, `raw_zookeeper` and `raw_etcd`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module

KINDS = {
    "sqlite": ("bench.raw_sql", "RawSQLite"),
    "postgresql": ("bench.raw_sql", "RawPostgreSQL"),
    "mysql": ("bench.raw_sql", "RawMySQL"),
    "zookeeper": ("bench.raw_zookeeper", "RawZooKeeper"),
    "etcd": ("bench.raw_etcd", "RawEtcd"),
}
"""Where they are; their client libraries may be missing where another store is measured."""


@dataclass(frozen=True)
class Place:
    """One database, as other processes are told of it. A file's `database` is its path."""

    store: str
    port: int
    database: str
    url: str = field(repr=False)

    def connect(self) -> Raw:
        module, name = KINDS[self.store]
        kind: type[Raw] = getattr(import_module(module), name)
        return kind(self)


class Raw:
    """A connection on which nothing is ours. What it commits is synced."""

    def __init__(self, place: Place) -> None:
        raise NotImplementedError

    # ── beats ──

    def bear(self, names: Sequence[str]) -> None:
        """Have these sessions, which nobody has had yet at this place."""
        raise NotImplementedError

    def beat(self, name: str) -> None:
        """The cheapest beat of one that could be told to be lost, or not."""
        raise NotImplementedError

    def beat_all(self, names: Sequence[str]) -> None:
        """All that were borne, at once."""
        raise NotImplementedError

    # ── rows ──

    def prepare(self) -> None:
        """Have room for members, one of whom is called `one`."""
        raise NotImplementedError

    def add(self, name: str, number: int) -> None:
        """A member, in a commit of its own."""
        raise NotImplementedError

    def add_counted(self, number: int) -> None:
        """A member, and the number of its group along with it, in one commit."""
        raise NotImplementedError

    def change_counted(self, number: int) -> None:
        """The member `one`, and the number of its group along with it, in one commit."""
        raise NotImplementedError

    # ── news ──

    def prepare_news(self) -> None:
        raise NotImplementedError

    def tell(self, number: int) -> None:
        """Write a number, so that those who wait for news hear of it."""
        raise NotImplementedError

    def news(self) -> Iterable[int]:
        """Wait for a moment; the numbers that have been told since."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __del__(self) -> None:
        """Whoever is done with a limit drops it, and no more."""
        with suppress(Exception):
            self.close()
