"""`headcount lead`: a command on one member at a time, gone before another may lead."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import time

import pytest

LEAD_TTL = "1.5"
STAMP = """
import sys, time, signal
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a", buffering=1) as file:
    while True:
        file.write(f"{time.time()}\\n")
        time.sleep(0.01)
"""


@pytest.fixture
def lead(shell):
    def lead(member: str, *more: str, ttl: str = LEAD_TTL):
        return shell.start("lead", "web", "--as", member, "--ttl", ttl, *more)

    return lead


def test_the_next_one_takes_over_with_a_higher_token(shell, lead):
    """The first is asked to go; its command ends before the second one's begins."""
    show = ("--", "sh", "-c", "echo TOKEN $HEADCOUNT_TOKEN; exec sleep 60")
    first = lead("a", *show)
    first.says("TOKEN ")
    second = lead("b", *show)
    second.says("joined")
    assert shell.json("members", "web")["leader"] == "a"
    time.sleep(0.3)
    assert "TOKEN " not in second.stdout
    first.send(signal.SIGTERM)
    assert first.ends() == 143
    second.says("TOKEN ")
    assert int(second.stdout.split()[1]) > int(first.stdout.split()[1])


def test_it_exits_as_its_command_did(lead):
    done = lead("a", "--", "sh", "-c", "exit 9")
    assert done.ends() == 9


@pytest.mark.parametrize("hearing", ["hears", "deaf"])
def test_the_command_is_gone_before_trust_ends(shell, lead, tmp_path, hearing):
    """The store stops taking beats. Nobody can tell the leader that it does not lead any more, so it has
    to be gone by itself, and in time; and lead again, under a new token, when the store is back."""
    running = lead("a", "--json", "--", "python3", "-c", STAMP, str(tmp_path / "stamps"), hearing)
    running.says('"leading"')
    time.sleep(0.8)
    with contextlib.closing(sqlite3.connect(f"{tmp_path}/headcount.db-beats", isolation_level=None)) as con:
        con.execute("PRAGMA busy_timeout = 5000")
        con.execute("BEGIN IMMEDIATE")
        blocked = time.time()
        running.says('"ended"')
        time.sleep(1.5)
        last = float((tmp_path / "stamps").read_text().split()[-1])
        con.execute("ROLLBACK")
    margin = 0.25
    assert last < blocked + float(LEAD_TTL) - margin, "it still ran when its trust had ended"
    running.says('"leading"', within=10)
    assert running.stderr.count('"leading"') == 2 or wait_for_two(running)
    tokens = [json.loads(line)["token"] for line in running.stderr.splitlines() if '"leading"' in line]
    assert tokens == sorted(set(tokens))


def wait_for_two(running) -> bool:
    until = time.monotonic() + 10
    while running.stderr.count('"leading"') < 2:
        assert time.monotonic() < until, running.said
        time.sleep(0.05)
    return True


def test_a_frozen_leader_kills_its_command_when_it_wakes(shell, lead, tmp_path):
    """Its trust is long over: there is no time left to be polite."""
    stamps = tmp_path / "stamps"
    running = lead("a", "--", "python3", "-c", STAMP, str(stamps), "deaf")
    running.says("leads")
    second = lead("b")
    second.says("joined")
    running.send(signal.SIGSTOP)
    second.says("leads")
    running.send(signal.SIGCONT)
    running.says("does not lead any more")
    woken = time.time()
    time.sleep(0.6)
    assert float(stamps.read_text().split()[-1]) < woken + 0.3


def test_once_ends_with_the_first_leadership(shell, lead):
    running = lead("a", "--once", "--", "sleep", "60")
    running.says("leads")
    shell.run("mark", "web", "a", "--disabled", "maintenance")
    assert running.ends() == 6


def test_a_disabled_leader_waits_and_leads_again(shell, lead):
    """Its command ends, the process stays: enabled again, it stands behind the others."""
    running = lead("a", "--", "sh", "-c", "echo TOKEN $HEADCOUNT_TOKEN; exec sleep 60")
    running.says("TOKEN ")
    shell.run("mark", "web", "a", "--disabled", "maintenance")
    running.says("does not lead any more")
    shell.run("mark", "web", "a", "--enabled")
    until = time.monotonic() + 10
    while running.stdout.count("TOKEN") < 2:
        assert time.monotonic() < until, running.said
        time.sleep(0.05)
    first, second = running.stdout.split()[1::2]
    assert int(second) > int(first)


def test_expelled_while_it_waits(shell, lead):
    lead("a").says("leads")
    waiting = lead("b", "--", "sleep", "60")
    waiting.says("joined")
    shell.run("mark", "web", "b", "--expelled")
    assert waiting.ends() == 6


def test_ended_while_it_waits(shell, lead):
    lead("a").says("leads")
    waiting = lead("b", "--", "sleep", "60")
    waiting.says("joined")
    waiting.send(signal.SIGTERM)
    assert waiting.ends(within=5) == 143
    assert shell.status("web", "b") == "left"


def test_killing_headcount_kills_the_command(lead, gone, eventually):
    running = lead("a", "--", "sh", "-c", "echo pid $$; exec sleep 60")
    running.says("pid ")
    pid = int(running.stdout.split()[1])
    running.process.kill()
    eventually(lambda: gone(pid), 5)
