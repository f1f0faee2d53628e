"""What the values say of themselves."""

from datetime import UTC, datetime

import pytest

from headcount.model import Mark, Member, Row, State, Status, Tick, View, hidden, when


def member(status: Status = Status.UP, **more) -> Member:
    return Member(group_id="g", member_id="a", incarnation=1, status=status, since=when(0.0), **more)


@pytest.mark.parametrize(
    ("status", "present", "usable"),
    [
        (Status.UP, True, True),
        (Status.SUSPECT, True, False),
        (Status.UNREADY, False, False),
        (Status.DOWN, False, False),
        (Status.LEFT, False, False),
    ],
)
def test_a_suspect_is_a_member_but_gets_no_work(status, present, usable):
    """Not to report it dead is the guard's point; to rely on it would be another thing."""
    assert (member(status).present, member(status).usable) == (present, usable)


def test_a_disabled_member_is_here_and_gets_no_work():
    """Also where the operator gave no reason."""
    assert member(disabled="").present
    assert not member(disabled="").usable


def test_forced_down_is_not_here():
    """Whatever its session says."""
    assert not member(forced_down=True).present
    assert not member(forced_down=True).usable


def test_a_view_lists_the_present_in_order_of_names():
    """All known members are in it; `up` are those that are here."""
    members = {name: member(status) for name, status in (("b", Status.UP), ("a", Status.DOWN))}
    view = View("g", 1, members, confirmed=[0.0], now=lambda: 0.0)

    assert list(view) == ["b", "a"]
    assert view.up == (members["b"],)
    assert view.up is view.up


def test_the_age_of_a_view_is_never_negative():
    """A confirmation may be of a moment ago by a clock that was read later."""
    now = [5.0]
    view = View("g", 1, {}, confirmed=[4.0], now=lambda: now[0])
    assert view.age == 1.0

    now[0] = 3.0
    assert view.age == 0.0


def test_a_view_tells_what_it_is():
    """For logs and the prompt."""
    view = View("g", 7, {"a": member()}, leader=member(), confirmed=[0.0], now=lambda: 0.0)

    assert repr(view) == "<View of 'g' at 7: 1 known, leader 'a'>"


def test_only_live_rows_have_somebody_behind_them():
    """A suspect may still beat again; from down nobody comes back."""
    fields = {"key": "a", "member_id": "a", "incarnation": 1, "revision": 1}
    live = {
        state: Row(**fields, state=state, session="s", instance="i", host="h").live  # type: ignore[arg-type]
        for state in State
    }

    assert live == {State.UP: True, State.SUSPECT: True, State.DOWN: False, State.LEFT: False}


@pytest.mark.parametrize("mark", [{"disabled": ""}, {"forced_down": True}, {"expelled": True}])
def test_each_mark_bars_from_standing(mark):
    """Also a disable without a reason."""
    assert Mark(member_id="a", revision=1, **mark).bars_standing
    assert not Mark(member_id="a", revision=1).bars_standing


def test_ticks_are_compared_within_an_epoch():
    """The number alone says nothing: another history may have had it too."""
    assert Tick(epoch=1, number=5).at != Tick(epoch=2, number=5).at


def test_hidden_groups_have_names_that_nobody_can_choose():
    """Ids are printable; theirs are not."""
    assert hidden("\x1flock/g/x")
    assert not hidden("lock/g/x")


def test_times_for_people_bear_their_zone():
    """Hosts differ."""
    assert when(0.0) == datetime(1970, 1, 1, tzinfo=UTC)
