"""Servers that are killed, restarted, frozen and choked under fifty members: nobody goes down of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from headcount.model import Remark
from tests.processes.crowd import LONGER, SOON, Crowd
from tests.processes.places import PROGRAMS, SERVERS, connections, new_server, on_every_server
from tests.processes.town import Town, until
from tests.servers import fixtures
from tests.servers.postgresql import PostgreSQL

if TYPE_CHECKING:
    from tests.processes.places import SqlServer

CROWD = 50
FEW = 30
FENCED = 5
"""So many of the few the guard lets go in a window: 15 % of them, and of those who are back by then."""
TTL = 3.0  # another test may be at work beside this one

TIMEOUT = 1.0
"""Seconds that each member waits for the server: a short outage is several failed calls, each of which
closes a connection, and not one call that takes long."""


@dataclass
class Storm:
    """A crowd on a server of their own."""

    server: SqlServer
    database: str
    town: Town
    crowd: Crowd


@pytest.fixture(scope="module", params=SERVERS)
def place(request: pytest.FixtureRequest, unavailable: fixtures.Unavailable) -> Iterator[Storm]:
    """One crowd for all that their server has to go through: to start fifty processes takes long."""
    fixtures.need(unavailable, PROGRAMS[request.param])
    for server in fixtures.one(new_server(request.param)):
        database = server.fresh_database()
        town = Town(server.url(database, timeout=TIMEOUT))
        try:
            yield Storm(server, database, town, Crowd(town, CROWD, ttl=TTL, watch=True))
        finally:
            town.close()


@pytest.fixture
def storm(place: Storm) -> Iterator[Storm]:
    """Whatever happened in the story before, in this one all is well at first."""
    place.crowd.is_well()
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
    """It takes connections and answers nothing, for longer than everybody's ttl."""
    storm.server.freeze()
    time.sleep(LONGER * TTL)  # how long it is frozen is the point
    storm.server.thaw()
    storm.crowd.is_unharmed(time.time())


def test_a_server_that_chokes_on_beats_kills_nobody(storm: Storm) -> None:
    """It serves everything else, ticks too. But only who was just served may tick, and nobody is."""
    with beats_locked(storm):
        number = storm.town.ticking.tick().number
        time.sleep(LONGER * TTL)  # how long nobody can beat is the point
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


@pytest.mark.parametrize(
    ("ttl", "seconds", "most"),
    [pytest.param(4.0, 1.0, 0, id="shortly"), pytest.param(2.0, 4.0, FENCED, id="for-two-ttls")],
)
@on_every_server
def test_a_server_that_takes_no_more_connections_costs_no_more_than_the_guard_allows(
    own_server: Callable[..., SqlServer],
    build: Callable[..., Town],
    ttl: float,
    seconds: float,
    most: int,
) -> None:
    """Half of a crowd has to connect again, and the server lets nobody in. Before a ttl is over,
    nobody is down. After it half of the members look dead while the other half is well; of these the guard
    lets a few go, as it says, and they come back by themselves; all others are the same lives as before."""
    server = own_server()
    database = server.fresh_database()
    town = build(server.url(database, timeout=TIMEOUT))
    crowd = Crowd(town, FEW, ttl=ttl, watch=False)
    theirs = connections(server, database)[-FEW // 2 :]
    eye = town.start("eye").joined()
    crowd.is_well()
    since = eye.heard
    with saturated(server, theirs):
        time.sleep(seconds)  # how long they cannot connect is the point
        released = time.time()
    crowd.all_beat(released)

    def all_up() -> bool:
        return {row.state.value for row in crowd.rows().values()} == {"up"}

    until(all_up, crowd.rows, SOON)
    lost = {name for name, row in crowd.rows().items() if row.incarnation != crowd.lives[name]}
    assert len(lost) <= most
    assert {change["member"] for change in eye.said("change", since, kind="down")} <= lost


@contextlib.contextmanager
def saturated(server: SqlServer, victims: list[int]) -> Iterator[None]:
    """Nobody is let in any more, as if all connections were taken; and the victims are thrown out."""
    if isinstance(server, PostgreSQL):
        shut, end, open_ = (
            "ALTER ROLE headcount CONNECTION LIMIT 0",
            "SELECT pg_terminate_backend({})",
            "ALTER ROLE headcount CONNECTION LIMIT -1",
        )
    else:
        shut, end, open_ = (
            "SET GLOBAL max_connections = 10",
            "KILL CONNECTION {}",
            "SET GLOBAL max_connections = 200",
        )
    with server.admin() as admin, admin.cursor() as cursor:
        for statement in (shut, *(end.format(victim) for victim in victims)):
            cursor.execute(statement)
        yield
        cursor.execute(open_)
