"""The decisions are pure: what they answer depends on what they are given, and on nothing else.

Pure here are `core/`, `register.py` and `model.py`. They read no clock, toss no coin, start no
thread and do no I/O, and they keep nothing in a module from one call to the next. That is why
the simulation may run the very code that runs in production, and why a seed repeats a run.
import-linter forbids the same imports along any path; this test also sees calls and state.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "headcount"
PURE = ("core", "register.py", "model.py")

FORBIDDEN_MODULES = frozenset(
    "_thread asyncio concurrent ctypes glob importlib io locale logging multiprocessing os pathlib platform"
    " queue random sched secrets select selectors shutil signal socket sqlite3 subprocess sys tempfile"
    " threading time uuid".split()
)
FORBIDDEN_CALLS = frozenset({"__import__", "eval", "exec", "input", "open", "print"})
# hash() of a string differs from process to process, so two of them would not decide alike.
FORBIDDEN_CALLS |= {"hash"}
CLOCK_METHODS = frozenset({"now", "utcnow", "today"})
CONTAINERS = frozenset(
    {"Counter", "OrderedDict", "bytearray", "count", "defaultdict", "deque", "dict", "list", "set"}
)


def impurities(source: str) -> Iterator[str]:
    """Yields a line of text for each way in which `source` depends on more than its arguments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for fault in faults_of(node):
            yield f"line {getattr(node, 'lineno', 0)}: {fault}"
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and is_empty_container(statement.value):
            yield f"line {statement.lineno}: an empty container in a module is there to be filled"


def faults_of(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"imports {n.name}" for n in names if n.name.split(".")[0] in FORBIDDEN_MODULES)
        case ast.ImportFrom(module=str(module), level=0) if module.split(".")[0] in FORBIDDEN_MODULES:
            yield f"imports from {module}"
        case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
            yield f"calls {name}()"
        case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=name) if name in CLOCK_METHODS:
            yield f"reads the clock by {name}()"
        case ast.Attribute(value=ast.Attribute(attr="datetime" | "date"), attr=name) if name in CLOCK_METHODS:
            yield f"reads the clock by {name}()"
        case ast.Global(names=names):
            yield f"keeps {', '.join(names)} in the module"


def is_empty_container(value: ast.expr | None) -> bool:
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=arguments):
            return name in CONTAINERS and (not arguments or name in {"count", "defaultdict"})
    return False


def pure_files() -> list[Path]:
    found: list[Path] = []
    for name in PURE:
        path = PACKAGE / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


@pytest.mark.parametrize("file", pure_files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_decisions_depend_on_nothing_but_their_arguments(file: Path) -> None:
    """No pure file imports, calls or keeps anything that could answer differently tomorrow."""
    assert list(impurities(file.read_text())) == []


def test_all_pure_files_are_looked_at() -> None:
    """A renamed folder would otherwise make the test above pass by looking at nothing."""
    for name in PURE:
        assert (PACKAGE / name).exists(), f"{name} is gone: name its successor in PURE"
    assert any(file.parent.name == "core" for file in pure_files())


@pytest.mark.parametrize(
    "planted",
    [
        "import time",
        "import os.path",
        "from threading import Lock",
        "def f():\n    from time import monotonic",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime\nx = datetime.datetime.utcnow()",
        "from datetime import date\nread = date.today",
        "open('x')",
        "print('x')",
        "owner = hash('shard')",
        "n = 0\ndef f():\n    global n\n    n += 1",
        "seen = {}",
        "seen: set[str] = set()",
        "import itertools\nids = itertools.count(1)",
    ],
)
def test_a_planted_impurity_is_found(planted: str) -> None:
    """The checker can fail: each of these, alone in a file, is found."""
    assert list(impurities(planted))


def test_honest_code_is_left_alone() -> None:
    """Time as a value, a constant table and a container inside a function are no impurities."""
    assert not list(
        impurities(
            "from datetime import datetime, timedelta\n"
            "RANK = {'up': 0, 'down': 1}\n"
            "def later(now: datetime) -> list[datetime]:\n"
            "    found = []\n"
            "    found.append(now + timedelta(seconds=1))\n"
            "    return found\n"
        )
    )
