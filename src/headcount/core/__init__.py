"""The decisions, without hands: no I/O, no clock, no thread, no chance.

Everything here takes `now` as an argument and answers with what to do. The engine does it with
threads and a store; the simulation does it with a queue of events and a seed. Both run this code.

    node         one process on one store: what its heart and its watcher do next
    agent        one coordinator: its session, its memberships, its readiness
    session      when to beat; what a beat's answer lets us believe, and until when
    membership   what the register says of us against what we want: the next write
    leadership   who leads, read off the register; one term of it
    replica      snapshots and deltas made into views; view minus view
    expiry       whose turn it is to move the store's clock; how many may expire at once
    backoff      how long to wait after a failure
"""
