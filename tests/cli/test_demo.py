"""The demo, as a new user runs it; and that it cleans up after itself, whatever happens."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest


def workers() -> set[int]:
    """All processes that are workers of a demo."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"lead" in words and b"demo" in words:
                found.add(int(entry.name))
    return found


@pytest.fixture
def demo(shell, tmp_path):
    def demo(*more: str):
        return shell.start("demo", *more, TMPDIR=str(tmp_path))

    before = workers()
    yield demo
    assert workers() <= before, "the demo has left processes behind"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_all_of_it_happens_within_its_bound(demo, tmp_path):
    running = demo("--keep")
    assert running.ends(within=120) == 0, running.said
    text = running.stdout
    assert "All of it happened" in text and "NOT KEPT" not in text and "\x1b" not in text
    assert len(re.findall(r"  ok\b", text)) == 7
    (folder,) = tmp_path.glob("headcount-demo-*")
    assert str(folder) in text and (folder / "headcount.db").exists()


def test_ctrl_c_leaves_nothing_behind(demo, tmp_path):
    running = demo()
    running.says("joined", within=20)
    running.send(signal.SIGINT)
    assert running.ends(within=10) == 130
    assert not list(tmp_path.glob("headcount-demo-*"))
    assert "Traceback" not in running.stderr


def test_even_killed_it_leaves_no_process_behind(demo, eventually):
    before = workers()
    running = demo()
    running.says("All are here", within=20)
    assert len(workers() - before) == 5
    running.process.kill()
    eventually(lambda: workers() <= before, 5)


def test_it_makes_a_store_of_its_own(shell):
    """Processes are killed here: nobody's real group is the place for that."""
    shell.run("demo", "--url", shell.url, code=2)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_for_a_program_it_is_one_document(demo):
    running = demo("--json")
    assert running.ends(within=120) == 0, running.said
    answer = json.loads(running.stdout)
    assert answer["ok"] and all(set(row) >= {"what", "seconds", "bound", "ok"} for row in answer["results"])
