"""What several processes did to one register, as they recorded it, and the judge of it.

Each operation is one record: who, what was asked, what was answered, and when it began and ended, by the
clock that all processes of a host share. The judge knows nothing of how the register works. It puts the
commits in the order of their revisions, replays them, and asks whether every answer fits:

    order     a commit that ended before another began has the lower revision; no two share one
    no gap    each commit's revision is the one before it plus what it wrote
    reads     each read equals the replay of all commits up to its revision: no more, no less, nothing mixed
    fresh     a read that began after a commit had ended shows it, and never less than an earlier read
    tokens    each standing has a token of its own, above all that came before it
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headcount.model import Committed, Delta, Remark, Row, Snapshot, Withdraw, Write

Shown = dict[str, Any]
"""Key → what is shown there: of a row (state, incarnation, capabilities, token), of a mark its words."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    who: str
    began: float
    ended: float
    revision: int
    wrote: int
    """How many records."""
    rows: Shown = field(default_factory=dict)
    marks: Shown = field(default_factory=dict)
    forgot: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Read:
    who: str
    began: float
    ended: float
    revision: int
    after: int | None = None
    """Of a delta: the revision from which it starts."""
    rows: Shown = field(default_factory=dict)
    marks: Shown = field(default_factory=dict)
    removed: tuple[str, ...] = ()


Record = Commit | Read


# ── recording ──


def shown(row: Row) -> list[Any]:
    return [row.state.value, row.incarnation, row.capabilities.hex(), row.standing_since]


def commit_of(
    who: str, began: float, ended: float, writes: list[Write], outcome: Committed, old: int
) -> Commit:
    """`old`: the token that the row had before, if it is amended."""
    rows, marks, forgot, tokens = {}, {}, [], []
    for row in outcome.rows:
        rows[row.key] = shown(row)
        if row.standing_since not in (0, old):
            tokens.append(row.standing_since)
    for write in writes:
        if isinstance(write, Remark):
            marks[write.member_id] = write.disabled
        elif isinstance(write, Withdraw) and write.forget:
            forgot.append(write.key)
    return Commit(
        who=who,
        began=began,
        ended=ended,
        revision=outcome.revision,
        wrote=len(writes),
        rows=rows,
        marks=marks,
        forgot=tuple(forgot),
        tokens=tuple(tokens),
    )


def commit_seen(who: str, began: float, ended: float, before: Shown, seen: Snapshot) -> Commit:
    """A commit of which no answer has come, as it is found in the register: among the rows of one writer, and
    its own mark, which every commit of it writes last. `before`: what is known to have been shown there."""
    now = {row.key: shown(row) for row in seen.rows}
    rows = {key: value for key, value in now.items() if value != before.get(key)}
    forgot = tuple(key for key in before if key not in now)
    (mark,) = seen.marks
    return Commit(
        who=who,
        began=began,
        ended=ended,
        revision=mark.revision,
        wrote=len(rows) + len(forgot) + 1,
        rows=rows,
        marks={mark.member_id: mark.disabled},
        forgot=forgot,
        tokens=tuple(
            value[-1] for key, value in rows.items() if value[-1] not in (0, before.get(key, [0])[-1])
        ),
    )


def read_of(who: str, began: float, ended: float, answer: Snapshot | Delta) -> Read:
    delta = isinstance(answer, Delta)
    return Read(
        who=who,
        began=began,
        ended=ended,
        revision=answer.revision,
        after=answer.after if isinstance(answer, Delta) else None,
        rows={row.key: shown(row) for row in answer.rows},
        marks={mark.member_id: mark.disabled for mark in answer.marks},
        removed=tuple(key for kind, key in answer.removed if kind == "row") if delta else (),  # type: ignore[union-attr]
    )


def line_of(record: Record) -> str:
    return json.dumps({"kind": type(record).__name__, **record.__dict__}) + "\n"


