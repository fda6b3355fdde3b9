"""Describe MetalLB's objects, which `backends.public` creates for public networks.

`objects` covers its address pools, advertisements and status, `bgp_peers` its BGP peers.
"""
