"""Members that are real processes: killed, stopped, restarted and doubled, on every store."""

from __future__ import annotations

import os
import signal

import pytest

from tests.processes.places import on_every_engine, on_every_store
from tests.processes.town import INTERVAL, TTL, Process, Town, down_within, faults_of_trust, trust, until

SOON = 10.0


def assert_all_hear(
    listeners: list[Process], since: dict[str, int], member: str, kind: str, began: float, bound: float
) -> None:
    for process in listeners:
        change = process.wait_for("change", bound + SOON, since[process.name], kind=kind, member=member)
        took = change["at"] - began
        assert took <= bound, (
            f"{process.name} heard that {member} is {kind} after {took:.2f} s, not {bound:.2f}"
        )


def two_ttls_pass(town: Town) -> None:
    """In ticks, by which the store counts: whoever has not beaten in the meantime has been fenced."""
    number = town.ticking.tick().number
    until(lambda: town.ticking.tick().number > number + 2 * TTL / INTERVAL, town.ticking.tick, SOON)


def marks(processes: list[Process]) -> dict[str, int]:
    return {process.name: process.heard for process in processes}


@on_every_store
def test_a_killed_member_is_down_in_every_view_in_time(town: Town) -> None:
    """Not later than promised; and not before its ttl is over, counted from its last beat."""
    people = town.members("ann", "ben", "cid", "dora", "eve")
    ticker, standbys = town.roles(people)
    victim = next(p for p in people if p not in (ticker, *standbys))
    rest = [p for p in people if p is not victim]
    since = marks(rest)
    killed = victim.kill()
    assert_all_hear(rest, since, victim.name, "down", killed, down_within())
    for process in rest:
        heard = process.said("change", since[process.name], kind="down")
        assert [change["member"] for change in heard] == [victim.name]
        assert heard[0]["at"] - killed > TTL - TTL / 3 - 0.25


@on_every_store
def test_the_clock_goes_on_when_its_ticker_is_killed(town: Town) -> None:
    people = town.members("ann", "ben", "cid", "dora")
    ticker, _ = town.roles(people)
    rest = [p for p in people if p is not ticker]
    since = marks(rest)
    killed = ticker.kill()
    assert_all_hear(rest, since, ticker.name, "down", killed, down_within(ticker=True))


@on_every_store
def test_the_clock_goes_on_when_its_standbys_are_killed_too(town: Town) -> None:
    """Whoever is left steps in. Three deaths are not yet so many that the guard holds them back."""
    people = town.members("ann", "ben", "cid", "dora", "eve")
    ticker, standbys = town.roles(people)
    rest = [p for p in people if p not in (ticker, *standbys)]
    since = marks(rest)
    killed = max(p.kill() for p in (*standbys, ticker))
    for dead in (ticker, *standbys):
        assert_all_hear(rest, since, dead.name, "down", killed, down_within(ticker=True, standbys=True))


@on_every_engine
def test_a_stopped_member_is_down_and_comes_back_by_itself(town: Town) -> None:
    """SIGSTOP is a machine that hangs, a debugger, a full disk. It is told that it was lost, and that it is
    back; to the others it is a new life."""
    people = town.members("ann", "ben", "cid")
    ann, *rest = people
    since, own = marks(rest), ann.heard
    life = ann.said("joined")[0]["incarnation"]["workers"]
    stopped = town.stop(ann)
    assert_all_hear(rest, since, "ann", "down", stopped, down_within(ticker=True))
    since = marks(rest)
    going = ann.go_on()
    ann.wait_for("change", SOON, own, kind="lost")
    ann.wait_for("change", SOON, own, kind="rejoined")
    assert_all_hear(rest, since, "ann", "joined", going, 2 * TTL / 3 + 1.0)
    again = rest[0].said("change", since[rest[0].name], kind="joined", member="ann")
    assert [change["incarnation"] > life for change in again] == [True]


@on_every_store
def test_a_process_started_anew_is_a_member_at_once(town: Town) -> None:
    """Under the name of one that was killed, without waiting for that to expire; and the corpse's end, when
    it comes, does not touch it."""
    ann, ben = town.members("ann", "ben")
    since = ben.heard
    ann.kill()
    again = town.start("ann").joined()
    life = again.said("joined")[0]["incarnation"]["workers"]
    ben.wait_for("change", SOON, since, kind="joined", member="ann", incarnation=life)
    two_ttls_pass(town)
    assert ben.said("change", since, kind="down") == []
    assert town.states() == {"ann": "up", "ben": "up"}


