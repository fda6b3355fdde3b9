"""Pseudonyms: no name is left, and what was equal or adjacent still is."""

from __future__ import annotations

import json
import re
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubectl_yoshi.diagnosis.redaction import Redactor
from kubectl_yoshi.model.objects import Json

NAMES = st.from_regex(r"q[a-z0-9]{1,6}(?:[-.][a-z0-9]{1,4}){0,2}", fullmatch=True)
PUBLIC = st.ip_addresses().filter(lambda address: address.is_global and not address.is_multicast)


def cluster_of(namespace: str, vm: str, network: str, node: str, gone: str) -> list[Json]:
    """Return objects that have these names wherever names may occur."""
    held = {"kind": "VirtualMachine", "namespace": namespace, "name": vm, "note": f"for {vm}"}
    past = {"kind": "VirtualMachine", "namespace": namespace, "name": gone, "until": "2026-01-01T00:00:00Z"}
    return [
        {
            "kind": "NetworkWizard",
            "metadata": {"name": network, "namespace": namespace},
            "status": {"allocations": {"10.0.0.1": held}, "history": {"10.0.0.1": [past]}},
        },
        {
            "kind": "VirtualMachine",
            "metadata": {
                "name": vm,
                "namespace": namespace,
                "labels": {network: f"on-{network}", "vm": vm},
                "annotations": {"x/networks": json.dumps([{"name": f"{namespace}/{network}", "note": f"\n{vm}"}])},
            },
        },
        {
            "kind": "Pod",
            "metadata": {"name": f"virt-launcher-{vm}-x7", "namespace": namespace},
            "spec": {"nodeName": node},
        },
        {
            "kind": "Event",
            "metadata": {"name": f"{vm}.17", "namespace": namespace},
            "message": f"{namespace}/{vm} moved to {node}; network:{network}",
            "involvedObject": {"kind": "VirtualMachineInstance", "name": vm, "namespace": namespace},
        },
    ]


@given(st.lists(NAMES, min_size=5, max_size=5, unique=True))
def test_no_name_is_left_in_any_place(names: list[str]) -> None:
    objects = cluster_of(*names)
    redactor = Redactor(objects)
    text = json.dumps([redactor.value(obj) for obj in objects])
    for name in names:
        assert not re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", text), text


@given(st.lists(NAMES, min_size=5, max_size=5, unique=True))
def test_references_still_fit_together(names: list[str]) -> None:
    objects = cluster_of(*names)
    network, vm, _, event = map(Redactor(objects).value, objects)
    held = network["status"]["allocations"]["10.0.0.1"]
    assert (held["namespace"], held["name"]) == (vm["metadata"]["namespace"], vm["metadata"]["name"])
    assert event["involvedObject"]["name"] == vm["metadata"]["name"] == vm["metadata"]["labels"]["vm"]
    assert held["note"] == "<removed>"


def test_names_of_findings_and_fields_are_replaced() -> None:
    redactor = Redactor([], networks=[("prod", "gone")], vms=[("prod", "web-1")])
    assert redactor.text("VM prod/web-1 requests prod/gone; web-10, production stay") == (
        "VM NAMESPACE-1/VM-1 requests NAMESPACE-1/NETWORK-1; web-10, production stay"
    )
    assert Redactor([{"kind": "Service", "metadata": {"namespace": "spec"}}]).value({"spec": "spec"}) == {
        "spec": "NAMESPACE-1"
    }


@given(PUBLIC, st.integers(0, 255))
def test_public_addresses_are_replaced_and_keep_their_host_part(address: object, offset: int) -> None:
    first = ip_address(str(address))
    network = ip_network(f"{first}/24" if first.version == 4 else f"{first}/120", strict=False)
    assume(network[0].is_global and network[offset].is_global)
    redactor = Redactor([])
    base, other = (ip_address(redactor.text(str(network[number]))) for number in (0, offset))
    assert base in ip_network("240.0.0.0/4" if first.version == 4 else "3fff::/20")
    assert int(other) - int(base) == offset
    assert redactor.text(f"at [{first}]:53") == f"at [{redactor.text(str(first))}]:53"


@pytest.mark.parametrize(
    "text",
    [
        "10.20.0.9",
        "fd00:133::1",
        "192.168.0.0/24",
        "v1.36.3",
        "2026-11-25T11:47:40Z",
        "12:30:45",
        "203.0.113.5",
        "1.2.3",
    ],
)
def test_private_addresses_versions_and_times_stay(text: str) -> None:
    assert Redactor([]).text(text) == text


def test_addresses_are_keys_too() -> None:
    (key,) = Redactor([]).value({"allocations": {"8.8.4.4": {}}})["allocations"]
    assert key == "240.1.4.4"


def test_mac_addresses_are_numbered_whatever_their_form() -> None:
    text = Redactor([]).text("52:54:00:AB:cd:ef, 52-54-00-ab-cd-ef, 52:54:00:ab:cd:00")
    assert text == "02:00:00:00:00:01, 02:00:00:00:00:01, 02:00:00:00:00:02"
