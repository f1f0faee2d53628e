"""Runs the whole test suite, in phases, and ends with the ten slowest tests and one count.

The phases exist for the sake of time. The tests of real processes measure seconds on a real
clock, and a simulation beside them keeps every core busy: then a beat comes late because the
machine is full, and a test fails that found nothing. So each phase has the machine to itself. But nearly
all that the tests of processes do is wait, and so two files of them go at a time. Not two tests: what the
stories of one file share, a server or fifty processes, is made once.

    run_tests.py                 all phases
    run_tests.py simulation      only the phases named

A folder under tests/ that belongs to no phase is an error, for its tests would never run. A
phase whose folder is missing is named; with HEADCOUNT_TEST_REQUIRE=all it is an error too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"

# A test is stopped by its own timeout; this one is for a pytest that no longer listens.
PHASE_LIMIT_S = 3600.0

NOTHING_COLLECTED = 5  # pytest's exit code


@dataclass(frozen=True)
class Phase:
    name: str
    folders: tuple[str, ...]
    options: tuple[str, ...] = ()


PHASES = (
    Phase("fast", ("unit", "cli")),
    Phase("stores", ("conformance",), ("-n", "2")),
    Phase("simulation", ("simulation",), ("-n", "2")),
    Phase("processes", ("processes",), ("-n", "2", "--dist", "loadfile")),
    Phase("mutants", ("mutants",), ("-n", "2")),
)


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    durations: list[tuple[float, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def complain(self, text: str) -> None:
        """Counts something that went wrong outside any test as one failure."""
        self.failed += 1
        self.complaints.append(text)


def main(arguments: list[str]) -> int:
    unknown = set(arguments) - {phase.name for phase in PHASES}
    if unknown:
        print(f"No such phase: {', '.join(sorted(unknown))}. There are: {', '.join(p.name for p in PHASES)}.")
        return 2
    tally = Tally()
    for folder in folders_without_phase():
        tally.complain(f"tests/{folder} belongs to no phase of tools/run_tests.py, so it would never run.")
    for phase in PHASES:
        if not arguments or phase.name in arguments:
            run(phase, tally)
    report(tally)
    return 1 if tally.failed or not tally.passed else 0


def folders_without_phase() -> list[str]:
    known = {folder for phase in PHASES for folder in phase.folders}
    with_tests = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    return sorted(with_tests - known)


def run(phase: Phase, tally: Tally) -> None:
    for folder in phase.folders:
        if not (TESTS / folder).is_dir():
            note_missing(folder, tally)
    present = [f"tests/{folder}" for folder in phase.folders if (TESTS / folder).is_dir()]
    if not present:
        return
    print(f"--- {phase.name}: {' '.join(present)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch, "results.xml")
        command = [sys.executable, "-m", "pytest", "--quiet", f"--junit-xml={results}"]
        command += [*phase.options, *present]
        started = time.monotonic()
        try:
            code = subprocess.run(command, cwd=ROOT, timeout=PHASE_LIMIT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            tally.complain(f"The phase {phase.name} was stopped after {PHASE_LIMIT_S:.0f} s.")
            return
        print(f"    {time.monotonic() - started:.1f} s\n", flush=True)
        failed_before = tally.failed
        count(results, tally)
    # pytest can fail without a test that failed: a wrong option, a crash, nothing collected.
    if code == NOTHING_COLLECTED:
        tally.complain(f"The phase {phase.name} found no tests.")
    elif code != 0 and tally.failed == failed_before:
        tally.complain(
            f"In the phase {phase.name} pytest ended with code {code}, but named no test that failed."
        )


def note_missing(folder: str, tally: Tally) -> None:
    text = f"There is no folder tests/{folder}."
    if os.environ.get("HEADCOUNT_TEST_REQUIRE") == "all":
        tally.complain(text)
    else:
        tally.complaints.append(text)


def count(results: Path, tally: Tally) -> None:
    for name, seconds, outcome in outcomes(results):
        tally.durations.append((seconds, name))
        if outcome in ("failure", "error"):
            tally.failed += 1
        elif outcome == "skipped":
            tally.skipped += 1
        else:
            tally.passed += 1


def outcomes(results: Path) -> Iterator[tuple[str, float, str]]:
    """Yields the name, the seconds and the outcome of each test in a JUnit file."""
    if not results.exists():
        return
    for case in ET.parse(results).iter("testcase"):
        marks = {child.tag for child in case} & {"failure", "error", "skipped"}
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        yield name, float(case.get("time", 0)), min(marks, default="passed")


def report(tally: Tally) -> None:
    print("The ten slowest:")
    for seconds, name in sorted(tally.durations, reverse=True)[:10]:
        print(f"  {seconds:7.2f} s  {name}")
    print()
    for complaint in tally.complaints:
        print(complaint)
    if tally.skipped:
        print(f"{tally.skipped} skipped")
    print(f"{tally.passed} passed, {tally.failed} failed")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
