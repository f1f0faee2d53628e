"""A group as we last read it: records in, views and changes out.

      Snapshot, or Delta from our revision        Delta from elsewhere
    ────────────────────────────────────► view  ◄──────── gap: read all again, and say so
              view minus view ──► changes

A view only ever moves to a higher revision. An answer that is older than what we have is a late one,
and dropped. Where a store that gives deltas answers a request for one with a snapshot, what lay
between is not known: the first change is then an explicit `resync`.

Members are made from rows when somebody looks at them: a group of ten thousand costs its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set

from headcount.core import leadership
from headcount.model import (
    Change,
    Claim,
    Delta,
    Kind,
    Mark,
    Member,
    Revision,
    Row,
    Seconds,
    Snapshot,
    State,
    Status,
    View,
    when,
)

_RANK = {Status.UP: 0, Status.UNREADY: 1, Status.SUSPECT: 2, Status.DOWN: 3, Status.LEFT: 4}

Index = Mapping[str, tuple[Row, ...]]


def status_of(row: Row) -> Status:
    if row.state is State.UP and not row.ready:
        return Status.UNREADY
    return Status(row.state.value)


def member_of(group: str, member_id: str, rows: Iterable[Row], mark: Mark | None) -> Member:
    """One member from its rows: of a shared one, the best status that any of its processes has."""
    row = min(rows, key=lambda row: (_RANK[status_of(row)], row.incarnation), default=None)
    return Member(
        group_id=group,
        member_id=member_id,
        incarnation=row.incarnation if row else 0,
        status=status_of(row) if row else Status.LEFT,
        since=when(row.since if row else mark.since if mark else 0.0),
        capabilities=row.capabilities if row else b"",
        disabled=mark.disabled if mark else None,
        forced_down=mark.forced_down if mark else False,
        expelled=mark.expelled if mark else False,
    )


class Roll(Mapping[str, Member]):
    """The members of one view, each made when it is first looked at; or taken from an earlier view, if
    nothing has happened to it since."""

    __slots__ = ("_earlier", "_group", "_made", "_marks", "_rows", "_touched")

    def __init__(self, group: str, rows: Index, marks: Mapping[str, Mark]) -> None:
        self._group = group
        self._rows = rows
        self._marks = marks
        self._made: dict[str, Member] = {}
        self._earlier: Mapping[str, Member] = {}
        self._touched: Set[str] = frozenset()
        """Of which members the earlier ones are no longer true."""

    def follow(self, before: Roll, touched: Set[str]) -> None:
        """Take over what was made for the view before this one, or for the one before that, if more."""
        if len(before._made) >= len(before._earlier):
            self._earlier, self._touched = before._made, touched
        elif len(before._touched) < len(before._earlier) // 2:
            self._earlier, self._touched = before._earlier, before._touched | touched

    def __getitem__(self, member_id: str) -> Member:
        made = self._made.get(member_id)
        if made is None and member_id not in self._touched:
            made = self._earlier.get(member_id)
            if made is not None:
                self._made[member_id] = made
        if made is None:
            rows, mark = self._rows.get(member_id, ()), self._marks.get(member_id)
            if not rows and mark is None:
                raise KeyError(member_id)
            made = member_of(self._group, member_id, rows, mark)
            self._made[member_id] = made
        return made

    def __iter__(self) -> Iterator[str]:
        yield from self._rows
        yield from (member for member in self._marks if member not in self._rows)

    def __len__(self) -> int:
        return len(self._rows) + sum(member not in self._rows for member in self._marks)


class Replica:
    """One group as this process knows it."""

    def __init__(self, group: str, now: Callable[[], Seconds], *, deltas: bool = True) -> None:
        self.group = group
        self.asked_at = float("-inf")
        """When the read left whose answer we hold."""
        self.view: View | None = None
        self._shown: View | None = None
        self._roll: Roll | None = None
        self.leader: Row | None = None
        self.claims: dict[str, Claim] = {}
        self.touched: set[str] = set()
        """The members of which the last answer said something new."""
        self.missing = False
        """Whether the store last said that there is no such group."""
        self._now = now
        self._deltas = deltas
        self._rows: dict[str, Row] = {}
        self._marks: dict[str, Mark] = {}
        self._index: dict[str, tuple[Row, ...]] = {}
        self._suspects: set[str] = set()
        self._confirmed = [float("-inf")]
        self._trouble: str | None = None

    @property
    def revision(self) -> Revision | None:
        """What the next read is to ask after; None: everything."""
        return self.view.revision if self.view is not None and self._deltas else None

    def of(self, member_id: str) -> Snapshot:
        """The records of one member, as far as this replica has read."""
        mark = self._marks.get(member_id)
        return Snapshot(
            group=self.group,
            revision=self.view.revision if self.view is not None else 0,
            rows=self._index.get(member_id, ()),
            marks=(mark,) if mark else (),
            claims=tuple(claim for claim in self.claims.values() if claim.member_id == member_id),
        )

    def apply(self, answer: Snapshot | Delta, asked_at: Seconds) -> list[Change] | None:
        """Take an answer in; what it changed. None: a gap, read everything."""
        old = self.view.revision if self.view is not None else -1  # an empty view is false
        if answer.revision < old:
            return []
        if isinstance(answer, Delta) and answer.after != old:
            return None if answer.after > old else []
        self.asked_at = max(self.asked_at, asked_at)
        self.missing = False
        self.touched = set()
        if answer.revision == old:
            self.confirm(asked_at)
            return []
        resync = isinstance(answer, Snapshot) and self.view is not None and self._deltas
        self.touched = self._whole(answer) if isinstance(answer, Snapshot) else self._part(answer)
        return self._turn(answer.revision, self.touched, resync=resync)

    def confirm(self, at: Seconds) -> None:
        """The store says, of `at`, that the view is how the group stands."""
        self._confirmed[0] = max(self._confirmed[0], at)

    def trouble(self, why: str | None) -> list[Change]:
        """Something beyond the register makes what we show doubtful; None: no longer."""
        if why == self._trouble:
            return []
        self._trouble = why
        return self._turn(self.view.revision, set(), resync=False) if self.view is not None else []

    def vanish(self, asked_at: Seconds) -> list[Change]:
        """The store says that there is no such group (any more)."""
        self.missing = True
        self.asked_at = max(self.asked_at, asked_at)
        gone, self.view, self.leader, self._roll = self.view, None, None, None
        self._rows, self._marks, self.claims, self._index = {}, {}, {}, {}
        self._suspects = set()
        if gone is None:
            return []
        # What the group has when it is made again is told as new: it was shown to be empty.
        self._shown = View(self.group, gone.revision, {}, confirmed=[asked_at], now=self._now)
        return [Change(kind=Kind.RESYNC, view=self._shown)]

    def _whole(self, answer: Snapshot) -> set[str]:
        rows = {row.key: row for row in answer.rows}
        marks = {mark.member_id: mark for mark in answer.marks}
        touched = {row.member_id for key, row in self._rows.items() if rows.get(key) != row}
        touched |= {row.member_id for key, row in rows.items() if self._rows.get(key) != row}
        touched |= {member for member, mark in self._marks.items() if marks.get(member) != mark}
        touched |= {member for member, mark in marks.items() if self._marks.get(member) != mark}
        self._rows, self._marks = rows, marks
        self.claims = {claim.key: claim for claim in answer.claims}
        index: dict[str, tuple[Row, ...]] = {}
        for row in rows.values():
            index[row.member_id] = (*index.get(row.member_id, ()), row)
        self._index = index
        self._suspects = {key for key, row in rows.items() if row.state is State.SUSPECT}
        return touched

    def _part(self, answer: Delta) -> set[str]:
        index, self._marks = dict(self._index), dict(self._marks)
        touched = {mark.member_id for mark in answer.marks}
        for kind, key in answer.removed:
            if kind == "row" and key in self._rows:
                gone = self._rows.pop(key)
                self._suspects.discard(key)
                touched.add(gone.member_id)
                _reindex(index, gone.member_id, key, None)
            elif kind == "mark":
                self._marks.pop(key, None)
                touched.add(key)
            elif kind == "claim":
                self.claims.pop(key, None)
        for row in answer.rows:
            self._rows[row.key] = row
            (self._suspects.add if row.state is State.SUSPECT else self._suspects.discard)(row.key)
            touched.add(row.member_id)
            _reindex(index, row.member_id, row.key, row)
        self._marks.update({mark.member_id: mark for mark in answer.marks})
        self.claims.update({claim.key: claim for claim in answer.claims})
        self._index = index
        return touched

    def _turn(self, revision: Revision, touched: set[str], *, resync: bool) -> list[Change]:
        """Make the next view, and take the old one from it."""
        old, seat = self._shown, _seat(self.leader)
        roll, before = Roll(self.group, self._index, self._marks), self._roll
        if before is not None:
            roll.follow(before, touched)
        self._roll = roll
        self._read_leader()
        self._confirmed = [max(self.asked_at, self._confirmed[0])]
        self.view = self._shown = view = View(
            self.group,
            revision,
            roll,
            leader=roll[self.leader.member_id] if self.leader else None,
            degraded=self._why_degraded(),
            confirmed=self._confirmed,
            now=self._now,
        )
        if old is None:
            return []
        changes = [Change(kind=Kind.RESYNC, view=view)] if resync else []
        for member_id in sorted(touched):
            changes += differences(old.get(member_id), view.get(member_id), view, old.revision)
        if seat != _seat(self.leader):
            changes.append(Change(kind=Kind.LEADER, view=view, member=view.leader, before=old.leader))
        if bool(old.degraded) != bool(view.degraded):
            changes.append(Change(kind=Kind.DEGRADED if view.degraded else Kind.STEADY, view=view))
        return changes

    def _read_leader(self) -> None:
        """Later standings are higher: while the leader's row is as it was, it leads still."""
        led = self.leader
        if led is not None and self._rows.get(led.key) is led and not self.claims:
            return
        self.leader = leadership.leader(self._rows.values(), self.claims.values())

    def _why_degraded(self) -> str | None:
        if self._trouble is not None:
            return self._trouble
        if self._suspects:
            return (
                f"{len(self._suspects)} of its members are overdue but held back by the guard: "
                "so many at once looks like a fault of the store or the network"
            )
        return None


