"""What must not be in the repository: a path that exists on one machine only, and work left half done."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PRIVATE_PATH = re.compile(r"(?<![\w.-])/(?:root|work|home/[\w.-]+|Users/[\w.-]+)/")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b")


def tracked(*patterns: str) -> list[Path]:
    # A checkout may belong to another user than the one who runs the tests; reading is safe.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def finds(pattern: re.Pattern[str], files: list[Path]) -> Iterator[str]:
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for number, line in enumerate(text.splitlines(), start=1):
            if pattern.search(line):
                yield f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"


def test_no_file_names_a_path_of_one_machine() -> None:
    """What is written here has to be true on the reader's machine too."""
    assert list(finds(PRIVATE_PATH, tracked())) == []


def test_no_source_is_left_half_done() -> None:
    """A reader of the source meets no promise to finish it later."""
    assert list(finds(UNFINISHED, tracked("src"))) == []


@pytest.mark.parametrize(
    ("pattern", "planted"),
    [
        (PRIVATE_PATH, "see " + "/".join(["", "home", "ann", "notes.txt"])),
        (PRIVATE_PATH, 'path = "' + "/".join(["", "root", ".cache"]) + '"'),
        (UNFINISHED, "# TO" + "DO: the other half"),
    ],
)
def test_what_is_planted_is_found(pattern: re.Pattern[str], planted: str) -> None:
    """The patterns can fail: each of these lines is found."""
    assert pattern.search(planted)
