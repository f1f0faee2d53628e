"""What is in the keys: JSON, which people can read in etcdctl. Who finds something else there leaves it out,
and says so once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from headcount.model import Claim, Entry, Mark, RecordKind, Revision, Row, Session
from headcount.stores.base import log_corrupt

R = TypeVar("R")

MOST_COMPLAINTS = 1000
"""Corrupt records that are remembered as told; after so many, they are told again."""

FORMAT = 1
"""Of what the keys are called and what is in them."""


class About(msgspec.Struct, frozen=True):
    """What stands at the root. `history` is the id of the cluster: one that was restored has another."""

    format: int
    history: str
    epoch: int


class Head(msgspec.Struct, frozen=True):
    """The head of a group. `id` names the commit, or the creation, that wrote it; `here`: how many sessions
    are here, unless some have died and nobody has noticed. `early`: of so many claims, or fewer by now, the
    session has been ended before its time."""

    revision: Revision
    id: str
    here: int = 0
    early: int = 0


class Life(msgspec.Struct, frozen=True):
    """A session. `moved`: how often it went to another lease; its key was written for that, too."""

    session: Session
    moved: int = 0


class Told(msgspec.Struct, frozen=True):
    """One commit in the history, and what it touched. `begins`: the group was made."""

    id: str
    entries: list[Entry]
    touched: list[tuple[RecordKind, str]] = []
    begins: bool = False


KINDS: dict[str, Any] = {"row": Row, "mark": Mark, "claim": Claim}

encode = msgspec.json.encode
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(kind: type[R], value: bytes) -> R:
    """Raises `ValueError`."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    found: R = decoder.decode(value)
    return found


def key_of(record: Row | Mark | Claim) -> str:
    return record.member_id if isinstance(record, Mark) else record.key


class Reading:
    """What a store does with records as it finds them."""

    def __init__(self, address: str) -> None:
        self.on_corrupt: Callable[[str], object] = log_corrupt
        self._address = address
        self._told: set[bytes] = set()
        self._kept: dict[Any, Any] = {}

    def record(self, kind: str, name: str, key: bytes, value: bytes) -> Any:
        """The row, mark or claim of this name; None if it is none."""
        try:
            found = decode(KINDS[kind], value)
            if key_of(found) != name:
                raise ValueError(f"it is of {key_of(found)!r}")
        except (KeyError, ValueError) as exc:
            self.complain(key, str(exc))
            return None
        return found

    def complain(self, key: bytes, what: str) -> None:
        if key in self._told:
            return
        if len(self._told) >= MOST_COMPLAINTS:
            self._told.clear()
        self._told.add(key)
        self.on_corrupt(
            f"{self._address}: what is in the key {key.decode(errors='replace')!r} cannot be read and is "
            f"left out: {what}; delete the key, or have it written anew by whoever it belongs to"
        )
