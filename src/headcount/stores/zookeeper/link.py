"""One connection to ZooKeeper with its session. Calls are asked over it: each within a time, or not at all.

kazoo keeps what it is asked while there is no connection, and asks it when there is one again. A call that
has been given up must not be carried out later: so whoever runs out of time marks what has not left yet, and
it never does. A server that had time enough for an answer, and has none, is left: the next connection goes to
another one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import RolledBackError, RuntimeInconsistency, ZookeeperError
from kazoo.protocol.connection import _CONNECTION_DROP
from kazoo.protocol.serialization import CloseInstance, Sync, Transaction
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import ACL

from headcount.errors import HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Seconds
from headcount.stores.zookeeper.errors import ANSWERS, cannot_connect, denied, translate
from headcount.stores.zookeeper.handler import Handler
from headcount.stores.zookeeper.words import Connection, ReadMany, Seen

FAIR = 0.5
"""Seconds in which a server has an answer, if it will have one. Who asks with less time left than this, or
than a quarter of what there was, has only itself to blame, and others may have use for the connection."""

SLICE = 0.02
"""Seconds between looks whether there is a connection."""

LEAVING = 1.0
"""Seconds that a goodbye may take."""

TOGETHER = 500
"""Nodes that are read in one request: what is asked besides need not wait long for its answer."""

SILENT = logging.Logger("headcount.stores.zookeeper.kazoo")
SILENT.disabled = True  # what matters is raised; and a log may be patched, which our thread must not touch


@dataclass(frozen=True)
class Where:
    """What all connections of a store have in common."""

    hosts: str
    address: str
    timeout: Seconds
    acl: tuple[ACL, ...]
    auth: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    sasl: dict[str, str] | None = field(default=None, repr=False)
    tls: Callable[[], Any] | None = None
    seen: Seen = field(default_factory=Seen, repr=False, compare=False)


class Failed(NamedTuple):
    """Which operation of a `multi` could not be carried out, and what the server says of it."""

    place: int
    error: ZookeeperError


class Link:
    """`session`: the seconds that its session outlives it; `pings`: whether it keeps the session alive of
    itself. `told`: told of what a watch sees; `lost`: of a session that is over; `back`: of a connection that
    is there, again. All three are called by the thread of the connection."""

    def __init__(
        self,
        where: Where,
        session: Seconds,
        *,
        pings: bool = True,
        told: Callable[[str, int], object] | None = None,
        lost: Callable[[], object] | None = None,
    ) -> None:
        self.where = where
        self.generation = 0
        """How many connections there have been: a watch belongs to one."""
        self.over = False
        """The session was lost. One that does not ping does not begin another."""
        self.silent = False
        """The last question had no answer in time."""
        self._lost = lost
        self._goes_on = pings
        self._handler = handler = Handler(where.tls() if where.tls is not None else None)
        self._client = KazooClient(
            hosts=where.hosts,
            timeout=session,
            handler=handler,
            auth_data=set(where.auth),
            logger=SILENT,
            connection_retry=KazooRetry(
                max_tries=-1, delay=0.05, backoff=1.5, max_delay=1.0, sleep_func=Handler.sleep_func
            ),
        )
        self._connection = Connection(
            self._client,
            self._client._conn_retry.copy(),
            logger=SILENT,
            sasl_options={**where.sasl} if where.sasl else None,
        )
        self._connection.pings = pings
        self._connection.seen = where.seen
        self._connection.told = told
        self._client._connection = self._connection
        self._client.add_listener(self._changed)

    @property
    def granted(self) -> Seconds:
        return self._connection.granted

    @property
    def session(self) -> int:
        """The number of its session of ZooKeeper."""
        return int(self._client._session_id or 0)

    @property
    def at(self) -> tuple[str, int] | None:
        """The server that it is at, or was last."""
        return self._connection.at

    @property
    def connected(self) -> bool:
        return bool(self._client.connected) and not self.over

    @property
    def finished(self) -> bool:
        """Whether it will not connect again by itself: it was refused, or its thread has ended."""
        return self._client._state == KeeperState.AUTH_FAILED or self._handler.failed is not None

    def _changed(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self.generation += 1
        elif state == KazooState.LOST and self.generation:
            if not self._goes_on:
                self.over = True
                self._client._stopped.set()
            if self._lost is not None:
                self._lost()

    # ── coming and going ──

    def connect(self, until: Seconds) -> None:
        """Have a connection. A wrong password is seen only after it is said to be there."""
        if self._client._stopped.is_set() and not self.over:
            self._client.start_async()
        self._await(until)

    def _await(self, until: Seconds) -> None:
        client = self._client
        while not client.connected:
            if client._state == KeeperState.AUTH_FAILED:
                raise denied(self.where.address)
            if self._handler.failed is not None:
                raise cannot_connect(self._handler.failed, self.where.address)
            if self.over or client._stopped.is_set():
                raise StoreUnavailable(f"{self.where.address}: this session is over")
            if time.monotonic() >= until:
                self.silent = True
                raise cannot_connect(self._connection.why, self.where.address)
            client._live.wait(SLICE)

    def drop(self) -> None:
        """Give up this connection, and with it all that is asked over it. Another one follows."""
        client = self._client
        if client.connected:
            client._queue.appendleft((_CONNECTION_DROP, None))
            with contextlib.suppress(OSError, AttributeError):
                self._connection._write_sock.send(b"\0")

    def leave(self, until: Seconds) -> None:
        """Give up this connection, and wait until it is gone: what is asked next goes over another one. If
        there is none yet, because a server takes long to answer, the next one is tried."""
        generation = self.generation
        self.drop()
        if not self.connected and time.monotonic() - self._connection.tried_at >= FAIR:
            with contextlib.suppress(OSError, AttributeError):
                self._connection._socket.shutdown(2)
        while self.connected and self.generation == generation and time.monotonic() < until:
            Handler.sleep_func(SLICE / 10)

    def close(self, *, goodbye: bool = True) -> None:
        """End it; without a goodbye, the session lives on for its time."""
        client, connection = self._client, self._connection
        if not client._stopped.is_set() and goodbye and client.connected:
            client._stopped.set()
            client._queue.append((CloseInstance, None))
            with contextlib.suppress(OSError, AttributeError):
                connection._write_sock.send(b"\0")
            connection.connection_stopped.wait(LEAVING)
        client._stopped.set()
        until = time.monotonic() + LEAVING
        while not connection.connection_stopped.is_set() and time.monotonic() < until:
            with contextlib.suppress(OSError, AttributeError):
                connection._socket.shutdown(2)  # perhaps one that it has only just made
            connection.connection_stopped.wait(SLICE)
        if connection.connection_stopped.is_set() and not connection.connection_closed.is_set():
            connection.close()
        client.handler.stop()

    # ── asking ──

    def ask(self, *requests: Any, until: Seconds, writes: bool = False) -> list[Any]:
        """The answers to these, in order; what the server says of a node that is not there, or not as it was
        expected to be, is an answer too. All go out before the first is waited for.

        Where the first is a `sync`, nothing that is read is older than what any connection of this store had
        been shown when it was asked. A server that goes on not to know of that is left."""
        shown, behind = self.where.seen.zxid, False
        while requests:
            results = self._asked(requests, until, writes)
            answers = [self._answer(result, writes) for result in results]
            if not isinstance(requests[0], Sync) or results[0].zxid >= shown:
                return answers
            if behind:
                self.leave(until)
            else:
                behind = True
                Handler.sleep_func(SLICE)  # one that leads tells the others first what is committed
        return []

    def _asked(self, requests: Sequence[Any], until: Seconds, writes: bool) -> list[Any]:
        if time.monotonic() >= until:
            raise StoreUnavailable(f"{self.where.address} took too long")
        self._await(until)
        asked, results = time.monotonic(), []
        for request in requests:
            result = self._client.handler.async_result()
            self._client._call(request, result)
            results.append(result)
        # They come in the order in which they were asked.
        while not results[-1].ready() and (left := until - time.monotonic()) > 0:
            results[-1].wait(left)
        if not results[-1].ready():
            self.silent = True
            for result in results:
                result.given_up = True
            if time.monotonic() - asked >= min(FAIR, self.where.timeout / 4):
                self.drop()
            kind = OutcomeUnknown if writes else StoreUnavailable
            raise kind(f"{self.where.address} did not answer in time")
        self.silent = False
        return results

    def get(
        self, paths: Sequence[str], *, until: Seconds, before: Sequence[Any] = (), after: Sequence[Any] = ()
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The data and state of these nodes, and what is asked before and after that: all in one flight."""
        parts = [ReadMany(paths[at : at + TOGETHER]) for at in range(0, len(paths), TOGETHER)]
        answers = self.ask(*before, *parts, *after, until=until)
        first, last = len(before), len(before) + len(parts)
        found = [one for part in answers[first:last] for one in part]
        for one in found:
            if isinstance(one, Exception) and not isinstance(one, ANSWERS):
                raise self._ours(one, False) from one
        return answers[:first], found, answers[last:]

    def _answer(self, result: Any, writes: bool) -> Any:
        try:
            return result.get_nowait()
        except ANSWERS as exc:
            return exc
        except Exception as exc:
            raise self._ours(exc, writes) from exc

    def _ours(self, exc: BaseException, writes: bool) -> HeadcountError:
        return translate(exc, self.where.address, writes=writes)

    def multi(self, operations: Sequence[Any], until: Seconds, *, writes: bool = True) -> Failed | None:
        """All of these or none: None if all were done, else the first that could not be. `writes`: they are
        not only checks."""
        (answers,) = self.ask(Transaction(list(operations)), until=until, writes=writes)
        for place, answer in enumerate(answers):
            if isinstance(answer, RolledBackError | RuntimeInconsistency):
                continue
            if isinstance(answer, ANSWERS):
                return Failed(place, answer)
            if isinstance(answer, Exception):
                raise self._ours(answer, False) from answer
        return None
