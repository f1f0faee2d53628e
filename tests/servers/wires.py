"""The wires between servers each of which has one address for all the others, as etcd's have.

Every wire ends at one server and begins at any: who calls is found out by the socket that it calls from. So
one can be cut off from the others while its clients are not.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from tests.servers.pipe import Pipe


class NamedPipe(Pipe):
    """A wire to the server `name`. `whose`: the processes of each server; `cut_off`: the names of those that
    nobody hears, and who hear nobody."""

    def __init__(
        self, target: int, name: str, whose: Callable[[], dict[str, Iterable[int]]], cut_off: Collection[str]
    ) -> None:
        self._name = name
        self._whose = whose
        self._cut_off = cut_off
        self._callers: dict[socket.socket, str] = {}
        super().__init__(target)

    def _welcome(self, client: socket.socket) -> None:
        inode = _inode(client.getpeername()[1], self.port)
        for name, pids in self._whose().items():
            if any(_has(pid, inode) for pid in pids):
                self._callers[client] = name

    def _passes(self, client: socket.socket, *, back: bool) -> bool:
        away = {self._name, self._callers.get(client, "")} & set(self._cut_off)
        return not away and super()._passes(client, back=back)


def _inode(port: int, other: int) -> str:
    """Of the socket of this host that has the first port, and speaks to the second."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        ports = [int(fields[n].rpartition(":")[2], 16) for n in (1, 2)]
        if ports == [port, other]:
            return fields[9]
    return ""


def _has(pid: int, inode: str) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{fd}") == f"socket:[{inode}]":
                    return True
    return False
