"""A private server: its own folder, its own port on loopback, and nothing of it left behind.

             start()                    freeze()
    (folder) ───────► answers questions ────────► takes connections, answers nothing
        ▲  ▲                │   │  ▲                      │
        │  └── stop() ──────┘   │  └────── thaw() ────────┘
        └───── kill() ──────────┘

    discard() from anywhere: no process and no folder is left.

Each server runs below a keeper (see `keeper.py`), which ends it if this process dies.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote, urlencode

from tests.servers import keeper, programs

HOST = "127.0.0.1"
USER = "headcount"
"""Owns the fresh databases, and may do nothing else: a store must not need more."""
PASSWORD = "let me in: 100%/@"  # full of what a URL has to quote
"""Of every user, where passwords are asked for."""

STARTING_S = 60.0
STOPPING_S = 30.0
ROOM = 4 << 30
"""Bytes; a container may have a few megabytes only."""
TRIES = 3
"""How many ports are tried, if somebody else takes the one that was free a moment ago."""

Value = str | int | float | bool
_numbers = count(1)


class ServerError(AssertionError):
    """A server did not do what it was told; its last words are in the message."""


@cache
def scratch(*, on_disk: bool) -> Path:
    """Where the servers of this process live; it is removed when this process is gone.

    In memory where there is room. A database is a few hundred files, and a file system that keeps away
    from what was deleted a moment ago (ext4) makes the next ones ever more slowly, up to 300 ms each.
    """
    folder = Path(tempfile.mkdtemp(prefix="headcount-servers-", dir=None if on_disk else _memory()))
    folder.chmod(0o711)  # the servers' user has to get through
    remover = subprocess.Popen(
        _keeper("--remove", str(folder)), stdin=subprocess.PIPE, start_new_session=True
    )
    atexit.register(_leave, remover)
    return folder


def _leave(remover: subprocess.Popen[bytes]) -> None:
    assert remover.stdin is not None
    remover.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on without us
        remover.wait(10)


def _memory() -> Path | None:
    shared = Path("/dev/shm")
    if os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > ROOM:
        return shared
    return None


def _keeper(*arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", keeper.__file__, *arguments]


def servers_user() -> list[str]:
    """What goes before a command that refuses to run as root."""
    if os.geteuid() != 0:
        return []
    setpriv = programs.find_program("setpriv") or "/usr/bin/setpriv"
    return [str(setpriv), "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def new_folder(name: str, *, owner: str | None, on_disk: bool = False) -> Path:
    folder = scratch(on_disk=on_disk) / f"{name}-{next(_numbers)}"
    folder.mkdir(mode=0o755)
    if owner is not None and os.geteuid() == 0:
        shutil.chown(folder, owner, owner)
    return folder


def copy_template(template: Path, folder: Path) -> None:
    subprocess.run(["cp", "--archive", "--reflink=auto", template, folder], check=True)


def run(command: list[str], *, input_: str = "", **environment: str) -> None:
    """Run a tool to its end; what it said is shown if it fails."""
    done = subprocess.run(
        command,
        input=input_,
        env={**clean_environment(), **environment},
        cwd="/",  # ours may be closed to the servers' user
        capture_output=True,
        text=True,
        timeout=STARTING_S,
        check=False,
    )
    if done.returncode != 0:
        raise ServerError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def clean_environment() -> dict[str, str]:
    """Ours without what would steer a server or its client library from outside."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "MYSQL", "MARIADB", "LC_", "LANG", "FAKETIME", "LD_PRELOAD"))
    }


