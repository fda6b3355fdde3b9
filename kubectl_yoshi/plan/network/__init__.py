"""Creating and deleting networks: `planner` lists the steps.

`objects` are what the backend creates for a network, and the allocation of the address that the network itself needs;
`status` is written when these exist, or with the reason why they do not. `init_allocations` records the addresses that
VMs have already before the network assigns any. A network that cannot be created is removed by the run that created it.
"""
