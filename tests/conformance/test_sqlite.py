"""The laws of stores, put to SQLite."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import SQLiteTicks


@pytest.fixture
def harness(tmp_path):
    harness = SQLiteTicks(tmp_path)
    yield harness
    harness.close()


globals().update(laws(SQLiteTicks.guarantees))
