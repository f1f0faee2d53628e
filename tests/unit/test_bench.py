"""The benchmarks run: each question, at a small part of its size, answers with numbers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module

import pytest

from bench.__main__ import OF_SERVERS, QUESTIONS, main, table
from bench.harness import EMBEDDED, Figure, Line, Run
from bench.servers import SERVERS, Host, lacking, started
from headcount.stores import BUILT_IN

QUICK = ("commit", "beat", "nova", "tooz", "told", "idle")
"""Of those questions that take no longer to ask than this is worth."""
SLOW = ("told", "idle")
ASKED = [
    pytest.param(store, question, marks=pytest.mark.slow if question in SLOW else ())
    for store, questions in OF_SERVERS.items()
    for question in questions
    if question in QUICK and (question != "idle" or store in ("zookeeper", "etcd"))
]


@pytest.fixture(scope="module", params=[store for store in SERVERS if store in BUILT_IN])
def host(request, unavailable) -> Iterator[Host]:
    why = lacking(request.param)
    if why is not None:
        unavailable(SERVERS[request.param], why)
    host = started(request.param)
    yield host
    host.discard()


def finite(lines: list[Line]) -> bool:
    return all(math.isfinite(figure.ours) for line in lines for figure in line.figures.values())


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_answered_with_numbers(question, tmp_path):
    """No number is right or wrong here; that there is one for each store is."""
    lines = list(import_module(f"bench.{question}").measure(Run(tmp_path, scale=0.01, repeat=1)))
    assert {store for line in lines for store in line.figures} == set(EMBEDDED)
    assert finite(lines)


@pytest.mark.timeout(300)  # processes that start on a busy machine take their time
@pytest.mark.parametrize(("host", "question"), ASKED, indirect=["host"])
def test_so_it_is_of_a_server(question, tmp_path, host):
    """Of each that can be had."""
    run = Run(tmp_path, scale=0.01, repeat=1, stores=(host.store,), hosts={host.store: host})
    lines = list(import_module(f"bench.{question}").measure(run))
    assert {store for line in lines for store in line.figures} == {host.store}
    assert finite(lines)


def test_what_a_server_costs_is_what_it_works(host):
    """Also what it did in a connection that is closed by now."""
    with closing(host.fresh().connect()) as con:
        con.bear(["one"])
        found: list[float] = []
        with host.cpu_of(found), closing(host.fresh().connect()) as other:
            other.bear(["one"])
            for _ in range(1000):
                other.beat("one")
    assert 0.005 < found[0] < 60


def test_whoever_is_connected_is_counted(host):
    """But for the server itself, and for who looks. What they ask is counted too, if late on PostgreSQL."""
    place = host.fresh()
    before = host.connections(place.database)
    with closing(place.connect()) as con:
        con.bear(["one"])
        assert host.connections(place.database) == before + 1
        asked, until = host.asked(place.database), time.monotonic() + 10
        while host.asked(place.database) <= asked:
            con.beat("one")
            assert time.monotonic() < until


def test_the_table_says_whether_a_goal_is_met():
    """The worst of the stores decides."""
    slow = {"memory": Figure(1.0), "sqlite": Figure(3.0, 1.5, 2.0)}
    text = table([Line("this", "s", slow, goal=2.0), Line("that", "/s", slow, goal=1.0, at_least=True)])
    _, _, this, that = text.splitlines()
    assert this.endswith("≤ 2  missed")
    assert that.endswith("≥ 1     met")


def test_each_store_may_have_a_goal_of_its_own():
    """And a goal may be one for the ratio."""
    figures = {"postgresql": Figure(10.0), "mysql": Figure(400.0, 100.0, 4.0)}
    line = Line("this", "ms", figures, goal={"postgresql": 20.0, "mysql": 500.0})
    assert line.met()
    assert "≤ 20 / 500" in table([line], ("postgresql", "mysql"))
    assert not Line("that", "ms", figures, goal={"mysql": 3.0}, of_ratio=True).met()


def test_the_numbers_are_kept(tmp_path, capsys):
    where = tmp_path / "numbers.json"
    few = ["--store", "memory", "--store", "sqlite", "--scale", "0.01", "--repeat", "1"]
    main(["--only", "commit", *few, "--json", str(where)])
    assert "commit: enter" in capsys.readouterr().out
    assert json.loads(where.read_text())["questions"]["commit"]
