"""The laws of stores, put to the memory store in its mode with ticks."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import MemoryTicks


@pytest.fixture
def harness():
    harness = MemoryTicks()
    yield harness
    harness.close()


globals().update(laws(MemoryTicks.guarantees))
