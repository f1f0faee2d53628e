"""One coordinator in one group, told as stories in a small town.

The register is the real one, in memory; everybody's hands are the test's: `run` does what a
membership asks for, one request after the other, until it asks for nothing.
"""

from __future__ import annotations

import itertools

import pytest

from headcount.core.leadership import leader
from headcount.core.membership import Desired, Identity, Membership, Phase, Step
from headcount.core.session import Presence
from headcount.errors import (
    AccessDenied,
    CapabilitiesTooLarge,
    Expelled,
    GroupNotFound,
    HeadcountError,
    MemberTaken,
    OutcomeUnknown,
    StoreUnavailable,
    Superseded,
)
from headcount.model import (
    Amend,
    Committed,
    Enter,
    Granted,
    Kind,
    Moment,
    Outcome,
    Refusal,
    Refused,
    Remark,
    Row,
    Session,
    Snapshot,
    Standing,
    State,
    Vacate,
    Withdraw,
)
from headcount.stores.memory import MemoryServer, MemoryStore

TTL = 9.0


class Town:
    """A store with one group, and a clock that its people share."""

    def __init__(self, *, group: bool = True) -> None:
        self.now = 100.0
        self.server = MemoryServer(clock=lambda: self.now, wall=lambda: self.now)
        self.store = MemoryStore(self.server)
        self.numbers = itertools.count(1)
        if group:
            self.store.create_group("g")

    def rows(self) -> dict[str, Row]:
        found = self.store.read("g")
        return {row.key: row for row in found.rows}

    def leader(self) -> str | None:
        found = self.store.read("g")
        row = leader(found.rows, found.claims)
        return row.member_id if row else None

    def mark(self, member: str, **marks: str | bool) -> None:
        found = self.store.read("g", only=[member])
        seen = found.marks[0].revision if found.marks else 0
        remark = Remark(member_id=member, seen=seen, **marks)  # type: ignore[arg-type]
        assert isinstance(self.store.commit("g", [remark]), Committed)


class Person:
    """One coordinator: its session, its membership, and hands."""

    def __init__(self, town: Town, name: str = "ann", *, instance: str = "", host: str = "h") -> None:
        self.town = town
        self.name = name
        self.instance = instance or f"{name}-{next(town.numbers)}"
        self.presence = Presence(self.instance, TTL)
        me = Identity(member_id=name, instance=self.instance, host=host)
        self.m = Membership(group="g", me=me, presence=self.presence)
        self.host = host
        self.open()

    def moment(self) -> Moment:
        return Moment(self.town.now, self.town.now)

    def open(self) -> None:
        number = next(self.town.numbers)
        session = Session(
            id=f"s{number}", instance=self.instance, host=self.host, process=self.instance, ttl=TTL
        )
        granted = self.town.store.open_session(session)
        self.presence.opened(session, granted, self.moment(), self.moment())

    def lose(self) -> None:
        """The store ends the session, and we hear of it."""
        self.town.store.close_session(self.presence.session_id)
        self.presence.lost()
        self.m.session_lost()

    def want(self, **desired) -> Person:
        self.m.want(Desired(**desired))
        return self

    def ask(self, *, ready: bool = True):
        return self.m.next(ready, self.town.now)

    def send(self, what) -> Outcome | Snapshot | HeadcountError | bool | None:
        """Have the store do it; its answer is still on the way."""
        store = self.town.store
        try:
            if what is Step.LOOK:
                found = store.read("g", only=[self.name])
                assert isinstance(found, Snapshot)
                return found
            if what is Step.CREATE:
                return store.create_group("g")
            return store.commit("g", what, by=self.presence.session_id)
        except HeadcountError as error:
            return error

    def hear(self, answer: object, asked: float | None = None) -> None:
        now = self.town.now
        match answer:
            case HeadcountError():
                self.m.failed(answer, now if asked is None else asked, now)
            case Snapshot():
                self.m.observe(answer, now if asked is None else asked, now)
            case Committed() | Refused():
                self.m.answered(answer, now)
            case bool():
                self.m.created()

    def look(self) -> None:
        self.hear(self.send(Step.LOOK))

    def run(self, *, ready: bool = True, most: int = 12) -> list[object]:
        """Do what it asks for until it asks for nothing; what it was."""
        done: list[object] = []
        while (what := self.ask(ready=ready)) is not None:
            assert len(done) < most, f"it never comes to rest: {done[-4:]}"
            done.append(what)
            self.town.now += 0.001
            self.hear(self.send(what))
        return done

    def joined(self, **desired) -> Person:
        self.want(**desired).run()
        assert self.m.phase is Phase.JOINED
        return self

    def leads(self) -> bool:
        found = self.town.store.read("g")
        return self.m.follow_lead(leader(found.rows, found.claims), self.moment())


def only(what: object) -> object:
    """The one write of a commit."""
    assert isinstance(what, list)
    (write,) = what
    return write


