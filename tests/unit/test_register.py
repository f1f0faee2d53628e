"""The law of the register, by itself: what each write is refused for, and what it leaves behind.

No store is needed for it: a `Book` holds the records of one group, and `live` names the sessions that
have not been lost. The conformance suite asks the same of whole stores, where time and other clients
come in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headcount.model import (
    Amend,
    Claim,
    Empty,
    Enter,
    Mark,
    Refusal,
    Refused,
    Remark,
    Row,
    Standing,
    Stands,
    State,
    Unchanged,
    Vacate,
    Withdraw,
)
from headcount.register import Ledger, apply


@dataclass
class Book:
    """The records of one group, and what commits do to them."""

    rows: dict[str, Row] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    live: set[str] = field(default_factory=lambda: {"s1", "s2"})
    revision: int = 100
    now: float = 1.0

    def row(self, key):
        return self.rows.get(key)

    def rows_of(self, member_id):
        return [row for row in self.rows.values() if row.member_id == member_id]

    def mark(self, member_id):
        return self.marks.get(member_id)

    def claim(self, key):
        return self.claims.get(key)

    def claims_of(self, member_id):
        return [claim for claim in self.claims.values() if claim.member_id == member_id]

    def holding(self):
        live = [row for row in self.rows.values() if row.live and row.shards]
        return [*live, *(claim for claim in self.claims.values() if claim.shards)]

    def alive(self, session):
        return session in self.live

    def ledger(self) -> Ledger:
        return Ledger(self, "town", self.revision, self.now)

    def keep(self, ledger: Ledger) -> Ledger:
        self.revision = ledger.revision
        kept: list[tuple[dict[str, Any], Mapping[str, Any]]] = [
            (self.rows, ledger.rows),
            (self.marks, ledger.marks),
            (self.claims, ledger.claims),
        ]
        for here, changes in kept:
            for key, record in changes.items():
                if record is None:
                    here.pop(key, None)
                else:
                    here[key] = record
        return ledger

    def commit(self, *writes, by="", expect=(), unclocked=False) -> Ledger:
        done = apply(
            self, "town", writes, expect, revision=self.revision, now=self.now, by=by, unclocked=unclocked
        )
        assert isinstance(done, Ledger), done
        return self.keep(done)

    def refusal(self, *writes, by="", expect=()) -> Refused:
        done = apply(self, "town", writes, expect, revision=self.revision, now=self.now, by=by)
        assert isinstance(done, Refused)
        return done

    def enter(self, key="ann", session="s1", **more) -> Row:
        self.commit(entering(key, session, **more), by=session)
        return self.rows[key]

    def amend(self, key="ann", **changes) -> Row:
        row = self.rows[key]
        self.commit(amending(row, **changes), by=row.session)
        return self.rows[key]


def entering(key="ann", session="s1", **more) -> Enter:
    about = {"member_id": key.partition("/")[0], "seen": 0, "host": "here", **more}
    return Enter(key=key, session=session, instance=f"instance of {session}", ttl=10, **about)


def amending(row, **changes) -> Amend:
    return Amend(key=row.key, incarnation=row.incarnation, seen=row.revision, **changes)


def withdrawing(row, **how) -> Withdraw:
    return Withdraw(key=row.key, incarnation=row.incarnation, seen=row.revision, **how)


@pytest.fixture
def book() -> Book:
    return Book()


# ── enter ──


def test_an_enter_is_numbered_by_its_revision(book):
    """Incarnation and token are the revision of the row, which is the next one."""
    row = book.enter()

    assert (row.revision, row.incarnation, row.standing_since) == (101, 101, 101)


@pytest.mark.parametrize("how", [{"stand": False}, {"ready": False}])
def test_who_cannot_or_will_not_stand_has_no_token(book, how):
    """Nobody is made a candidate against its will or its readiness."""
    assert book.enter(**how).standing_since == 0


def test_an_enter_of_a_lost_session_is_refused(book):
    """Its row would be up, and nobody would ever expire it."""
    assert book.refusal(entering(session="lost"), by="lost").reason is Refusal.FENCED


def test_a_row_of_nobody_needs_no_session(book):
    """A plan outlives whoever writes it."""
    assert book.enter("plan", session="").session == ""


@pytest.mark.parametrize("seen", [0, 99, 102])
def test_an_enter_over_another_row_than_the_one_seen_is_refused(book, seen):
    """And is told which one is there."""
    row = book.enter()
    refused = book.refusal(entering(session="s2", seen=seen), by="s2")

    assert (refused.reason, refused.row) == (Refusal.STALE, row)


def test_the_expelled_are_barred(book):
    """Until the mark is lifted."""
    book.commit(Remark(member_id="ann", seen=0, expelled=True))
    assert book.refusal(entering(), by="s1").reason is Refusal.BARRED

    book.commit(Remark(member_id="ann", seen=book.marks["ann"].revision))
    assert book.enter().live


@pytest.mark.parametrize("mark", [{"disabled": ""}, {"forced_down": True}])
def test_the_marked_enter_without_standing(book, mark):
    """Also if the mark is there before they ever were, and if its reason is empty."""
    book.commit(Remark(member_id="ann", seen=0, **mark))

    assert book.enter().standing_since == 0


@pytest.mark.parametrize("mark", [{"disabled": ""}, {"forced_down": True}])
def test_the_marked_own_no_shards(book, mark):
    """Also if the mark left their row as it was, so that an amend under way still fits it."""
    row = book.enter(stand=False)
    book.commit(Remark(member_id="ann", seen=0, **mark))
    assert book.rows["ann"] == row
    assert book.amend(shards=frozenset({1})).shards == frozenset()

    assert book.enter(seen=row.revision, shards=frozenset({1})).shards == frozenset()


def test_a_member_has_no_second_row(book):
    """Whoever enters it under another key is told which row stands in the way."""
    row = book.enter("ann")

    assert book.refusal(entering("ann/2", "s2"), by="s2").row == row


def test_sharers_of_one_host_tolerate_one_another(book):
    """And nobody else: not those of other hosts, and not one that does not share."""
    book.enter("ann/1", share=True)
    book.enter("ann/2", session="s2", share=True)

    assert book.refusal(entering("ann/3", share=True, host="there"), by="s1").reason is Refusal.STALE
    assert book.refusal(entering("ann"), by="s1").reason is Refusal.STALE


def test_a_sharer_does_not_tolerate_one_that_does_not_share(book):
    """A row under the member's own name is one that shares with nobody."""
    book.enter("ann")

    assert book.refusal(entering("ann/1", "s2", share=True), by="s2").key == "ann"


