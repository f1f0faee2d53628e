"""The limit of etcd: its own calls over gRPC, with nothing between.

A beat keeps the lease alive and then reads the keys that live by it, linearizably: the least that shows both
that it was taken and by whom. A row is a key, the number of a group another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from bench.raw import Place, Raw
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.client import GRANT, KEEP_ALIVE, OPTIONS, RANGE, TXN, WATCH, Method, grpc
from tests.servers.base import HOST

TTL_S = 3600


class RawEtcd(Raw):
    def __init__(self, place: Place) -> None:
        self.con = grpc.insecure_channel(f"{HOST}:{place.port}", OPTIONS)
        self._calls: dict[Method, Any] = {}
        self._root = f"/raw-{place.database}/".encode()
        self._told: queue.SimpleQueue[int] | None = None

    def _ask(self, method: Method, request: Any) -> Any:
        if method not in self._calls:
            kind = self.con.unary_stream if method is WATCH else self.con.unary_unary
            self._calls[method] = kind(method.path, type(request).SerializeToString, method.answer.FromString)
        return self._calls[method](request)

    def _put(self, *pairs: tuple[bytes, bytes], lease: int = 0) -> None:
        """One transaction."""
        puts = [rpc.PutRequest(key=self._root + key, value=value, lease=lease) for key, value in pairs]
        self._ask(TXN, rpc.TxnRequest(success=[rpc.RequestOp(request_put=put) for put in puts]))

    # ── beats ──

    def bear(self, names: Sequence[str]) -> None:
        self._lease = int(self._ask(GRANT, rpc.LeaseGrantRequest(TTL=TTL_S)).ID)
        for start in range(0, len(names), 100):
            lives = [(self._life(name), b"") for name in names[start : start + 100]]
            self._put(*lives, lease=self._lease)

    def _life(self, name: str) -> bytes:
        return f"life/{self._lease}/{name}".encode()

    def beat(self, name: str) -> None:
        self._ask(KEEP_ALIVE, rpc.LeaseKeepAliveRequest(ID=self._lease))
        found = self._ask(RANGE, rpc.RangeRequest(key=self._root + self._life(name)))
        assert found.kvs[0].lease == self._lease

    def beat_all(self, names: Sequence[str]) -> None:
        self._ask(KEEP_ALIVE, rpc.LeaseKeepAliveRequest(ID=self._lease))
        first, last = self._root + self._life(""), self._root + self._life("\x7f")
        found = self._ask(RANGE, rpc.RangeRequest(key=first, range_end=last))
        assert all(kv.lease == self._lease for kv in found.kvs)

    # ── rows ──

    def prepare(self) -> None:
        self._put((b"members/one", b"0"), (b"count", b"0"))

    def add(self, name: str, number: int) -> None:
        self._put((f"members/{name}".encode(), b"%d" % number))

    def add_counted(self, number: int) -> None:
        self._put((b"count", b"%d" % number), (b"members/m%d" % number, b"%d" % number))

    def change_counted(self, number: int) -> None:
        self._put((b"count", b"%d" % number), (b"members/one", b"%d" % number))

    # ── news ──

    def prepare_news(self) -> None:
        """A watch begins with what comes after it."""

    def tell(self, number: int) -> None:
        self._put((b"news", b"%d" % number))

    def news(self) -> Iterable[int]:
        if self._told is None:
            self._told = queue.SimpleQueue()
            create = rpc.WatchCreateRequest(key=self._root + b"news")
            stream = self._ask(WATCH, rpc.WatchRequest(create_request=create))
            next(stream)  # it is there
            threading.Thread(target=_listen, args=(stream, self._told), daemon=True).start()
        with suppress(queue.Empty):
            return [self._told.get(timeout=0.1)]
        return []

    def close(self) -> None:
        self.con.close()


def _listen(stream: Iterator[Any], told: queue.SimpleQueue[int]) -> None:
    with suppress(grpc.RpcError):
        for answer in stream:
            for event in answer.events:
                told.put(int(event.kv.value))
