"""The node's hands, and above all the watcher: who is served when, and what answers in flight may meet.

The store is the one in memory, its clock is the test's. `turn` has a hand ask for one thing, carries
it out and brings the answer back; `begin` leaves the answer on its way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headcount.core.agent import Agent
from headcount.core.membership import Desired, Identity, Membership, Phase
from headcount.core.node import Node
from headcount.core.session import margin_of
from headcount.core.work import (
    DoAdvance,
    DoBeat,
    DoClose,
    DoCommit,
    DoLook,
    DoOpen,
    DoRead,
    DoSweep,
    DoTogether,
    Listen,
    OutageBegan,
    OutageEnded,
    Rest,
    Told,
    ToldSelf,
    parts,
)
from headcount.engine.errands import beat, do
from headcount.errors import (
    AccessDenied,
    CapabilitiesTooLarge,
    ConfigError,
    GroupNotFound,
    HeadcountError,
    OutcomeUnknown,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.model import (
    Beat,
    Committed,
    Enter,
    Kind,
    Moment,
    Refusal,
    Refused,
    Remark,
    Ring,
    SessionId,
    Snapshot,
    Swept,
    Vacate,
)
from headcount.register import replace
from headcount.stores.memory import MemoryServer, MemoryStore

TTL = 9.0
DOWN = StoreUnavailable("down")


class Town:
    """One store, and a clock for all."""

    def __init__(self, mode: str = "ticks") -> None:
        self.now = 1000.0
        self.server = MemoryServer(mode, clock=lambda: self.now, wall=lambda: self.now)
        self.store = MemoryStore(self.server)
        self.store.create_group("g")
        self.numbers = itertools.count(1)

    def mark(self, member: str, group: str = "g", **marks: str | bool) -> None:
        found = self.store.read(group, only=[member])
        seen = found.marks[0].revision if found.marks else 0
        self.store.commit(group, [Remark(member_id=member, seen=seen, **marks)])  # type: ignore[arg-type]

    def live(self, group: str = "g") -> set[str]:
        return {row.member_id for row in self.store.read(group).rows if row.live}


@dataclass
class Flight:
    """A request that was carried out, or not, and whose answer is on its way."""

    hand: str
    request: object
    asked: Moment
    answer: object = None


@dataclass
class Process:
    town: Town
    name: str = "p"
    log: list[object] = field(default_factory=list)
    fault: Callable[[object], HeadcountError | None] = lambda request: None
    """Which error a request meets instead of the store."""

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.town.server)
        self.node = Node(self.store.guarantees, lambda: self.town.now)
        self.bell = self.store.doorbell()

    def moment(self) -> Moment:
        return Moment(self.town.now, self.town.now)

    def agent(self, name: str = "", *, host: str = "h", ttl: float = TTL) -> Agent:
        instance = f"{self.name}/{name}/{next(self.town.numbers)}"
        me = Identity(member_id=name, instance=instance, host=host)
        agent = Agent(me, self.name, ttl, lambda: f"s{next(self.town.numbers)}")
        self.node.add(agent)
        return agent

    def member(self, name: str = "ann", group: str = "g", **desired) -> Membership:
        """A coordinator that wants to be in a group."""
        return self.node.want(self.agent(name), group, Desired(**desired))

    def joined(self, name: str = "ann", group: str = "g", **desired) -> Membership:
        membership = self.member(name, group, **desired)
        self.settle()
        assert membership.phase is Phase.JOINED
        return membership

    def watch(self, agent: Agent, group: str = "g") -> None:
        self.bell.wait(0)  # what rang before is no news
        agent.watching += 1
        self.node.watcher.poke(agent)
        self.node.watch(group)

    def owner(self, membership: Membership) -> Agent:
        return self.node.agents[membership.me.instance]

    # ── hands ──

    def ask(self, hand: str = "watcher"):
        return (self.node.heart if hand == "heart" else self.node.watcher).next(self.moment())

    def begin(
        self, hand: str = "watcher", *, written: bool = True, error: HeadcountError | None = None
    ) -> Flight:
        request = self.ask(hand)
        self.log.append(request)
        flight = Flight(hand, request, self.moment())
        flight.answer = self.carry_out(request) if written else None
        flight.answer = error or flight.answer
        return flight

    def finish(self, flight: Flight) -> None:
        hand = self.node.heart if flight.hand == "heart" else self.node.watcher
        if not isinstance(flight.request, Rest):
            hand.done(flight.request, flight.asked, self.moment(), flight.answer)  # type: ignore[arg-type]

    def turn(self, hand: str = "watcher", *, error: HeadcountError | None = None) -> object:
        flight = self.begin(hand, written=error is None, error=error)
        self.finish(flight)
        return flight.request

    def beat(self) -> None:
        """Let the heart work until it has beaten."""
        self.finish(self.until(DoBeat, "heart"))

    def until(self, kind: type, hand: str = "watcher") -> Flight:
        """Let a hand work until it has sent this; the answer is on its way."""
        for _ in range(50):
            flight = self.begin(hand)
            if isinstance(flight.request, kind):
                return flight
            self.finish(flight)
        raise AssertionError(f"it never asks for {kind.__name__}: {self.log[-4:]}")

    def carry_out(self, request: object) -> object:
        store = self.store
        error = self.fault(request)
        if error is not None:
            return error
        try:
            if isinstance(request, Listen):
                return self.bell.wait(0) if request.doorbell else None
            if isinstance(request, DoBeat | DoAdvance | Rest):
                return beat(store, request)
            return do(store, request)  # type: ignore[arg-type]  # what is left is the watcher's
        except HeadcountError as raised:
            return raised

    def rests(self, request: object) -> bool:
        """Whether a hand that asked for this, and did it, has nothing to do for now."""
        if not isinstance(request, Rest | Listen) or request.until <= self.town.now:
            return False
        return (
            isinstance(request, Rest)
            or not request.doorbell
            or not (self.node.watcher._busy or self.node.dirty)
        )

    def settle(self, most: int = 400) -> list[object]:
        """Let the watcher work, in no time, until it has only to listen; what it did."""
        begun = len(self.log)
        for _ in range(most):
            if self.rests(self.turn()):
                return [done for done in self.log[begun:] if not isinstance(done, Listen)]
        raise AssertionError(f"it never comes to rest: {self.log[-4:]}")

    def live(self, seconds: float, *, step: float = 0.1) -> None:
        """Let both hands work, one after the other, for so long."""
        until = self.town.now + seconds
        while self.town.now < until:
            for hand in ("heart", "watcher"):
                for _ in range(50):
                    if self.rests(self.turn(hand)):
                        break
            self.town.now = round(self.town.now + step, 6)

    def told(self) -> list[object]:
        """What the application hears, in short."""
        short: list[object] = []
        for tiding in self.node.fetch():
            match tiding:
                case Told(_, changes):
                    short += [(c.kind, c.member.member_id if c.member else None) for c in changes]
                case ToldSelf(kind=kind):
                    short.append(kind)
                case _:
                    short.append(tiding)
        return short


def kinds(requests: list[object]) -> list[str]:
    return [type(request).__name__ for request in requests]


# ── from nothing to a member ──


def test_joining_is_two_requests():
    """A session, and a commit: nobody waits for more."""
    process = Process(Town())
    process.member()

    assert kinds(process.settle()) == ["DoOpen", "DoCommit"]
    assert process.town.live() == {"ann"}


def test_who_watches_reads_the_group_once():
    """And hears what changes from then on."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    assert kinds(process.settle()) == ["DoRead"]

    process.joined("ben")
    assert (Kind.JOINED, "ben") in process.told()


