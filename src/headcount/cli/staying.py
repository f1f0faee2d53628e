"""What `join` and `lead` share: waiting for signals, for the command and for the membership at once.

All signals that matter are blocked in every thread and taken one by one by `Signals.wait`, on the main
thread. So nothing interrupts what is half done, none is lost, and a store that does not answer keeps
nobody from ending us: what may take long is done on another thread meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, TypeVar

import click

from headcount.cli.child import Child
from headcount.cli.setup import Setup
from headcount.cli.text import put, shown
from headcount.coordinator import Coordinator
from headcount.engine.identity import boot

T = TypeVar("T")

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
ENDS_US = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
LOOK = 0.2
"""Seconds between looks at the membership, which rings no bell here."""


class RunsACommand(click.Command):
    """`headcount join GROUP … -- COMMAND…`: what follows `--` is not ours to understand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours, theirs = args, []
        if "--" in args:
            at = args.index("--")
            ours, theirs = args[:at], args[at + 1 :]
            if not theirs:
                raise click.UsageError("There is no command after --.", ctx)
        ctx.meta["command"] = tuple(theirs)
        try:
            return super().parse_args(ctx, list(ours))
        except click.UsageError as error:
            if theirs or isinstance(error, click.BadParameter):
                raise
            raise click.UsageError(
                f"{_sentence(error.format_message())} The command to run goes behind --, "
                f"as in: headcount {ctx.info_name} web --as web-1 -- sleep 10",
                ctx,
            ) from error

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!", "?)")) else f"{text}."


class Interrupted(Exception):
    """A signal said that it is enough."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class Doing(Generic[T]):
    """Something that another thread is doing."""

    result: T | None = None
    error: BaseException | None = None
    done: bool = False


class Signals:
    """Blocks them for as long as the process lives; it is about to end anyway when it has no more use
    for this."""

    def __init__(self) -> None:
        # What our parent had ignored (nohup) stays so.
        heard = {number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN}
        self._numbers = {*heard, signal.SIGCHLD}
        # SIGTTOU is blocked, and never waited for: to take a terminal back must not stop us.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*self._numbers, signal.SIGTTOU})

    def wait(self, seconds: float) -> int | None:
        """The next signal; None if none came, or only one that says: look again."""
        found = signal.sigtimedwait(self._numbers, max(0.0, seconds))
        # Python answers with an unset siginfo when it was stopped and continued while it waited.
        return found.si_signo if found is not None and found.si_signo in PASSED_ON else None

    def during(self, call: Callable[[], T]) -> T:
        """Call it on another thread. Raises what it raises, or `Interrupted`, without waiting longer."""
        doing = self.begin(call)
        while not doing.done:
            number = self.wait(0.5)
            if number in ENDS_US:
                raise Interrupted(number)
        if doing.error is not None:
            raise doing.error
        return doing.result  # type: ignore[return-value]  # set, where there is no error

    @staticmethod
    def begin(call: Callable[[], T]) -> Doing[T]:
        """Begin it on another thread; `wait` returns when it is done."""
        doing: Doing[T] = Doing()

        def run() -> None:
            try:
                doing.result = call()
            except BaseException as error:  # noqa: BLE001 - handed to the main thread
                doing.error = error
            doing.done = True
            look_again()

        threading.Thread(target=run, daemon=True, name="headcount-cli").start()
        return doing


def look_again() -> None:
    """Wake the main thread: for this, a signal that it takes anyway and that harms nobody."""
    os.kill(os.getpid(), signal.SIGCHLD)


@dataclass
class Staying:
    """A member of one group, and the command that runs in its name."""

    setup: Setup
    group: str
    coordinator: Coordinator
    command: tuple[str, ...]
    signals: Signals = field(default_factory=Signals)
    child: Child | None = None

    # ── telling ──

    def say(self, event: str, text: str, **more: Any) -> None:
        """To stderr where stdout is the command's, else to stdout."""
        if self.setup.json:
            document = {"event": event, "group": self.group, "member_id": self.coordinator.member_id, **more}
            if self.command:
                import json

                click.echo(json.dumps(document), err=True)
            else:
                put(document)
            return
        click.echo(shown(f"headcount: {text}"), err=bool(self.command))
        (sys.stderr if self.command else sys.stdout).flush()

    # ── joining and leaving ──

    def enter(self, capabilities: bytes, *, stand: bool) -> None:
        """Join, and make the group if there is none."""
        if self.signals.during(lambda: self.coordinator.create_group(self.group)):
            self.say("created", f"created group {self.group!r}")
        self.signals.during(lambda: self.coordinator.join_group(self.group, capabilities, stand=stand))
        self.say("joined", f"{self.coordinator.member_id} has joined {self.group!r}")

    def leave(self) -> None:
        """Say goodbye. Takes 5 s at most; a second signal ends even that."""
        try:
            self.signals.during(self.coordinator.close)
        except Interrupted as interrupted:
            self.exit_now(128 + interrupted.number)

    @staticmethod
    def exit_now(code: int) -> NoReturn:
        sys.stdout.flush()
        os._exit(code)

    # ── the command ──

    def start(self, **environment: str) -> Child:
        settings = self.setup
        self.child = Child(
            self.command,
            {
                "HEADCOUNT_URL": settings.where(),
                "HEADCOUNT_GROUP": self.group,
                "HEADCOUNT_MEMBER_ID": self.coordinator.member_id or "",
                **({"HEADCOUNT_NAMESPACE": settings.namespace} if settings.namespace else {}),
                **environment,
            },
        )
        return self.child

    def stop(self, grace: float) -> int:
        """End the command: SIGTERM, and when `grace` seconds have passed, or a signal says that it
        cannot be quick enough, SIGKILL. How it ended."""
        child = self.child
        assert child is not None
        until = boot() + grace
        if grace > 0:
            child.send(signal.SIGTERM)
        while (code := child.poll(sweep=True)) is None:
            left = until - boot()
            if left <= 0 or self.signals.wait(left) in ENDS_US:
                child.send(signal.SIGKILL)
                until = boot() + LOOK
        self.child = None
        return code
