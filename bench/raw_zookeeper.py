"""The limit of ZooKeeper: kazoo, as it is.

A beat that is good for trust has to be taken by a majority of the servers: the least that they all look at is
a `multi` of one check. A row is a node, the number of a group the data of another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from kazoo.client import KazooClient

from bench.raw import Place, Raw
from tests.servers.base import HOST

SESSION_S = 60.0


class RawZooKeeper(Raw):
    def __init__(self, place: Place) -> None:
        self.con = KazooClient(f"{HOST}:{place.port}", timeout=SESSION_S)
        self.con.start()
        self._at = f"/raw-{place.database}"
        self._told = threading.Event()
        self._told.set()
        self._heard = 0

    def _together(self, *steps: tuple[str, Any]) -> None:
        transaction = self.con.transaction()
        for name, arguments in steps:
            getattr(transaction, name)(*arguments)
        for answer in transaction.commit():
            if isinstance(answer, Exception):
                raise answer

    # ── beats ──

    def bear(self, names: Sequence[str]) -> None:
        self.con.ensure_path(f"{self._at}/sessions")
        for start in range(0, len(names), 500):
            made = [self._session(name) for name in names[start : start + 500]]
            self._together(*(("create", (path, b"", None, True)) for path in made))

    def _session(self, name: str) -> str:
        return f"{self._at}/sessions/{name}"

    def beat(self, name: str) -> None:
        self._together(("check", (self._session(name), 0)))

    def beat_all(self, names: Sequence[str]) -> None:
        self._together(*(("check", (self._session(name), 0)) for name in names))

    # ── rows ──

    def prepare(self) -> None:
        self.con.ensure_path(f"{self._at}/members/one")

    def add(self, name: str, number: int) -> None:
        self.con.create(f"{self._at}/members/{name}", b"%d" % number, ephemeral=True)

    def add_counted(self, number: int) -> None:
        count, member = f"{self._at}/members", f"{self._at}/members/m{number}"
        self._together(("set_data", (count, b"%d" % number)), ("create", (member, b"%d" % number)))

    def change_counted(self, number: int) -> None:
        count, member = f"{self._at}/members", f"{self._at}/members/one"
        self._together(("set_data", (count, b"%d" % number)), ("set_data", (member, b"%d" % number)))

    # ── news ──

    def prepare_news(self) -> None:
        self.con.ensure_path(f"{self._at}/news")

    def tell(self, number: int) -> None:
        self.con.set(f"{self._at}/news", b"%d" % number)

    def news(self) -> Iterable[int]:
        """A watch, which tells once, and is set anew with the reading that follows."""
        if not self._told.wait(0.1):
            return []
        self._told.clear()
        data, _ = self.con.get(f"{self._at}/news", watch=lambda _: self._told.set())
        before, self._heard = self._heard, int(data or 0)
        return [self._heard] if self._heard > before else []

    def close(self) -> None:
        self.con.stop()
        self.con.close()
