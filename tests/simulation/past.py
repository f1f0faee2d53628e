"""A group as it stood at one revision: what every view of that revision has to show.

Nothing here asks the code under test what is right: leader and members are computed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from headcount.model import Claim, Mark, Member, Row, State

Shown = tuple[str, int, bytes, str | None, bool, bool]
"""What a view has to say of a member: status, incarnation, capabilities, and the three marks."""


class Past:
    """A group as it stood at one revision."""

    __slots__ = ("_leader", "_members", "at", "claims", "marks", "revision", "rows", "until")

    def __init__(
        self,
        at: float,
        revision: int,
        rows: Mapping[str, Row],
        marks: Mapping[str, Mark],
        claims: Mapping[str, Claim],
    ) -> None:
        self.at = at
        self.until = math.inf
        self.revision = revision
        self.rows = dict(rows)
        self.marks = dict(marks)
        self.claims = dict(claims)
        self._leader: Row | str | None = "unknown"
        self._members: dict[str, Shown] | None = None

    @property
    def leader(self) -> Row | None:
        """The up row that has stood longest; none while a claim of earlier standing is there."""
        if isinstance(self._leader, str):
            best: Row | None = None
            for row in self.rows.values():
                up = row.state is State.UP and row.standing_since > 0
                if up and (best is None or row.standing_since < best.standing_since):
                    best = row
            for claim in self.claims.values():
                if best is not None and 0 < claim.standing_since < best.standing_since:
                    best = None
            self._leader = best
        return self._leader

    @property
    def members(self) -> dict[str, Shown]:
        if self._members is None:
            best: dict[str, tuple[int, int, Row]] = {}
            order = ("up", "unready", "suspect", "down", "left")
            for row in self.rows.values():
                place = (order.index(status(row)), row.incarnation, row)
                if row.member_id not in best or place[:2] < best[row.member_id][:2]:
                    best[row.member_id] = place
            shown: dict[str, Shown] = {}
            for name in [*best, *(name for name in self.marks if name not in best)]:
                mark = self.marks.get(name)
                marks = (mark.disabled, mark.forced_down, mark.expelled) if mark else (None, False, False)
                if name in best:
                    row = best[name][2]
                    shown[name] = (status(row), row.incarnation, row.capabilities, *marks)
                else:
                    shown[name] = ("left", 0, b"", *marks)
            self._members = shown
        return self._members


def status(row: Row) -> str:
    return "unready" if row.state is State.UP and not row.ready else str(row.state.value)


def shown_as(member: Member | None) -> Shown | None:
    if member is None:
        return None
    m = member
    return (str(m.status.value), m.incarnation, m.capabilities, m.disabled, m.forced_down, m.expelled)


def short(record: Row | Mark | Claim) -> str:
    revision = record.revision & 0xFFFFFFFF
    match record:
        case Row():
            stands = f" stands {record.standing_since & 0xFFFFFFFF}" if record.standing_since else ""
            return (
                f"{record.key.replace(chr(31), '/')} #{record.incarnation & 0xFFFFFFFF} r{revision} "
                f"{status(record)}{stands} {record.instance} in {record.session}"
            )
        case Mark():
            what = [
                record.disabled and "disabled",
                record.forced_down and "forced",
                record.expelled and "expelled",
            ]
            return f"[{record.member_id} {' '.join(w for w in what if w)}]"
        case Claim():
            return f"[{record.key.replace(chr(31), '/')} stood {record.standing_since & 0xFFFFFFFF}]"
