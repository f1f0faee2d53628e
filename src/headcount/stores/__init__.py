"""The stores, by the scheme of their URL.

A store's module, and with it the client library of its backend, is imported when that store is
made and not before. The built-in stores are found by a table, because asking for the installed
entry points takes longer than everything else that an import of Headcount does; others are found
under the entry point `headcount.stores`. What is asked of a driver:

    options: Mapping[str, type]          its options, by name: str, int, float or bool
    from_url(url, namespace, options)    a class method; makes the store without touching the backend
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Protocol, cast

from headcount.errors import ConfigError, MissingDependency, nearest
from headcount.stores.base import Store
from headcount.stores.url import Url, parse

__all__ = ["Driver", "Url", "make", "parse"]

GROUP = "headcount.stores"

BUILT_IN = {
    "etcd": "headcount.stores.etcd.store:EtcdStore",
    "memory": "headcount.stores.memory:MemoryStore",
    "mysql": "headcount.stores.sql.mysql:MySQLStore",
    "postgresql": "headcount.stores.sql.postgresql:PostgreSQLStore",
    "sqlite": "headcount.stores.sql.sqlite:SQLiteStore",
    "zookeeper": "headcount.stores.zookeeper.store:ZooKeeperStore",
}
ALIASES = {"postgres": "postgresql", "mariadb": "mysql", "zk": "zookeeper"}
"""Other names that people know a scheme by."""

PLANNED = frozenset("redis rediss valkey memcached serf".split())

YES = frozenset({"1", "true", "yes", "on"})
NO = frozenset({"0", "false", "no", "off"})


class Driver(Protocol):
    """What makes the stores of one scheme."""

    options: Mapping[str, type]

    def from_url(self, url: Url, namespace: str, options: Mapping[str, object]) -> Store: ...


def make(
    url: str, *, namespace: str = "default", options: Mapping[str, str | float | bool] | None = None
) -> Store:
    """The store at `url`, not yet opened.

    `options` are those of the driver; they go before what the URL's query says. Raises `ConfigError`
    for a scheme, an option or a value that is not known, `MissingDependency` if the backend's
    client library is not installed.
    """
    where = parse(url)
    driver = _driver(where.scheme)
    return driver.from_url(where, namespace, _checked(where, driver, {**where.query, **(options or {})}))


def _driver(scheme: str) -> Driver:
    place = BUILT_IN.get(ALIASES.get(scheme, scheme))
    if place is None:
        return _foreign(scheme)
    module, _, name = place.partition(":")
    try:
        return cast(Driver, getattr(importlib.import_module(module), name))
    except ImportError as exc:
        raise _missing(scheme, exc) from exc


def _foreign(scheme: str) -> Driver:
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if scheme in found:
        try:
            return cast(Driver, found[scheme].load())
        except ImportError as exc:
            raise _missing(scheme, exc) from exc
    known = sorted(BUILT_IN.keys() | found.keys())
    if scheme in PLANNED:
        raise ConfigError(f"this release has no store for {scheme}:// yet; it has {', '.join(known)}")
    raise ConfigError(
        f"no store has the scheme {scheme!r}{nearest(scheme, known) or '; there are ' + ', '.join(known)}"
    )


def _missing(scheme: str, exc: ImportError) -> Exception:
    """A library that is not there is the user's to install; a fault of our own is not."""
    if (exc.name or "").split(".")[0] == "headcount":
        return exc
    library = exc.name or "a library"
    return MissingDependency(
        f'the {scheme} store needs {library}, which is not installed: pip install "headcount[{scheme}]"'
    )


def _checked(url: Url, driver: Driver, given: Mapping[str, object]) -> dict[str, object]:
    known = driver.options
    checked: dict[str, object] = {}
    for name, value in given.items():
        if name not in known:
            there_are = f"; it has {', '.join(sorted(known))}" if known else "; it has none"
            raise ConfigError(
                f"the {url.scheme} store has no option {name!r}{nearest(name, known) or there_are}"
            )
        checked[name] = _typed(url.scheme, name, value, known[name])
    return checked


def _typed(scheme: str, name: str, value: object, wanted: type) -> object:
    """A value from a URL or the environment is text; one from a program has to have the type already."""
    try:
        if wanted is bool and isinstance(value, str) and value.lower() in YES | NO:
            return value.lower() in YES
        if wanted in (int, float) and isinstance(value, str | int | float) and not isinstance(value, bool):
            return wanted(value)
    except ValueError:
        pass
    if isinstance(value, wanted):
        return value
    a = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}.get(
        wanted, wanted.__name__
    )
    raise ConfigError(f"the option {name!r} of the {scheme} store is {a}, not {value!r}")
