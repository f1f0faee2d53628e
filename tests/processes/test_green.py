"""Under eventlet, whose green threads share one native thread: what keeps that busy must cost nothing."""

from __future__ import annotations

from tests.processes.places import on_any_store
from tests.processes.town import Town

TTL = 3.0  # the hearts of a busy process wait for the interpreter's lock, and on a full machine for a core

SOON = 20.0


@on_any_store
def test_a_busy_green_thread_costs_nobody_the_membership(town: Town) -> None:
    """Everything is patched, and one green thread computes for two ttls without letting another run. The
    member is the same life afterwards, and the others never saw it go."""
    (ben,) = town.members("ben")
    green = town.start("ann", loop="eventlet", ttl=TTL, busy=2 * TTL)
    green.joined()
    was = green.wait_for("was busy", 2 * TTL + SOON)
    assert was["seconds"] >= 2 * TTL
    assert (was["before"], was["status"]) == (was["after"], "up")
    assert ben.said("change", kind="down") == []
    began = green.end()
    left = ben.wait_for("change", SOON, kind="left", member="ann")
    assert left["at"] - began < 2.0
