"""What a doorbell that looks has seen: which groups have another revision than they had."""

from __future__ import annotations

from typing import Protocol

from headcount.model import Ring
from headcount.stores.sql.speaking import Found


class Counted(Protocol):
    def ask(self, name: str, *values: object) -> Found: ...


class Revisions:
    def __init__(self) -> None:
        self.opened = 0
        """The connection on which it was looked last."""
        self._seen: tuple[object, ...] | None = None
        self._revisions: dict[str, int] = {}

    def look(self, line: Counted, opened: int) -> Ring | None:
        """One row, which is another one whenever some group is; and if it is, the revisions of all. After a
        new connection, on which nobody knows what was missed, it rings for all groups. `opened`: the number
        of the connection, from before the look: another one may be looked at."""
        anew = opened != self.opened
        (seen,) = line.ask("groups_at_all")
        before, self._seen = self._seen, seen
        if not anew and seen == before:
            return None
        then, self._revisions = self._revisions, dict(line.ask("revisions"))
        self.opened = opened
        if anew:
            return Ring(groups=None) if before is not None else None
        changed = {group for group, revision in self._revisions.items() if then.get(group) != revision}
        changed |= then.keys() - self._revisions.keys()
        return Ring(groups=dict.fromkeys(changed)) if changed else None
