"""Looking once: the store is read directly, with no session, no thread, and nothing left behind.

Who looks only once cannot tell from what it reads whether anybody still moves the store's clock; if
nobody does, the dead stay up for ever. So where the last tick seems old by the time of day, which
proves nothing, it looks for three intervals more, on a clock of its own.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

from headcount.cli.setup import Setup
from headcount.cli.text import shown
from headcount.core.replica import Replica
from headcount.engine.identity import boot
from headcount.errors import GroupNotFound, HeadcountError, StoreUnavailable, nearest
from headcount.model import Snapshot, View
from headcount.stores.base import Store, TickingStore

T = TypeVar("T")

log = logging.getLogger("headcount")

STILL = 3
"""Intervals for which the clock has to stand still before somebody says so."""

PATIENT = 0.05, 0.5
"""Seconds between one try and the next while the store does not answer: the least, the most."""


@contextmanager
def opened(setup: Setup, store: Store | None = None) -> Iterator[Store]:
    """The store, open. Tried for as long as --timeout says."""
    found = store if store is not None else setup.store()
    try:
        patiently(setup, found.open)
        if found.guarantees.scope == "process":
            log.warning(
                "%s is the memory of this process alone: it begins empty, and ends with it", found.address
            )
        yield found
    finally:
        with contextlib.suppress(HeadcountError):  # what was asked for has been answered
            found.close()


def check_serves(setup: Setup) -> None:
    """Raise what is wrong with the store, unless it is an outage: that one is waited for, and told, by
    whoever stays."""
    store = setup.store()
    try:
        with contextlib.suppress(ConnectionError):
            store.open()
    finally:
        with contextlib.suppress(HeadcountError):
            store.close()


def patiently(setup: Setup, call: Callable[[], T]) -> T:
    """Call it, again while the store is unavailable. Only for what may be repeated."""
    until, wait, told = boot() + setup.timeout, PATIENT[0], setup.json
    while True:
        try:
            return call()
        except StoreUnavailable as error:
            left = until - boot()
            if left <= wait:
                raise StoreUnavailable(f"{error} (tried for {setup.timeout:g} s)") from error
            if wait >= PATIENT[1] and not told:
                told = True
                click.echo(f"headcount: {shown(str(error))}; trying for {left:.0f} s more", err=True)
        time.sleep(wait)
        wait = min(2 * wait, PATIENT[1])


def look(setup: Setup, store: Store, group: str) -> View:
    """The group as it stands. Raises `GroupNotFound`, with the nearest name there is."""
    asked = boot()
    try:
        records = patiently(setup, lambda: store.read(group))
    except GroupNotFound:
        raise missing(store, group) from None
    assert isinstance(records, Snapshot)  # a delta was not asked for
    replica = Replica(group, boot)
    replica.apply(records, asked)
    if any(row.live for row in records.rows) and isinstance(store, TickingStore):
        replica.trouble(standstill(setup, store))
    assert replica.view is not None
    return replica.view


def check_there(setup: Setup, store: Store, group: str) -> None:
    """Raise `GroupNotFound` if there is no such group."""
    try:
        patiently(setup, lambda: store.read(group, only=()))
    except GroupNotFound:
        raise missing(store, group) from None


def missing(store: Store, group: str) -> GroupNotFound:
    near = nearest(group, store.groups()) or "."
    return GroupNotFound(
        f"there is no group {group!r}{near} `headcount groups` lists them, `headcount create` makes one"
    )


def standstill(setup: Setup, store: TickingStore) -> str | None:
    """Why the statuses cannot be trusted, if nobody moves the store's clock; else None."""
    if store.guarantees.expiry != "ticks":
        return None
    first = patiently(setup, store.tick)
    patience = STILL * first.interval
    if abs(time.time() - first.ticked_at) <= patience:
        return None
    until = boot() + patience
    while (left := until - boot()) > 0:
        time.sleep(min(left, first.interval / 4, 0.5))
        if patiently(setup, store.tick).at != first.at:
            return None
    return "nobody ticks: no member and no watcher is running, so that who has gone is not noticed"
