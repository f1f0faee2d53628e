"""A commit: load what the writes name, apply the law, and write all of it in one `multi` on top of the head.

The head's version is checked by writing it. Whoever was quicker has moved it on: then everything is read
again, as often as there is time. A group that was deleted and made again has another head, whose versions
begin anew: so the node that is born and goes with this one is checked to be there, too. The sessions that the
outcome rests on are checked to be there in the same `multi`; nobody's row is ever live in a session that was
gone when it was written.

What is read first may be older than what others were told of already. A commit that goes through has shown
that it was not; only a refusal, or a commit that changes nothing, has not, and so it is thought over again.
Not after a `sync`, which one server answers, that may have been left behind without knowing it; but after a
write that changes nothing, as beats are, which a majority takes, and the server that we read from knows
then.

Rows of sessions that are gone are taken down here, before the law looks at them, in the same commit: who
finds them first does it, so that revisions grow in one order, and everybody sees the same. If that is more
than one request may have, they are taken down first, in several. Whether a session that is gone was ended
early (see `witness`) is only read, and not checked in the `multi`, because what was read stays good. *Not
held*: none is held for a new place once its session is gone, for the commit that gives the place would have
to find the session. *Held*: if it is so no longer when this is written, there is a claim for nothing, and
whoever reads next takes it away.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError
from kazoo.protocol.serialization import CheckVersion, Create, Delete, SetData
from msgspec.structs import replace

from headcount.errors import (
    CapabilitiesTooLarge,
    GroupNotFound,
    HeadcountError,
    OutcomeUnknown,
    StoreUnavailable,
)
from headcount.model import Committed, Outcome, Row, Seconds, SessionId, Wish
from headcount.register import Ledger, apply_all
from headcount.stores.zookeeper.handler import Handler
from headcount.stores.zookeeper.link import Failed, Link
from headcount.stores.zookeeper.loading import Corrupt, Loaded
from headcount.stores.zookeeper.names import Paths, name_of
from headcount.stores.zookeeper.records import LOG, Head, Kept, Line, encode, node, node_of, row_node, told_on

EPHEMERAL = 1

LONGEST_PAUSE = 0.1
"""Seconds to let others be quicker, before it is tried again."""

LARGEST = 1_000_000
"""Bytes of one request: ZooKeeper ends a connection over which a larger one than jute.maxbuffer comes."""


class TooMuch(Exception):
    """More than fits in one request. `ended`: the nodes of rows and claims that were to be taken down."""

    def __init__(self, size: int, ended: Collection[str]) -> None:
        super().__init__(f"{size:,}")
        self.ended = ended


def unknown_if(written: bool, error: HeadcountError) -> HeadcountError:
    """What to say to all, where a part of what they asked for was written before this happened."""
    return OutcomeUnknown(f"a part was written before this: {error}") if written else error


class Commit:
    """`mine`: whether a session lives in the session of this connection, which alone can make ephemeral nodes
    for it. `hold`: have these of them held, which are to have places. `list_`: told which nodes may soon be
    there, and for whom."""

    def __init__(
        self,
        link: Link,
        paths: Paths,
        group: str,
        until: Seconds,
        *,
        corrupt: Corrupt,
        mine: Callable[[SessionId], bool] = lambda session: False,
        hold: Callable[[Collection[SessionId]], object] = lambda sessions: None,
        list_: Callable[[list[tuple[SessionId, str]]], object] = lambda listed: None,
    ) -> None:
        self._link, self._paths, self._group, self._until = link, paths, group, until
        self._corrupt, self._mine, self._hold, self._list = corrupt, mine, hold, list_
        self._at = paths.head(group)
        self._avoided: set[str] = set()

    def carry_out(self, wishes: Sequence[Wish], settle: Iterable[str] = ()) -> list[Outcome]:
        """To each its answer. `settle`: nodes of rows and claims whose sessions may be gone."""
        try:
            return self._carry_out(wishes, tuple(settle))
        except TooMuch as exc:
            if exc.ended and (wishes or len(exc.ended) > 1):  # they are over in any case
                ended = sorted(exc.ended)
                self.carry_out([], ended[: len(ended) // 2])
                self.carry_out([], ended[len(ended) // 2 :])
                return self.carry_out(wishes)
            if len(wishes) > 1:
                half = len(wishes) // 2
                first = self.carry_out(wishes[:half], settle)
                try:
                    return [*first, *self.carry_out(wishes[half:])]
                except HeadcountError as error:
                    raise unknown_if(True, error) from error
            raise CapabilitiesTooLarge(
                f"{self._link.where.address}: a commit of {exc} bytes is more than ZooKeeper takes at once "
                f"({LARGEST:,}); write less together"
            ) from exc

    def _carry_out(self, wishes: Sequence[Wish], settle: Collection[str]) -> list[Outcome]:
        fresh, lost = not wishes, 0
        while True:
            loaded = Loaded(self._link, self._paths, self._group, self._corrupt, self._until)
            try:
                loaded.load(wishes, settle, sync=not wishes)
            except GroupNotFound:
                if fresh:
                    raise
                fresh = self._ask_all()  # it may have been made a moment ago
                continue
            ledger, outcomes = self._think(loaded, wishes)
            changes = ledger.revision > loaded.head.revision
            if not fresh and not (changes and all(isinstance(one, Committed) for one in outcomes)):
                fresh = self._ask_all()
                continue
            if not changes:
                return outcomes
            failed = self._write(loaded, ledger)
            if failed is None:
                return outcomes
            fresh = True  # a majority has said so
            lost += 1
            pause = random.uniform(0, min(LONGEST_PAUSE, 0.002 * 2**lost))
            if time.monotonic() + pause >= self._until:
                raise StoreUnavailable(
                    f"{self._link.where.address}: others were quicker in group {self._group!r} every time"
                )
            # Where fifty want the same at once, one of them wins, and the others have read for nothing.
            Handler.sleep_func(pause)

    def _think(self, loaded: Loaded, wishes: Sequence[Wish]) -> tuple[Ledger, list[Outcome]]:
        head, now = loaded.head, time.time()
        whole = Ledger(loaded, self._group, head.revision, now, unclocked=True)
        for kept in list(loaded.rows.values()):
            if kept.row.live and kept.row.session and not loaded.alive(kept.row.session):
                whole.expire(kept.row, early=loaded.held(kept.row.session))
        for claim in list(loaded.claims.values()):
            if not loaded.alive(claim.session) and not loaded.held(claim.session):
                whole.vacate(claim, "its session is gone")
        wanted, outcomes = apply_all(
            whole, self._group, wishes, revision=whole.revision, now=now, unclocked=True
        )
        whole.absorb(wanted)
        return whole, outcomes

    # ── what is written ──

    def _write(self, loaded: Loaded, ledger: Ledger) -> Exception | None:
        listing = Listing(self._paths, self._group, loaded, ledger, self._mine, self._avoided)
        loaded.find(listing.old.keys())
        rows = listing.operations(list(self._link.where.acl))
        head = self._head(loaded.head, ledger, listing.more)
        head, history = told_on(
            head,
            [Line(e.at, e.member_id, e.what, e.who, e.revision, e.detail) for e in ledger.entries],
        )
        operations = [
            SetData(self._at, encode(head), loaded.version),
            *self._same(loaded),
            *self._sessions(loaded, ledger),
            *self._records(loaded, ledger, listing.listed),
            *self._indices(loaded, ledger),
            *(self._kept(loaded, f"h:{number}", data) for number, data in history.items()),
            *rows,
        ]
        operations = [one for one in operations if one is not None]
        size = sum(len(one.path) + len(getattr(one, "data", b"") or b"") + 60 for one in operations)
        if size > LARGEST:
            raise TooMuch(size, _ended(loaded))
        self._hold({row.session for row in _placed(ledger) if self._mine(row.session)})
        self._list(listing.made)  # before: whoever ends a session must know of all that may be there
        return self._missed(operations, self._link.multi(operations, self._until))

    def _missed(self, operations: Sequence[Any], failed: Failed | None) -> Exception | None:
        if failed is not None and isinstance(failed.error, NodeExistsError | NoNodeError):
            self._avoided.add(operations[failed.place].path)  # somebody else's, or removed by hand
        return failed.error if failed is not None else None

    def _same(self, loaded: Loaded) -> list[Any]:
        """That it is the head of the same group: of one that was deleted, and made again, the versions begin
        anew."""
        path = self._paths.born(self._group, loaded.head.born)
        return [CheckVersion(path, -1)] if loaded.head.born and path not in self._avoided else []

    def _ask_all(self) -> bool:
        """What is read over this connection from now on is not older than this: a majority was asked, and the
        answer came by the server that we read from."""
        self._link.multi([CheckVersion(self._paths.own, -1)], self._until, writes=False)
        return True

    def _head(self, head: Head, ledger: Ledger, more: int) -> Head:
        log = [*head.log]
        log += [(one.revision, node_of(one)) for one in _records(ledger) if one is not None]
        log += [(revision, node(kind[0], key)) for (kind, key), revision in ledger.removed.items()]
        log.sort()
        since = log[-LOG - 1][0] if len(log) > LOG else head.since
        holding, claims = set(head.holding), dict(head.claims)
        for key, row in ledger.rows.items():
            _put_or_not(holding, row_node(key), row is not None and row.live and bool(row.shards))
        for key, claim in ledger.claims.items():
            name = node("c", key)
            _put_or_not(holding, name, claim is not None and bool(claim.shards))
            if claim is None:
                claims.pop(name, None)
            else:
                claims[name] = claim.member_id
        return replace(
            head,
            revision=ledger.revision,
            since=since,
            listed=head.listed + more,
            log=tuple(log[-LOG:]),
            holding=frozenset(holding),
            claims=claims,
        )

    def _sessions(self, loaded: Loaded, ledger: Ledger) -> list[Any]:
        """The notices that are raised; and that those are there in whose name rows are live."""
        raised = {self._paths.session(session) for session in ledger.notices}
        needed = {
            self._paths.session(row.session)
            for row in ledger.rows.values()
            if row is not None and row.live and row.session
        }
        found = {path: loaded.data.get(path) for path in raised}
        return [
            *(SetData(path, data[0], -1) for path, data in sorted(found.items()) if data is not None),
            *(CheckVersion(path, -1) for path in sorted(needed - raised)),
        ]

    def _records(self, loaded: Loaded, ledger: Ledger, listed: Collection[str]) -> list[Any]:
        kinds: list[tuple[str, dict[str, Any]]] = [
            ("r", ledger.rows),
            ("m", ledger.marks),
            ("c", ledger.claims),
        ]
        found = []
        for kind, records in kinds:
            for key, record in records.items():
                kept = Kept(record, key in listed) if isinstance(record, Row) else record
                data = None if kept is None else encode(kept)
                found.append(self._kept(loaded, node(kind, key), data))
        return found

    def _kept(self, loaded: Loaded, name: str, data: bytes | None) -> Any:
        """What makes a node be like this; None if it is already."""
        path = f"{self._at}/{name}"
        there = loaded.data.get(path) is not None
        if data is None:
            there |= name.startswith("h:") and path not in self._avoided
            return Delete(path, -1) if there else None
        return SetData(path, data, -1) if there else Create(path, data, list(self._link.where.acl), 0)

    def _indices(self, loaded: Loaded, ledger: Ledger) -> list[Any]:
        changed: dict[str, set[str]] = {}
        for key, row in ledger.rows.items():
            before = loaded.row(key)
            for member in {
                one.member_id for one in (row, before) if one is not None and one.member_id != key
            }:
                keys = changed.setdefault(member, set(loaded.keys_of(member)))
                _put_or_not(keys, key, row is not None and row.member_id == member)
        found = []
        for member, keys in changed.items():
            if keys != set(loaded.keys_of(member)):
                found.append(self._kept(loaded, node("k", member), encode(sorted(keys)) if keys else None))
        return found


class Listing:
    """Which ephemeral nodes have to come and go, for the group's list to be that of its live rows."""

    def __init__(
        self,
        paths: Paths,
        group: str,
        loaded: Loaded,
        ledger: Ledger,
        mine: Callable[[SessionId], bool],
        avoided: Collection[str],
    ) -> None:
        self._loaded = loaded
        self.listed: set[str] = set()
        """The keys of changed rows that have such a node then."""
        self.old: dict[str, SessionId] = {}
        """The nodes that have to go, if they still are who they were."""
        self.made: list[tuple[SessionId, str]] = []
        self.more = 0
        for key, row in ledger.rows.items():
            path, before = f"{paths.live(group)}/{name_of(key)}", loaded.rows.get(key)
            was = before.row.session if before is not None and before.listed else None
            live = row is not None and row.live and bool(row.session)
            if row is not None and live and was == row.session:
                self.listed.add(key)
                continue
            if was is not None:
                self.old[path] = was
                self.more -= 1
            if row is not None and live and mine(row.session) and path not in avoided:
                self.made.append((row.session, path))
                self.listed.add(key)
                self.more += 1

    def operations(self, acl: list[Any]) -> list[Any]:
        gone = []
        for path, session in self.old.items():
            found = self._loaded.data.get(path)
            if found is not None and found[0] == session.encode():
                gone.append(Delete(path, -1))
        return [*gone, *(Create(path, session.encode(), acl, EPHEMERAL) for session, path in self.made)]


def _ended(loaded: Loaded) -> list[str]:
    """The nodes of what is taken down because its session is gone."""
    rows = [kept.row for kept in loaded.rows.values() if kept.row.live and kept.row.session]
    claims = [claim for claim in loaded.claims.values() if not loaded.held(claim.session)]
    return [
        *(row_node(row.key) for row in rows if not loaded.alive(row.session)),
        *(node_of(claim) for claim in claims if not loaded.alive(claim.session)),
    ]


def _records(ledger: Ledger) -> list[Any]:
    return [*ledger.rows.values(), *ledger.marks.values(), *ledger.claims.values()]


def _placed(ledger: Ledger) -> list[Row]:
    """The rows that were written and have something that their owners may trust to have."""
    rows = [row for row in ledger.rows.values() if row is not None and row.live and row.session]
    return [row for row in rows if row.standing_since or row.shards]


def _put_or_not(names: set[str], name: str, there: bool) -> None:
    names.add(name) if there else names.discard(name)