# ── joining ──


def test_joining_is_one_commit():
    """No look before it: the register refuses what has been seen wrong."""
    ann = Person(Town()).want(capabilities=b"c")

    (commit,) = ann.run()
    assert isinstance(only(commit), Enter)
    assert ann.m.phase is Phase.JOINED and ann.m.settled
    assert ann.m.incarnation == ann.town.rows()["ann"].incarnation > 0


def test_nothing_is_asked_without_a_session():
    """A row has to belong to somebody who can expire."""
    ann = Person(Town())
    ann.presence.lost()
    ann.want()

    assert ann.ask() is None
    assert ann.m.phase is Phase.JOINING


def test_joining_twice_is_joining_once():
    """The seeds say so; and what was asked for first stays."""
    ann = Person(Town()).joined(capabilities=b"first")
    ann.want(capabilities=b"second")

    assert ann.run() == []
    assert ann.town.rows()["ann"].capabilities == b"first"


def test_there_must_be_a_group_to_join():
    """Unless it is to be created, that is an answer, and a final one."""
    ann = Person(Town(group=False)).want()
    ann.run()

    assert ann.m.phase is Phase.OUT
    assert isinstance(ann.m.error, GroupNotFound)


def test_a_group_is_created_if_asked_for():
    """Then joined, whoever made it first."""
    ann = Person(Town(group=False)).want(create=True)
    done = ann.run()

    assert Step.CREATE in done
    assert ann.m.phase is Phase.JOINED


def test_a_lost_answer_of_an_enter_is_adopted_not_repeated():
    """It was written; to write it again would be a second life."""
    ann = Person(Town()).want()
    ann.send(ann.ask())
    ann.hear(OutcomeUnknown("no answer"))
    first = ann.town.rows()["ann"].incarnation
    ann.town.now += 1.0

    assert ann.run() == [Step.LOOK]
    assert (ann.m.phase, ann.m.incarnation) == (Phase.JOINED, first)


def test_a_doubled_enter_does_not_end_the_life_that_it_began():
    """It names what it has seen, and that is no longer so."""
    ann = Person(Town()).want()
    enter = ann.ask()
    ann.hear(ann.send(enter))
    first = ann.town.rows()["ann"]

    assert isinstance(ann.send(enter), Refused)
    assert ann.town.rows()["ann"] == first


def test_what_the_store_refuses_for_good_ends_the_join():
    """Nobody waits for a thing that waiting does not mend."""
    ann = Person(Town()).want()
    ann.ask()
    ann.hear(CapabilitiesTooLarge("too large"))

    assert ann.m.phase is Phase.OUT
    assert isinstance(ann.m.error, CapabilitiesTooLarge)


def test_an_outage_does_not_end_the_join():
    """It goes on when the store is back; whoever asked may stop waiting whenever they like."""
    ann = Person(Town()).want()
    ann.ask()
    ann.hear(StoreUnavailable("down"))
    assert ann.ask() is None

    ann.town.now += 1.0
    ann.run()
    assert ann.m.phase is Phase.JOINED


def test_failures_are_not_repeated_without_a_pause():
    """Each waits for itself, longer each time, and never longer than two seconds."""
    ann = Person(Town()).joined()
    pauses = []
    for _ in range(12):
        ann.hear(StoreUnavailable("down"))
        assert ann.ask() is None
        pauses.append(ann.m.retry_at - ann.town.now)
        ann.town.now = ann.m.retry_at

    assert all(0.05 <= pause <= 2.0 for pause in pauses)
    assert pauses[-1] > pauses[0]


def test_refusals_without_end_are_not_asked_for_without_a_pause():
    """A store that says stale for ever must not be asked for ever in no time."""
    ann = Person(Town()).want()
    asked = 0
    while ann.ask() is not None:
        asked += 1
        assert asked < 20
        ann.hear(Refused(reason=Refusal.STALE) if ann.ask() is not Step.LOOK else ann.send(Step.LOOK))

    assert ann.m.retry_at > ann.town.now


# ── publishing ──


def test_unchanged_capabilities_write_nothing():
    """The seeds' condition: “only if changed”."""
    ann = Person(Town()).joined(capabilities=b"c")
    revision = ann.town.store.read("g").revision
    ann.m.update(b"c")

    assert ann.run() == []
    assert ann.town.store.read("g").revision == revision


def test_changed_capabilities_are_one_amend():
    """Of that alone: standing and readiness stay as they are."""
    ann = Person(Town()).joined(capabilities=b"c")
    before = ann.town.rows()["ann"]
    ann.m.update(b"d")

    (commit,) = ann.run()
    assert only(commit) == Amend(
        key="ann", incarnation=before.incarnation, seen=before.revision, capabilities=b"d"
    )
    assert ann.town.rows()["ann"].standing_since == before.standing_since


