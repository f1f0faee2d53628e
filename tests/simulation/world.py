"""True time, chance, and the clocks that people have instead.

There is one true time, which nobody in the town can read: the server and every process have clocks
of their own, which run up to 1 % fast or slow, start anywhere, and whose time of day may jump. Events
happen in order of (true time, sequence), so one seed is one story, on every machine.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Generator
from typing import Any

from headcount.model import Moment

DRIFT = 0.01
"""How much faster or slower than true time a clock may run: what the library promises to bear."""

LAST = 3000
"""Lines of the trace that are kept for the report of a failure."""

ROUTINE = ("DoBeat(", "DoAdvance(", "DoSweep(", "tick ")
"""Lines that say nothing by themselves are left out of the report, but for the last few."""

Script = Generator[float, None, None]
"""A story that says how many seconds to wait until it goes on."""


class Broken(AssertionError):
    """A promise was not kept. Run the same seed, on the same commit, to see it again."""

    def __init__(
        self,
        promise: str,
        message: str,
        trace: list[str] | None = None,
        seed: int = -1,
        forced: str = "",
    ) -> None:
        super().__init__(promise, message)
        self._forced = forced
        self.promise = promise
        self.message = message
        self.trace = trace or []
        self.seed = seed

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.promise}: {self.message}",
                *(f"    {line}" for line in telling(self.trace)[-60:]),
                f"To see it again: make sim SEED={self.seed}{self._forced}",
            ]
        )


def telling(lines: list[str]) -> list[str]:
    return [line for line in lines[:-8] if not any(word in line for word in ROUTINE)] + lines[-8:]


class World:
    """True time, the heap of events, the only source of chance, and the trace."""

    def __init__(self, seed: int, *, forced: str = "", record: bool = False) -> None:
        self.seed = seed
        self.forced = forced
        """What was not left to the seed, as `make sim` is told it."""
        self.rng = random.Random(seed)
        self.now = 0.0
        self.faults: Counter[str] = Counter()
        """How often each kind of fault was brought about."""
        self.kept: Counter[str] = Counter()
        """How often each promise was put to the test, and kept."""
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._seq = 0
        self._trace: deque[tuple[float, str, tuple[Any, ...]]] = deque(maxlen=None if record else LAST)
        self.over = False

    def at(self, when: float, what: Callable[..., Any], *args: Any) -> None:
        self._seq += 1
        heapq.heappush(self._heap, (when, self._seq, what, args))

    def after(self, seconds: float, what: Callable[..., Any], *args: Any) -> None:
        self.at(self.now + seconds, what, *args)

    def play(self, script: Script) -> None:
        """Let a story run beside everything else."""
        pause = next(script, None)
        if pause is not None:
            self.after(pause, self.play, script)

    def run(self) -> None:
        heap = self._heap
        while heap and not self.over:
            self.now, _, what, args = heapq.heappop(heap)
            what(*args)

    # ── what is remembered ──

    def note(self, what: str, *details: Any) -> None:
        """A line of the trace; written out only if somebody asks."""
        self._trace.append((self.now, what, details))

    @property
    def lines(self) -> list[str]:
        return [f"{at:10.4f}  {what} {' '.join(map(str, d))}".rstrip() for at, what, d in self._trace]

    def digest(self) -> str:
        return hashlib.blake2b("\n".join(self.lines).encode(), digest_size=16).hexdigest()

    def broken(self, promise: str, message: str) -> Broken:
        return Broken(promise, f"at {self.now:.4f}: {message}", self.lines, self.seed, self.forced)


class HostClock:
    """What one machine takes for the time. It may be told to run at another rate, within the bounds."""

    def __init__(self, world: World, rate: float, offset: float = 0.0, wall: float = 0.0) -> None:
        self._world = world
        self._since, self._boot, self._rate = world.now, offset, rate
        self._ahead = wall
        self.frozen = False
        self.thawed = 0.0
        """What it showed when it was last frozen."""

    @property
    def rate(self) -> float:
        return self._rate

    def boot(self) -> float:
        if self.frozen:
            return self._boot
        return self._boot + (self._world.now - self._since) * self._rate

    def moment(self) -> Moment:
        boot = self.boot()
        return Moment(boot, boot + self._ahead)

    def true(self, boot: float) -> float:
        """The true time at which this clock will show, or has shown, `boot`."""
        return self._since + (boot - self._boot) / self._rate

    def run_at(self, rate: float) -> None:
        assert abs(rate - 1) <= DRIFT + 1e-9
        self._boot, self._since, self._rate = self.boot(), self._world.now, rate

    def jump(self, seconds: float) -> None:
        """The time of day is set."""
        self._ahead += seconds

    def freeze(self) -> None:
        """The machine is frozen from outside: even its clock stands still."""
        self._boot, self._since, self.frozen = self.boot(), self._world.now, True

    def thaw(self) -> None:
        """It goes on, and somebody has set its time of day right."""
        self._ahead += (self._world.now - self._since) * self._rate
        self.thawed = self._boot
        self._since, self.frozen = self._world.now, False


def some_rate(rng: random.Random) -> float:
    """The rate of a clock; mostly as bad as it may be."""
    return 1 + DRIFT * rng.choice((-1, -1, 1, 1, 0, rng.uniform(-1, 1)))
