"""The connection to ZooKeeper ends at a write: what is told to whoever asked the store itself. (What becomes
of members is told with the other stores, in `test_cut_commits`.)"""

from __future__ import annotations

import pytest

from headcount import stores
from headcount.errors import OutcomeUnknown
from headcount.model import Committed
from tests.processes.test_cut_commits import Lay, lay, published
from tests.processes.town import Town
from tests.processes.wire import Cut
from tests.processes.wire_zookeeper import ZooKeeperLanguage

__all__ = ["lay"]

on_zookeeper = pytest.mark.parametrize("town", ["zookeeper"], indirect=True)


@on_zookeeper
@pytest.mark.parametrize("way", ["before", "after", "lost"])
def test_who_writes_is_told_that_nobody_knows(town: Town, lay: Lay, way: Cut) -> None:
    """And what is there afterwards is there for all."""
    town.store.create_group("workers")
    wire = lay(lambda number: way if number == 1 else None)
    store = stores.make(wire.url, options={"timeout": 1.0})
    store.open()
    with pytest.raises(OutcomeUnknown):
        store.commit("workers", [published("plan")])
    written = [row.key for row in town.snapshot().rows]

    assert written == (["plan"] if way == "after" else [])
    assert isinstance(town.store.commit("workers", [published("other")]), Committed)
    store.close()


def test_the_wire_knows_what_writes() -> None:
    """In whatever pieces it comes."""
    said = [b"\0\0\0\x04\0\0\0\x0e", b"\0\0\0\x08\0\0\0\x01\0\0\0\x0e", b"\0\0\0\x08\0\0\0\x02\0\0\0\x04"]
    language = ZooKeeperLanguage()
    heard = [
        one for at in range(len(b"".join(said))) for one in language.messages(b"".join(said)[at : at + 1])
    ]

    assert heard == list(zip(said, [False, True, False], strict=True))
