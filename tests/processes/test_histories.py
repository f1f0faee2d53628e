"""Several processes write and read one register, record what they did, and a judge holds the records
together. The judge itself is shown histories that are wrong in one place each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from headcount import stores
from headcount.model import Snapshot
from headcount.stores.base import Store
from tests.processes.history import Commit, Read, Record, judge, load
from tests.processes.places import on_every_store
from tests.processes.town import ROOT, Town
from tests.processes.writer import GROUP, Writer

WRITERS, OPERATIONS = 5, 400


def founded(store: Store) -> int:
    """Make the group; the revision that it begins with."""
    store.create_group(GROUP)
    found = store.read(GROUP)
    assert isinstance(found, Snapshot)
    return found.revision


@on_every_store
@pytest.mark.parametrize("seed", [1, 2])
def test_what_processes_record_fits_together(town: Town, tmp_path: Path, seed: int) -> None:
    """Revisions follow real time without a gap, every read is the register at one revision, and tokens grow,
    whichever way five processes get into each other's way."""
    start = founded(town.store)
    files = [tmp_path / f"{n}.jsonl" for n in range(WRITERS)]
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.processes.writer"),
                *(town.url, f"w{n}", str(seed * 100 + n), str(OPERATIONS), str(file)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
        )
        for n, file in enumerate(files)
    ]
    try:
        assert [process.wait(90) for process in running] == [0] * WRITERS
    finally:
        for process in running:
            process.kill()
            process.wait()
    records = load(files)
    commits = [r for r in records if isinstance(r, Commit)]
    deltas = [r for r in records if isinstance(r, Read) and r.after is not None]
    assert len(commits) > WRITERS * OPERATIONS / 4
    assert len(deltas) > WRITERS * OPERATIONS / 10
    assert overlapping(commits), "they were never in each other's way, so this shows nothing"
    assert judge(records, start=start, first=start) == []


def overlapping(commits: list[Commit]) -> int:
    """How many commits of different processes were under way at once."""
    by_time = sorted(commits, key=lambda c: c.began)
    return sum(one.who != two.who and two.began < one.ended for one, two in pairwise(by_time))


# ── the judge ──


def good() -> tuple[list[Record], int]:
    """A history that one process after the other has made, so that nothing in it is a matter of luck."""
    store = stores.make(f"memory://{os.urandom(8).hex()}")
    start = founded(store)
    writers = [Writer(store, name, seed) for seed, name in enumerate(("ann", "ben", "cid"))]
    records = [record for _ in range(60) for writer in writers if (record := writer.step()) is not None]
    return records, start


def pick(records: list[Record], kind: type[Record], such: Callable[[Record], bool] = lambda r: True) -> int:
    """The place of a record of this kind in the middle of a history."""
    found = [i for i, record in enumerate(records) if isinstance(record, kind) and such(record)]
    return found[len(found) // 2]


def test_a_good_history_is_found_good() -> None:
    records, start = good()
    assert judge(records, start=start, first=start) == []
    assert sum(isinstance(record, Commit) for record in records) > 60
    assert any(isinstance(record, Read) and record.removed for record in records)
    assert any(isinstance(record, Commit) and record.tokens for record in records)


def swap_two(records: list[Record]) -> None:
    """Two commits, one after the other, with their revisions the wrong way round."""
    places = [i for i, r in enumerate(records) if isinstance(r, Commit) and r.wrote == 1]
    i, j = places[10], places[11]
    one, two = records[i].revision, records[j].revision
    records[i], records[j] = replace(records[i], revision=two), replace(records[j], revision=one)


def lose_one(records: list[Record]) -> None:
    """A commit was answered, and nothing of it is there; or nobody did what is there."""
    del records[pick(records, Commit)]


def share_one(records: list[Record]) -> None:
    """Two commits have one revision."""
    i = pick(records, Commit)
    records.append(replace(records[i], who="dora"))


def skip_one(records: list[Record]) -> None:
    """From one commit on, all revisions are one too high: a number that nothing was written under."""
    i = pick(records, Commit)
    bad = records[i].revision
    for place, record in enumerate(records):
        if record.revision >= bad:
            records[place] = replace(record, revision=record.revision + 1)


def leave_out_a_change(records: list[Record]) -> None:
    """A delta that lacks one row: what two statements in READ COMMITTED did."""
    i = pick(records, Read, lambda r: isinstance(r, Read) and r.after is not None and bool(r.rows))
    read = records[i]
    assert isinstance(read, Read)
    records[i] = replace(read, rows=dict(list(read.rows.items())[1:]))


def leave_out_a_tombstone(records: list[Record]) -> None:
    """A delta that does not say what was removed."""
    i = pick(records, Read, lambda r: isinstance(r, Read) and bool(r.removed))
    read = records[i]
    assert isinstance(read, Read)
    records[i] = replace(read, removed=())


def read_ahead(records: list[Record]) -> None:
    """A snapshot with the rows of a later revision than the one that it says."""
    i = pick(records, Read, lambda r: isinstance(r, Read) and r.after is None)
    earlier = next(
        r for r in reversed(records[:i]) if isinstance(r, Commit) and r.revision < records[i].revision
    )
    records[i] = replace(records[i], revision=earlier.revision)


def read_the_past(records: list[Record]) -> None:
    """A read that shows less than what had been answered before it began."""
    i = pick(records, Read, lambda r: isinstance(r, Read) and r.after is None)
    last = max(record.ended for record in records)
    records[i] = replace(records[i], began=last + 1, ended=last + 2)


def alter_a_mark(records: list[Record]) -> None:
    i = pick(records, Read, lambda r: isinstance(r, Read) and bool(r.marks))
    read = records[i]
    assert isinstance(read, Read)
    records[i] = replace(read, marks=dict.fromkeys(read.marks, "nobody said so"))


def give_a_token_twice(records: list[Record]) -> None:
    places = [i for i, r in enumerate(records) if isinstance(r, Commit) and r.tokens]
    one, two = records[places[3]], records[places[4]]
    assert isinstance(one, Commit) and isinstance(two, Commit)
    records[places[4]] = replace(two, tokens=one.tokens)


@pytest.mark.parametrize(
    ("doctor", "fault"),
    [
        (swap_two, "order"),
        (share_one, "order"),
        (lose_one, "gap"),
        (lose_one, "read"),
        (skip_one, "gap"),
        (leave_out_a_change, "read"),
        (leave_out_a_tombstone, "read"),
        (read_ahead, "read"),
        (alter_a_mark, "read"),
        (read_the_past, "stale"),
        (give_a_token_twice, "token"),
    ],
)
def test_a_doctored_history_is_found_out(doctor: Callable[[list[Record]], None], fault: str) -> None:
    records, start = good()
    doctor(records)
    assert fault in {kind for kind, _ in judge(records, start=start, first=start)}
