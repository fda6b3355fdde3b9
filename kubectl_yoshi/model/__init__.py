"""Define the types that all other packages use. They are pure: no I/O, no command line, no Kubernetes client.

A `Network` (network) assigns `Address`es (addresses, which also has intervals) to VMs (`vm`). Its `Allocations`
(allocations) record which VM has which address, and `history` which VM had it before. A `Snapshot` holds the answers to
`Query`s, what was read from the cluster; a `Plan` of `Change`s (plan), most of them JSON Patches (jsonpatch), is what
will be written. `backend` is the protocol that each product's package under `backends` implements. Objects stay plain
JSON (objects), so that fields unknown to this program are preserved. `matching` decides whether an object already
matches the wanted one.
"""
