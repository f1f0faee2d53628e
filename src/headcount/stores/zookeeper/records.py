"""What is in the nodes: JSON, so that whoever looks with ZooKeeper's own shell can read it.

A head holds all that a commit needs besides the records that it names, and all that a reader needs who
knows how the group was a while ago: the last changes, by the names of their nodes. It is written by every
commit, and so it is bounded: what does not fit is forgotten (who is further behind reads everything), or,
of the history, moved to a node of its own.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from headcount.model import Claim, Entry, Mark, Record, Revision, Row
from headcount.stores.base import HISTORY
from headcount.stores.zookeeper.names import id_of, name_of

LOG = 200
"""How many changes a head remembers."""

TAIL = 20
"""How many lines of history a head keeps before they are moved."""

LAYOUT = 1

T = TypeVar("T")


class Layout(msgspec.Struct, frozen=True):
    layout: int = 0
    made_by: str = "headcount"


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row; `listed`: there is an ephemeral node for it, as long as it is live."""

    row: Row
    listed: bool = False


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One line of history."""

    at: float
    member_id: str
    what: str
    who: str
    revision: Revision
    detail: str

    def entry(self, group: str) -> Entry:
        return Entry(group=group, **{name: getattr(self, name) for name in self.__struct_fields__})


class Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """`log`: the last changes, as revision and name, all that came after `since`. `listed`: how many
    ephemeral nodes the group should have. `holding`: the nodes of rows and claims that hold shards. `claims`:
    the members that claims belong to, by the names of the nodes. `parts`: how many lines each node of history
    has, the first of which has the number `first`. `born`: the revision with which the group began."""

    revision: Revision
    since: Revision
    listed: int = 0
    log: tuple[tuple[Revision, str], ...] = ()
    holding: frozenset[str] = frozenset()
    claims: dict[str, str] = {}
    tail: tuple[Line, ...] = ()
    first: int = 0
    parts: tuple[int, ...] = ()
    born: Revision = 0

    def changed(self, after: Revision) -> set[str] | None:
        """The names of what was changed after this revision; None if that is not known any more."""
        if not self.since <= after <= self.revision:
            return None
        return {name for revision, name in self.log if revision > after}


encode = msgspec.json.Encoder(order="deterministic").encode


def decode(data: bytes, kind: type[T]) -> T:
    """Raises `ValueError` that says what is wrong."""
    return msgspec.json.decode(data, type=kind)


KINDS: dict[str, tuple[str, Any]] = {"r": ("row", Kept), "m": ("mark", Mark), "c": ("claim", Claim)}
"""By the letter before the colon."""


def node(kind: str, id_: str) -> str:
    return f"{kind}:{name_of(id_)}"


def row_node(key: str) -> str:
    return node("r", key)


def node_of(record: Record) -> str:
    match record:
        case Row():
            return row_node(record.key)
        case Mark():
            return node("m", record.member_id)
        case Claim():
            return node("c", record.key)


def record_in(name: str, data: bytes) -> Kept | Mark | Claim:
    """The record in a node of this name. Raises `ValueError` if it is none, or another's."""
    found: Kept | Mark | Claim = decode(data, KINDS[name[0]][1])
    record = found.row if isinstance(found, Kept) else found
    if node_of(record) != name:
        raise ValueError(f"it says to be {id_of(node_of(record))}")
    return found


def told_on(head: Head, lines: list[Line]) -> tuple[Head, dict[int, bytes | None]]:
    """The head with these lines added to its history, and the nodes of history that are to be written (None:
    removed), by their numbers."""
    tail = (*head.tail, *lines)[-HISTORY:]
    if len(tail) <= TAIL:
        return msgspec.structs.replace(head, tail=tail), {}
    first, parts = head.first, [*head.parts, len(tail)]
    nodes: dict[int, bytes | None] = {first + len(head.parts): encode(tail)}
    while sum(parts) > HISTORY:
        parts.pop(0)
        nodes[first] = None
        first += 1
    return msgspec.structs.replace(head, tail=(), first=first, parts=tuple(parts)), nodes
