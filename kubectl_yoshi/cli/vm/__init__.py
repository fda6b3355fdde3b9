"""`kubectl yoshi vm`: attach VMs to networks, detach them, list them with their addresses.

`attach` and `detach` have up to two parts, for a private and a public network: each is a planner of its own, and
`execute.execute_parts` runs one after the other, for the VMs for which no earlier part failed. `list` joins VMs with
the rows of `cli.inventory`.

Rules: one file per command, with a frozen dataclass of its flags; see `kubectl_yoshi.cli` for what it may import.
"""
