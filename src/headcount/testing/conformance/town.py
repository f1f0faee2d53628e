"""The words in which the laws tell their stories: a town with one group, and people who have sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from headcount.model import (
    Amend,
    Claim,
    Committed,
    Enter,
    Expect,
    Mark,
    Outcome,
    Refusal,
    Refused,
    Remark,
    Revision,
    Row,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Vacate,
    Withdraw,
    Write,
)
from headcount.stores.base import Store
from headcount.testing.conformance.harness import Harness

T = TypeVar("T")

GROUP = "town"


class Town:
    """One group in a store, as somebody sees it who owns nothing there: an operator."""

    def __init__(self, harness: Harness, group: str = GROUP, *, store: Store | None = None) -> None:
        self.harness = harness
        self.group = group
        self.store = store or harness.store()
        self.store.create_group(group)

    def person(self, name: str, *, own_client: bool = False, **about: Any) -> Person:
        """Somebody with a session of their own; the same name again is another life."""
        store = self.harness.store() if own_client else self.store
        return Person(self, store, name, f"{name}.{next(self.harness.lives)}", **about)

    def snapshot(self) -> Snapshot:
        found = self.store.read(self.group)
        assert isinstance(found, Snapshot)
        return found

    @property
    def revision(self) -> Revision:
        return self.snapshot().revision

    def rows(self) -> dict[str, Row]:
        return {row.key: row for row in self.snapshot().rows}

    def row(self, key: str) -> Row:
        return self.rows()[key]

    def marks(self) -> dict[str, Mark]:
        return {mark.member_id: mark for mark in self.snapshot().marks}

    def claims(self) -> tuple[Claim, ...]:
        return self.snapshot().claims

    def propose(self, *writes: Write, expect: Collection[Expect] = ()) -> Outcome:
        """Commit as an operator."""
        return self.store.commit(self.group, writes, expect)

    def mark(self, member_id: str, *, fenced: bool = False, **marks: Any) -> Committed:
        """Set the marks of a member to these, having seen those that are there."""
        seen = self.marks().get(member_id)
        return committed(
            self.propose(
                Remark(member_id=member_id, seen=seen.revision if seen else 0, fenced=fenced, **marks)
            )
        )

    def remove(self, row: Row, **how: bool) -> Committed:
        """Take somebody's row away, as an operator."""
        return committed(self.propose(withdrawing(row, **how)))

    def publish(self, key: str = "plan", capabilities: bytes = b"") -> Row:
        """Write a row that belongs to nobody."""
        enter = Enter(
            key=key,
            member_id=key,
            seen=0,
            session="",
            instance="",
            host="",
            ttl=0,
            capabilities=capabilities,
            stand=False,
        )
        return the_row(self.propose(enter), key)


class Person:
    """One coordinator as a store sees it: a session, and the rows that it owns."""

    def __init__(
        self,
        town: Town,
        store: Store,
        name: str,
        session: SessionId,
        *,
        host: str = "here",
        process: str = "",
        ttl: Seconds | None = None,
    ) -> None:
        self.town = town
        self.store = store
        self.name = name
        self.about = Session(
            id=session,
            instance=f"instance of {name}",
            host=host,
            process=process or session,
            ttl=ttl or town.harness.ttl,
        )
        self.granted = store.open_session(self.about)

    @property
    def session(self) -> SessionId:
        return self.about.id

    def entering(self, key: str | None = None, **more: Any) -> Enter:
        """The message that enters this person, having seen no row."""
        about: dict[str, Any] = {"member_id": self.name, "seen": 0, **more}
        return Enter(
            key=self.name if key is None else key,
            session=self.session,
            instance=self.about.instance,
            host=self.about.host,
            ttl=self.about.ttl,
            **about,
        )

    def enter(self, key: str | None = None, **more: Any) -> Row:
        """Be entered, over whatever row is there; the row."""
        wanted = self.entering(key, **more)
        if not wanted.seen and wanted.key in (rows := self.town.rows()):
            wanted = self.entering(key, **more, seen=rows[wanted.key].revision)
        return the_row(self.propose(wanted), wanted.key)

    def amend(self, row: Row, **changes: Any) -> Row:
        """Change one's own row; the row as it is then."""
        committed(self.propose(amending(row, **changes)))
        return self.town.row(row.key)

    def leave(self, row: Row, **how: bool) -> Committed:
        return committed(self.propose(withdrawing(row, **how)))

    def propose(self, *writes: Write, expect: Collection[Expect] = ()) -> Outcome:
        return self.store.commit(self.town.group, writes, expect, by=self.session)

    def acknowledge(self, claim: Claim) -> Outcome:
        return self.propose(Vacate(claim=claim.key))

    def beat(self) -> int | None:
        """Beat; the notice, or None if the session is lost."""
        return self.store.beat([self.session]).notices[self.session]


def amending(row: Row, **changes: Any) -> Amend:
    return Amend(key=row.key, incarnation=row.incarnation, seen=row.revision, **changes)


def withdrawing(row: Row, **how: bool) -> Withdraw:
    return Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision, **how)


def committed(outcome: Outcome) -> Committed:
    assert isinstance(outcome, Committed), outcome
    return outcome


def refused(outcome: Outcome, reason: Refusal | None = None) -> Refused:
    assert isinstance(outcome, Refused), outcome
    assert reason is None or outcome.reason is reason, outcome
    return outcome


def the_row(outcome: Outcome, key: str) -> Row:
    """The row that a commit wrote under this key."""
    (row,) = [row for row in committed(outcome).rows if row.key == key]
    return row


def at_once(count: int, story: Callable[[int], T]) -> list[T]:
    """Tell a story in that many threads, which start together and know their number; their answers, in
    order. What one raises is raised."""
    start = threading.Barrier(count)
    answers: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait(30)
            answers[number] = story(number)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    assert len(answers) == count, "a thread did not come back"
    return [answers[number] for number in range(count)]


def clients(harness: Harness, count: int) -> Sequence[Store]:
    return [harness.store() for _ in range(count)]