def test_updates_before_the_join_is_done_go_with_it():
    """The newest bytes count."""
    ann = Person(Town()).want(capabilities=b"c")
    ann.m.update(b"d")
    ann.run()

    assert ann.town.rows()["ann"].capabilities == b"d"


def test_who_is_out_publishes_nothing():
    """There is no row to write to."""
    ann = Person(Town())
    ann.m.update(b"d")

    assert ann.run() == []


def test_an_unready_member_does_not_stand():
    """Its application has not vouched for itself; ready again, it stands behind the others."""
    town = Town()
    ann = Person(town).joined()
    Person(town, "ben").joined()
    ann.run(ready=False)
    assert (town.leader(), town.rows()["ann"].ready) == ("ben", False)

    ann.run(ready=True)
    assert town.leader() == "ben"
    assert town.rows()["ann"].standing_since > town.rows()["ben"].standing_since > 0


def test_who_joined_without_standing_does_not_lead():
    """Until somebody asks to lead with it."""
    ann = Person(Town()).joined(stand=False)
    assert ann.town.leader() is None

    ann.m.following = 1
    ann.run()
    assert ann.town.leader() == "ann"

    ann.m.following = 0
    ann.run()
    assert ann.town.leader() is None


def test_a_suspect_that_beats_again_is_up_and_stands_anew():
    """The guard held it back, and freed its place; it comes back behind the others."""
    town = Town()
    ann = Person(town).joined()
    Person(town, "ben").joined()
    with town.server.lock:
        town.store._lapse({ann.presence.session_id})
    assert town.leader() == "ben"

    ann.look()
    ann.run()
    assert town.rows()["ann"].state is State.UP
    assert town.rows()["ann"].standing_since > town.rows()["ben"].standing_since


# ── leaving ──


def test_leaving_is_a_goodbye_at_our_own_row():
    """It names the life and the revision: a late one touches nobody else."""
    ann = Person(Town()).joined()
    before = ann.town.rows()["ann"]
    ann.m.unwant()

    (commit,) = ann.run()
    assert only(commit) == Withdraw(key="ann", incarnation=before.incarnation, seen=before.revision)
    assert ann.m.phase is Phase.OUT
    assert ann.town.rows()["ann"].state is State.LEFT


def test_leaving_before_the_session_is_open_needs_no_store():
    """What was never entered need not be withdrawn; `close` must not wait for it."""
    ann = Person(Town())
    ann.presence.lost()
    ann.want()
    ann.m.unwant()

    assert ann.m.phase is Phase.OUT
    ann.open()
    assert ann.run() == []


def test_leaving_while_the_enter_is_on_its_way_withdraws_what_it_wrote():
    """Else a row would stay up as long as the session beats, and belong to nobody."""
    ann = Person(Town()).want()
    enter = ann.ask()
    ann.m.unwant()
    ann.hear(ann.send(enter))
    assert ann.m.phase is Phase.LEAVING

    ann.run()
    assert ann.town.rows()["ann"].state is State.LEFT


def test_leaving_while_the_enter_got_lost_looks_first():
    """It may have been written."""
    ann = Person(Town()).want()
    ann.send(ann.ask())
    ann.m.unwant()
    ann.hear(OutcomeUnknown("no answer"))
    ann.town.now += 1.0
    ann.run()

    assert ann.m.phase is Phase.OUT
    assert ann.town.rows()["ann"].state is State.LEFT


def test_an_enter_that_lands_after_we_gave_up_is_withdrawn_when_it_is_seen():
    """It was late, and our session is alive: the row would be up for ever."""
    ann = Person(Town()).want()
    enter = ann.ask()
    ann.m.unwant()
    ann.hear(OutcomeUnknown("no answer"))
    ann.town.now += 1.0
    ann.run()
    assert ann.m.phase is Phase.OUT

    ann.send(enter)
    ann.look()
    ann.run()
    assert ann.m.phase is Phase.OUT
    assert ann.town.rows()["ann"].state is State.LEFT


def test_joining_again_while_leaving_is_another_life():
    """The goodbye may be on its way: whoever saw the first life go sees a second one come."""
    ann = Person(Town()).joined()
    first = ann.m.incarnation
    ann.m.unwant()
    goodbye = ann.ask()
    ann.want()
    ann.hear(ann.send(goodbye))
    ann.run()

    assert ann.m.phase is Phase.JOINED
    assert ann.m.incarnation > first


def test_a_late_goodbye_does_not_end_the_next_life():
    """The store carries it out after we had given it up and looked; it finds another revision."""
    ann = Person(Town()).joined()
    ann.m.unwant()
    goodbye = ann.ask()
    ann.hear(OutcomeUnknown("no answer"))
    ann.want()
    ann.town.now += 1.0
    ann.run()
    assert ann.m.phase is Phase.JOINED

    assert isinstance(ann.send(goodbye), Refused)
    assert ann.town.rows()["ann"].live


