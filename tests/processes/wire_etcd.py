"""What a wire to etcd has to understand: frames of HTTP/2, in which messages of gRPC are.

The headers of a request, compressed as they are, tell nothing here. What it asks for is told by its message:
a commit, in the wide sense of whatever is cut off, is a transaction that writes, or the grant of a lease.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError

from headcount.stores.etcd import rpc_pb2 as rpc

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA = 0


class EtcdLanguage:
    done: bytes | None = None

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def messages(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self._rest += data
        if not self._begun:
            if len(self._rest) < len(PREFACE):
                return
            self._begun, self._rest = True, self._rest[len(PREFACE) :]
            yield PREFACE, False
        while len(self._rest) >= 9:
            length = 9 + int.from_bytes(self._rest[:3])
            if len(self._rest) < length:
                return
            frame, self._rest = self._rest[:length], self._rest[length:]
            # Before a message stand five bytes: that it is not compressed, and how long it is.
            yield frame, frame[3] == DATA and _writes(frame[9 + 5 :])


def _writes(message: bytes) -> bool:
    grant = _read(rpc.LeaseGrantRequest, message)
    if grant is not None and grant.TTL and grant.ID:
        return True
    txn = _read(rpc.TxnRequest, message)
    return txn is not None and any(_changes(op) for op in txn.success)


def _read(kind: Any, message: bytes) -> Any:
    """The message, if it is one of this kind and has nothing else in it."""
    try:
        found = kind.FromString(message)
    except DecodeError:
        return None
    found.DiscardUnknownFields()
    return found if found.ByteSize() == len(message) else None


def _changes(op: Any) -> bool:
    kind = op.WhichOneof("request")
    if kind == "request_txn":
        return any(_changes(inner) for inner in op.request_txn.success)
    return kind in ("request_put", "request_delete_range")
