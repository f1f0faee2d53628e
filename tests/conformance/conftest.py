"""The laws live in the package, for authors of other stores too; here they are put to ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from headcount.model import Write
from headcount.stores import make
from headcount.stores.base import Store

if TYPE_CHECKING:
    from tests.conformance.places import Place

pytest.register_assert_rewrite("headcount.testing.conformance")


@pytest.fixture(params=["postgresql", "mysql"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A fresh database on each of the servers."""
    server = request.getfixturevalue(
        "postgresql_server" if request.param == "postgresql" else "mariadb_server"
    )
    from tests.conformance.places import Place  # needs the servers' client libraries

    made = Place(server)
    yield made
    made.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., Store]]:
    """A function that opens the store at a URL; all are closed with the test."""
    made: list[Store] = []

    def open_(url: str, namespace: str = "default", **options: str | float | bool) -> Store:
        made.append(make(url, namespace=namespace, options=options))
        made[-1].open()
        return made[-1]

    yield open_
    for store in made:
        store.close()


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever commits, finds the group busy, and goes together with those who wait for it."""
    from headcount.stores.sql.commit import Commit

    monkeypatch.setattr(Commit, "carry_out", Commit._together)


@pytest.fixture
def add_intent(place: Place) -> Callable[..., None]:
    """A function that leaves wishes of somebody who has asked before us: writes, or bytes as they are."""
    from headcount.model import Wish
    from headcount.stores.sql.intents import asked, new_id

    def add(*wishes: Write | bytes) -> None:
        with place.other.lines.watcher() as line, line.writing() as sql:
            sql.each(
                "add_intent",
                [
                    (new_id(), "web", wish if isinstance(wish, bytes) else asked([Wish([wish])]))
                    for wish in wishes
                ],
            )

    return add
