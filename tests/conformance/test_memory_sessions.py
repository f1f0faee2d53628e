"""The laws of stores, put to the memory store in the mode in which sessions expire by themselves."""

import pytest

from headcount.testing.conformance import laws
from tests.conformance.harnesses import MemorySessions


@pytest.fixture
def harness():
    harness = MemorySessions()
    yield harness
    harness.close()


globals().update(laws(MemorySessions.guarantees))
