"""Where the servers' programs are, and which package brings one that is missing.

Only the standard library is used here: `tools/install_servers.py` asks too, before anything else is
installed.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from glob import glob
from pathlib import Path

SYSTEM = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where Debian puts servers; an ordinary user's PATH leaves these out."""


def find_program(*names: str) -> Path | None:
    """The first of these names that is on PATH, or where a system keeps its servers."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM])
    found = (shutil.which(name, path=path) for name in names)
    return next((Path(program) for program in found if program), None)


def find_postgresql() -> Path | None:
    """The folder with PostgreSQL's programs: Debian keeps them off PATH, in one folder a version."""
    folders = [Path(name) for name in glob("/usr/lib/postgresql/*/bin")]
    folders.sort(key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdecimal()])
    on_path = find_program("initdb")
    if on_path:
        folders.insert(0, on_path.resolve().parent)
    needed = ("initdb", "postgres", "pg_basebackup")
    return next((f for f in reversed(folders) if all((f / name).exists() for name in needed)), None)


def find_mariadb() -> Path | None:
    """The server itself."""
    return find_program("mariadbd") if find_program("mariadb-install-db") else None


def find_java() -> Path | None:
    return find_program("java")


def find_zookeeper() -> Path | None:
    """The server itself, which names in its own manifest what else it needs."""
    jar = Path("/usr/share/java/zookeeper.jar")
    return jar if jar.exists() and find_java() else None


def find_pgbouncer() -> Path | None:
    return find_program("pgbouncer")


def find_faketime() -> Path | None:
    """The library to be loaded before others, in the form for programs with threads."""
    return next((Path(name) for name in sorted(glob("/usr/lib/*/faketime/libfaketimeMT.so.1"))), None)


def find_openssl() -> Path | None:
    return find_program("openssl")


@dataclass(frozen=True)
class Need:
    """What some tests cannot do without."""

    find: Callable[[], Path | None]
    packages: str
    """The Debian packages that bring it."""
    lacks: str


NEEDS = {
    "postgresql": Need(
        find_postgresql,
        "postgresql",
        "initdb, postgres and pg_basebackup are neither on PATH nor in /usr/lib",
    ),
    "mariadb": Need(
        find_mariadb,
        "mariadb-server-core mariadb-client-core",
        "there is no mariadbd, or no mariadb-install-db",
    ),
    "java": Need(find_java, "default-jre-headless", "there is no java"),
    "zookeeper": Need(
        find_zookeeper,
        "zookeeper default-jre-headless",
        "there is no /usr/share/java/zookeeper.jar, or no java",
    ),
    "etcd": Need(lambda: find_program("etcd"), "etcd-server", "there is no etcd"),
    "pgbouncer": Need(find_pgbouncer, "pgbouncer", "there is no pgbouncer"),
    "faketime": Need(find_faketime, "faketime", "there is no libfaketimeMT.so.1 in /usr/lib"),
    "openssl": Need(find_openssl, "openssl", "there is no openssl"),
}
"""By the names that HEADCOUNT_TEST_REQUIRE knows."""


def is_required(what: str) -> bool:
    """Whether HEADCOUNT_TEST_REQUIRE, which is `all` or a list, demands that `what` is here."""
    required = os.environ.get("HEADCOUNT_TEST_REQUIRE", "")
    return required == "all" or what in required.split(",")


def missing(what: str) -> str | None:
    """Why `what` cannot be had here, or None if it can."""
    need = NEEDS[what]
    if need.find() is None:
        return f"{need.lacks} (Debian's packages: {need.packages})"
    if what in ("postgresql", "pgbouncer") and os.geteuid() == 0 and not _is_user("postgres"):
        return f"{what} does not run as root, and there is no user postgres"
    return None


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def found(what: str) -> Path:
    """Where `what` is; it has been asked for before whether it is there at all."""
    where = NEEDS[what].find()
    if where is None:
        raise FileNotFoundError(f"no {what}: {missing(what)}")
    return where
