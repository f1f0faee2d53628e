"""A process that writes to a register and reads it, by chance, and records every answer.

python -m tests.processes.writer URL NAME SEED OPERATIONS FILE
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from headcount import stores
from headcount.errors import StoreUnavailable
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
from tests.processes.history import Record, commit_of, line_of, read_of
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


def main(url: str, name: str, seed: str, operations: str, file: str) -> None:
    patience = "lock_timeout" if url.startswith("sqlite") else "timeout"
    store = stores.make(url, options={patience: 10.0})
    store.open()
    writer = Writer(store, name, int(seed))
    with Path(file).open("w") as out:
        for _ in range(int(operations)):
            record = writer.step()
            if record is not None:
                out.write(line_of(record))
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
