"""The commands that look once: what they answer, in which form, and what they say of mistakes."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

import headcount
from headcount.cli import COMMANDS, cli


def test_groups_are_listed_one_a_line(shell):
    """So that a loop in a shell can use them."""
    assert "no groups yet" in shell.run("groups").stderr
    shell.run("create", "web")
    shell.run("create", "my group")
    assert shell.run("groups").stdout == "my group\nweb\n"
    assert shell.json("groups") == {"groups": ["my group", "web"]}


def test_options_are_taken_before_and_after_the_command(shell):
    """People type them where they think of them."""
    shell.run("create", "web")
    before = shell.run("--json", "--url", shell.url, "groups", HEADCOUNT_URL="memory://").stdout
    after = shell.run("groups", "--json", "--url", shell.url, HEADCOUNT_URL="memory://").stdout
    assert json.loads(before) == json.loads(after) == {"groups": ["web"]}
    inner = shell.run("store", "init", "--json").stdout
    assert json.loads(inner)["interval"] == 0.1


def test_creating_and_deleting_a_group(shell):
    assert shell.json("create", "web") == {"group": "web", "created": True}
    assert shell.json("create", "web") == {"group": "web", "created": False}
    assert shell.json("delete", "web") == {"group": "web", "deleted": True}
    shell.run("delete", "web", code=3)


def test_members_shows_everyone_known_with_what_is_known(shell, ttl):
    """Who has left is what an operator looks for; what was published is shown unpacked."""
    with headcount.connect(shell.url, member_id="w-1", ttl=float(ttl)) as first:
        first.join_group("web", headcount.pack({"zone": "a", "cores": 4}), create=True)
        with headcount.connect(shell.url, member_id="w-2", ttl=float(ttl)) as second:
            second.join_group("web", b"\xff\x00")
        shell.run("mark", "web", "w-9", "--disabled", "new disk")
        answer = shell.json("members", "web")
        text = shell.run("members", "web").stdout
        here = shell.json("members", "web", "--up")
    assert answer["group"] == "web" and answer["leader"] == "w-1" and answer["degraded"] is None
    one, two, nine = answer["members"]
    assert (one["member_id"], one["status"], one["leader"]) == ("w-1", "up", True)
    assert one["unpacked"] == {"zone": "a", "cores": 4}
    assert headcount.unpack(base64.b64decode(one["capabilities"])) == {"zone": "a", "cores": 4}
    assert one["incarnation"] > 0 and one["since"].endswith("+00:00") and one["last_seen"]
    assert (two["status"], two["last_seen"], "unpacked" in two) == ("left", None, False)
    assert nine["disabled"] == "new disk" and nine["incarnation"] == 0
    assert [member["member_id"] for member in here["members"]] == ["w-1"]
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert '{"zone":"a","cores":4}' in lines["w-1"] and "leads" in lines["w-1"]
    assert "ff 00" in lines["w-2"] and "disabled: new disk" in lines["w-9"]


def test_piped_output_is_plain(shell):
    """No colour, no box, no cut line, no spaces at the ends: it is for grep."""
    shell.run("create", "web")
    shell.run("mark", "web", "w" * 180, "--disabled", "x" * 150)
    text = shell.run("members", "web").stdout
    assert "w" * 180 in text and "x" * 150 in text
    assert text.isascii() and "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_what_others_wrote_cannot_move_the_cursor(shell):
    """A reason is free text of somebody else's."""
    shell.run("create", "web")
    shell.run("mark", "web", "a", "--disabled", "\x1b[2Jgone\a")
    text = shell.run("members", "web").stdout
    assert "\x1b" not in text and "\a" not in text and "gone" in text


def test_readers_are_nobody_whatever_the_environment_says(shell, ttl):
    """Else asking who is here would take over the name of whoever is."""
    with headcount.connect(shell.url, member_id="a", ttl=float(ttl)) as a:
        a.join_group("web", create=True)
        before = shell.json("members", "web")["members"][0]["incarnation"]
        for arguments in (["members", "web"], ["groups"], ["mark", "web", "b", "--disabled", "x"]):
            shell.run(*arguments, HEADCOUNT_MEMBER_ID="a", HEADCOUNT_TTL="0.01")
        after = shell.json("members", "web")["members"][0]
    assert (after["incarnation"], after["status"]) == (before, "up")


def test_a_reader_leaves_nothing_behind(shell):
    """It opens no session, which others would have to wait out."""
    shell.run("create", "web")
    shell.run("members", "web")
    shell.run("groups")
    with sqlite3.connect(f"{shell.folder}/headcount.db") as con:
        assert con.execute("SELECT count(*) FROM sessions").fetchone() == (0,)


def test_a_clock_that_stands_still_is_said(shell, ttl, eventually):
    """With nobody left to tick, the dead stay up for ever; a list that hides this is a lie."""
    member = shell.start("join", "web", "--as", "a", "--ttl", ttl)
    member.says("joined")
    eventually(lambda: shell.json("members", "web")["degraded"] is None)
    member.kill()
    time.sleep(0.5)
    began = time.monotonic()
    answer = shell.json("members", "web")
    assert answer["members"][0]["status"] == "up"
    assert "nobody ticks" in answer["degraded"]
    assert time.monotonic() - began < 1.5
    assert "degraded: nobody ticks" in shell.run("members", "web").stderr


