"""MetalLB's objects: `objects` has its address pools, advertisements and status, `bgp_peers` its BGP peers.

`backends.public` creates them for public networks.
"""
