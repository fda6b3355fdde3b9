"""What is written on a VM for a Layer 2 network, the pure part; whole VMs: tests/unit/plan/test_layer2.py."""

from __future__ import annotations

import copy
from ipaddress import ip_address

import pytest

from kubectl_yoshi.backends.ovs.interface import INTERFACES, NETWORKS, attach_interface
from kubectl_yoshi.model.backend import Attachment
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import parse_network
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.vm import Vm
from tests.unit.jsonpatch import DoesNotFit, apply_patch

MAC = "02:00:00:00:00:05"


@pytest.mark.I6
@pytest.mark.parametrize("changed", [NETWORKS, INTERFACES])
def test_attach_interface_fails_if_interfaces_or_networks_changed(changed: tuple[str, ...]) -> None:
    """I6: another client may have added one of the same name, or for the same network, meanwhile."""
    spec = {"plugin": "ovs", "cidr": "10.20.0.0/24", "ovs": {"bridge": "br-ext", "nic": "eth1"}}
    network = parse_network({"metadata": {"name": "lab", "namespace": "prod", "uid": "uid-lab"}, "spec": spec})
    devices = {"interfaces": [{"name": "default", "masquerade": {}}]}
    template = {"spec": {"domain": {"devices": devices}, "networks": [{"name": "default", "pod": {}}]}}
    raw: Json = {"metadata": {"name": "web", "namespace": "prod", "uid": "u"}, "spec": {"template": template}}
    patch = PatchBuilder()
    attachment = Attachment(Vm(copy.deepcopy(raw)), network, int(ip_address("10.20.0.5")), MAC)
    attach_interface(patch, attachment, "bridge")
    assert [nic["name"] for nic in dig(apply_patch(patch.ops, raw), *INTERFACES)] == ["default", "lab"]
    dig(raw, *changed).append({"name": "lab"})
    with pytest.raises(DoesNotFit):
        apply_patch(patch.ops, raw)