def test_leaving_a_group_that_is_gone_is_done():
    """There is nothing left to leave."""
    ann = Person(Town()).joined()
    ann.m.unwant()
    ann.ask()
    ann.hear(GroupNotFound("gone"))

    assert ann.m.phase is Phase.OUT
    ann.want()
    assert ann.ask() is not Step.CREATE


def test_a_session_lost_while_leaving_has_left():
    """The store says goodbye for us."""
    ann = Person(Town()).joined()
    ann.m.unwant()
    ann.lose()

    assert ann.m.phase is Phase.OUT


# ── one name, two processes ──


def test_a_restart_on_the_same_host_is_a_member_at_once():
    """Its predecessor may be dead and not yet overdue: nobody waits a ttl for oneself."""
    town = Town()
    Person(town).joined()
    new = Person(town).joined()

    assert town.rows()["ann"].instance == new.instance


def test_a_predecessor_that_still_runs_is_superseded_for_good():
    """It must not take the name back by itself: the two would fight for ever."""
    town = Town()
    old = Person(town).joined()
    Person(town).joined()
    old.look()

    assert old.m.phase is Phase.OUT
    assert isinstance(old.m.error, Superseded)
    assert old.m.told() == [Kind.SUPERSEDED]
    assert old.run() == []


def test_who_was_superseded_may_be_told_to_join_again():
    """That is the application's word, not ours."""
    town = Town()
    old, new = Person(town).joined(), Person(town).joined()
    old.look()
    old.joined()
    new.look()

    assert isinstance(new.m.error, Superseded)


def test_a_living_member_of_another_host_keeps_its_name():
    """Two machines with one name are a mistake of somebody's, and not for us to settle."""
    town = Town()
    Person(town, host="h1").joined()
    other = Person(town, host="h2").want()
    other.run()

    assert other.m.phase is Phase.OUT
    assert isinstance(other.m.error, MemberTaken)
    assert "'h1'" in str(other.m.error)


def test_a_dead_member_of_another_host_leaves_its_name():
    """It has moved."""
    town = Town()
    old = Person(town, host="h1").joined()
    town.store.close_session(old.presence.session_id)

    assert Person(town, host="h2").joined().m.error is None


def test_fail_refuses_even_a_predecessor_on_the_same_host():
    """For who starts things twice by accident."""
    town = Town()
    Person(town).joined()
    new = Person(town).want(on_conflict="fail")
    new.run()

    assert isinstance(new.m.error, MemberTaken)


def test_wait_waits_until_the_other_has_gone():
    """Looking now and then, never in a hurry, never giving up."""
    town = Town()
    old = Person(town).joined()
    new = Person(town).want(on_conflict="wait")
    for _ in range(5):
        assert len(new.run()) <= 2
        assert new.m.phase is Phase.JOINING and new.m.not_before > town.now
        town.now = new.m.not_before
    old.m.unwant()
    old.run()
    new.run()

    assert new.m.phase is Phase.JOINED


def test_who_waits_can_leave():
    """Without ever having been in."""
    town = Town()
    Person(town).joined()
    new = Person(town).want(on_conflict="wait")
    new.run()
    new.m.unwant()
    new.run()

    assert new.m.phase is Phase.OUT
    assert town.rows()["ann"].live


# ── a name that processes share ──


def test_processes_of_one_host_share_a_name():
    """A row for each; nobody is superseded."""
    town = Town()
    one, two = (Person(town).joined(on_conflict="share") for _ in range(2))
    one.look()
    two.look()

    assert (one.m.phase, two.m.phase) == (Phase.JOINED, Phase.JOINED)
    assert {row.instance for row in town.rows().values() if row.live} == {one.instance, two.instance}


def test_another_host_does_not_share():
    """The name would say nothing about where it is."""
    town = Town()
    Person(town, host="h1").joined(on_conflict="share")
    other = Person(town, host="h2").want(on_conflict="share")
    other.run()

    assert isinstance(other.m.error, MemberTaken)


def test_who_shares_sweeps_up_after_dead_fellows():
    """Each restart would leave a row behind for ever."""
    town = Town()
    dead = Person(town).joined(on_conflict="share")
    town.store.close_session(dead.presence.session_id)
    Person(town).joined(on_conflict="share")

    assert len(town.rows()) == 1


def test_a_fellow_whose_row_was_swept_up_comes_back():
    """It was only slow: there is no row of its name, and it may enter."""
    town = Town()
    slow = Person(town).joined(on_conflict="share")
    slow.lose()
    Person(town).joined(on_conflict="share")
    slow.open()
    slow.run()

    assert slow.m.phase is Phase.JOINED
    assert len(town.rows()) == 2


