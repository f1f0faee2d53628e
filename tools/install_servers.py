"""Installs the servers that the tests use, where it can: as root, on a system with apt-get.

Elsewhere it says what is missing and how to get it, and the tests skip what they cannot have, or
fail where HEADCOUNT_TEST_REQUIRE demands it. Only programs are wanted, for each test starts servers
of its own: no server of the system's is started, and no database of the system's is made.

It may run under any Python from 3.11 on, before anything else is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.servers import programs

APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", "--quiet", "--yes")
LIMIT_S = 1200.0

START_NOTHING = (Path("/usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n")
"""Debian asks this script before it starts a service; 101 means no."""

MAKE_NO_CLUSTER = (Path("/etc/postgresql-common/createcluster.conf"), "create_main_cluster = false\n")
"""PostgreSQL's package reads this before it makes a database cluster for the system."""

CLUSTER_DEFAULTS = Path("/usr/share/postgresql-common/createcluster.conf")


def main() -> int:
    missing = [what for what in programs.NEEDS if programs.missing(what)]
    if not missing:
        return 0
    packages = " ".join(programs.NEEDS[what].packages for what in missing).split()
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        print(f"Not installed: {', '.join(missing)}. Tests that need them are skipped, unless required.")
        print(f"On Debian: sudo apt-get install --no-install-recommends {' '.join(packages)}")
        return 0
    print(f"Installing for the tests: {' '.join(packages)}", flush=True)
    said = install(packages)
    still = [f"{what}: {why}" for what in missing if (why := programs.missing(what))]
    if not still:
        return 0
    print("\n".join([*said.splitlines()[-25:], "Could not be installed:", *still]))
    return 1 if any(programs.is_required(line.partition(":")[0]) for line in still) else 0


def install(packages: list[str]) -> str:
    """What apt-get said. Whether it came to anything is seen from what is there afterwards."""
    with ExitStack() as stack:
        stack.enter_context(in_place(*START_NOTHING, mode=0o755))
        stack.enter_context(in_place(*MAKE_NO_CLUSTER, then=CLUSTER_DEFAULTS))
        # A list that cannot be refreshed may still do.
        said = apt("update")
        return said + apt("install", "--no-install-recommends", *packages)


def apt(*arguments: str) -> str:
    try:
        done = subprocess.run(
            [*APT, *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get {arguments[0]} was stopped after {LIMIT_S:.0f} s\n"
    return done.stdout


@contextmanager
def in_place(path: Path, text: str, *, mode: int = 0o644, then: Path | None = None) -> Iterator[None]:
    """Has this file there for a while, unless the system has one already; afterwards it is gone again,
    or is what the package itself would have put there (`then`)."""
    if path.exists():
        yield
        return
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    try:
        yield
    finally:
        if then is not None and then.exists():
            shutil.copyfile(then, path)
        else:
            path.unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
