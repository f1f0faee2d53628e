"""The layout of the prefix, and groups that come and go in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kazoo.exceptions import NodeExistsError, NoNodeError, NotEmptyError
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Delete,
    Exists,
    GetChildren,
    GetData,
    SetData,
    Sync,
)
from msgspec.structs import replace

from headcount.errors import ConfigError, SchemaMismatch, StoreUnavailable
from headcount.model import Revision, Seconds, hidden
from headcount.stores.base import not_empty
from headcount.stores.zookeeper.commit import LARGEST
from headcount.stores.zookeeper.link import Link
from headcount.stores.zookeeper.loading import head_in
from headcount.stores.zookeeper.names import Paths, id_of, name_of
from headcount.stores.zookeeper.reading import Reading
from headcount.stores.zookeeper.records import LAYOUT, Head, Layout, decode, encode

OURS = b"headcount"
"""In the nodes whose children are the live members of a group."""

EPOCH = 1_735_689_600
"""2025 began then. A prefix that was removed and is made again begins above all that was there before."""


def prepare(link: Link, paths: Paths, until: Seconds) -> None:
    """Find the layout, or make it; and what has been removed of it by hand."""
    (found,) = link.ask(GetData(paths.own, None), until=until)
    if isinstance(found, Exception):
        parts = paths.own.strip("/").split("/")
        for count in range(1, len(parts)):
            _make(link, "/" + "/".join(parts[:count]), b"", until)
        _make(link, paths.own, encode(Layout(LAYOUT)), until)
        (found,) = link.ask(GetData(paths.own, None), until=until)
    try:
        layout = decode(found[0], Layout)
    except (ValueError, TypeError) as exc:
        raise SchemaMismatch(
            f"{link.where.address}: {paths.own} is not Headcount's: {exc}. Use another prefix"
        ) from exc
    if layout.layout != LAYOUT:
        raise SchemaMismatch(
            f"{link.where.address}: {paths.own} has the layout {layout.layout}, and this release knows "
            f"{LAYOUT}. Use the release that made it, or another prefix"
        )
    needed = [paths.sessions, paths.witnesses, paths.groups, paths.hidden, paths.floor]
    there = link.ask(*(Exists(path, None) for path in needed), until=until)
    for path, stat in zip(needed, there, strict=True):
        if stat is None:
            begin = b"%d" % ((int(time.time()) - EPOCH) << 32) if path == paths.floor else b""
            _make(link, path, begin, until)


def _make(link: Link, path: str, data: bytes, until: Seconds) -> None:
    link.ask(Create(path, data, list(link.where.acl), 0), until=until, writes=True)


class Groups:
    def __init__(self, link: Link, paths: Paths, until: Seconds) -> None:
        self._link, self._paths, self._until = link, paths, until

    def all(self) -> list[str]:
        _, found = self._link.ask(
            Sync(self._paths.groups), GetChildren(self._paths.groups, None), until=self._until
        )
        names = [] if isinstance(found, Exception) else found
        return [id_of(name) for name in names if name_of(id_of(name)) == name]

    def listed(self) -> list[str]:
        return sorted(group for group in self.all() if not hidden(group))

    def _floor(self) -> tuple[Revision, int]:
        (found,) = self._link.ask(GetData(self._paths.floor, None), until=self._until)
        try:
            return int(found[0]), found[1].version
        except (TypeError, ValueError) as exc:
            raise SchemaMismatch(
                f"{self._link.where.address}: {self._paths.floor} is gone, or no number any more; open the "
                "store anew after removing it"
            ) from exc

    def create(self, group: str) -> bool:
        head, live, acl = self._paths.head(group), self._paths.live(group), list(self._link.where.acl)
        mine: list[Any] = [Create(live, OURS, acl, 0)]
        while True:
            floor, version = self._floor()
            made = Head(revision=floor + 1, since=floor + 1, born=floor + 1)
            operations = [
                CheckVersion(self._paths.floor, version),
                Create(head, encode(made), acl, 0),
                Create(self._paths.born(group, made.born), b"", acl, 0),
                *mine,
            ]
            failed = self._link.multi(operations, self._until)
            if failed is None:
                return True
            if isinstance(failed.error, NodeExistsError):
                if failed.place == 1:
                    return False
                self._look_at(live)
                mine = []
            elif isinstance(failed.error, NoNodeError):
                prepare(self._link, self._paths, self._until)

    def _look_at(self, live: str) -> None:
        (found,) = self._link.ask(GetData(live, None), until=self._until)
        if not isinstance(found, Exception) and found[0] != OURS:
            raise ConfigError(
                f"{self._link.where.address}: {live} is somebody else's node, and its children would be "
                "taken for members. Use another prefix, or another name for the group"
            )

    def new_epoch(self) -> int:
        """Every later revision is above all that were given out before, whatever has been restored."""
        while True:
            floor, version = self._floor()
            epoch = max(floor >> 32, int(time.time()) - EPOCH) + 1
            begun = SetData(self._paths.floor, b"%d" % (epoch << 32), version)
            if self._link.multi([begun], self._until) is None:
                break
        for group in self.all():
            self._begin_anew(group, epoch << 32)
        return epoch

    def _begin_anew(self, group: str, revision: Revision) -> None:
        path = self._paths.head(group)
        while True:
            (found,) = self._link.ask(GetData(path, None), until=self._until)
            if isinstance(found, Exception):
                return  # deleted meanwhile
            head, version = head_in(found, group, self._link.where.address)
            above = max(revision, head.revision)
            begun = replace(head, revision=above, since=above, log=())
            there = Exists(self._paths.born(group, head.born), None)
            (born,) = self._link.ask(there, until=self._until)
            same = [CheckVersion(there.path, -1)] if born is not None else []
            if self._link.multi([SetData(path, encode(begun), version), *same], self._until) is None:
                return

    def delete(self, group: str, reading: Callable[[], Reading]) -> bool:
        """Raises `GroupNotEmpty`; the caller knows what to make of `GroupNotFound`."""
        head, live = self._paths.head(group), self._paths.live(group)
        keep_list = False
        while True:
            read = reading()
            whole = read.whole()
            living = {row.member_id for row in whole.rows if row.live}
            if living or whole.claims:
                raise not_empty(group, living, {claim.member_id for claim in whole.claims})
            floor, floor_version = self._floor()
            (names,) = self._link.ask(GetChildren(head, None), until=self._until)
            if isinstance(names, Exception):
                continue
            born = self._paths.born(group, read.born)
            begun = [path for name in names if (path := f"{head}/{name}").startswith(f"{head}/b:")]
            if begun and born not in begun:
                continue  # it was deleted and made again meanwhile
            unmoved = [CheckVersion(head, read.version), *(CheckVersion(path, -1) for path in begun)]
            children: list[Any] = [Delete(f"{head}/{name}", -1) for name in names if name[:2] != "b:"]
            last = [
                *(Delete(path, -1) for path in begun),
                Delete(head, read.version),
                *([] if keep_list else [Delete(live, -1)]),
                SetData(self._paths.floor, b"%d" % max(floor, whole.revision), floor_version),
            ]
            most = LARGEST // (len(head) + 700)
            while len(children) > most:
                if self._link.multi([*unmoved, *children[:most]], self._until) is not None:
                    break
                children = children[most:]
            operations = [*unmoved, *children, *last]
            failed = self._link.multi(operations, self._until)
            if failed is None:
                return True
            if (
                isinstance(failed.error, NotEmptyError | NoNodeError)
                and operations[failed.place].path == live
            ):
                keep_list = True  # somebody else's nodes are in it, or it was removed by hand
            elif time.monotonic() >= self._until:
                raise StoreUnavailable(f"{self._link.where.address}: group {group!r} changes all the time")
