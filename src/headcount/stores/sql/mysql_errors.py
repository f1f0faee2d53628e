"""What an error of MySQL or MariaDB means here, in this place only: by its number, never by its text.

Numbers from 2000 to 2999 are the client library's own: nothing was heard of the server any more.
"""

from __future__ import annotations

import ssl

import pymysql

from headcount.errors import (
    AccessDenied,
    ConfigError,
    HeadcountError,
    NotPromised,
    OutcomeUnknown,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)
from headcount.stores.sql.collisions import Collided
from headcount.stores.sql.speaking import NoSchema

NOBODY = frozenset({1045, 1251, 1698, 1862, 3118, 4151})
"""The user, the password, or the way in which it is asked for."""

MAY_NOT = frozenset({1044, 1142, 1143, 1227, 1370, 1410})

TOO_MANY = frozenset({1040, 1203, 1226})

LOCKED = frozenset({1205, 1969, 3024, 3572})
"""A lock that somebody else holds for too long; or a statement that takes too long, which is mostly that."""

AGAIN = frozenset({1020, 1213, 3101})
"""A deadlock, which InnoDB finds at once and ends in the favour of one; or two nodes of a cluster that wrote
the same row."""

READ_ONLY = frozenset({1290, 1792, 1836})

FULL = frozenset({3, 28, 1021, 1030, 1114})

ENDED = frozenset({0, 1047, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1317, 1927, 3169, 4031})
"""The connection was ended, by the server or an operator; or a node is none of its cluster now."""

FOREIGN = frozenset(
    {1048, 1054, 1062, 1064, 1109, 1136, 1264, 1265, 1292, 1305, 1364, 1366, 1406, 1690, 3730, 4025}
)
"""Tables that are others than those that the statements were written for."""


def translate(exc: pymysql.Error, address: str, *, committing: bool = False) -> HeadcountError:
    """Ours for theirs. `committing`: the COMMIT was on its way."""
    number, text = told(exc)
    lost = number in ENDED or 2000 <= number < 3000
    where = f"{address}: {text}" + (f" ({number})" if number else "")
    if committing and lost:
        return OutcomeUnknown(f"{address}: the connection was lost while it committed ({text})")
    if isinstance(getattr(exc, "original_exception", None), ssl.SSLCertVerificationError) or number == 2026:
        return ConfigError(
            f"{where}. Look at ssl_mode, ssl_ca, ssl_cert and ssl_key, and at the server's TLS"
        )
    if number in NOBODY:
        return AccessDenied(f"{where}. Look at the user, the host that it may come from, and the password")
    if number == 1049:
        return ConfigError(f"{where}. Make it with: CREATE DATABASE name")
    if number in MAY_NOT:
        return AccessDenied(
            f"{where}. Have its owner run `headcount store init`, or what `headcount store init --print` "
            "prints, and grant this user the rights that docs/stores/mysql.md lists"
        )
    if number == 1146:
        return NoSchema(f"{address} has not the tables of Headcount: {text}")
    if number in TOO_MANY:
        return StoreUnavailable(
            f"{address} takes no more connections ({text}): raise max_connections, or the user's limit"
        )
    if number in LOCKED:
        return StoreUnavailable(
            f"{address}: somebody holds a lock that this needs, and did not let go ({text})"
        )
    if number in AGAIN:
        return Collided(f"{where}; worth trying again")
    if number in READ_ONLY:
        return read_only(address)
    if number in FULL:
        return StoreUnavailable(f"{where}. Its disk may be full, or broken")
    if number == 1153:
        return ConfigError(f"{where}. Raise max_allowed_packet of the server")
    if number == 1665:
        return NotPromised(f"{where}. Set binlog_format to ROW or MIXED")
    if number in FOREIGN:
        return SchemaMismatch(f"{address} has not the tables that this release expects: {text} ({number})")
    return StoreUnavailable(where)


def read_only(address: str) -> ReadOnlyStore:
    return ReadOnlyStore(
        f"{address} is a replica, or read-only: to be a member, or to watch, takes writing. Give the "
        "primary, or all hosts in one URL: mysql://host1,host2/database"
    )


def told(exc: BaseException) -> tuple[int, str]:
    """The number, or 0, and the text of an error."""
    number = exc.args[0] if exc.args and isinstance(exc.args[0], int) else 0
    text = exc.args[1] if len(exc.args) > 1 else exc
    return number, " ".join(str(text).split()) or type(exc).__name__


def silent(exc: BaseException) -> bool:
    """Whether nothing came for as long as we wait."""
    return isinstance(exc.__context__, TimeoutError)
