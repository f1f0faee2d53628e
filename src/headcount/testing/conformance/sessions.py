"""Sessions: alive while they beat, never given up early, and never back once they are lost."""

from __future__ import annotations

from headcount.model import Enter, Refusal, SessionId, State
from headcount.testing.conformance.harness import Harness, TickingHarness, only_if
from headcount.testing.conformance.town import Person, Town, amending, at_once, clients, committed, refused


def over(harness: Harness) -> float:
    """Seconds after which a session that nobody beat is certainly lost."""
    return harness.ttl + harness.slack


def test_a_session_nobody_opened_is_lost(harness: Harness) -> None:
    """A store does not make sessions out of beats."""
    store = harness.store()

    assert store.beat(["nobody"]).notices == {"nobody": None}
    assert store.beat(["nobody"]).notices == {"nobody": None}


def test_an_open_session_is_taken(harness: Harness) -> None:
    """It begins without a notice, and beating gives it none."""
    ann = Town(harness).person("ann")

    assert ann.beat() == 0
    assert ann.beat() == 0


def test_any_client_may_beat_for_a_session(harness: Harness) -> None:
    """Sessions live in the store, not in a connection to it: the heart has one of its own."""
    ann = Town(harness).person("ann")

    assert harness.store().beat([ann.session]).notices == {ann.session: 0}


@only_if(expiry="ticks")
def test_who_opens_a_session_hears_the_tick(harness: TickingHarness) -> None:
    """It counts as a beat: who comes alone must be able to move the clock soon."""
    town = Town(harness)
    person = town.person("ann")

    assert person.granted.tick == harness.hands().tick()


@only_if(expiry="ticks")
def test_the_ttl_is_granted_as_asked(harness: Harness) -> None:
    """On ticks there is no reason for another one, nor for a wider margin."""
    granted = Town(harness).person("ann", ttl=7.5).granted

    assert (granted.ttl, granted.margin) == (7.5, None)


def test_a_store_grants_no_more_than_it_keeps(harness: Harness) -> None:
    """Whoever is granted a ttl is still taken just before it is over."""
    ann = Town(harness).person("ann")
    harness.pass_time(ann.granted.ttl * 0.9)

    assert ann.beat() == 0


def test_a_batch_answers_for_each(harness: Harness) -> None:
    """A lost session takes nobody with it, however many beat together."""
    town = Town(harness)
    live = [town.person(f"p{n}") for n in range(60)]
    asked = [session for n, p in enumerate(live) for session in (p.session, f"nobody-{n}")]
    answer = town.store.beat(asked).notices

    assert answer == {session: None if session.startswith("nobody") else 0 for session in asked}


def test_a_large_batch_is_taken_whole(harness: Harness) -> None:
    """A process may have a thousand sessions, and beats them in one call."""
    town = Town(harness)
    ann = town.person("ann")
    asked = [ann.session, *(f"nobody-{n}" for n in range(1500))]

    assert [s for s, notice in town.store.beat(asked).notices.items() if notice is not None] == [ann.session]


def test_an_empty_batch_is_no_error(harness: Harness) -> None:
    """Whoever has no session yet may ask all the same."""
    assert harness.store().beat([]).notices == {}


def test_the_same_session_twice_in_a_batch(harness: Harness) -> None:
    """One that is named twice is beaten once and answered for."""
    ann = Town(harness).person("ann")

    assert ann.store.beat([ann.session, ann.session]).notices == {ann.session: 0}


def test_opening_a_session_counts_as_a_beat(harness: Harness) -> None:
    """Between opening it and the first beat there is a whole ttl, and then no more."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    harness.pass_time(harness.ttl * 0.9)
    assert ann.beat() == 0

    harness.pass_time(over(harness), kept=[ann.session])
    assert (ann.beat(), bob.beat()) == (0, None)


def test_opening_a_session_twice_changes_nothing(harness: Harness) -> None:
    """An answer that was lost may be asked for again: the rows and the notice are as they were."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    town.mark("ann", disabled="for a test")
    before, notice = town.snapshot(), ann.beat()
    ann.store.open_session(ann.about)

    assert notice and ann.beat() == notice
    assert town.snapshot() == before


