"""Several processes write and read one register on three servers of ZooKeeper, to which things happen; a
judge holds together what they recorded."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.processes.history import Commit, judge, load
from tests.processes.test_histories import WRITERS, founded, last_of_the_killed, lines, writers
from tests.processes.town import Town, until
from tests.servers.zookeeper import Ensemble

LONG_SESSIONS = 600_000
"""Milliseconds: writers have sessions, but no hearts."""


def kill_a_follower(ensemble: Ensemble) -> None:
    ensemble.followers[0].kill()


def kill_the_leader(ensemble: Ensemble) -> None:
    ensemble.leader.kill()


def pause_the_leader(ensemble: Ensemble) -> None:
    """For longer than the others, and its clients, wait for it."""
    leader = ensemble.leader
    leader.freeze()
    time.sleep(3.0)
    leader.thaw()


def lose_the_quorum(ensemble: Ensemble) -> None:
    """Until everybody has been told that nothing serves."""
    for server in ensemble.servers[:2]:
        server.kill()
    time.sleep(1.5)


TROUBLES = (kill_a_follower, kill_the_leader, pause_the_leader, lose_the_quorum)


def restore(ensemble: Ensemble) -> None:
    """Whoever does not run is started; and all of them serve."""
    for server in ensemble.servers:
        if not server.running:
            server.launch()
    for server in ensemble.servers:
        server.wait_until_it_answers()


def test_what_is_recorded_fits_together_whatever_happens_to_the_servers(
    own_ensemble: Callable[..., Ensemble], build: Callable[..., Town], tmp_path: Path
) -> None:
    """Writers are stopped and killed; servers are killed, the leading one too, or paused, and for a while
    there are too few. What was answered is there, in its place; what was not is there once or not at all, and
    all see it the same way."""
    ensemble = own_ensemble(maxSessionTimeout=LONG_SESSIONS)
    town = build(ensemble.url("town"))
    start = founded(town.store)
    files = [tmp_path / f"{n}.jsonl" for n in range(WRITERS)]
    with writers(town, 3, 0, files) as running:
        until(lambda: all(lines(file) > 20 for file in files), lambda: [lines(f) for f in files], 30)

        def all_go_on(them: list[int]) -> None:
            before = [lines(files[n]) for n in them]
            until(
                lambda: all(lines(files[n]) > was + 30 for n, was in zip(them, before, strict=True)),
                lambda: [lines(file) for file in files],
                30,
            )

        running[0].send_signal(signal.SIGSTOP)
        running[1].kill()
        all_go_on([2, 3, 4])
        running[0].send_signal(signal.SIGCONT)
        for trouble in TROUBLES:
            all_go_on([0, 2, 3, 4])
            trouble(ensemble)
            if trouble is not lose_the_quorum:  # two of three are enough
                all_go_on([0, 2, 3, 4])
            restore(ensemble)
        all_go_on([0, 2, 3, 4])
        for process in running:
            process.terminate()
        assert [process.wait(30) for process in running] == [0, -signal.SIGKILL, 0, 0, 0]
    records = load(files)
    records += last_of_the_killed(town.store, "w1", load(files[1:2]))
    assert len([r for r in records if isinstance(r, Commit)]) > 100
    assert judge(records, start=start, first=start) == []
