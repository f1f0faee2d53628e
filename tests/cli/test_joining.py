"""`headcount join`: a command that lives exactly as long as its membership."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

PRINT_SIGNALS = """
import os, signal, sys
def tell(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        sys.exit(3)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, tell)
print("pid", os.getpid(), flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def join(shell, ttl):
    def join(*more: str, member: str = "a", **environment: str):
        return shell.start("join", "web", "--as", member, "--ttl", ttl, *more, **environment)

    return join


def pid_of(running) -> int:
    running.says("pid ")
    return int(running.stdout.split("pid ")[1].split()[0])


SHOW_PID = ("sh", "-c", "echo pid $$; exec sleep 60")


def test_it_exits_as_its_command_did_and_leaves(shell, join):
    done = join("--", "sh", "-c", "exit 7")
    assert done.ends() == 7
    assert shell.status("web", "a") == "left"
    assert join("--", "sh", "-c", "kill -KILL $$").ends() == 137


def test_a_missing_group_is_created_and_said(join):
    assert "created group 'web'" in finished(join("--", "true")).stderr
    assert "created" not in finished(join("--", "true")).stderr


def finished(running):
    running.ends()
    return running


def test_the_command_knows_who_it_is(shell, join):
    """And it has stdout for itself: what headcount has to say goes to stderr."""
    done = join("--namespace", "default", "--", "sh", "-c", "echo $HEADCOUNT_MEMBER_ID $HEADCOUNT_GROUP; "
                "echo $HEADCOUNT_URL; echo $HEADCOUNT_NAMESPACE")  # fmt: skip
    assert done.ends() == 0
    assert done.stdout.split() == ["a", "web", shell.url, "default"]


def test_it_does_not_stand_to_lead_unless_told(shell, join):
    first = join(*("--", *SHOW_PID))
    pid_of(first)
    assert shell.json("members", "web")["leader"] is None
    second = join("--stand", *("--", *SHOW_PID), member="b")
    pid_of(second)
    assert shell.json("members", "web")["leader"] == "b"


def test_capabilities_are_text_or_a_file(shell, join, tmp_path):
    (tmp_path / "caps").write_bytes(b"\x00\xff")
    pid_of(join("--capabilities", "zone-a", "--", *SHOW_PID))
    pid_of(join("--capabilities", "@caps", "--", *SHOW_PID, member="b"))
    pid_of(join("--capabilities", "", "--", *SHOW_PID, member="c"))
    text = shell.run("members", "web").stdout
    assert "zone-a" in text and "00 ff" in text
    assert join("--capabilities", "@nosuch", "--", "true", member="d").ends() == 2


def test_signals_are_passed_on(join):
    running = join("--", "python3", "-c", PRINT_SIGNALS)
    pid_of(running)
    for name in ("SIGUSR1", "SIGHUP", "SIGUSR2", "SIGTERM"):
        running.send(getattr(signal, name))
        running.says(f"got {name}")
    assert running.ends() == 3


def test_a_command_that_dies_of_a_signal(join):
    running = join("--", *SHOW_PID)
    pid_of(running)
    running.send(signal.SIGINT)
    assert running.ends() == 130


def test_nohup_is_respected(shell, join):
    """What our parent ignores, neither we nor the command may die of."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = join("--", *SHOW_PID)
    finally:
        signal.signal(signal.SIGHUP, before)
    pid_of(running)
    running.send(signal.SIGHUP)
    time.sleep(0.3)
    assert running.process.poll() is None


def test_a_superseded_member_takes_its_command_along(shell, join, gone, eventually):
    """Two of a kind must not go on working under one name."""
    first = join("--", *SHOW_PID)
    pid = pid_of(first)
    second = join("--", *SHOW_PID)
    pid_of(second)
    assert first.ends() == 6
    assert gone(pid) and "another process now" in first.stderr
    assert second.process.poll() is None


def test_with_fail_the_second_one_is_refused(join):
    pid_of(join("--", *SHOW_PID))
    second = join("--on-conflict", "fail", "--json", "--", *SHOW_PID)
    assert second.ends() == 6
    assert json.loads(second.stderr.splitlines()[-1])["error"] == "MemberTaken" and "pid" not in second.stdout


def test_with_wait_the_second_one_waits_its_turn(join):
    """As long as it takes, or as --timeout says; and a wait in vain is no fault of the store."""
    first = join("--", *SHOW_PID)
    pid_of(first)
    vain = join("--on-conflict", "wait", "--timeout", "0.5", "--", *SHOW_PID)
    assert vain.ends() == 6 and "still a living member" in vain.stderr
    waiting = join("--on-conflict", "wait", "--", *SHOW_PID)
    time.sleep(1)
    assert waiting.process.poll() is None and "pid" not in waiting.stdout
    first.send(signal.SIGTERM)
    pid_of(waiting)


def test_an_expelled_member_takes_its_command_along(shell, join, gone):
    running = join("--", *SHOW_PID)
    pid = pid_of(running)
    shell.run("mark", "web", "a", "--expelled")
    assert running.ends() == 6
    assert gone(pid) and "was expelled" in running.stderr
    again = join("--", *SHOW_PID)
    assert again.ends() == 6 and "pid" not in again.stdout


def test_what_the_command_started_ends_too_and_who_ignores_sigterm_is_killed(shell, join, gone, eventually):
    """A shell is easily ended without what runs under it."""
    running = join("--grace", "0.5", "--", "sh", "-c",
                   "trap '' TERM; sh -c 'echo inner $$; sleep 60' & echo pid $$; wait; sleep 60")  # fmt: skip
    outer = pid_of(running)
    running.says("inner")
    inner = int(running.stdout.split("inner ")[1].split()[0])
    shell.run("mark", "web", "a", "--expelled")
    assert running.ends() == 6
    eventually(lambda: gone(outer) and gone(inner))


def test_keep_running_keeps_it(shell, join, gone):
    running = join("--keep-running", "--", *SHOW_PID)
    pid = pid_of(running)
    shell.run("mark", "web", "a", "--expelled")
    running.says("was expelled")
    time.sleep(0.5)
    assert not gone(pid)
    running.send(signal.SIGTERM)
    assert running.ends() == 143


def test_a_member_that_was_down_for_the_others_ends_its_command(shell, join, gone):
    """The loss is noticed even if it was mended at once: another life of it is here now."""
    other = join(member="b")
    other.says("joined")
    running = join("--", *SHOW_PID)
    pid = pid_of(running)
    running.send(signal.SIGSTOP)
    eventually_down(shell, "a")
    assert not gone(pid)
    running.send(signal.SIGCONT)
    assert running.ends() == 6
    assert gone(pid) and "session was lost" in running.stderr


def eventually_down(shell, member: str) -> None:
    until = time.monotonic() + 10
    while shell.status("web", member) != "down":
        assert time.monotonic() < until, "never down"
        time.sleep(0.05)


def test_without_a_command_it_comes_back_by_itself(shell, join):
    other = join(member="b")
    other.says("joined")
    running = join("--json")
    running.says('"joined"')
    running.send(signal.SIGSTOP)
    eventually_down(shell, "a")
    running.send(signal.SIGCONT)
    running.says('"rejoined"')
    assert shell.status("web", "a") == "up"
    running.send(signal.SIGINT)
    assert running.ends() == 130
    events = [json.loads(line)["event"] for line in running.stdout.splitlines()]
    assert events[-2:] == ["lost", "rejoined"]
    assert shell.status("web", "a") == "left"


def test_killing_headcount_kills_the_command(join, gone, eventually):
    """With SIGKILL nothing is left that could end it, but the kernel."""
    running = join("--", *SHOW_PID)
    pid = pid_of(running)
    running.process.kill()
    eventually(lambda: gone(pid), 5)


def takes_signals(pid: int) -> bool:
    """Whether it waits for them: SIGTTOU, which it never waits for, shows as blocked all the time."""
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked, 16) >> (signal.SIGTTOU - 1) & 1)


def test_ctrl_c_while_the_store_does_not_answer(shell, join, eventually):
    """Who waits for a store that is down can still be ended, at once."""
    with closing(sqlite3.connect(shell.folder / "headcount.db")) as con:
        con.execute("BEGIN IMMEDIATE")
        running = join("--timeout", "60", "--", "true")
        eventually(lambda: takes_signals(running.process.pid), 10)
        time.sleep(0.5)
        running.send(signal.SIGTERM)
        assert running.ends(within=3) == 143


# ── mistakes ──


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["join", "web"], 2, "--as MEMBER"),
        (["join", "web", "--as", "a", "sleep", "10"], 2, "goes behind --"),
        (["join", "web", "--as", "a", "sleep", "-x"], 2, "goes behind --"),
        (["join", "web", "--as", "a", "--"], 2, "no command after --"),
        (["join", "web", "--as", "a", "--ttl", "0", "--", "true"], 2, "above 0"),
        (["join", "web", "--as", "a", "--ttl", "0.1", "--", "true"], 2, "three ticks"),
        (["join", "web", "--as", "a", "--ttl", "ten", "--", "true"], 2, "'ten'"),
        (["join", "", "--as", "a", "--", "true"], 2, "1 to 200 bytes"),
        (["join", "web", "--as", "", "--", "true"], 2, "1 to 200 bytes"),
        (["join", "web", "--as", "a", "--", "no-such-command"], 127, "no such command"),
        (["join", "web", "--as", "a", "--", "/etc/passwd"], 126, "not executable"),
        (["lead", "web", "--as", "a", "--ttl", "1", "--grace", "3", "--", "true"], 2, "at most"),
        (["lead", "web", "--as", "a", "--ttl", "0.5", "--", "true"], 2, "too short to lead"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_run(shell, arguments, code, text):
    done = shell.finish(*arguments)
    assert (done.process.returncode, text in done.stderr) == (code, True), done.said
    assert "Traceback" not in done.stderr
    assert shell.json("groups") == {"groups": []}, "a mistake must not have joined anything"


def test_the_password_goes_to_the_command_and_nowhere_else(shell):
    done = shell.finish("join", "web", "--as", "a", "--url", "nosuch://u:hunter2@host/", "--", "true")
    assert done.process.returncode == 2 and "hunter2" not in done.said


def test_a_member_id_from_the_environment(shell, ttl):
    done = shell.finish("join", "web", "--ttl", ttl, "--", "sh", "-c", "echo $HEADCOUNT_MEMBER_ID",
                        HEADCOUNT_MEMBER_ID="from-there")  # fmt: skip
    assert done.stdout == "from-there\n"


def test_the_command_begins_as_from_a_shell(join):
    """No signal is blocked or ignored for it, and none of our files are open in it."""
    code = (
        "import os, signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), os.listdir('/proc/self/fd'));"
        "print([line for line in open('/proc/self/status') if line.startswith('SigIgn')])"
    )
    done = finished(join("--", "python3", "-c", code))
    assert done.stdout.splitlines()[0] == "set() ['0', '1', '2', '3']"  # the last one lists the others
    # Python ignores SIGPIPE and SIGXFSZ for itself; what else is ignored, whoever runs the tests ignores.
    ours = Path("/proc/self/status").read_text().split("SigIgn:")[1].split()[0]
    assert int(done.stdout.split("SigIgn:")[1].strip("\\tn']\n"), 16) == int(ours, 16)


def test_a_mistyped_directory_is_told_once(shell):
    for arguments in (["join", "web", "--as", "a"], ["lead", "web", "--as", "a", "--", "true"]):
        done = shell.finish(*arguments, HEADCOUNT_URL="sqlite:///no/such/folder/x.db")
        assert done.process.returncode == 2, done.said
        assert done.stderr.count("does not exist") == 1 and "mkdir -p" in done.stderr, done.said
