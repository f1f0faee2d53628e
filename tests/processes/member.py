"""A process that is a member of a group, and says what happens to it: one line of JSON for each event.

    python -m tests.processes.member '{"url": "sqlite:///…", "member_id": "ann", "ttl": 1.0, "lead": true}'

It joins, tells the changes of the group, leads when it is its turn if it was told to, and ends with a proper
goodbye on SIGTERM; on SIGUSR1 it publishes the next number. `groups`: it joins these too. `crowd`: so many
processes at once, forked before any of them has connected. Times are of CLOCK_BOOTTIME, which all processes
of a host share.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import Any

import headcount
import headcount.stores
from headcount import Group, HeadcountError, Term

_write = os.write  # eventlet's own, which it puts in its place, is not for several threads


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def say(event: str, **more: Any) -> None:
    """One write, so that the lines of several threads and processes do not mix."""
    line = json.dumps({"event": event, "at": now(), "pid": os.getpid(), **more})
    _write(1, f"{line}\n".encode())


def main() -> None:
    config = json.loads(sys.argv[1])
    if config.get("loop") == "eventlet":
        import eventlet

        eventlet.monkey_patch()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    if config.get("crowd"):
        headcount.stores.make(config["url"])  # fifty that load its client library take long
    for n in range(config.pop("crowd", 0)):
        if os.fork() == 0:
            config["member_id"] += f"-{n:02}"
            break
    else:
        if config["member_id"].endswith("*"):  # the one that forked them
            signal.sigwait({signal.SIGTERM})
            return
    be(config)


def be(config: dict[str, Any]) -> None:
    coordinator = headcount.connect(
        config["url"],
        member_id=config["member_id"],
        ttl=config["ttl"],
        on_conflict=config.get("on_conflict"),
        timeout=30.0,
    )
    group = coordinator.join_group("workers", b"", create=True)
    if config.get("watch", True):
        changes = group.changes()
        threading.Thread(target=tell, args=(changes,), daemon=True).start()
        group.view()
    for name in config.get("groups", ()):
        coordinator.join_group(name, b"0", create=True)
    health = coordinator.health()
    say("joined", member=config["member_id"], session=health["session"], incarnation=health["incarnations"])
    if config.get("lead"):
        threading.Thread(target=lead, args=(group, config), daemon=True).start()
    if config.get("loop") == "eventlet":
        busy(config["busy"], group)
    published = 0
    while signal.sigwait({signal.SIGTERM, signal.SIGUSR1}) == signal.SIGUSR1:
        published += 1
        coordinator.update_capabilities(b"%d" % published)
        say("published", number=published)
    coordinator.close()
    say("closed")


def tell(changes: headcount.Changes) -> None:
    for change in changes:
        member = change.member
        say(
            "change",
            kind=change.kind,
            member=member.member_id if member else None,
            incarnation=member.incarnation if member else None,
            status=member.status if member else None,
            revision=change.view.revision,
        )


def lead(group: Group, config: dict[str, Any]) -> None:
    while True:
        try:
            with group.leadership() as term:
                say("leads", token=term.token)
                if config.get("freezes"):
                    freeze(term, config)
                while_trusted(term)
        except HeadcountError as error:
            say("leads no more", error=type(error).__name__)
            return


def while_trusted(term: Term) -> None:
    """Tells an interval in which the term was certainly trusted: from after the first yes to before the
    last one. What is paused between reading the clock and asking only makes it shorter."""
    first = last = told = None
    while True:
        before = now()
        if not term.trusted:
            break
        first, last = first or now(), before
        if told is None or last - told > 0.02:
            told = last
            say("trusted", token=term.token, first=first, last=last)
        time.sleep(0.002)
    say("trusted", token=term.token, first=first, last=last)


def freeze(term: Term, config: dict[str, Any]) -> None:
    """Stands still between checking and writing, which no check can prevent; then writes all the same."""
    from tests.processes.sink import write

    token = term.check()
    say("frozen", token=token)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.05)  # the signal stops the process at the latest here
    say("wrote", token=token, taken=write(config["sink"], token, config["member_id"]), trusted=term.trusted)


def busy(seconds: float, group: Group) -> None:
    """Green threads that share one native one, which is then kept busy: no other of them runs."""
    import eventlet

    said: list[float] = []
    green = eventlet.spawn(lambda: said.append(now()))
    green.wait()
    incarnation = group.view()[group._coordinator.member_id or ""].incarnation
    began = now()
    while now() - began < seconds:
        pass
    member = group.view(fresh=True)[group._coordinator.member_id or ""]
    say("was busy", before=incarnation, after=member.incarnation, status=member.status, seconds=now() - began)


if __name__ == "__main__":
    main()
