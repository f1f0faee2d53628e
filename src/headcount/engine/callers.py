"""Callers: the application's threads, which wait for the hub's and never for the store itself.

Some have a call that the watcher's thread carries out for them (`Jobs`), some wait until something is so
(`Waiters`). Both are used with the hub's lock held, but for `Job.run`, which is the call itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from headcount import native
from headcount.core.backoff import Backoff
from headcount.engine.identity import boot
from headcount.errors import HeadcountError, OutcomeUnknown
from headcount.stores.base import Store

T = TypeVar("T")

EVERYBODY = ""
"""Stands where others have a coordinator: these waiters are asked whatever moved."""


class Job(Generic[T]):
    """One call of the application, carried out by the watcher thread. It looks before it writes, so
    that it may be repeated while the store does not answer and its caller waits."""

    def __init__(self, call: Callable[[Store], T], until: float, owner: str = "") -> None:
        self.call = call
        self.until = until
        self.owner = owner
        self.not_before = 0.0
        self.done = native.threading().Event()
        self.given_up = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self._retry = Backoff(0.02, 0.5)

    def run(self, store: Store) -> bool:
        """Whether it is over."""
        try:
            result = self.call(store)
        except ConnectionError as error:
            if self.done.is_set():
                return True  # cancelled meanwhile
            self.error = error
            self.not_before = boot() + self._retry.failed()
            if self.not_before < self.until and not self.given_up:
                return False
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            self.fail(error)
        else:
            if not self.done.is_set():
                self.result, self.error = result, None
        self.done.set()
        return True

    def fail(self, error: BaseException) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


def in_doubt(write: Callable[[Store], bool]) -> Callable[[Store], bool]:
    """A write that says whether it has changed anything, for a job, which may be repeated. If nobody knows
    of an earlier try, what is so now may be its work."""
    doubted = False

    def told(store: Store) -> bool:
        nonlocal doubted
        try:
            return write(store) or doubted
        except OutcomeUnknown:
            doubted = True
            raise

    return told


class Jobs:
    """The calls that wait for the watcher's thread, each in turn."""

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()
        self.running: Job[Any] | None = None
        """The one that is being carried out."""

    def add(self, job: Job[Any]) -> None:
        self._jobs.append(job)

    def take(self) -> Job[Any] | None:
        """The next one whose time has come."""
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            if job.given_up or job.done.is_set():
                continue
            if job.not_before <= boot():
                self.running = job
                return job
            self._jobs.append(job)
        return None

    def ran(self, job: Job[Any], *, over: bool) -> None:
        """It was carried out, or is to be tried again."""
        self.running = None
        if not over:
            self._jobs.append(job)

    def cancel(self, owner: str, error: HeadcountError) -> None:
        """End all calls of one coordinator."""
        for job in (*self._jobs, *([self.running] if self.running is not None else [])):
            if job.owner == owner:
                job.fail(error)

    def soonest(self) -> float | None:
        """When there is one to carry out; None: none waits."""
        return min((max(boot(), job.not_before) for job in self._jobs), default=None)

    def refuse(self, error: HeadcountError) -> None:
        """The store cannot be opened: whoever is refused hears it at once, others when time is up."""
        waiting, self._jobs = self._jobs, deque()
        for job in waiting:
            if isinstance(error, ConnectionError) and boot() < job.until and not job.given_up:
                job.error = error
                self._jobs.append(job)
            else:
                job.fail(error)

    def end(self, error: HeadcountError) -> None:
        while self._jobs:
            self._jobs.popleft().fail(error)


class Waiter:
    """Somebody who waits until something is so."""

    def __init__(self, predicate: Callable[[], bool]) -> None:
        self.predicate = predicate
        self.event = native.threading().Event()

    def ask(self) -> None:
        if not self.event.is_set() and self.predicate():
            self.event.set()


class Waiters:
    """By the coordinator on which it depends whether they wait on. To ask all of them each time that
    anything has moved would cost the square of their number."""

    def __init__(self) -> None:
        self._waiters: dict[str, list[Waiter]] = {}

    def add(self, waiter: Waiter, whose: str) -> None:
        self._waiters.setdefault(whose, []).append(waiter)

    def remove(self, waiter: Waiter, whose: str) -> None:
        self._waiters[whose].remove(waiter)
        if not self._waiters[whose]:
            del self._waiters[whose]

    def ask(self, moved: Iterable[str] | None) -> None:
        """Ask those of these coordinators, and those that depend on nobody; None: ask all."""
        asked = list(self._waiters) if moved is None else [EVERYBODY, *moved]
        for whose in asked:
            for waiter in self._waiters.get(whose, ()):
                waiter.ask()
