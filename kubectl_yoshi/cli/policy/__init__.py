"""`kubectl yoshi policy`: print the admission policies, and show their state in the cluster.

`install --policy` installs them; `cli.policies` loads them from manifests/policies.

Rules: one file per command, with a frozen dataclass of its flags; see `kubectl_yoshi.cli` for what it may import.
"""