@on_every_engine
def test_the_predecessor_that_still_runs_is_superseded(town: Town) -> None:
    ann, _ben = town.members("ann", "ben")
    since = ann.heard
    again = town.start("ann").joined()
    ann.wait_for("change", SOON, since, kind="superseded")
    since = again.heard
    ann.end()
    assert len(ann.said("change", kind="superseded")) == 1
    assert again.said("change", since, kind="left") == [], "its goodbye is not its successor's"
    assert town.states()["ann"] == "up"


@on_every_store
def test_a_zombie_does_not_come_back(town: Town) -> None:
    """Stopped, succeeded, and woken again, it finds its name taken and stays out, for good."""
    ann, ben = town.members("ann", "ben")
    town.stop(ann)
    again = town.start("ann").joined()
    life = again.said("joined")[0]["incarnation"]["workers"]
    ben.wait_for("change", SOON, kind="joined", member="ann", incarnation=life)
    since, own = ben.heard, ann.heard
    ann.go_on()
    ann.wait_for("change", SOON, own, kind="superseded")
    two_ttls_pass(town)
    assert [row.incarnation for row in town.snapshot().rows if row.key == "ann"] == [life]
    assert ben.said("change", since, member="ann") == []
    assert len(ann.said("change", own, kind="superseded")) == 1
    assert ann.said("change", own, kind="rejoined") == []


@on_every_store
def test_a_shared_member_is_up_while_any_process_of_it_is(town: Town) -> None:
    """Two processes, killed one after the other: the first death is nobody's business."""
    (ben,) = town.members("ben")
    one, two = (town.start("ann", on_conflict="share").joined() for _ in range(2))
    ben.wait_for("change", SOON, kind="joined", member="ann")
    since = ben.heard
    number = town.ticking.tick().number
    one.kill()

    def states() -> list[str]:
        return sorted(row.state.value for row in town.snapshot().rows if row.member_id == "ann")

    until(lambda: states() == ["down", "up"], states, down_within(ticker=True) + SOON)
    assert town.ticking.tick().number > number
    assert ben.said("change", since, kind="down") == []
    assert ben.said("change", since, kind="left") == []
    killed = two.kill()
    assert_all_hear([ben], {"ben": since}, "ann", "down", killed, down_within(ticker=True, standbys=True))
    assert len(ben.said("change", since, kind="down", member="ann")) == 1


@on_every_engine
def test_a_process_that_ends_properly_has_left_within_a_second(town: Town) -> None:
    people = town.members("ann", "ben", "cid")
    ann, *rest = people
    since = marks(rest)
    began = ann.end()
    assert_all_hear(rest, since, "ann", "left", began, 1.0)
    ann.wait_for("closed", 1.0)
    assert ann.popen.returncode == 0
    assert town.states()["ann"] == "left"


@pytest.mark.parametrize("which", ["the register", "the beats", "both"])
def test_deleted_files_cost_nobody_the_way_back(town: Town, which: str) -> None:
    """Deleted under running processes: all are members again by themselves, and no two ever led at once."""
    people = town.members("ann", "ben", "cid", lead=True)
    until(lambda: any(process.said("leads") for process in people), lambda: trust(people), SOON)
    since = marks(people)
    paths = {
        "the register": ["town.db"],
        "the beats": ["town.db-beats"],
        "both": ["town.db", "town.db-beats"],
    }
    for name in paths[which]:
        for end in ("", "-wal", "-shm"):
            path = town.path.with_name(name + end)
            if path.exists():
                os.unlink(path)

    def back() -> bool:
        try:
            return town.states() == {"ann": "up", "ben": "up", "cid": "up"}
        except LookupError:
            return False

    until(back, lambda: [process.tail() for process in people], 6 * TTL + SOON)
    two_ttls_pass(town)
    assert back()
    if which == "the beats":
        for process in people:
            assert process.said("change", since[process.name], kind="lost") == [], "the register has it all"
    since = marks(people)
    until(
        lambda: any(process.said("trusted", since[process.name]) for process in people),
        lambda: trust(people),
        SOON,
    )
    for process in people:
        process.signal(signal.SIGSTOP)
    assert list(faults_of_trust(trust(people))) == []
