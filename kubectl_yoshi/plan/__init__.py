"""Planners: pure functions from a request and a `Snapshot` of the cluster to a `Plan`. One file or folder per verb.

A planner runs once in each round, and reads what it needs from the snapshot (`Snapshot.lookup`, `prefetch`), whose
queries the engine answers. It gets a `RunContext` (context) with the time, the source of random choices, and what the
run has done so far, since every round plans from the start: recovery is planned like the first attempt.
`network_lookup` finds networks and their backends; `records` loads and patches allocations. `inventory` joins them with
the uses in the cluster, for the commands that only read. Planners call backends only by the protocol of
`model.backend`, and import no I/O.
"""
