"""Ask the questions, print a table, and keep the numbers.

python -m bench                       all of it: in memory, on SQLite, and on the servers that are installed
python -m bench --only beat           one question; may be given several times
python -m bench --store postgresql    on this store alone; may be given several times
python -m bench --scale 0.1           smaller sizes; goals are for full size
python -m bench --only endurance --minutes 10
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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib import import_module
from itertools import chain
from pathlib import Path

from bench.harness import EMBEDDED, Line, Run
from bench.servers import SERVERS, Host, lacking, started

QUESTIONS = ("view", "commit", "beat", "notice", "crowd", "failover", "death", "idle", "memory")
"""Of the stores that are in this process, or in a file."""

OF_DATABASES = ("commit", "beat", "nova", "stall", "notice", "crowd", "failover", "death", "idle")
OF_COORDINATORS = ("commit", "beat", "tooz", "told", "stall", "notice", "crowd", "failover", "death", "idle")
"""Of servers that know sessions themselves, and beside whom they are measured."""

OF_SERVERS: dict[str, tuple[str, ...]] = {
    "postgresql": OF_DATABASES,
    "mysql": OF_DATABASES,
    "zookeeper": OF_COORDINATORS,
    "etcd": OF_COORDINATORS,
}
"""Of the servers: views are the same on all stores, and what a server is asked is a question more."""

AT_LENGTH = {"endurance": ("postgresql",)}
"""Only when they are asked for; and of which stores."""

LATEST = Path(__file__).parent / "results" / "latest.json"


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    began = time.monotonic()
    answers: dict[str, list[Line]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headcount-bench-"))
        hosts = {host.store: host for host in _hosts(stack, options)}
        machine = _machine(hosts.values())
        for stores, questions in _tables(options, hosts):
            lines: list[Line] = []
            for name in questions:
                print(f"… {name} ({', '.join(stores)})", end="", file=sys.stderr, flush=True)
                asked = time.monotonic()
                run = Run(
                    Path(folder),
                    scale=options.scale,
                    repeat=options.repeat,
                    stores=tuple(s for s in stores if s in AT_LENGTH.get(name, stores)),
                    hosts=hosts,
                    minutes=options.minutes,
                )
                found = list(import_module(f"bench.{name}").measure(run))
                answers.setdefault(name, []).extend(found)
                lines += found
                print(f" {time.monotonic() - asked:.0f} s", file=sys.stderr)
            print(table(lines, stores), end="\n\n")
    print(
        f"limit: the raw client's cheapest equivalent, measured in turns with ours, or what the line says;\n"
        f"ratio: how many times that we take. Goals are for full size. {machine}; "
        f"{time.monotonic() - began:.0f} s, scale {options.scale:g}."
    )
    _keep(answers, options, machine)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and print a table.")
    known = dict.fromkeys((*QUESTIONS, *chain(*OF_SERVERS.values()), *AT_LENGTH))
    parser.add_argument("--only", action="append", choices=known, help="this question; may be repeated")
    parser.add_argument(
        "--store", action="append", choices=(*EMBEDDED, *SERVERS), help="on this store; may be repeated"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full sizes (1)")
    parser.add_argument("--repeat", type=int, default=5, help="turns for each number (5)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long endurance takes (10)")
    parser.add_argument("--json", type=Path, default=LATEST, help="where to keep the numbers")
    options = parser.parse_args(arguments)
    if not 0 < options.scale <= 10 or options.repeat < 1 or options.minutes <= 0:
        parser.error("--scale goes from above 0 to 10, --repeat from 1 on, --minutes from above 0")
    return options


def _hosts(stack: ExitStack, options: argparse.Namespace) -> Iterator[Host]:
    """The servers that are asked for, and are installed; of the others one line says why not."""
    for store in SERVERS:
        of_it = {*OF_SERVERS[store], *(name for name, stores in AT_LENGTH.items() if store in stores)}
        wanted = options.only or OF_SERVERS[store]
        if store not in (options.store or SERVERS) or not of_it.intersection(wanted):
            continue
        why = lacking(store)
        if why is not None:
            print(f"{store} is left out: {why}", file=sys.stderr)
            continue
        host = started(store)
        stack.callback(host.discard)
        yield host


def _tables(
    options: argparse.Namespace, hosts: dict[str, Host]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Which stores are asked which questions."""
    embedded = tuple(store for store in EMBEDDED if store in (options.store or EMBEDDED))
    tables: list[tuple[tuple[str, ...], tuple[str, ...]]] = [(embedded, QUESTIONS)]
    for questions in dict.fromkeys(OF_SERVERS.values()):
        tables.append((tuple(store for store in hosts if OF_SERVERS[store] == questions), questions))
    for stores, questions in tables:
        asked = [name for name in (*questions, *AT_LENGTH) if name in (options.only or questions)]
        asked = [name for name in asked if set(stores).intersection(AT_LENGTH.get(name, stores))]
        if asked:
            yield stores, tuple(asked)


def table(lines: Iterable[Line], stores: Sequence[str] = EMBEDDED) -> str:
    heads: tuple[str, ...] = ("work", *stores, "limit", "ratio", "goal", "")
    rows = [heads, *(_cells(line, stores) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]

    def spelt(row: tuple[str, ...]) -> str:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, len(heads)))]
        return "  ".join(cells).rstrip()

    return "\n".join([spelt(heads), "  ".join("─" * width for width in widths), *map(spelt, rows[1:])])


def _cells(line: Line, stores: Sequence[str]) -> tuple[str, ...]:
    ours = (line.figures[store].ours if store in line.figures else None for store in stores)
    met = line.met()
    return (
        f"{line.work} ({line.unit})" if line.unit else line.work,
        *map(number, ours),
        _all(line, "limit", stores),
        _all(line, "ratio", stores),
        _goal(line, stores),
        "" if met is None else "met" if met else "missed",
    )


def _all(line: Line, name: str, stores: Sequence[str]) -> str:
    values = {store: getattr(figure, name) for store, figure in line.figures.items()}
    if all(value is None for value in values.values()):
        return ""
    return " / ".join(number(values.get(store)) for store in stores if store in values)


def _goal(line: Line, stores: Sequence[str]) -> str:
    goals = line.goals()
    if not goals:
        return ""
    sign = "≥" if line.at_least else "≤"
    if len(set(goals.values())) == 1 and goals.keys() == line.figures.keys():
        told = number(next(iter(goals.values())))
    else:
        told = " / ".join(number(goals.get(store)) for store in stores if store in line.figures)
    return f"{sign} {told}{' times' if line.of_ratio else ''}"


def number(value: float | None) -> str:
    """Three digits are all that a measurement is good for."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _machine(hosts: Iterable[Host]) -> str:
    told = [f"{os.cpu_count()} cores", f"Python {platform.python_version()}"]
    return ", ".join([*told, f"SQLite {sqlite3.sqlite_version}", *(host.program for host in hosts)])


def _keep(answers: dict[str, list[Line]], options: argparse.Namespace, machine: str) -> None:
    told = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine,
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
