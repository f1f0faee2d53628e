"""`headcount store`"""

from __future__ import annotations

from typing import Any

import click

from headcount.cli.looking import opened, patiently
from headcount.cli.setup import SECONDS, Setup, common_options, pass_setup
from headcount.cli.text import put
from headcount.errors import NotPromised
from headcount.stores.base import Store, TickingStore


@click.group()
@common_options
def command() -> None:
    """Prepare the store, and look after it."""


@command.command()
@click.option("--print", "only_print", is_flag=True, help="Print the schema, and touch nothing.")
@click.option(
    "--interval", type=SECONDS, metavar="SECONDS",
    help="Time between two ticks of its clock (1 s). Fixed for good; no ttl may be below three ticks.",
)  # fmt: skip
@common_options
@pass_setup
def init(setup: Setup, only_print: bool, interval: float | None) -> None:
    """Make what the store needs, or bring it up to date. Where it is ready, nothing happens.

    Not needed as a rule: whoever may, makes it when connecting. For a database whose users may not,
    --print shows what its administrator has to run.
    """
    store = setup.store(**({"interval": interval} if interval is not None else {}))
    if only_print:
        schema = _hook(store, "schema_sql", "a schema to print")
        click.echo(schema())
        return
    with opened(setup, store):
        ticks = store.tick().interval if isinstance(store, TickingStore) else None
    if setup.json:
        put({"store": store.address, "interval": ticks})
    else:
        click.echo(f"{store.address} is ready" + (f"; it ticks every {ticks:g} s." if ticks else "."))


@command.command("new-epoch")
@common_options
@pass_setup
def new_epoch(setup: Setup) -> None:
    """Begin a new history. Run it after the store was restored from a backup.

    What was written after that backup was made is lost; a new epoch keeps every later revision and
    fencing token above all that were given out before.
    """
    with opened(setup) as store:
        epoch = patiently(setup, _hook(store, "new_epoch", "epochs of its own"))
    if setup.json:
        put({"store": store.address, "epoch": epoch})
    else:
        click.echo(f"{store.address} begins epoch {epoch}.")


@command.command("release-guard")
@common_options
@pass_setup
def release_guard(setup: Setup) -> None:
    """Say that those who are held back as suspect really are dead.

    When many members fall silent at once, the fault is more likely in the store or the network, and
    the guard takes them down slowly. This lets all who are overdue go down now, and for the next 30 s.
    """
    with opened(setup) as store:
        if not isinstance(store, TickingStore) or store.guarantees.expiry != "ticks":
            raise NotPromised(f"{store.address} expires sessions itself: there is no guard to release")
        patiently(setup, store.release_guard)
    if setup.json:
        put({"store": store.address, "released": True})
    else:
        click.echo("The guard is released for 30 s: whoever is overdue goes down now.")


def _hook(store: Store, name: str, what: str) -> Any:
    found = getattr(store, name, None)
    if found is None:
        raise NotPromised(f"{store.address} has no {what.removeprefix('a ')}")
    return found
