"""Real forks. A coordinator that was made but not used before one works in the child; one that was used
belongs to the parent, and says so in the child. Whatever the child does, the parent goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes.places import EXPIRING, STORES

PRELUDE = """
import os, sys, threading, time
import headcount
import headcount.stores
from headcount import Closed, Coordinator, Forked, NotTrusted

url = sys.argv[1]

def in_child(work):
    '''Its answer, and how it ended.'''
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(w, str(work()).encode())
        except BaseException as error:
            os.write(w, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        os._exit(0)
    os.close(w)
    answer = os.read(r, 65536).decode()
    _, status = os.waitpid(pid, 0)
    return answer, os.waitstatus_to_exitcode(status)
"""


@pytest.fixture(params=["memory", *STORES, *EXPIRING])
def url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    place = "memory://forks" if request.param == "memory" else fresh_url(request.param)
    return place if request.param in EXPIRING else f"{place}?interval=0.2"


def run(script: str, url: str) -> str:
    """Runs it in a process of its own, which must end by itself, and well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(script), url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_made_before_the_fork_and_first_used_in_the_child(url: str) -> None:
    """So services that configure themselves before they fork their workers need not know of it. Each of
    them is a process of its own to the store."""
    run(
        """
        lazy = Coordinator(url, member_id="ann", ttl=1.0, on_conflict="share")

        def work():
            with lazy:
                return lazy.join_group("workers", create=True).view().up[0].member_id

        for _ in range(2):
            assert in_child(work) == ("ann", 0), in_child(work)
        assert lazy.join_group("workers", create=True).is_up("ann")  # and in the parent as well
        lazy.close()
        """,
        url,
    )


def test_children_that_live_at_the_same_time_keep_out_of_each_others_way(tmp_path: Path) -> None:
    """Two workers of one service share a name. With one instance for both, each would come back over the
    other for as long as both live."""
    run(
        """
        lazy = Coordinator(url, member_id="ann", ttl=1.0, on_conflict="share")
        stay, go = os.pipe()
        children = []
        for _ in range(2):
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    os.close(go)
                    with lazy:
                        lazy.join_group("workers", create=True)
                        os.write(w, b"in")
                        os.read(stay, 1)
                finally:
                    os._exit(0)
            os.close(w)
            children.append(pid)
            assert os.read(r, 2) == b"in"

        with Coordinator(url) as eye:
            eye.get_all_group_ids()
            rows = eye._hub.store.read("workers").rows
            told = [entry.what for entry in eye._hub.store.history("workers")]
        os.close(go)
        for pid in children:
            os.waitpid(pid, 0)
        assert len({row.instance for row in rows if row.live}) == 2, rows
        assert told.count("joined") == 2 and "superseded" not in told, told
        """,
        f"sqlite:///{tmp_path}/forks.db?interval=0.2",
    )


def test_used_before_the_fork_it_is_the_parents(url: str) -> None:
    """Every call of the child says so at once and does nothing; so does every call of what it made."""
    run(
        """
        ann = headcount.connect(url, member_id="ann", ttl=1.0)
        group = ann.join_group("workers", create=True)
        changes = group.changes()
        calls = [
            lambda: ann.create_group("x"), ann.get_all_group_ids, lambda: ann.join_group("workers"),
            lambda: ann.leave_group("workers"), lambda: ann.get_members("workers"),
            lambda: ann.get_leader("workers"), lambda: ann.update_capabilities(b"x"), ann.ready,
            lambda: ann.group("workers"), group.view, lambda: group.is_up("ann"), group.changes,
            lambda: group.mark("ann", disabled="x"), group.resign, group.leadership().__enter__,
        ]

        def work():
            told = []
            for call in calls:
                try:
                    call()
                    told.append("nothing")
                except Forked as error:
                    assert "belongs to the parent process" in str(error)
                    assert "Connect in the child" in str(error)
            assert ann.health()["connected"] is False
            assert len(list(changes)) <= 2  # ends, for nobody is there to tell of more
            ann.close()
            ann.close()
            return told

        assert in_child(work) == ("[]", 0), in_child(work)
        assert group.is_up("ann")
        ann.update_capabilities(b"still here")
        ann.close()
        """,
        url,
    )


def test_a_term_of_the_parent_is_not_the_childs(url: str) -> None:
    """The parent's trust goes on; the child would never hear of its end, and so has none."""
    run(
        """
        ann = headcount.connect(url, member_id="ann", ttl=3.0)
        group = ann.join_group("workers", create=True)
        with group.leadership(5) as term:
            def work():
                assert not term.trusted and term.wait(0)
                try:
                    term.check()
                except NotTrusted as error:
                    return error

            answer, code = in_child(work)
            assert "belongs to the parent process" in answer and code == 0, answer
            assert term.trusted

            def leave_it():
                raise SystemExit  # leaves the with-block of the parent, in the child

            pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        ann.close()
        """,
        url,
    )


@pytest.mark.parametrize("ends", ["os._exit(0)", "sys.exit(0)"])
def test_the_end_of_a_child_does_not_disturb_the_parent(url: str, ends: str) -> None:
    """Also if it ends properly, with all finalizers, which close what they inherited."""
    run(
        f"""
        ann = headcount.connect(url, member_id="ann", ttl=1.0)
        group = ann.join_group("workers", create=True)
        with group.leadership(5) as term:
            life = group.view()["ann"].incarnation
            for _ in range(5):
                pid = os.fork()
                if pid == 0:
                    {ends}
                assert os.waitpid(pid, 0)[1] == 0
            time.sleep(1.8)  # more than a ttl
            assert term.trusted
            assert group.view(fresh=True)["ann"].incarnation == life
        ann.close()
        """,
        url,
    )


def test_a_child_may_connect_anew(url: str) -> None:
    """After the fork, with the same address; the parent's own goes on."""
    run(
        """
        ann = headcount.connect(url, member_id="ann", ttl=1.0)
        ann.join_group("workers", create=True)

        def work():
            with headcount.connect(url, member_id="ben", ttl=1.0) as ben:
                ben.join_group("workers", create=True)
                return "ben" in ben.get_members("workers")

        assert in_child(work) == ("True", 0)
        assert ann.get_members("workers") == ["ann"]
        ann.close()
        """,
        url,
    )


def test_a_fork_while_every_lock_is_busy_hangs_no_child(url: str) -> None:
    """Threads of the parent hold locks when it forks; who could free them is not in the child."""
    run(
        """
        ann = headcount.connect(url, member_id="ann", ttl=1.0)
        group = ann.join_group("workers", create=True)
        stop = threading.Event()

        faults = []

        def hammer():
            n = 0
            try:
                while not stop.is_set():
                    n += 1
                    ann.update_capabilities(b"%d" % n)
                    ann.health()
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=hammer) for _ in range(4)]
        for thread in threads:
            thread.start()

        def work():
            try:
                group.view()
            except Forked:
                ann.health()
                ann.close()
                with Coordinator("memory://own") as own:
                    return own.get_all_group_ids()

        try:
            for _ in range(30):
                assert in_child(work) == ("[]", 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not faults, faults
        ann.close()
        """,
        url,
    )