def differences(old: Member | None, new: Member | None, view: View, since: Revision) -> list[Change]:
    """What happened to one member between two views, of which the older is that of revision `since`.

    A life that began after `since` followed another; one that is older was there all along, and was
    only not the one that was shown: a shared member has several."""

    def change(kind: Kind, member: Member | None = new, before: Member | None = old) -> Change:
        return Change(kind=kind, view=view, member=member, before=before)

    if old is None and new is None:
        return []
    was, is_ = _here(old), _here(new)
    changes: list[Change] = []
    if was and is_ and old is not None and new is not None and old.incarnation < new.incarnation > since:
        changes += [change(Kind.LEFT, old), change(Kind.JOINED)]  # gone and back between two reads
    elif was and not is_:
        changes.append(change(_ending(new)))
    elif is_ and not was:
        changes.append(change(Kind.JOINED))
    if _marks(old) != _marks(new):
        changes.append(change(Kind.MARKED))
    return changes or ([change(Kind.UPDATED)] if old != new else [])


def _here(member: Member | None) -> bool:
    """Whether it has joined, ready or not."""
    return member is not None and not member.forced_down and _RANK[member.status] < _RANK[Status.DOWN]


def _ending(new: Member | None) -> Kind:
    return Kind.LEFT if new is None or new.status is Status.LEFT else Kind.DOWN


def _marks(member: Member | None) -> tuple[str | None, bool, bool]:
    return (member.disabled, member.forced_down, member.expelled) if member else (None, False, False)


def _seat(row: Row | None) -> tuple[str, Revision] | None:
    """Who leads under which token: to lead anew is a change too."""
    return (row.key, row.standing_since) if row else None


def _reindex(index: dict[str, tuple[Row, ...]], member_id: str, key: str, row: Row | None) -> None:
    others = tuple(other for other in index.get(member_id, ()) if other.key != key)
    rows = (*others, row) if row is not None else others
    if rows:
        index[member_id] = rows
    else:
        index.pop(member_id, None)
