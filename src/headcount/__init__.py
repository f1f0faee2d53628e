"""Headcount: who is here. Group membership for services, on the store that they already run."""

from __future__ import annotations

from typing import Any

import msgspec

from headcount.coordinator import Coordinator, connect
from headcount.errors import (
    AccessDenied,
    CapabilitiesTooLarge,
    Closed,
    ConfigError,
    CorruptRow,
    Expelled,
    Forked,
    GroupNotEmpty,
    GroupNotFound,
    HeadcountError,
    LockTimeout,
    MemberNotFound,
    MemberTaken,
    MissingDependency,
    NotJoined,
    NotPromised,
    NotTrusted,
    OutcomeUnknown,
    ReadOnlyStore,
    SchemaMismatch,
    Stale,
    StoreUnavailable,
    Superseded,
)
from headcount.group import Changes, Group, Term
from headcount.model import Change, Kind, Member, Status, View

__version__ = "0.1.0"


def pack(value: Any) -> bytes:
    """A value as MessagePack bytes, to publish as capabilities. Raises `ConfigError` if it is not made of
    what MessagePack knows: None, bool, int, float, str, bytes, lists and dicts of these, and such."""
    try:
        return msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"this {type(value).__name__} cannot be MessagePack: {error}") from error


def unpack(capabilities: bytes) -> Any:
    """What `pack` packed. Raises `ConfigError` if these bytes are not MessagePack."""
    if not isinstance(capabilities, bytes | bytearray | memoryview):
        raise ConfigError(f"capabilities are bytes, not {type(capabilities).__name__}")
    try:
        return msgspec.msgpack.decode(capabilities)
    except (TypeError, ValueError, RecursionError) as error:  # a DecodeError is a ValueError
        raise ConfigError(f"these {len(capabilities)} bytes are not MessagePack: {error}") from error


__all__ = [
    "connect",
    "pack",
    "unpack",
    "Coordinator",
    "Group",
    "Term",
    "Changes",
    "Member",
    "View",
    "Change",
    "Kind",
    "Status",
    "HeadcountError",
    "ConfigError",
    "MissingDependency",
    "StoreUnavailable",
    "OutcomeUnknown",
    "AccessDenied",
    "ReadOnlyStore",
    "SchemaMismatch",
    "CorruptRow",
    "NotPromised",
    "GroupNotFound",
    "MemberNotFound",
    "GroupNotEmpty",
    "NotJoined",
    "MemberTaken",
    "Superseded",
    "Expelled",
    "CapabilitiesTooLarge",
    "Stale",
    "NotTrusted",
    "LockTimeout",
    "Closed",
    "Forked",
]
