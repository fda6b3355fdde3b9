"""Restoring lost allocations from what the cluster shows: `expected` decides who has an address, `planner` writes
it.
"""
