"""Ask the questions, print a table, and keep the numbers.

python -m bench                     all of it
python -m bench --only beat         one question; may be given several times
python -m bench --scale 0.1         smaller sizes; goals are for full size
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from bench.harness import Line, Run

QUESTIONS = ("view", "commit", "beat", "notice", "crowd", "failover", "death", "idle", "memory")

LATEST = Path(__file__).parent / "results" / "latest.json"

HEADS = ("work", "memory", "sqlite", "limit", "ratio", "goal", "")


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    began = time.monotonic()
    answers: dict[str, list[Line]] = {}
    with tempfile.TemporaryDirectory(prefix="headcount-bench-") as folder:
        for name in options.only or QUESTIONS:
            print(f"… {name}", end="", file=sys.stderr, flush=True)
            asked = time.monotonic()
            run = Run(Path(folder), scale=options.scale, repeat=options.repeat)
            answers[name] = list(import_module(f"bench.{name}").measure(run))
            print(f" {time.monotonic() - asked:.0f} s", file=sys.stderr)
    print(table(line for lines in answers.values() for line in lines))
    print(
        f"\nlimit: the raw client's cheapest equivalent, measured in turns with ours (memory / sqlite);\n"
        f"ratio: how many times that we take. Goals are for full size. {_machine()}; "
        f"{time.monotonic() - began:.0f} s, scale {options.scale:g}."
    )
    _keep(answers, options)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and print a table.")
    parser.add_argument("--only", action="append", choices=QUESTIONS, help="this question; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full sizes (1)")
    parser.add_argument("--repeat", type=int, default=5, help="turns for each number (5)")
    parser.add_argument("--json", type=Path, default=LATEST, help="where to keep the numbers")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 10 or options.repeat < 1:
        parser.error("--scale goes from above 0 to 10, --repeat from 1 on")
    return options


def table(lines: Iterable[Line]) -> str:
    rows = [HEADS, *(_cells(line) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]

    def spelt(row: tuple[str, ...]) -> str:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, len(HEADS)))]
        return "  ".join(cells).rstrip()

    return "\n".join([spelt(HEADS), "  ".join("─" * width for width in widths), *map(spelt, rows[1:])])


def _cells(line: Line) -> tuple[str, ...]:
    memory, sqlite = line.figures.get("memory"), line.figures.get("sqlite")
    goal = "" if line.goal is None else f"{'≥' if line.at_least else '≤'} {number(line.goal)}"
    met = line.met()
    return (
        f"{line.work} ({line.unit})",
        number(memory.ours if memory else None),
        number(sqlite.ours if sqlite else None),
        _both(line, "limit"),
        _both(line, "ratio"),
        goal,
        "" if met is None else "met" if met else "missed",
    )


def _both(line: Line, name: str) -> str:
    values = {store: getattr(figure, name) for store, figure in line.figures.items()}
    if all(value is None for value in values.values()):
        return ""
    return " / ".join(number(values.get(store)) for store in ("memory", "sqlite") if store in values)


def number(value: float | None) -> str:
    """Three digits are all that a measurement is good for."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _machine() -> str:
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"


def _keep(answers: dict[str, list[Line]], options: argparse.Namespace) -> None:
    told = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        "scale": options.scale,
        "repeat": options.repeat,
        "questions": {
            name: [{**asdict(line), "met": line.met()} for line in lines] for name, lines in answers.items()
        },
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"Kept in {os.path.relpath(options.json)}.")


if __name__ == "__main__":
    main()
