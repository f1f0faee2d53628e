"""Three servers of ZooKeeper, of which some are killed or cut off under members that lead: never do two of
them trust in their leadership at once, and everybody is back by itself."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from headcount import Coordinator, HeadcountError
from headcount.stores import make
from tests.processes.crowd import Crowd
from tests.processes.town import Town
from tests.processes.waiting import eventually
from tests.servers.base import HOST
from tests.servers.zookeeper import Ensemble, ZooKeeper

TTL = 3.0
SAMPLE = 0.002


class Candidate:
    """A member that leads whenever it may, and writes down when it trusted in that. It has a process's
    worth of connections of its own, because its URL is its own."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self.spans: list[tuple[int, float, float]] = []
        """Token, from when, until when."""
        self.leads = False
        self._over = False
        self.coordinator = Coordinator(url, member_id=name, ttl=TTL)
        self.group = self.coordinator.join_group("web", create=True)
        self._thread = threading.Thread(target=self._stand, daemon=True)
        self._thread.start()

    def _stand(self) -> None:
        while not self._over:
            with contextlib.suppress(HeadcountError), self.group.leadership(timeout=0.5) as term:
                begun = last = time.monotonic()
                while term.trusted and not self._over:
                    last = time.monotonic()
                    self.leads = True
                    time.sleep(SAMPLE)
                self.leads = False
                self.spans.append((term.token, begun, last))

    def close(self) -> None:
        self._over = True
        self._thread.join(5)
        self.coordinator.close()


@pytest.fixture
def stand() -> Iterator[Callable[[str, str], Candidate]]:
    made: list[Candidate] = []

    def new(url: str, name: str) -> Candidate:
        made.append(Candidate(url, name))
        return made[-1]

    yield new
    for one in made:
        one.close()
    spans = sorted((begun, last, token, one.name) for one in made for token, begun, last in one.spans)
    for (_, ended, token, name), (begun, _, later, other) in itertools.pairwise(spans):
        assert ended <= begun, f"{name} and {other} trusted at once, for {ended - begun:.3f} s"
        assert token < later, "a token that does not grow"


def until(look: Callable[[], bool], within: float) -> None:
    eventually(look, "what the story waits for", within)


def only(ensemble: Ensemble, server: ZooKeeper, who: str) -> str:
    """The store by way of one of the servers."""
    return f"zookeeper://{HOST}:{server.port}/town?timeout={1 + len(who) / 1000}"


def one_leads(*candidates: Candidate) -> Callable[[], bool]:
    return lambda: sum(one.leads for one in candidates) == 1


def all_up(*candidates: Candidate) -> Callable[[], bool]:
    names = {one.name for one in candidates}
    return lambda: all({m.member_id for m in one.group.view().up} == names for one in candidates)


def test_a_server_that_is_killed_costs_nobody_anything(own_ensemble, stand) -> None:
    """Its clients go to the others while their sessions last: the same leader, with the same token."""
    ensemble = own_ensemble()
    candidates = [stand(ensemble.url("town", timeout=1 + n / 1000), f"m{n}") for n in range(3)]
    until(one_leads(*candidates), 10)
    until(all_up(*candidates), 10)
    leader = next(one for one in candidates if one.leads)
    before = {row.incarnation for row in store_of(ensemble).rows}
    victim = ensemble.followers[0]
    victim.kill()
    time.sleep(2 * TTL)
    until(all_up(*candidates), 10)

    assert leader.leads or leader.spans, "the story never began"
    assert {row.incarnation for row in store_of(ensemble).rows} == before
    until(one_leads(*candidates), 10)


def test_the_leading_server_is_killed(own_ensemble, stand) -> None:
    """The others choose another one within the sessions' time, or after it; in the end one member leads."""
    ensemble = own_ensemble()
    candidates = [stand(ensemble.url("town", timeout=1 + n / 1000), f"m{n}") for n in range(3)]
    until(one_leads(*candidates), 10)
    ensemble.leader.kill()
    time.sleep(TTL)
    until(one_leads(*candidates), 20)
    until(all_up(*candidates), 20)


