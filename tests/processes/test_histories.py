"""Several processes write and read one register, record what they did, and a judge holds the records
together. The judge itself is shown histories that are wrong in one place each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest

from headcount import stores
from headcount.model import Snapshot
from headcount.stores.base import Store
from tests.processes.history import Commit, Read, Record, commit_seen, judge, load
from tests.processes.member import now
from tests.processes.places import EXPIRING, SERVERS, connections, on_every_server
from tests.processes.town import ROOT, Town, until
from tests.processes.writer import GROUP, Writer, look
from tests.servers.mariadb import MariaDB
from tests.servers.postgresql import PostgreSQL

if TYPE_CHECKING:
    from tests.processes.places import SqlServer

WRITERS, OPERATIONS = 5, 400


def founded(store: Store) -> int:
    """Make the group; the revision that it begins with."""
    store.create_group(GROUP)
    found = store.read(GROUP)
    assert isinstance(found, Snapshot)
    return found.revision


@contextmanager
def writers(
    town: Town, seed: int, operations: int, files: list[Path]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    path = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.processes.writer"),
                *(town.url, f"w{n}", str(seed * 100 + n), str(operations), str(file)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
        )
        for n, file in enumerate(files)
    ]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("town", "seed"),
    [("sqlite", 1), ("sqlite", 2), *((kind, 1) for kind in (*SERVERS, *EXPIRING))],
    indirect=["town"],
)
def test_what_processes_record_fits_together(town: Town, tmp_path: Path, seed: int) -> None:
    """Revisions follow real time without a gap, every read is the register at one revision, and tokens grow,
    whichever way five processes get into each other's way."""
    start = founded(town.store)
    files = [tmp_path / f"{n}.jsonl" for n in range(WRITERS)]
    with writers(town, seed, OPERATIONS, files) as running:
        assert [process.wait(90) for process in running] == [0] * WRITERS
    records = load(files)
    commits = [r for r in records if isinstance(r, Commit)]
    deltas = [r for r in records if isinstance(r, Read) and r.after is not None]
    assert len(commits) > WRITERS * OPERATIONS / 4
    assert len(deltas) > WRITERS * OPERATIONS / 10
    assert overlapping(commits), "they were never in each other's way, so this shows nothing"
    assert judge(records, start=start, first=start) == []


@on_every_server
def test_what_is_recorded_fits_together_whatever_happens_to_the_server(
    own_server: Callable[..., SqlServer], build: Callable[..., Town], tmp_path: Path
) -> None:
    """Writers are stopped and killed; their server is frozen, killed, restarted. What was answered is there,
    in its place; what was not is there once or not at all, and all see it the same way."""
    server = own_server()
    database = server.fresh_database()
    town = build(server.url(database))
    start = founded(town.store)
    files = [tmp_path / f"{n}.jsonl" for n in range(WRITERS)]
    with writers(town, 3, 0, files) as running:
        until(lambda: all(lines(file) > 20 for file in files), lambda: [lines(f) for f in files], 30)

        def all_go_on(them: list[int]) -> None:
            before = [lines(files[n]) for n in them]
            until(
                lambda: all(lines(files[n]) > was + 30 for n, was in zip(them, before, strict=True)),
                lambda: [lines(file) for file in files],
                30,
            )

        running[0].send_signal(signal.SIGSTOP)
        running[1].kill()
        all_go_on([2, 3, 4])
        running[0].send_signal(signal.SIGCONT)
        server.freeze()
        time.sleep(1.5)  # longer than they wait for an answer
        server.thaw()
        for trouble in (
            lambda: (server.kill(), server.start()),
            server.restart,
            lambda: end_connections(server, database),
        ):
            all_go_on([0, 2, 3, 4])
            trouble()
        all_go_on([0, 2, 3, 4])
        for process in running:
            process.terminate()
        assert [process.wait(30) for process in running] == [0, -signal.SIGKILL, 0, 0, 0]
    records = load(files)
    records += last_of_the_killed(town.store, "w1", load(files[1:2]))
    assert len([r for r in records if isinstance(r, Commit)]) > 100
    assert judge(records, start=start, first=start) == []


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def end_connections(server: SqlServer, database: str) -> None:
    """By SIGKILL, where connections have processes, and with one of them all."""
    if isinstance(server, PostgreSQL):
        server.kill_backend(connections(server, database)[-1])
    elif isinstance(server, MariaDB):
        for number in connections(server, database):
            with suppress(pymysql.err.OperationalError):
                server.kill_connection(number)


def last_of_the_killed(store: Store, name: str, records: list[Record]) -> list[Record]:
    """The commit that a writer made of which it could not record the answer, if there is one."""
    known: dict[str, list[object]] = {}
    newest = 0
    for record in records:
        if isinstance(record, Commit):
            newest = record.revision
            known = {key: value for key, value in (known | record.rows).items() if key not in record.forgot}
    seen = look(store, name, [f"{name}-{n}" for n in range(2)])
    if not seen.marks or seen.marks[0].revision == newest:
        return []
    return [commit_seen(name, 0.0, now(), known, seen)]


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
