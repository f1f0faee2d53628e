"""A process that writes to a register and reads it, by chance, and records every answer.

python -m tests.processes.writer URL NAME SEED OPERATIONS FILE

OPERATIONS 0: until SIGTERM, whatever happens to the server meanwhile (see `Survivor`).
"""

from __future__ import annotations

import itertools
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from headcount import stores
from headcount.errors import OutcomeUnknown, StoreUnavailable
from headcount.model import (
    Amend,
    Committed,
    Enter,
    Mark,
    Refused,
    Remark,
    Row,
    Session,
    Snapshot,
    Standing,
    Withdraw,
    Write,
)
from headcount.stores.base import Store
from tests.processes.history import Record, commit_of, commit_seen, line_of, read_of, shown
from tests.processes.member import now

GROUP = "workers"


class Writer:
    """Two rows of its own, and marks that it shares with the others; each write names what it has seen."""

    def __init__(self, store: Store, name: str, seed: int) -> None:
        self.store, self.name = store, name
        self.chance = random.Random(seed)
        self.rows: dict[str, Row | None] = {f"{name}-{n}": None for n in range(2)}
        self.revision: int | None = None
        self.session = Session(id=f"s-{name}", instance=name, host="here", process=name, ttl=600.0)
        store.open_session(self.session)

    def step(self) -> Record | None:
        kind = self.chance.choices(["row", "mark", "both", "read", "delta"], [5, 2, 2, 2, 5])[0]
        if kind in ("read", "delta"):
            return self.read(self.revision if kind == "delta" else None)
        writes: list[Write] = []
        key = self.chance.choice(list(self.rows))
        if kind in ("row", "both"):
            writes.append(self.of_row(key))
        if kind in ("mark", "both"):
            writes.append(self.remark())
        return self.commit(key, writes)

    def read(self, after: int | None) -> Record:
        began = now()
        answer = self.store.read(GROUP, after)
        record = read_of(self.name, began, now(), answer)
        self.revision = answer.revision
        return record

    def commit(self, key: str, writes: list[Write]) -> Record | None:
        began = now()
        try:
            outcome = self.store.commit(GROUP, writes, by=self.session.id)
        except StoreUnavailable:
            return None  # nothing was written, says the store; the judge finds it if that is not so
        ended = now()
        if isinstance(outcome, Refused):
            return None
        assert isinstance(outcome, Committed)
        before = self.rows[key]
        for row in outcome.rows:
            self.rows[row.key] = row
        if any(isinstance(write, Withdraw) and write.forget for write in writes):
            self.rows[key] = None
        return commit_of(self.name, began, ended, writes, outcome, before.standing_since if before else 0)

    def of_row(self, key: str) -> Write:
        row, value = self.rows[key], self.chance.randbytes(4)
        if row is None or not row.live:
            return Enter(
                key=key,
                member_id=key,
                seen=row.revision if row else 0,
                session=self.session.id,
                instance=self.name,
                host="here",
                ttl=600.0,
                capabilities=value,
            )
        life, seen = row.incarnation, row.revision
        match self.chance.randrange(4):
            case 0:
                return Withdraw(key=key, incarnation=life, seen=seen, forget=self.chance.random() < 0.5)
            case 1:
                return Amend(key=key, incarnation=life, seen=seen, standing=Standing.ANEW)
        return Amend(key=key, incarnation=life, seen=seen, capabilities=value)

    def remark(self) -> Write:
        """Of somebody who is never there, so that it changes no row."""
        ghost = self.chance.choice(["ghost-1", "ghost-2"])
        found = self.store.read(GROUP, only=[ghost])
        assert isinstance(found, Snapshot)
        mark: Mark | None = found.marks[0] if found.marks else None
        reason = self.chance.randbytes(4).hex()
        return Remark(member_id=ghost, seen=mark.revision if mark else 0, disabled=reason)


class Survivor(Writer):
    """Goes on when the server does, and finds out what became of its last commit.

    Every commit of it ends with a mark that nobody else writes, and names the one that it saw before. So of
    the commits that it is in doubt about only one can have been carried out, however late, and whether one
    was can be read off the mark."""

    def __init__(self, store: Store, name: str, seed: int) -> None:
        super().__init__(store, name, seed)
        self.ghost = f"ghost-{name}"
        self.marked = 0
        self.shown: dict[str, list[Any]] = {}
        self.doubt: float | None = None
        """When the first commit began of those that it is in doubt about."""

    def step(self) -> Record | None:
        try:
            return super().step()
        except (StoreUnavailable, OutcomeUnknown):
            time.sleep(0.02)  # or it would ask a server that is down as fast as it can
            return None

    def remark(self) -> Write:
        return Remark(member_id=self.ghost, seen=self.marked, disabled=self.chance.randbytes(4).hex())

    def commit(self, key: str, writes: list[Write]) -> Record | None:
        if not any(isinstance(write, Remark) for write in writes):
            writes = [*writes, self.remark()]
        began = now()
        try:
            outcome = self.store.commit(GROUP, writes, by=self.session.id)
        except StoreUnavailable:
            return None
        except OutcomeUnknown:
            self.doubt = self.doubt or began
            return self.found_out()
        if isinstance(outcome, Refused):
            assert self.doubt is not None, f"{outcome}, though nobody else writes what {self.name} does"
            return self.found_out()
        assert isinstance(outcome, Committed)
        old = self.shown.get(key, [0])[-1]
        self.take(self.look())
        self.doubt = None
        return commit_of(self.name, began, now(), writes, outcome, old)

    def found_out(self) -> Record | None:
        """What came of that which it is in doubt about, if anything has by now."""
        assert self.doubt is not None
        seen = self.look()
        if not seen.marks or seen.marks[0].revision == self.marked:
            return None
        record = commit_seen(self.name, self.doubt, now(), self.shown, seen)
        self.take(seen)
        self.doubt = None
        return record

    def look(self) -> Snapshot:
        return look(self.store, self.name, list(self.rows))

    def take(self, seen: Snapshot) -> None:
        found = {row.key: row for row in seen.rows}
        self.rows = {key: found.get(key) for key in self.rows}
        self.shown = {key: shown(row) for key, row in found.items()}
        self.marked = seen.marks[0].revision


def look(store: Store, name: str, keys: list[str]) -> Snapshot:
    """All that one survivor writes, asked for until it is answered."""
    while True:
        try:
            found = store.read(GROUP, only=[*keys, f"ghost-{name}"])
        except StoreUnavailable:
            time.sleep(0.02)
            continue
        assert isinstance(found, Snapshot)
        return found


def main(url: str, name: str, seed: str, operations: str, file: str) -> None:
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    on_sqlite = url.startswith("sqlite")
    patience = {"lock_timeout" if on_sqlite else "timeout": 10.0 if int(operations) else 1.0}
    store = stores.make(url, options=patience)
    store.open()
    writer = Writer(store, name, int(seed)) if int(operations) else Survivor(store, name, int(seed))
    with Path(file).open("w") as out:
        for _ in range(int(operations)) if int(operations) else itertools.count():
            if stop:
                break
            record = writer.step()
            if record is not None:
                out.write(line_of(record))
                out.flush()  # we may be killed at any time
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