def test_a_follower_that_is_cut_off_from_the_others_but_not_from_its_client(own_ensemble, stand) -> None:
    """It goes on to answer what it is asked to read, for as long as it believes in its leader: nine seconds
    here, which is three times the ttl. Its client's beats do not get through, and so it does not trust."""
    ensemble = own_ensemble(cuttable=True, syncLimit=45)
    follower, leader = ensemble.followers[0], ensemble.leader
    ann = stand(only(ensemble, follower, "ann"), "ann")
    until(one_leads(ann), 10)
    bob = stand(only(ensemble, leader, "bobby"), "bob")
    until(all_up(ann, bob), 10)
    ensemble.cut_off(follower)
    began = time.monotonic()
    until(lambda: bob.leads, 15)
    took = time.monotonic() - began

    assert not ann.leads
    assert took < 9, "the follower knew by then, so this shows nothing"
    time.sleep(2)
    ensemble.mend()
    until(all_up(ann, bob), 30)


def test_a_session_that_is_closed_while_a_server_is_cut_off(own_ensemble, stand) -> None:
    """Each member has a session to live in and one to be held by, perhaps at different servers. Whichever of
    them is at the one that is cut off, nobody leads beside it."""
    ensemble = own_ensemble(cuttable=True, syncLimit=45)
    candidates = [stand(ensemble.url("town", timeout=1 + n / 1000), f"m{n}") for n in range(3)]
    until(all_up(*candidates), 10)
    until(one_leads(*candidates), 10)
    ruler = next(one for one in candidates if one.leads)
    (session,) = [row.session for row in store_of(ensemble).rows if row.key == ruler.name]
    ensemble.cut_off(ensemble.followers[0])
    time.sleep(TTL / 3)
    ensemble.leader.end_owner_of(f"/town/.headcount/sessions/{session}")
    until(lambda: bool(ruler.spans), TTL)
    until(one_leads(*candidates), 15)
    ensemble.mend()
    until(all_up(*candidates), 30)
    until(one_leads(*candidates), 10)


def test_a_lost_quorum_ends_all_trust_and_everybody_is_back_by_itself(own_ensemble, stand) -> None:
    """A long outage does expire sessions here. What is promised is the way back."""
    ensemble = own_ensemble()
    candidates = [stand(ensemble.url("town", timeout=1 + n / 1000), f"m{n}") for n in range(3)]
    until(one_leads(*candidates), 10)
    lost = ensemble.servers[:2]
    for server in lost:
        server.kill()
    until(lambda: not any(one.leads for one in candidates), TTL + 1)
    time.sleep(TTL)
    for server in lost:
        server.launch()
    until(all_up(*candidates), 30)
    until(one_leads(*candidates), 30)


def test_an_observer_serves_as_well(own_ensemble, stand) -> None:
    """A server without a vote, by which a member comes and another one sees it."""
    ensemble = own_ensemble(4, observers=1)
    ann = stand(only(ensemble, ensemble.servers[3], "ann"), "ann")
    bob = stand(only(ensemble, ensemble.servers[0], "bobby"), "bob")

    assert ensemble.servers[3].mode == "observer"
    until(all_up(ann, bob), 10)


def test_fifty_processes_outlive_the_death_of_two_servers_one_after_the_other(
    own_ensemble, build: Callable[..., Town]
) -> None:
    """A follower's, and the leader's: all are the same lives, and nobody has heard of anything."""
    ensemble = own_ensemble()
    crowd = Crowd(build(ensemble.url("town", timeout=1.0)), 50, ttl=6.0, watch=True)
    follower = ensemble.followers[0]
    follower.kill()
    time.sleep(6.0)
    follower.start()
    ensemble.leader.kill()
    time.sleep(7.0)
    rows = crowd.rows()

    assert {name: row.incarnation for name, row in rows.items() if row.live} == crowd.lives
    for kind in ("down", "lost", "superseded", "left"):
        assert crowd.process.said("change", crowd.heard, kind=kind) == []


def store_of(ensemble: Ensemble):
    store = make(ensemble.url("town"))
    store.open()
    try:
        return store.read("web")
    finally:
        store.close()
