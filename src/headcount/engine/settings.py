"""Where each setting comes from: the argument, else the URL's query, else the environment, else a file.

argument      connect("sqlite:///app.db", ttl=10)
URL query     sqlite:///app.db?ttl=10
environment   HEADCOUNT_URL, HEADCOUNT_MEMBER_ID, HEADCOUNT_TTL, HEADCOUNT_NAMESPACE …
file          $HEADCOUNT_CONFIG, else ~/.config/headcount.toml, else /etc/headcount.toml
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from headcount.core.membership import OnConflict
from headcount.errors import ConfigError, nearest

CONFLICTS = ("take_over", "fail", "wait", "share")
LONGEST = 86_400.0
"""Seconds: a day. Who is not missed for longer than that need not be counted."""
FILES = ("~/.config/headcount.toml", "/etc/headcount.toml")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a coordinator needs to know; `options` are the store's own."""

    url: str = field(repr=False)
    member_id: str | None = None
    ttl: float = 15.0
    beat: float | None = None
    namespace: str = "default"
    on_conflict: OnConflict = "take_over"
    host: str | None = None
    options: Mapping[str, str | float | bool] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict)
    """Of each setting, where its value came from."""


_KINDS: dict[str, type] = {
    "url": str,
    "member_id": str,
    "ttl": float,
    "beat": float,
    "namespace": str,
    "on_conflict": str,
    "host": str,
}


def gather(arguments: Mapping[str, Any], options: Mapping[str, Any]) -> Settings:
    """The settings of one coordinator; an argument of None counts as not given. Raises `ConfigError`
    with where the value came from."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    places: dict[str, str] = {}
    """The sources again, as an error names them."""

    def take(found: Mapping[str, Any], name: str, place: Callable[[str], str]) -> None:
        """What is overridden is looked at too: a mistake is to be found by whoever comes first."""
        for key in _KINDS:
            if found.get(key) is None:
                continue
            value = _typed(key, found[key], place(key))
            if key not in values:
                values[key], sources[key], places[key] = value, name.replace("{}", key), place(key)

    environment = {key: os.environ.get(_variable(key)) or None for key in _KINDS}
    take({k: v for k, v in arguments.items() if k != "url"}, "argument {}", lambda key: "the argument")
    file, path = _file()
    url, source = _first_url(arguments, environment, file, path)
    bare, query = _split(url)
    take(query, "URL", lambda key: f"the URL ({source})")
    take({k: v for k, v in environment.items() if k != "url"}, "environment", _variable)
    take({k: v for k, v in file.items() if k != "url"}, path, lambda key: path)
    sources["url"] = source

    rest = {key: value for key, value in query.items() if key not in _KINDS}
    unknown = file.keys() - _KINDS.keys() - {"options"}
    for key in unknown:
        raise ConfigError(f"{path}: unknown setting {key!r}{nearest(key, [*_KINDS, 'options'])}")
    if not isinstance(file.get("options", {}), dict):
        raise ConfigError(f"{path}: options must be a table of the store's own options, as in [options]")
    merged = {**file.get("options", {}), **rest, **options}
    settings = Settings(url=bare, options=merged, sources=sources, **values)
    _check(settings, places)
    return settings


def _variable(key: str) -> str:
    return f"HEADCOUNT_{key.upper()}"


def named_url() -> str | None:
    """The URL that the environment or the file names; None: neither does. For a face that has a default
    of its own, which the library has not: who forgot to name a store is told so."""
    url = os.environ.get("HEADCOUNT_URL") or _file()[0].get("url")
    return None if url is None else str(_typed("url", url, "HEADCOUNT_URL or the file"))


def _first_url(
    arguments: Mapping[str, Any], environment: Mapping[str, Any], file: Mapping[str, Any], path: str
) -> tuple[str, str]:
    for found, source in ((arguments, "argument url"), (environment, "HEADCOUNT_URL"), (file, path)):
        url = found.get("url")
        if url is not None:
            return str(_typed("url", url, source)), source
    raise ConfigError(
        "no store was named: pass a URL such as connect('sqlite:///headcount.db'), or set HEADCOUNT_URL"
    )


def _split(url: str) -> tuple[str, dict[str, str]]:
    """The URL without the settings that are ours, and its whole query. Nothing else of it is touched: the
    slashes of sqlite:////absolute/path are not what urllib would make of them."""
    bare, _, text = url.partition("?")
    pairs = parse_qsl(text, keep_blank_values=True)
    ours = [key for key, _ in pairs if key in _KINDS]
    if len(set(ours)) < len(ours):
        raise ConfigError(f"a setting is twice in the URL, of {', '.join(ours)}: say it once")
    if not ours:
        return url, dict(pairs)
    kept = urlencode([(key, value) for key, value in pairs if key not in _KINDS])
    return f"{bare}?{kept}" if kept else bare, dict(pairs)


def _file() -> tuple[dict[str, Any], str]:
    named = os.environ.get("HEADCOUNT_CONFIG")
    for name in [named] if named else FILES:
        path = Path(name).expanduser()
        try:
            return tomllib.loads(path.read_text()), str(path)
        except FileNotFoundError:
            if named:
                raise ConfigError(f"HEADCOUNT_CONFIG names {name}, which does not exist") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    return {}, ""


def _typed(key: str, value: Any, source: str) -> Any:
    kind = _KINDS[key]
    if kind is float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{key} must be a number of seconds, not {value!r} (from {source})") from None
        if isinstance(value, bool) or not math.isfinite(number) or number <= 0:
            raise ConfigError(f"{key} must be a number of seconds above 0, not {value!r} (from {source})")
        if number > LONGEST:
            raise ConfigError(
                f"{key} must be {LONGEST:,.0f} s (a day) at most, not {value!r} (from {source})"
            )
        return number
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a string, not {value!r} (from {source})")
    if key == "on_conflict" and value not in CONFLICTS:
        raise ConfigError(
            f"on_conflict must be one of {', '.join(CONFLICTS)}, not {value!r} (from {source})"
            f"{nearest(value, CONFLICTS)}"
        )
    return value


def _check(settings: Settings, places: Mapping[str, str]) -> None:
    if settings.member_id is not None:
        check_id(settings.member_id, "member_id", places["member_id"])
    if settings.beat is not None and settings.beat > settings.ttl / 3:
        raise ConfigError(
            f"beat={settings.beat:g} (from {places['beat']}) is more than a third of ttl={settings.ttl:g} "
            f"(from {places.get('ttl', 'the default')}): one lost beat would be noticed too late. Leave it "
            "out, or make it smaller"
        )
    if not settings.namespace.replace("-", "").replace("_", "").isalnum() or len(settings.namespace) > 64:
        raise ConfigError(
            f"namespace {settings.namespace!r} (from {places['namespace']}) is not usable: letters, digits, "
            "- and _, 64 at most"
        )


def check_id(value: object, what: str, source: str = "") -> str:
    """An id as it may be written: str of 1–200 UTF-8 bytes of printable characters."""
    place = f" (from {source})" if source else ""
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be a str, not {type(value).__name__}{place}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{what} {value!r} cannot be written as UTF-8{place}") from None
    if not 1 <= size <= 200:
        raise ConfigError(f"{what} must be 1 to 200 bytes of UTF-8, not {size}{place}")
    if not value.isprintable():
        raise ConfigError(f"{what} {value!r} has a character that cannot be printed{place}")
    return value


def storable(text: str) -> bool:
    """Whether every store can keep it: it is UTF-8, and has no NUL."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
