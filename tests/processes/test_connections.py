"""How many connections a process costs its server, and that a pooler may stand between them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from headcount.stores.sql.lines import CALM
from tests.processes.places import SERVERS, connections, on_every_server
from tests.processes.town import TTL, Town, down_within, until
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgresql import PostgreSQL

if TYPE_CHECKING:
    from tests.processes.places import SqlServer

SOON = 20.0
POLL = 1.0
LONG = 4.0
"""Seconds, in which a process beats twelve times, looks for changes four times, and ticks twenty times."""


@on_every_server
def test_who_joins_has_one_connection_and_who_watches_two(
    own_server: Callable[..., SqlServer], build: Callable[..., Town]
) -> None:
    """And they keep to it."""
    server = own_server()
    database = server.fresh_database()
    town = build(server.url(database, poll=POLL))
    town.store.close()
    for name in ("ann", "ben", "cid"):
        town.start(name, watch=False).joined()

    def stays(number: int, seconds: float) -> None:
        # A machine that is busy while somebody joins may give the heart one of its own, for a while.
        until(lambda: len(connections(server, database)) == number, seen, CALM + SOON)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert len(connections(server, database)) <= number
            time.sleep(0.2)

    def seen() -> list[int]:
        return connections(server, database)

    stays(3, LONG / 2)
    town.start("dora", watch=True).joined()
    town.start("eve", watch=True).joined()
    stays(3 + 2 * 2, LONG)


def test_a_pooler_in_transaction_mode_does_no_harm(
    own_postgresql: Callable[..., PostgreSQL],
    own_pgbouncer: Callable[..., PgBouncer],
    build: Callable[..., Town],
) -> None:
    """Nobody can listen through it, and so they poll: three join, one leaves, one is killed, and the third is
    told of it. The pooler has fewer connections to the server than there are clients."""
    assert "postgresql" in SERVERS
    server = own_postgresql(authentication="scram-sha-256")
    pooler = own_pgbouncer(server, default_pool_size=3)
    database = server.fresh_database()
    town = build(pooler.url(database, pooled="true", poll=0.2))
    ann, ben, cid = town.members("ann", "ben", "cid")
    since = cid.heard
    ben.end()
    cid.wait_for("change", SOON, since, kind="left", member="ben")
    killed = ann.kill()
    down = cid.wait_for("change", SOON, since, kind="down", member="ann")
    assert down["at"] - killed <= down_within(ticker=True) + 0.2
    number = town.ticking.tick().number
    until(lambda: town.ticking.tick().number > number + 2 * TTL / 0.2, town.ticking.tick, SOON)
    assert town.states() == {"ann": "down", "ben": "left", "cid": "up"}
    assert cid.said("change", since, kind="lost") == []
    assert len(connections(server, database)) <= 3
