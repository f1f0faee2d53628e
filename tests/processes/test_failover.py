"""The server is lost for good, and a standby that had not heard everything takes its place."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from headcount.errors import HeadcountError
from headcount.model import Row
from tests.processes.places import on_every_server
from tests.processes.town import TTL, Town, trust, until

if TYPE_CHECKING:
    from tests.processes.places import SqlServer

SOON = 20.0


@on_every_server
def test_a_promoted_standby_finds_everybody_again(
    own_server: Callable[..., SqlServer], build: Callable[..., Town]
) -> None:
    """It has never heard of the last member, nor of a life that began anew. All are back by themselves, under
    revisions above all that there ever were; tokens only grow, and nobody is locked out."""
    primary = own_server(replicated=True)
    database = primary.fresh_database()
    standby = primary.standby()
    both = f"{primary.port},127.0.0.1:{standby.port}"
    town = build(primary.url(database, timeout=1.0).replace(str(primary.port), both))
    people = town.members("ann", "ben", "cid", lead=True)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    standby.catch_up()
    standby.stop_following()
    people[1].kill()
    people[1] = town.start("ben", lead=True).joined()
    people.append(town.start("dora", lead=True).joined())
    newest = town.snapshot().revision
    since = {p.name: p.heard for p in people}
    primary.kill()
    standby.promote()

    def rows() -> list[Row]:
        try:
            return [row for row in town.snapshot().rows if row.live]
        except HeadcountError:
            return []

    def back() -> bool:
        return {row.key: row.state.value for row in rows()} == dict.fromkeys(
            ("ann", "ben", "cid", "dora"), "up"
        )

    until(back, lambda: [p.tail() for p in people], 6 * TTL + SOON)
    assert town.snapshot().revision >> 32 > newest >> 32
    until(
        lambda: any(p.said("trusted", since[p.name]) for p in people),
        lambda: [p.tail() for p in people],
        SOON,
    )
    number = town.ticking.tick().number
    until(lambda: town.ticking.tick().number > number + 2 * TTL / 0.2, town.ticking.tick, SOON)
    assert back()
    for process in people:
        process.signal(signal.SIGSTOP)
    tokens = [token for token, *_ in trust(people)]
    assert tokens == sorted(set(tokens))