def test_who_does_not_share_takes_the_name_from_all_who_do():
    """On the same host, as from any predecessor."""
    town = Town()
    shared = [Person(town).joined(on_conflict="share") for _ in range(2)]
    alone = Person(town).joined()
    for person in shared:
        person.look()

    assert [isinstance(person.m.error, Superseded) for person in shared] == [True, True]
    assert [row.instance for row in town.rows().values() if row.live] == [alone.instance]


@pytest.mark.parametrize(("first", "then"), [("share", "take_over"), ("take_over", "share")])
def test_who_joins_another_way_takes_its_own_row_along(first, then):
    """Its former row stands in its own way, under another key: it would be refused for ever."""
    town = Town()
    ann = Person(town).joined(on_conflict=first)
    ann.m.unwant()
    ann.want(on_conflict=then)
    ann.run()

    assert ann.m.phase is Phase.JOINED
    assert len([row for row in town.rows().values() if row.live]) == 1


# ── coming back ──


def test_who_lost_its_session_comes_back_by_itself():
    """A pause, a partition: the application hears that it was out, and that it is in again."""
    ann = Person(Town()).joined(capabilities=b"c")
    first = ann.m.incarnation
    ann.lose()
    assert (ann.m.phase, ann.m.incarnation, ann.m.told()) == (Phase.JOINING, 0, [Kind.LOST])

    ann.open()
    ann.run()
    assert ann.m.told() == [Kind.REJOINED]
    assert ann.m.incarnation > first
    assert ann.town.rows()["ann"].capabilities == b"c"


def test_two_losses_before_being_back_are_one():
    """Lost, then rejoined: each once."""
    ann = Person(Town()).joined()
    ann.lose()
    ann.open()
    ann.lose()
    ann.open()
    ann.run()

    assert ann.m.told() == [Kind.LOST, Kind.REJOINED]


def test_who_never_was_in_tells_nothing_when_it_arrives():
    """The join returns; there is nothing to tell besides."""
    ann = Person(Town()).want()
    ann.lose()
    ann.open()
    ann.run()

    assert ann.m.told() == []


def test_it_comes_back_over_its_own_dead_row():
    """That life was its own: nobody has taken the name since."""
    ann = Person(Town()).joined()
    ann.lose()
    assert ann.town.rows()["ann"].state is State.DOWN
    ann.open()
    ann.run()

    assert ann.m.phase is Phase.JOINED


def test_it_comes_back_where_there_is_no_row():
    """An operator has forgotten it, or the store has."""
    ann = Person(Town()).joined()
    ann.lose()
    row = ann.town.rows()["ann"]
    ann.town.store.commit(
        "g", [Withdraw(key="ann", incarnation=row.incarnation, seen=row.revision, forget=True)]
    )
    ann.open()
    ann.run()

    assert ann.m.phase is Phase.JOINED


def test_it_comes_back_where_there_is_no_group():
    """The store forgot everything: nobody is locked out by that."""
    town = Town()
    ann = Person(town).joined()
    ann.lose()
    town.server.begin()
    ann.open()
    done = ann.run()

    assert Step.CREATE in done
    assert ann.m.phase is Phase.JOINED


def test_a_zombie_does_not_supersede_its_successor():
    """It slept while another process took the name over."""
    town = Town()
    old = Person(town).joined()
    old.lose()
    new = Person(town).joined()
    old.open()
    old.run()

    assert isinstance(old.m.error, Superseded)
    assert town.rows()["ann"].instance == new.instance


def test_not_even_a_successor_that_has_died_since():
    """Somebody has started another one, and will again: the old one is not it."""
    town = Town()
    old = Person(town).joined()
    old.lose()
    new = Person(town).joined()
    town.store.close_session(new.presence.session_id)
    old.open()
    old.run()

    assert isinstance(old.m.error, Superseded)


def test_it_comes_back_over_a_predecessor_of_its_own():
    """The store lost our enter, and shows again whom we had followed: that life is older than ours."""
    town = Town()
    Person(town).joined()
    before = town.rows()["ann"]
    ann = Person(town).joined()
    ann.lose()
    town.server.groups["g"].rows["ann"] = before
    ann.open()
    ann.run()

    assert ann.m.phase is Phase.JOINED
    assert town.rows()["ann"].instance == ann.instance


def test_a_lost_answer_locks_nobody_out():
    """It came back, never heard that it had, and lost that session too: the newest row is its own
    instance's, though it does not know the life."""
    ann = Person(Town()).joined()
    ann.lose()
    ann.open()
    ann.look()
    ann.send(ann.ask())
    assert ann.town.rows()["ann"].incarnation > ann.m.newest_own

    ann.lose()
    ann.open()
    ann.run()
    assert ann.m.phase is Phase.JOINED


