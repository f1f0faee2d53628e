"""What the doorbells of the database servers have in common: the watcher's connection, a look at what has
changed, and somebody who may wake them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from headcount.model import Ring, Seconds
from headcount.stores.sql.lines import Line, Lines
from headcount.stores.sql.revisions import Revisions
from headcount.stores.sql.waking import Waker

L = TypeVar("L", bound=Line)


class ServerDoorbell(ABC, Generic[L]):
    def __init__(self, lines: Lines[L], poll: Seconds) -> None:
        """A dialect calls it last, for the first look is here. While the server is away it fails, over and
        over, and must leave nothing behind."""
        self._lines = lines
        self._poll = poll
        self._waker = Waker()
        self._revisions = Revisions()
        self._look_at = 0.0
        """When to look again."""
        lines.watched = True
        try:
            self._look()
        except BaseException:
            self._waker.close()
            raise

    @abstractmethod
    def wait(self, timeout: Seconds) -> Ring:
        """As `Doorbell` has it."""

    @abstractmethod
    def _look(self) -> Ring | None:
        """What has changed since the last look, if anything has."""

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._waker.close()