def test_who_beats_in_time_stays(harness: Harness) -> None:
    """However long it takes, and whoever else is lost meanwhile."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = ann.enter()
    bob.enter()
    harness.pass_time(4 * over(harness), kept=[ann.session])

    assert ann.beat() == 0
    assert town.row("ann") == row
    assert town.row("bob").state is State.DOWN


def test_who_stops_beating_goes_down(harness: Harness) -> None:
    """After the ttl and a little its rows are down, without a standing and without shards."""
    town = Town(harness)
    old = town.person("ann").enter(shards=frozenset({1, 2}))
    harness.pass_time(over(harness))
    row = town.row("ann")

    assert (row.state, row.standing_since, row.shards) == (State.DOWN, 0, frozenset())
    assert (row.incarnation, row.capabilities) == (old.incarnation, old.capabilities)
    assert row.revision > old.revision


def test_many_with_large_capabilities_may_die_together(harness: Harness) -> None:
    """What a group can hold can also go down in one moment, of one session or of several: whoever reads sees
    all of them down, whether it reads the group, or what has changed; who comes is let in; and in the end the
    group can be deleted."""
    town = Town(harness)
    people = [town.person(f"p{n}") for n in range(3)]
    large = b"x" * min(65_536, harness.guarantees.max_capabilities)
    for n in range(30):
        person, name = people[max(0, n - 27)], f"m{n}"
        committed(person.propose(person.entering(name, member_id=name, capabilities=large)))
        if n % 10 == 0:
            town.store.beat([one.session for one in people])
    before = town.snapshot()
    harness.pass_time(over(harness))
    reader = harness.store()
    changed, ann = reader.read(town.group, before.revision), town.person("ann")

    assert {row.key: row.state for row in changed.rows} == dict.fromkeys(
        [row.key for row in before.rows], State.DOWN
    )
    assert {row.state for row in town.snapshot().rows} == {State.DOWN}
    assert all(row.capabilities == large for row in reader.read(town.group, only=["m7", "m29"]).rows)
    ann.leave(ann.enter())
    assert reader.delete_group(town.group)


def test_expiry_takes_all_rows_of_a_session(harness: Harness) -> None:
    """Whatever groups they are in, and under whatever key."""
    town, other = Town(harness), Town(harness, "other")
    ann = town.person("ann")
    ann.enter()
    ann.enter("ann/2", member_id="ann as well")
    ann.store.commit(other.group, [ann.entering()], by=ann.session)
    harness.pass_time(over(harness))

    assert {row.state for row in town.rows().values()} == {State.DOWN}
    assert other.row("ann").state is State.DOWN


def test_expiry_removes_lock_rows(harness: Harness) -> None:
    """A lock has no past: whoever is gone neither holds it nor waits for it."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    ann.enter("ann/1", mode="exclusive")
    bob.enter("bob/1", mode="exclusive")
    harness.pass_time(over(harness), kept=[bob.session])

    assert list(town.rows()) == ["bob/1"]


def test_a_row_of_nobody_does_not_expire(harness: Harness) -> None:
    """A plan outlives whoever wrote it."""
    town = Town(harness)
    plan = town.publish()
    harness.pass_time(over(harness))

    assert town.row("plan") == plan


def test_a_lost_session_is_lost_for_ever(harness: Harness) -> None:
    """Its beats, enters and amends are refused from then on, and so are those that were under way."""
    town = Town(harness)
    ann = town.person("ann")
    row = ann.enter()
    harness.pass_time(over(harness))

    for _ in range(3):
        assert ann.beat() is None
        refused(ann.propose(ann.entering(seen=town.row("ann").revision)), Refusal.FENCED)
        refused(ann.propose(ann.entering("other", member_id="other")), Refusal.FENCED)
        refused(ann.propose(amending(row, capabilities=b"late")))
        refused(ann.propose(amending(town.row("ann"), capabilities=b"late", present=True)))
        harness.pass_time(over(harness))
    assert town.row("ann").state is State.DOWN