def test_rivals_are_taken_away_by_name(book):
    """In the same commit, which is seen by the enter behind it."""
    rows = [book.enter("ann/1", share=True), book.enter("ann/2", share=True)]
    book.commit(*map(withdrawing, rows), entering(session="s2", host="there"), by="s2")

    assert [key for key, row in book.rows.items() if row.live] == ["ann"]


def test_locks_know_no_rivals(book):
    """One member may hold, and wait, in several threads; a lock's row is no rival to the member's own."""
    book.enter("ann/1", mode="exclusive")
    book.enter("ann/2", mode="exclusive")

    assert book.enter("ann").live


def test_two_stands_in_one_commit_have_two_tokens(book):
    """The same token twice would fence nobody."""
    book.commit(entering("ann"), entering("bob"), by="s1")

    assert book.rows["ann"].standing_since < book.rows["bob"].standing_since == book.revision


def test_a_life_begins_without_the_past(book):
    """Capabilities, shards and the token of the last life are gone."""
    first = book.enter(capabilities=b"old", shards=frozenset({1}))
    second = book.enter(seen=first.revision)

    assert (second.capabilities, second.shards) == (b"", frozenset())
    assert second.incarnation > first.incarnation


# ── amend ──


@pytest.mark.parametrize(
    "change", [{"seen": 99}, {"seen": 102}, {"incarnation": 99}, {"key": "bob"}], ids=lambda c: str(c)
)
def test_an_amend_of_another_row_than_the_one_seen_is_refused(book, change):
    """Late, doubled or guessed: it must not touch a newer row."""
    row = book.enter()
    message = {"key": "ann", "incarnation": row.incarnation, "seen": row.revision, **change}

    assert book.refusal(Amend(**message, capabilities=b"x"), by="s1").reason is Refusal.STALE


@pytest.mark.parametrize("by", ["s2", ""])
def test_only_the_owner_amends(book, by):
    """Others take the row away, or leave it."""
    assert book.refusal(amending(book.enter(), capabilities=b"x"), by=by).reason is Refusal.STALE


