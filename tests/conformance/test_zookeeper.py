"""The laws of stores, put to ZooKeeper."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import ZooKeeperSessions


@pytest.fixture
def harness(zookeeper_server):
    harness = ZooKeeperSessions(zookeeper_server)
    yield harness
    harness.close()


globals().update(laws(ZooKeeperSessions.guarantees))
