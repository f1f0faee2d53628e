"""Commits as bytes: what one client asks for, another carries out and answers."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from headcount.model import (
    Amend,
    Committed,
    Empty,
    Enter,
    Expect,
    Outcome,
    Refused,
    Remark,
    SessionId,
    Stands,
    Unchanged,
    Vacate,
    Withdraw,
    Write,
)

WANTED = 10.0
"""Seconds after which nobody carries out what somebody else has asked for: its asker waits no longer, and
would be surprised."""

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Enter, Amend, Withdraw, Remark, Vacate, Unchanged, Stands, Empty, Committed, Refused)
}

ASKED = tuple[list[tuple[str, Any]], list[tuple[str, Any]], SessionId]


def new_id() -> str:
    return uuid.uuid4().hex


def asked(writes: Sequence[Write], expect: Collection[Expect], by: SessionId) -> bytes:
    return msgspec.msgpack.encode([_named(writes), _named(expect), by])


def read_asked(wish: bytes) -> tuple[list[Write], list[Expect], SessionId]:
    """Raises `ValueError` if it is none of what this release knows."""
    writes, expect, by = msgspec.msgpack.decode(wish, type=ASKED)
    return _read(writes), _read(expect), by


def written_outcome(outcome: Outcome) -> bytes:
    return msgspec.msgpack.encode(_named([outcome]))


def read_outcome(answer: bytes) -> Outcome:
    (outcome,) = _read(msgspec.msgpack.decode(answer))
    return outcome  # type: ignore[no-any-return]  # by its name


def _named(values: Collection[Any]) -> list[tuple[str, Any]]:
    return [(type(value).__name__, value) for value in values]


def _read(found: Sequence[tuple[str, Any]]) -> list[Any]:
    unknown = {name for name, _ in found} - KINDS.keys()
    if unknown:
        raise ValueError(f"of a kind that is not known here: {', '.join(sorted(unknown))}")
    return [msgspec.convert(value, KINDS[name]) for name, value in found]
