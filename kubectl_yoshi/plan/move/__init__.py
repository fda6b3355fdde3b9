"""Moving a public address from one VM to another: `planner` lists the steps.

The new VM asks for the address, the old one's Service is deleted, the allocation changes hands in one patch, and the
new Service is created: never two Services with the address, never a moment without an allocation. Where a step is
refused, `rollback` gives the address to the VM that had it.
"""
