"""Sixty-four groups at once, over a few processes."""

from __future__ import annotations

import signal

from headcount import Change, Coordinator, Kind
from tests.processes.places import on_every_store
from tests.processes.town import Town
from tests.processes.waiting import changes_until

GROUPS = [f"group-{number:02}" for number in range(64)]
ROUNDS = 3
TTL = 3.0
SOON = 40.0


@on_every_store
def test_who_watches_sixty_four_groups_sees_all_that_happens_in_each(town: Town) -> None:
    """Four processes are members of all of them, and publish one number after the other in each. Of every
    group a watcher hears the numbers of every member in their order, and nobody is disturbed."""
    eye = Coordinator(town.url, timeout=SOON)
    for group in GROUPS:
        town.store.create_group(group)
    listening = {group: eye.group(group).changes() for group in GROUPS}
    people = [town.start(name, groups=GROUPS, ttl=TTL, watch=False) for name in ("ann", "ben", "cid", "dora")]
    for process in people:
        process.wait_for("joined", SOON)
    for number in range(1, ROUNDS + 1):
        for process in people:
            process.signal(signal.SIGUSR1)
        for process in people:
            process.wait_for("published", SOON, number=number)
    last = b"%d" % ROUNDS
    for group, changes in listening.items():
        want = {process.name for process in people}

        def done(change: Change, want: set[str] = want) -> bool:
            if change.member is not None and change.member.capabilities == last:
                want.discard(change.member.member_id)
            return not want

        heard = changes_until(changes, done, SOON)
        kinds = {change.kind for change in heard}
        assert kinds <= {Kind.JOINED, Kind.UPDATED, Kind.LEADER}, f"{group}: {kinds}"
        revisions = [change.view.revision for change in heard]
        assert revisions == sorted(revisions)
        for process in people:
            numbers = [
                int(change.member.capabilities)
                for change in heard
                if change.member is not None
                and change.member.member_id == process.name
                and change.kind in (Kind.JOINED, Kind.UPDATED)
            ]
            assert numbers == sorted(set(numbers)), f"{process.name} in {group}: {numbers}"
    eye.close()
