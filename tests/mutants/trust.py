"""Sessions and trust: who may act on a place, and until when."""

from __future__ import annotations

from headcount import model, register
from headcount.core import agent, heart, leadership, membership, session, watch
from headcount.stores import memory
from tests.mutants.hunting import FEW, MANY, Towns, mutant
from tests.mutants.planting import Planter


@mutant(Towns("accuracy", "one leader"))
def a_deadline_without_the_one_more(plant: Planter) -> None:
    """D is the ttl in ticks, and nothing pays for a beat that lands at the very end of a tick."""
    plant.edit(model.deadline_ticks, "math.ceil(ttl / interval) + 1", "math.ceil(ttl / interval)")


@mutant(Towns("one leader", scenes=("sniper",), seeds=MANY))
def no_margin(plant: Planter) -> None:
    """Trust lasts for the whole ttl, as if all clocks ran at the same rate."""
    plant.edit(session.Presence.taken, "self.ttl - self._margin", "self.ttl")


@mutant(Towns("one leader", scenes=("marks", "hung_watcher", "takeover")))
def trust_in_the_session_instead_of_the_row(plant: Planter) -> None:
    """A beat that was taken is trusted whatever notice it carries: a hung watcher leads for ever."""
    plant.edit(session.Presence.taken, "if notice <= self._notice_read:", "if True:")


@mutant(Towns("one leader", scenes=("storm", "sniper")))
def trust_counted_from_the_answer(plant: Planter) -> None:
    """The time that a beat was under way is trusted too."""
    plant.edit(session.Presence.taken, "until = asked.boot", "until = now.boot")


@mutant(Towns("one leader", seeds=MANY))
def a_beat_without_an_answer_is_counted(plant: Planter) -> None:
    """A beat that was given up, or failed, extends trust as if it had been taken."""
    plant.edit(heart.Heart._failed, "agent.presence.missed(now)", "agent.presence.taken(0, now, now)")


@mutant(Towns("one leader", scenes=("frozen_machine",), seeds=FEW))
def a_frozen_clock_is_trusted(plant: Planter) -> None:
    """Nobody looks whether the time of day ran ahead of the clock while the machine was frozen."""
    plant.edit(session.Presence.trusts, "return (now.wall - now.boot) - skew <= self._margin", "return True")


@mutant(Towns("one leader", "trust", seeds=MANY))
def regained_trust_continues_the_old_term(plant: Planter) -> None:
    """A term goes on after its trust ran out, if a beat is taken before anybody has looked."""
    plant.edit(
        leadership.TermState._believes,
        "(self._generation, self._session) == (self._presence.generation, self._presence.session_id)",
        "self._session == self._presence.session_id",
    )


@mutant(Towns("one leader", scenes=("marks", "hung_watcher"), seeds=MANY))
def a_read_that_was_under_way_clears_a_notice(plant: Planter) -> None:
    """The read was sent before the answer that told the notice, and may not have seen what it was about."""
    plant.edit(session.Presence.read, "self._unread_since is None or asked_at < self._told_at", "False")


@mutant(Towns("one leader", scenes=("blind_in_one_group",), seeds=MANY))
def one_group_read_is_all_read(plant: Planter) -> None:
    """A notice is cleared when the rows of any one group have been read."""
    plant.edit(agent.Agent.looked_at, "return min(", "return max(")


@mutant(Towns("one leader", scenes=("marks", "hung_watcher", "takeover")))
def the_owner_is_not_told(plant: Planter) -> None:
    """Whoever takes a place away raises no notice."""
    plant.edit(register.Ledger._take_away, "self.notices.add(row.session)", "pass")


@mutant(Towns("one leader"))
def a_place_taken_away_is_free_at_once(plant: Planter) -> None:
    """A mark, a takeover or a forget clears the standing and leaves no claim."""
    plant.edit(register.Ledger._take_away, "if not fenced:", "if False:")


@mutant(Towns("one leader", "order"))
def readers_do_not_see_claims(plant: Planter) -> None:
    """The first who stands leads, whoever may still trust an earlier place."""
    plant.edit(
        leadership.leader, "any(0 < claim.standing_since < first.standing_since for claim in claims)", "False"
    )


@mutant(Towns("one leader", mode="sessions", scenes=("hung_watcher",)))
def a_claim_is_waited_out_too_early(plant: Planter) -> None:
    """Where there are no ticks, a claim goes after half of its owner's ttl."""
    plant.edit(watch.Watcher._wait_out, "claim.ttl * 1.02 + 0.5", "claim.ttl / 2")


@mutant(Towns("always led", scenes=("hung_eyes_lead_nobody",), seeds=FEW))
def a_heart_without_eyes_goes_on(plant: Planter) -> None:
    """A session whose watcher hangs, or whose notice is never read, is beaten for ever."""
    plant.edit(session.Presence.blind, "return any(", "return False and any(")


@mutant(Towns("nobody is locked out"))
def a_notice_is_never_read(plant: Planter) -> None:
    """Nobody reads the rows because of a notice; trust is kept back until they happen to be read."""
    plant.edit(watch.Watcher._unread, "return told_at is not None and", "return False and")
    plant.edit(watch.Watcher._members, "agent.presence.unread is not None or ", "")


@mutant(Towns("one leader", scenes=("marks", "hung_watcher", "takeover"), seeds=MANY))
def acknowledged_before_the_term_ended(plant: Planter) -> None:
    """The claim is given up first, and the term ends when the store has answered."""
    plant.edit(
        membership.Membership._face,
        "if self.term is not None and (",
        "if self.term is not None and not self._claims and (",
    )


@mutant(Towns("one leader", scenes=("place_given_up_slowly",), seeds=MANY))
def a_term_ends_after_the_write_that_frees_its_place(plant: Planter) -> None:
    """Who is not ready any more, or stands anew, acts until the store has answered."""
    plant.edit(membership.Membership._amend, 'self.step_down("gave up the place")', "pass")


@mutant(Towns("one leader", scenes=("place_given_up_slowly",), seeds=MANY))
def a_term_outlives_the_goodbye(plant: Planter) -> None:
    """Who leaves acts until the store has answered."""
    plant.edit(membership.Membership.unwant, 'self.step_down("left the group")', "pass")


@mutant(Towns("tokens only grow"))
def a_spent_token_is_taken_up_again(plant: Planter) -> None:
    """A term whose trust ran out begins again, because the register still shows its place."""
    plant.edit(membership.Membership.follow_lead, "row.standing_since <= self._spent or not", "not")


@mutant(Towns("nobody is locked out", "one leader", scenes=("pause", "one_cut_off", "hung_heart")))
def a_fenced_sessions_beat_is_taken(plant: Planter) -> None:
    """The beat looks at its own row, and not at the fence."""
    plant.edit(
        memory.MemoryStore.beat,
        "server.sessions[s].notice if server.alive(s) else None",
        "server.sessions[s].notice if s in server.sessions else None",
    )
