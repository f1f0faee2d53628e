"""The benchmarks run: each question, at a small part of its size, answers with numbers."""

from __future__ import annotations

import json
import math
from importlib import import_module

import pytest

from bench.__main__ import QUESTIONS, main, table
from bench.harness import Figure, Line, Run


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_answered_with_numbers(question, tmp_path):
    """No number is right or wrong here; that there is one for each store is."""
    lines = list(import_module(f"bench.{question}").measure(Run(tmp_path, scale=0.01, repeat=1)))
    assert {store for line in lines for store in line.figures} == {"memory", "sqlite"}
    for line in lines:
        for figure in line.figures.values():
            assert math.isfinite(figure.ours), line


def test_the_table_says_whether_a_goal_is_met():
    """The worst of the stores decides."""
    slow = {"memory": Figure(1.0), "sqlite": Figure(3.0, 1.5, 2.0)}
    text = table([Line("this", "s", slow, goal=2.0), Line("that", "/s", slow, goal=1.0, at_least=True)])
    _, _, this, that = text.splitlines()
    assert this.endswith("≤ 2  missed")
    assert that.endswith("≥ 1     met")


def test_the_numbers_are_kept(tmp_path, capsys):
    main(["--only", "commit", "--scale", "0.01", "--repeat", "1", "--json", str(tmp_path / "numbers.json")])
    assert "commit: enter" in capsys.readouterr().out
    assert json.loads((tmp_path / "numbers.json").read_text())["questions"]["commit"]
