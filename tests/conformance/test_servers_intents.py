"""What PostgreSQL and MySQL share: what is asked of a busy group is carried out by whoever gets its turn.

So there is somebody else's hand in every answer, and it must be as if there was none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import pytest

import headcount
from headcount.errors import (
    AccessDenied,
    ConfigError,
    GroupNotFound,
    HeadcountError,
    OutcomeUnknown,
    StoreUnavailable,
)
from headcount.model import Committed, Remark
from headcount.stores.sql.commit import INTENTS, Commit
from headcount.stores.sql.intents import WANTED, read_outcomes
from tests.conformance.places import Place, meanwhile

AddIntent = Callable[..., None]


def remark(member_id: str) -> Remark:
    return Remark(member_id=member_id, seen=0, disabled="go")


def marked(place: Place) -> set[str]:
    return {mark.member_id for mark in place.store.read("web").marks}


def waiting(place: Place) -> int:
    """How many have asked for something, and have not gone yet."""
    return int(place.ask("SELECT count(*) FROM hc.intents")[0][0])


# ── what was not to be ──


def test_what_was_refused_is_never_carried_out(place: Place, crowded: None) -> None:
    """The group is deleted while somebody waits for it, and made again. What was asked of the old one, and
    answered with an error, does not happen to the new one."""
    with place.holding("lock_floor") as deletion:
        ((group, *_),) = deletion.all("group_locked", "web")
        asked = meanwhile(lambda: place.store.commit("web", [remark("ann")]))
        while not waiting(place):
            assert not asked.done()
        deletion.run("drop_group", group)
    with pytest.raises(GroupNotFound):
        asked.result(10)
    assert waiting(place) == 0
    place.other.create_group("web")
    place.other.commit("web", [remark("bob")])
    assert marked(place) == {"bob"}


@pytest.mark.parametrize("error", [AccessDenied, StoreUnavailable, OutcomeUnknown])
def test_what_ended_in_an_error_is_never_carried_out(
    place: Place, crowded: None, monkeypatch: pytest.MonkeyPatch, error: type[HeadcountError]
) -> None:
    """Whatever error it is. Else what was given up happens when somebody else comes along."""

    def fails(*_: object) -> NoReturn:
        raise error("no")

    with monkeypatch.context() as patch:
        patch.setattr(Commit, "_turn", fails)
        with pytest.raises(error):
            place.store.commit("web", [remark("ann")])
    assert waiting(place) == 0
    place.other.commit("web", [remark("bob")])
    assert marked(place) == {"bob"}


def test_what_was_asked_long_ago_is_not_carried_out(
    place: Place, crowded: None, add_intent: AddIntent
) -> None:
    """Who asked has died, and could not take it back. Who waits for it now would be surprised."""
    add_intent(remark("ann"))
    age(place)
    add_intent(remark("bob"))
    place.other.commit("web", [remark("cid")])
    assert marked(place) == {"bob", "cid"}


def test_however_long_it_took_ones_own_is_carried_out(place: Place, crowded: None) -> None:
    """By oneself, who is there to hear of it."""
    with place.holding("group_locked", "web"):
        asked = meanwhile(lambda: place.store.commit("web", [remark("ann")]))
        while not waiting(place):
            assert not asked.done()
        age(place)
    assert isinstance(asked.result(10), Committed)
    assert marked(place) == {"ann"}


def age(place: Place) -> None:
    """As if all that is waiting had been asked before anybody still wants it."""
    seconds = f"{WANTED + 1:g}"
    interval = f"'{seconds} s'" if place.kind == "postgresql" else f"{seconds} SECOND"
    place.change(f"UPDATE hc.intents SET at = at - INTERVAL {interval}")


# ── what is, all the same ──


def test_what_somebody_has_carried_out_is_answered(
    place: Place, crowded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the turn itself went wrong: the answer is there, so nobody is told that it is unknown."""
    turn = Commit._turn

    def overtaken(*_: object) -> NoReturn:
        monkeypatch.setattr(Commit, "_turn", turn)
        place.other.commit("web", [remark("bob")])
        raise StoreUnavailable("cut off")

    monkeypatch.setattr(Commit, "_turn", overtaken)
    assert isinstance(place.store.commit("web", [remark("ann")]), Committed)
    assert marked(place) == {"ann", "bob"}
    assert waiting(place) == 0


