"""`headcount lead`

A leader may act until its trust ends, which each beat that the store takes moves on. So the command
has to be gone by then, and not only asked to go:

      beat taken          the next ones fail                       trust ends
    ──────●───────────────────────────────┬──────────────────┬─────────┤
          │         COMMAND runs          │ TERM    grace    │ KILL    │  others may lead
                                          └ trust left = grace + SPARE
"""

from __future__ import annotations

import threading

import click

from headcount.cli.join import OUT_CODE, Joining, Life, member_options, prepare, published
from headcount.cli.setup import SECONDS, Setup, common_options, pass_setup
from headcount.cli.staying import ENDS_US, LOOK, Interrupted, RunsACommand, Staying, look_again
from headcount.core.session import margin_of
from headcount.errors import ConfigError
from headcount.group import Group, Term

GRACE = 5.0


@click.command(cls=RunsACommand)
@click.argument("group")
@member_options
@click.option(
    "--grace", type=SECONDS, metavar="SECONDS", default=None,
    help="From SIGTERM to SIGKILL, both before the leadership ends (5 s, or less with a short ttl).",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Exit when the first leadership ends, with code 6.")
@common_options
@pass_setup
def command(
    setup: Setup,
    group: str,
    joining: Joining,
    grace: float | None,
    once: bool,
) -> None:
    """Join GROUP as MEMBER, and run COMMAND whenever MEMBER leads: on one member at a time.

    The command is started when the leadership begins, and stopped before it ends, also when the store
    does not answer any more. Then MEMBER waits to lead again, behind the others. When the command ends
    by itself, headcount leaves and exits with its exit code.

    \b
    COMMAND
      finds HEADCOUNT_TOKEN in its environment, besides what `join` gives it: a number that
        grows with every leadership. Whatever it writes to should refuse a lower one than
        it has seen: that alone stops a leader that was frozen and does not know it yet
      is killed at once, without SIGTERM, if the leadership has ended already
      is killed when headcount is killed

    Without a COMMAND, it only says when it leads and when it does not.

    \b
    headcount lead web --as web-1 -- ./rotate-the-logs --for-ever
    """
    lasts = setup.settings(member_id=joining.member, ttl=joining.ttl).ttl
    patience = _patience(lasts, grace)
    staying = prepare(setup, group, joining)
    raise SystemExit(_run(staying, published(joining.capabilities), patience, spare(lasts), once))


def spare(ttl: float) -> float:
    """Seconds that a SIGKILL is given to be carried out."""
    return min(0.1, ttl / 20)


def most_grace(ttl: float) -> float:
    """What is left if one beat in two fails: with more grace the command would be stopped for nothing."""
    return ttl / 2 - margin_of(ttl) - spare(ttl)


def _patience(ttl: float, grace: float | None) -> float:
    most = most_grace(ttl)
    if most <= 0:
        raise ConfigError(
            f"--ttl {ttl:g} is too short to lead with: no time would be left to stop the command in before "
            "the leadership ends. 1 s is enough, where the store's ticks allow it"
        )
    if grace is None:
        return min(GRACE, most)
    if grace > most:
        raise ConfigError(
            f"--grace {grace:g} is too long for --ttl {ttl:g}: to be gone before the leadership ends, the "
            f"command gets {most:g} s at most. A longer ttl allows more"
        )
    return grace


def _run(staying: Staying, capabilities: bytes, grace: float, reserve: float, once: bool) -> int:
    try:
        staying.enter(capabilities, stand=True)
        group, life = staying.coordinator.group(staying.group), Life(staying)
        while True:
            code = _lead(staying, group, life, grace, reserve)
            if code is not None:
                return code
            if once:
                return OUT_CODE
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        if staying.child is not None:
            staying.stop(grace)
        staying.leave()


def _lead(staying: Staying, group: Group, life: Life, grace: float, reserve: float) -> int | None:
    """One leadership, from waiting for it to its end. The command's exit code, if it ended by itself."""
    with Turn(group) as turn:
        while turn.term is None:
            if turn.error is not None:
                raise turn.error
            number = staying.signals.wait(LOOK)
            if number in ENDS_US:
                raise Interrupted(number)
            life.look()
        term = turn.term
        staying.say("leading", f"{_me(staying)} leads, with token {term.token}", token=term.token)
        if staying.command:
            staying.start(HEADCOUNT_TOKEN=str(term.token))
        code = _act(staying, term, (grace + reserve) if staying.command else 0.0)
        if code is not None:
            return code
        staying.say("ended", f"{_me(staying)} does not lead any more", token=term.token)
        if staying.child is not None:
            staying.stop(min(grace, term.trusted_for - reserve))
        life.look()
    return None


def _act(staying: Staying, term: Term, least: float) -> int | None:
    """Lead, while more than `least` seconds of trust are left. The exit code, if the command ends."""
    while (left := term.trusted_for) > least:
        number = staying.signals.wait(min(LOOK, left - least))
        child = staying.child
        if child is None:
            if number in ENDS_US:
                raise Interrupted(number)
            continue
        if number is not None:
            child.send(number)
        code = child.poll()
        if code is not None:
            staying.child = None
            return code
    return None


def _me(staying: Staying) -> str:
    return staying.coordinator.member_id or ""


class Turn:
    """One `leadership()` of the library, held on a thread of its own while the main one takes signals."""

    def __init__(self, group: Group) -> None:
        self.term: Term | None = None
        self.error: BaseException | None = None
        self._group = group
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True, name="headcount-lead")

    def __enter__(self) -> Turn:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the place to the others. While we still wait for it, only leaving ends the wait."""
        self._enough.set()
        if self.term is not None:
            self._thread.join(5.0)

    def _hold(self) -> None:
        try:
            with self._group.leadership() as term:
                self.term = term
                look_again()
                while not self._enough.is_set() and not term.wait(LOOK):
                    pass
                look_again()
                self._enough.wait()
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            self.error = error
            look_again()
