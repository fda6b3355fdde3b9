"""`kubectl yoshi ips`: list, reserve, release, move, check, clean up, import and rebuild allocations.

`list`, `who` and `check` show rows of `cli.inventory`: allocations joined with what the cluster shows. The others
give a planner to `cli.apply.execute` and print what became of each address; `gc` and `rebuild` show what they would
do and ask first.

Rules: one file per command, with a frozen dataclass of its flags; see `kubectl_yoshi.cli` for what it may import.
"""
