"""Restoring lost allocations from what exists in the cluster.

`expected` decides which VM has each address, from everything that exists, and finds contradictions; `planner` writes
the allocations that differ. No VM is changed, and no address is released.
"""
