"""Which history of the register this is, and in which form it is kept: the key `about`.

A cluster that is restored from a backup has another id. Then a new epoch begins, above all that anybody can
know of: what was committed after that backup is lost, but no token of it is ever given out again.
"""

from __future__ import annotations

import time
from typing import Any

from headcount.errors import AccessDenied, ConfigError, SchemaMismatch, StoreUnavailable
from headcount.stores.etcd.client import READ, TXN, Client
from headcount.stores.etcd.keys import KINDS, Keys
from headcount.stores.etcd.ops import get, is_at, put, read, txn
from headcount.stores.etcd.records import FORMAT, About, decode, encode

BEGAN = 1735689600
"""2025, in seconds since 1970: epochs count from there."""


class Epochs:
    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._newest = 0
        """The newest epoch that this client has seen."""

    def of(self, found: Any, header: Any, until: float) -> int:
        """The epoch, of what was found under `about`. Begins a new one if this is another history."""
        about = self._readable(found)
        if about is None:
            raise StoreUnavailable(
                f"{self._client.address} has lost the key {self._keys.about.key.decode()!r}: whoever opens "
                "the store next makes it anew, with a new epoch"
            )
        if about.history != f"{header.cluster_id:x}" or about.epoch < self._newest:
            about = self._begin(until, anew=False)
        self._newest = about.epoch
        return about.epoch

    def make(self, until: float) -> None:
        """What opening the store does: see that there is an `about`, which we can work with."""
        try:
            self._make(until)
        except AccessDenied as exc:
            raise AccessDenied(f"{exc}. It takes reading and writing below {self._keys.root}") from exc

    def _make(self, until: float) -> None:
        answer = self._client.ask(READ, read([get(self._keys.about), _any_of(self._keys)]), until)
        (found, others) = (response.response_range for response in answer.responses)
        if found.kvs:
            self.of(found.kvs, answer.header, until)
            return
        if others.kvs and self._keys.parts(others.kvs[0].key)[0] not in KINDS:
            raise ConfigError(
                f"{self._client.address}: below {self._keys.root} there are keys of something else, such as "
                f"{others.kvs[0].key.decode(errors='replace')!r}: choose another path in the URL"
            )
        self._begin(until, anew=False)

    def begin(self) -> int:
        """A new history, whatever the old one was."""
        return self._begin(self._client.until(), anew=True).epoch

    def _begin(self, until: float, *, anew: bool) -> About:
        """Whoever is first; the others find what it has begun."""
        while True:
            answer = self._client.ask(READ, read([get(self._keys.about)]), until)
            kvs = answer.responses[0].response_range.kvs
            old, history = self._readable(kvs), f"{answer.header.cluster_id:x}"
            if old is not None and old.history == history and old.epoch >= self._newest and not anew:
                return old
            epoch = max(old.epoch if old else 0, self._newest, int(time.time()) - BEGAN) + 1
            about = About(FORMAT, history, epoch)
            request = txn(
                [is_at(self._keys.about, kvs[0].mod_revision if kvs else 0)],
                [put(self._keys.about, encode(about))],
            )
            if self._client.ask(TXN, request, until).succeeded:
                self._newest = epoch
                return about
            anew = False  # somebody else has, just now

    def _readable(self, found: Any) -> About | None:
        if not found:
            return None
        try:
            about = decode(About, found[0].value)
        except ValueError as exc:
            raise SchemaMismatch(
                f"{self._client.address}: the key {found[0].key.decode()!r} is not Headcount's ({exc}): "
                "choose another path in the URL"
            ) from exc
        if about.format != FORMAT:
            raise SchemaMismatch(
                f"{self._client.address} is kept in format {about.format}; this release knows format {FORMAT}"
            )
        return about


def _any_of(keys: Keys) -> Any:
    return get(keys.all, keys_only=True, limit=1)
