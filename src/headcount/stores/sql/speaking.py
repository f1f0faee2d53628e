"""How the stores speak SQL: statements by name, over one connection, inside one transaction.

Every dialect has the same names in its files, and its own text under them. What is done with them
(`recording`, `server`) is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from headcount.errors import SchemaMismatch

Found = list[tuple[Any, ...]]


class NoSchema(SchemaMismatch):
    """The tables are not there."""


class Sql(Protocol):
    """One transaction. Raises the client library's errors; who began the transaction translates them."""

    def all(self, name: str, *values: Any) -> Found:
        """The rows that a statement finds."""
        ...

    def later(self, name: str, *values: Any) -> Callable[[], Found]:
        """The same, to be fetched later: where the connection can, the statements that follow are on their
        way before this one is answered."""
        ...

    def run(self, name: str, *values: Any) -> None:
        """Have it done, sometime before the transaction ends."""
        ...

    def each(self, name: str, values: Iterable[Sequence[Any]]) -> None:
        """Have it done once for each of these."""
        ...

    def many(self, values: Iterable[str]) -> Any:
        """Many texts as one value of a statement, sorted, so that all who lock them do it in one order."""
        ...
