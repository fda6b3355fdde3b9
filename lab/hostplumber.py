"""A fake of luigi's Hostplumber for HostNetworkTemplates, and of the ovs CNI's marker with the bridges that it finds.

Neither program is run, since they come as containers; both act on real objects and a real Open vSwitch here, in the
order and with the `ovs-vsctl` commands of their sources (luigi's hostplumber/controllers, ovs-cni's pkg/marker).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.api import Api
from lab.network_setup import run_ip_batch
from lab.ovs import Switch

TEMPLATES = "/apis/plumber.k8s.pf9.io/v1/hostnetworktemplates"
FINALIZER = "ovsFinalizer"
MIN_MTU = 576  # of a NIC; a smaller one is not set
BRIDGE_CAPACITY = 1000  # how many ports of a bridge the marker tells the scheduler of
RESOURCE = "ovs-cni.network.kubevirt.io"


def reconcile_templates(api: Api, switches: Sequence[Switch]) -> None:
    """Make every HostNetworkTemplate true on the nodes that it selects, and the nodes' status tell of their bridges.

    A template gets a finalizer; one that is being deleted takes its bridges with it, then loses the finalizer.
    """
    for template in api.get(TEMPLATES)["items"]:
        if "deletionTimestamp" in template["metadata"]:
            for switch in switches:
                _remove_bridges(switch, template)
        else:
            for switch in switches:
                if _selects(template, api.get(f"/api/v1/nodes/{switch.node.name}")):
                    apply(switch, template)
        _update_finalizer(api, template)
    for switch in switches:
        mark_bridges(api, switch.node.name, switch.bridges())


def apply(switch: Switch, template: Mapping[str, Any]) -> None:
    """Make a template true on one node: the MTUs of NICs, bridges, bonds."""
    for nic in template["spec"].get("interfaceConfig", []):
        if nic.get("mtu", 0) >= MIN_MTU:
            run_ip_batch([f"link set {nic['name']} mtu {nic['mtu']}"], switch.node.network_namespace)
    for wanted in template["spec"].get("ovsConfig", []):
        bridge, nics = wanted["bridgeName"], wanted["nodeInterface"].split(",")
        switch.vsctl("--may-exist", "add-br", bridge, "--", "set", "bridge", bridge, "datapath_type=netdev")
        if len(nics) == 1:
            # A NIC is removed another bridge without a word, and `params` are not looked at.
            switch.vsctl("--if-exists", "del-port", nics[0], "--", "add-port", bridge, nics[0])
        elif len(nics) == 2:  # of more Hostplumber says that they are too many, and does nothing
            _bond(switch, bridge, nics, wanted.get("params", {}))


def mark_bridges(api: Api, node: str, bridges: Sequence[str]) -> None:
    """Write into a node's status that there is room on each of its bridges, and on no other."""
    allocatable = api.get(f"/api/v1/nodes/{node}")["status"]["allocatable"]
    capacity: dict[str, str | None] = {name: None for name in allocatable if name.startswith(f"{RESOURCE}/")}
    capacity.update({f"{RESOURCE}/{bridge}": str(BRIDGE_CAPACITY) for bridge in bridges})
    api.patch(f"/api/v1/nodes/{node}/status", {"status": {"capacity": capacity, "allocatable": capacity}})


def _selects(template: Mapping[str, Any], node: Mapping[str, Any]) -> bool:
    labels: Mapping[str, str] = node["metadata"]["labels"]
    wanted: Mapping[str, str] = template["spec"].get("nodeSelector", {})
    return all(labels.get(key) == value for key, value in wanted.items())


def _bond(switch: Switch, bridge: str, nics: Sequence[str], params: Mapping[str, Any]) -> None:
    bond = f"bond-{bridge}"
    switch.vsctl("--may-exist", "add-bond", bridge, bond, *nics)
    if "mtuRequest" in params:
        switch.vsctl("set", "Interface", bridge, f"mtu_request={params['mtuRequest']}")
    if "bondMode" in params:
        switch.vsctl("set", "port", bond, f"bond_mode={params['bondMode']}")
    if "lacp" in params:
        switch.vsctl("set", "port", bond, f"lacp={params['lacp']}")


def _remove_bridges(switch: Switch, template: Mapping[str, Any]) -> None:
    for wanted in template["spec"].get("ovsConfig", []):
        switch.vsctl("--if-exists", "del-br", wanted["bridgeName"])


def _update_finalizer(api: Api, template: Mapping[str, Any]) -> None:
    meta = template["metadata"]
    others = [name for name in meta.get("finalizers", []) if name != FINALIZER]
    wanted = others if "deletionTimestamp" in meta else [*others, FINALIZER]
    path = f"/apis/plumber.k8s.pf9.io/v1/namespaces/{meta['namespace']}/hostnetworktemplates/{meta['name']}"
    if wanted != meta.get("finalizers", []):
        api.patch(path, {"metadata": {"finalizers": wanted}})
