"""What a process shows and tells of a group."""

from __future__ import annotations

from headcount.core import replica, watch
from headcount.stores import memory
from tests.mutants.hunting import FEW, MANY, Towns, mutant
from tests.mutants.planting import Planter


@mutant(Towns("order", scenes=("storm", "long_stall")))
def an_older_answer_is_shown(plant: Planter) -> None:
    """A read that was given up is answered late, and taken for news."""
    plant.edit(replica.Replica.apply, "if answer.revision < old:", "if False:")
    plant.edit(replica.Replica.apply, "if isinstance(answer, Delta) and answer.after != old:", "if False:")


@mutant(Towns("order", tombstones=2, seeds=FEW))
def a_delta_over_a_gap(plant: Planter) -> None:
    """A reader asks for less than it needs, and takes what it gets."""
    plant.edit(replica.Replica.revision, "return self.view.revision if", "return self.view.revision + 1 if")
    plant.edit(replica.Replica.apply, "if isinstance(answer, Delta) and answer.after != old:", "if False:")


@mutant(Towns("order", "completeness", tombstones=1, seeds=FEW))
def a_delta_from_before_the_tombstones(plant: Planter) -> None:
    """The store gives a delta though it has forgotten what was removed since."""
    plant.edit(
        memory.MemoryStore.read, "not found.oldest <= after <= found.revision", "after > found.revision"
    )


@mutant(Towns("order", "completeness"))
def what_was_removed_stays(plant: Planter) -> None:
    """A reader takes from a delta what is there, and not what has gone."""
    plant.edit(replica.Replica._part, "for kind, key in answer.removed:", "for kind, key in ():")


@mutant(Towns("order"))
def the_leader_is_remembered(plant: Planter) -> None:
    """Who led leads, as long as a row of that key is there."""
    plant.edit(
        replica.Replica._read_leader,
        "self._rows.get(led.key) is led and not self.claims",
        "led.key in self._rows",
    )


@mutant(Towns("completeness", seeds=MANY))
def a_lost_ring_is_never_noticed(plant: Planter) -> None:
    """Where the doorbell may fail, nobody reads without it."""
    plant.edit(watch.Watcher.next, "if recheck is not None and", "if False and")


@mutant(Towns("age"))
def a_view_says_that_it_is_younger(plant: Planter) -> None:
    """Its age counts from when the answer came, not from when the question left."""
    plant.edit(
        watch.Watcher._was_read, "replica.apply(answer, asked.boot)", "replica.apply(answer, now.boot)"
    )


@mutant(Towns("age", scenes=("storm", "sniper")))
def a_reading_that_waits_for_a_crowd_is_taken_for_done(plant: Planter) -> None:
    """It is put aside, and off the list of groups to be read: the next ring of another confirms the view."""
    plant.edit(
        watch.Watcher._for_agents,
        "self._node.dirty.add(another.group)",
        "self._kept = another, self._phase(another)",
    )


@mutant(Towns("completeness"))
def a_group_that_vanished_is_not_told(plant: Planter) -> None:
    """Listeners keep the members of a group that is gone."""
    plant.edit(replica.Replica.vanish, "return [Change(kind=Kind.RESYNC, view=self._shown)]", "return []")


@mutant(Towns("completeness"))
def an_update_is_not_told(plant: Planter) -> None:
    """Listeners keep the capabilities that a member had when it joined."""
    plant.edit(
        replica.differences,
        "return changes or ([change(Kind.UPDATED)] if old != new else [])",
        "return changes",
    )


@mutant(Towns("load"))
def everything_is_read_all_the_time(plant: Planter) -> None:
    """A watcher reads its groups each time that it has listened, whatever rang."""
    plant.edit(watch.Watcher._rang, "node.replicas if ring.groups is None else", "node.replicas if True else")
