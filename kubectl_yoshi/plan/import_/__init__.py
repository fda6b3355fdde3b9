"""Recording addresses that VMs already have, as attachments with a given address.

`sources` finds these addresses: on VMs, in what backends hold for them, or in a file. `planner` attaches each VM with
its address, so that everything is written as by `vm attach`.
"""
