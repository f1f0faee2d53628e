"""`headcount mark`"""

from __future__ import annotations

from typing import Any

import click

from headcount.cli.looking import check_there, look, opened
from headcount.cli.setup import Setup, common_options, pass_setup
from headcount.cli.text import marks, put, shown
from headcount.errors import nearest
from headcount.model import View


@click.command()
@click.argument("group")
@click.argument("member")
@click.option("--disabled", metavar="REASON", help="Give it no work, and let it not lead; say why.")
@click.option("--enabled", is_flag=True, help="Take --disabled back.")
@click.option("--forced-down/--no-forced-down", default=None, help="Down for everybody, whatever it beats.")
@click.option("--expelled/--no-expelled", default=None, help="Put it out, and keep it out until lifted.")
@click.option(
    "--fenced", is_flag=True,
    help="Vouch that its process is dead, so that its place is free at once. Two may lead if it is not.",
)  # fmt: skip
@common_options
@pass_setup
def command(
    setup: Setup,
    group: str,
    member: str,
    disabled: str | None,
    enabled: bool,
    forced_down: bool | None,
    expelled: bool | None,
    fenced: bool,
) -> None:
    """Say something of MEMBER in GROUP; what is not named stays as it is.

    Marks stay until they are taken back, over restarts too, and may be set before MEMBER first joins.
    """
    if disabled is not None and enabled:
        raise click.UsageError("--disabled and --enabled contradict each other: give one of them.")
    if disabled is not None and not disabled.strip():
        raise click.UsageError('--disabled wants a reason, such as --disabled "new disk on Monday".')
    said: dict[str, Any] = {
        **({"disabled": None if enabled else disabled} if enabled or disabled is not None else {}),
        **({"forced_down": forced_down} if forced_down is not None else {}),
        **({"expelled": expelled} if expelled is not None else {}),
    }
    if not said and not fenced:
        raise click.UsageError(
            'Say what: --disabled "a reason", --enabled, --forced-down, --expelled, or the --no- form of one.'
        )
    with opened(setup) as store:
        check_there(setup, store, group)
    with setup.observer() as coordinator:
        coordinator.group(group).mark(member, fenced=fenced, **said)
    with opened(setup) as store:
        _tell(setup, look(setup, store, group), member)


def _tell(setup: Setup, view: View, member: str) -> None:
    found = view.get(member)
    if setup.json:
        put(
            {
                "group": view.group_id,
                "member_id": member,
                "disabled": found.disabled if found else None,
                "forced_down": found.forced_down if found else False,
                "expelled": found.expelled if found else False,
                "known": found is not None and found.incarnation > 0,
            }
        )
        return
    click.echo(
        shown(f"{member} in {view.group_id}: {marks(found) if found and marks(found) else 'no marks'}")
    )
    if found is None or not found.incarnation:
        near = nearest(member, [name for name in view if view[name].incarnation]) or "."
        waits = " The mark waits for it." if found is not None else ""
        click.echo(shown(f"Nobody has been in this group as {member!r} yet{near}{waits}"), err=True)
