"""tooz 9.1, beside which stores that know sessions themselves are measured.

It keeps groups on ZooKeeper by kazoo, and on etcd by its JSON gateway. Its beat is a read on ZooKeeper, a
keepalive on etcd; its watchers are told when they ask. Each member is a coordinator, with a connection and a
heart of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from bench.raw import Place
from tests.servers.base import HOST

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it takes up eventlet where it finds it, which complains
    from tooz import ToozError
    from tooz.coordination import get_coordinator
    from tooz.utils import dumps

for library in ("kazoo", "tooz"):  # what they say of a server that stands still is not for the table
    logging.getLogger(library).setLevel(logging.CRITICAL)

GROUP = "crowd"
CAPABILITIES = b'{"cpus": 8, "zone": "a"}'


class Tooz:
    """One coordinator. `heart`: it beats by itself; else only when it is told to."""

    def __init__(self, place: Place, name: str, ttl: float, *, heart: bool = False) -> None:
        self._kazoo = place.store == "zookeeper"
        where = f"{HOST}:{place.port}"
        whole = max(1, round(ttl))
        url = (
            f"zookeeper://{where}?namespace=tooz-{place.database}&timeout={whole}"
            if self._kazoo
            else f"etcd3+http://{where}?api_version=v3&timeout=30&membership_timeout={whole}"
        )
        self._c: Any = get_coordinator(url, name.encode())
        self._prefix = "" if self._kazoo else f"{place.database}-"
        """tooz's etcd has no namespaces: the group's name has to do."""
        self._c.start(start_heart=heart)

    def _group(self, group: str) -> bytes:
        return f"{self._prefix}{group}".encode()

    def create(self, group: str) -> None:
        self._c.create_group(self._group(group)).get()

    def join(self, group: str, *, wait: bool = True) -> Any:
        asked = self._c.join_group(self._group(group), capabilities=CAPABILITIES)
        return asked.get() if wait else asked

    def leave(self, group: str) -> None:
        self._c.leave_group(self._group(group)).get()

    def beat(self) -> None:
        self._c.heartbeat()

    def ids(self, group: str) -> set[bytes]:
        found: set[bytes] = self._c.get_members(self._group(group)).get()
        return found

    def read(self, group: str) -> dict[bytes, Any]:
        """All members with their capabilities, in the fewest calls that it has for that."""
        found: dict[bytes, Any] = self._c.get_members_with_capabilities(self._group(group)).get()
        return found

    def each(self, group: str) -> dict[bytes, Any]:
        """The same, as it had to be done before 9.1: the ids, then one call for each of them."""
        name = self._group(group)
        asked = {one: self._c.get_member_capabilities(name, one) for one in self.ids(group)}
        return {one: answer.get() for one, answer in asked.items()}

    def watch(self, group: str, told: Callable[[Any], object]) -> None:
        self._c.watch_join_group(self._group(group), told)
        self._c.watch_leave_group(self._group(group), told)

    def poll(self) -> None:
        self._c.run_watchers()

    def populate(self, group: str, count: int) -> None:
        """Members as it writes them, without a coordinator for each."""
        self.create(group)
        value, name = dumps(CAPABILITIES), self._group(group)
        if self._kazoo:
            paths = [self._c._path_member(name, b"member-%05d" % n) for n in range(count)]
            for asked in [self._c._coord.create_async(path, value, ephemeral=True) for path in paths]:
                asked.get()
        else:
            for n in range(count):
                self._c.client.put(self._c._prefix_group(name) + b"member-%05d" % n, value)

    def close(self) -> None:
        """Its own `stop` takes a second for each on etcd, and leaves sockets open on both."""
        self._c.heart.stop()
        if self._kazoo:
            with suppress(ToozError):
                self._c.stop()
            self._c._coord.close()
        else:
            self._c.client.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
