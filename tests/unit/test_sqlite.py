"""What is particular to SQLite: two files, which people delete, restore, lock and fill.

What every store has to do is in the conformance suite. Ticks are moved here by hand; no test waits
for one.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from headcount import errors
from headcount.model import (
    Amend,
    Census,
    Committed,
    Delta,
    Enter,
    Outcome,
    Refused,
    Session,
    SessionId,
    Snapshot,
    State,
    Tick,
    Withdraw,
)
from headcount.stores.base import TickingStore
from headcount.stores.sql import sqlite_sweep
from headcount.stores.sql.mounts import network_filesystem
from headcount.stores.sql.records import bits, unbits
from headcount.stores.sql.sqlite import SQLiteStore
from headcount.stores.sql.sqlite_errors import translate
from headcount.stores.sql.sqlite_files import directory_locked, split

TTL = 3.0
"""Four ticks of a second: three, and the one more."""

Make = Callable[..., SQLiteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headcount.db"


@pytest.fixture
def make(path: Path) -> Iterator[Make]:
    made: list[SQLiteStore] = []

    def new(at: Path = path, **options: object) -> SQLiteStore:
        store = SQLiteStore(at, **options)  # type: ignore[arg-type]
        made.append(store)
        store.open()
        return store

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(make: Make) -> SQLiteStore:
    return make()


def session(name: str) -> Session:
    return Session(id=name, instance=f"i-{name}", host="h", process=f"p-{name}", ttl=TTL)


def join(store: SQLiteStore, member: str, group: str = "g", *, seen: int = 0) -> Committed:
    """Open a session of the member's name, and enter."""
    store.open_session(session(member))
    store.create_group(group)
    return took(store.commit(group, [entry(member, seen)], by=member))


def entry(member: str, seen: int = 0, **more: object) -> Enter:
    fields = {"key": member, "member_id": member, "seen": seen, "session": member, "instance": f"i-{member}"}
    return Enter(**{**fields, "host": "h", "ttl": TTL, **more})  # type: ignore[arg-type]


def took(outcome: Outcome) -> Committed:
    assert isinstance(outcome, Committed), outcome
    return outcome


def whole(store: SQLiteStore, group: str = "g") -> Snapshot:
    found = store.read(group)
    assert isinstance(found, Snapshot)
    return found


def states(store: SQLiteStore, group: str = "g") -> dict[str, State]:
    return {row.key: row.state for row in whole(store, group).rows}


def pass_ticks(store: SQLiteStore, count: int, *, beating: list[SessionId]) -> Tick:
    """Let time pass in which only these sessions beat; the first of them moves the clock."""
    tick = store.tick()
    for _ in range(count):
        store.beat(beating)
        tick = store.advance(tick, beating[0])
    return tick


def all_of_them(census: Census) -> int:
    return census.overdue