def test_marks_are_set_and_taken_back_one_by_one(shell):
    """What is not named stays as it is."""
    shell.run("create", "web")
    assert shell.json("mark", "web", "a", "--disabled", "disk", "--forced-down")["forced_down"]
    assert shell.json("mark", "web", "a", "--no-forced-down") == {
        "group": "web", "member_id": "a", "disabled": "disk",
        "forced_down": False, "expelled": False, "known": False,
    }  # fmt: skip
    assert shell.json("mark", "web", "a", "--enabled", "--expelled")["disabled"] is None
    assert "no marks" in shell.run("mark", "web", "a", "--no-expelled").stdout


def test_a_mark_for_a_mistyped_name_says_so(shell, ttl):
    """It is allowed, for it may be meant for somebody who is still to come."""
    with headcount.connect(shell.url, member_id="worker-1", ttl=float(ttl)) as c:
        c.join_group("web", create=True)
        answer = shell.run("mark", "web", "wroker-1", "--disabled", "disk")
    assert "did you mean 'worker-1'?" in answer.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--disabled", "x", "--enabled"], ["--disabled", " "]], ids=["nothing", "both", "empty"]
)
def test_a_mark_that_says_nothing_clear_is_refused(shell, arguments):
    shell.run("create", "web")
    shell.run("mark", "web", "a", *arguments, code=2)


def test_forgetting(shell, ttl):
    with headcount.connect(shell.url, member_id="a", ttl=float(ttl)) as c:
        c.join_group("web", create=True)
    assert shell.json("forget", "web", "a")["forgotten"]
    assert shell.json("members", "web")["members"] == []
    assert shell.run("forget", "web", "a", "--json", code=3).stderr.startswith('{"error": "MemberNotFound"')


def test_a_member_whose_row_cannot_be_read_is_not_said_never_to_have_been(shell, ttl):
    """The row is named wherever it is met, and entering again, as is advised, gets rid of it."""
    with headcount.connect(shell.url, member_id="c1", ttl=float(ttl)) as c:
        c.join_group("web", create=True)
    with closing(sqlite3.connect(shell.folder / "headcount.db")) as con, con:
        con.execute("UPDATE rows SET ready = 7 WHERE key = 'c1'")
    answer = shell.run("members", "web")
    assert answer.stderr.count("the row 'c1' of group 'web' cannot be read") == 1
    answer = shell.run("forget", "web", "c1", code=1)
    assert "row cannot be read" in answer.stderr.splitlines()[-1]
    assert "enters again" in answer.stderr.splitlines()[-1]
    assert "knows no member" not in answer.stderr
    with headcount.connect(shell.url, member_id="c1", ttl=float(ttl)) as c:
        c.join_group("web")
    assert "cannot be read" not in shell.run("forget", "web", "c1").output


def test_who_asks_the_memory_of_this_process_is_told_that_it_is_empty(shell):
    for arguments in (["groups"], ["store", "init"]):
        answer = shell.run(*arguments, "--url", "memory://")
        assert answer.stderr.count("is the memory of this process alone") == 1
        assert '{"warning": "' in shell.run(*arguments, "--url", "memory://", "--json").stderr


def test_a_damaged_file_is_not_tried_again(shell):
    shell.run("create", "web")
    path = shell.folder / "headcount.db"
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    answer = shell.run("groups", code=5)
    assert "is damaged" in answer.stderr and "tried for" not in answer.stderr


def test_a_group_with_members_is_not_deleted(shell, ttl):
    with headcount.connect(shell.url, member_id="a", ttl=float(ttl)) as c:
        c.join_group("web", create=True)
        answer = shell.run("delete", "web", code=1)
    assert "still has 1 member: a." in answer.stderr and "--expelled" in answer.stderr


# ── mistakes ──


def test_an_unknown_group_is_answered_with_the_nearest(shell):
    shell.run("create", "workers")
    for arguments in (["members", "wokers"], ["watch", "wokers"], ["mark", "wokers", "a", "--expelled"]):
        answer = shell.run(*arguments, code=3)
        assert "did you mean 'workers'?" in answer.stderr, arguments


def test_an_unknown_command_is_answered_with_the_nearest(shell):
    assert "Did you mean 'members'?" in shell.run("member", "web", code=2).stderr
    assert "There are: groups" in shell.run("xyzzy", code=2).stderr


@pytest.mark.parametrize(
    ("url", "code", "text"),
    [
        ("foo://x", 2, "'foo'"),
        ("sqlite", 2, "scheme://"),
        ("sqlite:///no/such/folder/x.db", 2, "does not exist"),
        ("sqlite:///x.db?frob=1", 2, "'frob'"),
    ],
)
def test_an_unusable_url_is_explained(shell, url, code, text):
    answer = shell.run("--url", url, "--timeout", "0.3", "groups", code=code)
    assert text in answer.stderr and "Traceback" not in answer.output