def test_no_incarnation_comes_back(harness: Harness) -> None:
    """Who was down and is here again is here in another life, with a higher number and a higher token."""
    town = Town(harness)
    first = town.person("ann").enter()
    harness.pass_time(over(harness))
    second = town.person("ann").enter()

    assert second.incarnation > first.incarnation
    assert second.standing_since > first.standing_since


def test_a_session_without_rows_expires_silently(harness: Harness) -> None:
    """An observer is nobody's news: no revision, no history."""
    town = Town(harness)
    observer = town.person("observer")
    before = town.revision
    harness.pass_time(over(harness))

    assert observer.beat() is None
    assert town.revision == before
    assert town.store.history() == []


def test_a_closed_session_is_lost_at_once(harness: Harness) -> None:
    """Its rows go down in the same moment, for every client; its lock rows go."""
    town = Town(harness)
    ann = town.person("ann")
    ann.enter()
    ann.enter("ann/lock", mode="shared")
    harness.store().close_session(ann.session)

    assert ann.beat() is None
    assert {key: row.state for key, row in town.rows().items()} == {"ann": State.DOWN}
    refused(ann.propose(ann.entering(seen=town.row("ann").revision)), Refusal.FENCED)


def test_closing_is_never_an_error(harness: Harness) -> None:
    """A session that is closed, lost or unknown may be closed again."""
    ann = Town(harness).person("ann")
    for session in [ann.session, ann.session, "nobody"]:
        ann.store.close_session(session)

    assert ann.beat() is None


def test_closing_leaves_the_others(harness: Harness) -> None:
    """A goodbye is for oneself."""
    town = Town(harness)
    ann, bob = town.person("ann"), town.person("bob")
    row = bob.enter()
    ann.store.close_session(ann.session)

    assert bob.beat() == 0
    assert town.row("bob") == row


def test_a_row_needs_a_live_session(harness: Harness) -> None:
    """A row of a session that nobody opened would be up for ever, because nobody would expire it."""
    town = Town(harness)
    ann = town.person("ann")
    ann.store.close_session(ann.session)

    refused(ann.propose(ann.entering()), Refusal.FENCED)
    refused(ann.propose(ann.entering(stand=False, mode="exclusive")), Refusal.FENCED)
    assert town.rows() == {}


def test_a_down_row_can_still_be_forgotten(harness: Harness) -> None:
    """Whoever keeps the lists in order removes what has died."""
    town = Town(harness)
    town.person("ann").enter()
    harness.pass_time(over(harness))
    town.remove(town.row("ann"), forget=True)

    assert town.rows() == {}


def test_a_withdrawn_row_is_not_said_to_be_down(harness: Harness) -> None:
    """Left is left, whatever becomes of the session later."""
    town = Town(harness)
    ann = town.person("ann")
    ann.leave(ann.enter())
    left = town.row("ann")
    harness.pass_time(over(harness))

    assert town.row("ann") == left


def test_an_enter_and_a_goodbye_do_not_pass_each_other(harness: Harness) -> None:
    """Whichever comes first, nobody is left behind: a row that is up in a session that is gone would stay
    up for ever, and might lead."""
    town = Town(harness)
    stores = clients(harness, 2)
    for n in range(8):
        ann = town.person(f"ann{n}")
        enter = ann.entering()

        def story(n: int, session: SessionId = ann.session, enter: Enter = enter) -> None:
            if n == 0:
                stores[0].close_session(session)
            else:
                stores[1].commit(town.group, [enter], by=session)

        at_once(2, story)
        assert ann.beat() is None
        assert not any(row.live for row in town.snapshot().rows)


def test_an_enter_and_the_goodbye_of_its_own_client_do_not_pass_each_other(harness: Harness) -> None:
    """The same where both are asked of the client that has opened the session."""
    town = Town(harness)
    for n in range(8):
        ann = town.person(f"ann{n}")
        enter = ann.entering()

        def story(n: int, ann: Person = ann, enter: Enter = enter) -> None:
            if n == 0:
                ann.store.close_session(ann.session)
            else:
                ann.propose(enter)

        at_once(2, story)
        assert ann.beat() is None
        assert not any(row.live for row in town.snapshot().rows)
