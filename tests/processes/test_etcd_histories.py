"""Several processes write and read a register on three servers of etcd, to which all sorts of things happen;
and a judge holds together what they recorded (see test_histories)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.processes.history import Commit, judge, load
from tests.processes.test_histories import WRITERS, founded, last_of_the_killed, lines, writers
from tests.processes.town import Town, until
from tests.servers.etcd import Cluster

ASLEEP = 2.0
"""Seconds that a server is stopped: the others have elected another one, and the writers wait for one."""


def test_what_is_recorded_fits_together_whatever_happens_to_the_cluster(
    own_etcd_cluster: Callable[..., Cluster], build: Callable[..., Town], tmp_path: Path
) -> None:
    """Writers are stopped and killed; a follower is killed, the leader is killed, and stopped through an
    election; a majority is gone for a while, once killed and once stopped. What was answered is there, in its
    place; what was not is there once or not at all, and all see it the same way."""
    cluster = own_etcd_cluster()
    town = build(cluster.url("town"))
    start = founded(town.store)
    files = [tmp_path / f"{n}.jsonl" for n in range(WRITERS)]
    with writers(town, 3, 0, files) as running:
        alive = list(range(WRITERS))

        def all_go_on() -> None:
            before = {n: lines(files[n]) for n in alive}
            until(
                lambda: all(lines(files[n]) > was + 30 for n, was in before.items()),
                lambda: [lines(file) for file in files],
                60,
            )

        all_go_on()
        running[0].send_signal(signal.SIGSTOP)
        running[1].kill()
        alive = [2, 3, 4]
        all_go_on()
        running[0].send_signal(signal.SIGCONT)
        alive = [0, 2, 3, 4]
        for trouble in (a_follower_is_killed, the_leader_is_killed, the_leader_sleeps, most_die, most_sleep):
            trouble(cluster)
            all_go_on()
        for process in running:
            process.terminate()
        assert [process.wait(30) for process in running] == [0, -signal.SIGKILL, 0, 0, 0]
    records = load(files)
    records += last_of_the_killed(town.store, "w1", load(files[1:2]))
    assert len([r for r in records if isinstance(r, Commit)]) > 300
    assert judge(records, start=start, first=start) == []


def a_follower_is_killed(cluster: Cluster) -> None:
    dead = cluster.followers()[0]
    dead.kill()
    time.sleep(ASLEEP / 2)
    dead.start()


def the_leader_is_killed(cluster: Cluster) -> None:
    dead = cluster.leader()
    dead.kill()
    cluster.leader()
    dead.start()


def the_leader_sleeps(cluster: Cluster) -> None:
    """It wakes up with all that waits for it, and takes itself for the leader."""
    sleeper = cluster.leader()
    sleeper.freeze()
    time.sleep(ASLEEP)
    sleeper.thaw()


def most_die(cluster: Cluster) -> None:
    dead = [cluster.leader(), cluster.followers()[0]]
    for member in dead:
        member.kill()
    time.sleep(ASLEEP)
    for member in dead:
        member.launch()
    for member in dead:
        member.wait_until_it_answers()


def most_sleep(cluster: Cluster) -> None:
    sleepers = cluster.followers()
    for member in sleepers:
        member.freeze()
    time.sleep(ASLEEP)
    for member in sleepers:
        member.thaw()
