"""ZooKeeper: the store that agrees among several servers, and expires sessions itself. From version 3.6 on.

    zookeeper://host1:2181,host2:2181,host3:2181/prefix
    zookeeper://user:password@host/prefix?auth=sasl&tls=true&tls_ca=/etc/ssl/zookeeper.pem

Three kinds of connection, each with a session of ZooKeeper and one thread that kazoo needs:

    eyes     reads, waits for what changes, writes in the name of operators. One, from `open` on.
    heart    one for each ttl that this process has sessions of. Beats, and writes in their names, for
             only who owns the session can make its ephemeral nodes. Sends no pings.
    witness  one for each heart in whose sessions somebody has had a place, as who stands to lead has.
             Shows for how long such a place may be trusted, though the heart's session is ended from
             outside. Sends no pings.

So reading never keeps a session alive whose heart has stopped, and a beat never waits behind a reading. Who
only looks has one connection, a member two, and three if it stands.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from headcount import native
from headcount.errors import GroupNotFound, HeadcountError
from headcount.model import (
    Beat,
    Delta,
    Entry,
    Granted,
    Guarantees,
    Outcome,
    Revision,
    Seconds,
    Session,
    SessionId,
    Snapshot,
    Wish,
    when,
)
from headcount.stores.base import Together, log_corrupt
from headcount.stores.url import Url
from headcount.stores.zookeeper.commit import Commit, unknown_if
from headcount.stores.zookeeper.doorbell import DELETED, Bells, ZooKeeperDoorbell
from headcount.stores.zookeeper.groups import Groups, prepare
from headcount.stores.zookeeper.hearts import Heart, Hearts
from headcount.stores.zookeeper.history import history
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.names import Paths, id_of
from headcount.stores.zookeeper.reading import Reading
from headcount.stores.zookeeper.records import row_node
from headcount.stores.zookeeper.where import root_of, where

PROMISES = Guarantees(
    scope="network",
    expiry="sessions",
    deltas=True,
    stall_safe=False,
    exclusive=True,
    durable=True,
    advisory_failover=False,
    max_capabilities=65_536,
    precision=3.0,
    recheck=None,
)

EYES = 20.0
"""Seconds of the session that owns nothing. So long that it needs no pings: the doorbell asks more often, and
whoever asks leaves a server that is silent."""

MOST_SUSPECTS = 1000
MOST_COMPLAINTS = 1000


class ZooKeeperStore(Together):
    """One client of a store in ZooKeeper.

    `timeout`        seconds for which a call waits for the servers, from 0.1 to 60
    `auth`           how the user of the URL shows who it is: digest or sasl (DIGEST-MD5)
    `password_file`  a file with the password in its first line
    `tls`            true: TLS; `tls_ca`, `tls_cert`, `tls_key`: files, if not those of the system are meant
    """

    options: Mapping[str, type] = {
        "timeout": float,
        "auth": str,
        "password_file": str,
        "tls": bool,
        "tls_ca": str,
        "tls_cert": str,
        "tls_key": str,
    }
    guarantees = PROMISES

    def __init__(
        self,
        url: Url,
        *,
        namespace: str = "default",
        timeout: Seconds = 5.0,
        auth: str = "digest",
        password_file: str | None = None,
        tls: bool = False,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
    ) -> None:
        self._where = where(
            url,
            timeout=timeout,
            auth=auth,
            password_file=password_file,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
        )
        self.address = self._where.address
        self.on_corrupt: Callable[[str], object] = log_corrupt
        self._paths = Paths(root_of(url, namespace))
        self._timeout = timeout
        self._bells = Bells()
        self._hearts = Hearts(self._where, self._paths, self._bells.lost)
        self._open: Link | None = None
        self._lock = native.threading().Lock()
        self._suspects: defaultdict[str, set[str]] = defaultdict(set)
        """By group, the rows whose ephemeral nodes were seen to go."""
        self._complained: set[tuple[str, str]] = set()

    @classmethod
    def from_url(cls, url: Url, namespace: str, options: Mapping[str, Any]) -> ZooKeeperStore:
        return cls(url, namespace=namespace, **options)

    # ── coming and going ──

    def open(self) -> None:
        if self._open is not None:
            return
        until = self._until()
        link = Link(self._where, EYES, told=self._told)
        try:
            link.connect(until)
            prepare(link, self._paths, until)
        except BaseException:
            link.close()
            raise
        self._open = link

    def close(self) -> None:
        self._hearts.stop()
        link, self._open = self._open, None
        if link is not None:
            link.close()

    def _eyes(self) -> Link:
        link = self._open
        if link is not None and link.finished:
            self._open = None
            link.close(goodbye=False)
        if self._open is None:
            self.open()
        assert self._open is not None
        return self._open

    def _until(self) -> Seconds:
        return time.monotonic() + self._timeout

    # ── groups ──

    def create_group(self, group: str) -> bool:
        return Groups(self._eyes(), self._paths, self._until()).create(group)

    def delete_group(self, group: str) -> bool:
        until = self._until()
        try:
            return Groups(self._eyes(), self._paths, until).delete(group, lambda: self._reading(group, until))
        except GroupNotFound:
            return False

    def groups(self) -> list[str]:
        return Groups(self._eyes(), self._paths, self._until()).listed()

    def new_epoch(self) -> int:
        """After an older state of the ensemble was restored under running processes."""
        return Groups(self._eyes(), self._paths, self._until()).new_epoch()

    # ── sessions ──

    def open_sessions(self, sessions: Sequence[Session]) -> list[Granted]:
        return self._hearts.open(sessions, self._until())

    def beat(self, sessions: Sequence[SessionId]) -> Beat:
        return Beat(notices=self._hearts.beat(sessions, self._eyes))

    def close_session(self, session: SessionId) -> None:
        until, heart = self._until(), self._hearts.of(session)
        if heart is None:
            self._close_of_another(session, until)
            return
        try:
            listed = self._hearts.close(session, heart, until)
        except HeadcountError:
            if not heart.is_over(until):
                raise
            self._close_of_another(session, until)  # it was over already, and we had not heard of it
            return
        by_group: defaultdict[str, set[str]] = defaultdict(set)
        for path, group in listed.items():
            by_group[group].add(row_node(id_of(path.rpartition("/")[2])))
        self._take_down(by_group, until)

    def _close_of_another(self, session: SessionId, until: Seconds) -> None:
        """It lives elsewhere, or is over, so that nothing but what holds it is left. Nobody here knows what
        rows it has. Whoever has it hears of it with the next beat."""
        link = self._eyes()
        if not self._hearts.remove(link, session, until):
            return
        by_group = {}
        for group in Groups(link, self._paths, until).all():
            try:
                rows = self._reading(group, until).whole().rows
            except GroupNotFound:
                continue
            by_group[group] = {row_node(row.key) for row in rows if row.live and row.session == session}
        self._take_down({group: names for group, names in by_group.items() if names}, until)

    def _take_down(self, by_group: Mapping[str, Collection[str]], until: Seconds) -> None:
        for group, names in by_group.items():
            try:
                self._settle(group, names, until)
            except GroupNotFound:
                continue

    # ── the register ──

    def commit_together(self, group: str, wishes: Sequence[Wish]) -> list[Outcome]:
        until, outcomes = self._until(), list[Outcome]()
        hearts = [(self._hearts.of(wish.by) if wish.by else None, wish) for wish in wishes]
        for _, part in groupby(hearts, key=lambda pair: id(pair[0])):
            of_one = list(part)
            try:
                outcomes += self._commit(group, [wish for _, wish in of_one], of_one[0][0], until)
            except HeadcountError as exc:
                raise unknown_if(bool(outcomes), exc) from exc
        if not wishes:
            self._reading(group, until).only([])
        return outcomes

    def _commit(
        self, group: str, wishes: Sequence[Wish], heart: Heart | None, until: Seconds
    ) -> list[Outcome]:
        if heart is not None:
            self._hearts.end_overdue(heart, until)
        mine = heart.beaten if heart is not None else {}

        def hold(sessions: Collection[SessionId]) -> None:
            if heart is not None:
                heart.witness.hold(sessions, heart.beaten, until)

        commit = Commit(
            heart.link if heart is not None else self._eyes(),
            self._paths,
            group,
            until,
            corrupt=self._corrupt,
            mine=mine.__contains__,
            hold=hold,
            list_=lambda listed: self._hearts.list_(listed, group),
        )
        return commit.carry_out(wishes)

    def _settle(self, group: str, names: Collection[str], until: Seconds) -> None:
        Commit(self._eyes(), self._paths, group, until, corrupt=self._corrupt).carry_out([], names)

    def _reading(self, group: str, until: Seconds) -> Reading:
        return Reading(
            self._eyes(),
            self._paths,
            group,
            until,
            corrupt=self._corrupt,
            settle=lambda name, nodes: self._settle(name, nodes, until),
            await_=self._bells.await_,
        )

    def read(
        self, group: str, after: Revision | None = None, *, only: Collection[str] | None = None
    ) -> Snapshot | Delta:
        reading = self._reading(group, self._until())
        if only is not None:
            return reading.only(only)
        with self._lock:
            suspects = self._suspects.pop(group, set())
        try:
            return reading.whole() if after is None else reading.after(after, suspects)
        except HeadcountError:
            with self._lock:
                self._suspects[group] |= suspects
            raise

    def last_seen(self, group: str) -> dict[str, datetime]:
        """ZooKeeper tells nobody when it heard of a session last, only that this is not longer ago than its
        timeout."""
        rows = self._reading(group, self._until()).whole().rows
        return {row.member_id: when(time.time()) for row in rows if row.live and row.session}

    def history(
        self, group: str | None = None, *, member_id: str | None = None, limit: int = 100
    ) -> list[Entry]:
        link, until = self._eyes(), self._until()
        groups = Groups(link, self._paths, until).all() if group is None else [group]
        for one in groups:
            with contextlib.suppress(GroupNotFound):
                self._reading(one, until).settled()
        return history(link, self._paths, groups, member_id, limit, until)

    # ── what changes ──

    def doorbell(self) -> ZooKeeperDoorbell:
        return ZooKeeperDoorbell(self._bells, self._eyes, self._paths.root, self._timeout)

    def _told(self, path: str, what: int) -> None:
        """By the thread of the connection: a node was created, deleted or changed."""
        group, session, key = self._paths.told(path)
        if what == DELETED and (held := self._paths.was_held(path)) is not None:
            self._bells.let_go(held)
            if (heart := self._hearts.of(held)) is not None:
                heart.witness.lost(held)
        if session is not None and what == DELETED and self._hearts.of(session) is not None:
            self._bells.lost([session])
        if group is None or (key is not None and what != DELETED):
            return
        if key is not None:
            with self._lock:
                if sum(map(len, self._suspects.values())) < MOST_SUSPECTS:
                    self._suspects[group].add(key)  # else somebody reads everything
        self._bells.rung(group)

    def _corrupt(self, group: str, name: str, what: str) -> None:
        if (group, name) in self._complained:
            return
        if len(self._complained) >= MOST_COMPLAINTS:
            self._complained.clear()
        self._complained.add((group, name))
        self.on_corrupt(
            f"{self.address}: the node {self._paths.head(group)}/{name} cannot be read and is left out: "
            f"{what}; it is replaced when it is written again"
        )