def test_an_answer_of_the_old_session_does_not_count_as_being_back():
    """The commit was answered after the session was lost: that life is over."""
    ann = Person(Town()).want()
    enter = ann.ask()
    answer = ann.send(enter)
    ann.lose()
    ann.hear(answer)
    assert ann.m.phase is Phase.JOINING

    ann.open()
    ann.run()
    assert ann.town.rows()["ann"].session == ann.presence.session_id


def test_a_look_of_the_old_session_does_no_harm():
    """It shows the row as it was; what is entered over it is refused, and looked at again."""
    ann = Person(Town()).joined()
    old = ann.send(Step.LOOK)
    asked = ann.town.now
    ann.town.now += 0.1
    ann.lose()
    ann.hear(old, asked)
    ann.open()
    ann.run()

    assert ann.m.phase is Phase.JOINED


def test_a_store_that_counts_from_the_start_again_is_believed_after_a_loss():
    """Its revisions are lower than our last commit: whoever waits for higher ones waits for ever."""
    ann = Person(Town()).joined()
    ann.presence.lost()
    ann.m.session_lost()
    ann.open()
    ann.look()
    ann.hear(Snapshot(group="g", revision=1), ann.town.now)

    assert isinstance(only(ann.ask()), Enter)


def test_a_row_taken_down_under_a_living_session_is_entered_again():
    """An operator withdrew it, and barred nobody: `leave` is the member's word."""
    ann = Person(Town()).joined()
    row = ann.town.rows()["ann"]
    ann.town.store.commit("g", [Withdraw(key="ann", incarnation=row.incarnation, seen=row.revision)])
    ann.look()
    ann.run()

    assert ann.m.told() == [Kind.LOST, Kind.REJOINED]
    assert ann.town.rows()["ann"].live


def test_a_group_deleted_under_a_joined_member_is_made_again():
    """Only a store that forgot can do that: a group with members is not deleted."""
    town = Town()
    ann = Person(town).joined()
    del town.server.groups["g"]
    ann.look()
    done = ann.run()

    assert Step.CREATE in done
    assert (ann.m.phase, ann.m.told()) == (Phase.JOINED, [Kind.LOST, Kind.REJOINED])


def test_a_group_that_vanishes_while_nobody_wants_it_stays_away():
    """A late answer must not make a membership of nothing create it at the next join."""
    ann = Person(Town()).joined()
    ann.lose()
    ann.m.unwant()
    ann.hear(GroupNotFound("gone"))
    ann.want(create=False)
    ann.open()

    assert ann.ask() is not Step.CREATE


# ── expelled ──


def test_the_expelled_are_out_and_barred():
    """They look again once in a ttl, and do nothing else."""
    town = Town()
    ann = Person(town).joined(stand=False)
    town.mark("ann", expelled=True)
    ann.look()
    assert (ann.m.phase, ann.m.told()) == (Phase.BARRED, [Kind.LOST])
    assert isinstance(ann.m.error, Expelled)

    looks = 0
    for _ in range(10 * int(TTL)):
        looks += len(ann.run())
        town.now += 1.0
    assert 9 <= looks <= 11
    assert not town.rows()["ann"].live


def test_the_expelled_give_their_place_up_as_soon_as_nobody_acts_within_it():
    """They wait a ttl until they look again; their successor does not."""
    town = Town()
    ann = Person(town).joined()
    ann.m.inside = True
    town.mark("ann", expelled=True)
    ann.look()
    ann.run()
    assert len(town.store.read("g").claims) == 1
    ann.m.inside = False
    ann.run()

    assert town.store.read("g").claims == ()


def test_the_expelled_come_back_when_that_is_lifted():
    """By themselves, within a ttl."""
    town = Town()
    ann = Person(town).joined()
    town.mark("ann", expelled=True)
    ann.look()
    ann.run()
    town.mark("ann")
    town.now += TTL
    ann.run()

    assert (ann.m.phase, ann.m.error) == (Phase.JOINED, None)
    assert ann.m.told() == [Kind.LOST, Kind.REJOINED]


def test_the_expelled_are_told_so_when_they_join():
    """That is an answer: the call raises, and nothing waits."""
    town = Town()
    town.mark("ann", expelled=True)
    ann = Person(town).want()
    ann.run()

    assert ann.m.phase is Phase.OUT
    assert isinstance(ann.m.error, Expelled)


def test_a_lifted_mark_is_not_remembered():
    """Whoever left while barred, and joins when it is lifted, is in: an old mark must not put it out
    again, and leave its row up behind it."""
    town = Town()
    ann = Person(town).joined()
    town.mark("ann", expelled=True)
    ann.look()
    ann.m.unwant()
    ann.run()
    town.mark("ann")
    row = town.rows()["ann"]
    town.store.commit("g", [Withdraw(key="ann", incarnation=row.incarnation, seen=row.revision, forget=True)])
    ann.want()
    ann.run()

    assert ann.m.phase is Phase.JOINED
    assert town.rows()["ann"].live


