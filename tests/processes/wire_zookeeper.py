"""How clients of ZooKeeper talk: each request is a length, a number, a kind, and the rest. Whatever is
written is written by a `multi`, as are beats; so that is what a COMMIT is here."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MULTI = 14


class ZooKeeperLanguage:
    done: bytes | None = None

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def messages(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        self._rest += data
        while len(self._rest) >= 4:
            length = 4 + struct.unpack_from("!i", self._rest)[0]
            if len(self._rest) < length:
                return
            message, self._rest = self._rest[:length], self._rest[length:]
            writes = self._begun and struct.unpack_from("!ii", message, 4)[1] == MULTI
            self._begun = True  # the first one has neither number nor kind
            yield message, writes
