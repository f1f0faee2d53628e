"""A leader whose session of ZooKeeper is ended from outside, before its time: by somebody who closes it, or
removes its nodes. Nobody else leads while it trusts; and nobody waits for longer than that."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.processes.member import now
from tests.processes.town import Process, Town, faults_of_trust, leader, trust, until
from tests.servers.zookeeper import Ensemble

TTL = 3.0
SOON = 10.0
AT_ONCE = 1.0
"""Seconds until somebody else leads, where the one before lives and can say that it does not."""
PRECISION = 2.5
"""Seconds beyond the ttl within which a failure is seen."""


class Story:
    """Three that want to lead, and one of them leads."""

    def __init__(self, ensemble: Ensemble, town: Town) -> None:
        self.ensemble, self.town = ensemble, town
        self.people = town.members("ann", "ben", "cid", ttl=TTL, lead=True)
        until(lambda: any(p.said("trusted") for p in self.people), lambda: trust(self.people), SOON)
        self.ruler = leader(self.people)
        self.rest = [p for p in self.people if p is not self.ruler]
        self.since = {p.name: p.heard for p in self.people}

    @property
    def node(self) -> str:
        """Of the session that its member has now."""
        (session,) = [row.session for row in self.town.snapshot().rows if row.key == self.ruler.name]
        return f"/town/.headcount/sessions/{session}"

    def close_session(self) -> float:
        """And when that was begun."""
        node, began = self.node, now()
        self.ensemble.servers[0].end_owner_of(node)
        return began

    def remove_node(self) -> float:
        node, began = self.node, now()
        with self.ensemble.servers[0].client() as admin:
            admin.delete(node)
        return began

    def next_leads_at(self, within: float) -> float:
        """When somebody else is first told that it leads."""

        def told() -> list[float]:
            return [e["at"] for p in self.rest for e in p.said("leads", self.since[p.name])]

        until(lambda: bool(told()), lambda: [p.tail() for p in self.people], within)
        return min(told())

    def never_two(self) -> None:
        for process in self.people:
            if process.popen.poll() is None:
                process.signal(signal.SIGSTOP)
        seen = trust(self.people)
        assert list(faults_of_trust(seen)) == []
        assert len(seen) >= 2, "leadership never changed hands"

    def events(self, what: str) -> list[str]:
        """Whom this is told of in the group's history."""
        return [entry.member_id for entry in self.town.store.history("workers") if entry.what == what]


@pytest.fixture
def story(own_ensemble: Callable[..., Ensemble], build: Callable[..., Town]) -> Story:
    ensemble = own_ensemble()
    return Story(ensemble, build(ensemble.url("town")))


@pytest.mark.parametrize("way", [Story.close_session, Story.remove_node])
def test_a_leader_whose_session_is_ended_is_followed_at_once(
    story: Story, way: Callable[[Story], float]
) -> None:
    """But not before it has stopped; and then it comes back, behind the others."""
    ended = way(story)
    leads = story.next_leads_at(SOON)
    story.ruler.wait_for("change", SOON, story.since[story.ruler.name], kind="rejoined")

    assert leads - ended < AT_ONCE
    story.never_two()
    assert story.events("down") == [story.ruler.name]


def test_a_leader_that_is_stopped_when_its_session_is_closed(story: Story) -> None:
    """It cannot know, and trusts for as long as it may have: nobody else leads before. When it goes on, it
    does not lead any more."""
    stopped = story.ruler.stop()
    story.close_session()
    leads = story.next_leads_at(TTL + PRECISION + SOON)
    after = story.ruler.heard
    story.ruler.go_on()
    story.ruler.wait_for("change", SOON, after, kind="rejoined")

    assert stopped + TTL * 2 / 3 < leads < stopped + TTL + PRECISION
    assert story.events("vacated") == [story.ruler.name]
    story.never_two()


def test_a_leader_that_dies_is_followed_without_waiting_for_anything_else(story: Story) -> None:
    """Its witness dies with it."""
    killed = story.ruler.kill()
    leads = story.next_leads_at(TTL + PRECISION + SOON)

    assert leads < killed + TTL + PRECISION
    story.never_two()


def test_a_leader_that_dies_after_its_session_was_closed(story: Story) -> None:
    """Whoever closed it has won nothing, and lost nothing."""
    story.ruler.stop()
    story.close_session()
    killed = story.ruler.kill()
    leads = story.next_leads_at(TTL + PRECISION + SOON)

    assert leads < killed + TTL + PRECISION
    story.never_two()


def test_closing_the_sessions_of_all_leaders_one_after_the_other(story: Story) -> None:
    """Each time another one leads, and never two."""
    for _ in range(4):
        story.close_session()
        story.next_leads_at(SOON)
        lost = story.ruler
        lost.wait_for("change", SOON, story.since[lost.name], kind="rejoined")
        until(lambda: leads_now(story) is not None, lambda: trust(story.people), SOON)
        ruler = leads_now(story)
        assert ruler is not None
        story.ruler, story.rest = ruler, [p for p in story.people if p is not ruler]
        story.since = {p.name: p.heard for p in story.people}
    story.never_two()
    assert len(trust(story.people)) >= 5


def leads_now(story: Story) -> Process | None:
    """Who has said so in the last moment."""
    told = [p for p in story.people if p.said("trusted") and now() - p.said("trusted")[-1]["at"] < 0.1]
    return told[0] if len(told) == 1 else None
