"""ZooKeeper and etcd: what a write is compared with, and what is not believed when it is read."""

from __future__ import annotations

from headcount.stores.etcd import deltas, doorbell, ending, groups, sessions, settling, witnesses, written
from headcount.stores.zookeeper import commit, hearts, loading, reading, store, witness
from headcount.stores.zookeeper import groups as nodes
from headcount.stores.zookeeper import records as heads
from tests.mutants.hunting import Law, Story, mutant
from tests.mutants.planting import Planter
from tests.mutants.servers import pause

# ── etcd ──


@mutant(Story("order", "gap", "read", "token", store="etcd"))
def a_commit_that_does_not_compare_the_head(plant: Planter) -> None:
    """Two commits rest on the same picture, and take the same revision."""
    plant.edit(written.Written.request, "is_at(keys.group(group), self._seen.head_at), ", "")


@mutant(Law("an_enter_and_a_goodbye_do_not_pass_each_other", store="etcd", tries=20))
def an_enter_that_does_not_compare_that_its_session_lives(plant: Planter) -> None:
    """A row is up in a session that has gone meanwhile."""
    plant.edit(written.Written.request, "if (life := self._seen.lives[s])", "if (life := None)")


@mutant(Law("who_takes_over_tells_the_owner", store="etcd"))
def a_notice_that_is_not_written_on_etcd(plant: Planter) -> None:
    """The owner's next beat extends its trust in what somebody else has by then."""
    plant.edit(written.Written._notices, "for session in self._ledger.notices:", "for session in ():")


@mutant(Law("who_stops_beating_goes_down", store="etcd"))
def a_reader_that_does_not_settle_on_etcd(plant: Planter) -> None:
    """The lease is over, and the row stays up."""
    plant.edit(settling.Settling._load, "gone = seen.gone()", "gone = set()")


@mutant(Law("an_expiry_rings_by_itself", store="etcd"))
def a_bell_that_does_not_hear_of_deaths_on_etcd(plant: Planter) -> None:
    """Only what is committed rings; and whoever would commit the death has not heard of it."""
    heard = 'case ["here" | "held", group, _] if gone:'
    plant.edit(doorbell.EtcdDoorbell._note, heard, 'case ["nobody", group]:')


@mutant(Law("what_was_removed_is_told", store="etcd"))
def a_delta_without_what_was_removed_on_etcd(plant: Planter) -> None:
    """Whoever was forgotten stays in every view."""
    plant.edit(deltas.Deltas._delta, "one for one in touched if one not in found", "")


@mutant(Law("who_reads_from_the_future_gets_all", store="etcd"))
def a_delta_after_a_commit_that_nobody_made(plant: Planter) -> None:
    """A reader that knows another history is told that nothing has changed."""
    plant.edit(
        deltas.Deltas._touched,
        "told.more or not commits or [commits[0].key, commits[-1].key] != ends",
        "False",
    )


@mutant(Law("opening_a_session_twice_changes_nothing", store="etcd"))
def a_session_that_is_opened_over_itself(plant: Planter) -> None:
    """An opening that was sent twice, because its answer was lost, begins the session anew."""
    plant.edit(sessions.Sessions._put, "[is_at(life, 0)]", "[]")


@mutant(Law("a_group_made_again_starts_above", store="etcd"))
def a_floor_that_is_not_raised_on_etcd(plant: Planter) -> None:
    """The revision restarts with a group."""
    plant.edit(groups.Groups.delete, "max(_number(floor), seen.head.revision)", "_number(floor)")


@mutant(Law("who_leaves_with_one_row_stays_with_the_others", store="etcd"))
def a_session_that_is_not_here_once_it_has_left_with_one_row(plant: Planter) -> None:
    """Its other rows go down, while it lives and beats."""
    plant.edit(written.having_now, "max(0, seen.having[session] + more[session])", "0")


@mutant(Law("who_closes_a_session_that_is_over_gives_its_place_up", store="etcd"))
def an_early_end_that_is_taken_for_a_death(plant: Planter) -> None:
    """The place is free while its owner trusts it."""
    plant.edit(settling.Settling._load, "early = gone & seen.held", "early = set()")


@mutant(Law("a_place_is_kept_however_long_its_owner_has_beaten", store="etcd"))
def a_witness_that_is_not_kept_alive(plant: Planter) -> None:
    """After a ttl it is over, and every early end looks like a death."""
    plant.put(witnesses.Witnesses, "to_keep", lambda self, sessions, leases: set())


@mutant(Law("who_closes_a_session_that_is_over_gives_its_place_up", store="etcd"))
def a_place_that_is_not_given_up(plant: Planter) -> None:
    """Its owner trusts nothing any more, and the others wait for a ttl."""
    plant.put(ending.Ending, "_give_up", lambda self, session, groups, until: None)


# ── ZooKeeper ──