def test_an_idle_watcher_reads_no_rows():
    """It listens, a second at a time."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    process.settle()
    for _ in range(10):
        assert isinstance(process.turn(), Listen)
        process.town.now += 1.0


def test_joining_a_watched_group_that_is_empty_is_no_resync():
    """An empty view is a view."""
    process = Process(Town())
    agent = process.agent("ann")
    process.watch(agent)
    process.settle()
    process.node.want(agent, "g", Desired())
    done = process.settle()

    assert process.told() == [(Kind.JOINED, "ann"), (Kind.LEADER, "ann")]
    assert all(request.after is not None for request in done if isinstance(request, DoRead))


def test_an_observer_that_watches_opens_a_session_to_tick():
    """Else, with one member and one observer, the member's death is never seen."""
    process = Process(Town())
    process.watch(process.agent())

    assert "DoOpen" in kinds(process.settle())


def test_an_observer_needs_no_session_where_nobody_ticks():
    """The store expires sessions itself."""
    process = Process(Town("sessions"))
    process.watch(process.agent())

    assert kinds(process.settle()) == ["DoRead"]


def test_an_observer_that_watches_nothing_asks_for_nothing():
    """A connection is dear."""
    process = Process(Town())
    process.agent()

    assert process.settle() == []


def test_a_dead_member_is_seen_by_the_observer_alone():
    """It ticks, and it sweeps."""
    town = Town()
    member, observer = Process(town, "m"), Process(town, "o")
    member.joined()
    observer.watch(observer.agent())
    observer.settle()
    observer.live(TTL / 3 + TTL + 4.0)

    assert (Kind.DOWN, "ann") in observer.told()


def test_a_member_alone_stays_a_member():
    """It beats and ticks by itself: nothing expires it."""
    process = Process(Town())
    ann = process.joined()
    first = ann.incarnation
    process.live(5 * TTL)

    assert (ann.phase, ann.incarnation) == (Phase.JOINED, first)
    assert process.town.server.clock_row.number > 40


# ── the order of things ──


def test_each_coordinator_has_its_turn():
    """A hundred that join, each its own group: nobody's second request comes before anybody's first."""
    process = Process(Town())
    for n in range(100):
        process.town.store.create_group(f"g{n:03}")
    members = [process.member(f"m{n:03}", f"g{n:03}") for n in range(100)]
    opened, *commits = process.settle()

    assert [request.instance for request in parts(opened)] == [m.me.instance for m in members]  # type: ignore[arg-type, union-attr]
    assert kinds(commits) == ["DoCommit"] * 100
    assert [request.instance for request in commits] == [m.me.instance for m in members]  # type: ignore[attr-defined]


def test_a_crowd_goes_together():
    """Three hundred that join one group at once are four requests, and nobody is served twice in one."""
    process = Process(Town())
    for n in range(300):
        process.member(f"m{n:03}")
    done = process.settle()

    assert kinds(done) == ["DoTogether"] * 4
    assert [len(parts(request)) for request in done] == [200, 100, 200, 100]  # type: ignore[arg-type]
    assert len(process.town.live()) == 300


def test_what_does_not_go_along_is_next():
    """Commits to one group go together; the first of another kind ends the row, and is not lost."""
    process = Process(Town())
    process.town.store.create_group("other")
    for n, group in enumerate("g g other other g".split()):
        members = process.member(f"m{n}", "g" if group == "g" else "other")
    assert len(parts(process.turn())) == 5  # type: ignore[arg-type]
    done = process.settle()

    assert [[one.group for one in parts(request)] for request in done] == [  # type: ignore[arg-type, union-attr]
        ["g", "g"],
        ["other", "other"],
        ["g"],
    ]
    assert members.phase is Phase.JOINED


