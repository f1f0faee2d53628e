"""How many connections a process has to its database server, and when the heart gets one of its own."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from headcount.errors import StoreUnavailable
from headcount.stores.sql import lines
from headcount.stores.sql.lines import Lines


class FakeLine:
    def __init__(self) -> None:
        self.closed = False
        self.works = True

    def connect(self) -> None:
        if not self.works:
            raise StoreUnavailable("no more connections")

    def close(self) -> None:
        self.closed = True


class Hand:
    """All lines that were made, in a world whose clock is moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[FakeLine] = []
        self.now = 100.0
        patch.setattr(lines, "time", SimpleNamespace(monotonic=lambda: self.now))
        patch.setattr(lines, "PATIENCE", 0.0)
        self.works = True
        self.lines: Lines[Any] = Lines(self._make)

    def _make(self) -> FakeLine:
        self.made.append(FakeLine())
        self.made[-1].works = self.works
        return self.made[-1]

    @property
    def open(self) -> list[FakeLine]:
        return [line for line in self.made if not line.closed]

    def beat(self) -> FakeLine:
        line: FakeLine
        with self.lines.heart() as line:
            return line

    def beat_while_it_is_locked(self) -> FakeLine:
        """The watcher is at work in another thread, and meets a lock."""
        locked, done = threading.Event(), threading.Event()

        def commit() -> None:
            with self.lines.watcher():
                locked.set()
                done.wait(10)

        watcher = threading.Thread(target=commit)
        watcher.start()
        try:
            assert locked.wait(10)
            return self.beat()
        finally:
            done.set()
            watcher.join(10)


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    return Hand(monkeypatch)


def test_heart_and_watcher_share_one(hand: Hand) -> None:
    with hand.lines.watcher() as theirs:
        pass
    assert hand.beat() is theirs
    assert len(hand.open) == 1


def test_a_heart_that_would_have_to_wait_gets_its_own(hand: Hand) -> None:
    """And keeps it: who was busy once is soon busy again."""
    with hand.lines.watcher() as theirs:
        pass
    own = hand.beat_while_it_is_locked()
    assert own is not theirs
    assert hand.beat() is own
    assert len(hand.open) == 2


def test_it_is_given_up_when_it_has_been_calm(hand: Hand) -> None:
    own = hand.beat_while_it_is_locked()
    hand.now += lines.CALM - 1
    assert hand.beat() is own
    hand.now += 2
    assert hand.beat() is not own
    assert own.closed
    assert len(hand.open) == 1


def test_who_watches_has_two_for_good(hand: Hand) -> None:
    """The shared one is then waited on, and so is never free for a beat."""
    hand.lines.watched = True
    with hand.lines.watcher() as theirs:
        pass
    own = hand.beat()
    hand.now += 2 * lines.CALM
    assert hand.beat() is own is not theirs
    assert len(hand.open) == 2


def test_where_no_second_one_is_to_be_had_the_first_is_tried_again(hand: Hand) -> None:
    """A server that takes no more connections has one of ours already."""
    with hand.lines.watcher() as theirs:
        pass
    hand.works = False
    with pytest.raises(StoreUnavailable):
        hand.beat_while_it_is_locked()
    assert hand.open == [theirs]
    assert hand.beat() is theirs


def test_all_are_closed_at_the_end(hand: Hand) -> None:
    hand.beat_while_it_is_locked()
    hand.lines.close()
    assert hand.open == []
