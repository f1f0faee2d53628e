"""Threads and locks of the operating system, also where a program has replaced Python's.

Eventlet's monkey patching turns `threading` into green threads of one native thread: a busy service
then starves its own heart. What must go on beating takes the unpatched modules from here, when it
starts; and whoever waits for it in a green thread waits without blocking the others.
"""

from __future__ import annotations

import importlib
import importlib.util
import select as _select
import sys
import threading as _threading
import time
from typing import Any, Protocol

_SSL = "headcount._unpatched_ssl"


class Waitable(Protocol):
    def wait(self, timeout: float | None = None) -> bool: ...
    def is_set(self) -> bool: ...


def threading() -> Any:
    """The module `threading`, unpatched."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher.original("threading") if patcher is not None else _threading


def socket() -> Any:
    """The module `socket`, unpatched."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher.original("socket") if patcher is not None else importlib.import_module("socket")


def ssl() -> Any:
    """The module `ssl`, unpatched: made anew, on sockets that are unpatched too, which eventlet's own
    `original` leaves out."""
    if "eventlet.patcher" not in sys.modules:
        return importlib.import_module("ssl")
    if _SSL not in sys.modules:
        spec = importlib.util.spec_from_file_location(_SSL, importlib.import_module("ssl").__file__)
        assert spec is not None
        assert spec.loader is not None
        patched, plain = sys.modules["socket"], socket()
        made = sys.modules[_SSL] = importlib.util.module_from_spec(spec)
        sys.modules["socket"] = plain
        try:
            spec.loader.exec_module(made)
        except BaseException:
            del sys.modules[_SSL]
            raise
        finally:
            sys.modules["socket"] = patched
    return sys.modules[_SSL]


def library(name: str) -> Any:
    """A client library, imported so that the threads and locks that it takes are native ones. What has been
    imported before stays as it is; the parts of Python's library that it shares with others must be."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is None or name in sys.modules:
        return importlib.import_module(name)
    for shared in ("asyncio", "concurrent.futures.thread", "logging"):
        importlib.import_module(shared)
    patched = {part: importlib.import_module(part) for part in ("threading", "time", "queue", "select")}
    sys.modules.update({part: patcher.original(part) for part in patched})
    try:
        return importlib.import_module(name)
    finally:
        sys.modules.update(patched)


def poll() -> Any:
    """A `select.poll`, unpatched: eventlet takes it away."""
    patcher = sys.modules.get("eventlet.patcher")
    return (patcher.original("select") if patcher is not None else _select).poll()


def green() -> bool:
    """Whether the calling thread is one in which green threads run."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.is_monkey_patched("thread"))


def acquire(lock: Any, timeout: float | None) -> bool:
    """Take a native lock; in a green thread, so that its holder, which may be another one, runs on."""
    if not green():
        return bool(lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)))
    import eventlet

    until = None if timeout is None else time.monotonic() + timeout
    while not lock.acquire(blocking=False):
        if until is not None and time.monotonic() >= until:
            return False
        eventlet.sleep(0.005)
    return True


def wait(event: Waitable, timeout: float | None) -> bool:
    """Wait for a native event; in a green thread, so that the other green threads run on."""
    if not green():
        return event.wait(timeout)
    import eventlet

    until = None if timeout is None else time.monotonic() + timeout
    while not event.is_set():
        if until is not None and time.monotonic() >= until:
            return False
        eventlet.sleep(0.005)
    return True
