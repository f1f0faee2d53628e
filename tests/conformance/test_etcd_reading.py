"""etcd: deltas are read off the history, and the dead are settled by whoever reads first."""

from __future__ import annotations

import itertools
import socket
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headcount.errors import StoreUnavailable
from headcount.model import Delta, Snapshot, State, Wish
from headcount.stores import make
from headcount.stores.base import Store
from headcount.stores.etcd import access, client, register, settling
from headcount.stores.etcd.client import READ, Method
from headcount.stores.etcd.deltas import COMMITS
from headcount.stores.etcd.ops import MOST
from headcount.testing.conformance.reading import DEEDS, Deed, in_order, replayed
from headcount.testing.conformance.town import Town, at_once, clients, committed, withdrawing
from tests.conformance.harnesses import EtcdSessions
from tests.servers.base import HOST
from tests.servers.etcd import Etcd
from tests.servers.pipe import Pipe


@pytest.fixture
def harness(etcd_server):
    harness = EtcdSessions(etcd_server)
    yield harness
    harness.close()


def later(store: Store, before: Snapshot) -> Snapshot:
    """The later picture, however it is told."""
    found = store.read(before.group, before.revision)
    return in_order(replayed(before, found) if isinstance(found, Delta) else found)


def test_deltas_make_the_same_picture(harness) -> None:
    """Whatever is done, and wherever one begins; and it is always known how many live rows each session has.
    (Time is left out: it cannot be moved here. Sessions end by being closed, which looks the same.)"""
    deeds = [deed for deed in DEEDS if deed.__name__ != "_time"]
    deed = st.tuples(st.sampled_from(deeds), st.sampled_from(["ann", "bob"]), st.integers(0, 7))
    groups = (f"town {n}" for n in itertools.count())
    store, told = harness.store(), set()

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(deed, min_size=1, max_size=14))
    def story(deeds: list[tuple[Deed, str, int]]) -> None:
        town = Town(harness, next(groups), store=store)
        pictures = [town.snapshot()]
        for deed, name, number in deeds:
            deed(town, name, number)
            told.add(type(store.read(town.group, pictures[-1].revision)))
            live = Counter(row.session for row in town.snapshot().rows if row.live and row.session)
            assert {name: rows for name, rows in here(town).items() if rows} == live
            pictures.append(town.snapshot())
        for earlier, now in itertools.pairwise(pictures):
            assert (earlier.revision < now.revision) == (in_order(earlier) != in_order(now))
        for picture in pictures:
            assert later(store, picture) == in_order(pictures[-1])

    story()
    assert Delta in told


def test_a_death_is_not_missed_by_who_reads_deltas(harness) -> None:
    """Nobody has committed since; that somebody is gone is seen all the same, and settled."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter()
    bob.enter()
    seen = town.snapshot()
    assert isinstance(town.store.read(town.group, seen.revision), Delta)
    ann.store.close_session(ann.session)
    now = later(town.store, seen)

    assert {row.key: row.state for row in now.rows} == {"ann": State.DOWN, "bob": State.UP}
    assert isinstance(town.store.read(town.group, now.revision), Delta)


def here(town: Town) -> dict[str, int]:
    """The sessions that are here, and how many live rows they have, as their keys say."""
    root = f"/{town.harness.prefix}/default/here/{town.group}/"  # type: ignore[attr-defined]
    server: Etcd = town.harness.server  # type: ignore[attr-defined]
    return {key.removeprefix(root): int(value) for key, value in server.keys(root).items()}


def test_who_left_and_ends_costs_no_whole_reading(harness) -> None:
    """When its last row has gone, it is not here any more, and is not missed. It may come again."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row, more = ann.enter(), ann.enter("ann/2", member_id="ann as well", stand=False)
    bob.enter()
    assert here(town) == {ann.session: 2, bob.session: 1}
    seen = town.snapshot()
    ann.leave(row)
    assert here(town) == {ann.session: 1, bob.session: 1}
    assert town.row("ann/2").live
    ann.leave(more)
    assert here(town) == {bob.session: 1}
    ann.leave(ann.enter(), forget=True)
    ann.store.close_session(ann.session)

    assert isinstance(found := town.store.read(town.group, seen.revision), Delta)
    assert in_order(replayed(seen, found)) == in_order(town.snapshot())
    assert [row.key for row in town.snapshot().rows if row.live] == ["bob"]