def free_port() -> int:
    """Below the ports that the kernel gives to outgoing connections: one of those could be taken while a
    server is down, and a client that tries it over and over can even come to be connected to itself."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        # Not the shared generator, which a test may have seeded.
        port = random.SystemRandom().randrange(10_000, max(lowest, 20_000))
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind((HOST, port))
            return port


class Server(ABC):
    """What all servers have in common; the settings are in the words of the server itself."""

    what: ClassVar[str]
    scheme: ClassVar[str]
    stop_signal: ClassVar[int] = signal.SIGTERM
    owner: ClassVar[str | None] = None
    """Who it runs as if we are root, and that is not for it."""

    def __init__(
        self, settings: dict[str, Value], clock_offset: str | None = None, *, on_disk: bool = False
    ) -> None:
        """`clock_offset`, such as "+3600s": how far its clock goes wrong, from the next start on.
        `on_disk`: what it writes has to be written to a disk, because that is what is looked at."""
        self.clock_offset = clock_offset
        self.settings: dict[str, Value] = settings
        """Take effect at the next start."""
        self.folder = new_folder(self.what, owner=self.owner, on_disk=on_disk)
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.port = free_port()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._has_run = False

    # --- what each server has of its own ---

    @abstractmethod
    def _install(self) -> None:
        """Make the data directory."""

    @abstractmethod
    def _configure(self) -> None:
        """Write down the settings; done before each start."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _ask(self) -> None:
        """Ask it something as a client; raises if there is no answer yet."""

    # --- its life ---

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        assert not self.running, f"{self.what} runs already"
        for tries_left in reversed(range(1 if self._has_run else TRIES)):
            self.launch()
            try:
                self.wait_until_it_answers()
                break
            except ServerError:
                if tries_left == 0:
                    self.kill()
                    raise
                self.kill()
                self.port = free_port()
        self._has_run = True
        return self

    def launch(self) -> None:
        """Start it without waiting: who needs others to be there answers once they are."""
        if not self.data.exists():
            self._install()
        self._configure()
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                _keeper(*self._command()),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=clean_environment(),
                start_new_session=True,
            )

    def wait_until_it_answers(self) -> None:
        def answers() -> bool:
            if not self.running:
                raise ServerError(f"{self.what} has ended:\n{self.last_words()}")
            try:
                self._ask()
            except self._not_yet():
                return False
            return True

        self._wait(answers, "does not answer", STARTING_S)

    @abstractmethod
    def _not_yet(self) -> type[Exception]:
        """What a client raises that finds no server, or one that is not ready."""

    def stop(self) -> None:
        """Shut it down as an operator would, and wait until all of it is gone."""
        if self._keeper is None:
            return
        self.thaw()
        keeper.send(list(self.processes())[:1], self.stop_signal)
        self._wait(lambda: not self.running, "does not stop", STOPPING_S)
        self._gone()

    def kill(self) -> None:
        """SIGKILL to all of its processes at once: no goodbye to clients, nothing put in order."""
        if self._keeper is None:
            return

        def killed() -> bool:
            keeper.send(self.processes(), signal.SIGKILL)
            return not self.running

        self._wait(killed, "cannot be killed", STOPPING_S)
        self._gone()

    def _gone(self) -> None:
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._keeper = None

    def restart(self) -> None:
        """Stop it in good order and start it again, on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop all of its processes where they are. The kernel still takes connections for it, and
        acknowledges what is sent; nobody reads it."""

        def frozen() -> bool:
            states = self.processes()
            keeper.send((pid for pid, state in states.items() if state != "T"), signal.SIGSTOP)
            return all(state == "T" for state in states.values())

        self._wait(frozen, "cannot be frozen", STOPPING_S)

    def thaw(self) -> None:
        keeper.send(self.processes(), signal.SIGCONT)

    def discard(self) -> None:
        """End it in whatever state it is, and remove all that it had."""
        self._let_go()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _let_go(self) -> None:
        """The keeper knows what to do when nobody holds its pipe."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait(STOPPING_S)
            self._keeper = None

    # --- looking at it ---

    @property
    def running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    def processes(self) -> dict[int, str]:
        """All processes of this server and their states, its first one first."""
        return keeper.descendants(self._keeper.pid) if self._keeper is not None else {}

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-25:]) if self.log.exists() else ""

    def _wait(self, there: Callable[[], bool], complaint: str, within: float) -> None:
        until = time.monotonic() + within
        while not there():
            if time.monotonic() > until:
                raise ServerError(f"{self.what} {complaint} after {within:.0f} s:\n{self.last_words()}")
            time.sleep(0.02)

    # --- reaching it ---

    def _url(self, user: str, password: str | None, database: str, options: Mapping[str, object]) -> str:
        who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
        query = f"?{urlencode(options, quote_via=quote)}" if options else ""
        return f"{self.scheme}://{who}@{HOST}:{self.port}/{quote(database, safe='')}{query}"

    def _faked(self) -> list[str]:
        """What goes before a command whose clock goes wrong."""
        if self.clock_offset is None:
            return []
        return [
            str(programs.find_program("env")),
            f"LD_PRELOAD={programs.found('faketime')}",
            f"FAKETIME={self.clock_offset}",
            # Waiting is not telling the time: only what the server says of "now" is to change.
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]


def fresh_name() -> str:
    """A name that no other database of this process has, not even on another server."""
    return f"headcount_test_{next(_numbers)}"
