"""Attaching VMs to a network: `planner` lists the steps.

`context` holds the state of the VMs, their addresses and other users. `select` takes an existing or requested address,
`allocate` chooses a free one, and `quota` limits the addresses of a namespace. `vm_changes` plans the writes to VMs and
their objects, `rollback` undoes those of a run that failed, and `wait` finds the VMs that do not use their address yet.
"""
