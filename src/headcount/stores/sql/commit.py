"""Commits on a database server: alone, or together with all that wait for the same group.

Who finds the group locked leaves what it asks among the intents, waits for the lock, and carries out all
that wait, each by the law of the register and with answers of its own. So a crowd that joins one group at
once costs a few syncs of the disk and not one each.

      group free ──► law, rows, on the disk ──► answers
      group busy ──► intent ──► (wait) ──► answered by another: take the answers
                        │                  not yet:            carry out all, in order
                        └── waited too long: take it back, and nothing was written; or it is being carried out
                            by somebody, and the outcome is unknown
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from headcount.errors import GroupNotFound, HeadcountError, OutcomeUnknown
from headcount.model import Outcome, Wish
from headcount.register import Ledger, apply_all
from headcount.stores.sql.intents import WANTED, asked, new_id, read_asked, read_outcomes, written_outcomes
from headcount.stores.sql.lines import Line
from headcount.stores.sql.loading import Loader
from headcount.stores.sql.recording import Corrupt, Group, save
from headcount.stores.sql.speaking import Found, Sql

TOGETHER = 500
"""Wishes that are carried out in one commit, and one's own."""

INTENTS = 50
"""Of how many who wait: each may ask for much, and all of it is read and locked."""

Intent = tuple[str, list[Wish]]


class Commit:
    """What one client asks of one group."""

    def __init__(self, group: str, wishes: Sequence[Wish], corrupt: Corrupt) -> None:
        self._group = group
        self._wishes = wishes
        self._corrupt = corrupt

    def carry_out(self, line: Line) -> tuple[bool, list[Outcome]]:
        """Whether the group was written to, and the answers."""
        with line.writing(durable=False) as sql:
            found = sql.later("group_if_free", self._group)
            loader = Loader(sql, self._group, self._wishes)
            free = found()
            if free:
                group = Group(*free[0])
                done, outcomes = self._apply(sql, group, loader, self._wishes)
        if not free:
            return self._together(line)
        return done.revision != group.revision, outcomes

    def _apply(
        self, sql: Sql, group: Group, loader: Loader, wishes: Sequence[Wish]
    ) -> tuple[Ledger, list[Outcome]]:
        """What the law says of it, and its changes in the tables."""
        records = loader.records(sql, group, self._corrupt)
        done, outcomes = apply_all(records, self._group, wishes, revision=group.revision, now=time.time())
        if done.revision != group.revision:
            sql.run("keep")
            save(sql, group, done)
        return done, outcomes

    # ── together with others ──

    def _together(self, line: Line) -> tuple[bool, list[Outcome]]:
        if not line.ask("group", self._group):
            raise no_group(self._group)
        intent = new_id()
        with line.writing(durable=False) as sql:
            sql.run("add_intent", intent, self._group, asked(self._wishes))
        try:
            return self._turn(line, intent)
        except HeadcountError as error:
            return False, self._taken_back(line, intent, error)

    def _turn(self, line: Line, intent: str) -> tuple[bool, list[Outcome]]:
        """Wait for the group's lock. If by then somebody has carried out ours, take the answers; if not,
        carry out all that wait."""
        with line.writing(durable=False) as sql:
            group = _locked(sql, self._group)
            moved = False
            ((told,),) = sql.all("outcome_of", intent)
            if told is None:
                waiting = self._waiting(sql.all("intents", self._group, intent, WANTED, intent, INTENTS))
                wishes = [wish for _, several in waiting for wish in several]
                done, outcomes = self._apply(sql, group, Loader(sql, self._group, wishes), wishes)
                moved = done.revision != group.revision
                answers = _dealt(waiting, outcomes)
                mine = answers.pop(intent)
                sql.each("set_outcome", [(written_outcomes(to), one) for one, to in answers.items()])
            else:
                mine = read_outcomes(told)
            sql.run("drop_intent", intent)
        return moved, mine

    @staticmethod
    def _waiting(found: Found) -> list[Intent]:
        """What all ask for, as much as goes into one commit; one's own comes first. What is not understood
        is of another release: its asker will carry it out."""
        waiting: list[Intent] = []
        room = TOGETHER
        for one, wish in found:
            with suppress(ValueError):
                wishes = read_asked(wish)
                room -= len(wishes)
                if waiting and room < 0:
                    break
                waiting.append((one, wishes))
        return waiting

    def _taken_back(self, line: Line, intent: str, error: HeadcountError) -> list[Outcome]:
        """We wait no longer. What nobody has carried out, nobody will; else here are the answers."""
        try:
            with line.writing() as sql:
                found = sql.all("outcome_locked", intent)
                sql.run("drop_intent", intent)
        except HeadcountError as other:
            raise OutcomeUnknown(
                f"{error}; and what was asked may have been carried out by somebody else"
            ) from other
        if not found and isinstance(error, OutcomeUnknown):
            raise error
        ((told,),) = found or [(None,)]
        if told is None:
            raise error
        return read_outcomes(told)


def _dealt(waiting: Sequence[Intent], outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """To each who waited, the answers to what it asked."""
    answers, given = {}, iter(outcomes)
    for one, wishes in waiting:
        answers[one] = [next(given) for _ in wishes]
    return answers


def _locked(sql: Sql, name: str) -> Group:
    found = sql.all("group_locked", name)
    if not found:
        raise no_group(name)
    return Group(*found[0])


def no_group(group: str) -> GroupNotFound:
    return GroupNotFound(f"there is no group {group!r} in this store")