def test_the_expelled_do_not_come_back_by_losing_their_session():
    """The mark outlives incarnations and sessions."""
    town = Town()
    ann = Person(town).joined()
    town.mark("ann", expelled=True)
    ann.lose()
    ann.open()
    ann.run()

    assert ann.m.phase is Phase.BARRED
    assert not town.rows()["ann"].live


def test_being_barred_while_leaving_is_having_left():
    """Else it would wait at the door for somebody who no longer wants to come in; and `close` for it."""
    town = Town()
    ann = Person(town).joined()
    ann.lose()
    ann.open()
    ann.hear(ann.send(ann.ask()))
    enter = ann.ask()
    town.mark("ann", expelled=True)
    ann.m.unwant()
    ann.hear(ann.send(enter))
    ann.run()

    assert ann.m.phase is Phase.OUT


def test_the_expelled_do_not_make_a_deleted_group_again():
    """The operator put them out, then deleted the group: neither is theirs to undo."""
    town = Town()
    ann = Person(town).joined(stand=False)
    town.mark("ann", expelled=True)
    ann.look()
    town.store.delete_group("g")
    for _ in range(3):
        ann.run()
        town.now += TTL

    assert ann.m.phase is Phase.BARRED
    assert town.store.groups() == []


def test_seeing_that_the_group_is_gone_is_having_looked():
    """A notice about it is read by that; else every other group of the session stays leaderless."""
    town = Town()
    ann = Person(town).joined(stand=False)
    town.mark("ann", expelled=True)
    ann.look()
    town.store.delete_group("g")
    town.now += TTL
    asked = town.now
    ann.run()

    assert ann.m.looked_at >= asked


# ── leading ──


def leading(town: Town, name: str = "ann") -> Person:
    person = Person(town, name).joined()
    person.m.following = 1
    assert person.leads()
    return person


def test_a_term_begins_when_our_row_leads_and_we_trust_our_session():
    """And somebody wants to lead."""
    ann = Person(Town()).joined()
    assert not ann.leads()

    ann.m.following = 1
    assert ann.leads()
    assert ann.m.term is not None
    assert ann.m.term.token == ann.town.rows()["ann"].standing_since


def test_a_term_begins_once():
    """The same object, as long as it lasts."""
    ann = leading(Town())
    term = ann.m.term

    assert not ann.leads()
    assert ann.m.term is term


def test_no_term_without_trust():
    """The register still shows us first; by now it may be another who leads."""
    ann = Person(Town()).joined()
    ann.m.following = 1
    ann.town.now += TTL

    assert not ann.leads()


def test_no_term_for_the_row_of_a_life_before():
    """The leader bears our name and key, but it is our predecessor, or ourselves of before."""
    ann = Person(Town()).joined()
    ann.m.following = 1
    old = ann.town.rows()["ann"]
    ann.lose()
    ann.open()

    assert not ann.m.follow_lead(old, ann.moment())


def test_a_term_is_over_when_trust_runs_out_and_its_token_is_spent():
    """The register may still show it: it is never taken up again, and its owner stands anew."""
    town = Town()
    ann, ben = leading(town), Person(town, "ben").joined()
    token = ann.m.term.token if ann.m.term else 0
    town.now += TTL
    assert ann.m.review(ann.moment())

    ann.presence.taken(0, ann.moment(), ann.moment())
    assert not ann.leads()
    (commit,) = ann.run()
    assert isinstance(amend := only(commit), Amend) and amend.standing is Standing.ANEW
    assert town.rows()["ann"].standing_since > town.rows()["ben"].standing_since > token
    assert ben.town.leader() == "ben"


def test_a_lone_leader_stands_anew_too():
    """Nobody is behind whom it could stand; the token grows all the same."""
    ann = leading(Town())
    first = ann.m.term.token if ann.m.term else 0
    ann.m.resign()
    assert not ann.leads()
    ann.run()

    assert ann.leads()
    assert ann.m.term is not None and ann.m.term.token > first


def test_a_disabled_leader_stops_when_it_reads_of_it():
    """And acknowledges: only then, so that its successor begins when it has stopped."""
    town = Town()
    ann, ben = leading(town), Person(town, "ben").joined()
    term = ann.m.term
    town.mark("ann", disabled="disk")
    assert town.leader() is None

    ann.look()
    assert term is not None and not term.trusted(ann.moment())
    done = ann.run()
    assert isinstance(only(done[0]), Vacate)
    assert ben.town.leader() == "ben"


def test_an_expelled_leader_acknowledges_too():
    """It is out, but it alone can say that it has stopped before its trust runs out."""
    town = Town()
    ann = leading(town)
    Person(town, "ben").joined()
    town.mark("ann", expelled=True)
    assert town.leader() is None

    ann.look()
    ann.run()
    assert town.leader() == "ben"


