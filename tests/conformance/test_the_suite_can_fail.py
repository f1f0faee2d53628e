"""A suite that cannot fail proves nothing: every bug that is planted here is seen by the law it breaks."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace

import pytest

from headcount.errors import HeadcountError
from headcount.model import Guarantees
from headcount.stores import memory
from headcount.testing.conformance import laws
from headcount.testing.conformance.harness import applies
from tests.conformance.broken import BUGS, Bug

SEEN = (AssertionError, pytest.fail.Exception, HeadcountError, KeyError, ValueError)
"""How a law fails: an assertion does, what should be raised is not, or what it looks for is not there."""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.name}-{bug.law}")
def test_a_planted_bug_is_seen(bug: Bug) -> None:
    """The law fails for the broken store, and so it is the bug that it sees."""
    harness = bug.harness()
    law = laws(harness.guarantees)[bug.law]
    try:
        with pytest.raises(SEEN):
            law(harness)
    finally:
        harness.close()


def test_every_law_states_itself() -> None:
    """Its docstring is a sentence or more, and it takes a harness and nothing else: whoever has a store to
    test needs no fixture of ours."""
    for name, law in laws().items():
        assert (law.__doc__ or "").strip().endswith("."), f"{name} does not say what the law is"
        assert list(inspect.signature(law).parameters) == ["harness"], name


def test_every_law_asserts_something() -> None:
    """In its own words, or by a helper that does."""
    asserting = {"refused", "committed", "refuses"}
    for name, law in laws().items():
        nodes = list(ast.walk(ast.parse(inspect.getsource(law))))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert any(isinstance(node, ast.Assert) for node in nodes) or names & asserting, name


def test_every_law_is_taken_by_some_store() -> None:
    """A flag that no store of ours declares would let a law sleep."""
    ours = [memory.TICKS, memory.SESSIONS, _durable(memory.TICKS)]

    for name, law in laws().items():
        assert any(applies(law, guarantees) for guarantees in ours), name


def _durable(guarantees: Guarantees) -> Guarantees:
    return replace(guarantees, durable=True)


def test_what_does_not_apply_is_not_taken() -> None:
    """Laws of ticks are no laws for a store without them, and the other way round."""
    assert "test_a_tick_is_one_step" in laws(memory.TICKS)
    assert "test_a_tick_is_one_step" not in laws(memory.SESSIONS)
    assert "test_there_is_no_tick_to_read" in laws(memory.SESSIONS)
    assert "test_there_is_no_tick_to_read" not in laws(memory.TICKS)
