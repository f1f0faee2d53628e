"""What the simulation found, told again in a few lines each and without it."""

import pytest

from headcount.core.agent import Agent
from headcount.core.membership import LOOKS, Desired, Identity, Membership, Phase, Step
from headcount.core.node import Node
from headcount.core.session import Presence
from headcount.core.work import DoAdvance, DoBeat, DoCommit, DoLook, DoOpen, DoSweep, Listen
from headcount.errors import OutcomeUnknown, StoreUnavailable
from headcount.model import (
    Amend,
    Beat,
    Committed,
    Granted,
    Moment,
    Row,
    Session,
    Snapshot,
    State,
    Swept,
    Tick,
)
from headcount.stores.memory import TICKS

ME = Identity(member_id="a", instance="a.1", host="here")
TTL = 6.0


def at(seconds: float) -> Moment:
    return Moment(seconds, 1e9 + seconds)


def session(name: str) -> Session:
    return Session(id=name, instance=ME.instance, host=ME.host, process="p", ttl=TTL)


def row(revision: int, *, incarnation: int = 5, ready: bool = True, by: str = "s0") -> Row:
    return Row(
        key="a",
        member_id="a",
        incarnation=incarnation,
        revision=revision,
        state=State.UP,
        session=by,
        instance=ME.instance,
        host=ME.host,
        ttl=TTL,
        ready=ready,
        standing_since=incarnation,
    )


def lone_ticker() -> Node:
    """A process that joins, watches nothing, and moves the clock."""
    node = Node(TICKS, lambda: 0.0)
    agent = Agent(ME, "p", TTL, lambda: "s0")
    node.add(agent)
    node.want(agent, "g", Desired())
    node.watcher.done(DoOpen(ME.instance, session("s0")), at(0), at(0), Granted(ttl=TTL))
    return node


def beat(node: Node, seconds: float, number: int) -> None:
    tick = Tick(epoch=1, number=number, ticker="s0")
    node.heart.done(DoBeat(("s0",)), at(seconds), at(seconds), Beat(notices={"s0": 0}, tick=tick))


def advance(node: Node, seconds: float, number: int) -> None:
    seen, now = (Tick(epoch=1, number=n, ticker="s0") for n in (number, number + 1))
    node.heart.done(DoAdvance(seen, "s0"), at(seconds), at(seconds), now)


def ticks(node: Node, seconds: float) -> bool:
    return isinstance(node.heart.next(at(seconds)), DoAdvance)


def test_who_does_not_get_to_sweep_leaves_the_clock_to_others():
    """A watcher hung, its heart ticked on, and as only the ticker sweeps, the dead stayed up for ever."""
    node = lone_ticker()
    for second in range(4):
        beat(node, second, second)
        assert ticks(node, second + 1.0)
        advance(node, second + 1.0, second)
    beat(node, 4.1, 4)
    assert not ticks(node, 5.2)

    node.watcher.done(DoSweep(), at(5.3), at(5.3), Swept())
    node.sweep = False
    node.watcher.done(DoSweep(), at(5.4), at(5.4), Swept())
    assert ticks(node, 5.5)


def test_an_outage_does_not_blind():
    """The store stood still for longer than a ttl: no pass, no beat. When it was back, the heart of
    a short ttl waited for its watcher, which backed off, and its session was lost after all."""
    presence = Presence("a", TTL)
    presence.opened(session("s0"), Granted(ttl=TTL), at(0), at(0))
    presence.taken(0, at(2), at(2))
    for second in range(4, 60, 2):
        presence.missed(at(second))
        assert not presence.blind(pass_at=2.0)
    for after, blind in ((0.0, False), (TTL - 0.1, False), (TTL + 0.1, True)):
        presence.taken(0, at(60 + after), at(60 + after))
        assert presence.blind(pass_at=2.0) is blind


def test_the_beginning_of_an_outage_does_not_blind():
    """The store fell silent while the watcher was at it, and before a beat was due. When one was, the last
    pass was more than a ttl old: the heart did not ask, never learned of the outage, and waited for its
    watcher when the store was back. Its session was lost, though it had beaten whenever it was let."""
    node = lone_ticker()
    node.agents[ME.instance].watching = 1
    node.watch("g")
    node.pass_at = 0.0
    tick = Tick(epoch=1, number=4, ticker="somebody else")
    node.heart.done(DoBeat(("s0",)), at(4.2), at(4.2), Beat(notices={"s0": 0}, tick=tick))

    assert node.heart.next(at(TTL + 0.3)) == DoBeat(("s0",))
    node.heart.done(DoBeat(("s0",)), at(TTL + 0.3), at(TTL + 0.5), StoreUnavailable("down"))
    assert node.heart.next(at(60)) == DoBeat(("s0",))
    node.heart.done(DoBeat(("s0",)), at(60), at(60), Beat(notices={"s0": 0}, tick=tick))
    assert not node.by_session["s0"].presence.blind(node.pass_at)


def test_beats_that_fail_now_and_then_do_not_keep_from_going_blind():
    presence = Presence("a", TTL)
    presence.opened(session("s0"), Granted(ttl=TTL), at(0), at(0))
    for second in range(2, 14, 2):
        presence.missed(at(second - 0.5))
        presence.taken(0, at(second), at(second))
    assert presence.blind(pass_at=0.0)