def test_anybody_amends_what_is_nobodys(book):
    """The next leader writes over the plan of the last."""
    plan = book.enter("plan", session="")
    book.commit(amending(plan, capabilities=b"new"), by="s2")

    assert book.rows["plan"].capabilities == b"new"


def test_an_amend_of_a_lost_session_is_refused(book):
    """Also before its row has been marked down."""
    row = book.enter()
    book.live.remove("s1")

    assert book.refusal(amending(row, capabilities=b"x"), by="s1").reason is Refusal.FENCED


def test_the_dead_amend_nothing(book):
    """A row that has ended begins again by an enter, in another life."""
    book.commit(withdrawing(book.enter()), by="s1")

    assert book.refusal(amending(book.rows["ann"], present=True), by="s1").reason is Refusal.STALE


def test_an_amend_that_changes_nothing_takes_no_revision(book):
    """Nobody has to read what has not changed; standing while standing is nothing new."""
    row = book.enter(capabilities=b"x", shards=frozenset({1}))
    before = book.revision
    ledger = book.commit(
        amending(row, capabilities=b"x", ready=True, shards=frozenset({1}), standing=Standing.STAND), by="s1"
    )

    assert (book.revision, ledger.entries, ledger.rows) == (before, [], {})


def test_to_stand_again_is_to_stand_behind(book):
    """After resigning, or by standing anew: with a new token, above all others."""
    first, second = book.enter("ann"), book.enter("bob")
    assert book.amend("ann", standing=Standing.RESIGN).standing_since == 0
    third = book.amend("ann", standing=Standing.STAND)
    fourth = book.amend("ann", standing=Standing.ANEW)

    tokens = [row.standing_since for row in (first, second, third, fourth)]
    assert tokens == sorted(set(tokens))


def test_unreadiness_ends_a_standing_for_good(book):
    """Being ready again does not bring the token back."""
    book.enter()
    book.amend(ready=False)

    assert book.amend(ready=True).standing_since == 0


def test_the_unready_do_not_stand(book):
    """Whatever they ask for."""
    book.enter(ready=False)

    assert book.amend(standing=Standing.STAND).standing_since == 0
    assert book.amend(standing=Standing.ANEW).standing_since == 0


def test_the_disabled_do_not_stand_and_the_enabled_stand_anew(book):
    """Disable then enable keeps no token."""
    first = book.enter()
    book.commit(Remark(member_id="ann", seen=0, disabled=""))
    assert book.amend(standing=Standing.STAND).standing_since == 0
    book.commit(Remark(member_id="ann", seen=book.marks["ann"].revision))
    assert book.rows["ann"].standing_since == 0

    assert book.amend(standing=Standing.STAND).standing_since > first.standing_since


def test_since_moves_with_the_status_only(book):
    """New capabilities are not a new status; being unready is."""
    book.enter()
    book.now = 2.0
    assert book.amend(capabilities=b"x").since == 1.0
    assert book.amend(ready=False).since == 2.0


# ── withdraw ──


def test_an_own_goodbye_frees_the_place(book):
    """Left, without standing, shards, claim or notice."""
    ledger = book.commit(withdrawing(book.enter(shards=frozenset({1}))), by="s1")
    row = book.rows["ann"]

    assert (row.state, row.standing_since, row.shards) == (State.LEFT, 0, frozenset())
    assert (book.claims, ledger.notices) == ({}, set())


def test_a_goodbye_to_another_row_than_the_one_seen_is_refused(book):
    """Also to one that is not there."""
    row = book.enter()
    book.amend(capabilities=b"x")

    assert book.refusal(withdrawing(row), by="s1").reason is Refusal.STALE
    assert book.refusal(Withdraw(key="bob", incarnation=0, seen=0), by="s1").reason is Refusal.STALE


def test_the_forgotten_leave_a_tombstone(book):
    """With a revision of its own, so that a delta can tell of it."""
    ledger = book.commit(withdrawing(book.enter(), forget=True), by="s1")

    assert (book.rows, ledger.removed) == ({}, {("row", "ann"): book.revision})


def test_a_tombstone_goes_when_the_key_is_there_again(book):
    """Within one commit: forgotten and entered is entered."""
    ledger = book.commit(withdrawing(book.enter(), forget=True), entering(), by="s1")

    assert ledger.removed == {}
    assert book.rows["ann"].live


