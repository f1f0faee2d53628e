"""etcd: a few servers that agree among themselves, for all hosts that reach them. From version 3.4 on.

    etcd://host1:2379,host2:2379,host3:2379/prefix
    etcd://user:password@host1,host2,host3/prefix?ca=/etc/headcount/ca.crt

Sessions are leases of etcd's, which it ends by its own clock (`sessions` says why a beat is trusted); groups
are keys, written by transactions that compare the group's head (`register`); one watch hears of all changes
(`doorbell`). What the keys are called is in `keys`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from headcount.errors import ConfigError, NotPromised
from headcount.model import (
    Beat,
    Delta,
    Entry,
    Granted,
    Guarantees,
    Outcome,
    Revision,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Wish,
)
from headcount.stores.base import Together
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.access import Access
from headcount.stores.etcd.client import STATUS, Client, grpc
from headcount.stores.etcd.deltas import Deltas
from headcount.stores.etcd.doorbell import EtcdDoorbell
from headcount.stores.etcd.epochs import Epochs
from headcount.stores.etcd.groups import Groups
from headcount.stores.etcd.keys import Keys, escape
from headcount.stores.etcd.probe import explain, trusted
from headcount.stores.etcd.records import Reading
from headcount.stores.etcd.register import Register
from headcount.stores.etcd.sessions import Sessions
from headcount.stores.etcd.settling import Settling
from headcount.stores.url import Url, one_password, password

PROMISES = Guarantees(
    scope="network",
    expiry="sessions",
    deltas=True,
    stall_safe=False,
    exclusive=True,
    durable=True,
    advisory_failover=False,
    max_capabilities=65_536,
    precision=1.0,
    recheck=None,
)

PORT = 2379
OLDEST = (3, 4)
"""The tests run on the one of Debian, 3.4.23."""

DEFAULT_PREFIX = "headcount"


class EtcdStore(Together):
    """One client of a store in etcd.

    `timeout`        seconds for which a call waits for the servers, all in all, from 0.1 to 60
    `password_file`  a file with the password in its first line
    `tls`            true: speak TLS, and trust the authorities that the system trusts
    `ca`             a file with the authorities to trust instead
    `cert`, `key`    files with a certificate of our own, where the servers ask for one
    """

    options: Mapping[str, type] = {
        "timeout": float,
        "password_file": str,
        "tls": bool,
        "ca": str,
        "cert": str,
        "key": str,
    }
    guarantees = PROMISES

    def __init__(
        self,
        url: Url,
        *,
        namespace: str = "default",
        timeout: Seconds = 5.0,
        password_file: str | None = None,
        tls: bool | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
    ) -> None:
        _check(url, timeout, password_file, tls, (ca, cert, key))
        self.address = url.safe.partition("?")[0]
        self._url = url
        self._password_file = password_file
        self._files = (ca, cert, key)
        self._tls = bool(tls or ca or cert)
        self._opened = False
        hosts = [_target(host, port) for host, port in url.hosts or (("localhost", None),)]
        keys = Keys(f"/{_prefix(url)}/{escape(namespace)}/")
        self._client = Client(
            hosts,
            self.address,
            timeout=timeout,
            credentials=self._credentials if self._tls else None,
            login=self._login if url.user is not None else None,
        )
        self._keys = keys
        self._reading = Reading(self.address)
        self._epochs = Epochs(self._client, keys)
        self._sessions = Sessions(self._client, keys)
        access = Access(self._client, keys, self._reading, self._epochs, self._sessions)
        self._settling = Settling(access)
        self._register = Register(access, self._settling, Deltas(self._client, keys, self._reading))
        self._groups = Groups(access, self._settling, keys, self._reading, self._epochs)

    @classmethod
    def from_url(cls, url: Url, namespace: str, options: Mapping[str, Any]) -> EtcdStore:
        return cls(url, namespace=namespace, **options)

    @property
    def on_corrupt(self) -> Callable[[str], object]:
        return self._reading.on_corrupt

    @on_corrupt.setter
    def on_corrupt(self, tell: Callable[[str], object]) -> None:
        self._reading.on_corrupt = tell

    # ── opening ──

    def open(self) -> None:
        until = self._client.until()
        if self._opened:
            return
        with explain(self._client, tls=self._tls, files=self._files):
            version = self._client.ask(STATUS, rpc.StatusRequest(), until).version
            if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
                raise NotPromised(f"{self.address} is etcd {version}: it takes 3.4 or later")
            self._epochs.make(until)
        self._opened = True

    init = open
    """To make the store is to open it."""

    def close(self) -> None:
        self._client.close()

    def new_epoch(self) -> int:
        """Begin a new history, and say its epoch: what to do after restoring an old register."""
        return self._epochs.begin()

    def _login(self) -> tuple[str, str]:
        return self._url.user or "", password(self._url, self._password_file) or ""

    def _credentials(self) -> Any:
        ca, cert, key = (None if name is None else _content(name) for name in self._files)
        return grpc.ssl_channel_credentials(ca or trusted(), key, cert)

    # ── groups ──

    def create_group(self, group: str) -> bool:
        return self._groups.create(group)

    def delete_group(self, group: str) -> bool:
        return self._groups.delete(group)

    def groups(self) -> list[str]:
        return self._groups.names()

    # ── sessions ──

    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]:
        return self._sessions.open(sessions)

    def close_session(self, session: SessionId) -> None:
        self._sessions.close(session)

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        return self._sessions.beat(sessions)

    # ── the register ──

    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        return self._register.commit_together(group, wishes)

    def read(
        self, group: str, after: Revision | None = None, *, only: Collection[str] | None = None
    ) -> Snapshot | Delta:
        return self._register.read(group, after, only)

    def doorbell(self) -> EtcdDoorbell:
        return EtcdDoorbell(self._client, self._keys)

    def last_seen(self, group: str) -> Mapping[str, datetime]:
        until = self._client.until()
        rows = [row for row in self._settling.settled(group, until).rows.values() if row and row.live]
        beats = self._sessions.last_beats(sorted({row.session for row in rows if row.session}), until)
        seen: dict[str, datetime] = {}
        for row in rows:
            if row.session in beats:
                seen[row.member_id] = max(seen.get(row.member_id, beats[row.session]), beats[row.session])
        return seen

    def history(
        self, group: str | None = None, *, member_id: str | None = None, limit: int = 100
    ) -> list[Entry]:
        return self._groups.history(group, member_id, limit)


def _check(
    url: Url,
    timeout: Seconds,
    password_file: str | None,
    tls: bool | None,
    files: tuple[str | None, str | None, str | None],
) -> None:
    if not 0.1 <= timeout <= 60:
        raise ConfigError(f"{url.safe}: the option 'timeout' goes from 0.1 to 60, not {timeout:g}")
    one_password(url, password_file)
    if (url.password is not None or password_file is not None) and not url.user:
        raise ConfigError(f"{url.safe}: a password, and nobody whose it is: etcd://user:password@host")
    if tls is False and any(files):
        raise ConfigError(f"{url.safe}: tls=false, and files for TLS: give one of them")
    if (files[1] is None) != (files[2] is None):
        raise ConfigError(f"{url.safe}: 'cert' and 'key' go together")
    for name, file in zip(("ca", "cert", "key"), files, strict=True):
        if file is not None:
            try:
                _content(file)
            except OSError as exc:
                raise ConfigError(f"{url.safe}: {name}={file} cannot be read: {exc}") from exc


def _prefix(url: Url) -> str:
    prefix = url.path.strip("/") or DEFAULT_PREFIX
    if not prefix.isprintable() or not prefix.strip():
        raise ConfigError(f"{url.safe}: the path {prefix!r} cannot be part of a key that people can read")
    return prefix


def _target(host: str, port: int | None) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port or PORT}"


def _content(file: str) -> bytes:
    return Path(file).read_bytes()
