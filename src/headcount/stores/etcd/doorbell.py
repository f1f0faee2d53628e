"""The doorbell: one watch on the heads of all groups, on who is here or may trust a place, and on who lives.

A thread of ours waits on the stream, because gRPC can wait for one only without an end, and somebody else has
to be able to wake whoever waits. It decides nothing: it puts down what it heard.

A stream that breaks is opened anew by the next wait, from what is then on; the wait before says that it
broke, and that anything may have changed. One that a compaction has overtaken is such a stream.

Silence means something only while the server of the stream serves: after a while of it, that one is asked,
and no other. If it does not answer, another one is listened to, and again anything may have changed."""

from __future__ import annotations

import time
from typing import Any

from headcount import native
from headcount.errors import HeadcountError, StoreUnavailable
from headcount.model import Ring, Seconds
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.client import RANGE, Client, grpc
from headcount.stores.etcd.errors import Elsewhere, translate
from headcount.stores.etcd.keys import Keys

POLL = 5.0
"""Seconds of silence after which one small question to the same server shows whether it means anything."""


class Heard:
    """What one stream has said, until somebody takes it."""

    def __init__(self) -> None:
        self.groups: dict[str, None] = {}
        self.lost: set[str] = set()
        self.error: HeadcountError | None = None
        self.stream: Any = None
        self.host = ""

    @property
    def anything(self) -> bool:
        return bool(self.groups or self.lost or self.error)


class EtcdDoorbell:
    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._rung = native.threading().Condition(native.threading().Lock())
        self._woken = False
        self._closed = False
        self._heard: Heard | None = None
        self._served_at = 0.0
        self._open(client.until())

    def wait(self, timeout: Seconds) -> Ring:
        if self._heard is None and not self._closed:
            self._open(self._client.until())
            return Ring(groups=None)
        with self._rung:
            self._rung.wait_for(lambda: self._woken or self._closed or self._anything(), max(0.0, timeout))
            self._woken = False
            heard = self._heard
            if heard is None:
                return Ring()
            groups, heard.groups = heard.groups, {}
            lost, heard.lost = heard.lost, set()
            if heard.error is not None:
                self._heard = None
                raise StoreUnavailable(f"{heard.error}") from heard.error
        if groups or lost:
            self._served_at = time.monotonic()
        elif time.monotonic() >= self._served_at + POLL and not self._serves(heard):
            return Ring(groups=None)
        return Ring(groups=groups, lost=frozenset(lost))

    def wake(self) -> None:
        with self._rung:
            self._woken = True
            self._rung.notify_all()

    def close(self) -> None:
        with self._rung:
            self._closed = True
            heard, self._heard = self._heard, None
            self._rung.notify_all()
        if heard is not None and heard.stream is not None:
            heard.stream.cancel()

    def _anything(self) -> bool:
        return self._heard is not None and self._heard.anything

    def _serves(self, heard: Heard) -> bool:
        """Whether the server of the stream still answers, and hears of a majority. If not, we listen to
        another one from now on, where there is one."""
        until = self._client.until()
        try:
            self._client.ask_at(heard.host, RANGE, self._question(), until)
        except Elsewhere:
            if len(self._client.hosts) == 1:
                raise
        else:
            self._served_at = time.monotonic()
            return True
        with self._rung:
            if self._heard is heard:
                self._heard = None
        heard.stream.cancel()
        self._client.leave(heard.host)
        if not self._closed:
            self._open(until)
        return False

    def _question(self) -> Any:
        return rpc.RangeRequest(key=self._keys.about.key, count_only=True)

    # ── the stream ──

    def _open(self, until: float) -> None:
        """From what is now, as a majority knows it."""
        now = int(self._client.ask(RANGE, self._question(), until).header.revision)
        self._served_at = time.monotonic()
        span = self._keys.watched
        request = rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(key=span.key, range_end=span.end, start_revision=now + 1)
        )
        heard = Heard()
        try:
            heard.host, heard.stream = self._client.watch(request)
        except grpc.RpcError as exc:
            raise translate(exc, self._client.address) from exc
        self._heard = heard
        native.threading().Thread(
            target=self._listen, args=(heard,), name="headcount-etcd-watch", daemon=True
        ).start()

    def _listen(self, heard: Heard) -> None:
        error: HeadcountError = StoreUnavailable(f"{self._client.address} has ended the watch")
        try:
            for answer in heard.stream:
                if answer.canceled:
                    why = answer.cancel_reason or (
                        f"revision {answer.compact_revision} and before are forgotten"
                        if answer.compact_revision
                        else "no reason given"
                    )
                    error = StoreUnavailable(f"{self._client.address} has ended the watch: {why}")
                    break
                self._note(heard, answer.events)
        except grpc.RpcError as exc:
            error = translate(exc, self._client.address)
        with self._rung:
            heard.error = error
            self._rung.notify_all()

    def _note(self, heard: Heard, events: Any) -> None:
        groups, lost = [], []
        for event in events:
            gone = event.type == rpc.Event.DELETE
            if not gone and event.kv.key >= self._keys.groups.end:
                continue  # somebody came, or after an election has moved: the group says what that means
            match self._keys.parts(event.kv.key):
                case ["group", group]:
                    groups.append(group)
                case ["here" | "held", group, _] if gone:
                    groups.append(group)
                case ["life", session] if gone:
                    lost.append(session)
        if groups or lost:
            with self._rung:
                heard.groups.update(dict.fromkeys(groups))
                heard.lost.update(lost)
                self._rung.notify_all()
