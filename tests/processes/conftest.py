from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.town import Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    for process in made.processes:  # shown with a test that fails
        print(f"{process.name}:\n{process.tail()}")
    made.close()
