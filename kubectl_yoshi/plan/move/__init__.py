"""Moving a public address from one VM to another: `planner` lists the steps.

The new VM requests the address, the Service of the old one is deleted, the allocation changes its holder in one patch,
and the new Service is created. There are never two Services with the address, and the address is never without an
allocation. If a step is refused, `rollback` returns the address to the previous VM.
"""
