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
    """A value as MessagePack bytes, to publish as capabilities."""
    return msgspec.msgpack.encode(value)


def unpack(capabilities: bytes) -> Any:
    """What `pack` packed. Raises `ConfigError` if these bytes are not MessagePack."""
    try:
        return msgspec.msgpack.decode(capabilities)
    except msgspec.DecodeError as error:
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
