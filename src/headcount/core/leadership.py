"""Who leads: read off the register, never elected.

Among the rows that are up and stand, the one that has stood longest leads, and the revision at which
it stood is its fencing token. Every reader of the same revision names the same leader. Whatever ends
a standing ends it for good, and whoever stands again stands behind all others; so tokens only grow.
While a claim stands before the first stander, nobody leads: somebody may still trust that place.

A term is one such leadership as its owner sees it.

            our row is first, and we trust our session
      ─────────────────────────────────────────────────► trusted
                                                            │  the row lost its place · resigned ·
                                                            │  the session was lost · trust ran out
                                                            ▼
                                                          over, and its token is spent

A spent token is never taken up again, even if the register still shows it: its owner stands anew.
The same reading makes a lock of a group: one row per acquire, and the leader holds it.
"""

from __future__ import annotations

from collections.abc import Iterable

from headcount.core.session import Presence
from headcount.model import Claim, Moment, Revision, Row, State


def leader(rows: Iterable[Row], claims: Iterable[Claim] = ()) -> Row | None:
    """The row that leads; None if nobody stands, or somebody may still trust an earlier place."""
    first = min(
        (row for row in rows if row.standing_since and row.state is State.UP),
        key=lambda row: row.standing_since,
        default=None,
    )
    if first is None or any(0 < claim.standing_since < first.standing_since for claim in claims):
        return None
    return first


class TermState:
    """One term, for as long as its object lives. Asked with a time, it says whether to act."""

    def __init__(self, group: str, token: Revision, presence: Presence) -> None:
        self.group = group
        self.token = token
        self.over: str | None = None
        """Why it is over."""
        self._presence = presence
        self._generation = presence.generation
        self._session = presence.session_id

    def trusted(self, now: Moment) -> bool:
        """Whether its owner may act on it at `now`. Trust is asked first: if it is renewed by another
        thread just then, after it had run out, what is asked next shows that it is another trust."""
        return self.over is None and self._presence.trusts(now) and self._believes()

    def trusted_until(self) -> float:
        return self._presence.trusted_until if self.over is None else 0.0

    def end(self, why: str) -> None:
        if self.over is None:
            self.over = why

    def review(self, now: Moment) -> None:
        """Notice that trust has run out: what has once been doubted is over."""
        if not self.trusted(now):
            self.end("the store did not confirm our session in time")

    def _believes(self) -> bool:
        """Trust that was lost and regained is another trust, and a new session another session."""
        return (self._generation, self._session) == (self._presence.generation, self._presence.session_id)
