"""Coming back, and not coming back: who may follow whom under a name, and who asks for ever."""

from __future__ import annotations

from headcount.core import agent, membership
from tests.mutants.hunting import FEW, MANY, Towns, mutant
from tests.mutants.planting import Planter


@mutant(Towns("coming back"))
def who_comes_back_asks_nobody(plant: Planter) -> None:
    """A zombie supersedes its successor."""
    plant.edit(membership.Membership._may_pass, "return row.incarnation <= self.newest_own", "return True")


@mutant(Towns("nobody is locked out", seeds=MANY))
def only_the_newest_known_life_comes_back(plant: Planter) -> None:
    """An enter whose answer was lost is taken for a stranger: the process is locked out by itself."""
    plant.edit(
        membership.Membership._aliens,
        "row.instance != self.me.instance",
        "row.incarnation not in (self.incarnation, self.newest_own)",
    )
    plant.edit(
        membership.Membership._face,
        "if row is not None and row.live and row.instance == self.me.instance:",
        "if row is not None and self.phase is Phase.JOINED and self.ours:",
    )


@mutant(Towns("nobody is locked out", "it stops"))
def a_superseded_zombie_asks_for_ever(plant: Planter) -> None:
    """It is told that it has been followed, and tries again."""
    plant.edit(
        membership.Membership._refuse,
        "if self._returning:",
        "if self._returning:\n        self._must_look = True\n        return\n    if False:",
    )


@mutant(Towns("nobody is locked out", scenes=("rival",), seeds=FEW))
def a_name_is_taken_from_another_host(plant: Planter) -> None:
    """Whoever asks for a name gets it, though its owner lives elsewhere."""
    plant.edit(membership.Membership._may_pass, "row.host == self.me.host and ", "")


@mutant(Towns("nobody is locked out"))
def who_lost_its_session_does_not_come_back(plant: Planter) -> None:
    """A new session is opened, and no group is entered again."""
    plant.edit(agent.Agent.lost, "membership.session_lost()", "pass")


@mutant(Towns("nobody is locked out"))
def a_lost_session_is_taken_up_again(plant: Planter) -> None:
    """The next session has the same id, which the store has fenced for ever."""
    plant.edit(agent.Agent.next_session, "id=self._fresh()", "id=f's-{self.me.instance}'")


@mutant(Towns("leaving is leaving", scenes=("late_enter_of_who_does_not_watch",), seeds=FEW))
def a_commit_given_up_is_never_looked_for(plant: Planter) -> None:
    """It may be written later, and whoever does not watch the group does not learn of it."""
    plant.edit(membership.Membership.doubted, "self._looks = LOOKS", "pass")


@mutant(Towns("it stops", "leaving is leaving"))
def a_goodbye_leaves_the_session(plant: Planter) -> None:
    """Who closes withdraws its rows, and its session stays until it expires."""
    plant.edit(agent.Agent.gone, "return self.closing and", "return False and")
