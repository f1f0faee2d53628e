"""`headcount demo`: five real processes, and what becomes of them.

Nothing is staged. Each worker is a process that runs `headcount lead`; they are killed, frozen and
asked to go by signals of the operating system; what is measured is when an observer, this process,
gets to see it. The demo succeeds only if all of it happens, and within the bounds that Headcount
promises (docs/guarantees.md).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click

from headcount import stores
from headcount.cli.child import LAUNCHER
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import put, table
from headcount.coordinator import Coordinator
from headcount.errors import HeadcountError
from headcount.group import Changes
from headcount.model import Change, Kind, Revision, Snapshot, Status, View
from headcount.stores.base import TickingStore

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

GROUP = "demo"
WORKERS = 5
TTL = 3.0
BEAT = TTL / 3
STARTING = 15.0
"""Seconds for five processes to start; that is Python's time, and the machine's."""
LEAVING = 0.5
"""Seconds until a goodbye has been seen. Half of them are seen within 0.06."""
LATE, QUIET = 0.5, 0.02
"""Seconds to wait for a change that is in the view already; and for more of them."""
BREATH = 2.0
"""Seconds between two scenes, for whoever looks on."""


@click.command()
@click.option("--keep", is_flag=True, help="Keep the folder with the store and the workers' logs.")
@common_options
@pass_setup
def command(setup: Setup, keep: bool) -> None:
    """See five processes live, die and recover, in about half a minute.

    Makes a store of its own in a temporary folder, starts five workers on it, and kills, freezes,
    continues and dismisses some of them. Shows how long it took until the others knew, and what
    Headcount promises. Exits with 0 only if all of it was kept.
    """
    if setup.url is not None:
        raise click.UsageError("The demo makes a store of its own: leave --url out.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    folder = Path(tempfile.mkdtemp(prefix="headcount-demo-"))
    try:
        with Stage.open(plain=setup.json or not sys.stdout.isatty(), silent=setup.json) as stage:
            results = _play(stage, folder)
            stage.pause(0.5)
        _report(setup, results)
    finally:
        if keep:
            click.echo(f"Kept {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(0 if results and all(result.ok for result in results) else 1)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


# ── what happens ──


@dataclass(frozen=True)
class Result:
    """One thing that was to happen: how long it took (None: it did not), and how long it may take."""

    what: str
    took: float | None
    bound: float | None
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.took is not None and (self.bound is None or self.took <= self.bound)


class Failed(Exception):
    """The show cannot go on."""


def _play(stage: Stage, folder: Path) -> list[Result]:
    results: list[Result] = []
    with Town.open(folder, stage) as town:
        stage.say(f"The store is {folder}/headcount.db; ttl {TTL:g} s, one tick a second.")
        try:
            for scene in (_start, _kill, _freeze, _behead, _dismiss):
                results += scene(town)
                stage.pause(BREATH)
        except Failed as failed:
            results.append(Result(str(failed), None, None))
    return results


def _start(town: Town) -> list[Result]:
    town.say(f"Starting {WORKERS} workers, each a process of its own.")
    began = time.monotonic()
    for number in range(1, WORKERS + 1):
        town.start(f"worker-{number}")
    took = town.until(lambda: len(town.view.up) == WORKERS and town.leader_token() > 0, began, STARTING)
    result = Result(f"{WORKERS} processes start and join", took, STARTING)
    if took is None:
        raise Failed(f"{WORKERS} processes start and join: only {len(town.view.up)} did")
    town.say(f"All are here after {took:.1f} s. {town.leader()} leads: it stood first.")
    return [result]


def _kill(town: Town) -> list[Result]:
    """An ordinary member dies without a word."""
    victim = town.ordinary()
    bound, why = town.bound(victim)
    town.say(f"kill -9 {victim}: it cannot say goodbye. Promised: down within {bound:.1f} s{why}.")
    took = town.act(victim, signal.SIGKILL, lambda: town.status(victim) is Status.DOWN, bound)
    town.say(f"{victim} is down after {_s(took)}.")
    return [Result(f"killed {victim} is down", took, bound, why.strip(" ()"))]


def _freeze(town: Town) -> list[Result]:
    """A member stops for longer than its ttl, and then goes on as if nothing had been."""
    victim = town.ordinary()
    bound, why = town.bound(victim)
    town.say(f"kill -STOP {victim}: it lives, but does nothing, as in a long pause.")
    took = town.act(victim, signal.SIGSTOP, lambda: town.status(victim) is Status.DOWN, bound)
    town.say(f"{victim} is down after {_s(took)}.")
    down = Result(f"frozen {victim} is down", took, bound, why.strip(" ()"))
    if took is None:
        return [down]
    town.stage.pause(BREATH)
    before = town.view[victim].incarnation
    back = 2 * BEAT + 1
    town.say(f"kill -CONT {victim}: it finds its session lost, and is to come back by itself.")

    def returned() -> bool:
        return town.status(victim) is Status.UP and town.view[victim].incarnation > before

    took = town.act(victim, signal.SIGCONT, returned, back)
    town.say(f"{victim} is back after {_s(took)}: another life of it, behind the others in the queue.")
    return [down, Result(f"thawed {victim} is back by itself", took, back, "two beats and 1 s")]


def _behead(town: Town) -> list[Result]:
    """The leader dies; the next one takes over, with a higher token."""
    victim, token = town.leader(), town.leader_token()
    if victim is None:
        raise Failed("nobody leads")
    bound, why = town.bound(victim)
    town.say(f"kill -9 {victim}: it leads, with token {token}. The next in line follows.")

    def succeeded() -> bool:
        return town.leader() not in (None, victim) and town.leader_token() > 0

    took = town.act(victim, signal.SIGKILL, succeeded, bound)
    heir, higher = town.leader(), town.leader_token()
    town.say(f"{heir or 'Nobody'} leads after {_s(took)}, with token {higher}.")
    grew = higher > token
    return [
        Result(f"killed {victim} is succeeded", took, bound, why.strip(" ()")),
        Result("the fencing token grew", 0.0 if grew else None, None, f"by {higher - token}" if grew else ""),
    ]


def _dismiss(town: Town) -> list[Result]:
    """A member leaves properly."""
    victim = town.ordinary()
    town.say(f"kill -TERM {victim}: it leaves, and says so.")
    took = town.act(victim, signal.SIGTERM, lambda: town.status(victim) is Status.LEFT, LEAVING)
    town.say(f"{victim} has left, seen after {_s(took)}.")
    code = town.workers[victim].wait(5.0)
    if code != 128 + signal.SIGTERM:
        return [Result(f"{victim} leaves and ends", None, LEAVING, f"it ended with code {code}")]
    return [Result(f"dismissed {victim} has left", took, LEAVING)]


# ── the processes ──


@dataclass
class Worker:
    """One process that runs `headcount lead`, and what it says of itself."""

    name: str
    process: subprocess.Popen[str]
    token: int = 0

    @classmethod
    def start(cls, name: str, url: str, folder: Path) -> Worker:
        """It is killed by the kernel when this process ends, however that may be."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADCOUNT_")}
        with open(folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                [
                    sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), "",
                    sys.executable, "-m", "headcount", "--json", "--url", url,
                    "lead", GROUP, "--as", name, "--ttl", str(TTL),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**environment, "HEADCOUNT_CONFIG": os.devnull},
                process_group=0,
            )  # fmt: skip
        worker = cls(name, process)
        assert process.stdout is not None
        threading.Thread(target=worker._listen, args=[process.stdout], daemon=True).start()
        return worker

    def _listen(self, said: IO[str]) -> None:
        for line in said:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "leading":
                    self.token = int(event["token"])

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int | None:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@dataclass
class Town:
    """The workers, and the group as an observer sees it."""

    folder: Path
    stage: Stage
    url: str
    coordinator: Coordinator
    store: TickingStore
    changes: Changes
    told: Revision
    """Up to which the stage has been told of changes."""
    workers: dict[str, Worker] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, folder: Path, stage: Stage) -> Iterator[Town]:
        url = f"sqlite:///{folder}/headcount.db"
        coordinator = Coordinator(url, member_id="observer", ttl=TTL)
        coordinator.member_id = None
        store = stores.make(url)
        assert isinstance(store, TickingStore)
        with coordinator:
            coordinator.create_group(GROUP)
            store.open()
            group = coordinator.group(GROUP)
            town = cls(folder, stage, url, coordinator, store, group.changes(), group.view().revision)
            stage.show(town)
            try:
                yield town
            finally:
                for worker in town.workers.values():
                    worker.end()
                store.close()

    def start(self, name: str) -> None:
        self.workers[name] = Worker.start(name, self.url, self.folder)

    # ── looking ──

    @property
    def view(self) -> View:
        return self.coordinator.group(GROUP).view()

    def status(self, name: str) -> Status | None:
        member = self.view.get(name)
        return member.status if member else None

    def leader(self) -> str | None:
        leader = self.view.leader
        return leader.member_id if leader else None

    def leader_token(self) -> int:
        """The token under which the leader itself says that it leads."""
        worker = self.workers.get(self.leader() or "")
        return worker.token if worker else 0

    def ordinary(self) -> str:
        """One that is up and does not lead."""
        found = [m.member_id for m in self.view.up if m.member_id != self.leader()]
        if not found:
            raise Failed("nobody is left")
        return random.Random(len(self.workers)).choice(found)

    def bound(self, victim: str) -> tuple[float, str]:
        """Within how many seconds it is to be down when it falls silent now, and why that long."""
        trips = []
        for _ in range(5):
            asked = time.monotonic()
            tick = self.store.tick()
            trips.append(time.monotonic() - asked)
        seconds = (math.ceil(TTL / tick.interval) + 1) * (tick.interval + max(trips)) + 1
        records = self.store.read(GROUP, only=[victim])
        assert isinstance(records, Snapshot)
        if tick.ticker in {row.session for row in records.rows}:
            return seconds + 3, " (it moves the store's clock: 3 s more)"
        return seconds, ""

    # ── telling ──

    def say(self, text: str) -> None:
        """A line of the story, after all that the observer has seen until now: its changes come a little
        later than the view that has them."""
        seen = self.view.revision
        with contextlib.suppress(TimeoutError):
            while True:
                self._tell(self.changes.get(timeout=QUIET if self.told >= seen else LATE))
        self.stage.say(text)

    def _tell(self, change: Change) -> None:
        self.told = max(self.told, change.view.revision)
        self.stage.tell(change)

    # ── acting ──

    def act(self, name: str, number: int, happened: Callable[[], bool], bound: float) -> float | None:
        """Send a signal, and wait until it has happened: the seconds that took, or None."""
        began = time.monotonic()
        self.workers[name].send(number)
        return self.until(happened, began, bound)

    def until(self, happened: Callable[[], bool], began: float, bound: float) -> float | None:
        """Waits a little longer than it may take: late is another thing than never."""
        until = began + bound + 5.0
        while not happened():
            if time.monotonic() > until:
                return None
            with contextlib.suppress(TimeoutError):
                self._tell(self.changes.get(timeout=0.02))
        return time.monotonic() - began


