"""A commit on a database server: alone, or together with all that wait for the same group.

A commit that finds its group locked leaves its wish among the intents, waits for the lock, and carries
out all that wait, each by the law of the register and with an answer of its own. So a crowd that joins
one group at once costs a few syncs of the disk and not one each.

      group free ──► law, rows, on the disk ──► answer
      group busy ──► intent ──► (wait) ──► answered by another: take the answer
                        │                  not yet:            carry out all, in order
                        └── waited too long: take it back, and nothing was written; or it is being carried out
                            by somebody, and the outcome is unknown
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress

from headcount.errors import GroupNotFound, HeadcountError, OutcomeUnknown
from headcount.model import Committed, Expect, Outcome, Refused, SessionId, Write
from headcount.register import apply
from headcount.stores.sql.intents import WANTED, asked, new_id, read_asked, read_outcome, written_outcome
from headcount.stores.sql.lines import Line
from headcount.stores.sql.loading import Loader, sessions_of
from headcount.stores.sql.recording import Corrupt, Group, raise_notices, save
from headcount.stores.sql.speaking import Found, Sql

TOGETHER = 200
"""Intents that are carried out in one commit."""


class Commit:
    def __init__(
        self,
        group: str,
        writes: Sequence[Write],
        expect: Collection[Expect],
        by: SessionId,
        corrupt: Corrupt,
    ) -> None:
        self._group = group
        self._writes = writes
        self._expect = expect
        self._by = by
        self._corrupt = corrupt

    def carry_out(self, line: Line) -> tuple[bool, Outcome]:
        """Whether the group was written to, and the answer."""
        with line.writing(durable=False) as sql:
            found = sql.later("group_if_free", self._group)
            loader = self._loader(sql)
            free = found()
            if free:
                group = Group(*free[0])
                outcome = self._apply(sql, group, loader)
        if not free:
            return self._together(line)
        return isinstance(outcome, Committed) and outcome.revision != group.revision, outcome

    def _loader(self, sql: Sql) -> Loader:
        return Loader(sql, self._group, self._writes, self._expect, self._by)

    def _apply(
        self, sql: Sql, group: Group, loader: Loader, notices: set[SessionId] | None = None
    ) -> Outcome:
        """What the law says of it, and its changes in the tables. `notices`: where those to be raised are
        collected, if it is not the only one in its transaction: all lock them in one order."""
        done = apply(
            loader.records(sql, group, self._corrupt),
            self._group,
            self._writes,
            self._expect,
            revision=group.revision,
            now=time.time(),
            by=self._by,
        )
        if isinstance(done, Refused):
            return done
        if done.revision != group.revision:
            sql.run("keep")
            save(sql, group, done, raising=notices is None)
            if notices is not None:
                notices |= done.notices
        return done.outcome()

    # ── together with others ──

    def _together(self, line: Line) -> tuple[bool, Outcome]:
        if not line.ask("group", self._group):
            raise no_group(self._group)
        intent = new_id()
        with line.writing(durable=False) as sql:
            sql.run("add_intent", intent, self._group, asked(self._writes, self._expect, self._by))
        try:
            return self._turn(line, intent)
        except HeadcountError as error:
            return False, self._taken_back(line, intent, error)

    def _turn(self, line: Line, intent: str) -> tuple[bool, Outcome]:
        """Wait for the group's lock. If by then somebody has carried out ours, take the answer; if not,
        carry out all that wait."""
        with line.writing(durable=False) as sql:
            group = before = _locked(sql, self._group)
            ((told,),) = sql.all("outcome_of", intent)
            answer = None if told is None else read_outcome(told)
            if answer is None:
                notices: set[SessionId] = set()
                commits = self._commits(sql.all("intents", self._group, intent, WANTED, intent, TOGETHER))
                # All their sessions, in one order: the same ones may be entering other groups together.
                sessions = {s for _, commit in commits for s in sessions_of(commit._writes, commit._by)}
                sql.later("alive_of", sql.many(sessions))
                for one, commit in commits:
                    outcome = commit._apply(sql, group, commit._loader(sql), notices)
                    group = Group(*sql.all("group", self._group)[0])
                    if one == intent:
                        answer = outcome
                    else:
                        sql.run("set_outcome", written_outcome(outcome), one)
                raise_notices(sql, notices)
            assert answer is not None, "one's own intent is always among them"
            sql.run("drop_intent", intent)
        return group != before, answer

    def _commits(self, found: Found) -> list[tuple[str, Commit]]:
        """What all ask for. What is not understood is of another release: its asker will carry it out."""
        commits = []
        for one, wish in found:
            with suppress(ValueError):
                commits.append((one, Commit(self._group, *read_asked(wish), self._corrupt)))
        return commits

    def _taken_back(self, line: Line, intent: str, error: HeadcountError) -> Outcome:
        """We wait no longer. What nobody has carried out, nobody will; else here is the answer."""
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
        return read_outcome(told)


def _locked(sql: Sql, name: str) -> Group:
    found = sql.all("group_locked", name)
    if not found:
        raise no_group(name)
    return Group(*found[0])


def no_group(group: str) -> GroupNotFound:
    return GroupNotFound(f"there is no group {group!r} in this store")