def test_ones_own_is_carried_out_however_many_wait(
    place: Place, crowded: None, add_intent: AddIntent
) -> None:
    """More than go together in one transaction, and all of them were there before."""
    names = [f"m{number:03}" for number in range(INTENTS + 1)]
    add_intent(*map(remark, names))
    assert isinstance(place.store.commit("web", [remark("ann")]), Committed)
    assert marked(place) == {"ann", *names[: INTENTS - 1]}
    assert isinstance(place.store.commit("web", [remark("bob")]), Committed)
    assert marked(place) == {"ann", "bob", *names}


@pytest.mark.parametrize(
    "wish",
    [
        msgspec.msgpack.encode([[[("Promise", {"member_id": "ann"})], [], ""]]),
        msgspec.msgpack.encode([[[("Remark", {"member_id": 7, "seen": 0})], [], ""]]),
        msgspec.msgpack.encode([[[("Remark", {"member_id": "ann", "seen": 0, "softly": True})], [], ""]]),
        msgspec.msgpack.encode([[[("Remark", "ann")], [], ""]]),
        msgspec.msgpack.encode([[[], [], "", "more"]]),
        msgspec.msgpack.encode(7),
        b"\xc1",
    ],
    ids=[
        "another-kind",
        "another-type",
        "more-fields",
        "no-fields",
        "more-than-three",
        "a-number",
        "no-msgpack",
    ],
)
def test_what_is_not_understood_holds_nobody_up(place: Place, crowded: None, add_intent, wish: bytes) -> None:
    """It was asked by another release, which will carry it out itself. Those before and after it are carried
    out."""
    add_intent(remark("ann"))
    add_intent(wish)
    add_intent(remark("bob"))
    assert isinstance(place.store.commit("web", [remark("cid")]), Committed)
    assert marked(place) == {"ann", "bob", "cid"}
    assert place.ask("SELECT count(*) FROM hc.intents WHERE outcome IS NULL")[0][0] == 1


def test_what_a_later_release_adds_to_an_answer_is_passed_over() -> None:
    """It was carried out; but what is no answer at all leaves it open whether it was."""
    outcome = {"revision": 7, "rows": [], "claims": [], "weather": "fine"}
    assert read_outcomes(msgspec.msgpack.encode([("Committed", outcome)])) == [Committed(revision=7)]
    for answer in (b"\xc1", msgspec.msgpack.encode([("Promised", {})]), msgspec.msgpack.encode(7)):
        with pytest.raises(OutcomeUnknown):
            read_outcomes(answer)


# ── what nobody can store ──

UNSTORABLE = ["nul \0 here", "a lone \ud800"]


@pytest.mark.parametrize("reason", UNSTORABLE, ids=["nul", "surrogate"])
def test_a_reason_that_servers_cannot_store_is_refused(place: Place, reason: str) -> None:
    """Before it waits among what others carry out, and where the error says what is wrong."""
    refuse(place.url, reason)
    assert waiting(place) == 0


@pytest.mark.parametrize("reason", UNSTORABLE, ids=["nul", "surrogate"])
@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/headcount.db"], ids=["memory", "sqlite"])
def test_a_reason_that_no_server_can_store_is_refused_everywhere(
    tmp_path: Any, url: str, reason: str
) -> None:
    """So that whoever changes the store does not meet it then."""
    refuse(url.format(tmp_path), reason)


def refuse(url: str, reason: str) -> None:
    with headcount.connect(url, member_id="ann") as ann:
        group = ann.join_group("db", create=True)
        with pytest.raises(ConfigError, match="UTF-8"):
            group.mark("bob", disabled=reason)
        group.mark("bob", disabled="worn out – schön")
