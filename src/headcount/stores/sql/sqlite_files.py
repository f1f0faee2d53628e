"""SQLite's files: opening them, making what is missing, and noticing when they are not the same any more.

A `Link` is one connection to one file. Each time it is used it compares the file that the path leads to
with the one that it has open (one `stat`, about 1.5 µs), because people delete, restore and replace
files under running processes, and SQLite would go on writing to a file without a name. If they differ
it opens the path anew, and makes the file if it is missing.

Who makes a file holds a lock on the *directory* while doing so. It removes PATH-wal and PATH-shm
first: left over from a deleted file, and perhaps still open elsewhere, they would be taken for the
new file's own and damage it. Migrations run under the same lock, so that openers never meet half a
schema. Nothing of this is taken when the file is there and up to date, which is nearly always.

Never open these files in another way: closing any descriptor of a file drops the locks that SQLite
holds on it in this process.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal
from urllib.parse import quote

from headcount import native
from headcount.errors import HeadcountError, SchemaMismatch, StoreUnavailable
from headcount.stores.sql.sqlite_errors import BUSY, cannot_open, primary, translate
from headcount.stores.sql.statements import migrations

OPENING = 5.0
"""Seconds for which opening waits for others who open, make or migrate the same file."""

FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.005
"""Seconds between one try to get a file's write lock and the next."""

APPLICATION_ID = 0x48636E74
"""Stands in the file's header and says that it is ours: `Hcnt`."""

Synchronous = Literal["FULL", "NORMAL"]


