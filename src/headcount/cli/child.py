"""The command that `join` and `lead` run: in a process group of its own, and never longer than we live.

      headcount ─── starts ───► launcher ─── exec ───► COMMAND and what it starts
          │                                                  ▲
          ├── signals that reach us, and the end ────────────┤   to the whole process group
          └── killed with SIGKILL: the kernel kills ─────────┘   the command itself (PDEATHSIG)

A process group of its own, so that what the command has started ends with it: killing a shell alone
would leave behind what runs under it. On a terminal that makes us what a shell is: we hand the
terminal over, stop when the command is stopped (Ctrl-Z), and hand it over again when we go on.

The launcher is a few lines of Python that become the command. To run them in a forked copy of this
process (`preexec_fn`) is not safe, because the library has threads here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

import click

LAUNCHER = """
import ctypes, os, signal, sys
parent, terminal, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != parent:
    os._exit(137)
if terminal:
    os.tcsetpgrp(0, os.getpgrp())
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.stderr.write(f"headcount: cannot run {command[0]}: {error.strerror}\\n")
    os._exit(127 if isinstance(error, FileNotFoundError) else 126)
"""
"""Signals come blocked, so that none meets the launcher half-way; its last act lets them through. What
Python ignores for itself, the command must not inherit; what our own parent ignored (nohup), it must."""


class Child:
    """A running command."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._terminal = _Terminal()
        self._popen = subprocess.Popen(
            [
                sys.executable, "-I", "-S", "-c", LAUNCHER,
                str(os.getpid()), "terminal" if self._terminal.ours else "", *command,
            ],
            env={**os.environ, **environment},
            process_group=0,
        )  # fmt: skip
        self.pid = self._popen.pid

    def poll(self, *, sweep: bool = False) -> int | None:
        """Its exit code, 128 + n if signal n ended it; None while it runs. Also stops us if it has
        been stopped from the terminal. `sweep`: when it has ended, kill what it left in its group."""
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        if found.si_code == os.CLD_STOPPED:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
            self._terminal.stop_with(self.pid, found.si_status)
            return None
        if sweep:
            self.send(signal.SIGKILL)  # before it is waited for, while its group's number is still its own
        self._terminal.take_back()
        code = self._popen.wait()
        return 128 - code if code < 0 else code

    def send(self, number: int) -> None:
        """A signal to the command and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
            if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                os.killpg(self.pid, signal.SIGCONT)  # who is stopped cannot hear


class _Terminal:
    """The terminal that we were started on, if we have it."""

    def __init__(self) -> None:
        self.ours = False
        with contextlib.suppress(OSError, ValueError):
            self.ours = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()

    def take_back(self) -> None:
        if self.ours:
            with contextlib.suppress(OSError):  # it may have hung up
                os.tcsetpgrp(0, os.getpgrp())

    def stop_with(self, pid: int, number: int) -> None:
        """The command was stopped: so are we, until somebody continues us, and then it goes on."""
        if number not in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU):
            return  # somebody stopped it by itself, and will know why
        self.take_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        with contextlib.suppress(OSError, ProcessLookupError):
            self.ours = os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
            if self.ours:
                os.tcsetpgrp(0, pid)
            os.killpg(pid, signal.SIGCONT)


def find(command: Sequence[str]) -> None:
    """Complain about a command that cannot be run before anything is joined for its sake."""
    name = command[0]
    if shutil.which(name) is not None:
        return
    there = os.sep in name and os.path.exists(name)
    click.echo(
        f"headcount: cannot run {name!r}: {'it is not executable' if there else 'there is no such command'}",
        err=True,
    )
    raise SystemExit(126 if there else 127)
