"""What an error of PostgreSQL means here: told by its SQLSTATE, never by its text, and in this place only."""

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
from headcount.stores.sql.speaking import NoSchema


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
            return ReadOnlyStore(
                f"{address} is a standby, or read-only: to be a member, or to watch, takes writing. Give the "
                "primary, or all hosts in one URL: postgresql://host1,host2/database"
            )
        case "42P01" | "3F000":
            return NoSchema(f"{address} has not the tables of Headcount: {text}")
        case "53300":
            return StoreUnavailable(
                f"{address} takes no more connections ({text}): raise max_connections, or put a pooler "
                "before it"
            )
        case "55P03" | "57014":
            return StoreUnavailable(
                f"{address}: somebody holds a lock that this needs, and did not let go ({text})"
            )
        case "40P01" | "40001":
            return StoreUnavailable(f"{address}: {text}; worth trying again")
    if state[:2] in ("42", "22", "23", "0A"):
        return SchemaMismatch(f"{address} has not the tables that this release expects: {text} ({state})")
    return StoreUnavailable(f"{address}: {text}" + (f" ({state})" if state else ""))
