"""`kubectl yoshi network`: create, list, describe and delete networks.

`create` also turns flags and files into NetworkWizard objects, and checks them before anything is asked of the
cluster. `create` and `delete` run one planner per network, one after the other (`cli.apply.run_each`). `list` and
`describe` show `cli.inventory.NetworkRow`.

Rules: one file per command, with a frozen dataclass of its flags; see `kubectl_yoshi.cli` for what it may import.
"""