class Link:
    """One connection to one of the files, opened when it is first used. For one thread at a time."""

    def __init__(
        self,
        path: str,
        part: str,
        *,
        synchronous: Synchronous,
        timeout: float,
        found: Callable[[sqlite3.Connection], object] | None = None,
        settle: Callable[[sqlite3.Connection], object] | None = None,
    ) -> None:
        """`part` names the migrations. `found` fills a new file in the transaction that makes its
        schema; `settle` looks at each file that is opened, and may refuse it."""
        self.path = path
        self.opened = 0
        """How often it has been opened: a reader that remembers something of the file compares this."""
        self._part = part
        self._synchronous = synchronous
        self._timeout = timeout
        self._found = found
        self._settle = settle
        self._never = native.threading().Event()
        self._con: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    # ── using it ──

    def get(self) -> sqlite3.Connection:
        """The connection to the file that the path leads to now."""
        if self._con is None or not self.current():
            self.close()
            self._con = self._open()
        return self._con

    def current(self) -> bool:
        """Whether the path still leads to the file that is open."""
        return self._file is not None and file_at(self.path) == self._file

    def query(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """The rows that one statement finds, over the connection as it stands: no look at the path,
        so that it can be asked while another file is locked."""
        if self._con is None:
            raise StoreUnavailable(f"{self.path} is not open")
        try:
            return self._con.execute(sql, values).fetchall()
        except sqlite3.Error as exc:
            raise self.translate(exc) from exc

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One snapshot for all that is read within."""
        con = self.get()
        with self._translated():
            con.execute("BEGIN")
            try:
                yield con
            finally:
                _end(con)

    @contextmanager
    def held(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the file's only write lock from its beginning; undone, unless it was
        committed within. A plain BEGIN would meet the lock in the middle, where waiting cannot help."""
        con = self.get()
        with self._translated():
            self._lock(con)
            try:
                yield con
            finally:
                _end(con)

    def _lock(self, con: sqlite3.Connection) -> None:
        """SQLite itself sleeps up to 0.1 s between one try and the next: where several processes commit
        all the time, the lock lies free for much of that, and some of them do not get it for seconds."""
        until = time.monotonic() + self._timeout
        pause = FIRST_PAUSE
        con.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    con.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError as exc:
                    if primary(exc) not in BUSY or time.monotonic() >= until:
                        raise
                self._never.wait(pause)  # `time.sleep` may be patched, and this waits in a native thread
                pause = min(1.5 * pause, LONGEST_PAUSE)
        finally:
            con.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The same, and committed at its end, unless something was raised."""
        with self.held() as con:
            yield con
            self.commit(con)

    def commit(self, con: sqlite3.Connection) -> None:
        try:
            con.execute("COMMIT")
        except sqlite3.Error as exc:
            _end(con)
            raise self.translate(exc, committing=True) from exc

    def translate(self, exc: sqlite3.Error, *, committing: bool = False) -> HeadcountError:
        return translate(exc, self.path, waited=self._timeout, committing=committing)

    def close(self) -> None:
        if self._con is not None:
            with suppress(sqlite3.Error):
                self._con.close()
        self._con = self._file = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise self.translate(exc) from exc

    # ── opening it ──

    def _open(self) -> sqlite3.Connection:
        until = time.monotonic() + OPENING
        while True:
            try:
                con = self._try_open(until)
            except sqlite3.Error as exc:
                # While the last user of a file closes it, or the first one recovers it, SQLite
                # answers BUSY without having waited.
                if primary(exc) not in BUSY or time.monotonic() > until:
                    raise self.translate(exc) from exc
                con = None
            if con is not None:
                self.opened += 1
                return con
            if time.monotonic() > until:
                raise StoreUnavailable(
                    f"{self.path} is replaced again and again, or locked, while it is opened"
                )
            time.sleep(0.01)

    def _try_open(self, until: float) -> sqlite3.Connection | None:
        """None: the file changed while it was opened."""
        before = file_at(self.path)
        if before is None:
            with directory_locked(self.path, until):
                if file_at(self.path) is None:
                    for leftover in (f"{self.path}-wal", f"{self.path}-shm"):
                        with suppress(FileNotFoundError):
                            _unlink(leftover)
                con = self._connect("rwc")
                return self._kept(con, lambda: self._migrate(con), file_at(self.path))
        con = self._connect("rw")
        return self._kept(con, lambda: self._checked(con, until), before)

    def _kept(
        self, con: sqlite3.Connection, prepare: Callable[[], object], before: tuple[int, int] | None
    ) -> sqlite3.Connection | None:
        try:
            prepare()
            self._file = file_at(self.path)
            if self._file is not None and before in (None, self._file):
                if self._settle is not None:
                    self._settle(con)
                con.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
                return con
        except BaseException:
            self._file = None
            con.close()
            raise
        con.close()
        return None

    def _connect(self, mode: str) -> sqlite3.Connection:
        con = sqlite3.connect(
            f"file:{quote(self.path)}?mode={mode}",
            uri=True,
            timeout=OPENING,
            isolation_level=None,
            check_same_thread=False,
        )
        con.execute(f"PRAGMA synchronous = {self._synchronous}")
        con.execute("PRAGMA trusted_schema = OFF")
        con.execute("PRAGMA cache_size = -500")
        return con

    def _checked(self, con: sqlite3.Connection, until: float) -> None:
        if not self._up_to_date(con) or con.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            with directory_locked(self.path, until):
                self._migrate(con)

    def _up_to_date(self, con: sqlite3.Connection) -> bool:
        """Whether the schema is this release's. Raises `SchemaMismatch` if it can never be."""
        version, application = _header(con)
        newest = migrations(self._part)[-1].number
        if application not in (0, APPLICATION_ID) or (application == 0 and _has_tables(con)):
            raise SchemaMismatch(
                f"{self.path} is the database of some other program: give a path of its own to Headcount"
            )
        if version > newest:
            raise SchemaMismatch(
                f"{self.path} has schema version {version}, and this release of Headcount knows up to "
                f"{newest}: a newer release has migrated it; upgrade this one"
            )
        return version == newest

    def _migrate(self, con: sqlite3.Connection) -> None:
        self._up_to_date(con)
        if con.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise StoreUnavailable(
                f"{self.path}: this filesystem cannot share memory, which SQLite's WAL needs"
            )
        for migration in migrations(self._part):
            con.execute("BEGIN IMMEDIATE")
            try:
                version, _ = _header(con)
                if version < migration.number:
                    for statement in split(migration.sql):
                        con.execute(statement)
                    if version == 0 and self._found is not None:
                        self._found(con)
                    con.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    con.execute(f"PRAGMA user_version = {migration.number}")
                con.execute("COMMIT")
            finally:
                _end(con)


def split(script: str) -> Iterator[str]:
    """The statements of a script, one by one: `executescript` would commit what is open first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def directory_locked(path: str, until: float) -> Iterator[None]:
    """Alone among those who make or migrate files in the directory of `path`."""
    try:
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise cannot_open(path) from exc
    try:
        while True:
            try:
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > until:
                    raise StoreUnavailable(
                        f"another process has been making {path} for {OPENING:g} s"
                    ) from exc
            time.sleep(0.01)
        yield
    finally:
        os.close(directory)


def file_at(path: str) -> tuple[int, int] | None:
    """Which file the path leads to. Its number is not used again while anybody has it open."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def history_id(path: str) -> str:
    """Which file this is, over its whole life: its inode and when that was born. An inode's number alone
    is used again at once by many filesystems, so that a deleted and restored file could have the
    same one. Where no time of birth is kept, the device stands in for it."""
    device, inode = file_at(path) or (0, 0)
    born = born_at(path)
    return f"{inode}@{born}" if born else f"{device}:{inode}"


def born_at(path: str) -> int | None:
    """When the file was made, in nanoseconds, by statx(2), which Python does not have."""
    statx = getattr(ctypes.CDLL(None), "statx", None)
    answer = (ctypes.c_uint64 * 32)()
    here, btime = -100, 0x800
    if statx is None or statx(here, os.fsencode(path), 0, btime, answer) != 0:
        return None
    asked_and_given = answer[0] & btime
    seconds, nanoseconds = answer[10], answer[11] & 0xFFFFFFFF
    return seconds * 1_000_000_000 + nanoseconds if asked_and_given else None


def _header(con: sqlite3.Connection) -> tuple[int, int]:
    (version,) = con.execute("PRAGMA user_version").fetchone()
    (application,) = con.execute("PRAGMA application_id").fetchone()
    return version, application


def _has_tables(con: sqlite3.Connection) -> bool:
    return con.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _end(con: sqlite3.Connection) -> None:
    """Leave the transaction, if there still is one: SQLite itself ends some that fail."""
    if con.in_transaction:
        with suppress(sqlite3.Error):
            con.execute("ROLLBACK")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except PermissionError as exc:
        raise cannot_open(path) from exc
