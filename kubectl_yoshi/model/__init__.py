"""The types that everything else is about. Pure: no I/O, no command line, no Kubernetes client.

A `Network` (network) assigns `Address`es (addresses, as intervals) to VMs (`vm`); its `Allocations` (allocations) tell
which VM has which, and `history` which had it before. What was read from the cluster is a `Snapshot` of `Query`s; what
is to be written is a `Plan` of `Change`s (plan), most of them JSON Patches (jsonpatch). `backend` is the protocol that
each product's package under `backends` implements. Objects stay plain JSON (objects): fields that this program does
not know survive it. `matching` decides whether an object already says what is wanted.
"""
