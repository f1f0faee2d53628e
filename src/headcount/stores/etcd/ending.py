"""How a session ends, if somebody ends it: with all that lives by it, and all that it holds."""

from __future__ import annotations

from collections.abc import Collection

from headcount.model import SessionId
from headcount.stores.etcd.client import READ, TXN, Client
from headcount.stores.etcd.keys import Keys
from headcount.stores.etcd.ops import MOST, delete, get, read, txn, unchanged_since


class Ending:
    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def end(self, session: SessionId, held: set[str], until: float) -> None:
        """Remove all that lives with the session, at once: else a row of it could stay up. `held`: the groups
        in which it may have a place."""
        keys = self._keys
        life, rooms = keys.life(session), keys.rooms(session)
        while True:
            request = read([get(life, keys_only=True), get(rooms, keys_only=True)])
            answer = self._client.ask(READ, request, until)
            there, entered = (response.response_range.kvs for response in answer.responses)
            groups = {keys.parts(kv.key)[-1] for kv in entered}
            compare = [unchanged_since(rooms, answer.header.revision)]
            if not there and not groups:
                return self._give_up(session, held, until)
            ops = [delete(life), delete(rooms)]
            ops += [delete(of(group, session)) for group in groups | held for of in (keys.here, keys.held)]
            if len(ops) > MOST:  # a hundred groups: the session is fenced first, so that no more come
                some = sorted(groups)[: MOST // 3]
                every = (keys.here, keys.held, lambda group, session: keys.room(session, group))
                self._client.ask(TXN, txn([], ops[:1]), until)
                self._client.ask(TXN, txn([], [delete(of(g, session)) for g in some for of in every]), until)
            elif self._client.ask(TXN, txn(compare, ops), until).succeeded:
                return None

    def _give_up(self, session: SessionId, groups: Collection[str], until: float) -> None:
        """What a session that is over may have held. As a rule it has run out, and nothing is there."""
        spans = [self._keys.held(group, session) for group in sorted(groups)]
        for n in range(0, len(spans), MOST):
            some = spans[n : n + MOST]
            answer = self._client.ask(READ, read([get(span, keys_only=True) for span in some]), until)
            if any(response.response_range.kvs for response in answer.responses):
                self._client.ask(TXN, txn([], [delete(span) for span in some]), until)
