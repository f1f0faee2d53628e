"""What somebody with `etcdctl del` can do to who leads, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processes.member import now
from tests.processes.test_etcd_clusters import SOON, TTL, leading, never_two
from tests.processes.town import Town, leader, trust, until
from tests.servers.etcd import Etcd


@pytest.mark.parametrize("what", ["here/workers", "life"])
def test_keys_of_who_leads_are_deleted_by_hand(
    own_etcd: Callable[..., Etcd], build: Callable[..., Town], what: str
) -> None:
    """Its presence in the group, or its session. It stops before another one begins, within a second,
    and comes back behind the others."""
    server = own_etcd()
    town = build(server.url("town"))
    people = town.members("ann", "ben", "cid", lead=True, ttl=TTL)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    for _ in range(3):
        ruler = leader(people)
        since = {process.name: process.heard for process in people}
        session = next(row.session for row in town.snapshot().rows if row.member_id == ruler.name)
        assert server.delete(f"/town/default/{what}/{session}") == 1
        deleted = now()
        ruler.wait_for("change", SOON, since[ruler.name], kind="rejoined")
        until(lambda ruler=ruler: leader(people) is not ruler, lambda: trust(people), SOON)  # type: ignore[misc]
        assert min(said["at"] for said in leading(people, since)) - deleted < 1.0
    assert list(never_two(people)) == []
    assert len(trust(people)) >= 4
