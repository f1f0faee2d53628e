"""What kazoo does not say: to watch a whole tree for good, and to beat only where a heart beats.

A persistent recursive watch (ZooKeeper 3.6 and later) is asked for by request 106 with a path and the
mode 1, and answered by nothing but a header. What it tells comes as the events of any watch do, with the
path of the node that was created, changed or deleted. It is gone with its connection.

A connection to ZooKeeper keeps its session alive by pings, which kazoo sends from its own thread: they say
that a process has a thread, and go on when its heart has stopped. So the connection that bears sessions
of ours sends none: what keeps it alive are the beats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kazoo.protocol.connection import ConnectionHandler
from kazoo.protocol.serialization import Watch, int_struct, write_string

RECURSIVE = 1


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


class Connection(ConnectionHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's, with these two differences. `granted`: the session's timeout as the server has it."""

    granted = 0.0
    pings = True
    told: Callable[[str, int], object] | None = None
    """Told of each event of a watch: the path, and what happened (1 created, 2 deleted, 3 changed)."""
    why: BaseException | None = None
    """What the last attempt to connect failed for."""

    def _connect(self, *where: Any) -> tuple[float, float]:
        try:
            read_timeout, connect_timeout = super()._connect(*where)
        except BaseException as exc:
            self.why = exc
            raise
        self.why = None
        self.granted = read_timeout * 1.5 / 1000  # kazoo waits two thirds of it for an answer
        return read_timeout, connect_timeout

    def _send_ping(self, connect_timeout: float) -> None:
        if self.pings:
            super()._send_ping(connect_timeout)

    def _read_watch_event(self, buffer: bytes, offset: int) -> None:
        event, _ = Watch.deserialize(buffer, offset)
        if self.told is not None:
            self.told(event.path, event.type)
