"""One connection to ZooKeeper, and what is asked over it by several."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pytest
from kazoo.protocol.serialization import Create, Exists

from headcount.errors import HeadcountError, OutcomeUnknown
from headcount.stores.url import parse
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.where import where
from tests.processes.waiting import eventually
from tests.servers.pipe import Pipe
from tests.servers.zookeeper import ZooKeeper


@pytest.fixture
def pipe(zookeeper_server: ZooKeeper) -> Iterator[Pipe]:
    made = Pipe(zookeeper_server.port)
    yield made
    made.close()


@pytest.fixture
def link(zookeeper_server: ZooKeeper, pipe: Pipe) -> Iterator[Link]:
    """By way of the pipe, connected."""
    url = parse(zookeeper_server.url("none").replace(f":{zookeeper_server.port}/", f":{pipe.port}/"))
    options = dict.fromkeys(("password_file", "tls_ca", "tls_cert", "tls_key"))
    made = Link(where(url, timeout=2.0, auth="digest", tls=False, **options), 6.0)
    made.connect(soon())
    yield made
    made.close(goodbye=False)


def soon() -> float:
    return time.monotonic() + 5


def test_what_was_given_up_before_it_left_is_not_done_later(
    zookeeper_server: ZooKeeper, pipe: Pipe, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked just as the connection breaks, and nobody waits for it any more when there is one again."""
    path, call = f"/{zookeeper_server.fresh_path()}", link._client._call

    def break_first(*asked: object) -> None:
        pipe.silent = True
        link._connection._socket.shutdown(2)
        eventually(lambda: not link.connected, "a broken connection")
        call(*asked)

    monkeypatch.setattr(link._client, "_call", break_first)
    with pytest.raises(OutcomeUnknown):
        link.ask(Create(path, b"", list(link.where.acl), 0), until=time.monotonic() + 0.5, writes=True)
    monkeypatch.undo()
    pipe.mend()
    eventually(lambda: link.connected, "a connection", 10)

    assert link.ask(Exists("/", None), Exists(path, None), until=soon())[1] is None


def test_who_has_no_time_left_leaves_the_connection_to_others(link: Link) -> None:
    """A commit that others were quicker than, every time, is no reason to cut off the beats."""
    answers = []
    for _ in range(20):
        with contextlib.suppress(HeadcountError):
            answers.append(link.ask(Exists("/", None), until=time.monotonic() + 0.0002))

    assert len(answers) < 20, "there was time enough, so this shows nothing"
    time.sleep(0.1)
    assert (link.generation, link.connected) == (1, True)