def test_nobody_acknowledges_for_another():
    """A claim of our predecessor is not ours to give up: it may still act on it."""
    town = Town()
    old = leading(town)
    new = Person(town).joined()
    new.look()

    assert new.run() == []
    assert town.leader() is None
    assert old.m.term is not None and old.m.term.trusted(old.moment())


def test_becoming_unready_stops_acting_before_it_gives_up_the_place():
    """Once the write has left, another may lead; its answer may be slow, or never come."""
    town = Town()
    ann = leading(town)
    Person(town, "ben").joined()
    term = ann.m.term
    amend = ann.ask(ready=False)
    assert term is not None and not term.trusted(ann.moment())

    ann.send(amend)
    ann.hear(OutcomeUnknown("no answer"))
    assert town.leader() == "ben"
    assert ann.m.term is None


def test_no_term_begins_at_a_place_that_is_being_given_up():
    """The write that gives it up is on its way, and what we have read still shows us first."""
    ann = Person(Town()).joined()
    found = ann.town.rows()["ann"]
    ann.ask(ready=False)
    ann.m.following = 1

    assert not ann.m.follow_lead(found, ann.moment())


def test_no_term_begins_while_leaving():
    """The same, for a goodbye."""
    ann = Person(Town()).joined()
    found = ann.town.rows()["ann"]
    ann.m.unwant()
    ann.ask()
    ann.m.following = 1

    assert not ann.m.follow_lead(found, ann.moment())


def test_no_term_begins_at_a_place_that_was_left_before_it_was_seen():
    """The enter was answered after we had changed our mind: what follows is the goodbye."""
    ann = Person(Town()).want()
    enter = ann.ask()
    ann.m.unwant()
    ann.hear(ann.send(enter))
    found = ann.town.rows()["ann"]
    ann.ask()
    ann.m.following = 1

    assert not ann.m.follow_lead(found, ann.moment())


def test_no_term_begins_at_the_place_of_a_goodbye_that_got_lost():
    """The row is there still, and we want it again; but the goodbye may land late."""
    ann = Person(Town()).joined()
    ann.m.following = 1
    ann.m.unwant()
    ann.ask()
    ann.hear(OutcomeUnknown("no answer"))
    ann.want()
    ann.look()
    assert ann.m.phase is Phase.JOINED
    assert not ann.leads()

    ann.town.now += 1.0
    ann.run()
    assert ann.leads()


def test_leaving_ends_the_term_at_once():
    """Stop acting first, give up second."""
    ann = leading(Town())
    term = ann.m.term
    ann.m.unwant()

    assert term is not None and term.over == "left the group"


def test_losing_the_session_ends_the_term_at_once():
    """Whatever the clock says."""
    ann = leading(Town())
    term = ann.m.term
    ann.lose()

    assert term is not None and term.over == "the session was lost"
    assert not ann.leads()


def test_enter_names_the_ttl_that_was_granted():
    """A claim of this row is kept for so long: what we asked for may be less than what we trust."""
    ann = Person(Town())
    session = Session(id="s9", instance=ann.instance, host="h", process="p", ttl=TTL)
    ann.presence.opened(session, Granted(ttl=40.0), ann.moment(), ann.moment())
    ann.want()

    enter = only(ann.ask())
    assert isinstance(enter, Enter) and enter.ttl == 40.0


# ── late answers ──


def test_a_look_asked_before_another_is_dropped():
    """It shows what was so before."""
    town = Town()
    ann = Person(town).joined()
    early, asked = ann.send(Step.LOOK), town.now
    town.now += 1.0
    town.mark("ann", disabled="x")
    ann.look()
    before = ann.m.looked_at
    ann.hear(early, asked)

    assert ann.m.looked_at == before


def test_a_look_older_than_our_own_commit_is_dropped():
    """A follower of the store may lag behind what it has told us; we ask again, but not at once."""
    ann = Person(Town())
    old = ann.send(Step.LOOK)
    ann.joined()
    ann.hear(old, ann.town.now + 1.0)

    assert ann.m.phase is Phase.JOINED
    assert ann.ask() is None and ann.m.retry_at > ann.town.now


def test_a_refused_commit_is_looked_at_before_it_is_repeated():
    """Somebody has touched the row; what to write is another question now."""
    town = Town()
    ann = Person(town).joined()
    town.mark("ann", disabled="x")
    ann.m.update(b"d")
    done = ann.run()

    assert done[1] is Step.LOOK
    assert town.rows()["ann"].capabilities == b"d"


def test_an_amend_refused_for_good_does_not_end_the_membership():
    """The row is there still, and so are we; it is tried again now and then."""
    ann = Person(Town()).joined()
    ann.m.update(b"d")
    ann.ask()
    ann.hear(AccessDenied("no"))
    assert (ann.m.phase, ann.ask()) == (Phase.JOINED, None)

    ann.town.now += 2.0
    ann.run()
    assert ann.town.rows()["ann"].capabilities == b"d"
