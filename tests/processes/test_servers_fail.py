"""Servers that are killed, restarted, frozen and choked under fifty members: nobody goes down of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from headcount.model import Remark
from tests.processes.crowd import Crowd
from tests.processes.places import PROGRAMS, SERVERS, new_server
from tests.processes.town import Town
from tests.servers import fixtures
from tests.servers.postgresql import PostgreSQL

if TYPE_CHECKING:
    from tests.processes.places import SqlServer

CROWD = 50
TTL = 2.0

TIMEOUT = 1.0
"""Seconds that each member waits for the server: a short outage is several failed calls, each of which
closes a connection, and not one call that takes long."""


class Storm:
    """A crowd on a server of their own."""

    def __init__(self, kind: str, server: SqlServer) -> None:
        self.kind = kind
        self.server = server
        self.database = server.fresh_database()
        self.town = Town(server.url(self.database, timeout=TIMEOUT))
        self.crowd = Crowd(self.town, CROWD, ttl=TTL, watch=True)


@pytest.fixture(scope="module", params=SERVERS)
def place(request: pytest.FixtureRequest, unavailable: fixtures.Unavailable) -> Iterator[Storm]:
    """One crowd for all that their server has to go through: to start fifty processes takes long."""
    fixtures.need(unavailable, PROGRAMS[request.param])
    for server in fixtures.one(new_server(request.param)):
        storm = Storm(request.param, server)
        yield storm
        storm.town.close()


@pytest.fixture
def storm(place: Storm) -> Iterator[Storm]:
    """Whatever happened in the story before, in this one all is well at first."""
    place.crowd.all_beat(time.time())
    place.crowd.remember()
    yield place
    print(place.crowd.process.tail())


def test_who_is_thrown_out_by_a_killed_backend_comes_back_as_the_same(storm: Storm) -> None:
    """PostgreSQL throws out everybody when one of its processes was killed, and empties the table of beats.
    MariaDB loses the one that was killed; so there all are."""
    epoch = storm.town.ticking.tick().epoch
    if isinstance(storm.server, PostgreSQL):
        ((victim,), *_) = storm.server.ask(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND usename = 'headcount'", storm.database
        )
        storm.server.kill_backend(int(str(victim)))
    else:
        for number, *_ in storm.server.ask("SHOW PROCESSLIST"):
            with contextlib.suppress(Exception):  # our own is among them
                storm.server.kill_connection(int(str(number)))
    storm.crowd.is_unharmed(time.time())
    if isinstance(storm.server, PostgreSQL):
        assert storm.town.ticking.tick().epoch > epoch, "no beats were lost, so this shows nothing"


@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_a_server_that_comes_back_finds_all_as_they_were(storm: Storm, way: str) -> None:
    """Nobody has to be started again; and what is durable is there: groups and marks."""
    storm.town.store.create_group(f"empty when {way}")
    ghost = f"ghost when {way}"
    storm.town.store.commit("workers", [Remark(member_id=ghost, seen=0, disabled="why")])
    if way == "killed":
        storm.server.kill()
    else:
        storm.server.stop()
    time.sleep(TTL)
    storm.server.start()
    storm.crowd.is_unharmed(time.time())
    assert f"empty when {way}" in storm.town.store.groups()
    marks = {mark.member_id: mark.disabled for mark in storm.town.snapshot().marks}
    assert marks[ghost] == "why"


def test_a_server_that_freezes_kills_nobody(storm: Storm) -> None:
    """It takes connections and answers nothing, for twice everybody's ttl."""
    storm.server.freeze()
    time.sleep(2 * TTL)  # how long it is frozen is the point
    storm.server.thaw()
    storm.crowd.is_unharmed(time.time())


def test_a_server_that_chokes_on_beats_kills_nobody(storm: Storm) -> None:
    """It serves everything else, ticks too. But only who was just served may tick, and nobody is."""
    with beats_locked(storm):
        number = storm.town.ticking.tick().number
        time.sleep(2 * TTL)  # how long nobody can beat is the point
        assert storm.town.ticking.tick().number <= number + 1
        released = time.time()
    storm.crowd.is_unharmed(released)


@contextlib.contextmanager
def beats_locked(storm: Storm) -> Iterator[None]:
    """A lock that every beat meets, and nothing else: what making an index takes, for example."""
    with storm.server.admin(storm.database) as admin:
        cursor = admin.cursor()
        cursor.execute("BEGIN")
        if isinstance(storm.server, PostgreSQL):
            cursor.execute("LOCK TABLE headcount.beats IN EXCLUSIVE MODE")
        else:
            cursor.execute("SELECT session FROM headcount_beats FOR UPDATE")
        yield
        cursor.execute("ROLLBACK")