def test_to_withdraw_the_dead_changes_nothing(book):
    """Unless they are to be forgotten."""
    book.commit(withdrawing(book.enter()), by="s1")
    before = book.revision
    book.commit(withdrawing(book.rows["ann"]), by="s1")
    assert book.revision == before

    book.commit(withdrawing(book.rows["ann"], forget=True))
    assert book.rows == {}


# ── taking away ──


TAKE = {
    "enter": lambda row: (entering(session="s2", seen=row.revision), "s2"),
    "withdraw": lambda row: (withdrawing(row), "s2"),
    "forget": lambda row: (withdrawing(row, forget=True), ""),
    "disable": lambda row: (Remark(member_id="ann", seen=0, disabled=""), ""),
    "force down": lambda row: (Remark(member_id="ann", seen=0, forced_down=True), ""),
    "expel": lambda row: (Remark(member_id="ann", seen=0, expelled=True), ""),
}


@pytest.mark.parametrize("take", TAKE.values(), ids=TAKE.keys())
def test_a_place_that_is_taken_away_becomes_a_claim(book, take):
    """With the old standing and shards; and its owner is told, in the same commit."""
    row = book.enter(shards=frozenset({1, 2}))
    write, by = take(row)
    ledger = book.commit(write, by=by)
    (claim,) = book.claims.values()

    assert (claim.row, claim.incarnation, claim.session) == ("ann", row.incarnation, "s1")
    assert (claim.standing_since, claim.shards) == (row.standing_since, {1, 2})
    assert ledger.notices == {"s1"}


@pytest.mark.parametrize("take", TAKE.values(), ids=TAKE.keys())
def test_nothing_taken_away_no_claim(book, take):
    """A row without a place leaves none; its owner is told nevertheless."""
    write, by = take(book.enter(stand=False))
    ledger = book.commit(write, by=by)

    assert (book.claims, ledger.notices) == ({}, {"s1"})


@pytest.mark.parametrize("take", TAKE.values(), ids=TAKE.keys())
def test_the_dead_have_no_claims(book, take):
    """Nobody trusts a place any more whose session is lost, so that nobody has to wait for it."""
    row = book.enter(shards=frozenset({1}))
    book.live.remove("s1")
    write, by = take(row)
    book.commit(write, by=by)

    assert book.claims == {}


@pytest.mark.parametrize("take", TAKE.values(), ids=TAKE.keys())
def test_nobody_claims_against_itself(book, take):
    """What the owner does to its own row needs no waiting, and is no news to it."""
    write, _ = take(book.enter())
    if isinstance(write, Enter):
        write = entering(seen=write.seen)
    ledger = book.commit(write, by="s1")

    assert (book.claims, ledger.notices) == ({}, set())


@pytest.mark.parametrize(
    "write",
    [
        lambda row: withdrawing(row, fenced=True),
        lambda row: Remark(member_id="ann", seen=0, forced_down=True, fenced=True),
    ],
)
def test_the_fenced_leave_no_claim(book, write):
    """An operator knows the owner to be dead, and that is recorded."""
    ledger = book.commit(write(book.enter()))

    assert (book.claims, ledger.notices) == ({}, {"s1"})
    assert "fenced" in ledger.entries[-1].detail


def test_fencing_later_removes_the_claims_there_are(book):
    """Of this member alone, also if the mark stays as it was; that is recorded too."""
    for key in ("ann", "bob"):
        book.enter(key)
        book.commit(Remark(member_id=key, seen=0, forced_down=True))
    seen = book.marks["ann"].revision
    ledger = book.commit(Remark(member_id="ann", seen=seen, forced_down=True, fenced=True))

    assert [claim.member_id for claim in book.claims.values()] == ["bob"]
    assert "fenced" in ledger.entries[-1].detail


def test_a_place_taken_twice_leaves_two_claims(book):
    """Each with a key of its own."""
    book.enter()
    book.enter(session="s2", seen=book.rows["ann"].revision)
    book.enter(session="s1", seen=book.rows["ann"].revision)

    assert sorted(claim.session for claim in book.claims.values()) == ["s1", "s2"]


