"""Wishes as bytes: what one client asks for, another carries out and answers."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from headcount.errors import OutcomeUnknown
from headcount.model import (
    Amend,
    Committed,
    Empty,
    Enter,
    Outcome,
    Refused,
    Remark,
    SessionId,
    Stands,
    Unchanged,
    Vacate,
    Wish,
    Withdraw,
)

WANTED = 10.0
"""Seconds after which nobody carries out what somebody else has asked for: its asker waits no longer, and
would be surprised."""

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Enter, Amend, Withdraw, Remark, Vacate, Unchanged, Stands, Empty, Committed, Refused)
}

ASKED = list[tuple[list[tuple[str, Any]], list[tuple[str, Any]], SessionId]]


def new_id() -> str:
    return uuid.uuid4().hex


def asked(wishes: Sequence[Wish]) -> bytes:
    return msgspec.msgpack.encode([[_named(wish.writes), _named(wish.expect), wish.by] for wish in wishes])


def read_asked(wishes: bytes) -> list[Wish]:
    """Raises `ValueError` if it is none of what this release knows, to the last field: whoever carries it out
    has to know what it means."""
    return [
        Wish(_read(writes, strict=True), _read(expect, strict=True), by)
        for writes, expect, by in msgspec.msgpack.decode(wishes, type=ASKED)
    ]


def written_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    return msgspec.msgpack.encode(_named(outcomes))


def read_outcomes(answers: bytes) -> list[Outcome]:
    """What a later release has to add is passed over. Raises `OutcomeUnknown` for what cannot be read."""
    try:
        return _read(msgspec.msgpack.decode(answers))
    except (ValueError, TypeError) as exc:
        raise OutcomeUnknown(
            f"it was carried out by another release, whose answer is not known: {exc}"
        ) from exc


def _named(values: Collection[Any]) -> list[tuple[str, Any]]:
    return [(type(value).__name__, value) for value in values]


def _read(found: Sequence[tuple[str, Any]], *, strict: bool = False) -> list[Any]:
    return [_read_one(name, value, strict) for name, value in found]


def _read_one(name: str, value: Any, strict: bool) -> Any:
    kind = KINDS.get(name)
    if kind is None:
        raise ValueError(f"of a kind that is not known here: {name}")
    read = msgspec.convert(value, kind)
    more = value.keys() - set(kind.__struct_fields__)
    if strict and more:
        raise ValueError(f"with fields that are not known here: {', '.join(sorted(more))}")
    return read