def test_whose_place_was_taken_away_is_here_until_it_says_so(harness) -> None:
    """It has no live row, and may trust its place yet: its claim is not taken for one of who is gone."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    town.remove(row)
    assert here(town) == {ann.session: 0}
    (claim,) = town.claims()
    committed(ann.acknowledge(claim))

    assert here(town) == {}
    assert ann.beat() == 1
    ann.enter()
    assert here(town) == {ann.session: 1}


def test_who_leaves_while_its_sessions_move_is_not_here_again(own_etcd) -> None:
    """What it had there is not made anew."""
    server: Etcd = own_etcd()
    harness = EtcdSessions(server)
    town = Town(harness)
    ann, bob = town.person("ann", own_client=True), town.person("bob")
    row = ann.enter()
    bob.enter()
    server.restart()
    asking = ann.store._client  # type: ignore[attr-defined]
    real = asking.ask

    def ask(method: Method, request: Any, until: float | None = None) -> Any:
        answer = real(method, request, until)
        if method is READ and request.success[0].request_range.key.endswith(ann.session.encode()):
            asking.ask = real
            harness.store().commit(town.group, [withdrawing(row)], by=ann.session)
        return answer

    ann.store.read(town.group)  # it has found the server
    asking.ask = ask
    assert ann.beat() == 0
    assert asking.ask == real
    seen = town.snapshot()

    assert here(town) == {bob.session: 1}
    assert isinstance(town.store.read(town.group, seen.revision), Delta)
    harness.close()


def test_a_crowd_that_hears_of_a_death_settles_it_a_few_times(harness, monkeypatch) -> None:
    """The others wait until it is settled, and read of that."""
    monkeypatch.setattr(register, "CROWD", 12)  # as many as these take the whole time
    town = Town(harness)
    people = [town.person(f"p{n}", process="one") for n in range(12)]
    for person in people:
        person.enter()
    seen = town.snapshot()
    stores = clients(harness, 12)
    settle, tries = settling.Settling.settle, []

    def counted(self: settling.Settling, *how: Any) -> Any:
        tries.append(1)
        return settle(self, *how)

    monkeypatch.setattr(settling.Settling, "settle", counted)
    town.store.close_session(people[0].session)
    found = at_once(12, lambda n: stores[n].read(town.group, seen.revision))

    assert sum(isinstance(one, Delta) for one in found) > 6
    assert len(tries) < 6
    assert {row.state for one in found for row in one.rows if row.key == "p0"} == {State.DOWN}


def test_a_death_is_settled_once(harness) -> None:
    """However many read at the same moment: one line of history, one revision."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(5)]
    for person in people:
        person.enter()
    before = town.revision
    stores = clients(harness, 6)
    for person in people[:2]:
        town.store.close_session(person.session)

    def look(n: int) -> Snapshot:
        found = stores[n].read(town.group)
        assert isinstance(found, Snapshot)
        return in_order(found)

    pictures = at_once(6, look)

    assert all(picture == pictures[0] for picture in pictures)
    assert pictures[0].revision == before + 2
    assert [entry.what for entry in town.store.history(town.group)].count("down") == 2


def test_the_dead_may_have_published_much(harness) -> None:
    """More than one transaction takes: they go down in several, and are down for everybody."""
    town = Town(harness)
    people = [town.person(f"p{n}", process="one") for n in range(30)]
    for person in people:
        committed(person.propose(person.entering(capabilities=b"x" * 60_000)))
    seen = town.snapshot()
    harness.end_session(town.store, people[0].session)  # and with it, all that share its lease

    assert {row.state for row in town.snapshot().rows} == {State.DOWN}
    assert len(town.claims()) == 30
    assert later(town.store, seen) == in_order(town.snapshot())


def test_deaths_that_are_settled_in_part_are_not_missed(harness, monkeypatch) -> None:
    """There are more than go into one commit, and who settles them gives up between two: whoever reads what
    has changed sees all of them down."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(5)]
    for person in people:
        person.enter()
    seen = town.snapshot()
    for person in people:
        town.store.close_session(person.session)
    monkeypatch.setattr(settling, "SETTLED", 4)
    other, write = harness.store(), access.Access.write
    written: list[int] = []

    def once(self: access.Access, *args: Any, **how: Any) -> bool:
        if written:
            raise StoreUnavailable("it goes no further")
        written.append(1)
        return write(self, *args, **how)

    with monkeypatch.context() as patch:
        patch.setattr(access.Access, "write", once)
        with pytest.raises(StoreUnavailable):
            other.read(town.group)

    assert later(other, seen) == in_order(town.snapshot())
    assert {row.state for row in later(other, seen).rows} == {State.DOWN}
    assert [entry.what for entry in town.store.history(town.group)].count("down") == 5
    assert isinstance(town.store.read(town.group, town.revision), Delta)


def test_those_with_long_names_may_die_together(harness) -> None:
    """Their rows are small, and what is written of them is not."""
    town = Town(harness)
    ann = town.person("ann", process="one")
    names = [f"{n:03}{'é' * 500}" for n in range(400)]
    for n in range(0, len(names), 40):
        wishes = [Wish([ann.entering(x, member_id=x)], (), ann.session) for x in names[n : n + 40]]
        for outcome in town.store.commit_together(town.group, wishes):
            committed(outcome)
    town.store.close_session(ann.session)

    assert {row.state for row in harness.store().read(town.group).rows} == {State.DOWN}


def test_a_group_that_takes_long_to_come_is_read(harness, monkeypatch) -> None:
    """Longer than a server has at first to answer, but not longer than the call has."""
    monkeypatch.setattr(client, "TRY", 0.1)
    town = Town(harness)
    ann = town.person("ann", process="one")
    for n in range(20):
        committed(ann.propose(ann.entering(f"{n}", member_id=f"{n}", capabilities=b"x" * 65_536)))
    wire = SlowPipe(harness.server.port)
    store = make(f"etcd://{HOST}:{wire.port}/{harness.prefix}")
    store.open()
    before = time.monotonic()
    found = store.read(town.group)
    store.close()
    wire.close()

    assert isinstance(found, Snapshot)
    assert in_order(found) == in_order(town.snapshot())
    assert time.monotonic() - before > 4 * 0.1


class SlowPipe(Pipe):
    """What the server says comes at 3 MB a second."""

    def _passes(self, client: socket.socket, *, back: bool) -> bool:
        if back:
            time.sleep(0.02)
        return True


def test_who_is_far_behind_reads_all(harness) -> None:
    """So many commits, or so many records, that the whole group costs less."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    behind = town.snapshot()
    for n in range(COMMITS + 1):
        row = committed(ann.propose(ann.entering(seen=row.revision, capabilities=b"%d" % n))).rows[0]
    near = town.snapshot()
    committed(ann.propose(*(ann.entering(f"{n}", mode="x") for n in range(MOST + 1))))
    for seen in (behind, near):
        assert isinstance(town.store.read(town.group, seen.revision), Snapshot)
        assert later(town.store, seen) == in_order(town.snapshot())


def test_a_group_that_is_deleted_leaves_nothing(harness) -> None:
    """Names that come and go fill no disk: what is left of all of them is one number."""
    store = harness.store()
    for n in range(3):
        town = Town(harness, f"job {n}", store=store)
        ann = town.person("ann", ttl=60)
        ann.leave(ann.enter())
        store.delete_group(town.group)
        store.close_session(ann.session)

    root = f"/{harness.prefix}/default/"
    assert {key.removeprefix(root) for key in harness.server.keys(root)} == {"about", "floor"}


def test_what_is_compacted_is_no_gap(harness, etcd_server) -> None:
    """The history is in keys of its own: etcd may forget what they were."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    seen = town.snapshot()
    ann.amend(row, capabilities=b"x")
    etcd_server.compact()

    assert isinstance(town.store.read(town.group, seen.revision), Delta)
    assert later(town.store, seen) == in_order(town.snapshot())
