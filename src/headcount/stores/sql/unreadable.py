"""Records that cannot be read: left out, told of once, and the rest is served."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from headcount.model import Claim, Mark, Row
from headcount.stores.base import log_corrupt
from headcount.stores.sql.records import decode_all

R = TypeVar("R", Row, Mark, Claim)

MOST_COMPLAINTS = 1000
"""Corrupt records that are remembered as told; after so many, they are told again."""

GETTING_RID = {
    "row": "it is replaced when its member enters again",
    "mark": "it is replaced when its member is marked again",
    "claim": "it holds nobody back, and goes when its group is deleted",
}
"""What becomes of a record that cannot be read."""


class Reading:
    """What a store on SQL does with what it reads."""

    def __init__(self, where: str) -> None:
        """`where`: how the complaints call the store."""
        self.on_corrupt: Callable[[str], object] = log_corrupt
        self._where = where
        self._told: set[tuple[str, str, str]] = set()

    def _decoded(self, group: str, kind: type[R], found: Iterable[Sequence[Any]]) -> list[R]:
        return decode_all(kind, found, partial(self._corrupt, group))

    def _corrupt(self, group: str, kind: str, key: str, what: str) -> None:
        if (group, kind, key) in self._told:
            return
        if len(self._told) >= MOST_COMPLAINTS:
            self._told.clear()
        self._told.add((group, kind, key))
        self.on_corrupt(
            f"{self._where}: the {kind} {key} of group {group!r} cannot be read and is left out: {what}; "
            f"{GETTING_RID[kind]}"
        )
