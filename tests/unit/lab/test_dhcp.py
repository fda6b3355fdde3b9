"""The lab's DHCP controller produces the same lines as luigi's genConfigMap."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from lab import dhcp

Json = dict[str, Any]


def server(*networks: Json) -> Json:
    return {"spec": {"networks": [*networks]}}


FULL = {
    "networkName": "blue",
    "interfaceIp": "10.20.0.2/24",
    "leaseDuration": "10m",
    "vlanId": "20",
    "cidr": {
        "range": "10.20.0.0/24",
        "range_start": "10.20.0.10",
        "range_end": "10.20.0.99",
        "gateway": "10.20.0.1",
    },
}


@pytest.mark.parametrize(
    ("networks", "lines"),
    [
        (
            [FULL],
            [
                "port=0",
                "dhcp-range=set:20,10.20.0.10,10.20.0.99,255.255.255.0,10m",
                "dhcp-option=set:20,3,10.20.0.1",
                "interface=eth1",
            ],
        ),
        (
            [{"networkName": "blue", "interfaceIp": "10.20.0.2/23", "cidr": {"range": "10.20.0.0/23"}}],
            ["port=0", "dhcp-range=10.20.0.1,10.20.1.254,255.255.254.0,1h", "interface=eth1"],
        ),
        (
            [{**FULL, "vlanId": ""}, {"cidr": {"range": "10.30.0.0/24"}}],
            [
                "port=0",
                "dhcp-range=10.20.0.10,10.20.0.99,255.255.255.0,10m",
                "dhcp-option=3,10.20.0.1",
                "interface=eth1",
                "dhcp-range=10.30.0.1,10.30.0.254,255.255.255.0,1h",
                "interface=eth2",
            ],
        ),
    ],
    ids=["all that there is", "only what must be", "two networks, no VLAN"],
)
def test_dhcpserver_is_converted_to_dnsmasq_lines(networks: list[Json], lines: list[str]) -> None:
    assert dhcp.generate_config_map_data(server(*networks))["dnsmasq.conf"].splitlines() == lines


def test_text_and_binary_files_of_a_configmap_are_written(tmp_path: Path) -> None:
    binary = {"10.20.0.42.conf": base64.b64encode(b"dhcp-host=02:59:00:00:00:01,10.20.0.42\n").decode()}
    dhcp.write_files(tmp_path / "conf", {"data": {"dnsmasq.conf": "port=0\n"}, "binaryData": binary})
    found = {file.name: file.read_text() for file in (tmp_path / "conf").iterdir()}
    assert found == {
        "dnsmasq.conf": "port=0\n",
        "10.20.0.42.conf": "dhcp-host=02:59:00:00:00:01,10.20.0.42\n",
    }


class Store:
    """The DHCPServer and the ConfigMaps of a namespace, as the controller sees them."""

    def __init__(self, config_map: Json | None) -> None:
        self.config_maps = [config_map] if config_map else []

    def get(self, path: str) -> Json:
        if path.endswith("/configmaps"):
            return {"items": self.config_maps}
        known = {"apiVersion": "dhcp.plumber.k8s.pf9.io/v1alpha1", "kind": "DHCPServer"}
        return {**known, "metadata": {"name": "blue", "uid": "u1"}, **server(FULL)}

    def put(self, _path: str, body: Json) -> None:
        self.config_maps = [body]

    post = put


def config_map(text: str) -> Json:
    return {"metadata": {"name": "blue"}, "data": {"dnsmasq.conf": text}, "binaryData": {"ours.conf": "cG9ydD0wCg=="}}


def test_controller_keeps_a_configmap_equal_to_its_own() -> None:
    store = Store(config_map(dhcp.generate_config_map_data(server(FULL))["dnsmasq.conf"]))
    assert not dhcp.reconcile(store, "prod", "blue")  # type: ignore[arg-type]
    assert store.config_maps[0]["binaryData"]


def test_controller_replaces_a_different_configmap() -> None:
    store = Store(config_map("port=0\ndhcp-host=02:59:00:00:00:01,10.20.0.42\n"))
    assert dhcp.reconcile(store, "prod", "blue")  # type: ignore[arg-type]
    assert store.config_maps[0]["data"] == dhcp.generate_config_map_data(server(FULL))
    assert "binaryData" not in store.config_maps[0]
    assert store.config_maps[0]["metadata"]["ownerReferences"][0]["controller"] is True