def test_the_expelled_have_left(book):
    """Every row of theirs, whatever session it is of."""
    book.enter("ann/1", share=True)
    book.enter("ann/2", session="s2", share=True)
    ledger = book.commit(Remark(member_id="ann", seen=0, expelled=True))

    assert {row.state for row in book.rows.values()} == {State.LEFT}
    assert ledger.notices == {"s1", "s2"}


def test_lifting_a_mark_is_news(book):
    """The row stays as it is, but its owner may want to stand again, and may not be watching."""
    book.enter(stand=False)
    book.commit(Remark(member_id="ann", seen=0, disabled=""))
    ledger = book.commit(Remark(member_id="ann", seen=book.marks["ann"].revision))

    assert (ledger.notices, ledger.rows, book.marks) == ({"s1"}, {}, {})


# ── marks ──


def test_a_mark_other_than_the_one_seen_is_refused(book):
    """Two operators at once do not undo each other unseen."""
    book.commit(Remark(member_id="ann", seen=0, disabled="a"))

    assert book.refusal(Remark(member_id="ann", seen=0, disabled="b")).reason is Refusal.STALE
    assert book.refusal(Remark(member_id="bob", seen=7, disabled="b")).reason is Refusal.STALE


def test_a_mark_that_says_the_same_takes_no_revision(book):
    """Nor does lifting one that is not there."""
    book.commit(Remark(member_id="ann", seen=0, disabled="a"))
    before = book.revision
    book.commit(Remark(member_id="ann", seen=book.marks["ann"].revision, disabled="a"))
    book.commit(Remark(member_id="bob", seen=0))

    assert book.revision == before


# ── vacate ──


@pytest.mark.parametrize("by", ["s2", ""])
def test_only_the_owner_gives_up_a_claim(book, by):
    """Nobody else can know that it has stopped, unless by having waited."""
    book.enter()
    book.commit(Remark(member_id="ann", seen=0, disabled=""))
    (key,) = book.claims
    assert book.refusal(Vacate(claim=key), by=by).reason is Refusal.STALE
    assert book.refusal(Vacate(claim=key, waited=True), by=by).reason is Refusal.STALE

    ledger = book.commit(Vacate(claim=key, waited=True), by=by, unclocked=True)
    assert (book.claims, ledger.removed) == ({}, {("claim", key): book.revision})


def test_a_claim_that_is_gone_is_given_up(book):
    """Acknowledging twice is no mistake, and no change."""
    before = book.revision
    book.commit(Vacate(claim="gone"), by="s1")

    assert book.revision == before


# ── what a sweep does ──


def test_the_expired_are_down(book):
    """Without a place; a lock row is removed, for a lock has no past."""
    book.enter("ann", shards=frozenset({1}))
    book.enter("ann/lock", mode="shared")
    ledger = book.ledger()
    for row in list(book.rows.values()):
        ledger.expire(row)
    book.keep(ledger)

    row = book.rows["ann"]
    assert (row.state, row.standing_since, row.shards) == (State.DOWN, 0, frozenset())
    assert list(book.rows) == ["ann"]


def test_who_is_over_before_its_time_leaves_a_claim(book):
    """Its owner may still trust the place. Who had none leaves nothing; a lock row goes, and is claimed."""
    standing = book.enter("ann", shards=frozenset({1}))
    book.enter("ann/lock", mode="shared")
    book.enter("ben", stand=False)
    ledger = book.ledger()
    for row in list(book.rows.values()):
        ledger.expire(row, early=True)
    book.keep(ledger)

    claims = {claim.row: claim for claim in book.claims.values()}
    assert set(claims) == {"ann", "ann/lock"}
    assert (claims["ann"].standing_since, claims["ann"].shards) == (standing.standing_since, {1})
    assert (claims["ann"].session, claims["ann"].incarnation) == (standing.session, standing.incarnation)
    assert {row.key: row.state for row in book.rows.values()} == {"ann": State.DOWN, "ben": State.DOWN}


def test_the_lapsed_are_suspect_and_told(book):
    """Their place is free, and their locks are gone; failover does not wait for the guard."""
    book.enter("ann", shards=frozenset({1}))
    book.enter("ann/lock", mode="shared")
    ledger = book.ledger()
    for row in list(book.rows.values()):
        ledger.lapse(row)
    book.keep(ledger)

    row = book.rows["ann"]
    assert (row.state, row.standing_since, row.shards) == (State.SUSPECT, 0, frozenset())
    assert (list(book.rows), ledger.notices) == (["ann"], {"s1"})


