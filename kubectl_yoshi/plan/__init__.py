"""Planners: pure functions from a request and a `Snapshot` of the cluster to a `Plan`. One file or folder per verb.

A planner that wants to know more raises `MissingQueriesError` with the queries, and is called again with the answers
(`engine.read`). It gets a `RunContext` (context) with the time, the source of random choices, and what the run has done
already, since every round plans anew: recovery is planned like the first attempt. `network_lookup` finds networks and
their backends; `records` reads and patches allocations. `inventory` joins them with what the cluster shows, for the
commands that only read. Planners call backends by the protocol of `model.backend` alone, and import no I/O.
"""
