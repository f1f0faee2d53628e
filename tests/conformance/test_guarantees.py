"""What is written about the stores is what they declare."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from headcount.model import Guarantees
from headcount.stores import BUILT_IN
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

DECLARED = {
    "memory (ticks)": MemoryTicks.guarantees,
    "memory (sessions)": MemorySessions.guarantees,
    "sqlite": SQLiteTicks.guarantees,
    "postgresql": PostgreSQLTicks.guarantees,
    "mysql": MariaDBTicks.guarantees,
    "zookeeper": ZooKeeperSessions.guarantees,
    "etcd": EtcdSessions.guarantees,
}
"""Of the stores that are here, by their names in the table. (A law compares a harness with its store.)"""

FIELDS = [field.name for field in fields(Guarantees)]


def table() -> dict[str, dict[str, str]]:
    """The rows of the page's table, by the name of the store."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in body}


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


def test_the_table_says_what_the_stores_declare() -> None:
    """Flag by flag, for each store of this release."""
    for store, guarantees in DECLARED.items():
        row = table()[store]
        assert {flag: row[flag] for flag in FIELDS} == {
            flag: written(flag, getattr(guarantees, flag)) for flag in FIELDS
        }, store


def test_planned_is_what_is_not_here() -> None:
    """A store that is here is declared and tested; one that is not is said to be planned."""
    here = {store for store, row in table().items() if row[""] != "planned"}

    assert here == DECLARED.keys()
    assert {store.partition(" ")[0] for store in here} == BUILT_IN.keys()


def test_every_flag_is_a_column_and_is_explained() -> None:
    """In the order in which the model names them; below the table a paragraph says what each means."""
    row = next(iter(table().values()))

    assert list(row) == ["store", *FIELDS, ""]
    assert re.findall(r"^\*\*(\w+)\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == FIELDS
