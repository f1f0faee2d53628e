"""What an error of ZooKeeper or of kazoo means here, in this place only. By type, never by text."""

from __future__ import annotations

import ssl

from kazoo import exceptions as kazoo

from headcount.errors import (
    AccessDenied,
    ConfigError,
    HeadcountError,
    OutcomeUnknown,
    ReadOnlyStore,
    SchemaMismatch,
    StoreUnavailable,
)

LOST = (kazoo.ConnectionLoss, kazoo.SessionExpiredError, kazoo.ConnectionDropped, kazoo.SessionMovedError)
"""The connection is gone, and with it the answer; `ConnectionClosedError` is one of these."""

ANSWERS = (
    kazoo.NoNodeError,
    kazoo.NodeExistsError,
    kazoo.BadVersionError,
    kazoo.NotEmptyError,
    kazoo.NoChildrenForEphemeralsError,
)
"""What the server says of nodes. Whoever asks expects it."""


def cannot_connect(why: BaseException | None, address: str) -> HeadcountError:
    """Why there is no connection, from what the last attempt failed for."""
    cause = why
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return AccessDenied(
            f"{address}: the server's certificate is not believed ({cause.verify_message}). Give the "
            "authority that signed it as tls_ca, and the name that it bears as the host"
        )
    if isinstance(cause, ssl.SSLError):
        return ConfigError(
            f"{address}: TLS does not come about ({cause.reason or cause}). Is this the secureClientPort, "
            "and does the server want a certificate of ours (tls_cert, tls_key)?"
        )
    if isinstance(why, kazoo.AuthFailedError | kazoo.SASLException):
        return denied(address)
    if isinstance(why, kazoo.ConnectionDropped) and "broken" in str(why):
        return StoreUnavailable(
            f"{address} takes connections and ends them without a word: it has no quorum, takes no more from "
            "this host (maxClientCnxns), or speaks TLS on this port (then say tls=true)"
        )
    return StoreUnavailable(f"{address} cannot be reached" + (f": {why}" if why is not None else ""))


def denied(address: str) -> AccessDenied:
    return AccessDenied(
        f"{address} does not know this user, or not by this password. Look at the server's jaas.conf"
    )


def translate(exc: BaseException, address: str, *, writes: bool) -> HeadcountError:
    """Ours for theirs. `writes`: something may have been written."""
    match exc:
        case HeadcountError():
            return exc
        case kazoo.AuthFailedError() | kazoo.SessionClosedRequireSaslError():
            return denied(address)
        case kazoo.NoAuthError():
            return AccessDenied(
                f"{address}: the ACL of a node there does not let us. Connect as the user who made it, or "
                "see docs/stores/zookeeper.md for what to grant"
            )
        case kazoo.NotReadOnlyCallError():
            return ReadOnlyStore(f"{address} is read-only: it has no quorum")
        case kazoo.UnimplementedError():
            return SchemaMismatch(f"{address} is older than ZooKeeper 3.6, and cannot watch for good")
        case kazoo.InvalidACLError():
            return AccessDenied(
                f"{address}: the server does not take our user for one ({type(exc).__name__})"
            )
        case kazoo.QuotaExceededError():
            return StoreUnavailable(f"{address}: the quota of our nodes is used up; raise it with setquota")
    if writes:
        return OutcomeUnknown(f"{address}: the connection was lost while it wrote ({type(exc).__name__})")
    return StoreUnavailable(f"{address}: the connection was lost ({type(exc).__name__})")
