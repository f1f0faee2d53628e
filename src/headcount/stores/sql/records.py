"""Between the records of the register and the rows of a table. The same for every SQL dialect.

A record is stored as its fields, in their order, with three exceptions: what is true or false is a
number, a state is its word, and a set of shards is a string of bits, the lowest first (256 shards
are 32 bytes; no shards are none). What comes back is checked: somebody may have edited the table,
and one bad record must not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from headcount.model import Claim, Mark, Record, Row

R = TypeVar("R", Row, Mark, Claim)

MOST_SHARDS = 65_536
"""A longer string of bits than this was not written by us."""


def encode(record: Record) -> tuple[Any, ...]:
    """The record's fields, as a driver takes them."""
    values = msgspec.structs.astuple(record)
    if isinstance(record, Mark):
        return values
    fields = record.__struct_fields__
    return tuple(
        bits(value) if name == "shards" else str(value) if name == "state" else value
        for name, value in zip(fields, values, strict=True)
    )


def decode(kind: type[R], values: Sequence[Any], kept: dict[Any, Any] | None = None) -> R:
    """The record whose fields these are. Raises `ValueError` that says which is wrong, and how.

    `kept`: values that records say over and over, so that each is in memory once."""
    fields = dict(zip(kind.__struct_fields__, values, strict=True))
    if kind is Row:
        _keep_once(fields, {} if kept is None else kept)
    for name in ("ready", "forced_down", "expelled"):
        if name in fields:
            fields[name] = _truth(name, fields[name])
    if "shards" in fields:
        fields["shards"] = unbits(fields["shards"])
    return msgspec.convert(fields, kind)


def decode_all(
    kind: type[R], found: Iterable[Sequence[Any]], corrupt: Callable[[str, str, str], object]
) -> list[R]:
    """Those that can be read; the others go to `corrupt(kind, key, what is wrong)`."""
    records = []
    kept: dict[Any, Any] = {}
    for values in found:
        try:
            records.append(decode(kind, values, kept))
        except ValueError as exc:
            corrupt(kind.__name__.lower(), repr(values[0]), str(exc))
    return records


def _keep_once(fields: dict[str, Any], kept: dict[Any, Any]) -> None:
    """A driver makes every value anew: of a row in a large group, a quarter of its size for nothing."""
    for name in ("host", "ttl"):
        fields[name] = kept.setdefault(fields[name], fields[name])
    for name, same in (("member_id", "key"), ("revision", "incarnation"), ("standing_since", "incarnation")):
        if fields[name] == fields[same]:
            fields[name] = fields[same]


def bits(shards: Iterable[int]) -> bytes:
    number = 0
    for shard in shards:
        number |= 1 << shard
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def unbits(value: object) -> frozenset[int]:
    if not isinstance(value, bytes) or len(value) > MOST_SHARDS // 8:
        raise ValueError(f"`shards` is no string of bits, but {type(value).__name__}")
    if not value:
        return frozenset()
    number = int.from_bytes(value, "little")
    return frozenset(shard for shard in range(number.bit_length()) if number >> shard & 1)


def _truth(name: str, value: object) -> bool:
    if value not in (0, 1):
        raise ValueError(f"`{name}` is neither 0 nor 1, but {value!r}")
    return bool(value)
