"""What an error of PostgreSQL means here, in this place only.

An error of a statement is told by its SQLSTATE. One of connecting has none (the client library does not hand
it on), and is told by its words; a server that speaks another language than English is understood as one that
cannot be reached, with its own words in the message.
"""

from __future__ import annotations

import psycopg

from headcount.errors import (
    AccessDenied,
    ConfigError,
    HeadcountError,
    OutcomeUnknown,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.stores.sql.collisions import Collided
from headcount.stores.sql.speaking import NoSchema

REFUSED = (
    "password authentication failed",
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "is not permitted to log in",
    "permission denied for database",
    "certificate verify failed",
    "certificate required",
)
FULL = (
    "remaining connection slots",
    "too many clients",
    "too many connections",
    "no more connections allowed",
)
STANDBY = ("session is read-only", "server is in hot standby mode", "session is not read-only")
NO_TLS = ("does not support SSL", "invalid sslmode", "root certificate file", "invalid channel_binding")


def cannot_connect(exc: psycopg.Error, address: str) -> HeadcountError:
    """Of several hosts, what all of them say: while one may come back, waiting may help."""
    if exc.sqlstate:
        return translate(exc, address)
    if isinstance(exc, psycopg.errors.ConnectionTimeout):
        return StoreUnavailable(f"{address} did not answer")
    tries = [line for line in str(exc).splitlines() if line.startswith("- host: ")] or [str(exc)]
    text = "; ".join(" ".join(one.split()).removeprefix("connection failed: ") for one in tries)

    def all_say(*words: str) -> bool:
        return all(any(word in one for word in words) for one in tries)

    if (exc.pgconn is not None and exc.pgconn.needs_password) or all_say(*REFUSED):
        return AccessDenied(f"{address}: {text}. Look at the user, the password, and pg_hba.conf")
    if all_say("does not exist") and all_say("role "):
        return AccessDenied(f"{address}: {text}. Make it with: createuser NAME")
    if all_say("does not exist") and all_say("database "):
        return ConfigError(f"{address}: {text}. Make it with: createdb NAME")
    if all_say(*FULL):
        return no_room(address, text)
    if all_say(*STANDBY):
        return read_only(address)
    if all_say(*NO_TLS):
        return ConfigError(f"{address}: {text}. Look at the TLS options of the URL")
    return StoreUnavailable(f"{address}: {text}")


def no_room(address: str, text: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"{address} takes no more connections ({text}): raise max_connections, or put a pooler before it"
    )


def read_only(address: str) -> ReadOnlyStore:
    return ReadOnlyStore(
        f"{address} is a standby, or read-only: to be a member, or to watch, takes writing. Give the "
        "primary, or all hosts in one URL: postgresql://host1,host2/database"
    )


def translate(exc: psycopg.Error, address: str, *, committing: bool = False) -> HeadcountError:
    """Ours for theirs. `committing`: the COMMIT was on its way."""
    state = exc.sqlstate or ""
    text = " ".join(str(exc).split())
    lost = state[:2] in ("", "08", "57", "XX", "58")
    if committing and lost:
        return OutcomeUnknown(f"{address}: the connection was lost while it committed ({text})")
    match state:
        case "28P01" | "28000":
            return AccessDenied(f"{address}: {text}. Look at the user and the password, and at pg_hba.conf")
        case "3D000":
            return ConfigError(f"{address}: {text}. Make it with: createdb NAME")
        case "42501":
            return AccessDenied(
                f"{address}: {text}. Have its owner run `headcount store init`, or what `headcount store "
                "init --print` prints, and grant this user the rights that docs/stores/postgresql.md lists"
            )
        case "25006":
            return read_only(address)
        case "42P01" | "3F000":
            return NoSchema(f"{address} has not the tables of Headcount: {text}")
        case "53300":
            return no_room(address, text)
        case "55P03" | "57014":
            return StoreUnavailable(
                f"{address}: somebody holds a lock that this needs, and did not let go ({text})"
            )
        case "40P01" | "40001":
            return Collided(f"{address}: {text}; worth trying again")
    if state[:2] in ("42", "22", "23", "0A"):
        return SchemaMismatch(f"{address} has not the tables that this release expects: {text} ({state})")
    return StoreUnavailable(f"{address}: {text}" + (f" ({state})" if state else ""))
