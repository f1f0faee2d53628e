"""What the README shows, typed as it stands there, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```console\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line[2:] for block in SHELL for line in block.splitlines() if line.startswith("$ ")]

LEFT_OUT = {
    "make test": "it is what runs this test",
    "make demo": "test_demo runs the same demo",
    "pip install .": "test_what_is_installed_works_alone installs it into an environment of its own",
}


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADCOUNT_")}
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": binaries, "HOME": str(folder)}


def test_the_readme_is_short_and_has_something_to_run():
    """A page that nobody finishes teaches nobody."""
    assert len(README.splitlines()) <= 150
    assert PYTHON
    assert set(LEFT_OUT) <= set(COMMANDS)


@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_every_python_block_runs(block, tmp_path):
    """Copied into a file and run, each does what it says, without an error."""
    (tmp_path / "program.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_commands_run_in_the_order_of_the_page(tmp_path):
    """One shell, from the top of the page to its end."""
    script = "\n".join(["set -eu", *(c for c in COMMANDS if c not in LEFT_OUT)])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert "worker-2" in done.stdout
    assert "one of us does this" in done.stdout
    assert "workers" in done.stdout


def test_what_is_installed_works_alone(tmp_path):
    """An installation from the checkout has all that the library needs, the SQL among it."""
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")

    def run(*command: str) -> None:
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=110)

    run(uv, "venv", "--quiet", str(tmp_path / "env"))
    python = tmp_path / "env" / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", str(python), ".")
    (tmp_path / "program.py").write_text(PYTHON[0])
    done = subprocess.run(
        [str(python), "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
