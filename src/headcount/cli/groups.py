"""`headcount groups`"""

from __future__ import annotations

import click

from headcount.cli.looking import opened, patiently
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import put


@click.command()
@common_options
@pass_setup
def command(setup: Setup) -> None:
    """List the groups, also empty ones, one a line."""
    with opened(setup) as store:
        found = patiently(setup, store.groups)
    if setup.json:
        put({"groups": found})
    elif found:
        click.echo("\n".join(found))
    else:
        click.echo("There are no groups yet; `headcount create NAME` makes one.", err=True)
