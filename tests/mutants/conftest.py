"""At the end of the run: one line for each mutant, and what caught it."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)
    ]
    lines = [value for report in reports for name, value in report.user_properties if name == "mutant"]
    if not lines:
        return
    terminalreporter.section("what caught each mutant")
    for topic, mutant, by, where, tries in sorted(map(tuple, lines)):
        times = "first try" if tries == 1 else f"try {tries}"
        terminalreporter.write_line(f"{topic:12} {mutant:50} → {by} ({where}, {times})")
    terminalreporter.write_line(f"{len(lines)} mutants, each caught")
