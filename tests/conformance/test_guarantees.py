"""What is written about the stores is what they declare."""

from __future__ import annotations

import re
from pathlib import Path

from headcount.stores import BUILT_IN
from tests.conformance.declared import DECLARED, FLAGS, PAGE, PLANNED, page_part, page_with

HERE = Path(__file__).resolve().parent


def test_the_table_says_what_the_stores_declare() -> None:
    """`make guarantees` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page_with(page_part())


def test_planned_is_what_is_not_here() -> None:
    """A store that is here is declared and tested; one that is not is said to be planned."""
    here = {one.store.partition(" ")[0] for one in DECLARED}

    assert here == BUILT_IN.keys()
    assert not here & PLANNED.keys()


def test_the_laws_are_put_to_every_store_that_is_declared() -> None:
    """By a module that takes those which its flags name."""
    for one in DECLARED:
        assert "globals().update(laws(" in (HERE / f"{one.module}.py").read_text(encoding="utf-8"), one.store


def test_every_flag_is_explained() -> None:
    """Below the table, in the order in which the model names them."""
    assert re.findall(r"^\*\*(\w+)\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == FLAGS
