"""`headcount forget`"""

from __future__ import annotations

import click

from headcount.cli.looking import look, opened
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import put
from headcount.errors import CorruptRow, MemberNotFound


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
    unreadable: list[str] = []
    with opened(setup) as store:
        store.on_corrupt = unreadable.append  # the coordinator meets them again, and says so
        before = look(setup, store, group).get(member)
    with setup.observer() as coordinator:
        try:
            coordinator.group(group).forget(member)
        except MemberNotFound as error:
            if any(f"the row {member!r} of group {group!r} " in text for text in unreadable):
                raise CorruptRow(
                    f"{member!r} is on the lists of group {group!r}, but its row cannot be read, and so not "
                    "be taken off; it is replaced when that member enters again, and can be forgotten then"
                ) from error
            raise
    back = before is not None and before.present and not before.expelled
    if setup.json:
        put({"group": group, "member_id": member, "forgotten": True, "was_up": back})
        return
    click.echo(f"Forgot {member!r} of group {group!r}.")
    if back:
        click.echo("It was up, and comes back unless it is expelled.", err=True)
