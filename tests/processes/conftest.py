from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processes.places import PROGRAMS
from tests.processes.town import Town

if TYPE_CHECKING:
    from tests.processes.places import SqlServer


@pytest.fixture
def fresh_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A function that answers with the URL of a fresh, empty store of the kind that it is given."""
    made: list[tuple[SqlServer, str]] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/town.db"
        server = request.getfixturevalue(f"{PROGRAMS[kind]}_server")
        made.append((server, server.fresh_database()))
        return str(server.url(made[-1][1]))

    yield make
    for server, database in made:
        server.drop_database(database)


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Callable[..., SqlServer]:
    """A function that starts a server of this test's own, of the kind that is the parameter."""
    start: Callable[..., SqlServer] = request.getfixturevalue(f"own_{PROGRAMS[request.param]}")

    def own(*, replicated: bool = False, **settings: object) -> SqlServer:
        if replicated and request.param != "postgresql":  # which always is
            settings["replicated"] = True
        return start(**settings)

    return own


@pytest.fixture
def build() -> Iterator[Callable[..., Town]]:
    """A function that builds a town, as `Town` does; what it has said is shown with a test that fails."""
    made: list[Town] = []

    def build(url: str, **settings: float) -> Town:
        made.append(Town(url, **settings))
        return made[-1]

    yield build
    for town in made:
        for process in town.processes:
            print(f"{process.name}:\n{process.tail()}")
        town.close()


@pytest.fixture
def town(request: pytest.FixtureRequest, fresh_url: Callable[[str], str], build: Callable[..., Town]) -> Town:
    """On SQLite, unless the parameter says otherwise (see `places.on_every_store`)."""
    return build(fresh_url(getattr(request, "param", "sqlite")))