def test_to_lapse_again_changes_nothing(book):
    """A sweep comes every tick, and a suspect is suspected once."""
    row = book.enter()
    ledger = book.ledger()
    ledger.lapse(row)
    book.keep(ledger)
    again = book.ledger()
    again.lapse(book.rows["ann"])

    assert (again.revision, again.notices, again.rows) == (book.revision, set(), {})


def test_a_suspect_takes_no_shards(book):
    """It has lapsed and does not lapse again: it would keep them for as long as the guard holds it."""
    ledger = book.ledger()
    ledger.lapse(book.enter())
    book.keep(ledger)
    assert book.amend(shards=frozenset({1})).shards == frozenset()

    assert book.amend(shards=frozenset({1}), present=True).shards == {1}


def test_a_suspect_that_is_present_is_up_and_stands_anew(book):
    """Only when it says so itself, with a new token."""
    row = book.enter()
    ledger = book.ledger()
    ledger.lapse(row)
    book.keep(ledger)
    assert book.amend(standing=Standing.STAND).standing_since == 0

    back = book.amend(present=True, standing=Standing.STAND)
    assert (back.state, back.incarnation) == (State.UP, row.incarnation)
    assert back.standing_since > row.standing_since


# ── a commit ──


def test_a_commit_is_refused_as_a_whole(book):
    """Whatever the writes before the refused one would have done."""
    row = book.enter()
    book.refusal(Remark(member_id="ann", seen=0, expelled=True), entering("bob", "lost"))

    assert (book.rows, book.marks) == ({"ann": row}, {})


def test_revisions_go_up_one_by_one(book):
    """Each record that is written has one, and the last is the group's."""
    book.enter(shards=frozenset({1}))
    ledger = book.commit(Remark(member_id="ann", seen=0, disabled=""))
    written = [*ledger.rows.values(), *ledger.marks.values(), *ledger.claims.values()]

    assert sorted(record.revision for record in written if record) == [102, 103, 104]
    assert ledger.revision == 104


@pytest.mark.parametrize(
    ("expect", "met"),
    [
        (Unchanged(key="ann", revision=101), True),
        (Unchanged(key="ann", revision=100), False),
        (Unchanged(key="ann", revision=0), False),
        (Unchanged(key="nobody", revision=0), True),
        (Unchanged(key="nobody", revision=101), False),
        (Stands(key="ann", token=101), True),
        (Stands(key="ann", token=0), False),
        (Stands(key="nobody", token=0), False),
        (Empty(shards=frozenset({3})), True),
        (Empty(shards=frozenset({2, 3})), False),
        (Empty(shards=frozenset()), True),
    ],
    ids=str,
)
def test_what_a_commit_expects(book, expect, met):
    """It is tested before anything is written."""
    book.enter(shards=frozenset({1, 2}))
    done = apply(book, "town", [entering("bob", "s2")], [expect], revision=101, now=1.0, by="s2")

    assert isinstance(done, Ledger) == met
    assert met or (isinstance(done, Refused) and done.reason is Refusal.UNMET)


@pytest.mark.parametrize("state", [State.SUSPECT, State.DOWN, State.LEFT])
def test_only_the_up_stand(book, state):
    """Whatever their row may say of a token."""
    row = book.enter()
    book.rows["ann"] = Row(
        **{name: getattr(row, name) for name in row.__struct_fields__ if name != "state"}, state=state
    )

    assert book.refusal(expect=[Stands(key="ann", token=101)]).reason is Refusal.UNMET


def test_what_is_claimed_is_not_empty(book):
    """Its owner may still act on it."""
    book.enter(shards=frozenset({1}))
    book.commit(Remark(member_id="ann", seen=0, expelled=True))

    assert book.refusal(expect=[Empty(shards=frozenset({1}))]).reason is Refusal.UNMET


def test_the_history_names_who_did_it(book):
    """The session that wrote, or nobody for an operator; and at which revision."""
    row = book.enter()
    ledger = book.commit(Remark(member_id="ann", seen=0, disabled="for a test"))
    (entry,) = ledger.entries

    assert (entry.group, entry.member_id, entry.what, entry.who) == ("town", "ann", "marked", "")
    assert entry.detail == "disabled: for a test"
    assert entry.revision > row.revision
