"""A private etcd server, and clusters of three. What an administrator does goes through its JSON gateway."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from tests.servers import programs
from tests.servers.base import HOST, PASSWORD, STARTING_S, Server, Value, free_port, fresh_name
from tests.servers.certificate import certificate

ROOT = "root"
"""The administrator, where users and passwords are asked for: etcd wants one of this name."""

OPEN = ("auth/authenticate", "maintenance/status")
"""What it answers to anybody."""

QUICK: dict[str, Value] = {
    # A killed process loses nothing that it has written: only a machine that goes down would.
    "unsafe-no-fsync": True,
    # A leader is missed soon. (The least ttl is one and a half times the second one.)
    "heartbeat-interval": 50,
    "election-timeout": 500,
    "logger": "zap",
    "log-level": "warn",
}


class Refused(Exception):
    """The server does not answer, or not as one that is ready."""


class Etcd(Server):
    """`Etcd(quota_backend_bytes=…).start()`: settings are etcd's own, with _ for -.

    `tls`: clients have to speak TLS; `certificate` is its own authority. `authentication`: users need
    PASSWORD. `peers`: made by `Cluster`.
    """

    what = "etcd"
    scheme = "etcd"

    def __init__(
        self,
        *,
        tls: bool = False,
        client_certificates: bool = False,
        authentication: bool = False,
        name: str = "e1",
        on_disk: bool = False,
        **settings: Value,
    ) -> None:
        settings = {key.replace("_", "-"): value for key, value in settings.items()}
        super().__init__({**QUICK, **settings}, on_disk=on_disk)
        self.name = name
        self.peer_port = free_port()
        self.cluster: list[Etcd] = [self]
        self.authentication = authentication
        self._guarded = False
        self.certificate: Path | None = None
        self.key: Path | None = None
        if tls:
            self.certificate, self.key = certificate(self.folder, owner=None)
            self.settings |= {"cert-file": str(self.certificate), "key-file": str(self.key)}
            if client_certificates:
                self.settings |= {"client-cert-auth": True, "trusted-ca-file": str(self.certificate)}

    def _install(self) -> None:
        self.data.mkdir(mode=0o700)

    def _configure(self) -> None:
        """All of it is in the command."""

    def _command(self) -> list[str]:
        settings = {
            "name": self.name,
            "data-dir": str(self.data),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": ",".join(f"{one.name}={one.peer_url}" for one in self.cluster),
            "initial-cluster-token": str(self.cluster[0].folder),
            **self.settings,
        }
        spelt = {True: "true", False: "false"}
        return [
            str(programs.found("etcd")),
            *(f"--{k}={spelt[v] if isinstance(v, bool) else v}" for k, v in settings.items()),
        ]

    @property
    def client_url(self) -> str:
        return f"http{'s' if self.certificate else ''}://{HOST}:{self.port}"

    @property
    def peer_url(self) -> str:
        return f"http://{HOST}:{self.peer_port}"

    def _ask(self) -> None:
        """A read that a quorum has confirmed."""
        self.call("kv/range", key=b"headcount", keys_only=True)

    def _not_yet(self) -> type[Exception]:
        return Refused

    def start(self) -> Self:
        first = not self._has_run
        super().start()
        if first and self.authentication:
            self.turn_on_authentication()
        return self

    # --- reaching it ---

    def url(
        self,
        prefix: str = "",
        user: str | None = None,
        password: str | None = None,
        servers: list[Etcd] | None = None,
        **options: object,
    ) -> str:
        """The URL of a store there; as root, with its password, where one is asked for."""
        if user is None and self.authentication:
            user = ROOT
        if password is None and self.authentication:
            password = PASSWORD
        who = "" if user is None else quote(user, safe="")
        who += f":{quote(password, safe='')}" if password else ""
        where = ",".join(f"{HOST}:{one.port}" for one in servers or self.cluster)
        if self.certificate is not None:
            options = {"ca": str(self.certificate), **options}
        query = f"?{urlencode(options, quote_via=quote)}" if options else ""
        return f"etcd://{who}{'@' if who else ''}{where}{'/' + quote(prefix) if prefix else ''}{query}"

    def fresh_database(self) -> str:
        """A prefix that nobody else has: what a database is elsewhere."""
        return fresh_name()

    def drop_database(self, prefix: str) -> None:
        """All that a store has at this prefix."""
        self.delete(f"/{prefix}/", f"/{prefix}0")

    def call(self, what: str, fields: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """One call of its JSON gateway, as administrator; bytes are put as it wants them."""
        fields, headers = {**(fields or {}), **more}, {}
        if self._guarded and what not in OPEN:
            answer = self.call("auth/authenticate", name=ROOT, password=PASSWORD)
            headers["Authorization"] = answer["token"]
        body = json.dumps(fields, default=lambda value: base64.b64encode(value).decode()).encode()
        request = urllib.request.Request(f"{self.client_url}/v3/{what}", body, headers)
        context = None
        if self.certificate is not None:
            context = ssl.create_default_context(cafile=str(self.certificate))
            context.load_cert_chain(str(self.certificate), str(self.key))
        try:
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with opener.open(request, timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as exc:
            with exc:
                raise Refused(f"{what}: {exc.read().decode(errors='replace')}") from exc
        except OSError as exc:
            raise Refused(f"{what}: {exc}") from exc

    # --- what an administrator does ---

    def put(self, key: str, value: str) -> None:
        self.call("kv/put", key=key.encode(), value=value.encode())

    def delete(self, key: str, range_end: str = "") -> int:
        return int(
            self.call("kv/deleterange", key=key.encode(), range_end=range_end.encode()).get("deleted", 0)
        )

    def keys(self, prefix: str) -> dict[str, str]:
        """All keys that begin so, with what is in them."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        found = self.call("kv/range", key=prefix.encode(), range_end=end.encode()).get("kvs", [])
        decode = base64.b64decode
        return {decode(kv["key"]).decode(): decode(kv.get("value", "")).decode() for kv in found}

    def compact(self) -> None:
        """Forget all that was; what is, stays."""
        revision = int(self.call("kv/range", key=b"\0")["header"]["revision"])
        self.call("kv/compaction", revision=revision, physical=True)

    def term(self) -> int:
        return int(self.call("maintenance/status")["raftTerm"])

    def turn_on_authentication(self) -> None:
        self.call("auth/user/add", name=ROOT, password=PASSWORD)
        self.call("auth/role/add", name=ROOT)
        self._grant_role(ROOT, ROOT)
        self.call("auth/enable")
        self._guarded = True

    def create_user(self, name: str, prefix: str, rights: str = "READWRITE") -> None:
        """Somebody who may do this below the prefix, and nothing else."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        self.call("auth/user/add", name=name, password=PASSWORD)
        self.call("auth/role/add", name=name)
        permission = {"permType": rights, "key": prefix.encode(), "range_end": end.encode()}
        self.call("auth/role/grant", name=name, perm=permission)
        self._grant_role(name, name)

    def _grant_role(self, name: str, role: str) -> None:
        self.call("auth/user/grant", {"user": name, "role": role})


class Cluster:
    """Three servers that agree among themselves."""

    def __init__(self, count: int = 3, **settings: Any) -> None:
        self.members = [Etcd(name=f"e{n + 1}", **settings) for n in range(count)]
        for member in self.members:
            member.cluster = self.members

    def start(self) -> Self:
        """All at once: one alone never answers."""
        for member in self.members:
            member.launch()
        for member in self.members:
            member.wait_until_it_answers()
            member._has_run = True
        return self

    def url(self, prefix: str = "", **options: object) -> str:
        return self.members[0].url(prefix, **options)  # type: ignore[arg-type]

    def leader(self) -> Etcd:
        """Who leads, as the others see it."""
        by_id: dict[str, Etcd] = {}
        found: dict[str, str] = {}

        def agreed() -> bool:
            found.clear()
            for member in self.members:
                if member.running and "T" not in member.processes().values():
                    try:
                        status = member.call("maintenance/status")
                    except Refused:
                        return False
                    by_id[status["header"]["member_id"]] = member
                    found[member.name] = status.get("leader", "0")
            leaders = set(found.values())
            return len(leaders) == 1 and leaders <= by_id.keys()

        self.members[0]._wait(agreed, "have no leader", STARTING_S)
        return by_id[next(iter(found.values()))]

    def followers(self) -> list[Etcd]:
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def discard(self) -> None:
        for member in self.members:
            member.cluster = [member]
            member.discard()
