"""Restoring lost allocations from what the cluster shows.

`expected` decides which VM has each address, from everything that exists, and finds what contradicts itself; `planner`
writes the allocations that differ. No VM is changed, and no address is released.
"""