def test_errors_are_json_where_answers_are(shell):
    """One object on stderr, also for what click finds wrong, and nothing on stdout."""
    for arguments in (["members", "x"], ["--frob"], ["members"], ["frob"]):
        result = CliRunner(env={"HEADCOUNT_URL": shell.url}).invoke(cli, [*arguments, "--json"])
        error = json.loads(result.stderr)
        assert set(error) == {"error", "message"} and result.stdout == "" and result.exit_code in (2, 3)


def test_a_file_that_is_not_ours_is_refused(shell, tmp_path):
    with sqlite3.connect(tmp_path / "other.db") as con:
        con.execute("CREATE TABLE t (x)")
    shell.run("--url", f"sqlite:///{tmp_path}/other.db", "groups", code=5)


def test_no_command_shows_the_help(shell):
    answer = shell.run(code=2)
    assert "Exit codes" in answer.output and "demo" in answer.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(shell, name):
    assert "Usage: " in shell.run(name, "--help").output


# ── the store ──


def test_init_prints_the_schema_and_touches_nothing(shell, tmp_path):
    answer = shell.run("--url", f"sqlite:///{tmp_path}/new.db", "store", "init", "--print")
    assert "CREATE TABLE" in answer.stdout
    assert not (tmp_path / "new.db").exists()
    shell.run("--url", "memory://", "store", "init", "--print", code=5)


def test_the_interval_is_decided_once(shell):
    """Two intervals in one store would be two opinions of who is late."""
    assert "ticks every 0.1 s" in shell.run("store", "init").stdout
    assert "every 0.1 s, not every 2 s" in shell.run("store", "init", "--interval", "2", code=2).stderr


def test_a_new_epoch_and_a_released_guard(shell):
    first = shell.json("store", "new-epoch")["epoch"]
    assert shell.json("store", "new-epoch")["epoch"] > first
    assert shell.json("store", "release-guard")["released"]


# ── without a URL, without a terminal ──


def test_without_a_url_it_is_a_file_of_the_user_and_said(shell, tmp_path):
    environment = {k: v for k, v in shell.environment.items() if k != "HEADCOUNT_URL"}

    def type_(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "headcount", *arguments],
            env={**environment, **more}, capture_output=True, text=True, check=True,
        )  # fmt: skip

    assert (
        type_("create", "web")
        .stderr.strip()
        .endswith(f"sqlite:///{tmp_path}/.local/state/headcount/headcount.db")
    )
    assert type_("groups").stdout == "web\n"
    assert type_("groups", "--json").stderr == ""
    type_("create", "other", XDG_STATE_HOME=str(tmp_path / "state"))
    assert (tmp_path / "state" / "headcount" / "headcount.db").exists()


def test_a_default_that_cannot_be_made_is_explained(shell, tmp_path):
    (tmp_path / "file").touch()
    answer = shell.run("groups", HEADCOUNT_URL="", XDG_STATE_HOME=str(tmp_path / "file"), code=2)
    assert "Name one with --url" in answer.stderr


def on_a_terminal(shell, *arguments: str, columns: int = 80, **environment: str) -> str:
    """The same, with a terminal for stdout."""
    import fcntl
    import struct
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "headcount", *arguments],
        env={**shell.environment, "TERM": "xterm", **environment}, stdout=slave, stderr=slave, stdin=slave,
    ) as process:  # fmt: skip
        os.close(slave)
        text = b""
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:
                break
            if not chunk:
                break
            text += chunk
        os.close(master)
        process.wait(10)
    return text.decode()


def test_colour_is_for_terminals_that_want_it(shell):
    shell.run("create", "web")
    shell.run("mark", "web", "a", "--disabled", "disk")
    assert "\x1b[" in on_a_terminal(shell, "members", "web")
    assert "\x1b[" not in on_a_terminal(shell, "members", "web", NO_COLOR="1")
    assert "\x1b[" not in on_a_terminal(shell, "members", "web", "--json")


def test_a_narrow_terminal_gets_fewer_columns_but_whole_ids(shell):
    shell.run("create", "web")
    name = "compute-0123456789.example.org"
    shell.run("mark", "web", name, "--disabled", "a reason that is much too long for so narrow a terminal")
    lines = on_a_terminal(shell, "members", "web", columns=45, NO_COLOR="1").split("\r\n")
    assert all(len(line) <= 45 for line in lines), lines
    assert any(name in line for line in lines)


# ── the start ──


def test_the_start_imports_no_more_than_it_needs():
    """The command line is typed by people and called in loops: rich alone costs a third of its start."""
    code = "import sys, headcount.cli; print([m for m in ('rich', 'asyncio', 'sqlite3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version(shell):
    assert shell.run("--version").stdout == f"headcount {headcount.__version__}\n"


def test_python_dash_m_is_the_same(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "headcount", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"headcount {headcount.__version__}\n"
