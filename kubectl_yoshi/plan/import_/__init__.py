"""Recording addresses that VMs have already, as attachments with a given address.

`sources` finds these addresses: on VMs, in what backends hold for them, or in a file. `planner` attaches each VM with
its address, so that all that is written is written as by `vm attach`.
"""
