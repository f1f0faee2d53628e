"""What the keys are called: readable in `etcdctl get --prefix`, and safe for any id.

    ROOT/about                        which format, which history of the cluster, which epoch
    ROOT/floor                        the highest revision of the groups that were deleted
    ROOT/group/GROUP                  the head of a group: its revision. Every commit compares and moves it
    ROOT/held/GROUP/SESSION           leased, by a witness: the session's owner may trust a place in the group
    ROOT/here/GROUP/SESSION           leased: the session lives, and has so many live rows in the group
    ROOT/life/SESSION                 leased: the session lives; its version counts its notices
    ROOT/named/GROUP/MEMBER/KEY       a row of the member that has another key than the member's id
    ROOT/record/GROUP/row/KEY         the records of a group
    ROOT/record/GROUP/mark/MEMBER
    ROOT/record/GROUP/claim/KEY
    ROOT/rooms/SESSION/GROUP          leased: the other way round than `here`, for whoever ends the session
    ROOT/told/GROUP/REVISION          the history: one for each commit, by its last revision

`group`, `held`, `here` and `life` follow each other, and nothing of ours is between them: one watch hears
them all.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

KINDS = frozenset("floor group held here life named record rooms told".split())
"""What there may be below a root besides `about`."""

_UNSAFE = re.compile("[%/\x00-\x1f\x7f]")


class Span(NamedTuple):
    """All keys from `key` up to, but not with, `end`; without an end, the one key."""

    key: bytes
    end: bytes = b""


def escape(name: str) -> str:
    """The slash, which divides, the percent sign, and what no terminal should be shown."""
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name)


def below(prefix: str) -> Span:
    """All that begins with this; it ends with a slash, and the next character after that is 0."""
    assert prefix.endswith("/")
    return Span(prefix.encode(), prefix[:-1].encode() + b"0")


class Keys:
    def __init__(self, root: str) -> None:
        """`root` begins and ends with a slash."""
        self.root = root
        self.all = below(root)
        self.about = Span(f"{root}about".encode())
        self.floor = Span(f"{root}floor".encode())
        self.groups = below(f"{root}group/")
        self.told_all = below(f"{root}told/")
        self.watched = Span(self.groups.key, below(f"{root}life/").end)

    def group(self, group: str) -> Span:
        return self._one("group", group)

    def held(self, group: str, session: str) -> Span:
        return self._one("held", group, session)

    def held_all(self, group: str) -> Span:
        return self._under("held", group)

    def here(self, group: str, session: str) -> Span:
        return self._one("here", group, session)

    def here_all(self, group: str) -> Span:
        return self._under("here", group)

    def life(self, session: str) -> Span:
        return self._one("life", session)

    def named(self, group: str, member_id: str, key: str) -> Span:
        return self._one("named", group, member_id, key)

    def named_all(self, group: str, member_id: str | None = None) -> Span:
        return self._under("named", group, *([] if member_id is None else [member_id]))

    def record(self, group: str, kind: str, key: str) -> Span:
        return self._one("record", group, kind, key)

    def claims(self, group: str) -> Span:
        return self._under("record", group, "claim")

    def records(self, group: str) -> Span:
        return self._under("record", group)

    def room(self, session: str, group: str) -> Span:
        return self._one("rooms", session, group)

    def rooms(self, session: str) -> Span:
        return self._under("rooms", session)

    def told(self, group: str, revision: int) -> Span:
        return self._one("told", group, f"{revision:020d}")

    def told_of(self, group: str) -> Span:
        return self._under("told", group)

    def told_from(self, group: str, revision: int) -> Span:
        return Span(self.told(group, revision).key, self.told_of(group).end)

    def told_before(self, group: str, revision: int) -> Span:
        return Span(self.told_of(group).key, self.told(group, revision).key)

    def parts(self, key: bytes) -> list[str]:
        """What stands behind the root: the kind first, then the names as they were."""
        text = key.decode(errors="replace").removeprefix(self.root)
        return [unquote(part, errors="replace") for part in text.split("/")]

    def _one(self, *parts: str) -> Span:
        return Span((self.root + "/".join(map(escape, parts))).encode())

    def _under(self, *parts: str) -> Span:
        return below(self.root + "/".join(map(escape, parts)) + "/")
