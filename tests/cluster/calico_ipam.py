"""IPAMBlocks and IPAMHandles, written as Calico's programs write them."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from lab.testing import Cluster
from tests.cluster.harness import Json, find, get, make

BLOCKS, HANDLES = (f"{kind}.crd.projectcalico.org" for kind in ("ipamblocks", "ipamhandles"))


@dataclass
class Calico:
    """IPAM objects of Calico that a test has created."""

    cluster: Cluster
    namespace: str
    made: list[str] = field(default_factory=list)

    def hold(self, *addresses: str, handle: str = "", vm: str = "", owner: Json | None = None) -> str:
        """Assign addresses to a handle (a VM's if `vm` is given), as Calico's CNI plugin does on ADD and after DEL.

        Returns:
            The handle's name.
        """
        handle = handle or f"k8s-pod-network.vmi.{self.namespace}.{vm}"
        counts: dict[str, int] = {}
        for address in addresses:
            cidr = ipaddress.ip_network(f"{address}/26", strict=False)
            name = block_name(cidr)
            block = self.block(name) or self._new_block(name, cidr)
            spec = block["spec"]
            ordinal = int(ipaddress.ip_address(address)) - int(cidr.network_address)
            attribute = {"handle_id": handle, **({"secondary": owner} if owner else {})}
            if attribute not in spec["attributes"]:
                spec["attributes"].append(attribute)
            spec["allocations"][ordinal] = spec["attributes"].index(attribute)
            spec["unallocated"].remove(ordinal)
            spec["sequenceNumberForAllocation"][str(ordinal)] = spec["sequenceNumber"]
            spec["sequenceNumber"] += 1
            self.cluster.api.put(self._path(name), block)
            counts[str(cidr)] = counts.get(str(cidr), 0) + 1
        body = {"handleID": handle, "block": counts, "deleted": False}
        make(self.cluster, obj("IPAMHandle", handle, body))
        self.made.append(f"{HANDLES}/{handle}")
        return handle

    def _new_block(self, name: str, cidr: ipaddress.IPv4Network) -> Json:
        spec: Json = {
            "cidr": str(cidr),
            "affinity": "host:node1",
            "strictAffinity": False,
            "allocations": [None] * cidr.num_addresses,
            "unallocated": list(range(cidr.num_addresses)),
            "attributes": [],
            "deleted": False,
            "sequenceNumber": 1,
            "sequenceNumberForAllocation": {},
        }
        self.made.append(f"{BLOCKS}/{name}")
        return make(self.cluster, obj("IPAMBlock", name, spec))[0]

    def _path(self, block: str) -> str:
        return self.cluster.api.find_resource(BLOCKS).path(name=block)

    def block(self, name: str) -> Json | None:
        return find(self.cluster, BLOCKS, name)

    def holders(self) -> dict[str, str]:
        """Return address -> handle of every block of this test; fail if a block is inconsistent."""
        found: dict[str, str] = {}
        for name in [made.partition("/")[2] for made in self.made if made.startswith(BLOCKS)]:
            block = self.block(name)
            assert block
            spec = block["spec"]
            first = ipaddress.ip_network(spec["cidr"]).network_address
            held = {n: index for n, index in enumerate(spec["allocations"]) if index is not None}
            assert sorted([*held, *spec["unallocated"]]) == list(range(len(spec["allocations"])))
            assert set(held.values()) == set(range(len(spec["attributes"]))), "an attribute that nobody has, or has not"
            assert {int(n) for n in spec["sequenceNumberForAllocation"]} == set(held)
            found |= {str(first + n): spec["attributes"][index]["handle_id"] for n, index in held.items()}
        return found

    def handles(self) -> set[str]:
        """Return the handles of this namespace's VMs."""
        names = {found["metadata"]["name"] for found in get(self.cluster, HANDLES)["items"]}
        return {name for name in names if f".vmi.{self.namespace}." in name}


def obj(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def block_name(cidr: ipaddress.IPv4Network) -> str:
    return str(cidr).replace(".", "-").replace("/", "-")
