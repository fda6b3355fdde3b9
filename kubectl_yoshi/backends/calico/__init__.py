"""Calico: an IPPool for each private network, annotations on VM templates, IPAM blocks and handles, BGP configuration.

`backend` implements the protocol of `model.backend`; the other modules know one kind of object each, either as a custom
resource or through Calico's own API server (`api`).
"""
