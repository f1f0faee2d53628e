"""What an error of etcd means here, in this place only.

gRPC's codes say too little: INVALID_ARGUMENT is a wrong password as well as a request that is too large. What
tells them apart is etcd's own text, which is part of its interface: its own clients go by it, word for word.
"""

from __future__ import annotations

from typing import Any

from headcount.errors import (
    AccessDenied,
    CapabilitiesTooLarge,
    ConfigError,
    HeadcountError,
    NotPromised,
    ReadOnlyStore,
    StoreUnavailable,
)


class Elsewhere(StoreUnavailable):
    """This server could not be asked, or did not answer: another one may, or this one in a while. Whether a
    write was carried out is not known."""


class NotReached(Elsewhere):
    """There was no connection: nothing was carried out."""


class NotLoggedIn(AccessDenied):
    """The token is none any more: a new one has to be asked for. Nothing was carried out."""


class LeaseGone(HeadcountError):
    """Something was to be put with a lease that is over. Nothing was."""


class LeaseExists(HeadcountError):
    """There is a lease of this number: ours, if it was `doubled`, that is sent before without an answer."""

    doubled = False


class Compacted(HeadcountError):
    """What is asked for is so long ago that etcd has forgotten it."""


DENIED = (
    "authentication failed",
    "user name is empty",
    "permission denied",
    "user name not found",
    "password was given in the wrong form",
    "role name not found",
)
NO_CONNECTION = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")
"""gRPC's own words, for which it has no code. If it finds others, a write counts as one that may be done."""
NO_TOKEN = ("invalid auth token", "revision of auth store is old")


def translate(exc: Any, address: str) -> HeadcountError:
    """Ours for a `grpc.RpcError`."""
    code, text = exc.code().name, " ".join(str(exc.details() or "").split())

    def says(*words: str) -> bool:
        return any(word in text for word in words)

    if says(*NO_TOKEN):
        return NotLoggedIn(f"{address}: {text}")
    if says("authentication is not enabled"):
        return ConfigError(f"{address} knows no users ({text}): leave user and password out of the URL")
    if says(*DENIED) or code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
        return AccessDenied(
            f"{address}: {text}. Look at the user and the password, and at the rights that "
            "docs/stores/etcd.md lists"
        )
    match code:
        case "NOT_FOUND" if says("lease not found"):
            return LeaseGone(f"{address}: {text}")
        case "FAILED_PRECONDITION" if says("lease already exists"):
            return LeaseExists(f"{address}: {text}")
        case "OUT_OF_RANGE" if says("compacted"):
            return Compacted(f"{address}: {text}")
        case "RESOURCE_EXHAUSTED" if says("space exceeded"):
            return ReadOnlyStore(
                f"{address} is full ({text}): compact and defragment it, and then disarm the alarm with "
                "`etcdctl alarm disarm`"
            )
        case "INVALID_ARGUMENT" | "RESOURCE_EXHAUSTED" if says("request is too large", "larger than max"):
            return CapabilitiesTooLarge(
                f"{address}: {text}. A commit takes as much as etcd's --max-request-bytes: 1.5 MB by default"
            )
        case "INVALID_ARGUMENT" if says("too many operations"):
            return CapabilitiesTooLarge(
                f"{address}: {text}. Its --max-txn-ops is below etcd's default, which is 128: raise it"
            )
        case "UNAVAILABLE" if says(*NO_CONNECTION):
            return NotReached(f"{address}: {text}")
        case "UNIMPLEMENTED":
            return NotPromised(f"{address} does not speak version 3 of etcd's API: {text}")
    return Elsewhere(f"{address}: {text or 'no answer'} ({code.lower().replace('_', ' ')})")
