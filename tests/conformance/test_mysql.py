"""The laws of stores, put to MariaDB."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import MariaDBTicks


@pytest.fixture
def harness(mariadb_server):
    harness = MariaDBTicks(mariadb_server)
    yield harness
    harness.close()


globals().update(laws(MariaDBTicks.guarantees))
