"""What kazoo runs on: one thread of the operating system for each client, and no other.

kazoo's own handler has three: one for the connection, one that calls watchers, one that calls who waits
for an answer. Nobody here has it call anything: who asks waits for the answer itself, and what a watch
tells is written down by the thread that reads it. Everything is taken from `headcount.native`, so that
a program which has replaced Python's threads and sockets does not stop the heart.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.handlers.utils import AsyncResult

from headcount import native

READABLE, WRITABLE = 1, 4
"""POLLIN and POLLOUT, which the patched `select` may not have."""


class TookTooLong(Exception):
    """kazoo's word for a time that is over."""


class Handler:
    """One for each client. `tls`: the context of its connections, if they are to have one. `failed`: what its
    thread ended for, if that was nothing that it knows how to go on after."""

    name = "headcount"
    timeout_exception = TookTooLong
    queue_impl = queue.Queue
    queue_empty = queue.Empty

    def __init__(self, tls: Any = None) -> None:
        self.running = False
        self.failed: BaseException | None = None
        self._tls = tls

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    @staticmethod
    def sleep_func(seconds: float) -> None:
        native.threading().Event().wait(seconds)

    def event_object(self) -> Any:
        return native.threading().Event()

    def lock_object(self) -> Any:
        return native.threading().Lock()

    def rlock_object(self) -> Any:
        return native.threading().RLock()

    def async_result(self) -> AsyncResult:
        return AsyncResult(self, native.threading().Condition, TookTooLong)

    def spawn(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        thread = native.threading().Thread(
            target=self._run, args=(function, args, kwargs), name="headcount-zookeeper", daemon=True
        )
        thread.start()
        return thread

    def _run(self, function: Callable[..., object], args: Any, kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except InterruptedError:
            pass  # it was told to stop while it waited to connect again
        except Exception as exc:  # noqa: BLE001 - for whoever asks next
            self.failed = exc

    def dispatch_callback(self, callback: Any) -> None:
        """kazoo's own watchers: there are none."""

    def create_socket_pair(self) -> Any:
        return native.socket().socketpair()

    def create_connection(
        self, address: tuple[str, int], hostname: str | None = None, timeout: float | None = None, **_: object
    ) -> Any:
        """A connection to this address; over TLS, to a server that shows that it is `hostname`."""
        socket = native.socket()
        until = time.monotonic() + timeout if timeout is not None else None
        con = socket.create_connection(address, timeout)
        con.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return con
        try:
            if until is not None:
                con.settimeout(max(0.05, until - time.monotonic()))
            return self._tls.wrap_socket(con, server_hostname=hostname)
        except BaseException:
            con.close()
            raise

    def select(
        self, rlist: Sequence[Any], wlist: Sequence[Any], xlist: Sequence[Any], timeout: float | None = None
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """By `poll`: `select` itself cannot see a file whose number is above 1,023. What TLS has decrypted
        already is not seen by either, and kazoo does not ask for it."""
        kept = [one for one in rlist if getattr(one, "pending", int)() > 0]
        if kept:
            return kept, [], []
        poll = native.poll()
        for one in rlist:
            poll.register(one.fileno(), READABLE)
        for one in wlist:
            poll.register(one.fileno(), WRITABLE)
        found = {
            number for number, _ in poll.poll(None if timeout is None else max(0, round(timeout * 1000)))
        }
        return [r for r in rlist if r.fileno() in found], [w for w in wlist if w.fileno() in found], []