def test_a_group_whose_reading_does_not_go_along_stays_to_be_read():
    """Else a ring that tells of no other group would confirm a view that is old."""
    process = Process(Town())
    ann = process.joined("ann")
    process.watch(process.owner(ann))
    process.settle()
    for n in range(3):
        process.member(f"m{n}")
    process.turn()
    process.node.dirty.clear()
    ann.failed(DOWN, process.town.now, process.town.now)
    process.town.now += 0.3
    process.node.watcher.poke(process.owner(ann))

    crowd = process.begin()
    assert len(parts(crowd.request)) == 3  # type: ignore[arg-type]
    assert process.node.dirty == {"g"}
    process.finish(crowd)
    request = process.turn()
    assert isinstance(request, DoRead)
    assert request.group == "g"


def test_whoever_has_gone_meanwhile_is_not_served():
    """What was put aside for a coordinator is dropped with it."""
    process = Process(Town())
    process.town.store.create_group("other")
    process.member("ann")
    bob = process.member("bob", "other")
    process.turn()
    assert isinstance(process.turn(), DoCommit)
    process.node.drop(process.owner(bob))
    process.settle()

    assert process.town.live("other") == set()


def test_whoever_has_left_meanwhile_does_not_enter_after_all():
    """What was put aside for a member that was about to join is not asked when it is about to leave."""
    process = Process(Town())
    process.town.store.create_group("other")
    process.member("bob", "other")
    ann = process.member("ann")
    process.turn()
    process.turn()
    ann.unwant()
    process.settle()

    assert ann.phase is Phase.OUT
    assert process.town.store.history("g") == []


@pytest.mark.parametrize("error", [OutcomeUnknown, StoreUnavailable, SchemaMismatch, ConfigError])
def test_what_is_wrong_with_one_keeps_nobody_else_out(error: type[HeadcountError]):
    """What fails for all at once may be the fault of one, who alone is told so."""
    process = Process(Town())
    members = [process.member(f"m{n}") for n in range(9)]
    process.turn()

    def poisoned(request: object) -> HeadcountError | None:
        bad = any(getattr(one, "instance", "").startswith("p/m4/") for one in parts(request))  # type: ignore[arg-type]
        return error("this one is too much for it") if bad else None

    process.fault = poisoned
    assert len(parts(process.turn())) == 9  # type: ignore[arg-type]
    for _ in range(300):
        process.town.now += 0.2
        process.turn()

    well = {f"m{n}" for n in range(9)} - {"m4"}
    assert process.town.live() == well
    assert [m.me.member_id for m in members if m.error is not None] == (
        [] if issubclass(error, ConnectionError) else ["m4"]
    )
    process.fault = lambda request: None
    process.town.now += 3.0
    process.settle()
    assert process.town.live() == (well | {"m4"} if issubclass(error, ConnectionError) else well)


def test_as_many_go_together_as_the_store_can_take():
    """Where so many take too long, half as many go the next time; and more again when that was well."""
    process = Process(Town())
    for n in range(100):
        process.member(f"m{n:03}")
    process.turn()

    def slow(request: object) -> HeadcountError | None:
        return StoreUnavailable("too slow") if len(parts(request)) > 30 else None  # type: ignore[arg-type]

    process.fault = slow
    for _ in range(400):
        process.town.now += 0.05
        process.turn()
    sizes = [len(parts(one)) for one in process.log if isinstance(one, DoTogether | DoCommit)]

    assert len(process.town.live()) == 100
    assert sizes[:4] == [100, 100, 50, 25]  # the first were sessions
    assert len(sizes) < 40
    assert max(sizes[4:]) <= 50


def test_what_is_large_does_not_go_together():
    """A megabyte at a time is enough."""
    process = Process(Town())
    for n in range(8):
        process.member(f"m{n}", capabilities=bytes(400_000))
    opened, *commits = process.settle()

    assert len(parts(opened)) == 8  # type: ignore[arg-type]
    assert [len(parts(commit)) for commit in commits] == [3, 3, 2]  # type: ignore[arg-type]


def test_one_that_always_has_something_to_do_keeps_nobody_waiting():
    """Its next request goes behind the others."""
    process = Process(Town())
    busy = process.joined("busy")
    for n in range(10):
        process.town.store.create_group(f"g{n}")
        process.member(f"m{n}", f"g{n}")
    owners = []
    for n in range(13):
        busy.update(f"{n}".encode())
        process.node.watcher.poke(process.owner(busy))
        owners.append(getattr(process.turn(), "instance", None))

    assert owners.count(busy.me.instance) <= 3
    assert all(process.town.live(f"g{n}") for n in range(10))


