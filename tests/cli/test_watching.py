"""`headcount watch`: each change a line, at once; and it ends when it should."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

import headcount


@pytest.fixture
def member(shell, ttl):
    shell.run("create", "web")
    with headcount.connect(shell.url, member_id="a", ttl=float(ttl)) as c:
        yield c


def test_it_begins_with_who_is_here_and_goes_on_with_what_changes(shell, member, ttl):
    """Each line is whole, valid JSON the moment that it happens: somebody's program reads it."""
    member.join_group("web", headcount.pack({"zone": "a"}))
    watch = shell.start("watch", "web", "--json")
    watch.says('"leader"')
    with headcount.connect(shell.url, member_id="b", ttl=float(ttl)) as b:
        began = time.monotonic()
        b.join_group("web")
        watch.says('"b"', within=5)
        assert time.monotonic() - began < 1
        b.update_capabilities(b"new")
        watch.says('"updated"', within=5)
    watch.says('"left"', within=5)
    shell.run("mark", "web", "a", "--disabled", "disk")
    watch.says('"marked"', within=5)
    watch.send(signal.SIGTERM)
    assert watch.ends() == 128 + signal.SIGTERM
    lines = [json.loads(line) for line in watch.stdout.splitlines()]
    assert [(line["kind"], line.get("initial", False)) for line in lines[:3]] == [
        ("joined", True), ("leader", True), ("joined", False),
    ]  # fmt: skip
    first, updated = lines[0], next(line for line in lines if line["kind"] == "updated")
    assert first["member"]["unpacked"] == {"zone": "a"} and first["leader"] == "a"
    assert updated["before"]["capabilities"] != updated["member"]["capabilities"]
    assert all(line["group"] == "web" and line["time"] and "degraded" in line for line in lines)
    revisions = [line["revision"] for line in lines]
    assert revisions == sorted(revisions)
    assert watch.stderr == ""


def test_for_people_it_is_a_sentence(shell, member):
    watch = shell.start("watch", "web")
    watch.says("Nobody is in group 'web'")
    member.join_group("web", b"some text")
    watch.says("leader")
    member.leave_group("web")
    watch.says("left")
    watch.send(signal.SIGINT)
    assert watch.ends() == 130
    lines = [line.split(maxsplit=1)[1] for line in watch.stdout.splitlines()]
    assert lines[0].split(maxsplit=1) == ["joined", "a  some text"]
    assert [line.split()[0] for line in lines] == ["joined", "leader", "left", "leader"]
    assert "\x1b" not in watch.stdout and "Traceback" not in watch.stderr


@pytest.mark.parametrize("reads", ["head -1", "(read line; echo $line; exec <&-; sleep 0.2)", "true"])
def test_it_ends_quietly_when_nobody_reads_any_more(shell, member, reads):
    """`headcount watch web | head -1`: whether it is just writing, or nothing happens any more."""
    member.join_group("web")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m headcount watch web | {reads}; echo ${{PIPESTATUS[0]}}"],
        env=shell.environment, capture_output=True, text=True, timeout=10,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "141" and done.stderr == ""


def test_a_watcher_alone_still_sees_a_member_die(shell, ttl):
    """It has to tick itself: nobody else is there to do it."""
    member = shell.start("join", "web", "--as", "a", "--ttl", ttl)
    member.says("joined")
    watch = shell.start("watch", "web")
    watch.says("here")
    member.kill()
    watch.says("down", within=10)


def test_a_watcher_ticks_also_where_the_interval_is_long(shell, tmp_path):
    """Its own session must not have a ttl that the store is too slow for."""
    url = f"sqlite:///{tmp_path}/slow.db"
    shell.run("--url", url, "store", "init", "--interval", "60")
    shell.run("--url", url, "create", "web")
    watch = shell.start("--url", url, "watch", "web")
    watch.says("Nobody is in group")
