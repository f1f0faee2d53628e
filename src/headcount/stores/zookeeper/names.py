"""Where everything is, and what ids look like as the names of nodes.

    /prefix/<group>/<member>                   ephemeral: `ls /prefix/<group>` lists who is live, nothing else
    /prefix/.headcount                         which layout this is
    /prefix/.headcount/floor                   above it every new group begins
    /prefix/.headcount/sessions/<session>      ephemeral: the notice; its version is the number
    /prefix/.headcount/held/<session>          ephemeral, in another session of ZooKeeper: it has held a place
    /prefix/.headcount/hidden/<group>/<key>    ephemeral: who is live in a group that nobody lists
    /prefix/.headcount/groups/<group>          the head of a group: its revision, and what has changed last
    /prefix/.headcount/groups/<group>/b:<revision> with which it began: which of all groups of this name it is
    /prefix/.headcount/groups/<group>/r:<key>      a row of it, which stays when its member is down or left
    /prefix/.headcount/groups/<group>/k:<member>   under which other keys a member has rows
    /prefix/.headcount/groups/<group>/m:<member>   a mark
    /prefix/.headcount/groups/<group>/c:<key>      a claim
    /prefix/.headcount/groups/<group>/h:<number>   what happened, a part of it

A name is the id itself, but for characters that a name may not have, the slash and the percent sign, which
are written as in a URL; so is a dot at the beginning, by which our own nodes are known.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from headcount.model import Revision, SessionId, hidden

_FORBIDDEN = re.compile("^\\.|[/%\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")
"""ZooKeeper looks at UTF-16, so that whatever needs two of its units is forbidden as well."""

OWN = ".headcount"


def name_of(id_: str) -> str:
    return _FORBIDDEN.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), id_)


def id_of(name: str) -> str:
    """A name that is nobody's id, as others may have, is some other id, which has another name."""
    return unquote(name)


class Paths:
    """`root` is the prefix, with the namespace in it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.own = f"{root}/{OWN}"
        self.floor = f"{self.own}/floor"
        self.sessions = f"{self.own}/sessions"
        self.groups = f"{self.own}/groups"
        self.hidden = f"{self.own}/hidden"
        self.witnesses = f"{self.own}/held"

    def session(self, session: SessionId) -> str:
        return f"{self.sessions}/{name_of(session)}"

    def held(self, session: SessionId) -> str:
        return f"{self.witnesses}/{name_of(session)}"

    def was_held(self, path: str) -> SessionId | None:
        """Whom the node of this path holds, if it is such a node."""
        session = path.removeprefix(self.witnesses + "/")
        return id_of(session) if session != path else None

    def head(self, group: str) -> str:
        return f"{self.groups}/{name_of(group)}"

    def born(self, group: str, revision: Revision) -> str:
        return f"{self.head(group)}/b:{revision}"

    def live(self, group: str) -> str:
        return f"{self.hidden if hidden(group) else self.root}/{name_of(group)}"

    def told(self, path: str) -> tuple[str | None, SessionId | None, str | None]:
        """What a node of this path belongs to: a group, or a session; and the key of a row, if it is the node
        of one that is live. What tells nobody anything is none of them."""
        parts = path.removeprefix(self.root + "/").split("/")
        if not path.startswith(self.root + "/"):
            return None, None, None
        if parts[0] != OWN:
            return id_of(parts[0]), None, id_of(parts[1]) if len(parts) > 1 else None
        match parts[1:]:
            case ["sessions", session]:
                return None, id_of(session), None
            case ["groups", group]:
                return id_of(group), None, None
            case ["hidden", group, key]:
                return id_of(group), None, id_of(key)
        return None, None, None