def test_many_that_join_blind_nobody():
    """Each takes a while; those who watch have to see what has rung all the same, within half a
    second or so. Else their hearts stop, all come back at once, and it begins again."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    process.settle()
    for n in range(300):
        process.member(f"m{n:03}")
    seen = []
    for _ in range(700):
        process.turn()
        process.town.now += 0.02
        seen.append(process.town.now - (process.node.pass_at or 0.0))

    assert max(seen) < 1.0
    assert len(process.town.live()) == 301


def test_groups_are_read_in_turn():
    """One that cannot be read does not keep us from the others."""
    process = Process(Town())
    agent = process.agent()
    for name in ("a", "b", "c"):
        process.town.store.create_group(name)
        process.watch(agent, name)
    process.fault = lambda request: (
        AccessDenied("no") if isinstance(request, DoRead) and request.group == "a" else None
    )
    for _ in range(12):
        process.turn()
        process.town.now += 0.5

    assert {name for name, replica in process.node.replicas.items() if replica.view} == set()
    assert {name for name, replica in process.node.replicas.items() if replica.view is not None} == {"b", "c"}


def test_a_commit_that_always_fails_keeps_nobody_from_seeing():
    """One group that cannot be written would else blind the whole process, and cost all their sessions."""
    process = Process(Town())
    process.town.store.create_group("bad")
    ann = process.joined()
    process.watch(process.owner(ann))
    process.fault = lambda request: (
        OutcomeUnknown("locked") if isinstance(request, DoCommit) and request.group == "bad" else None
    )
    process.member("ben", "bad")
    for _ in range(200):
        process.turn()
        process.town.now += 0.05
        assert process.town.now - (process.node.pass_at or 0.0) < 1.0

    assert process.log.count(process.log[-1]) < 100


def test_a_goodbye_that_fails_keeps_nobody_from_seeing():
    """The same, for a session that cannot be closed."""
    process = Process(Town())
    ann, ben = process.joined(), process.joined("ben")
    process.watch(process.owner(ann))
    ben.unwant()
    process.owner(ben).closing = True
    process.node.watcher.poke(process.owner(ben))
    process.fault = lambda request: DOWN if isinstance(request, DoClose) else None
    for _ in range(100):
        process.turn()
        process.town.now += 0.05
        assert process.town.now - (process.node.pass_at or 0.0) < 1.0

    assert 2 <= kinds(process.log).count("DoClose") <= 20


def test_a_sweep_that_fails_keeps_nobody_from_seeing():
    """It is tried again in a second."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    process.settle()
    process.node.sweep = True
    process.fault = lambda request: DOWN if isinstance(request, DoSweep) else None
    for _ in range(60):
        process.turn()
        process.town.now += 0.05
        assert process.town.now - (process.node.pass_at or 0.0) < 1.0
    assert 2 <= kinds(process.log).count("DoSweep") <= 4

    process.fault = lambda request: None
    process.town.now += 1.0
    process.settle()
    assert not process.node.sweep


def test_a_sweep_that_left_something_goes_on():
    """Its limit is for the length of one transaction, not for how much is to be done."""
    process = Process(Town())
    process.node.sweep = True
    flight = process.begin()
    assert flight.request == DoSweep()
    flight.answer = Swept(more=True)
    process.finish(flight)

    assert process.turn() == DoSweep()
    assert isinstance(process.turn(), Listen)


# ── readiness ──


def test_readiness_that_is_not_said_again_runs_out():
    """The member is unready; its session and its row stay."""
    process = Process(Town())
    ann = process.joined()
    process.owner(ann).say_ready(True, process.town.now + 5.0)
    process.node.watcher.poke(process.owner(ann))
    process.live(4.5)
    assert process.town.store.read("g").rows[0].ready

    process.live(1.0)
    row = process.town.store.read("g").rows[0]
    assert (row.ready, row.live) == (False, True)


# ── answers in flight ──


def test_a_session_lost_while_a_commit_is_in_flight():
    """The commit was written, and went down with the session: it is entered again, once."""
    process = Process(Town())
    ann = process.member()
    process.turn()
    commit = process.begin()
    process.town.store.close_session(process.owner(ann).presence.session_id)
    process.town.now += 3.0
    process.beat()
    process.finish(commit)
    process.settle()

    assert ann.phase is Phase.JOINED
    assert process.town.live() == {"ann"}


def test_a_commit_refused_because_its_session_is_lost():
    """The watcher hears of it before the heart does, and opens another."""
    process = Process(Town())
    ann = process.joined()
    old = process.owner(ann).presence.session_id
    process.town.store.close_session(old)
    ann.update(b"new")
    process.node.watcher.poke(process.owner(ann))
    done = process.settle()
    process.town.now += 1.0
    process.settle()

    assert kinds(done)[0] == "DoCommit"
    assert process.owner(ann).presence.session_id not in ("", old)
    assert ann.phase is Phase.JOINED
    assert [tiding for tiding in process.told() if isinstance(tiding, Kind)] == [Kind.LOST, Kind.REJOINED]


def test_a_late_fencing_of_the_old_session_does_not_cost_the_new_one():
    """It says what we know already."""
    process = Process(Town())
    ann = process.joined()
    agent = process.owner(ann)
    ann.update(b"new")
    process.node.watcher.poke(agent)
    commit = process.begin()
    process.node.lose(agent)
    session = agent.next_session()
    agent.presence.opened(session, process.store.open_session(session), process.moment(), process.moment())
    process.node.by_session[session.id] = agent
    commit.answer = Refused(reason=Refusal.FENCED)
    process.finish(commit)

    assert agent.presence.session_id == session.id


def test_sessions_that_are_lost_as_soon_as_opened_are_not_opened_ever_faster():
    """A store in which nobody can stay must not be stormed by those who try."""
    process = Process(Town())
    process.member()
    process.fault = lambda request: None
    opened = 0
    for _ in range(400):
        flight = process.begin()
        opened += isinstance(flight.request, DoOpen)
        if isinstance(flight.request, DoCommit):
            flight.answer = Refused(reason=Refusal.FENCED)
        process.finish(flight)
        process.town.now += 0.025

    assert 5 <= opened <= 25


def test_a_session_lost_while_a_look_is_in_flight():
    """What it shows was of before: the row that it calls ours is not."""
    process = Process(Town())
    ann = process.joined()
    process.town.mark("ann", disabled="x")
    process.town.now += 3.0
    process.beat()
    look = process.until(DoLook)
    process.town.store.close_session(process.owner(ann).presence.session_id)
    process.town.now += 3.0
    process.beat()
    process.finish(look)
    assert not ann.settled

    process.settle()
    assert ann.phase is Phase.JOINED
    assert process.town.live() == {"ann"}


def test_closing_while_an_open_is_in_flight_closes_what_it_opened():
    """The answer comes to a coordinator that says goodbye: the session must not stay."""
    process = Process(Town())
    ann = process.member()
    agent = process.owner(ann)
    flight = process.begin()
    assert isinstance(flight.request, DoOpen)
    agent.closing = True
    ann.unwant()
    process.finish(flight)
    process.settle()

    assert agent.gone and agent.presence.session is None
    assert not process.town.server.alive(flight.request.session.id)


