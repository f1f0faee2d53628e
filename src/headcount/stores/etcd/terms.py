"""Leases whose number tells in which term of the servers they were asked for."""

from __future__ import annotations

import secrets
from typing import Any

from headcount.errors import StoreUnavailable
from headcount.model import Seconds
from headcount.stores.etcd import rpc_pb2 as rpc
from headcount.stores.etcd.client import GRANT, KEEP_ALIVE, Client
from headcount.stores.etcd.errors import LeaseExists

BITS = 40
"""Of a lease's number that are chance; those above are the term."""


def term_of(lease: int) -> int:
    """The term in which it was asked for; it may have been granted in a later one."""
    return lease >> BITS


def number(client: Client) -> int:
    """We choose it, so that a lease which is asked for twice is granted once."""
    return client.term << BITS | secrets.randbelow(1 << BITS)


def grant(client: Client, lease: int, ttl: int, until: float) -> Seconds:
    """The ttl that the lease has. If it was granted and we were not told, a keepalive says what it is."""
    try:
        return float(client.ask(GRANT, rpc.LeaseGrantRequest(TTL=ttl, ID=lease), until).TTL)
    except LeaseExists as exc:
        granted = keep(client, lease, until).TTL if exc.doubled else 0
        if granted <= 0:
            raise StoreUnavailable(f"{exc}, and is not ours, or over; worth trying again") from exc
        return float(granted)


def keep(client: Client, lease: int, until: float) -> Any:
    """Whichever server answers; on the leader, without consensus. What is over has no TTL."""
    return client.ask(KEEP_ALIVE, rpc.LeaseKeepAliveRequest(ID=lease), until)
