"""The laws of stores, put to the etcd store on a real server."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import EtcdSessions


@pytest.fixture
def harness(etcd_server):
    harness = EtcdSessions(etcd_server)
    yield harness
    harness.close()


globals().update(laws(EtcdSessions.guarantees))
