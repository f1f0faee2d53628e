"""A group, in single requests: read as far as somebody needs it, and written if nobody was quicker."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Collection, Iterator
from typing import Any

from headcount import native
from headcount.errors import GroupNotFound, StoreUnavailable
from headcount.register import Ledger
from headcount.stores.etcd.client import READ, TXN, Client
from headcount.stores.etcd.epochs import Epochs
from headcount.stores.etcd.errors import LeaseGone
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import MOST, at, read
from headcount.stores.etcd.records import Head, Reading, decode
from headcount.stores.etcd.seen import Need, Seen, portions
from headcount.stores.etcd.sessions import Sessions
from headcount.stores.etcd.written import Written, holders

RACES = 200
"""Times that somebody else may be first."""

PAUSE = 0.02


class Moved(Exception):
    """Somebody has committed between two of our reads."""


class Access:
    def __init__(
        self, client: Client, keys: Keys, reading: Reading, epochs: Epochs, sessions: Sessions
    ) -> None:
        self.client = client
        self._keys = keys
        self._reading = reading
        self._epochs = epochs
        self._sessions = sessions

    def seen(self, group: str) -> Seen:
        """The group, of which nothing is loaded yet."""
        return Seen(self._reading, self._keys, group)

    def load(self, seen: Seen, needs: Collection[Need], until: float) -> Seen:
        for part in portions(needs, MOST):
            answer = self.client.ask(READ, read(seen.ops(part)), until)
            about, head, *found = (response.response_range.kvs for response in answer.responses)
            if not head:
                raise GroupNotFound(f"there is no group {seen.group!r} in {self.client.address}")
            if seen.head_at not in (0, head[0].mod_revision):
                raise Moved
            seen.epoch = self._epochs.of(about, answer.header, until)
            seen.about_at, seen.head_at = at(about), head[0].mod_revision
            seen.head = self.head(head)
            seen.take(part, (kv for kvs in found for kv in kvs))
        return seen

    def head(self, found: Any) -> Head:
        """Where it cannot be read, the revision that etcd gives is below all of ours; the epoch is above."""
        try:
            return decode(Head, found[0].value)
        except ValueError as exc:
            self._reading.complain(found[0].key, str(exc))
            return Head(0, "")

    def write(self, seen: Seen, ledger: Ledger, until: float, counted: tuple[int, int] | None = None) -> bool:
        """Whether the changes have been written; if not, somebody else was first, or somebody is gone."""
        who = {session: life.lease for session in holders(seen, ledger) if (life := seen.lives[session])}
        holds = self._sessions.hold(seen.group, who, until)
        written = Written(self._keys, seen, ledger, new_id(), holds=holds, counted=counted)
        try:
            answer = self.client.send(TXN, written.request(), until)
        except LeaseGone:
            if holds:
                self._sessions.witnesses.look(until)
            return False
        return bool(answer.told.succeeded) or (answer.doubled and written.is_there(answer.told.responses))


def races(until: float) -> Iterator[int]:
    """Tries, as long as there is time; who was not first lets the others go."""
    for turn in range(RACES):
        if turn:
            native.threading().Event().wait(random.uniform(0, PAUSE * min(turn, 5)))
            if time.monotonic() >= until:
                return
        yield turn


def too_busy(address: str, group: str) -> StoreUnavailable:
    return StoreUnavailable(f"{address}: others have committed to {group!r} all the time; worth trying again")


def new_id() -> str:
    return uuid.uuid4().hex
