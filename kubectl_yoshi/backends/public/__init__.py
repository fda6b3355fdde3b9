"""Implement public networks: a Service with the address for each VM, announced by MetalLB or by Calico's BGP.

`backend` implements the protocol of `model.backend`; `announcer` is the protocol of the two ways to announce.
"""
