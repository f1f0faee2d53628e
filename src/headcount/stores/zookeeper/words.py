"""What kazoo does not say: to watch a whole tree for good, to read many nodes at once, and to beat only
where a heart beats.

A persistent recursive watch (ZooKeeper 3.6 and later) is asked for by request 106 with a path and the
mode 1, and answered by nothing but a header. What it tells comes as the events of any watch do, with the
path of the node that was created, changed or deleted. It is gone with its connection.

A connection to ZooKeeper keeps its session alive by pings, which kazoo sends from its own thread: they say
that a process has a thread, and go on when its heart has stopped. So the connection that bears sessions
of ours sends none: what keeps it alive are the beats.

Each answer bears the number (zxid) of the last change that its server knew of. A `sync` does not go through
a majority: a leading server that is cut off from the others, and has not noticed, answers it by itself. So
what all connections of a store have been shown, whichever of them, is kept (`Seen`): an answer that is older
comes from a server that has been left behind; and such a server takes no connection of ours, for it is told
what we have seen when we come.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.exceptions import EXCEPTIONS
from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import (
    GetData,
    Watch,
    int_struct,
    multiheader_struct,
    read_buffer,
    stat_struct,
    write_string,
)
from kazoo.protocol.states import ZnodeStat

from headcount import native

RECURSIVE = 1

NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Seen:
    """The newest change that any connection of a store has been shown."""

    def __init__(self) -> None:
        self.zxid = 0
        self._lock = native.threading().Lock()

    def show(self, zxid: int) -> None:
        if zxid > self.zxid:
            with self._lock:
                self.zxid = max(self.zxid, zxid)


class AddWatch:
    """The request; its answer has no body."""

    type = 106

    def __init__(self, path: str) -> None:
        self.path = path

    def serialize(self) -> bytes:
        return bytes(write_string(self.path)) + bytes(int_struct.pack(RECURSIVE))

    @classmethod
    def deserialize(cls, buffer: bytes, offset: int) -> bool:
        return True


class ReadMany:
    """Request 22 (ZooKeeper 3.6 and later): the data of many nodes in one answer. For each there is what a
    request for it alone would be answered: the data and the node's state, or an exception."""

    type = 22

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def serialize(self) -> bytes:
        begin, no_watch = multiheader_struct.pack(GetData.type, False, -1), b"\0"
        parts = [begin + write_string(path) + no_watch for path in self.paths]
        return b"".join(parts) + bytes(multiheader_struct.pack(-1, True, -1))

    @classmethod
    def deserialize(cls, buffer: bytes, offset: int) -> list[Any]:
        found: list[Any] = []
        while True:
            kind, done, _ = multiheader_struct.unpack_from(buffer, offset)
            offset += multiheader_struct.size
            if done:
                return found
            if kind == GetData.type:
                data, offset = read_buffer(buffer, offset)
                found.append((data, ZnodeStat._make(stat_struct.unpack_from(buffer, offset))))
                offset += stat_struct.size
            else:
                found.append(EXCEPTIONS[int_struct.unpack_from(buffer, offset)[0]]())
                offset += int_struct.size


class Connection(ConnectionHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's, with these differences. `granted`: the session's timeout as the server has it. `seen`: what
    the store has been shown. An answer that is waited for gets the `zxid` that came with it; a question whose
    answer is `given_up` does not go out any more."""

    granted = 0.0
    pings = True
    seen: Seen
    told: Callable[[str, int], object] | None = None
    """Told of each event of a watch: the path, and what happened (1 created, 2 deleted, 3 changed)."""
    at: tuple[str, int] | None = None
    """The server that it is at, or was last, which is the last one to be tried again."""
    tried_at = 0.0
    """Since when."""
    why: BaseException | None = None
    """What the last attempt to connect failed for."""

    def _connect(self, *where: Any) -> tuple[float, float]:
        self.at, self.tried_at = (where[1], where[2]), time.monotonic()
        self.client.last_zxid = max(self.client.last_zxid, self.seen.zxid)
        try:
            read_timeout, connect_timeout = super()._connect(*where)
        except BaseException as exc:
            self.why = exc
            raise
        self.why = None
        self.granted = read_timeout * 1.5 / 1000  # kazoo waits two thirds of it for an answer
        return read_timeout, connect_timeout

    def _expand_client_hosts(self) -> list[tuple[str, str, int]]:
        return sorted(super()._expand_client_hosts(), key=lambda one: one[1:] == self.at)

    # kazoo waits until it may read before each part of an answer, and until it may write before each request:
    # three system calls more for each beat. What is not there yet, or not taken yet, is left to it.

    def _read(self, length: int, timeout: float) -> bytes:
        found = b""
        with self._socket_error_handling(), contextlib.suppress(*NOT_YET):
            found = self._socket.recv(length)
        return found if len(found) == length else found + super()._read(length - len(found), timeout)

    def _write(self, msg: bytes | bytearray, timeout: float) -> None:
        sent = 0
        with self._socket_error_handling(), contextlib.suppress(*NOT_YET):
            sent = self._socket.send(msg)
        if sent < len(msg):
            super()._write(msg[sent:], timeout)

    def _send_ping(self, connect_timeout: float) -> None:
        if self.pings:
            super()._send_ping(connect_timeout)

    def _send_request(self, *timeouts: Any) -> None:
        queue = self.client._queue
        if queue and getattr(queue[0][1], "given_up", False):
            queue.popleft()
            self._read_sock.recv(1)  # there is a byte for each
        else:
            super()._send_request(*timeouts)

    def _read_response(self, header: Any, buffer: bytes, offset: int) -> Any:
        result = self.client._pending[0][1]
        if result is not None:
            result.zxid = header.zxid
        self.seen.show(header.zxid)
        return super()._read_response(header, buffer, offset)

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        event, _ = Watch.deserialize(buffer, offset)
        if self.told is not None:
            self.told(event.path, event.type)
