"""Where a store is: one URL, which never shows its password.

memory://name?mode=sessions
sqlite:///relative.db               sqlite:////absolute/path.db     (as SQLAlchemy spells them)
scheme://user:password@host:port,host:port/path?option=value
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from headcount.errors import ConfigError

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_SECRET = re.compile("password|passwd|secret|token|key", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Url:
    """The parts of a store's URL, unquoted. `path` begins with its slash, if there is one.

    Each of `hosts` is `(host, port)`; without a port it is None.
    """

    scheme: str
    hosts: tuple[tuple[str, int | None], ...] = ()
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def safe(self) -> str:
        """The URL for messages and logs: what is secret in it is replaced by three stars."""
        who = "" if self.user is None else quote(self.user)
        if self.password is not None:
            who += ":***"
        hosts = ",".join(_spelt(host, port) for host, port in self.hosts)
        query = "&".join(f"{k}={'***' if _SECRET.search(k) else quote(v)}" for k, v in self.query.items())
        at = "@" if who else ""
        return f"{self.scheme}://{who}{at}{hosts}{quote(self.path)}{'?' + query if query else ''}"

    @property
    def bare(self) -> str:
        """The same without its options."""
        return self.safe.partition("?")[0]

    def __repr__(self) -> str:
        return f"<Url {self.safe}>"

    def __str__(self) -> str:
        return self.safe


def parse(url: str) -> Url:
    """The parts of `url`. Raises `ConfigError`, without repeating what may be secret in it."""
    match = _SHAPE.fullmatch(url)
    if match is None:
        raise ConfigError(
            "a store's URL looks like scheme://host/path, for example sqlite:///headcount.db or memory://; "
            f"this one does not: {_hidden(url)}"
        )
    scheme = match["scheme"].lower()
    who, at, hosts = match["authority"].rpartition("@")
    user, colon, password = who.partition(":")
    return Url(
        scheme=scheme,
        hosts=tuple(_host(scheme, host) for host in hosts.split(",") if host),
        path=unquote(match["path"] or ""),
        query=_options(scheme, match["query"] or ""),
        user=unquote(user) if at else None,
        password=unquote(password) if colon else None,
    )


def one_password(url: Url, password_file: str | None) -> None:
    """Raises `ConfigError` where two are given."""
    if password_file is not None and url.password is not None:
        raise ConfigError(f"{url.safe}: a password in the URL and a password_file: give one of them")


def password(url: Url, password_file: str | None) -> str | None:
    """Read each time that somebody connects, so that it can be changed while we run."""
    one_password(url, password_file)
    if password_file is None:
        return url.password
    try:
        return Path(password_file).read_text().splitlines()[0]
    except (OSError, UnicodeDecodeError, IndexError) as exc:
        raise ConfigError(f"password_file={password_file}: no password can be read there: {exc}") from exc


def _host(scheme: str, text: str) -> tuple[str, int | None]:
    bracketed = re.fullmatch(
        r"\[(?P<host>[^\]]+)\](?::(?P<port>\d+))?|(?P<name>[^:]+)(?::(?P<number>\d+))?", text
    )
    if bracketed is None:
        raise ConfigError(
            f"{text!r} in the {scheme} URL is not host or host:port (an IPv6 address goes in [ ])"
        )
    port = bracketed["port"] or bracketed["number"]
    if port is not None and not 0 < int(port) < 65536:
        raise ConfigError(f"{port} in the {scheme} URL is not a port: those go from 1 to 65535")
    return unquote(bracketed["host"] or bracketed["name"]), None if port is None else int(port)


def _options(scheme: str, query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in found:
            raise ConfigError(f"the option {name!r} is twice in the {scheme} URL: say it once")
        found[name] = value
    return found


def _spelt(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else quote(host)
    return name if port is None else f"{name}:{port}"


def _hidden(url: str) -> str:
    """Text that could not be taken apart: whatever stands before its last @ may be a password."""
    return repr("***@" + url.rpartition("@")[2] if "@" in url else url)
