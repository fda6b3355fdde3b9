"""Creating, changing and deleting networks: `planner`, `update` and `deletion` list the steps.

`objects` plans what the backend creates for a network, and allocates the address that the network itself needs.
`status` records that these objects exist, or the reason why they do not; `wait` finds out what their controllers have
not completed yet. `init_allocations` records the addresses that VMs already have before the network assigns any. A run
that creates a network and cannot complete it deletes the network again.
"""
