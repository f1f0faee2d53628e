"""`headcount delete`"""

from __future__ import annotations

import click

from headcount.cli.looking import missing, opened, patiently
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import put
from headcount.engine.settings import check_id
from headcount.errors import GroupNotEmpty


@click.command()
@click.argument("group")
@common_options
@pass_setup
def command(setup: Setup, group: str) -> None:
    """Delete GROUP, with all that is remembered of its former members and their marks.

    A group that still has members is not deleted.
    """
    check_id(group, "the name of a group")
    with opened(setup) as store:
        try:
            deleted = patiently(setup, lambda: store.delete_group(group))
        except GroupNotEmpty as error:
            raise GroupNotEmpty(
                f"{error}. Members leave when their processes end; "
                f"`headcount mark {group} MEMBER --expelled` puts one out"
            ) from error
        if not deleted:
            raise missing(store, group)
    if setup.json:
        put({"group": group, "deleted": True})
    else:
        click.echo(f"Deleted group {group!r}.")
