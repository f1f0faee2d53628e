"""Whose sessions live here: one session of ZooKeeper for each ttl that this process has asked for.

    a session of ours      an ephemeral node, whose version is its notice
    a session of ZooKeeper     what owns it, and all nodes that list the rows of the sessions in it

A thousand coordinators with one ttl are a thousand nodes and one connection. The connection sends no pings
(see `words`): it lives as long as somebody beats over it. Who is not beaten any more, while others of the
same ttl are, is ended by the beat of the others once its ttl is over: its heart has gone blind, and must
not be kept alive by theirs.

A beat is a write: a `multi` of nothing but checks, which a majority of the servers has to take. A server that
is cut off from the others goes on answering what it reads for as long as it believes in its leader. Where one
of the sessions has had a place, the witness is heard of first, in the same way (see `witness`): if it cannot
be, there is no beat.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from kazoo.exceptions import NoNodeError
from kazoo.protocol.serialization import CheckVersion, Create, Delete, Exists, Sync

from headcount import native
from headcount.errors import HeadcountError
from headcount.model import Granted, Seconds, Session, SessionId
from headcount.stores.zookeeper.commit import EPHEMERAL
from headcount.stores.zookeeper.groups import prepare
from headcount.stores.zookeeper.link import FAIR, Failed, Link, Where
from headcount.stores.zookeeper.names import Paths
from headcount.stores.zookeeper.records import encode
from headcount.stores.zookeeper.witness import Witness

APART = 4.0
"""That part of the ttl is enough for the leading server to hear of a beat before the next one is taken."""


class Heart:
    """The sessions of one ttl."""

    def __init__(self, where: Where, paths: Paths, ttl: Seconds, lost: Callable[[Heart], object]) -> None:
        self.link = Link(where, ttl, pings=False, lost=lambda: lost(self))
        self.witness = Witness(where, paths, ttl)
        self.patience = min(where.timeout, ttl / 3)
        """Seconds that a beat waits. A server that has not answered in half of them is left, so that another
        one can answer in the other half: while a leader trusts, there is time for one such beat."""
        self._several = "," in where.hosts
        self.beaten: dict[SessionId, Seconds] = {}
        """When each was beaten last."""
        self.notices: dict[SessionId, int] = {}
        """The notices that were read last."""
        self.places: dict[SessionId, dict[str, str]] = {}
        """The nodes that list each session's rows, and their groups."""
        self._served_since: Seconds | None = None
        """Since when beats have been taken one after the other; None: the last one was not."""
        self._sure_at = self._asked_at = time.monotonic()
        """When that was asked of which the leading server has surely heard, and what came a while after. Of a
        session of ZooKeeper that begins it knows at once."""

    def is_over(self, until: Seconds) -> bool:
        """Once it is connected again, or not any more: a connection that was lost may have been ended with
        its session, and that is heard of only then."""
        with contextlib.suppress(HeadcountError):
            self.link.connect(until)
        return self.link.over

    def served(self, at: Seconds | None) -> None:
        """A beat that was asked then was taken; None: it was not."""
        if at is not None and at - self._asked_at >= self.link.granted / APART:
            self._sure_at, self._asked_at = self._asked_at, at
        if at is None or self._served_since is None:
            self._served_since = at

    def late(self, asked: Seconds) -> Seconds:
        """How long before this the leading server has surely heard of us, if what is asked now is taken."""
        apart = asked - self._asked_at >= self.link.granted / APART
        return max(0.0, asked - (self._asked_at if apart else self._sure_at))

    def overdue(self, besides: Collection[SessionId] = ()) -> list[SessionId]:
        """Who was not beaten for the ttl, while others were. The time of an outage does not count."""
        now, since = time.monotonic(), self._served_since
        if since is None:
            return []
        beaten = [(one, at) for one, at in list(self.beaten.items()) if one not in besides]
        return [one for one, at in beaten if now - max(at, since) >= self.link.granted]

    def hear(self, checks: Sequence[CheckVersion], until: Seconds) -> Failed | None:
        """Be heard of by a majority, by way of the server that we are at, or else of another one. The witness
        comes first."""
        fair = max(self.patience / 2, FAIR) if self._several else math.inf
        first = min(until, time.monotonic() + fair)
        try:
            return self._hear(checks, first)
        except HeadcountError:
            silent = {link.at for link in self._links() if link.silent}
            for link in self._links():
                if link.at in silent:
                    link.leave(until)
            if not self._several or self.link.over or time.monotonic() >= until:
                raise
            return self._hear(checks, until)

    def _hear(self, checks: Sequence[CheckVersion], until: Seconds) -> Failed | None:
        if self.witness.held:
            self.witness.hear(until)
        return self.link.multi(checks, until)

    def _links(self) -> list[Link]:
        return [link for link in (self.witness.link, self.link) if link is not None]

    def forget(self, session: SessionId) -> dict[str, str]:
        self.beaten.pop(session, None)
        self.notices.pop(session, None)
        return self.places.pop(session, {})


