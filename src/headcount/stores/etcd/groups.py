"""Groups as such: made, deleted, listed; and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from headcount.errors import GroupNotFound
from headcount.model import Entry, hidden
from headcount.stores.base import HISTORY, not_empty
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.access import Access, new_id, races, too_busy
from headcount.stores.etcd.client import RANGE, READ, TXN
from headcount.stores.etcd.epochs import Epochs
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import at, delete, get, is_at, put, read, txn
from headcount.stores.etcd.records import Head, Reading, Told, decode, encode
from headcount.stores.etcd.settling import Settling


class Groups:
    def __init__(
        self, access: Access, settling: Settling, keys: Keys, reading: Reading, epochs: Epochs
    ) -> None:
        self._access = access
        self._client = access.client
        self._settling = settling
        self._keys = keys
        self._reading = reading
        self._epochs = epochs

    def names(self) -> list[str]:
        return [name for name in self._names(self._client.until()) if not hidden(name)]

    def _names(self, until: float) -> list[str]:
        span = self._keys.groups
        request = rpc.RangeRequest(key=span.key, range_end=span.end, keys_only=True)
        return sorted(self._keys.parts(kv.key)[-1] for kv in self._client.ask(RANGE, request, until).kvs)

    def create(self, group: str) -> bool:
        until, keys, id_ = self._client.until(), self._keys, new_id()
        for _ in races(until):
            ops = [get(keys.about), get(keys.group(group)), get(keys.floor), self._last_told(group)]
            answer = self._client.ask(READ, read(ops), until)
            about, head, floor, last = (response.response_range.kvs for response in answer.responses)
            if head:
                return self._access.head(head).id == id_
            epoch = self._epochs.of(about, answer.header, until)
            begin = Head(max(_number(floor), self._revision(last), epoch << 32) + 1, id_)
            told = keys.told(group, begin.revision)
            request = txn(
                [is_at(keys.about, at(about)), is_at(keys.group(group), 0), is_at(keys.floor, at(floor))],
                # Whoever has removed the head by hand has left the rest.
                [
                    *(delete(span) for span in self._of(group)),
                    put(keys.group(group), encode(begin)),
                    put(told, encode(Told(id_, [], begins=True))),
                ],
            )
            if self._client.ask(TXN, request, until).succeeded:
                return True
        raise too_busy(self._client.address, group)

    def delete(self, group: str) -> bool:
        until, keys, doubled = self._client.until(), self._keys, False
        for _ in races(until):
            try:
                seen = self._settling.settled(group, until)
            except GroupNotFound:
                return doubled
            live = {row.member_id for row in seen.rows.values() if row is not None and row.live}
            if live or seen.claims:
                raise not_empty(group, live, {claim.member_id for claim in seen.claims.values()})
            floor = self._client.ask(RANGE, rpc.RangeRequest(key=keys.floor.key), until).kvs
            highest = max(_number(floor), seen.head.revision)
            request = txn(
                [is_at(keys.group(group), seen.head_at), is_at(keys.floor, at(floor))],
                [
                    delete(keys.group(group)),
                    *(delete(span) for span in self._of(group)),
                    delete(keys.told_of(group)),  # the floor says where it ended
                    put(keys.floor, str(highest).encode()),
                ],
            )
            answer = self._client.send(TXN, request, until)
            if answer.told.succeeded:
                return True
            doubled |= answer.doubled
        raise too_busy(self._client.address, group)

    def _last_told(self, group: str) -> Any:
        span, order = self._keys.told_of(group), rpc.RangeRequest.DESCEND
        return get(span, sort_order=order, sort_target=rpc.RangeRequest.KEY, limit=1, keys_only=True)

    def _revision(self, found: Any) -> int:
        return int(self._keys.parts(found[0].key)[-1]) if found else 0

    def _of(self, group: str) -> Sequence[Any]:
        keys = self._keys
        return keys.records(group), keys.named_all(group), keys.here_all(group), keys.held_all(group)

    def history(self, group: str | None, member_id: str | None, limit: int) -> list[Entry]:
        """Whoever asks wants to hear of those who are gone, too, though nobody may have read since."""
        until = self._client.until()
        for name in self._names(until) if group is None else [group]:
            with suppress(GroupNotFound):
                self._settling.settled(name, until)
        span = self._keys.told_all if group is None else self._keys.told_of(group)
        request = rpc.RangeRequest(
            key=span.key,
            range_end=span.end,
            sort_order=rpc.RangeRequest.DESCEND,
            sort_target=rpc.RangeRequest.CREATE,
            limit=0 if member_id is not None else max(1, limit),
        )
        found: list[Entry] = []
        for kv in self._client.ask(RANGE, request, until).kvs:
            try:
                entries = decode(Told, kv.value).entries
            except ValueError as exc:
                self._reading.complain(kv.key, str(exc))
                continue
            found += [entry for entry in reversed(entries) if member_id in (None, entry.member_id)]
            if len(found) >= min(limit, HISTORY):
                break
        return found[: min(limit, HISTORY)][::-1]


def _number(found: Any) -> int:
    try:
        return int(found[0].value) if found else 0
    except ValueError:
        return 0
