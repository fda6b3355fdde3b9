"""NetworkWizard and AddressBlock on real API servers, the oldest and the newest that the lab builds.

The matrix, on each of them:

- specs that are taken and specs that are refused, each with the sentence that a person reads
- changes of a spec: what never changes, what may
- a range's order, against Python's ipaddress, for both families
- a cluster that had the original yoshi's CRD and objects: nothing is lost, also not what breaks the new rules
- the YAML of the original's README and samples, unchanged
- the ledger's guarded patches: which `test` holds when, and with which status code it fails
- every field has a description; the printer columns
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

import lab
from lab.api import Api, wait_until

GROUP = "/apis/plumber.k8s.pf9.io/v1"
NETWORKS = f"{GROUP}/namespaces/default/networkwizards"
BLOCKS = f"{GROUP}/namespaces/default/addressblocks"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
RECORD = {"kind": "VirtualMachine", "namespace": "default", "name": "web-1", "uid": "u-1"}


@dataclass(frozen=True)
class Server:
    """A lab whose NetworkWizards were taken over from the original yoshi.

    Attributes:
        lab: the running lab.
        before: the original's objects by name, as they were read before the takeover.
    """

    lab: lab.Lab
    before: dict[str, Any]

    @property
    def api(self) -> Api:
        return self.lab.api

    def network(self, name: str, spec: Any = None, status: Any = None) -> str:
        """Create a network; returns its path."""
        self.api.post(NETWORKS, manifest(name, {"plugin": "calico", "cidr": "10.1.0.0/24"} if spec is None else spec))
        if status is not None:
            self.api.patch(f"{NETWORKS}/{name}/status", {"status": status})
        return f"{NETWORKS}/{name}"

    def patch_status(self, path: str, *ops: tuple[Any, ...]) -> Any:
        return self.api.patch(f"{path}/status", [as_op(*op) for op in ops], JSON_PATCH)["status"]

    def refusal(self, path: str, *ops: tuple[Any, ...]) -> str:
        """What the API server says to a patch of the status that it must refuse."""
        with pytest.raises(lab.LabError) as refused:
            self.patch_status(path, *ops)
        return str(refused.value)


@pytest.fixture(scope="module", params=["1.36", "1.31"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("replaces CRDs, and another cluster was chosen")
    with lab.start(kubernetes=request.param, calico="none") as running:
        api = running.api
        api.create_document(original_crd())
        wait_until("the original's CRD", lambda: ("plumber.k8s.pf9.io", "networkwizards") in api.served())
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
    """Whether the server has begun to serve our schemas."""
    try:
        api.post(f"{NETWORKS}?dryRun=All", manifest("probe", {"cidr": "none"}))
    except lab.LabError:
        return ("plumber.k8s.pf9.io", "addressblocks") in api.served()
    return False


def manifest(name: str, spec: Any, kind: str = "NetworkWizard") -> dict[str, Any]:
    made: dict[str, Any] = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": kind, "metadata": {"name": name}}
    return made if spec is None else made | {"spec": spec}


def as_op(op: str, path: str, *value: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **({"value": value[0]} if value else {})}


# --- what is taken and what is refused ---

PLAIN = {"plugin": "calico", "cidr": "10.133.0.0/16"}
OVS = {"plugin": "ovs", "cidr": "10.20.0.0/24"}
BGP = {"plugin": "public", "cidr": "207.97.241.196/29"}

TAKEN = {
    "nothing at all": {},
    "no spec": None,
    "the least": PLAIN,
    "IPv6": {"plugin": "calico", "cidr": "fd00:133::/64"},
    "one address": {"plugin": "calico", "cidr": "10.133.0.7/32"},
    "everything": {"plugin": "public", "cidr": "0.0.0.0/0"},
    "host bits": {"plugin": "public", "cidr": "207.97.241.196/29"},
    "a public network without a cidr": {"plugin": "public"},
    "a range": {**PLAIN, "range_start": "10.133.0.10", "range_end": "10.133.255.250"},
    "a range of one": {**PLAIN, "range_start": "10.133.0.10", "range_end": "10.133.0.10"},
    "a range of one, written in two ways": {
        "cidr": "fd00::/64",
        "range_start": "fd00::a",
        "range_end": "fd00:0:0:0:0:0:0:A",
    },
    "half a range": {**PLAIN, "range_start": "10.133.0.10"},
    "a range where the cidr has host bits": {**BGP, "range_start": "207.97.241.193", "range_end": "207.97.241.198"},
    "exclusions": {**PLAIN, "exclude": ["10.133.1.0/28", "10.133.2.10", "10.133.2.10-10.133.2.20", "fd00::1-fd00::2"]},
    "256 exclusions": {**PLAIN, "exclude": [f"10.133.{i}.1-10.133.{i}.9" for i in range(256)]},
    "no exclusions, without a cidr": {"plugin": "public", "exclude": []},
    "a gateway": {**PLAIN, "gateway": "10.133.0.1"},
    "peers in one text": {**BGP, "bgpConfig": {"peers": "10.240.0.5, 10.240.0.4", "remoteASN": 64512, "myASN": 64514}},
    "peers in a list": {
        **BGP,
        "bgpConfig": {
            "peers": [
                {"peerIP": "10.240.0.5", "reachableBy": "10.0.0.1", "multihop": True, "passwordSecret": "bgp"},
                {"peerIP": "fd00::5"},
            ]
        },
    },
    "the greatest ASNs": {**BGP, "bgpConfig": {"myASN": 4294967295, "remoteASN": 1}},
    "Calico tuned": {
        **PLAIN,
        "calico": {"encapsulation": "IPIPCrossSubnet", "natOutgoing": False, "blockSize": 26, "liveMigration": False},
    },
    "Calico's IPv6 block": {"cidr": "fd00::/64", "calico": {"blockSize": 122, "encapsulation": "None"}},
    "announcing tuned": {
        **BGP,
        "public": {"announce": "calico-bgp", "via": "external-ips", "interfaces": ["eth0"], "nodeSelector": {"a": "b"}},
    },
    "layer 2": {
        **OVS,
        "gateway": "10.20.0.1",
        "ovs": {
            "bridge": "br-ext",
            "nic": "eth1,eth2",
            "vlan": 20,
            "mtu": 9000,
            "bond": {"mode": "balance-tcp", "lacp": "active", "other": {"deep": 1}},
            "dhcp": {
                "enabled": True,
                "lease": "10m",
                "dns": ["10.20.0.2", "fd00::53"],
                "rangeStart": "10.20.0.10",
                "rangeEnd": "10.20.0.99",
            },
            "nodeSelector": {"kubernetes.io/os": "linux"},
        },
    },
    "times and limits": {**PLAIN, "coolDown": "1h30m", "maxAddressesPerNamespace": 10},
}

REFUSED = {
    "an unknown plugin": ({"plugin": "flannel"}, "Unsupported value"),
    "a cidr that is none": ({"cidr": "10.133.0.0"}, "cidr must be a network such as"),
    "a prefix too long": ({"cidr": "10.133.0.0/33"}, "cidr must be a network such as"),
    "leading zeros": ({"cidr": "010.133.0.0/16"}, "cidr must be a network such as"),
    "an IPv4 network in IPv6's clothes": ({"cidr": "::ffff:10.133.0.0/112"}, "cidr must be a network such as"),
    "range_start is none": ({**PLAIN, "range_start": "CoUACg=="}, "must be an address such as"),
    "range_end is none": ({**PLAIN, "range_end": "10.133.0.0/24"}, "must be an address such as"),
    "range_start outside": ({**PLAIN, "range_start": "10.134.0.1"}, "range_start must be inside the cidr"),
    "range_end outside": ({**PLAIN, "range_end": "10.132.255.255"}, "range_end must be inside the cidr"),
    "a range of the other family": ({**PLAIN, "range_start": "fd00::1"}, "range_start must be inside the cidr"),
    "a range the wrong way round": (
        {**PLAIN, "range_start": "10.133.0.11", "range_end": "10.133.0.10"},
        "range_start must not be above range_end",
    ),
    "an IPv6 range the wrong way round": (
        {"cidr": "fd00::/64", "range_start": "fd00::1:0", "range_end": "fd00::ffff"},
        "range_start must not be above range_end",
    ),
    "a range without a cidr": (
        {"plugin": "public", "range_start": "10.0.0.1"},
        "range_start, range_end, exclude and gateway need a cidr",
    ),
    "a gateway without a cidr": ({"plugin": "public", "gateway": "10.0.0.1"}, "gateway need a cidr"),
    "an exclusion that is none": ({**PLAIN, "exclude": ["10.133.0.1", "web-1"]}, "must be a network, an address or"),
    "an exclusion of three": ({**PLAIN, "exclude": ["10.133.0.1-10.133.0.2-10.133.0.3"]}, "must be a network, an add"),
    "an exclusion of both families": ({**PLAIN, "exclude": ["10.133.0.1-fd00::1"]}, "must be a network, an address or"),
    "257 exclusions": ({**PLAIN, "exclude": ["10.133.0.1"] * 257}, "must have at most 256 items"),
    "a gateway that is none": ({**PLAIN, "gateway": "router"}, "must be an address such as"),
    "a gateway outside": ({**PLAIN, "gateway": "10.1.0.1"}, "gateway must be inside the cidr"),
    "myASN 0": ({**BGP, "bgpConfig": {"myASN": 0}}, "greater than or equal to 1"),
    "an ASN of 33 bits": ({**BGP, "bgpConfig": {"remoteASN": 4294967296}}, "less than or equal to 4294967295"),
    "peers that are one object": ({**BGP, "bgpConfig": {"peers": {"peerIP": "10.0.0.1"}}}, "spec.bgpConfig.peers"),
    "peers that are words": ({**BGP, "bgpConfig": {"peers": "router-1"}}, "spec.bgpConfig.peers"),
    "a peer without an address": ({**BGP, "bgpConfig": {"peers": [{"multihop": True}]}}, "peers[0].peerIP: Required"),
    "a peer that is none": ({**BGP, "bgpConfig": {"peers": [{"peerIP": "router-1"}]}}, "peers[0].peerIP"),
    "an unknown encapsulation": ({**PLAIN, "calico": {"encapsulation": "GRE"}}, "Unsupported value"),
    "IPIP for IPv6": (
        {"cidr": "fd00::/64", "calico": {"encapsulation": "IPIP"}},
        "calico.encapsulation IPIP is for IPv4 only",
    ),
    "a block larger than the network": (
        {"cidr": "10.0.0.0/28", "calico": {"blockSize": 26}},
        "calico.blockSize must be 20 to 32 (IPv6 116 to 128) and not shorter than the cidr's prefix",
    ),
    "an IPv4 block for IPv6": ({"cidr": "fd00::/16", "calico": {"blockSize": 26}}, "calico.blockSize must be"),
    "an IPv6 block for IPv4": ({**PLAIN, "calico": {"blockSize": 122}}, "calico.blockSize must be"),
    "Calico's section elsewhere": ({**OVS, "calico": {}}, "calico is only for a network of plugin: calico"),
    "the public section elsewhere": ({**PLAIN, "public": {}}, "public is only for a network of plugin: public"),
    "the ovs section elsewhere": ({**PLAIN, "ovs": {}}, "ovs is only for a network of plugin: ovs"),
    "an unknown announcer": ({**BGP, "public": {"announce": "bird"}}, "Unsupported value"),
    "an unknown way": ({**BGP, "public": {"via": "ingress"}}, "Unsupported value"),
    "a VLAN too high": ({**OVS, "ovs": {"vlan": 4095}}, "less than or equal to 4094"),
    "a bridge's name too long": ({**OVS, "ovs": {"bridge": "br-external-0001"}}, "spec.ovs.bridge"),
    "a lease that is none": ({**OVS, "ovs": {"dhcp": {"lease": "soon"}}}, "lease must be a time such as 10m"),
    "a DNS server by name": ({**OVS, "ovs": {"dhcp": {"dns": ["ns1"]}}}, "must be an address such as"),
    "half of DHCP's range": (
        {**OVS, "ovs": {"dhcp": {"rangeStart": "10.20.0.9"}}},
        "rangeStart and rangeEnd go together",
    ),
    "DHCP's range outside": (
        {**OVS, "ovs": {"dhcp": {"rangeStart": "10.20.0.9", "rangeEnd": "10.21.0.9"}}},
        "ovs.dhcp.rangeStart and rangeEnd must be inside the cidr",
    ),
    "a coolDown that is none": ({**PLAIN, "coolDown": "10 minutes"}, "coolDown must be a time such as 10m or 1h30m"),
    "no address for anyone": ({**PLAIN, "maxAddressesPerNamespace": 0}, "greater than or equal to 1"),
}


@pytest.mark.parametrize("spec", TAKEN.values(), ids=TAKEN.keys())
def test_a_right_spec_is_taken_and_kept_as_it_is(server: Server, spec: Any) -> None:
    made = server.api.post(f"{NETWORKS}?dryRun=All&fieldValidation=Strict", manifest("taken", spec))
    assert made["spec"] == (spec or {})


@pytest.mark.parametrize(("spec", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_spec_is_refused_with_a_sentence(server: Server, spec: Any, says: str) -> None:
    with pytest.raises(lab.LabError) as refused:
        server.api.post(f"{NETWORKS}?dryRun=All", manifest("refused", spec))
    assert " 422 " in str(refused.value)
    assert says in str(refused.value)


CHANGES = {
    "the plugin": (PLAIN, {"plugin": "public"}, "plugin never changes: make a new network"),
    "the plugin, away": (PLAIN, {"plugin": None}, "plugin never changes"),
    "the cidr": (PLAIN, {"cidr": "10.133.0.0/17"}, "cidr never changes: make a new network"),
    "the cidr, away": (PLAIN, {"cidr": None}, "cidr never changes"),
    "the whole spec, away": (PLAIN, None, "cidr never changes"),
    "the VLAN": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": {"vlan": 30}}, "ovs.vlan never changes: make a new network"),
    "the VLAN, away": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": {"vlan": None}}, "ovs.vlan never changes"),
    "the VLAN, away with its section": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": None}, "ovs.vlan never changes"),
    "untagged to a VLAN": ({**OVS, "ovs": {"bridge": "br0"}}, {"ovs": {"vlan": 20}}, "ovs.vlan never changes"),
    "untagged, said aloud": ({**OVS, "ovs": {"bridge": "br0"}}, {"ovs": {"vlan": 0}}, ""),
    "the plugin and the cidr, set late": ({}, PLAIN, ""),
    "the range": (
        {**PLAIN, "range_start": "10.133.0.10"},
        {"range_start": "10.133.0.5", "exclude": ["10.133.9.9"]},
        "",
    ),
    "the MTU": ({**OVS, "ovs": {"vlan": 20}}, {"ovs": {"mtu": 9000}}, ""),
}


@pytest.mark.parametrize(("spec", "change", "says"), CHANGES.values(), ids=CHANGES.keys())
def test_what_names_a_network_never_changes(server: Server, spec: Any, change: Any, says: str) -> None:
    path = server.network("changing", spec)
    try:
        if says:
            with pytest.raises(lab.LabError, match=says):
                server.api.patch(path, {"spec": change})
            assert server.api.get(path)["spec"] == spec
        else:
            server.api.patch(path, {"spec": change})
    finally:
        server.lab.kubectl("delete", "networkwizard", "changing")


def test_a_range_is_in_order_as_python_has_it(server: Server) -> None:
    chance = random.Random(133)
    for version, bits in ((4, 32), (6, 128)):
        for _ in range(60):
            first = chance.getrandbits(bits)
            # Near and far: one bit apart as often as anywhere.
            last = first ^ (1 << chance.randrange(bits)) if chance.random() < 0.6 else chance.getrandbits(bits)
            address = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
            spec = {"cidr": "0.0.0.0/0" if version == 4 else "::/0"}
            spec |= {"range_start": str(address(first)), "range_end": str(address(last))}
            if "." in spec["range_start"] + spec["range_end"] and version == 6:
                continue  # IPv4-mapped, which is no address here
            try:
                server.api.post(f"{NETWORKS}?dryRun=All", manifest("order", spec))
                taken = True
            except lab.LabError as refused:
                assert "range_start must not be above range_end" in str(refused)
                taken = False
            assert taken == (first <= last), spec


BLOCK = {"network": "big", "networkUID": "u-1", "first": "10.133.4.0"}


@pytest.mark.parametrize("first", ["10.133.4.0", "0.0.0.0", "fd00:133::", "fd00:133::100", "::"])
def test_a_block_starts_at_a_multiple_of_256(server: Server, first: str) -> None:
    made = server.api.post(f"{BLOCKS}?dryRun=All", manifest("b", {**BLOCK, "first": first}, "AddressBlock"))
    assert made["spec"]["size"] == 256


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (None, "spec: Required"),
        ({"network": "big", "networkUID": "u-1"}, "first: Required"),
        ({**BLOCK, "networkUID": ""}, "networkUID"),
        ({**BLOCK, "first": "10.133.4.7"}, "first must be a multiple of 256"),
        ({**BLOCK, "first": "fd00:133::80"}, "first must be a multiple of 256"),
        ({**BLOCK, "first": "FD00:133::"}, "first must be an address in canonical form"),
        ({**BLOCK, "first": "10.133.4.0/24"}, "first must be an address in canonical form"),
        ({**BLOCK, "size": 512}, "Unsupported value"),
    ],
)
def test_a_wrong_block_is_refused(server: Server, spec: Any, says: str) -> None:
    with pytest.raises(lab.LabError) as refused:
        server.api.post(f"{BLOCKS}?dryRun=All", manifest("b", spec, "AddressBlock"))
    assert says in str(refused.value)


def test_a_block_is_for_ever_the_same_addresses(server: Server) -> None:
    server.api.post(BLOCKS, manifest("big.10.133.4.0", BLOCK, "AddressBlock"))
    path = f"{BLOCKS}/big.10.133.4.0"
    for change in ({"first": "10.133.5.0"}, {"networkUID": "u-2"}, {"network": "other"}):
        with pytest.raises(lab.LabError, match="an AddressBlock's spec never changes"):
            server.api.patch(path, {"spec": change})
    status = server.patch_status(path, ("add", "/status", {"allocations": {"10.133.4.9": RECORD}, "used": 1}))
    assert status["allocations"] == {"10.133.4.9": RECORD}
    assert cells(server, BLOCKS, "big.10.133.4.0")[:4] == ["big.10.133.4.0", "big", "10.133.4.0", 1]


# --- a cluster of the original yoshi ---

ORIGINAL_CRD = b"""\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: networkwizards.plumber.k8s.pf9.io}
spec:
  group: plumber.k8s.pf9.io
  names: {kind: NetworkWizard, listKind: NetworkWizardList, plural: networkwizards, singular: networkwizard}
  scope: Namespaced
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              bgpConfig:
                type: object
                properties:
                  myASN: {type: integer, format: int32}
                  remoteASN: {type: integer, format: int32}
                  peers:
                    type: array
                    items:
                      type: object
                      required: [peerIP]
                      properties:
                        peerIP: {type: string}
                        reachableBy: {type: string}
              cidr: {type: string}
              plugin: {type: string}
              range_end: {type: string, format: byte}
              range_start: {type: string, format: byte}
          status:
            type: object
            properties:
              allocations: {type: object, additionalProperties: {type: string}}
              created: {type: boolean}
              reason: {type: string}
    served: true
    storage: true
    subresources: {status: {}}
