"""The part of docs/guarantees.md that is not written by hand: the table of what each store declares, and how
many laws of the suite are put to it. `make guarantees` writes it, if the stores have kept them all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from headcount.model import Guarantees
from headcount.testing.conformance import laws
from tests.conformance.harnesses import (
    EtcdSessions,
    MariaDBTicks,
    MemorySessions,
    MemoryTicks,
    PostgreSQLTicks,
    SQLiteTicks,
    ZooKeeperSessions,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"

BEGIN, END = "<!-- from here on, `make guarantees` writes -->", "<!-- up to here -->"


@dataclass(frozen=True)
class Declared:
    store: str
    guarantees: Guarantees
    module: str
    """Where the laws are put to it, beside this file."""


DECLARED = (
    Declared("memory (ticks)", MemoryTicks.guarantees, "test_memory_ticks"),
    Declared("memory (sessions)", MemorySessions.guarantees, "test_memory_sessions"),
    Declared("sqlite", SQLiteTicks.guarantees, "test_sqlite"),
    Declared("postgresql", PostgreSQLTicks.guarantees, "test_postgresql"),
    Declared("mysql", MariaDBTicks.guarantees, "test_mysql"),
    Declared("zookeeper", ZooKeeperSessions.guarantees, "test_zookeeper"),
    Declared("etcd", EtcdSessions.guarantees, "test_etcd"),
)
"""The stores that are here. (A law compares what a harness declares with what its store does.)"""

PLANNED: dict[str, dict[str, object]] = {
    "redis": {
        "scope": "network",
        "expiry": "ticks",
        "stall_safe": True,
        "exclusive": True,
        "advisory_failover": True,
    },
    "memcached": {
        "scope": "network",
        "expiry": "ticks",
        "stall_safe": True,
        "exclusive": True,
        "durable": False,
        "advisory_failover": False,
    },
    "serf": {
        "scope": "network",
        "expiry": "gossip",
        "deltas": False,
        "stall_safe": False,
        "exclusive": False,
        "durable": False,
        "advisory_failover": True,
    },
}
"""What is known of those that are to come."""

FLAGS = [field.name for field in fields(Guarantees)]


def written(flag: str, value: object) -> str:
    """A guarantee, as the table writes it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "not needed"
        case int() if flag == "max_capabilities":
            return f"{value:,}"
        case int() | float():
            return f"{value:g} s"
    return str(value)


def page_part() -> str:
    """What stands between `BEGIN` and `END`."""
    rows = [["store", *FLAGS, "laws"], ["---"] * (len(FLAGS) + 2)]
    for one in DECLARED:
        told = [written(flag, getattr(one.guarantees, flag)) for flag in FLAGS]
        rows.append([one.store, *told, str(len(laws(one.guarantees)))])
    for store, known in PLANNED.items():
        told = [written(flag, known[flag]) if flag in known else "—" for flag in FLAGS]
        rows.append([store, *told, "planned"])
    table = "\n".join(
        f"| {' | '.join(row)} |".replace("| --- ", "|---").replace("|--- ", "|---") for row in rows
    )
    return (
        f"{table}\n\nThe suite has {len(laws())} laws. How many are put to a store follows from its flags.\n"
    )


def page_with(part: str) -> str:
    """The page with this part in its place."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{part}\n{END}{after}"
