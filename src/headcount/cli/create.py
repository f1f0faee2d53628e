"""`headcount create`"""

from __future__ import annotations

import click

from headcount.cli.looking import opened, patiently
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import put
from headcount.engine.settings import check_id


@click.command()
@click.argument("group")
@common_options
@pass_setup
def command(setup: Setup, group: str) -> None:
    """Create GROUP. If it is there already, that is fine too."""
    check_id(group, "the name of a group")
    with opened(setup) as store:
        created = patiently(setup, lambda: store.create_group(group))
    if setup.json:
        put({"group": group, "created": created})
    else:
        click.echo(f"Created group {group!r}." if created else f"Group {group!r} was there already.")
