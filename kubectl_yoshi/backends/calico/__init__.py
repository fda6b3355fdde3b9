"""Implement private networks on Calico, and access to its BGP objects.

The objects are an IPPool for each private network, annotations on VM templates, IPAM blocks and handles, and the BGP
configuration. `backend` implements the protocol of `model.backend`; each other module covers one kind of object, either
as a custom resource or through Calico's own API server (`api`).
"""