def test_a_session_opened_for_one_that_was_dropped_is_closed():
    """`close` did not wait for it, and nobody will ever beat or end it."""
    process = Process(Town())
    ann = process.member()
    flight = process.begin()
    assert isinstance(flight.request, DoOpen)
    process.node.drop(process.owner(ann))
    process.finish(flight)
    process.settle()

    assert process.node.by_session == {}
    assert not process.town.server.alive(flight.request.session.id)


@pytest.mark.parametrize("hand", ["heart", "watcher"])
def test_a_coordinator_dropped_while_anything_is_in_flight_is_not_missed(hand):
    """The answer has nobody to go to; the others go on."""
    process = Process(Town())
    ann, ben = process.joined(), process.joined("ben")
    process.town.now += 3.0
    ann.update(b"new")
    process.node.watcher.poke(process.owner(ann))
    flight = process.begin(hand)
    process.node.drop(process.owner(ann))
    process.finish(flight)
    process.live(4.0)

    assert ben.phase is Phase.JOINED


def test_a_group_that_is_no_longer_watched_may_still_be_answered():
    """Nobody is told."""
    process = Process(Town())
    process.watch(process.agent())
    flight = process.until(DoRead)
    process.node.unwatch("g")
    process.finish(flight)
    process.settle()

    assert process.told() == []
    assert process.node.pass_at is None


def test_two_coordinators_of_one_process_with_one_name():
    """The newer has the name, the older is out for good; neither takes the other's row for its own."""
    process = Process(Town())
    old = process.joined()
    new = process.joined()
    process.live(4.0)

    assert (old.phase, new.phase) == (Phase.OUT, Phase.JOINED)
    assert Kind.SUPERSEDED in process.told()
    process.live(TTL * 2)
    assert (old.phase, new.phase) == (Phase.OUT, Phase.JOINED)


def test_two_that_join_at_once_under_one_name():
    """One of them is superseded by the other; both know."""
    process = Process(Town())
    both = [process.member(), process.member()]
    process.live(4.0)

    assert sorted(m.phase.value for m in both) == ["joined", "out"]


def test_a_commit_in_doubt_is_not_looked_for_in_a_group_that_is_gone():
    """A few looks are due, for a write that may still land; then a deleted group is left alone."""
    process = Process(Town())
    ann = process.member()
    commit = process.until(DoCommit)
    commit.answer = OutcomeUnknown("no answer")
    process.finish(commit)
    ann.unwant()
    process.live(1.0)
    assert process.town.live() == set()

    process.town.store.delete_group("g")
    begun = len(process.log)
    process.live(120.0, step=0.5)
    assert kinds(process.log[begun:]).count("DoLook") < 10


def test_leaving_and_closing_is_goodbye_then_the_session():
    """In this order: else the members would be down, and not left."""
    process = Process(Town())
    ann = process.joined()
    agent = process.owner(ann)
    agent.closing = True
    ann.unwant()
    process.node.watcher.poke(agent)

    assert kinds(process.settle()) == ["DoCommit", "DoClose"]
    assert process.town.store.read("g").rows[0].state.value == "left"


# ── notices ──


def test_a_notice_is_read_in_every_group_that_we_are_in():
    """It does not say which one was touched: trust waits for the last of them."""
    process = Process(Town())
    process.town.store.create_group("h")
    agent = process.agent("ann")
    for group in ("g", "h"):
        process.node.want(agent, group, Desired(stand=False))
    process.settle()
    process.town.mark("ann", disabled="x")
    process.town.now += 3.0
    process.beat()
    until = agent.presence.trusted_until
    assert agent.presence.unread == process.town.now

    first = process.turn()
    assert agent.presence.trusted_until == until
    second = process.turn()
    assert {request.group for request in (first, second)} == {"g", "h"}  # type: ignore[attr-defined]
    assert agent.presence.trusted_until == process.town.now + TTL - margin_of(TTL)


def test_a_read_that_was_on_its_way_does_not_clear_a_notice():
    """It left before the notice arrived; another one is sent."""
    process = Process(Town())
    ann = process.joined()
    agent = process.owner(ann)
    process.watch(agent)
    process.settle()
    process.node.touch("g")
    read = process.until(DoRead)
    process.town.mark("ann", disabled="x")
    process.town.now += 3.0
    process.beat()
    process.finish(read)
    assert agent.presence.unread is not None

    process.settle()
    assert agent.presence.unread is None


def test_an_answer_that_is_older_than_ours_clears_nothing():
    """A follower of the store that lags behind: what it does not show may have happened."""
    process = Process(Town())
    ann = process.joined()
    agent = process.owner(ann)
    process.watch(agent)
    process.settle()
    process.town.now += 3.0
    beat = process.until(DoBeat, "heart")
    beat.answer = Beat(notices={agent.presence.session_id: 1}, tick=process.town.server.clock_row)
    process.finish(beat)
    read = process.until(DoRead)
    read.answer = Snapshot(group="g", revision=1)
    process.finish(read)
    assert agent.presence.trusted_until < 1000.0 + TTL

    process.town.now += 0.1
    process.settle()
    assert agent.presence.unread is None
    assert ann.phase is Phase.JOINED


def test_a_disabled_leader_hands_over_without_waiting_for_its_ttl():
    """Notice, read, stop, acknowledge: within a beat."""
    town = Town()
    a, b = Process(town, "a"), Process(town, "b")
    ann, ben = a.joined("ann"), b.joined("ben")
    for process, membership in ((a, ann), (b, ben)):
        process.watch(process.owner(membership))
        process.node.lead(membership)
        process.settle()

    def leaders() -> list[str]:
        return [m.me.member_id for m in (ann, ben) if m.term is not None]

    assert leaders() == ["ann"]
    town.mark("ann", disabled="x")
    b.settle()
    assert leaders() == ["ann"]

    a.live(0.2)
    b.live(0.2)
    assert leaders() == ["ben"]


