"""`headcount join`"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from headcount.cli.child import find
from headcount.cli.looking import check_serves
from headcount.cli.setup import SECONDS, Setup, common_options, pass_setup
from headcount.cli.staying import ENDS_US, LOOK, Interrupted, RunsACommand, Staying
from headcount.engine.settings import CONFLICTS, check_id

OUT_CODE = 6
GRACE = 5.0


@dataclass(frozen=True)
class Joining:
    """What `join` and `lead` are told of their member."""

    member: str | None
    ttl: float | None
    on_conflict: str | None
    capabilities: str


def member_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options for these; the command gets them as `joining`."""

    @wraps(command)
    def joins(
        *args: Any,
        member: str | None,
        ttl: float | None,
        on_conflict: str | None,
        capabilities: str,
        **more: Any,
    ) -> None:
        command(*args, joining=Joining(member, ttl, on_conflict, capabilities), **more)

    for option in (
        click.option(
            "--capabilities", metavar="TEXT|@FILE", default="",
            help="What to publish: text, or the bytes of a file.",
        ),
        click.option(
            "--on-conflict", type=click.Choice(CONFLICTS), default=None,
            help="If another process of this host is MEMBER: take its place (take_over, the default), fail, "
            "wait until it has gone (for as long as --timeout says, if it does), or share the name.",
        ),
        click.option(
            "--ttl", type=SECONDS, metavar="SECONDS", default=None,
            help="How long others wait for a sign of life before MEMBER is down (15 s).",
        ),
        click.option("--as", "member", metavar="MEMBER", help="Who joins. Or set HEADCOUNT_MEMBER_ID."),
    ):  # fmt: skip
        option(joins)
    return joins


@click.command(cls=RunsACommand)
@click.argument("group")
@member_options
@click.option("--stand", is_flag=True, help="Also be willing to lead.")
@click.option(
    "--grace", type=SECONDS, metavar="SECONDS", default=GRACE,
    help="From SIGTERM to SIGKILL, when the command has to end with the membership (5 s).",
)  # fmt: skip
@click.option("--keep-running", is_flag=True, help="Let the command run on when the membership is lost.")
@common_options
@pass_setup
def command(
    setup: Setup,
    group: str,
    joining: Joining,
    stand: bool,
    grace: float,
    keep_running: bool,
) -> None:
    """Join GROUP as MEMBER, run COMMAND, and leave when it ends. Exits with its exit code.

    Without a COMMAND, the member stays until a signal or Ctrl-C ends it. A group that does not exist is
    created.

    \b
    COMMAND
      gets the signals TERM, INT, HUP, QUIT, USR1 and USR2 that reach headcount
      finds HEADCOUNT_MEMBER_ID, HEADCOUNT_GROUP and HEADCOUNT_URL in its environment
      is ended when MEMBER is superseded, expelled, or was down for the others (exit
        code 6), unless told to --keep-running; what it started ends with it
      is killed when headcount is killed

    \b
    headcount join web --as web-1 --ttl 10 -- ./serve --port 8000
    """
    staying = prepare(setup, group, joining)
    raise SystemExit(_run(staying, published(joining.capabilities), stand, grace, keep_running))


def prepare(setup: Setup, group: str, joining: Joining) -> Staying:
    """Everything that can be wrong with a command line is found here, before anything is touched."""
    context = click.get_current_context()
    check_id(group, "the name of a group")
    coordinator = setup.coordinator(
        member_id=joining.member, ttl=joining.ttl, on_conflict=joining.on_conflict
    )
    if coordinator.member_id is None:
        raise click.UsageError("Say who joins: --as MEMBER, or set HEADCOUNT_MEMBER_ID.")
    to_run: tuple[str, ...] = context.meta["command"]
    if to_run:
        find(to_run)
    check_serves(setup)
    return Staying(setup, group, coordinator, to_run)


def published(capabilities: str) -> bytes:
    if not capabilities.startswith("@"):
        return capabilities.encode()
    try:
        return Path(capabilities[1:]).read_bytes()
    except OSError as error:
        raise click.UsageError(
            f"--capabilities: {capabilities[1:]} cannot be read: {error.strerror}"
        ) from error


def _run(staying: Staying, capabilities: bytes, stand: bool, grace: float, keep_running: bool) -> int:
    try:
        staying.enter(capabilities, stand=stand)
        if staying.command:
            staying.start()
        return _stay(staying, grace, keep_running)
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        if staying.child is not None:
            staying.stop(grace)
        staying.leave()


def _stay(staying: Staying, grace: float, keep_running: bool) -> int:
    """Until the command ends, a signal ends us, or the membership has gone. The exit code."""
    membership = Life(staying)
    protects = bool(staying.command) and not keep_running
    while True:
        number = staying.signals.wait(LOOK)
        child = staying.child
        if child is not None:
            if number is not None:
                child.send(number)
            code = child.poll()
            if code is not None:
                staying.child = None
                return code
        elif number in ENDS_US:
            raise Interrupted(number)
        what = membership.look()
        if (what == "lost" and protects) or (what == "out" and not (keep_running and child)):
            if child is not None:
                staying.say("stopping", f"so {staying.command[0]} is stopped")
                staying.stop(grace)
            return OUT_CODE


class Life:
    """How our membership fares, seen from outside the library, by looking now and then."""

    def __init__(self, staying: Staying) -> None:
        self._staying = staying
        self._incarnation = self._now()[1]
        self._state = "in"

    def look(self) -> str:
        """`in`; `lost`: others take us for gone, and we come back by ourselves; `out`: we do not.
        A loss that was mended before anybody looked is reported once all the same."""
        phase, incarnation, error = self._now()
        before, self._state = self._state, "in"
        if phase in ("out", "barred"):
            self._state = "out"
            if before != "out":
                self._staying.say("out", error or "the membership has ended")
        elif phase != "joined" or incarnation != self._incarnation:
            self._state = "lost"
            name = self._staying.coordinator.member_id
            if before == "in":
                self._staying.say("lost", f"{name} was taken for gone: its session was lost")
            if phase == "joined":
                self._incarnation = incarnation
                self._staying.say("rejoined", f"{name} is back")
        return self._state

    def _now(self) -> tuple[str, int, str]:
        health = self._staying.coordinator.health()
        group = self._staying.group

        def of(name: str, default: object) -> object:
            found = health.get(name)
            return found.get(group, default) if isinstance(found, dict) else default

        return str(of("groups", "out")), int(str(of("incarnations", 0))), str(of("errors", ""))