# ── what there is to see ──


class Stage:
    """On a terminal a live table above the story; elsewhere plain lines."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._began = time.monotonic()
        self._live: Live | None = None
        self._town: Town | None = None

    @classmethod
    @contextmanager
    def open(cls, *, plain: bool, silent: bool) -> Iterator[Stage]:
        stage = cls(silent=silent)
        if plain:
            yield stage
            return
        from rich.live import Live

        with Live(get_renderable=stage._table, refresh_per_second=8, transient=True) as live:
            stage._live = live
            yield stage

    def show(self, town: Town) -> None:
        self._town = town

    def say(self, text: str) -> None:
        if self._silent:
            return
        line = f"{time.monotonic() - self._began:5.1f} s  {text}"
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line)
            sys.stdout.flush()

    def tell(self, change: Change) -> None:
        """What the observer sees. On a terminal the table shows it already."""
        if self._live is None and change.kind is not Kind.UPDATED and change.member is not None:
            word = "leads" if change.kind is Kind.LEADER else change.kind.value
            self.say(f"    {change.member.member_id} {word}")

    def pause(self, seconds: float) -> None:
        if not self._silent:
            time.sleep(seconds)

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        found = Table(title=f"headcount watch {GROUP}", title_justify="left", min_width=56)
        for name in ("member", "status", "for", "leads with token"):
            found.add_column(name, no_wrap=True)
        view = self._view()
        colours = {Status.UP: "green", Status.DOWN: "bold red", Status.LEFT: "dim"}
        for name in sorted(view or ()):
            assert view is not None
            member = view[name]
            leads = view.leader is not None and view.leader.member_id == name
            token = self._town.workers[name].token if leads and self._town else 0
            seconds = max(0.0, time.time() - member.since.timestamp())
            colour = colours.get(member.status, "yellow")
            found.add_row(
                Text(name), Text(member.status.value, style=colour), f"{seconds:.0f} s",
                Text(str(token or "…") if leads else "", style="cyan"),
            )  # fmt: skip
        return found

    def _view(self) -> View | None:
        try:
            return self._town.view if self._town is not None else None
        except HeadcountError:  # it is over
            return None


def _report(setup: Setup, results: list[Result]) -> None:
    if setup.json:
        rows: list[dict[str, Any]] = [
            {"what": r.what, "seconds": r.took, "bound": r.bound, "ok": r.ok, "detail": r.detail}
            for r in results
        ]
        put({"ok": all(r.ok for r in results), "results": rows})
        return
    head = ("WHAT HAPPENED", "MEASURED", "BOUND", "", "")
    lines = [
        (
            result.what,
            "" if result.took is not None and result.bound is None else _s(result.took),
            f"{result.bound:.1f} s" if result.bound is not None else "",
            "ok" if result.ok else "NOT KEPT",
            result.detail,
        )
        for result in results
    ]
    click.echo()
    paint = {3: ["green" if result.ok else "red" for result in results]}
    click.echo(table(head, lines, width=None, paint=paint))
    click.echo()
    bad = sum(not result.ok for result in results)
    if bad:
        click.echo(f"{bad} of {len(results)} did not happen as promised. A busy machine can be the cause;")
        click.echo("run it again, with --keep to look at the workers' logs.")
    else:
        click.echo("All of it happened, and within its bound.")


def _s(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "never"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