def load(paths: Iterable[Path]) -> list[Record]:
    kinds: dict[str, type[Record]] = {"Commit": Commit, "Read": Read}
    found: list[Record] = []
    for path in paths:
        for line in path.read_text().splitlines():
            values = json.loads(line)
            kind = kinds[values.pop("kind")]
            for name in ("forgot", "tokens", "removed"):
                if name in values:
                    values[name] = tuple(values[name])
            found.append(kind(**values))
    return found


# ── judging ──

Fault = tuple[Literal["order", "gap", "read", "stale", "token"], str]


def judge(records: Iterable[Record], *, start: int, first: int) -> list[Fault]:
    """What is wrong with a history of a group that was made at revision `start`; `first`: the revision
    after which its first commit counts."""
    records = list(records)
    commits = sorted((r for r in records if isinstance(r, Commit)), key=lambda c: c.revision)
    reads = [r for r in records if isinstance(r, Read)]
    return [
        *_order(commits),
        *_gaps(commits, first),
        *_tokens(commits),
        *_answers(commits, reads, start),
        *_freshness(commits, reads),
    ]


def _order(commits: list[Commit]) -> Iterator[Fault]:
    latest_begin, latest = float("-inf"), None
    for commit in commits:
        # All before it in revisions: none may have begun after this one had ended.
        if latest is not None and commit.ended < latest_begin:
            yield "order", f"{commit} ended before {latest} began, and has the higher revision"
        if latest is not None and commit.revision == latest.revision:
            yield "order", f"{commit} and {latest} share a revision"
        if commit.began > latest_begin:
            latest_begin, latest = commit.began, commit


def _gaps(commits: list[Commit], first: int) -> Iterator[Fault]:
    expected = first
    for commit in commits:
        expected += commit.wrote
        if commit.revision != expected:
            yield "gap", f"{commit} should have revision {expected}"
            expected = commit.revision


def _tokens(commits: list[Commit]) -> Iterator[Fault]:
    newest = 0
    for commit in commits:
        for token in commit.tokens:
            if token <= newest:
                yield "token", f"{commit} has the token {token}, and {newest} was given before it"
            newest = max(newest, token)


def _answers(commits: list[Commit], reads: list[Read], start: int) -> Iterator[Fault]:
    """Replays, and compares at each revision that somebody has read."""
    wanted = {r.revision for r in reads} | {r.after for r in reads if r.after is not None}
    states: dict[int, tuple[Shown, Shown]] = {}
    rows: Shown = {}
    marks: Shown = {}
    if start in wanted:
        states[start] = ({}, {})
    for commit in commits:
        rows.update(commit.rows)
        marks.update(commit.marks)
        for key in commit.forgot:
            rows.pop(key, None)
        if commit.revision in wanted:
            states[commit.revision] = (dict(rows), dict(marks))
    for read in reads:
        if read.revision not in states or (read.after is not None and read.after not in states):
            yield "read", f"{read} is of a revision between two commits"
            continue
        then = ({}, {}) if read.after is None else states[read.after]
        seen_rows = {k: v for k, v in {**then[0], **read.rows}.items() if k not in read.removed}
        seen = (seen_rows, {**then[1], **read.marks})
        if seen != states[read.revision]:
            differ = {
                k for k in seen[0].keys() | rows.keys() if seen[0].get(k) != states[read.revision][0].get(k)
            }
            yield "read", f"{read} is not what the commits made: {sorted(differ) or 'marks'}"


def _freshness(commits: list[Commit], reads: list[Read]) -> Iterator[Fault]:
    """By time: at its begin, a read must show all that had ended."""
    ended = sorted([*((c.ended, c.revision) for c in commits), *((r.ended, r.revision) for r in reads)])
    newest, position = 0, 0
    for read in sorted(reads, key=lambda r: r.began):
        while position < len(ended) and ended[position][0] < read.began:
            newest = max(newest, ended[position][1])
            position += 1
        if read.revision < newest:
            yield "stale", f"{read} began after revision {newest} had been answered"
