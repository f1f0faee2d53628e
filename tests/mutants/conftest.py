"""At the end of the run: one line for each mutant, and what caught it."""

from __future__ import annotations

from typing import Any

import pytest


def properties(report: pytest.TestReport) -> list[tuple[str, Any]]:
    return list(report.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)
    ]
    found: set[tuple[str, str, str, str, int]] = {
        tuple(value) for report in reports for name, value in properties(report) if name == "mutant"
    }
    if not found:
        return
    terminalreporter.section("what caught each mutant")
    for topic, mutant, by, where, tries in sorted(found):
        times = "first try" if tries == 1 else f"try {tries}"
        terminalreporter.write_line(f"{topic:12} {mutant:50} → {by} ({where}, {times})")
    terminalreporter.write_line(f"{len(found)} mutants, each caught")