def test_when_the_store_serves_the_heart_again_the_watcher_tries_at_once():
    node = lone_ticker()
    for second in range(10):
        node.watcher.done(Listen(0.0, doorbell=True), at(second), at(second), StoreUnavailable("down"))
    node.heart.done(DoBeat(("s0",)), at(9), at(9.5), StoreUnavailable("down"))
    assert isinstance(node.watcher.next(at(9.6)), Listen)
    beat(node, 9.7, 1)
    assert isinstance(node.watcher.next(at(9.7)), DoCommit | DoLook)


def test_a_question_from_before_the_store_was_back_does_not_hold_up_the_watcher():
    """The heart was served again, and then a read failed that had left before. The watcher waited as long as
    if the outage went on; the heart, served by then, went blind over it, and the session was lost."""
    node = lone_ticker()
    for second in range(10):
        node.watcher.done(Listen(0.0, doorbell=True), at(second), at(second), StoreUnavailable("down"))
    node.heart.done(DoBeat(("s0",)), at(9), at(9.5), StoreUnavailable("down"))
    beat(node, 9.7, 1)
    node.watcher.done(DoLook("g", "a", ME.instance), at(9.4), at(9.8), StoreUnavailable("down"))
    assert isinstance(node.watcher.next(at(10.0)), DoCommit | DoLook)


def test_a_short_ttl_is_tried_again_within_half_a_beat():
    """A session of three ticks had two left when the store stood still. When it was back, ticks came at
    once, and the heart still waited, for as long as it would for a ttl of ten seconds."""
    node = Node(TICKS, lambda: 0.0)
    agent = Agent(ME, "p", 1.5, lambda: "s0")
    node.add(agent)
    node.want(agent, "g", Desired())
    short = Session(id="s0", instance=ME.instance, host=ME.host, process="p", ttl=1.5)
    node.watcher.done(DoOpen(ME.instance, short), at(0), at(0), Granted(ttl=1.5))
    now = 0.5
    for _ in range(20):
        node.heart.done(DoBeat(("s0",)), at(now), at(now), StoreUnavailable("down"))
        assert isinstance(node.heart.next(at(now + 0.251)), DoBeat)
        now += 0.251


def joined() -> Membership:
    membership = Membership(group="g", me=ME, presence=Presence("a", TTL))
    membership.presence.opened(session("s0"), Granted(ttl=TTL), at(0), at(0))
    membership.want(Desired())
    membership.answered(Committed(revision=5, rows=(row(5),)), 1.0)
    assert membership.phase is Phase.JOINED
    return membership


def unknown(membership: Membership, now: float) -> None:
    membership.failed(OutcomeUnknown("late"), now - 1, now)
    membership.doubted(now)


def look(membership: Membership, now: float, *rows: Row) -> None:
    revision = max((r.revision for r in rows), default=5)
    membership.observe(Snapshot(group="g", revision=revision, rows=rows), now, now)


def test_a_commit_that_comes_after_the_look_is_seen_by_a_later_look():
    """It said it was ready, gave up, looked and found nothing, and said no more; then the commit came,
    and who had not vouched for itself was shown as ready for ever."""
    membership = joined()
    look(membership, 2.0, row(6, ready=False))
    unknown(membership, 3.0)  # ready=True is on its way
    assert membership.next(False, 4.0) is Step.LOOK
    look(membership, 4.0, row(6, ready=False))
    assert membership.next(False, 4.0) is None

    assert membership.next(False, membership.look_again_at) is Step.LOOK
    look(membership, membership.look_again_at, row(7, ready=True))
    match membership.next(False, membership.looked_at):
        case [Amend(ready=ready)]:
            assert ready is False
        case other:
            pytest.fail(f"it does not take it back: {other}")


def test_an_enter_that_comes_after_the_goodbye_is_taken_back():
    membership = joined()
    unknown(membership, 3.0)  # an enter
    membership.unwant()
    look(membership, 4.0)
    assert membership.settled  # it is out, as far as it can see

    assert membership.next(True, membership.look_again_at) is Step.LOOK
    look(membership, membership.look_again_at, row(9, incarnation=9))
    assert membership.phase is Phase.LEAVING


def test_it_looks_again_only_so_often():
    membership = joined()
    unknown(membership, 3.0)
    now, looks = 3.0, 0
    for _ in range(20):
        now += 1000
        if membership.next(True, now) is Step.LOOK:
            look(membership, now, row(5))
            looks += 1
    assert looks == LOOKS
    assert membership.next(True, 1e9) is None


def test_a_newer_life_of_ours_is_known_as_ours():
    """Its enter was given up, the look showed the life before, and then the enter came."""
    membership = joined()
    look(membership, 2.0, row(8, incarnation=8))
    assert (membership.phase, membership.incarnation) == (Phase.JOINED, 8)


@pytest.mark.parametrize("closing", [False, True])
def test_who_closes_does_not_wait_for_late_commits(closing):
    node = lone_ticker()
    agent = node.agents[ME.instance]
    membership = agent.memberships["g"]
    membership.doubted(1.0)
    membership.unwant()
    membership.observe(Snapshot(group="g", revision=0), 2.0, 2.0)
    agent.closing = closing
    node.watcher.poke(agent)
    request = node.watcher.next(at(membership.look_again_at))
    assert isinstance(request, DoLook) is not closing
