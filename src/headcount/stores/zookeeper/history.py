"""What happened in a group: the last lines in its head, those before in nodes of their own."""

from __future__ import annotations

from collections.abc import Collection

from kazoo.protocol.serialization import GetData, Sync

from headcount.errors import GroupNotFound
from headcount.model import Entry, Seconds
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.loading import head_in
from headcount.stores.zookeeper.names import Paths
from headcount.stores.zookeeper.records import Line, decode


def history(
    link: Link, paths: Paths, groups: Collection[str], member_id: str | None, limit: int, until: Seconds
) -> list[Entry]:
    """The newest last. Of several groups in the order of the time of day, which hosts may see differently; of
    one, in the order in which it was committed."""
    found: list[tuple[float, int, Entry]] = []
    for group in groups:
        try:
            entries = _of_one(link, paths, group, member_id, limit, until)
        except GroupNotFound:
            continue
        at = 0.0
        for number, entry in enumerate(entries):
            at = max(at, entry.at)
            found.append((at, number, entry))
    if len(groups) > 1:
        found.sort(key=lambda one: one[:2])
    return [entry for _, _, entry in found][-limit:]


def _of_one(
    link: Link, paths: Paths, group: str, member_id: str | None, limit: int, until: Seconds
) -> list[Entry]:
    at = paths.head(group)
    _, answer = link.ask(Sync(at), GetData(at, None), until=until)
    head, _ = head_in(answer, group, link.where.address)
    entries = _told([*head.tail], group, member_id)
    numbers = [head.first + place for place in range(len(head.parts))]
    while numbers and len(entries) < limit:
        some, numbers = numbers[-10:], numbers[:-10]
        _, answers, _ = link.get([f"{at}/h:{number}" for number in some], until=until)
        lines: list[Line] = []
        for answer in answers:
            if not isinstance(answer, Exception):  # else it was trimmed meanwhile
                lines += _lines(answer[0])
        entries = _told(lines, group, member_id) + entries
    return entries


def _told(lines: list[Line], group: str, member_id: str | None) -> list[Entry]:
    return [line.entry(group) for line in lines if member_id in (None, line.member_id)]


def _lines(data: bytes) -> list[Line]:
    try:
        return decode(data, list[Line])
    except ValueError:
        return []
