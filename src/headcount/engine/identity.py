"""What tells one process from another, and one machine from another.

The host id is the machine's id and its name together: a container has the machine's id but a name of
its own, a cloned virtual machine the other way round.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from pathlib import Path

from headcount.model import Moment

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def moment() -> Moment:
    """Both clocks, read together. CLOCK_MONOTONIC would stand still in a suspended machine."""
    return Moment(time.clock_gettime(_CLOCK), time.time())


def boot() -> float:
    return time.clock_gettime(_CLOCK)


def host_id() -> str:
    """This machine's name in the store."""
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            machine = Path(place).read_text().strip()
        except OSError:
            continue
        if machine:
            return f"{socket.gethostname()}/{machine[:12]}"
    return socket.gethostname()


def process_id(host: str) -> str:
    return f"{host}/{os.getpid()}"


def fresh() -> str:
    """A name that nobody else has."""
    return uuid.uuid4().hex
