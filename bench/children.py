"""Other processes: each runs one function of this package, and talks over a pipe.

They are started anew, not forked: a fork would take along the parent's threads' locks and not the threads.
Times that go over the pipe are of CLOCK_MONOTONIC, which all processes of a host share.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

SPAWN = multiprocessing.get_context("spawn")

PATIENCE = 120.0
"""Seconds for which a child may keep us waiting for one message."""


class Child:
    """A process that runs `main(pipe, *args)`. Ends with its `with`, one way or the other."""

    def __init__(self, main: Callable[..., object], *args: object) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_run, args=(theirs, main, args), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, message: object) -> None:
        self.pipe.send(message)

    def hear(self, timeout: float = PATIENCE) -> Any:
        """The next message. Raises `TimeoutError`; what went wrong in the child, goes wrong here."""
        if not self.pipe.poll(timeout):
            raise TimeoutError(f"a child process said nothing for {timeout:g} s")
        message = self.pipe.recv()
        if isinstance(message, BaseException):
            raise message
        return message

    def ask(self, message: object, timeout: float = PATIENCE) -> Any:
        self.tell(message)
        return self.hear(timeout)

    def kill(self) -> float:
        """SIGKILL, and when."""
        at = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        return at

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self.pipe.close()  # whoever waits at the other end sees it, and ends
        self._process.join(5 if kind is None else 0.1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _run(pipe: Connection, main: Callable[..., object], args: tuple[object, ...]) -> None:
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            main(pipe, *args)
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - it is the parent's to hear
            pipe.send(error)
