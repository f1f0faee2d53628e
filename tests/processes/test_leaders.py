"""Leaders that are stopped, killed and paused at the worst moment: never two that are trusted at once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import headcount
from headcount import Group
from tests.processes import sink
from tests.processes.member import now
from tests.processes.places import on_every_engine
from tests.processes.town import STARTING, TTL, Town, down_within, faults_of_trust, leader, trust, until

SOON = 10.0


@on_every_engine
def test_never_two_trusted_leaders_while_leaders_are_stopped(town: Town) -> None:
    """Whoever leads is stopped until it is down, or only nearly so, over and over. Each process tells when it
    was trusted, by the one clock of this machine; no two of these times overlap, and tokens only grow."""
    chance = random.Random(5)
    people = town.members("ann", "ben", "cid", lead=True)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    for ttls in (None, 0.7, 1.2, None, 0.95):
        ruler = leader(people)
        other = next(p for p in people if p is not ruler)
        since = {process.name: process.heard for process in people}
        town.stop(ruler)
        if ttls is None:
            down = down_within(ticker=True) + SOON
            other.wait_for("change", down, since[other.name], kind="down", member=ruler.name)
        else:
            time.sleep(TTL * ttls + chance.uniform(0, 0.1))  # how long it is stopped is the point
        ruler.go_on()
        if ttls is None:
            ruler.wait_for("change", SOON, since[ruler.name], kind="rejoined")
        until(
            lambda since=since: any(p.said("trusted", since[p.name]) for p in people),  # type: ignore[misc]
            lambda: trust(people),
            SOON,
        )
    for process in people:
        process.signal(signal.SIGSTOP)
    seen = trust(people)
    assert list(faults_of_trust(seen)) == []
    assert len(seen) >= 3, f"leadership changed hands too seldom to show anything: {seen}"


@on_every_engine
def test_a_killed_leader_is_followed_in_time(town: Town) -> None:
    people = town.members("ann", "ben", "cid", "dora", lead=True)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    ruler = leader(people)
    rest = [p for p in people if p is not ruler]
    since = {process.name: process.heard for process in rest}
    killed = ruler.kill()
    bound = down_within(ticker=True)
    until(
        lambda: any(p.said("leads", since[p.name]) for p in rest),
        lambda: [p.tail() for p in rest],
        bound + SOON,
    )
    first = min(event["at"] for p in rest for event in p.said("leads", since[p.name]))
    assert first - killed <= bound
    for process in rest:
        process.signal(signal.SIGSTOP)
    assert list(faults_of_trust(trust(people))) == []


TAKING_AWAY: dict[str, Callable[[Town, Group, str], object]] = {
    "disabled": lambda town, group, name: group.mark(name, disabled="for a while"),
    "forced down": lambda town, group, name: group.mark(name, forced_down=True),
    "expelled": lambda town, group, name: group.mark(name, expelled=True),
    "forgotten": lambda town, group, name: group.forget(name),
    "taken over": lambda town, group, name: town.start(name, lead=True).joined(),
}
"""What others can do to a member that leads, by an operator's word or under its own name."""


@on_every_engine
def test_a_leader_whose_place_is_taken_away(town: Town) -> None:
    """In each way, from one who is well, and beats: it stops to trust before the next one begins, and that is
    soon, since it is told and gives its place up."""
    people = town.members("ann", "ben", "cid", "dora", "eve", "fay", lead=True)
    until(lambda: any(p.said("trusted") for p in people), lambda: trust(people), SOON)
    operator = headcount.connect(town.url)
    group = operator.group("workers")
    for way, take_away in TAKING_AWAY.items():
        ruler = leader(people)
        time.sleep(TTL / 3)  # until it has beaten once more
        since = {process.name: process.heard for process in people}
        taken = now()
        take_away(town, group, ruler.name)
        rest = [p for p in people if p is not ruler]
        until(lambda: any(p.said("trusted", since[p.name]) for p in rest), lambda: (way, trust(people)), SOON)  # noqa: B023
        first = min(event["at"] for p in rest for event in p.said("leads", since[p.name]))
        assert first - taken < (STARTING if way == "taken over" else TTL), way
        people = [*rest, *(p for p in town.processes if p.name == ruler.name)]
    operator.close()
    for process in town.processes:
        process.signal(signal.SIGSTOP)
    seen = trust(town.processes)
    assert list(faults_of_trust(seen)) == []
    assert len(seen) > len(TAKING_AWAY)


@on_every_engine
def test_what_a_leader_does_under_an_old_token_is_refused(town: Town, tmp_path: Path) -> None:
    """It asks whether it is trusted, is told yes, stands still, and then writes. Nothing that it could ask
    would help; what helps is that the token goes along with the write."""
    path = str(tmp_path / "sink.db")
    sink.make(path)
    # It may stand still before it has heard of itself, so nobody waits for that.
    ann = town.start("ann", lead=True, freezes=True, sink=path).joined()
    old = ann.wait_for("frozen", SOON)["token"]
    ben = town.start("ben", lead=True).joined()
    new = ben.wait_for("leads", down_within(ticker=True) + SOON)["token"]
    assert new > old
    assert sink.write(path, new, "ben")
    ann.go_on()
    wrote = ann.wait_for("wrote", SOON)
    assert (wrote["token"], wrote["taken"], wrote["trusted"]) == (old, False, False)
    assert sink.last(path) == (new, "ben")
    assert list(faults_of_trust(trust([ann, ben]))) == []


def test_the_sink_takes_what_is_in_order(tmp_path: Path) -> None:
    """It would prove nothing if it refused everything."""
    path = str(tmp_path / "sink.db")
    sink.make(path)
    taken = [sink.write(path, token, str(token)) for token in (5, 5, 7, 6, 7, 8)]
    assert taken == [True, True, True, False, True, True]


def test_overlapping_trust_is_found() -> None:
    """The judge of these tests can say no."""
    good = [(5, 1.0, 2.0, "ann"), (7, 2.1, 3.0, "ben"), (9, 3.1, 9.0, "ann")]
    assert list(faults_of_trust(good)) == []
    overlap = [*good[:2], (9, 2.9, 9.0, "ann")]
    assert ["two are trusted at once" in fault for fault in faults_of_trust(overlap)] == [True]
    shrunk = [*good[:2], (6, 3.1, 9.0, "ann")]
    assert ["token does not grow" in fault for fault in faults_of_trust(shrunk)] == [True]
