"""Attaching VMs to a network: `planner` lists the steps.

`context` holds what is known of the VMs, their addresses and other users; `select` takes an existing or requested
address, `allocate` chooses a free one, `quota` limits how many a namespace has, `vm_changes` are the writes to VMs
and what belongs to them, `rollback` undoes those of a run that failed, and `wait` tells when a VM uses its
address.
"""
