"""Operations on spans of keys, and transactions made of them.

A transaction of etcd takes 128 operations of each kind. One of them may be another transaction, which takes
as many as are left: so a commit may have some thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from headcount.errors import CapabilitiesTooLarge
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.keys import Span

Op: TypeAlias = Any
Compare: TypeAlias = Any

LIMIT = 128
"""etcd's --max-txn-ops, if nobody has changed it."""

MOST = 100
"""Operations, or comparisons, that we ask for in one transaction; a few more go along."""

GATHERED = 60
"""Transactions in a transaction, and operations in each of those."""


def get(span: Span, **how: Any) -> Op:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=span.key, range_end=span.end, **how))


def put(span: Span, value: bytes = b"", lease: int = 0) -> Op:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=span.key, value=value, lease=lease))


def touch(span: Span) -> Op:
    """Write the key anew, with the value and the lease that it has. It must be there."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=span.key, ignore_value=True, ignore_lease=True))


def rewrite(span: Span, value: bytes) -> Op:
    """Another value, with the lease that the key has. It must be there."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=span.key, value=value, ignore_lease=True))


def take_to(span: Span, lease: int) -> Op:
    """Another lease, with the value that the key has. It must be there."""
    return rpc.RequestOp(request_put=rpc.PutRequest(key=span.key, lease=lease, ignore_value=True))


def delete(span: Span) -> Op:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=span.key, range_end=span.end))


def when(compare: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> Op:
    return rpc.RequestOp(request_txn=txn(compare, then, otherwise))


def txn(compare: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> Any:
    return rpc.TxnRequest(compare=compare, success=then, failure=otherwise)


def read(ops: Sequence[Op]) -> Any:
    """Several reads at one revision. Nothing is written, and nothing compared: it costs etcd no consensus but
    the question whether it still leads."""
    return rpc.TxnRequest(success=ops)


def is_at(span: Span, mod_revision: int) -> Compare:
    """The key was last changed at this revision of etcd's; 0: it is not there."""
    return rpc.Compare(
        target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, key=span.key, mod_revision=mod_revision
    )


def at(found: Any) -> int:
    """The revision of etcd's at which the key that was found was last changed; 0: none was."""
    return int(found[0].mod_revision) if found else 0


def is_there(span: Span) -> Compare:
    return rpc.Compare(target=rpc.Compare.VERSION, result=rpc.Compare.GREATER, key=span.key, version=0)


def lives_by(span: Span, lease: int) -> Compare:
    """The key is there, and goes with this lease."""
    return rpc.Compare(target=rpc.Compare.LEASE, result=rpc.Compare.EQUAL, key=span.key, lease=lease)


def unchanged_since(span: Span, revision: int) -> Compare:
    """Nothing in the span is newer than this revision of etcd's; it may be empty."""
    return rpc.Compare(
        target=rpc.Compare.MOD,
        result=rpc.Compare.LESS,
        key=span.key,
        range_end=span.end,
        mod_revision=revision + 1,
    )


def gathered(ops: Sequence[Op], compared: int) -> list[Op]:
    """The same operations as few enough: if they are many, in transactions of their own. `compared`: how
    many comparisons go with them, for these count, too."""
    if len(ops) <= MOST:
        return list(ops)
    size = min(GATHERED, LIMIT - compared - 3)
    if len(ops) > size * GATHERED:
        raise CapabilitiesTooLarge(
            f"a commit that changes {len(ops)} keys is more than etcd takes: {size * GATHERED} at once"
        )
    return [when((), ops[n : n + size]) for n in range(0, len(ops), size)]
