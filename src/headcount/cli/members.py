"""`headcount members`"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from headcount.cli.looking import look, opened, patiently
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import COLOURS, ago, as_dict, capabilities, clock, columns, marks, put, table
from headcount.errors import GroupNotFound
from headcount.model import Member, View

HEAD = ("MEMBER", "STATUS", "SINCE", "LEADS", "MARKS", "SEEN", "CAPABILITIES")
STATUS, SINCE, LEADS, MARKS, SEEN, CAPABILITIES = range(1, 7)
SPARE = (CAPABILITIES, SEEN, SINCE, MARKS)
"""What a narrow terminal can do without, in this order."""


@click.command()
@click.argument("group")
@click.option("--up", is_flag=True, help="Only those that are here: up, or merely suspected.")
@common_options
@pass_setup
def command(setup: Setup, group: str, up: bool) -> None:
    """List the members of GROUP: everyone known, also those that are down or have left.

    Looks once, as nobody: HEADCOUNT_MEMBER_ID plays no part.

    \b
    up       beats, and is ready
    unready  beats, but its application has not vouched for itself in time
    suspect  overdue, but held back by the guard, since too many are at once
    down     has not beaten for its ttl
    left     said goodbye, or was put out
    """
    with opened(setup) as store:
        view = look(setup, store, group)
        try:
            seen = patiently(setup, lambda: store.last_seen(group))
        except GroupNotFound:  # deleted in this very moment
            seen = {}
    found = list(view.up) if up else [view[member_id] for member_id in sorted(view)]
    if setup.json:
        put(document(view, found, seen))
        return
    if view.degraded:
        click.echo(click.style(f"degraded: {view.degraded}", fg="yellow"), err=True)
    if not found:
        click.echo(f"Nobody is in group {group!r}{'' if up and len(view) else ' yet'}.", err=True)
        return
    rows = [_row(member, view.leader, seen.get(member.member_id)) for member in found]
    paint = {
        STATUS: [COLOURS[member.status] for member in found],
        LEADS: ["cyan"] * len(found),
        MARKS: ["magenta"] * len(found),
    }
    click.echo(table(HEAD, rows, width=columns(), spare=SPARE, paint=paint))


def document(view: View, found: list[Member], seen: Mapping[str, datetime]) -> dict[str, object]:
    leader = view.leader.member_id if view.leader else None
    return {
        "group": view.group_id,
        "revision": view.revision,
        "degraded": view.degraded,
        "leader": leader,
        "members": [
            as_dict(
                member,
                leader=member.member_id == leader,
                last_seen=seen[member.member_id].isoformat() if member.member_id in seen else None,
            )
            for member in found
        ],
    }


def _row(member: Member, leader: Member | None, seen: datetime | None) -> tuple[str, ...]:
    return (
        member.member_id,
        member.status.value,
        clock(member.since),
        "leads" if leader is not None and leader.member_id == member.member_id else "",
        marks(member),
        "" if seen is None else ago((datetime.now(UTC) - seen).total_seconds()),
        capabilities(member.capabilities),
    )
