"""A private ZooKeeper server, and ensembles of them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from tests.servers import programs
from tests.servers.base import HOST, PASSWORD, USER, Server, ServerError, Value, free_port, fresh_name
from tests.servers.certificate import certificate
from tests.servers.pipe import Pipe

QUICK: dict[str, Value] = {
    "tickTime": 200,
    "initLimit": 25,
    "syncLimit": 5,
    "minSessionTimeout": 400,
    "maxSessionTimeout": 60_000,
    "maxClientCnxns": 0,
    "admin.enableServer": False,
    "4lw.commands.whitelist": "*",
    "preAllocSize": 256,  # kilobytes; a folder in memory has no room for 64 MB a server
    "forceSync": "no",  # a killed server loses nothing that it has written: only a machine would
}
NETTY = ":".join(f"/usr/share/java/netty-{part}.jar" for part in ("codec", "resolver"))
"""What TLS needs, and Debian's package forgets to name."""

NOTHING_YET = "there is no answer yet"


class NotYet(Exception):
    """It does not serve."""


class ZooKeeper(Server):
    """`ZooKeeper(tickTime=500).start()`: settings are ZooKeeper's own, those with a dot too.

    `ssl`: its port speaks TLS and nothing else, with `certificate`, which is its own authority. `sasl`: it
    knows USER by its password (and `bystander`, whom nobody grants anything). `ensemble`: it is
    one of these, and starts when enough of them do. `read_only`: it may be read where there is no quorum."""

    what = "zookeeper"
    scheme = "zookeeper"

    def __init__(
        self,
        *,
        ssl: bool = False,
        sasl: bool = False,
        ensemble: Ensemble | None = None,
        observer: bool = False,
        read_only: bool = False,
        on_disk: bool = False,
        **settings: Value,
    ) -> None:
        super().__init__({**QUICK, **settings}, on_disk=on_disk)
        self.sasl = sasl
        self.ensemble = ensemble
        self.observer = observer
        self.read_only = read_only
        self.quorum_ports = free_port(), free_port()
        self.certificate: Path | None = None
        if ssl:
            self.certificate, self.key = certificate(self.folder, owner=self.owner)
            both = self.folder / "server.pem"
            both.write_text(self.key.read_text() + self.certificate.read_text())
            trusted = self.folder / "trusted.pem"  # what a file is, it believes its name
            trusted.write_text(self.certificate.read_text())
            self.settings = {
                "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
                "ssl.keyStore.location": str(both),
                "ssl.trustStore.location": str(trusted),
                "ssl.clientAuth": "none",
                **self.settings,
            }

    def _install(self) -> None:
        self.data.mkdir()
        if self.ensemble is not None:
            (self.data / "myid").write_text(f"{self.ensemble.number(self)}\n")

    def _configure(self) -> None:
        port = "secureClientPort" if self.certificate else "clientPort"
        own: dict[str, Value] = {"dataDir": str(self.data), port: self.port, f"{port}Address": HOST}
        if self.observer:
            own["peerType"] = "observer"
        if self.sasl:
            provider = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
            own["authProvider.1"] = provider
            (self.folder / "jaas.conf").write_text(
                "Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n"
                f'  user_{USER}="{PASSWORD}"\n  user_bystander="{PASSWORD}";\n}};\n'
            )
        lines = [f"{name}={_written(value)}" for name, value in (self.settings | own).items()]
        if self.ensemble is not None:
            lines += self.ensemble.lines(self)
        (self.folder / "zoo.cfg").write_text("\n".join([*lines, ""]))

    def _command(self) -> list[str]:
        java, jar = programs.found("java"), programs.found("zookeeper")
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        if self.read_only:
            options.append("-Dreadonlymode.enabled=true")
        if self.sasl:
            options.append(f"-Djava.security.auth.login.config={self.folder / 'jaas.conf'}")
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return [
            str(java),
            *options,
            "-cp",
            f"{self.folder}:{jar}:{NETTY}",
            main,
            str(self.folder / "zoo.cfg"),
        ]

    def _ask(self) -> None:
        """A server that speaks TLS alone understands no such word, but hears that it is there."""
        if self.certificate:
            with self._socket():
                return
        if "Mode: " not in self.word("srvr"):
            raise NotYet(NOTHING_YET)

    def _not_yet(self) -> type[Exception]:
        return NotYet

    def discard(self) -> None:
        """By force: Java answers a request to end with what its threads are doing."""
        self.kill()
        super().discard()

    # --- reaching it ---

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        try:
            with socket.create_connection((HOST, self.port), 0.5) as con:
                yield con
        except OSError as exc:
            raise NotYet(str(exc)) from exc

    def word(self, word: str) -> str:
        """What it says to one of its four-letter words."""
        with self._socket() as con:
            con.sendall(word.encode())
            return b"".join(iter(lambda: con.recv(65_536), b"")).decode()

    @property
    def mode(self) -> str:
        """standalone, leader, follower, observer or read-only; empty if it does not serve."""
        with contextlib.suppress(NotYet):
            found = [line for line in self.word("srvr").splitlines() if line.startswith("Mode: ")]
            return found[0].removeprefix("Mode: ") if found else ""
        return ""

    def url(self, path: str = "", user: str = "", password: str | None = PASSWORD, **options: object) -> str:
        """Without a user nobody asks for one."""
        with_user = self._url(user or "nobody", password if user else None, path, options)
        return with_user if user else with_user.replace("nobody@", "")

    @contextlib.contextmanager
    def client(self, **options: Any) -> Iterator[KazooClient]:
        """A client of nobody's making, as an administrator has one."""
        client = KazooClient(f"{HOST}:{self.port}", **options)
        client.start()
        try:
            yield client
        finally:
            client.stop()
            client.close()

    def fresh_path(self) -> str:
        """The name of a node that nobody has made yet."""
        return fresh_name()

    fresh_database = fresh_path

    def drop_database(self, name: str) -> None:
        """It ends with the server."""