@mutant(Law("counters_lose_no_update", store="zookeeper", tries=5))
def a_commit_that_writes_over_any_head(plant: Planter) -> None:
    """Two commits rest on the same picture, and take the same revision."""
    plant.edit(
        commit.Commit._write,
        "SetData(self._at, encode(head), loaded.version)",
        "SetData(self._at, encode(head), -1)",
    )


@mutant(Law("an_enter_and_the_goodbye_of_its_own_client_do_not_pass_each_other", store="zookeeper", tries=20))
def an_enter_that_does_not_check_its_session(plant: Planter) -> None:
    """A row is up in a session that has gone meanwhile."""
    plant.edit(commit.Commit._sessions, "for path in sorted(needed - raised)", "for path in ()")
    plant.edit(commit.Commit._write, "self._list(", "pause()\n    self._list(", pause=pause)


@mutant(Law("who_takes_over_tells_the_owner", store="zookeeper"))
def a_notice_that_is_not_written_on_zookeeper(plant: Planter) -> None:
    """The owner's next beat extends its trust in what somebody else has by then."""
    plant.edit(commit.Commit._sessions, "for path, data in sorted(found.items())", "for path, data in ()")


@mutant(Law("who_stops_beating_goes_down", store="zookeeper"))
def a_reader_that_does_not_settle_on_zookeeper(plant: Planter) -> None:
    """The ephemeral node is gone, and the row stays up."""
    plant.edit(reading.Reading._gone, "set(sessions) - self._there(sessions, self._paths.session)", "set()")


@mutant(Law("an_expiry_rings_by_itself", store="zookeeper"))
def a_bell_that_does_not_hear_of_deaths_on_zookeeper(plant: Planter) -> None:
    """Only what is committed rings; and whoever would commit the death has not heard of it."""
    plant.edit(store.ZooKeeperStore._told, "(key is not None and what != DELETED)", "key is not None")


@mutant(Law("what_was_removed_is_told", store="zookeeper"))
def a_delta_without_what_was_removed_on_zookeeper(plant: Planter) -> None:
    """Whoever was forgotten stays in every view."""
    plant.edit(reading.Reading._delta, "if self._data.get(name) is None]", "if False]")


@mutant(Law("who_reads_from_the_future_gets_all", store="zookeeper"))
def a_head_that_knows_what_changed_after_anything(plant: Planter) -> None:
    """A reader that knows another history is told that nothing has changed."""
    plant.edit(heads.Head.changed, "not self.since <= after <= self.revision", "False")


@mutant(Law("a_picture_is_of_one_revision", store="zookeeper", tries=40))
def a_picture_under_the_head_that_was_read_first(plant: Planter) -> None:
    """What is changed while the records are read is in the picture, or half of it."""
    plant.edit(reading.Reading._follow, "wanted = self._take_head(head)", "wanted = set()")


@mutant(Law("who_beats_in_time_stays", store="zookeeper"))
def a_heart_that_lives_by_the_beats_of_others(plant: Planter) -> None:
    """One connection is the session of all who share it: so nobody who stops is ever missed."""
    plant.put(hearts.Heart, "overdue", lambda self, besides=(): [])


@mutant(Law("who_closes_a_session_that_is_over_gives_its_place_up", store="zookeeper"))
def a_place_that_is_free_as_soon_as_a_session_is_gone_on_zookeeper(plant: Planter) -> None:
    """Whoever closes a leader's session makes another one lead beside it."""
    plant.edit(loading.Loaded.held, "is not None", "is ...")


@mutant(Law("a_place_that_was_taken_over_is_kept_too", store="zookeeper"))
def a_claim_that_goes_with_its_session_on_zookeeper(plant: Planter) -> None:
    """Taken over, and closed: the place is free, though its owner has heard of neither."""
    plant.edit(reading.Reading._held, "self._there(sorted(dead), self._paths.held)", "set()")
    plant.edit(commit.Commit._think, "and not loaded.held(claim.session)", "")


@mutant(Law("who_closes_a_session_that_is_over_gives_its_place_up", store="zookeeper"))
def a_place_that_is_given_before_anybody_holds_it(plant: Planter) -> None:
    """There is no witness."""
    plant.put(witness.Witness, "hold", lambda self, sessions, living, until: None)


@mutant(Law("a_place_that_is_not_given_up_goes_when_nobody_can_trust_it", store="zookeeper"))
def a_witness_that_lives_as_long_as_its_process(plant: Planter) -> None:
    """It is kept alive by pings, as connections are, and not by beats."""
    plant.edit(witness.Witness._hear, "pings=False", "pings=True")


@mutant(Law("a_group_made_again_starts_above", store="zookeeper"))
def a_floor_that_is_not_raised_on_zookeeper(plant: Planter) -> None:
    """The revision restarts with a group."""
    plant.edit(nodes.Groups.delete, "max(floor, whole.revision)", "floor")
