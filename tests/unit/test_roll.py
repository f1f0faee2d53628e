"""A view takes over the members that an earlier view has made; never one to whom something happened since."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headcount.core.replica import Replica, member_of
from headcount.model import Delta, Mark, Row, Snapshot, State

NAMES = "abcdefghij"


def row(name: str, revision: int) -> Row:
    return Row(
        key=name,
        member_id=name,
        incarnation=revision,
        revision=revision,
        state=State.UP,
        session="s",
        instance="i",
        host="h",
        ttl=10.0,
        capabilities=b"%d" % revision,
    )


happenings = st.lists(
    st.tuples(
        st.sampled_from(["write", "forget", "mark", "unmark"]),
        st.sampled_from(NAMES),
        st.sampled_from(["", NAMES[:2], NAMES]),
    ),
    min_size=1,
    max_size=40,
)


@given(happenings)
def test_whatever_was_looked_at_before_a_view_shows_its_own_members(story):
    """Against the records as they are at each revision: looked at now and then, and all at the end."""
    replica = Replica("g", lambda: 0.0)
    rows, marks = {}, {}
    replica.apply(Snapshot(group="g", revision=1), 0.0)
    kept = []
    for revision, (what, name, looks) in enumerate(story, start=2):
        new: dict[str, tuple] = {}
        if what == "write":
            rows[name] = row(name, revision)
            new = {"rows": (rows[name],)}
        elif what == "mark":
            marks[name] = Mark(member_id=name, revision=revision, disabled=str(revision))
            new = {"marks": (marks[name],)}
        elif what == "forget":
            rows.pop(name, None)
            new = {"removed": (("row", name),)}
        elif what == "unmark":
            marks.pop(name, None)
            new = {"removed": (("mark", name),)}
        replica.apply(Delta(group="g", after=revision - 1, revision=revision, **new), 0.0)
        view = replica.view
        assert view is not None
        for looked in looks:
            view.get(looked)
        kept.append((view, dict(rows), dict(marks)))
    for view, had_rows, had_marks in kept:
        expected = {
            name: member_of("g", name, [had_rows[name]] if name in had_rows else [], had_marks.get(name))
            for name in had_rows.keys() | had_marks.keys()
        }
        assert dict(view) == expected
