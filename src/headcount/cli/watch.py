"""`headcount watch`"""

from __future__ import annotations

import select
import signal
import sys
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn

import click

from headcount.cli.looking import STILL, check_there, opened
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import as_dict, capabilities, clock, marks, put, shown
from headcount.model import Change, Kind, View
from headcount.stores.base import TickingStore

COLOURS = {
    Kind.JOINED: "green",
    Kind.LEFT: "bright_black",
    Kind.DOWN: "red",
    Kind.LEADER: "cyan",
    Kind.MARKED: "magenta",
    Kind.DEGRADED: "yellow",
}
TTL = 3.0
"""Seconds, for the session of our own. Only from its beats do we hear the store's clock: with a long ttl,
whoever dies just when we come would be seen dead late, if nobody else is there to tick."""


@click.command()
@click.argument("group")
@common_options
@pass_setup
def command(setup: Setup, group: str) -> None:
    """Print each change of GROUP, one a line, as it happens. Begins with who is here.

    Watches as nobody: HEADCOUNT_MEMBER_ID plays no part. Ends with Ctrl-C, or when nobody reads its
    output any more. With --json, each line is an object with "kind", "member" and "before"; those who
    were here at the beginning have "initial": true.
    """
    signal.signal(signal.SIGTERM, _stop)
    with setup.observer(ttl=_long_enough(setup, group)) as coordinator:
        watched = coordinator.group(group)
        first = watched.view()
        with watched.changes() as changes:
            if not first.up and not setup.json:
                click.echo(f"Nobody is in group {group!r}; waiting. Ctrl-C ends this.", err=True)
            while True:
                try:
                    change = changes.get(timeout=1.0)
                except TimeoutError:
                    _stop_if_nobody_reads()
                else:
                    _tell(setup, change, first)


def _long_enough(setup: Setup, group: str) -> float:
    """A ttl for our own session: who watches may have to tick, and so takes part in beating."""
    with opened(setup) as store:
        check_there(setup, store, group)
        if not isinstance(store, TickingStore) or store.guarantees.expiry != "ticks":
            return TTL
        return max(TTL, STILL * store.tick().interval)


def _tell(setup: Setup, change: Change, first: View) -> None:
    initial = change.view is first or change.view.revision <= first.revision
    initial = initial and change.before is None and change.kind in (Kind.JOINED, Kind.LEADER)
    if setup.json:
        put(_document(change, initial))
        return
    kind = "here" if initial and change.kind is Kind.JOINED else change.kind.value
    colour = COLOURS.get(change.kind)
    word = click.style(f"{kind:<9}", fg=colour) if colour else f"{kind:<9}"
    click.echo(f"{clock(datetime.now(UTC))}  {word} {shown(_sentence(change))}".rstrip())
    sys.stdout.flush()


def _sentence(change: Change) -> str:
    """What there is to say besides the kind."""
    member, view = change.member, change.view
    match change.kind:
        case Kind.LEADER:
            return member.member_id if member else "nobody"
        case Kind.DEGRADED:
            return view.degraded or ""
        case Kind.STEADY:
            return "all is well again"
        case Kind.RESYNC:
            leader = view.leader.member_id if view.leader else "nobody"
            return f"missed some changes; here are {len(view.up)}, {leader} leads"
    if member is None:
        return change.before.member_id + " (forgotten)" if change.before else ""
    said = [member.member_id]
    before = change.before
    if change.kind is Kind.MARKED:
        said.append(marks(member) or "no marks any more")
    elif change.kind in (Kind.JOINED, Kind.UPDATED):
        if (before is not None and before.status is not member.status) or member.status != "up":
            said.append(member.status.value)
        if before is None or before.capabilities != member.capabilities:
            said.append(capabilities(member.capabilities))
        if marks(member):
            said.append(marks(member))
    return "  ".join(part for part in said if part)


def _document(change: Change, initial: bool) -> dict[str, object]:
    view = change.view
    return {
        "time": datetime.now(UTC).isoformat(),
        "kind": change.kind.value,
        "group": view.group_id,
        "member": as_dict(change.member),
        "before": as_dict(change.before),
        "leader": view.leader.member_id if view.leader else None,
        "revision": view.revision,
        "degraded": view.degraded,
        **({"initial": True} if initial else {}),
    }


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _stop_if_nobody_reads() -> None:
    """A closed pipe is only noticed in writing to it; a quiet group would keep us for ever."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # not a file of the system's
        return
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError
