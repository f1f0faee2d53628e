"""Sweep: who is overdue is fenced, or held back by the guard; in both cases its place is free."""

from __future__ import annotations

import threading
import time

from headcount.model import Census, Refusal, SessionId, Standing, State, Swept
from headcount.testing.conformance.harness import TickingHarness, everyone, nobody, only_if, ticking
from headcount.testing.conformance.town import Person, Town, amending, at_once, clients, committed, refused

WINDOW = 30.0
"""Seconds over which the guard counts expiries."""


def _crowd(town: Town, count: int, prefix: str = "p") -> list[Person]:
    people = [town.person(f"{prefix}{n}") for n in range(count)]
    for person in people:
        person.enter()
    return people


def _let_time_go(harness: TickingHarness, kept: list[Person] | None = None) -> None:
    """Until whoever is not kept is overdue; nobody sweeps."""
    harness.pass_time(harness.ttl + harness.slack, kept=[person.session for person in kept or []], judge=None)


def _sweep(harness: TickingHarness, judged: int = 0, limit: int = 500) -> tuple[Swept, list[Census]]:
    """Sweep once, with a judge who gives this number; and what the judge was asked."""
    asked: list[Census] = []

    def judge(census: Census) -> int:
        asked.append(census)
        return judged

    return harness.hands().sweep(judge, limit=limit), asked


@only_if(expiry="ticks")
def test_a_judge_is_told_how_many(harness: TickingHarness) -> None:
    """How many sessions with rows are live, and how many of these are overdue."""
    town = Town(harness)
    kept = _crowd(town, 3, "kept")
    _crowd(town, 2)
    _let_time_go(harness, kept)
    _, asked = _sweep(harness)

    assert [(c.live, c.expired, c.overdue) for c in asked] == [(5, 0, 2)]


@only_if(expiry="ticks")
def test_sessions_without_rows_do_not_count(harness: TickingHarness) -> None:
    """Observers come and go: they are no reason to suspect the store, and no proof of its health."""
    town = Town(harness)
    observers = [town.person(f"o{n}") for n in range(4)]
    _crowd(town, 2)
    _let_time_go(harness, observers[:2])
    swept, asked = _sweep(harness)

    assert [(c.live, c.overdue) for c in asked] == [(2, 2)]
    assert set(swept.fenced) == {observer.session for observer in observers[2:]}
    assert [observer.beat() for observer in observers] == [0, 0, None, None]


@only_if(expiry="ticks")
def test_a_judge_is_not_asked_about_nobody(harness: TickingHarness) -> None:
    """Or is asked about none: then nobody is fenced, whatever it says."""
    town = Town(harness)
    kept = _crowd(town, 2)
    _let_time_go(harness, kept)
    swept, asked = _sweep(harness, judged=100)

    assert (swept.fenced, swept.lapsed) == ((), ())
    assert all(census.overdue == 0 for census in asked)
    assert [person.beat() for person in kept] == [0, 0]


@only_if(expiry="ticks")
def test_no_more_are_fenced_than_the_judge_allows(harness: TickingHarness) -> None:
    """The others lapse: held back, not given up."""
    town = Town(harness)
    people = _crowd(town, 5)
    _let_time_go(harness)
    swept, _ = _sweep(harness, judged=2)

    assert (len(swept.fenced), len(swept.lapsed)) == (2, 3)
    assert set(swept.fenced) | set(swept.lapsed) == {person.session for person in people}
    states = sorted(row.state for row in town.rows().values())
    assert states == [State.DOWN] * 2 + [State.SUSPECT] * 3
    assert sum(person.beat() is None for person in people) == 2


@only_if(expiry="ticks")
def test_the_longest_overdue_are_fenced_first(harness: TickingHarness) -> None:
    """Whoever was silent the longest is the likeliest to be dead."""
    town = Town(harness)
    people = [town.person(name, ttl=ttl * harness.ttl) for name, ttl in [("b", 2), ("c", 1), ("a", 3)]]
    for person in people:
        person.enter()
    harness.pass_time(3 * harness.ttl + harness.slack, judge=None)
    b, c, a = people

    assert _sweep(harness, judged=1)[0].fenced == (c.session,)
    assert _sweep(harness, judged=1)[0].fenced == (b.session,)
    assert _sweep(harness, judged=1)[0].fenced == (a.session,)


@only_if(expiry="ticks")
def test_fencing_takes_the_rows_down(harness: TickingHarness) -> None:
    """In the same sweep: a fenced session has no row that says up."""
    town, other = Town(harness), Town(harness, "other")
    ann = town.person("ann")
    ann.enter(shards=frozenset({1}))
    ann.enter("lock", mode="exclusive")
    committed(other.store.commit(other.group, [ann.entering()], by=ann.session))
    _let_time_go(harness)
    swept, _ = _sweep(harness, judged=1)

    assert swept.fenced == (ann.session,)
    assert {key: row.state for key, row in town.rows().items()} == {"ann": State.DOWN}
    assert other.row("ann").state is State.DOWN


@only_if(expiry="ticks")
def test_a_sweep_of_a_crowd_is_cut_into_pieces(harness: TickingHarness) -> None:
    """No more than `limit` are fenced at once; it says that there is more, and the next goes on, by
    whatever client. In the end all are down, each of them fenced once."""
    town = Town(harness)
    people = _crowd(town, 7)
    _let_time_go(harness)
    fenced: list[SessionId] = []
    stores = [ticking(town.store), ticking(harness.store())]
    for n in range(12):
        swept = stores[n % 2].sweep(everyone, limit=3)
        assert len(swept.fenced) <= 3
        fenced += swept.fenced
        if not swept.more:
            break

    assert sorted(fenced) == sorted(person.session for person in people)
    assert {row.state for row in town.rows().values()} == {State.DOWN}


@only_if(expiry="ticks")
def test_what_is_left_by_a_limit_did_not_lapse(harness: TickingHarness) -> None:
    """Its turn has not come: it is neither fenced nor suspected, because the judge allowed it all."""
    town = Town(harness)
    _crowd(town, 4)
    _let_time_go(harness)
    swept, _ = _sweep(harness, judged=4, limit=1)

    assert (len(swept.fenced), swept.lapsed, swept.more) == (1, (), True)


@only_if(expiry="ticks")
def test_a_second_sweep_finds_nothing(harness: TickingHarness) -> None:
    """What is done is done: no revision, no history, nobody fenced or lapsed again."""
    town = Town(harness)
    _crowd(town, 4)
    _let_time_go(harness)
    _sweep(harness, judged=2)
    before, history = town.snapshot(), town.store.history()
    swept, _ = _sweep(harness, judged=0)

    assert (swept.fenced, swept.lapsed, swept.vacated, swept.more) == ((), (), 0, False)
    assert town.snapshot() == before
    assert town.store.history() == history


@only_if(expiry="ticks")
def test_who_lapses_loses_its_place(harness: TickingHarness) -> None:
    """Failover never waits for the guard: its standing, its shards and its locks are free at once, and
    its notice is raised, so that it trusts nothing when it beats again."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter(shards=frozenset({1}), capabilities=b"kept")
    ann.enter("lock", mode="exclusive")
    _let_time_go(harness)
    swept, _ = _sweep(harness)
    now = town.row("ann")

    assert swept.lapsed == (ann.session,)
    assert list(town.rows()) == ["ann"] and town.claims() == ()
    assert (now.state, now.standing_since, now.shards) == (State.SUSPECT, 0, frozenset())
    assert (now.incarnation, now.capabilities) == (row.incarnation, b"kept")
    assert now.revision > row.revision
    assert ann.beat()


@only_if(expiry="ticks")
def test_who_lapsed_and_beats_again_is_back(harness: TickingHarness) -> None:
    """Its session lives on; it says that it is present, and stands anew with a higher token."""
    town = Town(harness)
    ann = town.person("ann")
    first = ann.enter()
    _let_time_go(harness)
    _sweep(harness)
    assert ann.beat()
    swept, asked = _sweep(harness, judged=1)
    assert (swept.fenced, swept.lapsed) == ((), ())
    assert all(census.overdue == 0 for census in asked)

    back = ann.amend(town.row("ann"), present=True, standing=Standing.STAND)
    assert (back.state, back.incarnation) == (State.UP, first.incarnation)
    assert back.standing_since > first.standing_since
    assert back.shards == frozenset()


@only_if(expiry="ticks")
def test_a_beat_and_a_lapse_do_not_pass_each_other(harness: TickingHarness) -> None:
    """Who is held back, and beats while it is being judged, is told in that very beat that its place is gone;
    if it is not told, its place is not gone, for it trusts it for another ttl."""
    town = Town(harness)
    stores = clients(harness, 2)
    for n in range(4):
        ann = town.person(f"ann{n}")
        place = ann.enter().standing_since
        _let_time_go(harness)
        judging = threading.Event()

        def story(n: int, session: SessionId = ann.session, judging: threading.Event = judging) -> int | None:
            if n == 0:
                judging.wait(10)
                return stores[0].beat([session]).notices[session]

            def judge(census: Census) -> int:
                judging.set()
                time.sleep(0.05)  # so that the beat is under way, or waits for us
                return 0

            ticking(stores[1]).sweep(judge)
            return None

        notice, _ = at_once(2, story)
        assert notice is not None
        assert notice > 0 or town.row(ann.name).standing_since == place
        town.remove(town.row(ann.name), forget=True)
        ann.store.close_session(ann.session)


@only_if(expiry="ticks")
def test_who_lapsed_may_be_fenced_later(harness: TickingHarness) -> None:
    """If it stays silent, the guard lets it go in the end; then it is down, and stays so."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    _let_time_go(harness)
    _sweep(harness)
    swept, asked = _sweep(harness, judged=1)

    assert [census.overdue for census in asked] == [1]
    assert swept.fenced == (ann.session,)
    assert town.row("ann").state is State.DOWN
    refused(ann.propose(ann.entering(seen=town.row("ann").revision)), Refusal.FENCED)


@only_if(expiry="ticks")
def test_who_lapses_twice_is_told_twice(harness: TickingHarness) -> None:
    """Each time that it lost a place; and it can be back each time."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    notices: list[int] = []
    for _ in range(2):
        _let_time_go(harness)
        _sweep(harness)
        notices.append(ann.beat() or 0)
        ann.amend(town.row("ann"), present=True, standing=Standing.STAND)

    assert 0 < notices[0] < notices[1]
    assert town.row("ann").standing_since


@only_if(expiry="ticks")
def test_the_expired_count_for_a_window(harness: TickingHarness) -> None:
    """The guard sees how many of those that had rows expired lately, and forgets them after it."""
    town = Town(harness)
    kept = _crowd(town, 2, "kept")
    _crowd(town, 3)
    town.person("observer")
    _let_time_go(harness, kept)
    _sweep(harness, judged=3)
    late = town.person("late")
    late.enter()
    _let_time_go(harness, kept)
    _, asked = _sweep(harness)
    assert [(c.live, c.expired, c.overdue) for c in asked] == [(3, 3, 1)]

    harness.pass_time(WINDOW + harness.slack, kept=[p.session for p in kept], judge=nobody)
    _, asked = _sweep(harness)
    assert [(c.live, c.expired, c.overdue) for c in asked] == [(3, 0, 1)]


@only_if(expiry="ticks")
def test_who_said_goodbye_did_not_expire(harness: TickingHarness) -> None:
    """A closed session is no sign of a sick store."""
    town = Town(harness)
    for person in _crowd(town, 3):
        person.store.close_session(person.session)
    _crowd(town, 1, "late")
    _let_time_go(harness)
    _, asked = _sweep(harness)

    assert [(c.live, c.expired, c.overdue) for c in asked] == [(1, 0, 1)]


@only_if(expiry="ticks")
def test_an_operator_overrules_the_guard(harness: TickingHarness) -> None:
    """For one window the overdue are fenced, whatever the judge says; and after it, it judges again."""
    town = Town(harness)
    people = _crowd(town, 4)
    _let_time_go(harness)
    _sweep(harness)
    ticking(town.store).release_guard()
    assert "guard released" in [entry.what for entry in town.store.history()]
    swept, _ = _sweep(harness, judged=0)
    assert set(swept.fenced) == {person.session for person in people}
    assert {row.state for row in town.rows().values()} == {State.DOWN}

    harness.pass_time(WINDOW + harness.slack)
    late = town.person("late")
    late.enter()
    _let_time_go(harness)
    assert _sweep(harness, judged=0)[0].lapsed == (late.session,)


@only_if(expiry="ticks")
def test_who_beats_is_not_touched_by_an_operator_who_overrules(harness: TickingHarness) -> None:
    """The word is that the overdue are dead, and of nobody else."""
    town = Town(harness)
    kept = _crowd(town, 1, "kept")
    _crowd(town, 2)
    _let_time_go(harness, kept)
    ticking(town.store).release_guard()
    _sweep(harness)

    assert kept[0].beat() == 0
    assert town.row("kept0").state is State.UP


@only_if(expiry="ticks")
def test_fenced_in_between(harness: TickingHarness) -> None:
    """An amend that was under way when the sweep came finds that its session is lost."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    _let_time_go(harness)
    _sweep(harness, judged=1)

    refused(ann.propose(amending(row, capabilities=b"late")))
    refused(ann.propose(ann.entering("other", member_id="other")), Refusal.FENCED)
    assert ann.beat() is None
