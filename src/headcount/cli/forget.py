"""`headcount forget`"""

from __future__ import annotations

import click

from headcount.cli.looking import look, opened
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import put


@click.command()
@click.argument("group")
@click.argument("member")
@common_options
@pass_setup
def command(setup: Setup, group: str, member: str) -> None:
    """Take MEMBER off the lists of GROUP. Its marks stay.

    This is for members that will not come back. One that still runs does come back, and by itself;
    `headcount mark GROUP MEMBER --expelled` keeps it out.
    """
    with opened(setup) as store:
        before = look(setup, store, group).get(member)
    with setup.observer() as coordinator:
        coordinator.group(group).forget(member)
    back = before is not None and before.present and not before.expelled
    if setup.json:
        put({"group": group, "member_id": member, "forgotten": True, "was_up": back})
        return
    click.echo(f"Forgot {member!r} of group {group!r}.")
    if back:
        click.echo("It was up, and comes back unless it is expelled.", err=True)