class Ensemble:
    """`Ensemble().start()`: three servers (or more), of which the first that are enough choose a leader.

    `observers`: so many of the servers have no vote. `cuttable`: what the servers say to each other goes
    over wires, so that one can be cut off from the others while its clients are not."""

    def __init__(self, size: int = 3, *, observers: int = 0, cuttable: bool = False, **settings: Any) -> None:
        self.servers = [
            ZooKeeper(ensemble=self, observer=number >= size - observers, **settings)
            for number in range(size)
        ]
        self._wires: dict[tuple[ZooKeeper, ZooKeeper], tuple[Pipe, Pipe]] = {}
        if cuttable:
            for one in self.servers:
                for other in self.servers:
                    if one is not other:
                        first, second = other.quorum_ports
                        self._wires[one, other] = Pipe(first), Pipe(second)

    def number(self, server: ZooKeeper) -> int:
        return self.servers.index(server) + 1

    def lines(self, server: ZooKeeper) -> list[str]:
        """All servers, as this one reaches them."""
        found = []
        for one in self.servers:
            wires = self._wires.get((server, one))
            first, second = (wire.port for wire in wires) if wires else one.quorum_ports
            voice = ":observer" if one.observer else ""
            found.append(f"server.{self.number(one)}={HOST}:{first}:{second}{voice}")
        return found

    def cut_off(self, server: ZooKeeper) -> None:
        """The others and this one hear nothing more of each other, and are not told so."""
        for pair, wires in self._wires.items():
            for wire in wires:
                wire.silent |= server in pair

    def mend(self) -> None:
        for wires in self._wires.values():
            for wire in wires:
                wire.mend()

    def start(self) -> Ensemble:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait_until_it_answers()
        return self

    @property
    def leader(self) -> ZooKeeper:
        return next(server for server in self.servers if server.mode == "leader")

    @property
    def followers(self) -> list[ZooKeeper]:
        return [server for server in self.servers if server.mode == "follower"]

    def url(self, path: str = "", **options: Any) -> str:
        first = self.servers[0]
        hosts = ",".join(f"{HOST}:{server.port}" for server in self.servers)
        return first.url(path, **options).replace(f"{HOST}:{first.port}", hosts, 1)

    def discard(self) -> None:
        for server in self.servers:
            server.discard()
        for wires in self._wires.values():
            for wire in wires:
                wire.close()


def _written(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


__all__ = ["Ensemble", "ServerError", "ZooKeeper"]
