"""A wire between two servers that can go silent: nothing comes through, and nobody is told."""

from __future__ import annotations

import contextlib
import socket
import threading

from tests.servers.base import HOST


class Pipe:
    """Takes connections at `port`, and carries what they say to `target` and back."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.silent = False
        self.answers_lost = False
        """What the target says does not come through; what it is told does."""
        self._ends: list[socket.socket] = []
        self._door = socket.create_server((HOST, 0))
        self.port: int = self._door.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                try:
                    server = socket.create_connection((HOST, self.target), 5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                self._welcome(client)
                self._ends += [client, server]
                for one, other in ((client, server), (server, client)):
                    back = one is server
                    threading.Thread(target=self._carry, args=(one, other, back), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                if self._passes(other if back else one, back=back):
                    other.sendall(data)
        if not self.silent:
            _end(one, other)

    def _welcome(self, client: socket.socket) -> None:
        """Somebody calls."""

    def _passes(self, client: socket.socket, *, back: bool) -> bool:
        """Whether what is said comes through."""
        return not (self.silent or (back and self.answers_lost))

    def mend(self) -> None:
        """What was said meanwhile is lost, and so are the connections."""
        self.silent = self.answers_lost = False
        ends, self._ends = self._ends, []
        _end(*ends)

    def close(self) -> None:
        _end(self._door, *self._ends)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