@contextmanager
def written_by_another(path: Path | str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        yield other


# ── the two files, deleted, restored, copied ─────────────────────────────────────────────────────


def test_the_store_is_a_ticking_one(store: SQLiteStore) -> None:
    assert isinstance(store, TickingStore)


def test_who_loses_the_beats_gets_a_whole_ttl_anew(store: SQLiteStore, path: Path) -> None:
    """Without the file of beats nobody knows who is overdue: nobody may be fenced for it."""
    join(store, "a")
    join(store, "b")
    before = pass_ticks(store, 3, beating=["a"])
    for file in path.parent.glob("*-beats*"):
        file.unlink()

    assert store.beat(["a"]).notices == {"a": 0}
    after = store.tick()
    assert after.epoch > before.epoch
    pass_ticks(store, 3, beating=["a"])
    assert store.sweep(all_of_them).fenced == ()
    pass_ticks(store, 1, beating=["a"])
    assert store.sweep(all_of_them).fenced == ("b",)


def test_a_session_without_a_beat_beside_a_life_marker_is_lost(store: SQLiteStore) -> None:
    """It cannot expire either, having no deadline: unless the sweep sees it, it stays up for ever."""
    join(store, "a")
    join(store, "b")
    with written_by_another(f"{store.path}-beats") as beats:
        beats.execute("DELETE FROM beats WHERE session = 'b'")
    assert store.beat(["a", "b"]).notices == {"a": 0, "b": None}
    assert store.sweep(all_of_them).fenced == ("b",)
    assert states(store) == {"a": State.UP, "b": State.DOWN}


def test_a_register_deleted_under_a_running_process_is_made_anew_and_later(
    store: SQLiteStore, path: Path
) -> None:
    """Sessions are lost, and the engine comes back; no revision of the new file is one of the old's."""
    old = join(store, "a").revision
    bell = store.doorbell()
    path.unlink()

    assert bell.wait(1).groups is None
    assert store.beat(["a"]).notices == {"a": None}
    with pytest.raises(errors.GroupNotFound):
        store.commit("g", [entry("a")], by="a")
    assert join(store, "a").revision > old
    bell.close()


def keep_open(path: str, ready: Event, deleted: Event, done: Event) -> None:
    """Another process, which writes to the file that was deleted, and closes it when all is over."""
    old = SQLiteStore(path)
    old.open()
    join(old, "a", "old")
    with old._register.held() as con:
        ready.set()
        deleted.wait(60)
        con.execute("UPDATE meta SET changes = changes + 1")
        con.execute("COMMIT")
    done.wait(60)
    old.close()


def test_what_is_left_of_a_deleted_register_does_not_get_into_the_new_one(make: Make, path: Path) -> None:
    """Its log and its shared memory have names that the new file's would have, and somebody still
    has them open: SQLite would take the one file's pages for the other's."""
    spawn = multiprocessing.get_context("spawn")
    ready, deleted, done = spawn.Event(), spawn.Event(), spawn.Event()
    process = spawn.Process(target=keep_open, args=(str(path), ready, deleted, done))
    process.start()
    assert ready.wait(60)
    path.unlink()
    new = make()
    join(new, "b", "new")
    deleted.set()
    join(new, "c", "new")
    done.set()
    process.join(60)
    assert process.exitcode == 0
    join(new, "d", "new")
    new.close()

    again = make()
    assert again.groups() == ["new"]
    assert set(states(again, "new")) == {"b", "c", "d"}
    with written_by_another(path) as look:
        assert look.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_who_makes_a_file_is_alone_in_its_directory(path: Path) -> None:
    """Two who remove what is left over, and make the file, would remove each other's work."""
    store = SQLiteStore(path)
    opening = threading.Thread(target=store.open)
    with directory_locked(str(path), time.monotonic() + 1):
        opening.start()
        opening.join(0.1)
        assert opening.is_alive()
        assert not path.exists()
    opening.join()
    assert path.exists()
    store.close()


def test_a_restored_copy_begins_a_new_epoch(make: Make, path: Path) -> None:
    """The copy does not know what was written after it was made; whoever read that must start over."""
    store = make()
    join(store, "a")
    backup(path, path.with_suffix(".bak"))
    lost = join(store, "b").revision
    tick = store.tick()
    store.close()
    for leftover in (f"{path}-wal", f"{path}-shm"):
        Path(leftover).unlink(missing_ok=True)
    path.with_suffix(".bak").replace(path)

    restored = make()
    assert whole(restored).revision > lost
    assert isinstance(restored.read("g", lost), Snapshot)
    assert restored.tick().epoch > tick.epoch
    assert restored.beat(["a", "b"]).notices == {"a": 0, "b": None}


def test_an_old_register_written_into_the_file_itself_begins_a_new_epoch(make: Make, path: Path) -> None:
    """The file is the same one, but has fewer changes than the clock has seen."""
    store = make()
    join(store, "a")
    saved = path.with_suffix(".bak")
    backup(path, saved)
    lost = join(store, "b").revision
    pass_ticks(store, 1, beating=["a"])
    store.close()
    shutil.copyfile(saved, path)

    restored = make()
    assert whole(restored).revision > lost
    assert make()._seen == restored._seen, "and only one"


def test_an_operator_begins_a_new_epoch_by_a_word(store: SQLiteStore) -> None:
    old = join(store, "a").revision
    tick = store.tick()
    bell = store.doorbell()
    assert store.new_epoch() << 32 > old
    assert bell.wait(1).groups == {"g": None}
    assert store.tick().epoch > tick.epoch
    assert store.beat(["a"]).notices == {"a": 0}
    bell.close()


def test_an_opened_store_stays_of_one_epoch(make: Make) -> None:
    first, second = make(), make()
    assert first._seen == second._seen
    assert first.tick() == second.tick()


def backup(source: Path, target: Path) -> None:
    with written_by_another(source) as here, written_by_another(target) as there:
        here.backup(there)


# ── the sweep and the beat ───────────────────────────────────────────────────────────────────────


def test_a_sweep_that_dies_between_its_two_commits_has_fenced(
    store: SQLiteStore, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The register is committed, the beats are not: the fence is what a beat meets."""
    join(store, "a")
    join(store, "b")
    pass_ticks(store, 4, beating=["a"])

    def killed(_: sqlite3.Connection) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(store._beats.link, "commit", killed)
        with pytest.raises(SystemExit):
            store.sweep(all_of_them)

    other = make()
    assert other.beat(["a", "b"]).notices == {"a": 0, "b": None}
    assert states(other) == {"a": State.UP, "b": State.DOWN}
    refused = other.commit("g", [entry("b", whole(other).revision)], by="b")
    assert isinstance(refused, Refused)
    other.sweep(all_of_them)
    assert other._beats.link.query("SELECT session FROM beats") == [("a",)]


@pytest.mark.parametrize("where", ["judge", "finish"])
def test_a_sweep_that_dies_before_has_done_nothing(
    store: SQLiteStore, make: Make, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A fence without its rows would be a member that is up, and that nobody will ever expire."""
    join(store, "a")
    join(store, "b")
    pass_ticks(store, 4, beating=["a"])

    def dies(*_: object) -> int:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        if where == "finish":
            patched.setattr(sqlite_sweep.Work, "finish", dies)
        with pytest.raises(SystemExit):
            store.sweep(dies if where == "judge" else all_of_them)
    assert make().beat(["b"]).notices == {"b": 0}
    assert store.sweep(all_of_them).fenced == ()


def test_a_sweep_that_finds_nothing_takes_no_lock(store: SQLiteStore, path: Path) -> None:
    """Every process sweeps at every tick; they must not queue for the register."""
    join(store, "a")
    with written_by_another(path) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store.sweep(all_of_them).fenced == ()


def test_a_locked_register_delays_no_beat_and_no_tick(make: Make, path: Path) -> None:
    """A backup, or a stopped process, may hold the register for minutes."""
    store = make(lock_timeout=0.05)
    join(store, "a")
    with written_by_another(path) as other:
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(10):
            begun = time.monotonic()
            assert store.beat(["a"]).notices == {"a": 0}
            tick = store.tick()
            assert store.advance(tick, "a").number == tick.number + 1
            assert time.monotonic() - begun < 1
        with pytest.raises(errors.StoreUnavailable, match="locked by another process"):
            store.create_group("h")
        assert states(store) == {"a": State.UP}
        other.execute("ROLLBACK")
    assert store.create_group("h")


@pytest.mark.parametrize(("allowed", "answer"), [(1, None), (0, 1)], ids=["fenced", "lapsed"])
def test_a_beat_that_waited_for_a_sweep_finds_what_it_did(
    store: SQLiteStore, make: Make, monkeypatch: pytest.MonkeyPatch, allowed: int, answer: int | None
) -> None:
    """The beat comes while the sweep is between its test and its commit, and waits. If it had looked
    before, it would bring no news, and its owner would trust for a ttl beside the successor."""
    join(store, "a")
    join(store, "b")
    pass_ticks(store, 4, beating=["a"])
    late = make()
    late.beat([])
    answers: list[object] = []
    beating = threading.Thread(target=lambda: answers.append(late.beat(["b"]).notices))
    finish = sqlite_sweep.Work.finish

    def slowly(work: sqlite_sweep.Work) -> None:
        beating.start()
        beating.join(0.2)
        assert beating.is_alive(), "the beat waits"
        finish(work)

    monkeypatch.setattr(sqlite_sweep.Work, "finish", slowly)
    swept = store.sweep(lambda _: allowed)
    assert (swept.fenced, swept.lapsed) == ((("b",), ()) if allowed else ((), ("b",)))
    beating.join()
    assert answers == [{"b": answer}]


# ── what cannot be used ──────────────────────────────────────────────────────────────────────────


def test_a_newer_schema_is_refused_and_both_versions_are_named(
    store: SQLiteStore, make: Make, path: Path
) -> None:
    store.close()
    with written_by_another(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(errors.SchemaMismatch, match=r"version 99.* up to 1\b"):
        make()


def test_another_programs_database_is_refused_and_left_alone(make: Make, path: Path) -> None:
    with written_by_another(path) as theirs:
        theirs.execute("CREATE TABLE recipes (name)")
    before = path.read_bytes()
    with pytest.raises(errors.SchemaMismatch, match="some other program"):
        make()
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused(make: Make, path: Path) -> None:
    path.write_text("dear diary " * 100)
    with pytest.raises(errors.SchemaMismatch, match="not a SQLite database"):
        make()


def test_a_missing_directory_is_named(make: Make, path: Path) -> None:
    """It is a mistake of typing, not an outage: to wait for it would help nobody."""
    with pytest.raises(errors.ConfigError, match=rf"mkdir -p {re.escape(str(path.parent))}/no/such"):
        make(path.parent / "no" / "such" / "file.db")


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A directory that all may look into, and a test that has not root's rights: those of a user to
    whom permissions apply. Root may write to read-only files, so that chmod alone shows nothing."""
    shared = Path(tempfile.mkdtemp())
    shared.chmod(0o755)
    yield shared
    for place in [shared, *shared.rglob("*")]:
        place.chmod(stat.S_IRWXU)
    shutil.rmtree(shared)


@contextmanager
def without_roots_rights() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_store_that_may_not_be_written_can_be_read_and_says_so(as_nobody: Path, make: Make) -> None:
    path = as_nobody / "headcount.db"
    keeps_it_open = make(path)
    join(keeps_it_open, "a")
    for file in as_nobody.iterdir():
        file.chmod(0o444)
    as_nobody.chmod(0o555)
    reader = SQLiteStore(path)
    with without_roots_rights():
        reader.open()
        assert states(reader) == {"a": State.UP}
        with pytest.raises(errors.ReadOnlyStore, match=r"may not read and write"):
            reader.create_group("h")
        with pytest.raises(errors.ReadOnlyStore, match=r"-beats cannot be written"):
            reader.beat(["a"])
    reader.close()


def test_a_store_that_may_not_be_made_says_where(as_nobody: Path) -> None:
    as_nobody.chmod(0o555)
    store = SQLiteStore(as_nobody / "headcount.db")
    with without_roots_rights(), pytest.raises(errors.AccessDenied, match=rf"may not .*{as_nobody}"):
        store.open()
    store.close()


def test_a_full_disk_is_told_and_nothing_is_half_written(store: SQLiteStore) -> None:
    """SQLite's own limit on pages gives the very error of a full disk."""
    join(store, "a")
    con = store._register.get()
    (pages,) = con.execute("PRAGMA page_count").fetchone()
    con.execute(f"PRAGMA max_page_count = {pages}")
    large = Amend(
        key="a", incarnation=whole(store).revision, seen=whole(store).revision, capabilities=b"x" * 60_000
    )
    with pytest.raises(errors.StoreUnavailable, match="disk is full"):
        store.commit("g", [large], by="a")
    assert whole(store).rows[0].capabilities == b""
    con.execute("PRAGMA max_page_count = 100000")
    took(store.commit("g", [large], by="a"))


FRESH = """
import sys
from headcount import errors
from headcount.stores.sql.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
for call in (store.open, store.groups):
    try:
        print(call.__name__, call())
    except errors.HeadcountError as error:
        print(call.__name__, type(error).__name__, error)
"""


@pytest.mark.parametrize("somebody_has_it_open", [True, False])
def test_on_a_full_disk_who_comes_anew_can_read_while_somebody_has_it_open(
    tmp_path: Path, somebody_has_it_open: bool, unavailable: Callable[[str, str], NoReturn]
) -> None:
    """Without PATH-shm, which goes with the last user, even a reader has to write; SQLite calls that an
    I/O error."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], stderr=-3).returncode:
        unavailable("mount", "this user may not mount a small disk to fill")
    store = SQLiteStore(disk / "headcount.db")
    try:
        store.open()
        store.create_group("g")
        if not somebody_has_it_open:
            store.close()
        with suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        found = subprocess.run(
            [sys.executable, "-c", FRESH, disk / "headcount.db"], capture_output=True, text=True, timeout=60
        ).stdout
        assert ("groups ['g']" in found) is somebody_has_it_open, found
        assert (
            found.count("StoreUnavailable")
            == found.count("the disk is full")
            == (0 if somebody_has_it_open else 2)
        ), found
    finally:
        store.close()
        subprocess.run(["umount", disk], check=True)


def test_an_io_error_is_a_full_disk_only_where_there_is_no_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exc = sqlite3.OperationalError("disk I/O error")
    exc.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    assert "disk is full" not in str(translate(exc, str(path), waited=1))
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_bavail=0))
    assert "disk is full" in str(translate(exc, str(path), waited=1))
    unknown = translate(exc, str(path), waited=1, committing=True)
    assert isinstance(unknown, errors.OutcomeUnknown) and "disk is full" in str(unknown)


def test_a_damaged_file_is_no_outage(store: SQLiteStore, path: Path) -> None:
    """To try again would help nobody."""
    store.create_group("g")
    store.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(errors.SchemaMismatch, match=r"is damaged.*integrity_check.*-wal"):
        store.groups()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, errors.OutcomeUnknown),
        (sqlite3.SQLITE_CORRUPT, errors.OutcomeUnknown),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, errors.StoreUnavailable),
        (sqlite3.SQLITE_FULL, errors.StoreUnavailable),
    ],
)
def test_a_commit_that_fails_is_unknown_unless_it_is_certain(code: int, expected: type[Exception]) -> None:
    """After a failed sync the frames may still reach the disk; a lock or a full disk leaves none."""
    exc = sqlite3.OperationalError("said so")
    exc.sqlite_errorcode = code
    assert type(translate(exc, "/x", waited=1, committing=True)) is expected


MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /srv rw,relatime shared:5 - nfs4 filer:/srv rw
31 30 0:41 / /srv/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/my\040share rw - cifs //filer/share rw
33 22 0:43 / /over rw - nfs filer:/over rw
34 33 0:44 / /over rw - tmpfs none rw
35 22 0:45 / /people/ann rw - fuse.sshfs ann@far: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/h.db", None),
        ("/srv/h.db", "nfs4"),
        ("/srvx/h.db", None),
        ("/srv/local/h.db", None),
        ("/mnt/my share/h.db", "cifs"),
        ("/over/h.db", None),
        ("/people/ann/h.db", "fuse.sshfs"),
    ],
)
def test_filesystems_of_the_network_are_told_from_local_ones(path: str, kind: str | None) -> None:
    """The longest mount point that leads to the path counts; of two in one place, the later."""
    found = network_filesystem(path, MOUNTS)
    assert (found[0] if found else None) == kind


def test_a_filesystem_of_the_network_is_refused_when_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headcount.stores.sql.sqlite.on_network", lambda _: ("nfs4", "/srv"))
    with pytest.raises(errors.NotPromised, match=r"/srv.*nfs4"):
        SQLiteStore(path).open()
    assert not path.exists()


def test_the_interval_is_decided_once(make: Make) -> None:
    """One odd node with another interval is two leaders."""
    assert make(interval=0.5).tick().interval == 0.5
    assert make().tick().interval == 0.5
    with pytest.raises(errors.ConfigError, match=r"every 0.5 s, not every 2 s"):
        make(interval=2.0)


@pytest.mark.parametrize("namespace", ["", "a/b", "../x", "x-beats", "x-wal", "x\n"])
def test_a_namespace_must_not_be_another_file(path: Path, namespace: str) -> None:
    with pytest.raises(errors.ConfigError):
        SQLiteStore(path, namespace=namespace)


def test_namespaces_do_not_see_each_other(make: Make) -> None:
    one, other = make(), make(namespace="other")
    one.create_group("g")
    assert (one.groups(), other.groups()) == (["g"], [])


# ── the register ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "damage",
    ["state = 'sideways'", "incarnation = 'many'", "shards = 'x'", "ready = 7", "capabilities = 1.5"],
)
def test_a_row_that_cannot_be_read_is_told_once_and_hides_no_other(
    store: SQLiteStore, path: Path, damage: str
) -> None:
    join(store, "a")
    join(store, "b")
    told: list[str] = []
    store.on_corrupt = told.append
    with written_by_another(path) as other:
        other.execute(f"UPDATE rows SET {damage} WHERE key = 'a'")
    assert set(states(store)) == set(states(store)) == {"b"}
    assert len(told) == 1
    assert "'a' of group 'g'" in told[0]
    took(store.commit("g", [entry("a")], by="a"))
    assert set(states(store)) == {"a", "b"}


def test_a_set_of_shards_comes_back_as_it_was() -> None:
    for shards in (frozenset[int](), frozenset({0}), frozenset({7, 8, 255}), frozenset(range(256))):
        assert unbits(bits(shards)) == shards


def test_a_removed_row_that_is_back_is_not_in_the_delta_as_removed(store: SQLiteStore) -> None:
    row = join(store, "a").rows[0]
    took(
        store.commit(
            "g", [Withdraw(key="a", incarnation=row.incarnation, seen=row.revision, forget=True)], by="a"
        )
    )
    gone = store.read("g", row.revision)
    assert isinstance(gone, Delta)
    assert gone.removed == (("row", "a"),)
    took(store.commit("g", [entry("a")], by="a"))
    back = store.read("g", row.revision)
    assert isinstance(back, Delta)
    assert (back.removed, len(back.rows)) == ((), 1)


def test_history_is_bounded(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_sweep, "HISTORY", 5)
    monkeypatch.setattr(sqlite_sweep, "PRUNE_EVERY", 8)
    join(store, "z", "other")
    seen = join(store, "a").revision
    for _ in range(10):
        seen = took(store.commit("g", [entry("a", seen)], by="a")).revision
    store.sweep(all_of_them)
    assert len(store.history("g", limit=100)) == 5
    assert store.history("g")[-1].revision == seen
    assert len(store.history("other")) == 1


# ── the doorbell ─────────────────────────────────────────────────────────────────────────────────


def test_the_bell_rings_for_deleted_groups_and_not_for_sessions(store: SQLiteStore, make: Make) -> None:
    other = make()
    store.create_group("g")
    bell = store.doorbell()
    other.open_session(session("a"))
    assert bell.wait(0.1).groups == {}
    other.delete_group("g")
    other.create_group("h")
    assert bell.wait(1).groups == {"g": None, "h": None}
    assert bell.wait(0).groups == {}
    bell.close()


def test_the_bell_is_silent_while_the_clock_ticks(store: SQLiteStore) -> None:
    """Ticks and beats are in the other file: an idle watcher reads nothing."""
    join(store, "a")
    bell = store.doorbell()
    pass_ticks(store, 3, beating=["a"])
    assert bell._look() is None
    ((version,),) = bell._link.query("PRAGMA data_version")
    assert version == bell._version
    bell.close()


def test_a_wait_is_ended_from_another_thread_and_later_waits_are_not(store: SQLiteStore) -> None:
    bell = store.doorbell()
    for _ in range(3):
        bell.wake()
    waker = threading.Timer(0.05, bell.wake)
    begun = time.monotonic()
    bell.wait(10)
    waker.start()
    bell.wait(10)
    assert time.monotonic() - begun < 5
    assert bell.wait(0.05).groups == {}
    waker.join()
    bell.close()


# ── several processes ────────────────────────────────────────────────────────────────────────────


def write_some(path: str, member: str, count: int) -> None:
    """What each process does: open, join, and amend."""
    store = SQLiteStore(path, lock_timeout=20)
    store.open()
    seen = join(store, member).rows[0]
    for number in range(count):
        amend = Amend(
            key=member, incarnation=seen.incarnation, seen=seen.revision, capabilities=b"%d" % number
        )
        seen = took(store.commit("g", [amend], by=member)).rows[0]
        assert store.beat([member]).notices == {member: 0}
    store.close()


def test_processes_that_make_and_write_a_store_at_once_do_not_disturb_each_other(
    path: Path, make: Make
) -> None:
    """Four of them find nothing there; each revision is given out once, and none is left out."""
    spawn = multiprocessing.get_context("spawn")
    members = ["a", "b", "c", "d"]
    processes = [spawn.Process(target=write_some, args=(str(path), member, 25)) for member in members]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4

    store = make()
    told = [entry.revision for entry in store.history("g", limit=1000)]
    assert told == list(range(told[0], told[0] + 4 * 26))
    assert {row.key: row.capabilities for row in whole(store).rows} == dict.fromkeys(members, b"24")


# ── the schema, for people ───────────────────────────────────────────────────────────────────────


def test_the_schema_that_is_printed_is_what_is_run() -> None:
    with closing(sqlite3.connect(":memory:")) as con:
        statements = list(split(SQLiteStore.schema_sql()))
        for statement in statements:
            con.execute(statement)
        tables = {name for (name,) in con.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables >= {"meta", "groups", "rows", "marks", "claims", "sessions", "clock", "beats"}