"""

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
    # A base64 range is all that the original's CRD took; our rules refuse it.
    "oldrange": ({"plugin": "calico", "cidr": "10.9.0.0/24", "range_start": "CgkACg=="}, {"allocations": {}}),
    "empty": (None, None),
}


def original_crd() -> bytes:
    """The original's CRD: the real one where LAB_CRDS has it, else one of the same shape."""
    real = Path(os.environ.get("LAB_CRDS", "")) / "luigi" / "plumber.k8s.pf9.io_networkwizards.yaml"
    return real.read_bytes() if real.is_file() else ORIGINAL_CRD


@pytest.mark.parametrize("name", ORIGINAL_OBJECTS)
def test_the_originals_objects_are_taken_over_with_nothing_lost(server: Server, name: str) -> None:
    before = server.before[name]
    after = server.api.get(f"{NETWORKS}/{name}")
    assert after.pop("spec") == (before.pop("spec", None) or {})
    for told in (before, after):
        told["metadata"].pop("managedFields", None)
    if name == "newarjunpool":
        assert len(after["status"]["allocations"]) == 300
        assert after["status"]["allocations"]["10.133.1.0"] == "vm-256"
    assert after == before


def test_the_originals_plain_names_become_records_one_by_one(server: Server) -> None:
    path = server.network("names", status={"allocations": {"10.1.0.1": "vm-1", "10.1.0.2": "vm-2"}})
    status = server.patch_status(
        path,
        ("test", "/status/allocations/10.1.0.1", "vm-1"),
        ("add", "/status/allocations/10.1.0.1", RECORD),
    )
    assert status["allocations"] == {"10.1.0.1": RECORD, "10.1.0.2": "vm-2"}
    assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.2", "vm-1"))


