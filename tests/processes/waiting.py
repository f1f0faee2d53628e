"""Waiting for what another thread or process will do: with a deadline, and with what was seen instead."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from headcount import Change, Changes, Kind

T = TypeVar("T")

SOON = 10.0
"""Seconds that anything may take that should happen at once. It is long because the machine may be busy,
and costs nothing while things go well."""


def eventually(look: Callable[[], T], what: str, within: float = SOON) -> T:
    """The first true answer of `look`. Fails after `within` seconds, with its last answer."""
    until = time.monotonic() + within
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= until:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {seen!r}")
        time.sleep(0.005)


def changes_until(changes: Changes, last: Callable[[Change], bool], within: float = SOON) -> list[Change]:
    """The changes up to and with the first one that `last` accepts."""
    heard: list[Change] = []
    until = time.monotonic() + within
    while True:
        try:
            heard.append(changes.get(timeout=max(0.0, until - time.monotonic())))
        except TimeoutError:
            raise AssertionError(f"not heard within {within:g} s; heard: {told(heard)}") from None
        if last(heard[-1]):
            return heard


def told(changes: list[Change]) -> list[tuple[str, str | None]]:
    """Changes as (kind, member), to compare and to print."""
    return [(str(change.kind), change.member.member_id if change.member else None) for change in changes]


def is_(kind: Kind, member_id: str | None = None) -> Callable[[Change], bool]:
    """Whether a change is of this kind, and about this member."""

    def accept(change: Change) -> bool:
        named = change.member.member_id if change.member else None
        return change.kind is kind and member_id in (None, named)

    return accept
