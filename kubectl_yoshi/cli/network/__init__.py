"""`kubectl yoshi network`: create, list, describe and delete networks.

`create` also converts flags and files into NetworkWizard objects, and validates them. `create` and `delete` run one
planner per network, one after the other (`cli.apply.run_each`). `list` and `describe` print `cli.inventory.NetworkRow`.

Rules: one file per command, with a frozen dataclass of its flags; see `kubectl_yoshi.cli` for what it may import.
"""
