"""The laws of stores, put to PostgreSQL."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import PostgreSQLTicks


@pytest.fixture
def harness(postgresql_server):
    harness = PostgreSQLTicks(postgresql_server)
    yield harness
    harness.close()


globals().update(laws(PostgreSQLTicks.guarantees))
