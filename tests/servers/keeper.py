"""Runs one server, and never lets it outlive those who asked for it.

      test ── starts, holds the pipe ──► keeper ── starts ──► server ── forks ──► its processes

The kernel says who has died by closing the pipe: then everything below here is killed. A signal tied
to the parent's death (PDEATHSIG) would not do. It is lost when the server changes its user, it goes to
the server alone and not to what it forked, and it comes when the *thread* that started it ends.

Processes that lose their parent become ours (a subreaper's), so a killed postmaster hides none of its
backends, and we end only when all of them have: who waits for the keeper waits for the whole server.

    keeper.py COMMAND ...        runs it, and ends with its exit code
    keeper.py --remove FOLDER    waits for the end, then removes this folder

It is run as a file with the bare interpreter, so it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
LEAVE_S = 2.0
"""What a server may take to leave by itself: then it gives back its shared memory."""


def running() -> dict[int, tuple[int, str]]:
    """Of each process, its parent and its state; zombies run no more."""
    found: dict[int, tuple[int, str]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may itself hold spaces and parentheses.
                state, parent = Path("/proc", entry.name, "stat").read_text().rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    found[int(entry.name)] = int(parent), state
    return found


def descendants(pid: int) -> dict[int, str]:
    """All running processes below this one and their states, parents before their children."""
    everybody = running()
    found = [pid]
    for above in found:  # it grows as we go
        found += [child for child, (parent, _) in everybody.items() if parent == above]
    return {below: everybody[below][1] for below in found[1:]}


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def end_all() -> None:
    """Ask the server to leave at once, and kill what is still there after that."""
    send(descendants(os.getpid()), signal.SIGCONT)
    send(list(descendants(os.getpid()))[:1], signal.SIGQUIT)
    until = time.monotonic() + LEAVE_S
    while below := descendants(os.getpid()):
        if time.monotonic() > until:
            send(below, signal.SIGKILL)
        time.sleep(0.02)


def when_left_alone() -> None:
    os.read(0, 1)
    end_all()


def keep(command: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    server = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, nothing, 0)])
    threading.Thread(target=when_left_alone, daemon=True).start()
    code = 0
    with contextlib.suppress(ChildProcessError):  # there is nobody left
        while True:
            pid, status = os.wait()
            if pid == server:
                code = os.waitstatus_to_exitcode(status)
    # What a wrong clock shares with its children stays in memory if its process is killed.
    for shared in (f"faketime_shm_{server}", f"sem.faketime_sem_{server}"):
        Path("/dev/shm", shared).unlink(missing_ok=True)
    return code


def remove(folder: str) -> None:
    """Again and again, as servers that are about to be killed may still write into it."""
    os.read(0, 1)
    until = time.monotonic() + 3 * LEAVE_S
    while os.path.exists(folder) and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "--remove":
        remove(sys.argv[2])
    else:
        exit_code = keep(sys.argv[1:])
        sys.exit(128 - exit_code if exit_code < 0 else exit_code)
