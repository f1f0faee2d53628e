"""Leaders that are stopped, killed and paused at the worst moment: never two that are trusted at once."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.processes import sink
from tests.processes.places import on_any_store
from tests.processes.town import TTL, Town, down_within, faults_of_trust, leader, trust, until

SOON = 10.0


@on_any_store
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
        ruler.stop()
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


@on_any_store
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


@on_any_store
def test_what_a_leader_does_under_an_old_token_is_refused(town: Town, tmp_path: Path) -> None:
    """It asks whether it is trusted, is told yes, stands still, and then writes. Nothing that it could ask
    would help; what helps is that the token goes along with the write."""
    path = str(tmp_path / "sink.db")
    sink.make(path)
    (ann,) = town.members("ann", lead=True, freezes=True, sink=path)
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
