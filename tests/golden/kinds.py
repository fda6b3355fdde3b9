"""The kinds of objects that the fake API server serves, with their API groups."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.golden.seam import Kind

Json = dict[str, Any]


def _kinds(group: str, version: str, kinds: Iterable[str], namespaced: bool = True) -> list[Kind]:
    return [Kind(group, version, f"{kind.lower()}s", kind, namespaced) for kind in kinds]


POLICIES = [
    Kind(
        "admissionregistration.k8s.io", "v1", f"validatingadmissionpolic{end}", f"ValidatingAdmissionPolic{kind}", False
    )
    for end, kind in (("ies", "y"), ("ybindings", "yBinding"))
]
CORE = [
    *POLICIES,
    *_kinds("", "v1", ["Namespace", "Node"], namespaced=False),
    *_kinds("", "v1", ["Pod", "Service", "ConfigMap", "Secret", "Event"]),
    Kind("apps", "v1", "deployments", "Deployment"),
    *_kinds("apiregistration.k8s.io", "v1", ["APIService"], namespaced=False),
    *_kinds("apiextensions.k8s.io", "v1", ["CustomResourceDefinition"], namespaced=False),
    *_kinds("rbac.authorization.k8s.io", "v1", ["ClusterRole"], namespaced=False),
    *_kinds("networking.k8s.io", "v1", ["ServiceCIDR"], namespaced=False),
    *_kinds("authorization.k8s.io", "v1", ["SelfSubjectAccessReview"], namespaced=False),
]
KUBEVIRT = [
    *_kinds("kubevirt.io", "v1", ["VirtualMachine", "VirtualMachineInstance", "KubeVirt"]),
    Kind("subresources.kubevirt.io", "v1", "virtualmachines", "VirtualMachine"),
]
_CALICO = ["IPPool", "ClusterInformation", "IPAMBlock", "IPAMHandle", "BGPConfiguration", "BGPPeer"]
CALICO = _kinds("crd.projectcalico.org", "v1", [*_CALICO, "IPAMConfig"], namespaced=False)
CALICO_V3 = _kinds("projectcalico.org", "v3", [*_CALICO, "IPAMConfiguration"], namespaced=False)
METALLB = [
    *_kinds("metallb.io", "v1beta1", ["IPAddressPool", "L2Advertisement", "BGPAdvertisement", "ConfigurationState"]),
    Kind("metallb.io", "v1beta1", "servicel2statuses", "ServiceL2Status"),
    Kind("metallb.io", "v1beta1", "servicebgpstatuses", "ServiceBGPStatus"),
    Kind("metallb.io", "v1beta2", "bgppeers", "BGPPeer"),
    Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
]
LAYER2 = [
    Kind("k8s.cni.cncf.io", "v1", "network-attachment-definitions", "NetworkAttachmentDefinition"),
    *_kinds("plumber.k8s.pf9.io", "v1", ["HostNetworkTemplate", "HostNetwork"]),
    *_kinds("dhcp.plumber.k8s.pf9.io", "v1alpha1", ["DHCPServer", "IPAllocation"]),
]
OWN = _kinds("plumber.k8s.pf9.io", "v1", ["NetworkWizard", "AddressBlock"])
"""The kinds whose CRDs the program installs."""


def discovery(kinds: Iterable[Kind], unavailable: Iterable[str] = ()) -> tuple[Json, Json]:
    """Return the aggregated discovery documents of the core group and of the other groups.

    Args:
        kinds: what is served.
        unavailable: groups whose aggregated API server does not answer.
    """
    groups: dict[str, dict[str, list[Kind]]] = {}
    for kind in kinds:
        groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
    items = {
        group: {
            "metadata": {"name": group} if group else {},
            "versions": [
                {
                    "version": version,
                    "freshness": "Stale" if group in unavailable else "Current",
                    "resources": [] if group in unavailable else [_resource(kind) for kind in some],
                }
                for version, some in sorted(versions.items(), reverse=True)
            ],
        }
        for group, versions in groups.items()
    }
    core = [item for group, item in items.items() if not group]
    others = [item for group, item in sorted(items.items()) if group]
    return _document(core), _document(others)


def _resource(kind: Kind) -> Json:
    scope = "Namespaced" if kind.namespaced else "Cluster"
    return {"resource": kind.plural, "responseKind": {"kind": kind.kind}, "scope": scope}


def _document(items: list[Json]) -> Json:
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
