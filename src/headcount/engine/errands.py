"""What a hand asks for, as calls of a store."""

from __future__ import annotations

from headcount.core.expiry import judge
from headcount.core.work import (
    DoAdvance,
    DoBeat,
    DoClose,
    DoCommit,
    DoCreate,
    DoLook,
    DoOpen,
    DoRead,
    DoSweep,
    DoTogether,
    HeartRequest,
    WatchAnswer,
    WatchRequest,
)
from headcount.model import Beat, Tick, Wish
from headcount.stores.base import Store, TickingStore


def beat(store: Store, request: HeartRequest) -> Beat | Tick | None:
    """For the heart."""
    match request:
        case DoBeat(sessions):
            return store.beat(sessions)
        case DoAdvance(seen, ticker) if isinstance(store, TickingStore):
            return store.advance(seen, ticker)
    return None


def do(store: Store, request: WatchRequest) -> WatchAnswer:
    """For the watcher, all but listening."""
    match request:
        case DoOpen(session=session):
            return store.open_session(session)
        case DoClose(session=closed):
            store.close_session(closed)
        case DoCommit(group=group, writes=writes, by=by):
            return store.commit(group, writes, by=by)
        case DoTogether(requests=requests):
            return _together(store, requests)
        case DoCreate(group=group):
            return store.create_group(group)
        case DoLook(group=group, member_id=member_id):
            return store.read(group, only=[member_id])
        case DoRead(group=group, after=after):
            return store.read(group, after)
        case DoSweep() if isinstance(store, TickingStore):
            return store.sweep(judge)
    return None


def _together(store: Store, requests: tuple[DoOpen | DoCommit, ...]) -> WatchAnswer:
    opening = [request.session for request in requests if isinstance(request, DoOpen)]
    if opening:
        return store.open_sessions(opening)
    commits = [request for request in requests if isinstance(request, DoCommit)]
    return store.commit_together(commits[0].group, [Wish(one.writes, by=one.by) for one in commits])
