"""What an error of SQLite means here: told by its code, never by its text, and in this place only."""

from __future__ import annotations

import os
import sqlite3

from headcount.errors import (
    AccessDenied,
    ConfigError,
    HeadcountError,
    OutcomeUnknown,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)

BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
SURE = BUSY | {sqlite3.SQLITE_FULL}
"""After these, a COMMIT has certainly not happened: in WAL mode a commit that meets a lock or a full
disk leaves no frame that anybody will read."""


def primary(exc: sqlite3.Error) -> int:
    """The error's code without its extension; 0 if it has none (a connection that was closed)."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def translate(exc: sqlite3.Error, path: str, *, waited: float, committing: bool = False) -> HeadcountError:
    """Ours for theirs. `waited`: how long SQLite tried to get the lock."""
    code = getattr(exc, "sqlite_errorcode", 0)
    kind = code & 0xFF
    full = kind == sqlite3.SQLITE_FULL or (kind == sqlite3.SQLITE_IOERR and _no_room(path))
    if committing and kind not in SURE:
        return OutcomeUnknown(
            f"{path}: the commit failed ({exc}), and what it wrote may be there or not; "
            f"{'the disk is full' if full else 'the disk may be failing'}"
        )
    if kind in BUSY:
        return StoreUnavailable(
            f"{path} is locked by another process, and was not free within {waited:g} s; if this lasts, "
            f"look for one that is stopped, or that keeps a transaction open (fuser {path})"
        )
    if full:
        return StoreUnavailable(
            f"{path}: the disk is full, and nothing can be written until there is room again"
        )
    if code in (sqlite3.SQLITE_READONLY_DBMOVED, sqlite3.SQLITE_READONLY_ROLLBACK):
        return StoreUnavailable(f"{path} was deleted or moved away while it was open; it will be opened anew")
    if kind == sqlite3.SQLITE_READONLY:
        return ReadOnlyStore(
            f"{path} cannot be written to: {_why_not(path)}. To be a member, or to watch, takes writing: "
            "give this user the right to write the file, PATH-beats beside it, and their directory"
        )
    if kind == sqlite3.SQLITE_CANTOPEN:
        return cannot_open(path)
    if kind in (sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return AccessDenied(f"{path}: {_why_not(path)}")
    if kind == sqlite3.SQLITE_NOTADB:
        return SchemaMismatch(
            f"{path} is not a SQLite database: give another path, or move that file away, "
            "and it will be made anew"
        )
    if kind == sqlite3.SQLITE_CORRUPT:
        return SchemaMismatch(
            f"{path} is damaged ({exc}): stop all that use it, look with "
            f"`sqlite3 {path} 'PRAGMA integrity_check'`, and restore it without the files {path}-wal and "
            f"{path}-shm, or delete the three: members come back by themselves, marks and history are lost"
        )
    if kind == sqlite3.SQLITE_ERROR:
        return SchemaMismatch(f"{path} has not the tables that this release expects ({exc})")
    if not kind:
        return StoreUnavailable(f"{path} is closed")
    return StoreUnavailable(f"{path}: {exc}")


def cannot_open(path: str) -> HeadcountError:
    """Why a file cannot be opened is asked of the filesystem, since SQLite does not say."""
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        return ConfigError(f"the directory {directory} does not exist: make it with `mkdir -p {directory}`")
    if os.path.isdir(path):
        return ConfigError(f"{path} is a directory: name a file in it")
    return AccessDenied(f"{path} cannot be opened: {_why_not(path)}")


def _no_room(path: str) -> bool:
    """Where a file cannot grow for want of room, SQLite mostly says only that reading or writing failed."""
    try:
        return os.statvfs(os.path.dirname(path)).f_bavail == 0
    except OSError:
        return False


def _why_not(path: str) -> str:
    directory = os.path.dirname(path)
    who = f"user {os.geteuid()}"
    right = {"effective_ids": os.access in os.supports_effective_ids}
    for place in (directory, path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(place) and not os.access(place, os.R_OK | os.W_OK, **right):
            if os.statvfs(place).f_flag & os.ST_RDONLY:
                return f"{place} is on a filesystem that is mounted read-only"
            return f"{who} may not read and write {place}"
    return f"{who} may not use it (is the filesystem read-only, or the file immutable?)"
