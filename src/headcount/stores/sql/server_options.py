"""What every store on a database server is told by its URL, and what each of them promises."""

from __future__ import annotations

from collections.abc import Mapping

from headcount.errors import ConfigError
from headcount.model import Guarantees, Seconds
from headcount.stores.url import Url, one_password

PROMISES = Guarantees(
    scope="network",
    expiry="ticks",
    deltas=True,
    stall_safe=True,
    exclusive=True,
    durable=True,
    advisory_failover=True,
    max_capabilities=65_536,
    precision=0.0,
    recheck=None,
)

OPTIONS: Mapping[str, type] = {"interval": float, "timeout": float, "poll": float, "password_file": str}

INTERVAL = 1.0
"""Seconds between ticks, unless somebody says otherwise when the store is made."""

LEAST_POLL = 0.05
"""Seconds from one look for changes to the next."""

RANGES = {"interval": (0.05, 3600.0), "timeout": (0.1, 60.0), "poll": (LEAST_POLL, 60.0)}


def check(url: Url, password_file: str | None, **numbers: Seconds | None) -> None:
    """Raises `ConfigError` for what can be known to be wrong before anybody connects."""
    for name, value in numbers.items():
        least, most = RANGES[name]
        if value is not None and not least <= value <= most:
            raise ConfigError(
                f"{url.safe}: the option {name!r} goes from {least:g} to {most:g}, not {value:g}"
            )
    one_password(url, password_file)
    if url.path.strip("/").count("/"):
        raise ConfigError(f"{url.safe}: after the host comes one name, that of the database")