class Hearts:
    """`lost`: told of the sessions that are over."""

    def __init__(self, where: Where, paths: Paths, lost: Callable[[Collection[SessionId]], object]) -> None:
        self._where, self._paths, self._lost = where, paths, lost
        self._lock = native.threading().RLock()
        self._by_ttl: dict[Seconds, Heart] = {}
        self._over: list[Heart] = []

    def of(self, session: SessionId) -> Heart | None:
        """Where this session lives, if it does here."""
        with self._lock:
            return next((heart for heart in self._by_ttl.values() if session in heart.beaten), None)

    def _is_over(self, heart: Heart) -> None:
        """Called by the thread of the connection, which cannot close itself."""
        with self._lock:
            gone = list(heart.beaten)
            for session in gone:
                heart.forget(session)
            for ttl in [ttl for ttl, one in self._by_ttl.items() if one is heart]:
                del self._by_ttl[ttl]
                self._over.append(heart)
        self._lost(gone)

    def _tidy(self) -> None:
        with self._lock:
            over, self._over = self._over, []
        for heart in over:
            heart.link.close(goodbye=False)
            heart.witness.close()

    # ── to begin ──

    def open(self, sessions: Sequence[Session], until: Seconds) -> list[Granted]:
        self._tidy()
        asked = time.monotonic()
        granted: dict[SessionId, Granted] = {}
        for ttl in {one.ttl for one in sessions}:
            heart = self._heart(ttl, until)
            of_it = [one for one in sessions if one.ttl == ttl]
            # A server that leads may hear of a beat from the one that took it only a while later.
            late = heart.late(asked)
            self._begin(heart, [one for one in of_it if self.of(one.id) is None], until)
            terms = Granted(ttl=heart.link.granted, margin=max(heart.link.granted / 3, 0.25), late=late)
            granted |= {one.id: terms for one in of_it}
        return [granted[one.id] for one in sessions]

    def _heart(self, ttl: Seconds, until: Seconds) -> Heart:
        with self._lock:
            heart = self._by_ttl.get(ttl)
            left: Heart | None = None
            if heart is not None and not heart.beaten:
                heart, left = None, heart  # nobody has beaten over it, and a new one is sure at once
            if heart is None:
                heart = self._by_ttl[ttl] = Heart(self._where, self._paths, ttl, self._is_over)
        if left is not None:
            left.link.close()
            left.witness.close()
        try:
            heart.link.connect(until)
        except HeadcountError:
            if not heart.beaten:  # the next one begins anew
                with self._lock:
                    self._by_ttl.pop(ttl, None)
                heart.link.close(goodbye=False)
            raise
        return heart

    def _begin(self, heart: Heart, sessions: Collection[Session], until: Seconds) -> None:
        new = {self._paths.session(one.id): one for one in sessions}
        asked = time.monotonic()
        while new:
            failed = heart.link.multi(
                [Create(path, encode(one), list(self._where.acl), EPHEMERAL) for path, one in new.items()],
                until,
            )
            if failed is None:
                break
            if isinstance(failed.error, NoNodeError):
                prepare(heart.link, self._paths, until)  # somebody has tidied up
            else:
                del new[list(new)[failed.place]]  # it is open already, and somebody else's
        with self._lock:
            heart.served(asked)
            for one in new.values():
                heart.beaten[one.id] = asked
                heart.notices[one.id] = 0

    # ── to beat ──

    def beat(self, sessions: Collection[SessionId], eyes: Callable[[], Link]) -> dict[SessionId, int | None]:
        """The notices of these; None of who is lost. `eyes`: who looks for sessions that do not live here."""
        by_heart: dict[int, list[SessionId]] = {}
        hearts: dict[int, Heart] = {}
        strangers = []
        for session in dict.fromkeys(sessions):
            heart = self.of(session)
            if heart is None:
                strangers.append(session)
            else:
                hearts[id(heart)] = heart
                by_heart.setdefault(id(heart), []).append(session)
        notices: dict[SessionId, int | None] = {}
        for number, heart in hearts.items():
            notices |= self._beat(heart, by_heart[number], sessions)
        if strangers:
            link, until = eyes(), time.monotonic() + self._where.timeout
            notices |= self._look(link, strangers, until)
        return notices

    def _beat(
        self, heart: Heart, sessions: list[SessionId], besides: Collection[SessionId]
    ) -> dict[SessionId, int | None]:
        until = time.monotonic() + heart.patience
        with heart.witness.alone(until):
            asked = time.monotonic()
            notices = self._ask(heart, sessions, until)
            gone = [one for one, notice in notices.items() if notice is None]
            with self._lock:
                for one, notice in notices.items():
                    if notice is not None and one in heart.beaten:
                        heart.beaten[one], heart.notices[one] = asked, notice
            with contextlib.suppress(HeadcountError):  # the beat was taken, and the next one tries again
                if gone:  # their owners have not heard of it yet, and may trust what they have
                    self._end(heart, gone, until, held=True)
                if overdue := heart.overdue(besides):
                    self._end(heart, overdue, until)
        return notices

    def _ask(self, heart: Heart, sessions: list[SessionId], until: Seconds) -> dict[SessionId, int | None]:
        asked = time.monotonic()
        checks = [CheckVersion(self._paths.session(one), heart.notices.get(one, 0)) for one in sessions]
        try:
            failed = heart.hear(checks, until)
        except HeadcountError:
            heart.served(None)
            if heart.is_over(until):  # that was the answer
                return dict.fromkeys(sessions)
            raise
        heart.served(asked)
        if failed is None:
            return {one: heart.notices.get(one, 0) for one in sessions}
        # A majority has said that it is not so; whatever this server shows now is not older than that.
        return self._look(heart.link, sessions, until, sync=False)

    def _look(
        self, link: Link, sessions: Sequence[SessionId], until: Seconds, *, sync: bool = True
    ) -> dict[SessionId, int | None]:
        before = [Sync(self._paths.sessions)] if sync else []
        paths = [self._paths.session(one) for one in sessions]
        _, answers, _ = link.get(paths, before=before, until=until)
        return {
            one: None if isinstance(found, Exception) else found[1].version
            for one, found in zip(sessions, answers, strict=True)
        }

    # ── to end ──

    def close(self, session: SessionId, heart: Heart, until: Seconds) -> dict[str, str]:
        """End it; the nodes that listed its rows, and their groups."""
        return self._end(heart, [session], until)

    def end_overdue(self, heart: Heart, until: Seconds) -> None:
        """Before something is asked over this connection that would keep all of them alive: a heart that has
        stopped is not to live on what others ask."""
        if overdue := heart.overdue():
            self._end(heart, overdue, until)

    def _end(
        self, heart: Heart, sessions: Iterable[SessionId], until: Seconds, *, held: bool = False
    ) -> dict[str, str]:
        """Remove their notices, and the nodes that say that their rows are live: whoever reads finds out. And
        the nodes that hold them, for nobody trusts anything of them any more, unless they stay `held`."""
        places: dict[str, str] = {}
        ended = list(sessions)
        with heart.witness.alone(until):
            own = [self._paths.session(one) for one in ended]
            own += [self._paths.held(one) for one in ended if one in heart.witness.held and not held]
            owners, known = self._owners(heart, ended), False
            while not known:
                asked = [*own, *owners]
                _, found, _ = heart.link.get(asked, until=until)
                answers = zip(asked, found, strict=True)
                there = {path: one[0] for path, one in answers if isinstance(one, tuple)}
                gone = [p for p, data in there.items() if p not in owners or data == owners[p].encode()]
                done = not gone or heart.link.multi([Delete(path, -1) for path in gone], until) is None
                before, owners = owners, self._owners(heart, ended)
                known = done and before == owners  # what was written meanwhile is known by now
            heart.witness.let_go(ended)
            with self._lock:
                lost = [one for one in ended if one in heart.beaten]
                for one in ended:
                    places |= heart.forget(one)
        self._lost(lost)
        return places

    def _owners(self, heart: Heart, sessions: Iterable[SessionId]) -> dict[str, SessionId]:
        """The nodes that may list rows of these sessions, and whose they are then."""
        with self._lock:
            return {path: one for one in sessions for path in heart.places.get(one, {})}

    def list_(self, listed: Iterable[tuple[SessionId, str]], group: str) -> None:
        """These nodes may be there from now on, for rows of these sessions."""
        with self._lock:
            for session, path in listed:
                heart = self.of(session)
                if heart is not None:
                    heart.places.setdefault(session, {})[path] = group

    def remove(self, link: Link, session: SessionId, until: Seconds) -> bool:
        """End a session that lives elsewhere, and hold it no longer; False if it did not live."""
        alive, held = self._paths.session(session), self._paths.held(session)
        while True:
            stats = link.ask(Sync(alive), Exists(alive, None), Exists(held, None), until=until)[1:]
            gone = [path for path, stat in zip((alive, held), stats, strict=True) if stat is not None]
            if not gone or link.multi([Delete(path, -1) for path in gone], until) is None:
                return alive in gone

    def stop(self) -> None:
        """Let go of all. Sessions that were not closed live on for their time."""
        with self._lock:
            hearts = list(self._by_ttl.values())
            self._by_ttl.clear()
        for heart in hearts:
            heart.link.close(goodbye=not heart.beaten)
            heart.witness.close(goodbye=not heart.beaten)
        self._tidy()
