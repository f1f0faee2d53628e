"""SQL is kept in files: numbered migrations, and statements that have names.

scripts/DIALECT/PART/0001_what.sql     run once, in order, each in a transaction of its own
scripts/DIALECT/PART.sql               `-- name: what_it_does` begins a statement
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_NUMBERED = re.compile(r"(\d{4})_(\w+)\.sql")
_COMMENT = re.compile(r"--[^\n]*")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str


@cache
def statements(part: str) -> Mapping[str, str]:
    """The named statements of, say, `sqlite/register`."""
    text = files(__package__).joinpath("scripts", f"{part}.sql").read_text(encoding="utf-8")
    _, *rest = _NAME.split(text)
    names, bodies = rest[::2], rest[1::2]
    found = {name: _plain(body) for name, body in zip(names, bodies, strict=True)}
    if len(found) != len(names):
        raise ValueError(f"a name stands twice in {part}.sql")
    return found


@cache
def migrations(part: str) -> tuple[Migration, ...]:
    """What makes the schema of, say, `sqlite/register`, in order."""
    found = []
    for file in files(__package__).joinpath("scripts", *part.split("/")).iterdir():
        numbered = _NUMBERED.fullmatch(file.name)
        if numbered:
            found.append(Migration(int(numbered[1]), numbered[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found))


def _plain(body: str) -> str:
    """One line without comments: a driver hashes the text of a statement each time it is run."""
    return " ".join(_COMMENT.sub("", body).split()).rstrip("; ")
