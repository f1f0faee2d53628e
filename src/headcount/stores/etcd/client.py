"""Asking etcd: a few servers that agree among themselves, each as good as any other.

Every request has a deadline, `TRY` for each server and `timeout` in all; who does not answer is left for the
next one. If none has answered in its time, each gets twice as much: what is asked for may be large. A request
that writes may be sent again, because all of ours can be: they compare what they change, so that the second
one finds what the first one did. The answer then says that it may have.

gRPC is used in its blocking forms alone, which take no thread of Python's and none of its locks: they work in
any native thread, also where a program has replaced `threading` by something else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from headcount import native
from headcount.errors import HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Seconds
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.errors import Elsewhere, LeaseExists, NotLoggedIn, NotReached, translate

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # else it talks of each fork on stderr
grpc = native.library("grpc")

TRY = 1.0
"""Seconds that one server has for its answer, at first: a request in flight at the leader's death sits until
its own deadline."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.2
"""Seconds before all servers are asked once more."""

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A server that is gone without a word is missed after 13 s. etcd throws out who asks more often than 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The stream of a watch is read without a thread of the library's.
    ("SingleThreadedUnaryStream", 1),
)


class Method(NamedTuple):
    path: str
    answer: type[Any]
    writes: bool = False


RANGE = Method("/etcdserverpb.KV/Range", rpc.RangeResponse)
READ = Method("/etcdserverpb.KV/Txn", rpc.TxnResponse)
TXN = Method("/etcdserverpb.KV/Txn", rpc.TxnResponse, writes=True)
GRANT = Method("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse, writes=True)
REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse, writes=True)
# A stream of its kind; of one message it is one call, with one answer.
KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
TIME_TO_LIVE = Method("/etcdserverpb.Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveResponse)
LOGIN = Method("/etcdserverpb.Auth/Authenticate", rpc.AuthenticateResponse)
STATUS = Method("/etcdserverpb.Maintenance/Status", rpc.StatusResponse)
WATCH = Method("/etcdserverpb.Watch/Watch", rpc.WatchResponse)


class Answer(NamedTuple):
    told: Any
    doubled: bool
    """The request was sent before, and that may have been carried out."""


class Client:
    def __init__(
        self,
        hosts: Sequence[str],
        address: str,
        *,
        timeout: Seconds,
        credentials: Callable[[], Any] | None = None,
        login: Callable[[], tuple[str, str]] | None = None,
    ) -> None:
        """`credentials`: those of TLS. `login`: user and password."""
        self.hosts = hosts
        self.address = address
        self.timeout = timeout
        self._credentials = credentials
        self._login = login
        self._token: str | None = None
        self._lines: dict[str, dict[str, Any]] = {}
        self._channels: dict[str, Any] = {}
        self._at = 0
        self.term = 0
        """The newest term of the servers that an answer has borne."""
        self._lock = native.threading().Lock()

    def until(self) -> float:
        """When a call that begins now has to be over."""
        return time.monotonic() + self.timeout

    def ask(self, method: Method, request: Any, until: float | None = None) -> Any:
        """The answer of whoever answers first, asked one after the other."""
        return self.send(method, request, until).told

    def send(self, method: Method, request: Any, until: float | None = None) -> Answer:
        sent = False
        failed: HeadcountError | None = None
        for host, seconds in self._turns(self.until() if until is None else until):
            try:
                told = self._ask_one(host, method, request, seconds)
                self.term = max(self.term, told.header.raft_term)
                return Answer(told, sent)
            except NotLoggedIn as exc:
                self._token, failed = None, exc
            except LeaseExists as exc:
                exc.doubled = sent
                raise
            except Elsewhere as exc:
                sent, failed = sent or not isinstance(exc, NotReached), exc
                self.leave(host)
        if sent and method.writes:
            raise OutcomeUnknown(f"{failed}; what was asked may have been done")
        raise StoreUnavailable(str(failed or f"{self.address} did not answer"))

    def ask_at(self, host: str, method: Method, request: Any, until: float) -> Any:
        """The answer of this server; `Elsewhere` if it gives none in its time, though another one might."""
        seconds = until - time.monotonic() if len(self.hosts) == 1 else TRY
        try:
            return self._ask_one(host, method, request, seconds)
        except NotLoggedIn:
            self._token = None
            return self._ask_one(host, method, request, seconds)

    def _turns(self, until: float) -> Iterator[tuple[str, Seconds]]:
        """Whom to ask, and for how long; at least once."""
        pause, seconds, began = FIRST_PAUSE, TRY, time.monotonic()
        for turn in range(1_000_000):
            left = until - time.monotonic()
            if turn and left <= 0:
                return
            if turn and turn % len(self.hosts) == 0:
                if time.monotonic() - began >= seconds:  # and not: they refused at once
                    seconds *= 2
                native.threading().Event().wait(min(pause, left))
                pause, began = min(LONGEST_PAUSE, 2 * pause), time.monotonic()
            yield self.hosts[self._at % len(self.hosts)], max(0.05, min(seconds, until - time.monotonic()))

    def leave(self, host: str) -> None:
        """The next one is asked from now on, unless somebody has gone there already."""
        if self.hosts[self._at % len(self.hosts)] == host:
            self._at += 1

    def _ask_one(self, host: str, method: Method, request: Any, seconds: Seconds) -> Any:
        try:
            return self._line(host, method)(request, timeout=seconds, metadata=self._who(host, seconds))
        except grpc.RpcError as exc:
            raise translate(exc, self._naming(host)) from exc

    def _naming(self, host: str) -> str:
        return self.address if len(self.hosts) == 1 else f"{self.address} ({host})"

    def _who(self, host: str, seconds: Seconds) -> list[tuple[str, str]]:
        if self._login is None:
            return []
        if self._token is None:
            user, password = self._login()
            request = rpc.AuthenticateRequest(name=user, password=password)
            try:
                self._token = self._line(host, LOGIN)(request, timeout=seconds).token
            except grpc.RpcError as exc:
                raise translate(exc, self._naming(host)) from exc
        return [("token", str(self._token))]

    def watch(self, request: Any) -> tuple[str, Any]:
        """The stream of a watch, and where: at the server that was last asked. It ends with an error if that
        one has no leader."""
        host = self.hosts[self._at % len(self.hosts)]
        return host, self._line(host, WATCH)(request, metadata=[("hasleader", "true"), *self._who(host, TRY)])

    def _line(self, host: str, method: Method) -> Any:
        with self._lock:
            calls = self._lines.setdefault(host, {})
            if method.path not in calls:
                if host not in self._channels:
                    self._channels[host] = self._channel(host)
                channel = self._channels[host]
                kind = channel.unary_stream if method is WATCH else channel.unary_unary
                calls[method.path] = kind(method.path, _serialized, method.answer.FromString)
            return calls[method.path]

    def _channel(self, host: str) -> Any:
        if self._credentials is None:
            return grpc.insecure_channel(host, OPTIONS)
        return grpc.secure_channel(host, self._credentials(), OPTIONS)

    def close(self) -> None:
        with self._lock:
            channels = list(self._channels.values())
            self._channels.clear()
            self._lines.clear()
        for channel in channels:
            channel.close()


def _serialized(message: Any) -> bytes:
    found: bytes = message.SerializeToString()
    return found