# ── reading ──


def test_a_gap_is_filled_by_reading_everything():
    """And told as a resync."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    process.settle()
    process.told()
    process.node.touch("g")
    read = process.until(DoRead)
    assert isinstance(read.request, DoRead) and read.request.after is not None
    delta = process.store.read("g", read.request.after)
    revision = read.request.after
    read.answer = replace(delta, after=revision + 5, revision=revision + 6)
    process.finish(read)
    process.joined("ben")
    again = [request for request in process.log if isinstance(request, DoRead)][-2:]

    assert again[0].after is None
    assert (Kind.RESYNC, None) in process.told()


def test_a_bell_that_cannot_say_what_rang_rings_for_all():
    """Everything that is watched is read again."""
    process = Process(Town())
    agent = process.agent()
    process.town.store.create_group("h")
    process.watch(agent, "g")
    process.watch(agent, "h")
    process.settle()
    listen = process.begin()
    listen.answer = Ring(groups=None)
    process.finish(listen)

    assert process.node.dirty == {"g", "h"}


def test_a_bell_that_failed_may_have_rung():
    """What it was about to say is lost: whoever only waits for the next ring sees nothing until then."""
    process = Process(Town())
    process.watch(process.agent())
    process.settle()
    listen = process.until(Listen)
    Process(process.town, "other").joined()
    process.bell.wait(0)
    listen.answer = DOWN
    process.finish(listen)
    process.live(1.0)

    assert (Kind.JOINED, "ann") in process.told()


def test_the_bell_may_say_that_a_session_is_lost():
    """It is opened again at once, without waiting for the next beat to fail."""
    process = Process(Town("sessions"))
    ann = process.joined()
    process.watch(process.owner(ann))
    process.settle()
    process.town.now += TTL
    with process.town.server.lock:
        process.town.server.expire_by_clock()
    process.settle()

    assert ann.phase is Phase.JOINED
    assert process.town.live() == {"ann"}


def test_a_bell_that_drops_nothing_confirms_what_did_not_ring():
    """The view is as young as the question."""
    process = Process(Town())
    process.watch(process.agent())
    process.settle()
    process.town.now += 5.0
    process.turn()
    view = process.node.replicas["g"].view

    assert view is not None and view.age == 0.0


def test_a_group_that_is_gone_is_told_and_one_made_again_too():
    """Whoever watches is told that nobody is here, and then who is."""
    process = Process(Town())
    process.watch(process.agent())
    other = Process(process.town, "other")
    ann = other.joined()
    process.settle()
    ann.unwant()
    other.node.watcher.poke(other.owner(ann))
    other.settle()
    process.settle()
    process.told()
    process.town.store.delete_group("g")
    process.settle()
    assert process.told() == [(Kind.RESYNC, None)]

    process.town.store.create_group("g")
    other.joined("ben")
    process.settle()
    assert (Kind.JOINED, "ben") in process.told()


def test_on_a_store_that_expires_sessions_itself_a_claim_is_waited_out():
    """By whoever has seen it stand for its owner's ttl and margin; and not tried again at once."""
    town = Town("sessions")
    a, b = Process(town, "a"), Process(town, "b")
    a.joined("ann")
    b.watch(b.owner(b.joined("ben")))
    b.settle()
    town.mark("ann", disabled="x")
    b.settle()
    began = town.now
    while not isinstance(request := b.ask(), DoCommit):
        town.store.beat(list(town.server.sessions))  # ann's process hangs, but its heart beats
        town.now += 0.5
        assert town.now < began + 2 * TTL

    assert isinstance(request.writes[0], Vacate) and request.writes[0].waited
    assert town.now - began >= TTL * 1.02 + 0.5
    assert not isinstance(b.ask(), DoCommit)


def early(process: Process, membership: Membership) -> str:
    """Somebody ends its session from outside, and the next beat says so; which it was."""
    session = process.owner(membership).presence.session_id
    process.town.server.end_early(session)
    assert len(process.town.store.read("g").claims) == bool(membership.desired and membership.desired.stand)
    process.town.now += TTL / 3
    process.beat()
    return session


def test_a_session_that_was_ended_from_outside_is_closed_when_nobody_trusts_it():
    """So that its place is free at once, and not when its time would have been over."""
    process = Process(Town("sessions"))
    ann = process.joined()
    session = early(process, ann)
    assert not process.owner(ann).presence.trusts(process.moment())
    process.settle()

    assert DoClose("", session) in process.log
    assert process.town.store.read("g").claims == ()
    assert ann.phase is Phase.JOINED


def test_a_goodbye_to_a_session_that_is_over_is_said_until_it_is_heard():
    """If the store does not serve us just now, it is asked again."""
    process = Process(Town("sessions"))
    ann = process.joined()
    process.fault = lambda request: DOWN if isinstance(request, DoClose) else None
    session = early(process, ann)
    process.live(3.0)
    assert 2 <= process.log.count(DoClose("", session)) <= 20
    process.fault = lambda request: None
    process.live(2.5)

    assert process.town.now < 1000.0 + TTL, "its time is over, so this shows nothing"

    assert process.town.store.read("g").claims == ()


def test_a_session_that_held_nothing_needs_no_goodbye():
    """Nobody waits for a place that it had."""
    process = Process(Town("sessions"))
    ann = process.joined(stand=False)
    early(process, ann)
    process.settle()

    assert "DoClose" not in kinds(process.log)
    assert ann.phase is Phase.JOINED


