"""How long to wait before trying again: twice as long each time, up to a bound, and spread.

Without the spread, all who failed together come back together, and knock the store over again.
The spread is taken from a name, not from chance, so that a simulated run can be repeated.
"""

from __future__ import annotations

from zlib import crc32

from headcount.model import Seconds


class Backoff:
    """Waits of `first`, 2 × `first` … at most `most` seconds, each shortened by up to a half."""

    def __init__(self, first: Seconds, most: Seconds, name: str = "") -> None:
        self._first = first
        self._most = most
        self._name = name
        self._failures = 0

    @property
    def failures(self) -> int:
        return self._failures

    def failed(self) -> Seconds:
        """Count a failure; the seconds to wait after it."""
        self._failures += 1
        whole = min(self._most, self._first * float(1 << min(self._failures - 1, 30)))
        spread = crc32(f"{self._name}/{self._failures}".encode()) / 0xFFFFFFFF
        return whole * (1 - spread / 2)

    def reset(self) -> None:
        self._failures = 0
