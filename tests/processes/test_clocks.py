"""The clock of the server is wrong, and nothing depends on it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.processes.places import on_every_server
from tests.processes.town import TTL, Town, down_within, faults_of_trust, leader, trust, until

if TYPE_CHECKING:
    from tests.processes.places import SqlServer

SOON = 20.0


@on_every_server
@pytest.mark.parametrize("offset", ["+3600s", "-3600s"])
def test_an_hour_between_the_server_and_its_clients_changes_nothing(
    own_server: Callable[..., SqlServer], build: Callable[..., Town], offset: str
) -> None:
    """They join, a killed leader is down and followed in time, by the clock of those who wait; and when the
    server's clock is put right, by an hour at once, nobody notices."""
    server = own_server(clock_offset=offset)
    town = build(server.url(server.fresh_database(), timeout=1.0))
    people = town.members("ann", "ben", "cid", "dora", lead=True)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    ruler = leader(people)
    rest = [p for p in people if p is not ruler]
    since = {p.name: p.heard for p in rest}
    killed, bound = ruler.kill(), down_within(ticker=True)
    for process in rest:
        down = process.wait_for("change", bound + SOON, since[process.name], kind="down", member=ruler.name)
        assert down["at"] - killed <= bound
    until(lambda: any(p.said("trusted", since[p.name]) for p in rest), lambda: trust(rest), SOON)
    since = {p.name: p.heard for p in rest}
    server.clock_offset = None
    server.restart()
    number = town.ticking.tick().number
    until(lambda: town.ticking.tick().number > number + 2 * TTL / 0.2, town.ticking.tick, SOON)
    for process in rest:
        for kind in ("down", "lost"):
            assert process.said("change", since[process.name], kind=kind) == []
        process.signal(signal.SIGSTOP)
    assert list(faults_of_trust(trust(people))) == []