def test_where_ticks_end_sessions_nothing_is_said_to_one_that_is_over():
    """Nobody else can end one there before its time."""
    process = Process(Town())
    ann = process.joined()
    process.town.store.close_session(process.owner(ann).presence.session_id)
    process.town.now += TTL / 3
    process.beat()
    process.settle()

    assert "DoClose" not in kinds(process.log)
    assert ann.phase is Phase.JOINED


# ── outages ──


def test_an_outage_of_both_hands_begins_once_and_ends_once():
    """Both fail, both are served again: one outage, and the views say so as long as it lasts."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    process.settle()
    process.told()
    process.fault = lambda request: DOWN
    process.live(4.0)
    view = process.node.replicas["g"].view
    assert view is not None and "does not serve us" in (view.degraded or "")
    process.fault = lambda request: None
    process.live(4.0)

    assert [kind if isinstance(kind, OutageBegan) else type(kind) for kind in process.told()] == [
        OutageBegan(DOWN),
        tuple,
        OutageEnded,
        tuple,
    ]
    assert ann.phase is Phase.JOINED


def test_an_outage_lasts_until_both_hands_are_served():
    """Beats are taken, and the register is still locked: nobody should be told that all is well."""
    process = Process(Town())
    ann = process.joined()
    process.watch(process.owner(ann))
    process.fault = lambda request: DOWN
    process.live(4.0)
    process.told()
    process.fault = lambda request: None if isinstance(request, DoBeat | DoAdvance) else DOWN
    process.live(4.0)

    assert process.told() == []
    assert process.node.outage.since is not None


def test_a_mistake_of_the_application_is_no_outage():
    """A group that does not exist says nothing about the store."""
    process = Process(Town())
    nobody = process.member("ann", "nowhere")
    process.settle()

    assert isinstance(nobody.error, GroupNotFound)
    assert process.told() == []
    assert process.node.outage.since is None


def outage(process: Process) -> bool:
    return process.node.outage.since is not None


def test_a_group_that_cannot_be_read_is_an_outage():
    """Whatever it is that hinders it: it is told, and not asked for again and again in no time."""
    process = Process(Town())
    process.watch(process.agent())
    process.settle()
    process.fault = lambda request: CapabilitiesTooLarge("x") if isinstance(request, DoRead) else None
    Process(process.town, "other").joined("ben")
    before = len(process.log)
    process.live(10.0)

    assert kinds(process.log[before:]).count("DoRead") < 40
    assert outage(process)
    view = process.node.replicas["g"].view
    assert view is not None and view.degraded and "ben" not in view
    process.fault = lambda request: None
    process.live(3.0)
    assert not outage(process)
    view = process.node.replicas["g"].view
    assert view is not None and "ben" in view


def test_an_outage_of_the_watcher_ends_when_it_has_nothing_to_ask():
    """Whoever wanted something has been dropped."""
    process = Process(Town())
    ann = process.member()
    process.turn(error=DOWN)
    assert process.node.outage.since is not None
    process.node.drop(process.owner(ann))
    process.live(6.0)

    assert process.node.outage.since is None


def test_after_an_outage_everybody_is_back_within_two_beats():
    """The store forgot everything, and came back empty."""
    process = Process(Town())
    members = [process.joined(f"m{n}") for n in range(20)]
    process.fault = lambda request: DOWN
    process.live(3 * TTL, step=0.25)
    process.town.server.begin()
    process.fault = lambda request: None
    process.live(2 * TTL / 3 + 0.5)

    assert {m.phase for m in members} == {Phase.JOINED}
    assert len(process.town.live()) == 20


def test_a_stall_of_the_store_kills_nobody():
    """However long it lasts: nobody ages while the clock stands still."""
    town = Town()
    processes = [Process(town, f"p{n}") for n in range(3)]
    members = [process.joined(process.name) for process in processes]
    lives = [m.incarnation for m in members]
    for process in processes:
        process.live(4.0)
    for process in processes:
        process.fault = lambda request: DOWN
    for _ in range(40):
        for process in processes:
            for hand in ("heart", "watcher"):
                process.turn(hand)
        town.now += 15.0
    for process in processes:
        process.fault = lambda request: None
    for _ in range(60):
        for process in processes:
            process.live(0.05, step=0.05)

    assert [m.incarnation for m in members] == lives


# ── chaos ──


class Chaos:
    """Two processes, and a hand that plays: answers late, lost, or never written; operators that mark;
    applications that come and go. What must hold at every step is asserted at every step."""

    def __init__(self) -> None:
        self.town = Town()
        self.processes = [Process(self.town, "a"), Process(self.town, "b")]
        self.members: list[Membership] = []
        self.flights: dict[tuple[int, str], Flight] = {}
        self.best: dict[SessionId, float] = {}
        self.revisions: dict[tuple[int, str], int] = {}
        self.idle: dict[tuple[int, str], tuple[float, int]] = {}
        for process in self.processes:
            ann = process.member(process.name, create=True)
            shared = process.member("shared", on_conflict="share")
            process.watch(process.owner(ann))
            process.node.lead(ann)
            process.node.lead(shared)
            self.members += [ann, shared]

    def play(self, which: int, action: str, seconds: float) -> None:
        process = self.processes[which]
        mine = self.members[2 * which : 2 * which + 2]
        match action:
            case "heart" | "watcher":
                self.move(which, action, "ok")
            case "heart fails" | "watcher fails":
                self.move(which, action.split()[0], "failed")
            case "heart unknown" | "watcher unknown":
                self.move(which, action.split()[0], "unknown")
            case "wait":
                self.town.now += seconds
            case "leave":
                mine[0].unwant()
            case "join":
                mine[0].want(Desired(create=True))
            case "unready" | "ready":
                process.owner(mine[0]).say_ready(action == "ready")
            case "disable" | "expel" | "lift" if "g" in self.town.server.groups:
                marks = {"disable": {"disabled": "x"}, "expel": {"expelled": True}, "lift": {}}[action]
                self.town.mark(process.name, **marks)  # type: ignore[arg-type]
            case "end" if process.node.by_session:
                session = min(process.node.by_session)
                self.town.store.close_session(session)
                process.node.lose(process.node.by_session[session])
        for membership in mine:
            process.node.watcher.poke(process.owner(membership))
        self.check()

    def move(self, which: int, hand: str, how: str) -> None:
        """One hand: brings the answer that is on its way, or else asks and sends."""
        process, key = self.processes[which], (which, hand)
        flight = self.flights.pop(key, None)
        if flight is None:
            error = {"ok": None, "failed": DOWN, "unknown": OutcomeUnknown("?")}[how]
            flight = process.begin(hand, written=how != "failed", error=error)
            if not isinstance(flight.request, Rest):
                self.flights[key] = flight
            return
        sessions: tuple[SessionId, ...] = ()
        if isinstance(flight.answer, Beat):
            sessions = tuple(s for s, notice in flight.answer.notices.items() if notice is not None)
        elif not isinstance(flight.answer, HeadcountError):
            requests = parts(flight.request)  # type: ignore[arg-type]
            sessions = tuple(one.session.id for one in requests if isinstance(one, DoOpen))
        for session in sessions:
            self.best[session] = max(self.best.get(session, 0.0), flight.asked.boot)
        process.finish(flight)

    def check(self) -> None:
        trusted = []
        for which, process in enumerate(self.processes):
            now = process.moment()
            for agent in process.node.agents.values():
                presence = agent.presence
                if presence.session is not None:
                    limit = self.best[presence.session_id] + presence.ttl - margin_of(presence.ttl)
                    assert presence.trusted_until <= limit + 1e-9
            for group, replica in process.node.replicas.items():
                revision = replica.view.revision if replica.view is not None else 0
                assert revision >= self.revisions.get((which, group), 0) or revision == 0
                self.revisions[which, group] = max(revision, self.revisions.get((which, group), 0))
            for membership in process.node.leading.values():
                if membership.term is not None and membership.term.trusted(now):
                    trusted.append(membership.term.token)
            told = [tiding for tiding in process.node.fetch() if isinstance(tiding, Told)]
            seen = [change.view.revision for tiding in told for change in tiding.changes]
            assert seen == sorted(seen)
        assert len(trusted) <= 1, "two leaders"

    def recover(self) -> None:
        """The store serves again, the operator lifts everything: all who want to be in are in."""
        for key, flight in list(self.flights.items()):
            self.processes[key[0]].finish(flight)
        self.flights.clear()
        for process in self.processes:
            if "g" in self.town.server.groups:
                self.town.mark(process.name)
        until = self.town.now + 3 * TTL
        while self.town.now < until:
            for process in self.processes:
                for hand in ("heart", "watcher"):
                    self.let(process, hand)
            self.town.now += 0.1
        for process in self.processes:
            assert process.node.outage.since is None
            for agent in process.node.agents.values():
                assert agent.presence.unread is None
        for membership in self.members:
            assert membership.phase is (Phase.JOINED if membership.desired else Phase.OUT)
            if membership.desired:
                assert membership.ours
        assert sum(m.term is not None for m in self.members) == 1
        assert self.town.live() == {m.me.member_id for m in self.members if m.desired}

    def let(self, process: Process, hand: str) -> None:
        """One hand, until it rests: no request may follow another for ever in no time."""
        for _ in range(60):
            if process.rests(process.turn(hand)):
                return
        raise AssertionError(f"it spins: {process.log[-6:]}")


ACTIONS = [
    *["heart", "watcher"] * 8,
    *["wait"] * 6,
    "heart fails",
    "watcher fails",
    "heart unknown",
    "watcher unknown",
    *["leave", "join", "unready", "ready", "disable", "expel", "lift", "end"],
]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(ACTIONS),
            st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0]),
        ),
        min_size=50,
        max_size=300,
    )
)
def test_whatever_happens_nobody_trusts_too_long_and_everybody_comes_back(steps):
    """Trust never exceeds asked + ttl − margin; views only move on, and are told in order; there are
    never two leaders; and when the trouble is over, nobody is missing and nothing spins."""
    chaos = Chaos()
    for which, action, seconds in steps:
        chaos.play(which, action, seconds)
    chaos.recover()


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["stale", "unmet", "fenced", "down", "unknown", "gone", "nothing"]), min_size=1)
)
def test_no_answer_makes_a_hand_ask_for_ever_in_no_time(answers):
    """Whatever the store says, again and again: after a few questions there is a pause."""
    process = Process(Town())
    ann = process.member(create=True)
    process.watch(process.owner(ann))
    said = itertools.cycle(answers)
    for _ in range(40):
        for _ in range(60):
            flight = process.begin()
            if isinstance(flight.request, Listen) and flight.request.until > process.town.now:
                break
            answer = {
                "stale": Refused(reason=Refusal.STALE),
                "unmet": Refused(reason=Refusal.UNMET),
                "fenced": Refused(reason=Refusal.FENCED),
                "down": DOWN,
                "unknown": OutcomeUnknown("?"),
                "gone": GroupNotFound("gone"),
                "nothing": Committed(revision=1),
            }[next(said)]
            reads = isinstance(flight.request, DoRead) and isinstance(answer, HeadcountError)
            if isinstance(flight.request, DoCommit) or reads:
                flight.answer = answer
            process.finish(flight)
        else:
            raise AssertionError(f"it spins: {process.log[-6:]}")
        process.town.now += 0.05
    assert any(
        isinstance(request, DoCommit) and isinstance(request.writes[0], Enter) for request in process.log
    )
