"""Stores that expire sessions themselves, as they really are: several servers, of which one leads.

    plain      one server with an exact clock: the memory store as it is
    zookeeper  writes go through the leader, and every server applies them a while later; who reads without
               a `sync` may read what was. A server tells the leader of beats late. Sessions end in rounds
    etcd       one lease for each process and ttl. Whoever believes to lead answers a keepalive, in good
               faith; what is read was confirmed by a majority. A leader that wakes up revokes old leases

The register and its law are those of the memory store: what a majority has agreed to. What is modelled here
is who knows of it when, and who ends sessions: `machines` has the servers and their elections, `journal` what
each of them can show, `engine` what both kinds have in common.

What is left out. Rows of sessions that ended go down at once, where the real stores have them taken down by
whoever reads first: nobody can tell the two apart. That a session was ended early is known here, and how long
its places are to be kept, for which the real stores have witnesses: second sessions and leases. Requests have
not the parts in which a real store sends them, but as many steps as matter for what somebody else may do in
between.

Each kind does what the store of its name in `headcount.stores` does, step by step, and names its rules in
its docstring; whoever changes those changes these.
"""

from __future__ import annotations

from tests.simulation.engines.engine import Engine, EngineClient
from tests.simulation.engines.etcd import EtcdClient, EtcdLike
from tests.simulation.engines.zookeeper import ZooKeeperClient, ZooKeeperLike

__all__ = ["KINDS", "Engine", "EngineClient", "EtcdClient", "EtcdLike", "ZooKeeperClient", "ZooKeeperLike"]

KINDS = ("plain", "zookeeper", "etcd")
"""What a town in sessions mode may stand on."""
