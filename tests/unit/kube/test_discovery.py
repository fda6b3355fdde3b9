"""Discovery of the served APIs, from new servers and old ones."""

from __future__ import annotations

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.discovery import discover
from kubectl_yoshi.kube.errors import UnauthorizedError
from kubectl_yoshi.model.objects import Resource
from tests.unit.kube.fault_server import FaultServer, refuses, says

POOLS_V1 = Resource("crd.projectcalico.org", "v1", "ippools", "IPPool", namespaced=False)
APISERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v3.projectcalico.org"


def found(plural: str, kind: str, scope: str = "Namespaced") -> dict:
    return {"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": ["get"]}


def group(name: str, *versions: dict) -> dict:
    return {"metadata": {"name": name} if name else {}, "versions": list(versions)}


def version(name: str, *resources: dict, freshness: str = "Current") -> dict:
    return {"version": name, "resources": list(resources), "freshness": freshness}


def groups(*items: dict) -> dict:
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": list(items)}


CALLS = {
    "resource": "virtualmachines",
    "scope": "Namespaced",
    "subresources": [{"subresource": "restart", "responseKind": {"kind": "VirtualMachine"}}],
}
ALL = groups(
    group("crd.projectcalico.org", version("v1", found("ippools", "IPPool", "Cluster"))),
    group("projectcalico.org", version("v3", freshness="Stale")),
    group(
        "metallb.io", version("v1beta2", found("bgppeers", "BGPPeer")), version("v1beta1", found("bgppeers", "BGPPeer"))
    ),
    group("subresources.kubevirt.io", version("v1", CALLS)),
)


@pytest.fixture
def modern(server: FaultServer) -> FaultServer:
    server.by_path["/apis"] = says(200, ALL)
    server.by_path[APISERVICE] = refuses(403, "Forbidden", 'User "u" cannot get resource "apiservices"')
    return server


@pytest.fixture
def old(server: FaultServer) -> FaultServer:
    """A server without aggregated discovery."""

    def resources(*names: str) -> dict:
        kinds = {name: ("IPPool", False) if "pool" in name else ("Pod", True) for name in names}
        listed = [{"name": name, "kind": kind, "namespaced": within} for name, (kind, within) in kinds.items()]
        return {"kind": "APIResourceList", "resources": listed}

    versions = [{"version": "v1"}, {"version": "v2"}]
    listed = [
        {"name": "crd.projectcalico.org", "versions": versions, "preferredVersion": {"version": "v2"}},
        {"name": "projectcalico.org", "versions": [{"version": "v3"}], "preferredVersion": {"version": "v3"}},
    ]
    server.by_path |= {
        "/apis": says(200, {"kind": "APIGroupList", "groups": listed}),
        "/apis/crd.projectcalico.org/v1": says(200, resources("ippools")),
        "/apis/crd.projectcalico.org/v2": says(200, resources("ippools", "ippools/status")),
        "/apis/projectcalico.org/v3": says(503, "service unavailable"),
        APISERVICE: refuses(404, "NotFound", "not found"),
    }
    return server


def test_discovery_takes_one_request_and_lists_the_preferred_version_first(api: Api, modern: FaultServer) -> None:
    served = discover(api)
    assert {request.path for request in modern.requests} == {"/apis", APISERVICE}
    assert served.resources["ippools.crd.projectcalico.org"] == POOLS_V1
    assert served.resources["bgppeers.metallb.io"].version == "v1beta2"
    assert served.versions["metallb.io"] == ("v1beta2", "v1beta1")
    assert Resource("metallb.io", "v1beta1", "bgppeers", "BGPPeer") in served
    assert Resource("metallb.io", "v1beta3", "bgppeers", "BGPPeer") not in served


def test_discovery_includes_resources_with_only_subresources(api: Api, modern: FaultServer) -> None:
    assert discover(api).resources["virtualmachines.subresources.kubevirt.io"].kind == "VirtualMachine"


def test_unavailable_aggregated_api_is_unavailable_and_not_absent(api: Api, modern: FaultServer) -> None:
    served = discover(api)
    assert "projectcalico.org" in served.versions
    assert "APIService v3.projectcalico.org" in served.unavailable["projectcalico.org"]


def test_reason_is_read_from_the_apiservice_if_allowed(api: Api, modern: FaultServer) -> None:
    condition = {"type": "Available", "status": "False", "message": "service/calico-api is not present"}
    modern.by_path[APISERVICE] = says(200, {"status": {"conditions": [condition]}})
    assert "service/calico-api is not present" in discover(api).unavailable["projectcalico.org"]


def test_old_server_is_queried_version_by_version(api: Api, old: FaultServer) -> None:
    served = discover(api)
    assert served.resources["ippools.crd.projectcalico.org"].version == "v2"
    assert served.versions["crd.projectcalico.org"] == ("v2", "v1")
    assert not served.resources["ippools.crd.projectcalico.org"].namespaced
    assert not [name for name in served.resources if "/" in name]
    assert set(served.unavailable) == {"projectcalico.org"}


def test_unauthorized_discovery_is_an_error(api: Api, server: FaultServer) -> None:
    server.then(refuses(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(UnauthorizedError):
        discover(api)
