"""Other versions of this program, simulated by changing it in its process: see `become`.

older   knows nothing of histories, nor of networks that require a newer version
newer   has fields of its own in every record, and beside the records in the status of networks and blocks
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

OLDER, NEWER = "older", "newer"
LEASE = {"days": 3, "by": {"person": "ops"}}
"""What the newer version has in each record, as "lease"."""
AUDIT = {"seal": "a1b2", "lines": [1, 2]}
"""What it has in each status, as "audit"."""


def become(version: str) -> None:
    """Makes the program in this process another version of it, for good."""
    {OLDER: _older, NEWER: _newer}[version]()


def _older() -> None:
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.plan import records

    def only_the_deletion(patch: Any, network: Json) -> None:
        if network.get("status") is not None:
            patch.test(records.STATUS_DELETING, None)

    _set(records, "append_history", lambda *_: None)
    _set(records, "_test_not_deleting", only_the_deletion)
    _set(Network, "requires", "")


def _newer() -> None:
    from kubectl_yoshi.kube.client import Api
    from kubectl_yoshi.model.allocations import Allocation

    to_json: Callable[..., Json] = Allocation.to_json
    patch: Callable[..., Json] = Api.patch

    def with_lease(record: Allocation, existing: Allocation | None = None) -> Json:
        return {**to_json(record, existing), "lease": LEASE}

    def with_audit(api: Api, ref: Any, body: Any, **more: Any) -> Json:
        if more.get("subresource") == "status" and any(op["op"] != "test" for op in body):
            body = [*body, {"op": "add", "path": "/status/audit", "value": AUDIT}]
        return patch(api, ref, body, **more)

    _set(Allocation, "to_json", with_lease)
    _set(Api, "patch", with_audit)


def _set(owner: object, name: str, value: object) -> None:
    assert hasattr(owner, name), f"{owner} has no {name} any more: this version is played wrongly"
    setattr(owner, name, value)
