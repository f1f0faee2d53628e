"""A fast store, the command run in this process, and the command run as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headcount.cli import cli

INTERVAL = 0.1
TTL = "0.9"


class Shell:
    """`headcount`, as a user would type it, against one store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/headcount.db"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HEADCOUNT_")},
            "HEADCOUNT_URL": self.url,
            "HEADCOUNT_CONFIG": os.devnull,
            "HOME": str(folder),
        }
        for name in ("XDG_STATE_HOME", "COLUMNS", "LINES"):
            self.environment.pop(name, None)
        self.running: list[Running] = []

    def run(self, *arguments: str, code: int = 0, **environment: str) -> Result:
        """Here, in this process; not for `join` and `lead`, which take over the signals."""
        runner = CliRunner(env={**environment, "HEADCOUNT_URL": environment.get("HEADCOUNT_URL", self.url)})
        result = runner.invoke(cli, list(arguments))
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def start(self, *arguments: str, **environment: str) -> Running:
        """As a process of its own, which does not outlive the test."""
        running = Running(list(arguments), {**self.environment, **environment}, self.folder)
        self.running.append(running)
        return running

    def finish(self, *arguments: str, **environment: str) -> Running:
        running = self.start(*arguments, **environment)
        running.ends(within=15)
        return running

    def status(self, group: str, member: str) -> str | None:
        found = {m["member_id"]: m["status"] for m in self.json("members", group)["members"]}
        return found.get(member)


class Running:
    """One process, and what it has said so far."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headcount", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        self.stdout, self.stderr = "", ""
        self._readers = [
            threading.Thread(target=self._read, args=[name], daemon=True) for name in ("stdout", "stderr")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        with getattr(self.process, name) as stream:
            for line in stream:
                setattr(self, name, getattr(self, name) + line)

    @property
    def said(self) -> str:
        return f"stdout:\n{self.stdout}\nstderr:\n{self.stderr}"

    def says(self, text: str, within: float = 10.0) -> None:
        """Waits until it has said so."""
        eventually(lambda: text in self.stdout + self.stderr, within, lambda: f"no {text!r} in {self.said}")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self, within: float = 10.0) -> int:
        """Waits until it has ended. Its exit code."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {within:g} s: {self.process.args!r}\n{self.said}")
        for reader in self._readers:
            reader.join(2.0)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


def eventually(
    so: Callable[[], object], within: float = 10.0, why: Callable[[], str] = lambda: "it never was so"
) -> None:
    until = time.monotonic() + within
    while not so():
        if time.monotonic() > until:
            pytest.fail(why())
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether the process has ended, even if nobody has collected it yet."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell whose store ticks ten times a second."""
    made = Shell(tmp_path)
    made.run("store", "init", "--interval", str(INTERVAL))
    try:
        yield made
    finally:
        for running in made.running:
            running.kill()


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., None]:
    return eventually


@pytest.fixture(name="gone")
def _gone() -> Callable[[int], bool]:
    return gone


@pytest.fixture
def ttl() -> str:
    return TTL


@pytest.fixture(autouse=True)
def hung_up_as_usual() -> Iterator[None]:
    """Whoever runs the tests may ignore SIGHUP (`nohup`, many a CI); a command that is started here must
    not inherit that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
