"""The scene of the tests of Layer 2 networks: a namespace, and a bridge that no other test has.

The API server has the custom resources of Multus and luigi (the real ones with LAB_CRDS), but not their programs:
tests/e2e/test_ovs.py shows what becomes of them.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass

from lab.testing import Cluster
from tests.cluster.harness import Json, Yoshi, find, get

Cidrs = Callable[[int], str]
Bridges = Callable[[], tuple[str, str]]

TEMPLATES = "hostnetworktemplates.plumber.k8s.pf9.io"
ATTACHMENTS = "network-attachment-definitions.k8s.cni.cncf.io"
SERVERS = "dhcpservers.dhcp.plumber.k8s.pf9.io"
LEASES = "ipallocations.dhcp.plumber.k8s.pf9.io"
OWN = (ATTACHMENTS, SERVERS, "configmaps")
KINDS = ("networkwizards", TEMPLATES, *OWN, "virtualmachines")
NETWORK_NAME = "plumber.k8s.pf9.io/networkName"
NETWORK_UID = "plumber.k8s.pf9.io/networkUID"


@dataclass
class Layer2Scene:
    """A namespace, and a bridge that no other test has: bridges are the nodes', so all namespaces share them."""

    cluster: Cluster
    yoshi: Yoshi
    bridge: str
    nic: str

    @property
    def namespace(self) -> str:
        return self.yoshi.namespace

    def flags(self, cidr: str, *more: str) -> tuple[str, ...]:
        return ("--plugin", "ovs", "--cidr", cidr, "--bridge", self.bridge, "--uplink", self.nic, *more)

    def create(self, name: str, cidr: str, *more: str) -> str:
        return self.yoshi.done("network", "create", name, *self.flags(cidr, *more))

    def one(self, kind: str, name: str) -> Json | None:
        return find(self.cluster, kind, name, namespace=self.namespace)

    def there(self, kind: str, name: str) -> Json:
        found = self.one(kind, name)
        assert found is not None, f"{kind}/{name}"
        return found

    def templates(self) -> list[Json]:
        """Return the HostNetworkTemplates of the bridge, in all namespaces."""
        every = get(self.cluster, TEMPLATES)["items"]
        return [item for item in every if item["spec"]["ovsConfig"][0]["bridgeName"] == self.bridge]

    def made(self, name: str) -> list[str]:
        """Return the kinds of which there is an object for the network."""
        return [kind for kind in OWN if self.one(kind, name)]

    def records(self, name: str) -> Json:
        found: Json = self.there("networkwizard", name)["status"]["allocations"]
        return {address: record for address, record in found.items() if record["kind"] != "Network"}

    def files(self, name: str) -> dict[str, str]:
        files = self.there("configmap", name).get("binaryData", {})
        return {key: b64decode(text).decode() for key, text in files.items()}

    def hosts(self, name: str) -> dict[str, str]:
        """Return the DHCP files of allocated addresses, each its last line: the one before it has the time."""
        files = self.files(name)
        return {key: text.splitlines()[-1] for key, text in files.items() if key != "yoshi-options.conf"}

    def vm(self, name: str = "web") -> Json:
        return self.there("virtualmachine", name)

    def template(self, name: str = "web") -> Json:
        found: Json = self.vm(name)["spec"]["template"]
        return found

    def nics(self, name: str = "web") -> list[Json]:
        found: list[Json] = self.template(name)["spec"]["domain"]["devices"].get("interfaces", [])
        return found

    def plugged(self, name: str = "web") -> dict[str, str]:
        """Return interface -> its Multus attachment, or "pod"."""
        networks = self.template(name)["spec"].get("networks", [])
        return {one["name"]: one.get("multus", {}).get("networkName", "pod") for one in networks}


def at(cidr: str, number: int) -> str:
    """Return the address with this last octet, of a CIDR that starts at 0."""
    return f"{cidr.rpartition('.')[0]}.{number}"
