"""A wire between clients and their server that can be cut at the worst moment: when a COMMIT passes.

    before    it does not reach the server, which rolls back
    after     the server carries it out, and its answer does not reach the client
    lost      it does not reach the server, and nobody tells either of them: the client's machine, or the
              network, is gone

The client sees the same the first two times: a connection that ends while it waits for an answer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from headcount import stores
from tests.processes.wire_zookeeper import ZooKeeperLanguage
from tests.servers.base import HOST

SILENCE = 0.2
"""Seconds after which a server has answered."""

Cut = Literal["before", "after", "lost"] | None


class Language(Protocol):
    """What one connection says to its server."""

    done: bytes | None
    """Somewhere in what the server answers to a COMMIT; None: it has answered when it says no more."""

    def messages(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """The messages that are whole by now, and whether each is a COMMIT."""
        ...


class PostgreSQLLanguage:
    done: bytes | None = b"C\x00\x00\x00\x0bCOMMIT\x00"

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._prepared: dict[bytes, bytes] = {}

    def messages(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self._rest += data
        while True:
            kind = 1 if self._begun else 0  # only what begins a connection has no letter before its length
            if len(self._rest) < kind + 4:
                return
            (length,) = struct.unpack_from("!I", self._rest, kind)
            if len(self._rest) < kind + length:
                return
            message, self._rest = self._rest[: kind + length], self._rest[kind + length :]
            if self._begun:
                yield message, self._commits(message[:1], message[5:])
            else:
                self._begun = message[4:8] == struct.pack("!I", 3 << 16)  # else it asks for encryption
                yield message, False

    def _commits(self, kind: bytes, body: bytes) -> bool:
        if kind == b"P":
            name, query = body.split(b"\0")[:2]
            self._prepared[name] = query
        if kind == b"B":
            return self._prepared.get(body.split(b"\0")[1]) == b"COMMIT"
        return kind == b"Q" and body.rstrip(b"\0").upper() == b"COMMIT"


class MySQLLanguage:
    """Many statements go in one message, and a COMMIT is the last of them."""

    done: bytes | None = None

    def __init__(self) -> None:
        self._rest = b""

    def messages(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self._rest += data
        while len(self._rest) >= 4:
            length = 4 + int.from_bytes(self._rest[:3], "little")
            if len(self._rest) < length:
                return
            message, self._rest = self._rest[:length], self._rest[length:]
            yield message, message[3:5] == b"\0\x03" and message.rstrip(b"; ").upper().endswith(b"COMMIT")


def etcd_language() -> Language:
    from tests.processes.wire_etcd import EtcdLanguage  # which needs its client library

    return EtcdLanguage()


LANGUAGES: dict[str, Callable[[], Language]] = {
    "postgresql": PostgreSQLLanguage,
    "mysql": MySQLLanguage,
    "etcd": etcd_language,
    "zookeeper": ZooKeeperLanguage,
}


class Wire:
    """`direct`: the store's URL without it. `cut`: asked for each COMMIT that passes, counted from 1, whether
    it is to be cut there, and how."""

    def __init__(self, direct: str, cut: Callable[[int], Cut] = lambda number: None) -> None:
        where = stores.parse(direct)
        ((_, port),) = where.hosts
        assert port is not None
        self.cut = cut
        self.commits = 0
        self.cuts: list[Cut] = []
        self._language = LANGUAGES[where.scheme]
        self._server = HOST, port
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._door = socket.create_server((HOST, 0))
        self.url = direct.replace(f":{port}/", f":{self._door.getsockname()[1]}/")
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        _end(self._door, *self._open)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                try:
                    server = socket.create_connection(self._server, 5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                link = Link(self, client, server, self._language())
                for carry in (link.ask, link.answer):
                    threading.Thread(target=carry, daemon=True).start()

    def passes(self) -> Cut:
        """A COMMIT passes: what is to be done with it."""
        with self._lock:
            self.commits += 1
            cut = self.cut(self.commits)
            if cut is not None:
                self.cuts.append(cut)
        return cut


class Link:
    """One connection over the wire."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket, language: Language) -> None:
        self.wire, self.client, self.server, self.language = wire, client, server, language
        self.deaf = threading.Event()
        """The client hears no more; the connection ends with what the server answers."""

    def ask(self) -> None:
        with contextlib.suppress(OSError):
            while data := self.client.recv(65_536):
                for message, commits in self.language.messages(data):
                    cut = self.wire.passes() if commits else None
                    if cut == "before":
                        return self.end()
                    if cut == "lost":
                        return None
                    if cut == "after":
                        self.deaf.set()
                    self.server.sendall(message)
        if not self.deaf.is_set():
            self.end()
        return None

    def answer(self) -> None:
        heard = b""
        with contextlib.suppress(OSError):
            while data := self.server.recv(65_536):
                if not self.deaf.is_set():
                    self.client.sendall(data)
                    continue
                heard += data
                if self.language.done is None:
                    self.server.settimeout(SILENCE)
                elif self.language.done in heard:
                    break
        self.end()

    def end(self) -> None:
        _end(self.client, self.server)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
