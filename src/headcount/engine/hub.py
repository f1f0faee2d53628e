"""One process on one store: two native threads, a lock, and the core.

    heart thread     with the lock: node.heart.next ─► without: store.beat / advance ─► node.heart.done
    watcher thread   the same with node.watcher; and jobs, which are single calls of the application

All coordinators of a process that name the same store share its hub: their sessions beat in one batch,
a group that several of them watch is read once. No caller ever waits for the store itself, only for
a thread of the hub, and never longer than it said.

A child that was forked has none of its parent's threads, and must not touch its connections: there the
hub is marked, and every call says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from headcount import native, stores
from headcount.core.agent import Agent
from headcount.core.backoff import Backoff
from headcount.core.node import Node
from headcount.core.replica import Replica
from headcount.core.work import (
    Listen,
    OutageBegan,
    OutageEnded,
    Rest,
    Told,
    ToldSelf,
    WatchAnswer,
    WatchRequest,
)
from headcount.engine.callers import EVERYBODY, Job, Jobs, Waiter, Waiters
from headcount.engine.errands import beat, do
from headcount.engine.herald import flush, say
from headcount.engine.identity import boot, moment
from headcount.engine.notifier import Listener, Notifier, Queue
from headcount.errors import Closed, HeadcountError, OutcomeUnknown, StoreUnavailable
from headcount.model import Change, Ring, View
from headcount.stores.base import Doorbell, Store, TickingStore

T = TypeVar("T")


class Hub:
    """Made by `Hub.of`, which hands out one for each store."""

    def __init__(self, key: object, store: Store) -> None:
        self.key = key
        self.store = store
        self.lock = native.threading().RLock()
        self.node = Node(store.guarantees, boot)
        self.notifier = Notifier()
        self.forked = False
        self.opened = False
        self.interval: float | None = None
        self.open_error: HeadcountError | None = None
        self.users = 0
        self._stopping = False
        self._jobs = Jobs()
        self._waiters = Waiters()
        self._reached: tuple[bool, HeadcountError | None, HeadcountError | None] = (False, None, None)
        self._queues: dict[str, list[tuple[str, Queue]]] = {}
        self._watched: dict[str, set[str]] = {}
        self._heart_wake = native.threading().Event()
        self._watch_wake = native.threading().Event()
        self._bell: Doorbell | None = None
        self._threads: list[Any] = []
        self._at_work = 2

    # ── one for each store and process ──

    @classmethod
    def of(cls, url: str, namespace: str, options: Mapping[str, str | float | bool]) -> Hub:
        """The hub of this store in this process, started if need be. To be given back by `release`."""
        key = (os.getpid(), url, namespace, tuple(sorted(options.items())))
        with _hubs_lock:
            hub = _hubs.get(key)
            if hub is None or hub._stopping:
                hub = cls(key, stores.make(url, namespace=namespace, options=options))
                _hubs[key] = hub
                hub._start()
            hub.users += 1
            return hub

    def release(self, timeout: float) -> None:
        """One user less; the last one stops the threads and closes the store."""
        with _hubs_lock:
            self.users -= 1
            if self.users > 0:
                return
            self._stopping = True
            if _hubs.get(self.key) is self:
                del _hubs[self.key]
        until = boot() + timeout
        self._wake(heart=True, watcher=True)
        current = native.threading().current_thread()
        for thread in self._threads:
            if thread is not current:
                thread.join(max(0.0, until - boot()))
        self.notifier.stop(max(0.0, until - boot()))
        flush(max(0.0, min(0.5, until - boot())))

    def _start(self) -> None:
        self.store.on_corrupt = lambda message: say(logging.ERROR, "%s", message)
        _alive.add(self)
        for name, run in (("heart", self._heart), ("watcher", self._watch)):
            thread = native.threading().Thread(target=run, name=f"headcount-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    # ── for the faces ──

    def call(self, call: Callable[[Store], T], timeout: float, *, owner: str = "", writes: bool = True) -> T:
        """Have the watcher carry out one call, for the coordinator `owner`. Raises what the store raises;
        if it does not answer in time `StoreUnavailable`, or `OutcomeUnknown` if something may have been,
        or may yet be, written."""
        job = Job(call, boot() + timeout, owner)
        with self.lock:
            agent = self.node.agents.get(owner)
            if self._stopping or (owner and (agent is None or agent.closing)):
                raise Closed("this coordinator has been closed")
            self._jobs.add(job)
        self._wake(watcher=True)
        if not native.wait(job.done, timeout + 0.05):
            with self.lock:
                job.given_up = True
                under_way = self._jobs.running is job
            if under_way and writes:
                raise OutcomeUnknown(
                    f"{self.store.address} did not answer within {timeout:g} s, and may still do what it "
                    "was asked: look before you ask again"
                )
            raise job.error or self.unavailable(timeout)
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]  # set whenever there is no error

    def wait_until(
        self, predicate: Callable[[], bool], timeout: float | None, *, of: Agent | None = None
    ) -> bool:
        """Wait until this is so; the predicate is asked under the lock, whenever something moved. If
        it is `of` one coordinator alone: whenever that one did, or the store was reached or lost."""
        waiter, whose = Waiter(predicate), of.me.instance if of is not None else EVERYBODY
        with self.lock:
            if predicate():
                return True
            self._waiters.add(waiter, whose)
        self._wake(watcher=True)
        try:
            return native.wait(waiter.event, timeout)
        finally:
            with self.lock:
                self._waiters.remove(waiter, whose)

    def cancel(self, owner: str, error: HeadcountError) -> None:
        """This coordinator is closing: end its calls, and ask all who wait whether they wait on."""
        with self.lock:
            self._jobs.cancel(owner, error)
            self._waiters.ask(None)

    def unavailable(self, timeout: float) -> HeadcountError:
        """The error to raise when the store did not do a thing in time."""
        known = self.open_error or self.node.outage.error
        if known is not None and not isinstance(known, ConnectionError):
            return known
        why = str(known) if known else f"{self.store.address} did not answer"
        return StoreUnavailable(f"{why} (waited {timeout:g} s; worth trying again)")

    @property
    def fatal(self) -> HeadcountError | None:
        """An error of the store that waiting does not mend."""
        known = self.open_error or self.node.outage.error
        return known if known is not None and not isinstance(known, ConnectionError) else None

    def poke(self, agent: Agent) -> None:
        with self.lock:
            self.node.watcher.poke(agent)
        self.wake()

    def wake(self) -> None:
        self._wake(heart=True, watcher=True)

    def watch(self, group: str, agent: Agent) -> Replica:
        """Have this coordinator watch a group, from now until it closes."""
        with self.lock:
            watchers = self._watched.setdefault(group, set())
            if agent.me.instance not in watchers:
                watchers.add(agent.me.instance)
                agent.watching += 1
                self.node.watcher.poke(agent)
            replica = self.node.watch(group)
        self._wake(watcher=True)
        return replica

    def subscribe(self, group: str, instance: str, queue: Queue) -> None:
        """To be called with the lock held, so that nothing lies between a view and what follows it."""
        self._queues.setdefault(group, []).append((instance, queue))

    def unsubscribe(self, group: str, queue: Queue) -> None:
        with self.lock:
            left = [pair for pair in self._queues.pop(group, []) if pair[1] is not queue]
            if left:
                self._queues[group] = left

    def listen(self, group: str, instance: str, callback: Callable[[Change], object]) -> Listener:
        listener = Listener(group, callback)
        with self.lock:
            self.subscribe(group, instance, listener.queue)
        self.notifier.add(listener)
        return listener

    def silence(self, listener: Listener) -> None:
        self.unsubscribe(listener.group, listener.queue)
        self.notifier.remove(listener)

    def _let_go(self, group: str) -> None:
        """A group has vanished. Unless somebody is told of it, or is to be a member, nobody watches it:
        who looks again begins anew. Else a process would remember every group that there ever was."""
        members = (agent.memberships.get(group) for agent in self.node.agents.values())
        if group in self._queues or any(m is not None and m.desired is not None for m in members):
            return
        for instance in self._watched.pop(group, ()):
            agent = self.node.agents.get(instance)
            if agent is not None:
                agent.watching -= 1
        self.node.unwatch(group)

    def drop(self, agent: Agent) -> None:
        """This coordinator is closed: nothing of it stays."""
        with self.lock:
            for group, watchers in list(self._watched.items()):
                watchers.discard(agent.me.instance)
                if not watchers:
                    del self._watched[group]
                    self.node.unwatch(group)
            self.node.drop(agent)

    # ── the heart ──

    def _heart(self) -> None:
        try:
            while not self._stopping:
                self._survive(self._heart_once)
        finally:
            self._leave()

    def _heart_once(self) -> None:
        while not self._stopping:
            with self.lock:
                self._heart_wake.clear()
                request = self.node.heart.next(moment())
                self._after()
            if isinstance(request, Rest):
                self._heart_wake.wait(max(0.0, request.until - boot()))
                continue
            asked = moment()
            answer = self._guarded(lambda request=request: beat(self.store, request))  # type: ignore[misc]
            with self.lock:
                self.node.heart.done(request, asked, moment(), answer)
                self._after()
                busy = self.node.watcher.pending
            if busy:
                self._wake(watcher=True)

    # ── the watcher ──

    def _watch(self) -> None:
        try:
            retry = Backoff(0.05, 2.0, str(self.key))
            while not self._stopping:
                if self.opened:
                    self._survive(self._watch_once)
                else:
                    self._open(retry)
        finally:
            self._hang_up()
            self._leave()

    def _open(self, retry: Backoff) -> None:
        error = self._guarded(self._connect)
        with self.lock:
            self.opened = error is None
            self.open_error = error
            if error is not None:
                self.node.failed("open", error, boot())
            elif retry.failures:
                self.node.served("open", boot())
            self._after()
        if error is not None:
            with self.lock:
                self._jobs.refuse(error)
            self._watch_wake.wait(retry.failed())
            self._watch_wake.clear()

    def _connect(self) -> None:
        self.store.open()
        if self.store.guarantees.expiry == "ticks" and isinstance(self.store, TickingStore):
            self.interval = self.store.tick().interval

    def _watch_once(self) -> None:
        with self.lock:
            job = self._jobs.take()
        if job is not None:
            over = job.run(self.store)
            with self.lock:
                self._jobs.ran(job, over=over)
        with self.lock:
            self._watch_wake.clear()
            request = self.node.watcher.next(moment())
            self._after()
            soonest = self._jobs.soonest()
            if isinstance(request, Listen) and soonest is not None:
                request = Listen(min(request.until, soonest), request.doorbell)
        if isinstance(request, Listen) and not request.doorbell:
            self._watch_wake.wait(max(0.0, request.until - boot()))
            return
        asked = moment()
        answer: WatchAnswer | HeadcountError = self._guarded(lambda: self._do(request))
        with self.lock:
            self.node.watcher.done(request, asked, moment(), answer)
            self._after()

    def _do(self, request: WatchRequest) -> WatchAnswer:
        return self._listen(request.until) if isinstance(request, Listen) else do(self.store, request)

    def _listen(self, until: float) -> WatchAnswer:
        if self._bell is None:
            bell = self.store.doorbell()
            with self.lock:
                self._bell = bell
            return Ring(groups=None)  # it tells what follows it: what came after our readings it may not
        if self._watch_wake.is_set():
            return self._bell.wait(0)
        return self._bell.wait(max(0.0, until - boot()))

    def _hang_up(self) -> None:
        with self.lock:
            self._jobs.end(StoreUnavailable(f"{self.store.address} is being closed"))
            bell = self._bell
        if bell is not None:
            with contextlib.suppress(HeadcountError):
                bell.close()

    # ── for both ──

    def _leave(self) -> None:
        """The last of the two threads to end closes the store: to close a connection under a call that
        the other one has not come back from is to crash, in more than one client library."""
        with self.lock:
            self._at_work -= 1
            last = self._at_work == 0
        if last:
            with contextlib.suppress(HeadcountError):
                self.store.close()

    def _guarded(self, call: Callable[[], T]) -> T | HeadcountError:
        """A store may only raise our errors; another one is a defect of the store, and no reason for
        a thread to die."""
        try:
            return call()
        except HeadcountError as error:
            return error
        except Exception as error:  # noqa: BLE001 - see above
            say(
                logging.ERROR,
                "%s: the store failed in a way it should not",
                self.store.address,
                exc_info=error,
            )
            return StoreUnavailable(f"{self.store.address}: {type(error).__name__}: {error}")

    def _survive(self, once: Callable[[], None]) -> None:
        """A defect of ours must be loud, but not end a thread on which a membership hangs."""
        try:
            once()
        except Exception as error:  # noqa: BLE001 - see above
            say(
                logging.ERROR, "a defect in Headcount, please report it; going on in a second", exc_info=error
            )
            native.threading().Event().wait(1.0)

    def _wake(self, *, heart: bool = False, watcher: bool = False) -> None:
        if heart:
            self._heart_wake.set()
        if watcher:
            self._watch_wake.set()
            bell = self._bell
            if bell is not None:
                bell.wake()

    def _after(self) -> None:
        """With the lock held, after anything may have moved."""
        self._ask_waiters()
        while self.node.vanished:
            self._let_go(self.node.vanished.pop())
        if self.node.heart.hurried():
            self._wake(heart=True)
        for tiding in self.node.fetch():
            match tiding:
                case Told(group, changes):
                    for _, queue in self._queues.get(group, ()):
                        queue.put(changes)
                    self.notifier.wake()
                case ToldSelf(instance, group, kind):
                    self._tell_self(instance, group, kind)
                case OutageBegan(error):
                    say(
                        logging.WARNING,
                        "%s does not serve us: %s; views grow older",
                        self.store.address,
                        error,
                    )
                case OutageEnded(seconds):
                    say(logging.INFO, "%s serves us again, after %.1f s", self.store.address, seconds)

    def _ask_waiters(self) -> None:
        moved, self.node.moved = self.node.moved, set()
        before, self._reached = self._reached, (self.opened, self.open_error, self.node.outage.error)
        self._waiters.ask(moved if self._reached == before else None)

    def _tell_self(self, instance: str, group: str, kind: Any) -> None:
        agent, replica = self.node.agents.get(instance), self.node.replicas.get(group)
        name = agent.me.member_id if agent else ""
        say(logging.INFO, "%r in group %r: %s", name, group, kind)
        if agent is None:
            return
        view = replica.view if replica is not None else None
        if view is None:
            view = View(group, 0, {}, confirmed=[float("-inf")], now=boot)
        change = Change(kind=kind, view=view, member=view.get(name))
        for owner, queue in self._queues.get(group, ()):
            if owner == instance:
                queue.put([change])
        self.notifier.wake()


_hubs: dict[object, Hub] = {}
_hubs_lock = native.threading().Lock()
_alive: weakref.WeakSet[Hub] = weakref.WeakSet()


def _in_child() -> None:
    """After a fork: the parent's hubs are not ours. Nothing of theirs is closed here."""
    global _hubs_lock
    _hubs_lock = native.threading().Lock()
    _hubs.clear()
    for hub in list(_alive):
        hub.forked = True
        # Threads that are not here may have held these. And nobody is left who would fill a queue.
        hub.lock = native.threading().RLock()
        for pairs in hub._queues.values():
            for _, queue in pairs:
                queue.closed = True
    _alive.clear()


os.register_at_fork(after_in_child=_in_child)
