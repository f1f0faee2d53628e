"""What has changed in a group after a revision: read off its history, which names what each commit touched.

A delta can be given if the history has the commit of that revision, for then it has all that followed; and if
nobody has died unsettled since. That is seen without reading who is here: the head says how many there should
be. Their keys come by commits alone, and go by them when they have left, which is counted; so if there are as
many as it says, none has died.
Nor may there be claims that are kept for whoever was ended early: these go when `held` does, which is not
counted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from headcount.errors import GroupNotFound
from headcount.model import Claim, Delta, Mark, RecordKind, Revision, Row
from headcount.stores.etcd.client import READ, Client
from headcount.stores.etcd.errors import Compacted
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import MOST, get, read
from headcount.stores.etcd.records import Head, Reading, Told, decode

COMMITS = 200
"""Who is more commits behind than this reads the whole group."""


class Died(NamedTuple):
    """Somebody has died, or has ended, of those who are here by the head; and nobody has said so yet."""

    here: int


class Deltas:
    def __init__(self, client: Client, keys: Keys, reading: Reading) -> None:
        self._client = client
        self._keys = keys
        self._reading = reading

    def after(self, group: str, after: Revision, until: float) -> Delta | Died | None:
        """What has changed; `Died` if that has to be settled first; None if it cannot be told, or would be as
        much as the whole group."""
        keys = self._keys
        request = read(
            [
                get(keys.group(group)),
                get(keys.told_from(group, after), limit=COMMITS),
                get(keys.here_all(group), count_only=True),
            ]
        )
        answer = self._client.ask(READ, request, until)
        head, told, here = (response.response_range for response in answer.responses)
        if not head.kvs:
            raise GroupNotFound(f"there is no group {group!r} in {self._client.address}")
        try:
            now = decode(Head, head.kvs[0].value)
            touched = self._touched(group, after, now, told)
        except ValueError:
            return None  # whoever reads the whole group says what it is
        if touched is None or now.early:
            return None
        if here.count != now.here:
            return Died(now.here)
        found = self._records(group, touched, answer.header.revision, until) if touched else {}
        return None if found is None else self._delta(group, after, now, touched, found)

    def _touched(
        self, group: str, after: Revision, now: Head, told: Any
    ) -> list[tuple[RecordKind, str]] | None:
        """What was touched by the commits after this revision, without gaps up to the head."""
        commits = list(told.kvs)
        ends = [self._keys.told(group, revision).key for revision in (after, now.revision)]
        if told.more or not commits or [commits[0].key, commits[-1].key] != ends:
            return None
        touched: dict[tuple[RecordKind, str], None] = {}
        for kv in commits[1:]:
            commit = decode(Told, kv.value)
            if commit.begins:
                return None
            touched.update(dict.fromkeys(commit.touched))
        return list(touched) if len(touched) <= MOST else None

    def _records(
        self, group: str, touched: list[tuple[RecordKind, str]], revision: int, until: float
    ) -> dict[tuple[str, str], Any] | None:
        """These records, as they were when the history was read."""
        ops = [get(self._keys.record(group, kind, key), revision=revision) for kind, key in touched]
        try:
            answer = self._client.ask(READ, read(ops), until)
        except Compacted:
            return None
        found: dict[tuple[str, str], Any] = {}
        for (kind, key), response in zip(touched, answer.responses, strict=True):
            for kv in response.response_range.kvs:
                record = self._reading.record(kind, key, kv.key, kv.value)
                if record is not None:
                    found[kind, key] = record
        return found

    @staticmethod
    def _delta(
        group: str,
        after: Revision,
        now: Head,
        touched: list[tuple[RecordKind, str]],
        found: dict[tuple[str, str], Any],
    ) -> Delta:
        return Delta(
            group=group,
            after=after,
            revision=now.revision,
            rows=tuple(record for record in found.values() if isinstance(record, Row)),
            marks=tuple(record for record in found.values() if isinstance(record, Mark)),
            claims=tuple(record for record in found.values() if isinstance(record, Claim)),
            removed=tuple(one for one in touched if one not in found),
        )