def test_an_object_that_breaks_a_new_rule_takes_writes_elsewhere_and_can_be_repaired(server: Server) -> None:
    path = f"{NETWORKS}/oldrange"
    write = ("add", "/status/allocations/10.9.0.9", RECORD)
    if server.lab.options.kubernetes == "1.31":
        # Until 1.33 a status write is checked as if the spec were written with it.
        assert "spec.range_start: Invalid value" in server.refusal(path, write)
    else:
        server.patch_status(path, write)
    server.api.patch(path, {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(lab.LabError, match="must be an address such as"):
        server.api.patch(path, {"spec": {"range_start": "CgkACw=="}})
    server.api.patch(path, {"spec": {"range_start": "10.9.0.10"}})
    assert server.patch_status(path, write)["allocations"] == {"10.9.0.9": RECORD}


ORIGINAL_YAML = {
    "the README's Calico network": """
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  name: newarjunpool
spec:
  plugin: "calico"
  cidr: "10.133.0.0/16"
""",
    "the README's public network": """
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  name: publicnetwork
spec:
  plugin: "public"
  cidr: "207.97.241.196/29"
  bgpConfig:
    peers: 10.240.0.5, 10.240.0.4
    remoteASN: 64512
    myASN: 64514
""",
    "config/samples": """
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  labels:
    app.kubernetes.io/name: networkwizard
  name: networkwizard-sample
spec:
  # TODO(user): Add fields here
""",
}


@pytest.mark.parametrize("text", ORIGINAL_YAML.values(), ids=ORIGINAL_YAML.keys())
def test_the_originals_yaml_is_applied_unchanged(server: Server, text: str) -> None:
    for _ in range(2):
        server.lab.kubectl("apply", "-f", "-", input=text)
        wanted = yaml.safe_load(text)
        assert server.api.get(f"{NETWORKS}/{wanted['metadata']['name']}")["spec"] == (wanted["spec"] or {})


def test_peers_as_text_or_list_survive_server_side_apply(server: Server) -> None:
    for peers in ("10.240.0.5, 10.240.0.4", [{"peerIP": "10.240.0.5", "more": 1}], "10.240.0.6"):
        wanted = manifest("applied", {**BGP, "bgpConfig": {"peers": peers}})
        made = server.api.patch(f"{NETWORKS}/applied?fieldManager=t&force=true", wanted, APPLY)
        assert made["spec"]["bgpConfig"]["peers"] == peers


# --- the ledger's patches ---


def test_an_address_is_taken_once_and_given_back_by_its_holder_only(server: Server) -> None:
    path = server.network("ledger", status={"allocations": {}})
    take = (("test", "/status/allocations/10.1.0.9", None), ("add", "/status/allocations/10.1.0.9", RECORD))
    assert server.patch_status(path, *take)["allocations"] == {"10.1.0.9": RECORD}
    taken = server.refusal(path, *take)
    assert " 422 " in taken
    assert "the server rejected our request" in taken  # all that a failed `test` says; it names no cause
    give_back = ("remove", "/status/allocations/10.1.0.9")
    assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.9/uid", "u-2"), give_back)
    assert server.patch_status(path, ("test", "/status/allocations/10.1.0.9", RECORD), give_back)["allocations"] == {}
    assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.9", RECORD), give_back)
    assert " 422 " in server.refusal(path, give_back)


@pytest.mark.parametrize(
    ("status", "guard", "write"),
    [
        (None, "/status", {"allocations": {"10.1.0.9": RECORD}}),
        ({"created": True}, "/status/allocations", {"10.1.0.9": RECORD}),
        ({"allocations": {}}, "/status/allocations/10.1.0.9", RECORD),
        ({"allocations": {"10.1.0.8": "vm"}}, "/status/allocations/10.1.0.9", RECORD),
    ],
    ids=["no status", "no allocations", "no address", "another's address"],
)
def test_a_test_for_null_holds_where_only_the_last_step_is_missing(
    server: Server, status: Any, guard: str, write: Any
) -> None:
    path = server.network("guarded", status=status)
    try:
        see_that_the_guard_holds(server, path, guard, write)
    finally:
        server.lab.kubectl("delete", "networkwizard", "guarded")


def see_that_the_guard_holds(server: Server, path: str, guard: str, write: Any) -> None:
    before = server.api.get(path).get("status", {})
    # A step too deep fails like a taken address does; a step too high would overwrite.
    if guard != "/status/allocations/10.1.0.9":
        assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.9", None), ("add", guard, write))
    after = server.patch_status(path, ("test", guard, None), ("add", guard, write))
    assert after == {**before, "allocations": {**before.get("allocations", {}), "10.1.0.9": RECORD}}
    # The second writer's guard, which was right when it read, fails now.
    assert " 422 " in server.refusal(path, ("test", guard, None), ("add", guard, write))


def test_a_network_made_anew_is_another_one(server: Server) -> None:
    path = server.network("anew")
    uid = server.api.get(path)["metadata"]["uid"]
    server.lab.kubectl("delete", "networkwizard", "anew")
    gone = server.refusal(path, ("test", "/metadata/uid", uid), ("add", "/status", {}))
    assert " 404 " in gone
    server.network("anew")
    assert " 422 " in server.refusal(path, ("test", "/metadata/uid", uid), ("add", "/status", {}))


def test_a_record_without_a_kind_is_refused_with_its_address(server: Server) -> None:
    path = server.network("record", status={"allocations": {}})
    said = server.refusal(path, ("add", "/status/allocations/10.1.0.9", {"name": "web-1"}))
    assert " 422 " in said
    assert "status.allocations.10.1.0.9.kind: Required" in said
    kept = {**RECORD, "since": "2026-01-02T03:04:05Z", "note": "n", "mac": "02:00:00:00:00:01", "later": {"x": 1}}
    assert server.patch_status(path, ("add", "/status/allocations/10.1.0.9", kept))["allocations"] == {"10.1.0.9": kept}


def test_the_map_is_one_field_to_the_managed_fields(server: Server) -> None:
    path = server.network("atomic", status={"allocations": {f"10.1.0.{i}": RECORD for i in range(1, 200)}})
    server.patch_status(path, ("add", "/status/allocations/10.1.0.200", RECORD))
    fields = server.api.get(path)["metadata"]["managedFields"]
    assert [entry["fieldsV1"] for entry in fields if entry.get("subresource") == "status"] == [
        {"f:status": {".": {}, "f:allocations": {}}}
    ]
    assert len(json.dumps(fields)) < 1000


# --- for people ---


def test_every_field_has_a_description(server: Server) -> None:
    schemas = server.api.get(f"/openapi/v3{GROUP}")["components"]["schemas"]
    without = [
        path
        for kind in ("NetworkWizard", "AddressBlock")
        for path in undescribed(schemas[f"io.pf9.k8s.plumber.v1.{kind}"], kind)
    ]
    assert without == []


def undescribed(schema: Any, path: str) -> Iterator[str]:
    if not schema.get("description") and not (schema.get("allOf") or "$ref" in schema):
        yield path
    for name, child in schema.get("properties", {}).items():
        yield from undescribed(child, f"{path}.{name}")
    for child in (schema.get("items"), schema.get("additionalProperties")):
        if isinstance(child, dict):
            for name, grandchild in child.get("properties", {}).items():
                yield from undescribed(grandchild, f"{path}[].{name}")


def test_explain_tells_the_shape_of_what_has_no_type(server: Server) -> None:
    peers = server.lab.kubectl("explain", "networkwizard.spec.bgpConfig.peers")
    assert all(field in peers for field in ("peerIP", "reachableBy", "multihop", "passwordSecret"))
    record = server.lab.kubectl("explain", "nw.status.allocations.uid")
    assert "one made anew under the same name is another machine" in " ".join(record.split())


def test_a_list_shows_what_a_network_is(server: Server) -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "PoolExists",
        "message": "",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    status = {"conditions": [condition], "used": 3, "free": 9223372036854775807, "reason": "no Calico"}
    server.network("shown", {"plugin": "calico", "cidr": "fd00::/64"}, status)
    table = server.api.get(NETWORKS, accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    columns = [(column["name"], column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [("Name", 0), *((name, 0) for name in COLUMNS), ("Reason", 1)]
    shown = cells(server, NETWORKS, "shown")
    assert shown[:6] == ["shown", "calico", "fd00::/64", "False", 3, 9223372036854775807]
    assert shown[7] == "no Calico"
    assert "fd00::/64" in server.lab.kubectl("get", "nw", "shown")


COLUMNS = ("Plugin", "CIDR", "Ready", "Used", "Free", "Age")


def cells(server: Server, collection: str, name: str) -> list[Any]:
    """The row that `kubectl get` prints of an object."""
    table = server.api.get(collection, accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    [row] = [row["cells"] for row in table["rows"] if row["cells"][0] == name]
    return list(row)
