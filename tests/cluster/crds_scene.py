"""API servers whose NetworkWizards were created by Platform9 yoshi, before this program's CRDs replaced its CRD."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pytest
import yaml

import lab
from lab.api import Api, wait_until
from tests.cluster.legacy_fixtures import original_crd

GROUP = "/apis/plumber.k8s.pf9.io/v1"
NETWORKS = f"{GROUP}/namespaces/default/networkwizards"
BLOCKS = f"{GROUP}/namespaces/default/addressblocks"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
BGP = {"plugin": "public", "cidr": "207.97.241.196/29"}
RECORD = {"kind": "VirtualMachine", "namespace": "default", "name": "web-1", "uid": "u-1"}


@dataclass(frozen=True)
class Server:
    """A lab whose NetworkWizards were created by Platform9 yoshi.

    Attributes:
        lab: the running lab.
        before: Platform9 yoshi's objects by name, as they were read before the takeover.
    """

    lab: lab.Lab
    before: dict[str, Any]

    @property
    def api(self) -> Api:
        return self.lab.api

    def network(self, name: str, spec: Any = None, status: Any = None) -> str:
        """Create a network; return its path."""
        self.api.post(NETWORKS, manifest(name, {"plugin": "calico", "cidr": "10.1.0.0/24"} if spec is None else spec))
        if status is not None:
            self.api.patch(f"{NETWORKS}/{name}/status", {"status": status})
        return f"{NETWORKS}/{name}"

    def patch_status(self, path: str, *ops: tuple[Any, ...]) -> Any:
        return self.api.patch(f"{path}/status", [as_op(*op) for op in ops], JSON_PATCH)["status"]

    def refusal(self, path: str, *ops: tuple[Any, ...]) -> str:
        """Return the error of a status patch that must be refused."""
        with pytest.raises(lab.LabError) as refused:
            self.patch_status(path, *ops)
        return str(refused.value)


def taken_over(kubernetes: str) -> Iterator[Server]:
    """Start a server of that version."""
    with lab.start(kubernetes=kubernetes, calico="none") as running:
        api = running.api
        api.create_document(original_crd())
        wait_until(
            "Platform9 yoshi's CRD", lambda: ("plumber.k8s.pf9.io", "networkwizards") in api.list_served_resources()
        )
        for name, (spec, status) in ORIGINAL_OBJECTS.items():
            api.post(NETWORKS, manifest(name, spec))
            if status:
                api.patch(f"{NETWORKS}/{name}/status", {"status": status})
        before = {name: api.get(f"{NETWORKS}/{name}") for name in ORIGINAL_OBJECTS}
        for crd in ours():
            name = crd["metadata"]["name"]
            path = (
                f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=kubectl-yoshi&force=true"
            )
            api.patch(path, crd, APPLY)
        wait_until("our CRDs", lambda: is_ours(api))
        yield Server(running, before)


def ours() -> list[Any]:
    return list(yaml.safe_load_all(resources.files("kubectl_yoshi.manifests").joinpath("crds.yaml").read_text()))


def is_ours(api: Api) -> bool:
    """Return whether the server serves our schemas."""
    try:
        api.post(f"{NETWORKS}?dryRun=All", manifest("probe", {"cidr": "none"}))
    except lab.LabError:
        return ("plumber.k8s.pf9.io", "addressblocks") in api.list_served_resources()
    return False


def manifest(name: str, spec: Any, kind: str = "NetworkWizard") -> dict[str, Any]:
    made: dict[str, Any] = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": kind, "metadata": {"name": name}}
    return made if spec is None else made | {"spec": spec}


def as_op(op: str, path: str, *value: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **({"value": value[0]} if value else {})}


def cells(server: Server, collection: str, name: str) -> list[Any]:
    """Return the row that `kubectl get` prints of an object."""
    table = server.api.get(collection, accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    [row] = [row["cells"] for row in table["rows"] if row["cells"][0] == name]
    return list(row)


ORIGINAL_OBJECTS: dict[str, tuple[Any, Any]] = {
    "newarjunpool": (
        {"plugin": "calico", "cidr": "10.133.0.0/16"},
        {"created": True, "allocations": {f"10.133.{i // 256}.{i % 256}": f"vm-{i}" for i in range(300)}},
    ),
    "oldpublic": (
        {
            "plugin": "public",
            "cidr": "207.97.241.196/29",
            "bgpConfig": {"peers": [{"peerIP": "10.0.0.5", "reachableBy": "10.0.0.1"}], "myASN": 1, "remoteASN": 2},
        },
        {"created": False, "reason": "BGPConfig not provided"},
    ),
    # A base64 range is all that Platform9 yoshi's CRD took; our rules refuse it.
    "oldrange": ({"plugin": "calico", "cidr": "10.9.0.0/24", "range_start": "CgkACg=="}, {"allocations": {}}),
    "empty": (None, None),
}
