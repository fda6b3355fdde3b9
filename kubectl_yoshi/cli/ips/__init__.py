"""`kubectl yoshi ips`: list, map, reserve, release, move, check, clean up, import and rebuild allocations.

`list`, `show`, `map` and `check` print allocations joined with their use in the cluster (`plan.inventory`). The others
pass a planner to `cli.apply.execute` and print the result of each address; `gc` and `rebuild` first print the changes
and ask for confirmation.

Rules: one file per command, with a frozen dataclass of its flags; see `kubectl_yoshi.cli` for what it may import.
"""
