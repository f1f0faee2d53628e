"""The laws of sessions that end before their time, put to ZooKeeper where somebody removes their nodes."""

import pytest

from headcount.testing.conformance import ending_early
from tests.conformance.harnesses import ZooKeeperNodes


@pytest.fixture
def harness(zookeeper_server):
    harness = ZooKeeperNodes(zookeeper_server)
    yield harness
    harness.close()


globals().update({name: law for name, law in vars(ending_early).items() if name.startswith("test_")})
