"""Stores that expire sessions themselves: early ends, and what their servers know of each other.

What a real store of ours does about its servers is done again by the simulated one, and mistakes of that kind
are planted there: they show that the simulation would see them."""

from __future__ import annotations

from headcount.core import node, session, watch
from headcount.stores import memory
from tests.mutants.hunting import FEW, MANY, Towns, mutant
from tests.mutants.planting import Planter
from tests.simulation.engines import etcd, zookeeper

WITH_ITS_SERVER = ("cut_off_with_its_server",)
WOKEN = ("asked_when_it_woke", "the_leading_server_stops")
OUTSIDE = ("ended_from_outside",)


@mutant(Towns("one leader", mode="sessions", scenes=OUTSIDE))
def an_early_end_leaves_no_place(plant: Planter) -> None:
    """Whoever's session is ended from outside is taken for dead, and its place is free at once."""
    plant.edit(
        memory.MemoryServer.end, "ledger.expire(row, early=row.session in self.early)", "ledger.expire(row)"
    )


@mutant(Towns("who is ended gives up its place", mode="sessions", scenes=OUTSIDE, seeds=FEW))
def a_lost_session_is_not_closed(plant: Planter) -> None:
    """Who hears that its session is over trusts nothing any more, and tells nobody."""
    plant.edit(node.Node.lose, "if held and not self.ticks:", "if False:")


@mutant(Towns("a place is not kept for ever", mode="sessions", scenes=("waited_out",), seeds=FEW))
def nobody_waits_a_claim_out(plant: Planter) -> None:
    """A place whose owner does not give it up is kept until its session is over."""
    plant.edit(watch.Watcher._wait_out, "if self._node.ticks:", "if True:")


@mutant(Towns("one leader", engine="zookeeper", scenes=WITH_ITS_SERVER, seeds=MANY))
def the_beat_before_does_not_matter(plant: Planter) -> None:
    """A beat that was taken is trusted, though the server that leads may not have heard of it."""
    plant.edit(session.Presence.taken, "if self._told_late:", "if False:")


@mutant(Towns("one leader", engine="zookeeper", scenes=("cut_off_after_two_beats",), seeds=MANY))
def any_beat_before_is_sure(plant: Planter) -> None:
    """A beat is taken for known to all as soon as the next one was taken, however soon that was."""
    plant.edit(session.Presence._sure, "if asked - self._asked_at >= APART * self._margin:", "if True:")


@mutant(Towns("one leader", engine="zookeeper", scenes=WITH_ITS_SERVER, seeds=MANY))
def no_margin_for_what_is_told_late(plant: Planter) -> None:
    """As if there were one server: trust lasts for the ttl, less what clocks need."""
    plant.edit(
        session.Presence.opened,
        "granted.margin if granted.margin is not None else margin_of(granted.ttl)",
        "margin_of(granted.ttl)",
    )
    plant.edit(session.Presence.taken, "if self._told_late:", "if False:")


@mutant(Towns("one leader", engine="zookeeper", scenes=WOKEN, seeds=MANY))
def a_beat_is_a_read(plant: Planter) -> None:
    """A leader that is cut off confirms sessions, while the others have elected another."""
    plant.edit(
        zookeeper.ZooKeeperClient._beat,
        "yield from self._write(heart, until)",
        "yield from self.confirmed(heart.link, until)",
    )


@mutant(Towns("a refusal is true", engine="zookeeper"))
def a_refusal_is_not_thought_over(plant: Planter) -> None:
    """What a server that is behind says of a commit is believed."""
    plant.edit(zookeeper.ZooKeeperClient._commit, "if not sync:\n", "if False:\n")


@mutant(
    Towns(
        "a refusal is true",
        engine="zookeeper",
        scenes=("deleted_and_made_again", "forgets_everything"),
        seeds=MANY,
    )
)
def a_group_that_is_not_there_is_not_looked_for(plant: Planter) -> None:
    """A server that is behind has not heard of a group, and so there is none."""
    plant.edit(zookeeper.ZooKeeperClient._commit, "if not sync:\n", "if not sync and seen is not None:\n")


@mutant(Towns("a reading is no older than its question", engine="zookeeper", seeds=FEW))
def a_reading_without_a_sync(plant: Planter) -> None:
    """What a server happens to have is taken for what is."""
    plant.edit(
        zookeeper.ZooKeeperClient.confirmed, "machine.leads and machine is not self.ensemble.leader", "True"
    )


@mutant(Towns("accuracy", engine="zookeeper", scenes=("pause", "takeover", "hung_heart"), seeds=MANY))
def a_session_begins_in_one_that_ends(plant: Planter) -> None:
    """However long ago the one of ZooKeeper was beaten, that all of one ttl share."""
    plant.edit(zookeeper.ZooKeeperClient.opens, " or heart.late(asked) > 0.7 * ttl", "")
    plant.edit(zookeeper.ZooKeeperClient.opens, "late = heart.late(asked)", "late = 0.3 * ttl")


@mutant(Towns("one leader", "accuracy", engine="etcd", scenes=WOKEN, seeds=FEW))
def a_keepalive_is_a_beat(plant: Planter) -> None:
    """It is believed, whoever answers it, and nothing is read in its term."""
    plant.edit(
        etcd.EtcdClient._beat,
        "term = yield from self._read(until)",
        "term = max(its.term for its in kept.values())",
    )


@mutant(Towns("accuracy", "stall safety", "one leader", engine="etcd", scenes=WOKEN, seeds=MANY))
def leases_do_not_move(plant: Planter) -> None:
    """After an election, sessions stay on leases that an older leader knows, and revokes."""
    plant.edit(
        etcd.EtcdClient._beat,
        "if notices[session] is not None and term_of(lease) != term",
        "if False",
    )
