"""Planners: pure functions from a request and a `Snapshot` of the cluster to a `Plan`. One file or folder per verb.

A planner runs once in each round, and reads what it needs from the snapshot (`Snapshot.lookup`, `prefetch`); the engine
answers. It gets a `RunContext` (context) with the time, the source of random choices, and what the run has done
already, since every round plans anew: recovery is planned like the first attempt. `network_lookup` finds networks and
their backends; `records` reads and patches allocations. `inventory` joins them with what the cluster shows, for the
commands that only read. Planners call backends by the protocol of `model.backend` alone, and import no I/O.
"""
