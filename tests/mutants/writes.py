"""The register: what a commit does, and which numbers it gives out."""

from __future__ import annotations

from headcount import register
from headcount.stores import memory
from tests.mutants.hunting import FEW, Law, Towns, mutant
from tests.mutants.planting import Planter


@mutant(Towns("completeness", scenes=("late_enter",), seeds=FEW))
def an_enter_does_not_look_at_its_session(plant: Planter) -> None:
    """A row is up in a session that is fenced, and nobody will ever expire it."""
    plant.edit(
        register.Ledger._enter, "if write.session and not self._records.alive(write.session):", "if False:"
    )


@mutant(Towns("coming back", "order", "final", "nobody is locked out"))
def an_enter_does_not_look_at_what_is_there(plant: Planter) -> None:
    """A late or doubled enter begins its life over a newer one."""
    plant.edit(register.Ledger._enter, "(row.revision if row else 0) != write.seen", "False")


@mutant(Towns("tokens only grow"))
def enabling_gives_the_standing_back(plant: Planter) -> None:
    """Disabled, then enabled: the place is where it was before."""

    def give_back(ledger, row):
        if row.live and not row.standing_since:
            ledger._put(register.replace(row, revision=ledger._next(), standing_since=row.incarnation))

    plant.edit(
        register.Ledger._apply_mark,
        "if not (write.expelled or write.forced_down or write.disabled is not None):",
        "if not (write.expelled or write.forced_down or write.disabled is not None or give_back(self, row)):",
        give_back=give_back,
    )


@mutant(Law("disabling_ends_the_standing"))
def a_mark_leaves_the_standing(plant: Planter) -> None:
    """Who is disabled or forced down goes on leading."""
    plant.edit(register.Ledger._apply_mark, "elif row.standing_since or row.shards:", "elif False:")


@mutant(Towns("order", "tokens only grow", scenes=("deleted_and_made_again",), seeds=FEW))
def the_revision_restarts_with_a_group(plant: Planter) -> None:
    """Who deletes a group does not raise the floor, and its tokens are given out again."""
    plant.edit(memory.MemoryStore.delete_group, "server.floor = max(server.floor, found.revision)", "pass")


@mutant(Towns("order", "tokens only grow", scenes=("forgets_everything",), seeds=FEW))
def a_store_that_forgot_begins_below(plant: Planter) -> None:
    """The epoch comes again."""
    plant.edit(
        memory.MemoryServer.begin,
        'max(getattr(self, "epoch", 0), int(self.wall()) - 1735689600) + 1',
        "1",
    )


@mutant(Law("two_stands_in_one_commit_get_two_tokens"))
def one_revision_for_a_commit(plant: Planter) -> None:
    """All that one commit writes has the same number: the same token twice fences nobody."""

    def step(ledger):
        if not ledger.rows and not ledger.removed and not ledger.marks:
            ledger.revision += 1

    plant.edit(register.Ledger._next, "self.revision += 1", "step(self)", step=step)


@mutant(Towns("order", scenes=("late_amend",), seeds=FEW))
def an_amend_does_not_name_what_it_has_seen(plant: Planter) -> None:
    """A late amend undoes a newer one."""
    plant.edit(
        register.Ledger._amend,
        "if not self._is(row, write) or row is None or",
        "if row is None or row.incarnation != write.incarnation or",
    )


@mutant(Law("a_goodbye_names_what_it_has_seen"))
def a_goodbye_does_not_name_the_life(plant: Planter) -> None:
    """A late goodbye ends the next life too."""
    plant.edit(register.Ledger._withdraw, "if not self._is(row, write) or row is None:", "if row is None:")


@mutant(Towns("final", scenes=("late_amend",), seeds=FEW))
def an_amend_revives_the_dead(plant: Planter) -> None:
    """An amend names the life, and nothing else: one that lands after the end makes the row up again."""
    plant.edit(
        register.Ledger._amend,
        "if not self._is(row, write) or row is None or not row.live or foreign:",
        "if row is None or row.incarnation != write.incarnation or foreign:",
    )
    plant.edit(
        register.Ledger._amend, "if row.session and not self._records.alive(row.session):", "if False:"
    )
    plant.edit(register.Ledger._amend, "State.UP if write.present else row.state", "State.UP")


@mutant(Towns("capabilities", "always led"))
def who_is_not_ready_stands(plant: Planter) -> None:
    """An application that does not vouch for itself goes on leading."""
    plant.edit(register.Ledger._amend, "may_stand = may_hold and ready", "may_stand = may_hold")


@mutant(Law("who_is_expelled_is_barred_until_that_is_lifted"))
def who_was_expelled_enters_again(plant: Planter) -> None:
    """The register does not mind the mark."""
    plant.edit(register.Ledger._enter, "if mark is not None and mark.expelled:", "if False:")


@mutant(Law("a_lock_has_a_row_for_each_acquire", by=ValueError))
def a_lock_row_for_a_member(plant: Planter) -> None:
    """The second thread of a member that asks for a lock is given the row of the first, and holds it too."""

    def shared(ledger, write):
        held = ledger.rows_of(write.member_id) if write.mode else []
        ledger.rows.update({row.key: row for row in held})
        return bool(held)

    plant.edit(
        register.Ledger._enter,
        "rival = self._rival(write)",
        "rival = None\n    if shared(self, write):\n        return None",
        shared=shared,
    )


@mutant(Law("who_lapses_loses_its_place"))
def a_lapse_keeps_the_shards(plant: Planter) -> None:
    """Two own a shard when its old owner beats again."""
    plant.edit(
        register.Ledger.lapse,
        "_ended(row, State.SUSPECT, self._next(), self._now)",
        "replace(row, state=State.SUSPECT, revision=self._next(), standing_since=0, since=self._now)",
    )


@mutant(Law("a_claimed_shard_is_not_empty"))
def a_claimed_shard_is_free(plant: Planter) -> None:
    """Whoever takes a shard looks at the rows, and not at who may still act on one."""
    plant.edit(
        register._holds,
        "for holder in records.holding()",
        "for holder in records.holding() if hasattr(holder, 'state')",
    )
