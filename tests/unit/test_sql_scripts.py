"""The statements of the SQL dialects, as texts."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from headcount.stores.sql.mysql_connection import literal
from headcount.stores.sql.mysql_line import written
from headcount.stores.sql.statements import migrations, statements

SHARED = "clock commit loading recording revisions server server_sweep".split()
"""The modules that speak to every server."""

NAMED = re.compile(r"(?:\.ask|\.all|\.later|\.run|\.each|self\._found)\((?:\w+, )?\"(\w+)\"")


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_the_servers_have_the_statements_that_are_asked_of_both(dialect: str) -> None:
    asked: set[str] = set()
    for module in SHARED:
        source = files("headcount.stores.sql").joinpath(f"{module}.py").read_text(encoding="utf-8")
        asked.update(NAMED.findall(source))
    assert len(asked) > 50
    assert asked - statements(f"{dialect}/store").keys() == set()


def test_mysql_scripts_can_be_run_again() -> None:
    """DDL commits by itself there: half a script may have been run."""
    for migration in migrations("mysql/schema"):
        made = re.findall(r"^(?:CREATE|ALTER|DROP)\b.*$", migration.sql, re.MULTILINE)
        assert made
        assert [one for one in made if "IF NOT EXISTS" not in one and "IF EXISTS" not in one] == []


def test_mysql_deletes_lock_nothing_else() -> None:
    """A DELETE with a subquery locks what that reads."""
    for name, text in statements("mysql/store").items():
        for statement in text.split(";"):
            assert not re.search(r"DELETE.*SELECT", statement), name


@pytest.mark.parametrize(
    ("value", "sql"),
    [
        (None, "NULL"),
        (True, "1"),
        (-7, "-7"),
        (0.1, "0.1e0"),
        (1e300, "1e+300"),
        ("o'hara \\ %s", r"'o\'hara \\ %s'"),
        (b"\x00\xff'", "x'00ff27'"),
        (b"", "x''"),
        (["a", "b'"], r"('a','b\'')"),
        ([], "(x'ff')"),
    ],
)
def test_mysql_literals(value: object, sql: str) -> None:
    assert literal(value) == sql


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_mysql_cannot_hold(value: object) -> None:
    with pytest.raises(ValueError, match="cannot be stored"):
        literal(value)


def test_mysql_values_go_in_by_order_number_or_name() -> None:
    assert written("a = %s AND b IN %s", (1, ["%s"])) == "a = 1 AND b IN ('%s')"
    assert written("a = %(2)s OR b = %(1)s OR c = %(2)s", (1, "x")) == "a = 'x' OR b = 1 OR c = 'x'"
    assert written("a = %(group)s", ({"group": "%(group)s"},)) == "a = '%(group)s'"
