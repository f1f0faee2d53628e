"""What Headcount writes to the log is written on a thread of its own.

A log handler may block: on a full disk, on a socket, and under eventlet on a green lock that only the
main thread can release. None of that may cost a beat, or be waited for with a lock held.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import Any

from headcount import native

log = logging.getLogger("headcount")

BOUND = 1000
"""Lines that wait to be written; the oldest go first if there are more."""

ATTEMPTS = 3


class Herald:
    def __init__(self) -> None:
        self._lines: deque[tuple[int, str, tuple[Any, ...], Any]] = deque(maxlen=BOUND)
        self._wake = native.threading().Event()
        self._idle = native.threading().Event()
        self._lock = native.threading().Lock()
        self._thread: Any = None

    def say(self, level: int, message: str, *args: object, exc_info: Any = None) -> None:
        """Have this written to the log, soon. Never blocks."""
        self._idle.clear()
        self._lines.append((level, message, args, exc_info))
        with self._lock:
            if self._thread is None:
                self._thread = native.threading().Thread(
                    target=self._run, name="headcount-herald", daemon=True
                )
                self._thread.start()
        self._wake.set()

    def flush(self, timeout: float) -> None:
        """Wait until all that was said is written, or the time is over."""
        if self._lines or not self._idle.is_set():
            self._idle.wait(timeout if self._thread is not None else 0)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._lines:
                self._write(*self._lines.popleft())
            self._idle.set()

    def _write(self, level: int, message: str, args: tuple[Any, ...], exc_info: Any) -> None:
        for _ in range(ATTEMPTS):
            try:
                log.log(level, message, *args, exc_info=exc_info)
            except Exception:  # noqa: BLE001 - a handler that fails is not ours to mend; green locks do so
                native.threading().Event().wait(0.05)
            else:
                return


_herald = Herald()


def say(level: int, message: str, *args: object, exc_info: Any = None) -> None:
    """Have this written to the log, soon, whatever the log's handlers do."""
    _herald.say(level, message, *args, exc_info=exc_info)


def flush(timeout: float = 1.0) -> None:
    """Wait until all that was said is written, or the time is over."""
    _herald.flush(timeout)


def _in_child() -> None:
    global _herald
    _herald = Herald()


os.register_at_fork(after_in_child=_in_child)
