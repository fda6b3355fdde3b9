"""The checker itself: it must find every violation, and nothing in a consistent state.

It needs no cluster; it lives beside what it tests.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from tests.cluster.checker import violations
from tests.cluster.raw_state import CONFIGMAPS, SERVICES, Json, RawState, interfaces_of


def network(name: str = "blue", namespace: str = "prod", cidr: str = "10.9.0.0/28", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-of-{namespace}-{name}"},
        "spec": {"plugin": "calico", "cidr": cidr, **spec},
        "status": {"allocations": {}, "used": 0},
    }


def public(name: str = "pub", **spec: Any) -> Json:
    return network(name, **{"plugin": "public", "cidr": "203.0.113.0/29", **spec})


def block(of: Json, first: str) -> Json:
    name, namespace = of["metadata"]["name"], of["metadata"]["namespace"]
    return {
        "metadata": {
            "name": f"{name}.{first}",
            "namespace": namespace,
            "uid": f"uid-of-{name}.{first}",
            "ownerReferences": [{"uid": of["metadata"]["uid"]}],
        },
        "spec": {"network": name, "networkUID": of["metadata"]["uid"], "first": first, "size": 256},
        "status": {"allocations": {}, "used": 0},
    }


def machine(name: str, *addresses: str, uid: str = "") -> Json:
    annotations = {"cni.projectcalico.org/ipAddrs": json.dumps(addresses)} if addresses else {}
    return {
        "metadata": {"name": name, "namespace": "prod", "uid": uid or f"uid-of-{name}", "resourceVersion": "1"},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    }


def record(vm: Json) -> Json:
    names = {key: vm["metadata"][key] for key in ("namespace", "name", "uid")}
    return {"kind": "VirtualMachine", **names}


def hold(obj: Json, address: str, owner: Json) -> None:
    obj["status"]["allocations"][address] = owner
    obj["status"]["used"] = len(obj["status"]["allocations"])


WEB, DB, POD = "k8s-pod-network.vmi.prod.web", "k8s-pod-network.vmi.prod.db", "k8s-pod-network.prod-container"


def ipam_block(cidr: str, holders: dict[int, str]) -> Json:
    names = list(dict.fromkeys(holders.values()))
    allocations = [names.index(holders[number]) if number in holders else None for number in range(64)]
    return {"spec": {"cidr": cidr, "allocations": allocations, "attributes": [{"handle_id": name} for name in names]}}


def ipam_handle(name: str, cidr: str) -> Json:
    return {"spec": {"handleID": name, "block": {cidr: 1}}}


@pytest.fixture
def sound() -> RawState:
    """A small and a large network; web carries an address of one, db of the other; one address is reserved."""
    blue = network(gateway="10.9.0.1", exclude=["10.9.0.12-10.9.0.13"], range_start="10.9.0.2")
    big = network("big", cidr="10.8.0.0/16")
    web, db, idle = machine("web", "10.9.0.5"), machine("db", "10.8.3.7"), machine("idle")
    shard = block(big, "10.8.3.0")
    calico = ipam_block("10.9.0.0/26", {5: WEB, 9: POD}), ipam_block("10.8.3.0/26", {7: DB})
    handles = [ipam_handle(WEB, "10.9.0.0/26"), ipam_handle(POD, "10.9.0.0/26"), ipam_handle(DB, "10.8.3.0/26")]
    hold(blue, "10.9.0.5", record(web))
    hold(blue, "10.9.0.6", {"kind": "Reservation", "namespace": "prod"})
    hold(shard, "10.8.3.7", record(db))
    return RawState([blue, big], [shard], [web, db, idle], ipam_blocks=[*calico], ipam_handles=handles)


def test_checker_finds_nothing_in_a_consistent_state(sound: RawState) -> None:
    assert violations(sound, {"prod"}, settled=True) == []


@pytest.mark.parametrize("cidr", ["203.0.113.0/29", "203.0.112.0/22"])
def test_checker_accepts_public_addresses_outside_the_cidr(sound: RawState, cidr: str) -> None:
    pub, asking = public(cidr=cidr), machine("asking")
    asking["metadata"]["annotations"] = {"plumber.k8s.pf9.io/publicIP": "1.2.3.4"}
    hold(pub, "1.2.3.4", record(asking))
    hold(pub, "1.2.3.5", {"kind": "Reservation"})
    seen = replace(
        sound,
        networks=[*sound.networks, pub],
        vms=[*sound.vms, asking],
        others={SERVICES: [service(asking, public(), "1.2.3.4")]},
    )
    assert violations(seen, {"prod"}, settled=True) == []


Harm = Callable[[RawState], None]


def _record(seen: RawState, address: str) -> Json:
    for obj in [*seen.networks, *seen.blocks]:
        if address in obj["status"]["allocations"]:
            found: Json = obj["status"]["allocations"][address]
            return found
    raise KeyError(address)


def _drop(seen: RawState, address: str) -> None:
    for obj in [*seen.networks, *seen.blocks]:
        obj["status"]["allocations"].pop(address, None)
        obj["status"]["used"] = len(obj["status"]["allocations"])


def _also_web(seen: RawState, address: str) -> None:
    hold(seen.networks[0], address, record(seen.vms[0]))


VIOLATIONS: dict[str, tuple[str, Harm]] = {
    "two VMs carry an address": ("I1", lambda s: s.vms.append(machine("thief", "10.9.0.5"))),
    "an address is in two blocks": (
        "I1",
        lambda s: (s.blocks.append(block(s.networks[1], "10.8.4.0")), hold(s.blocks[1], "10.8.3.7", record(s.vms[1]))),
    ),
    "a large network has records in its status": ("I1", lambda s: hold(s.networks[1], "10.8.3.9", record(s.vms[2]))),
    "an address is written in two ways": (
        "I1",
        lambda s: (
            s.networks.append(network("six", cidr="fd00::/120")),
            hold(s.networks[2], "fd00::1", {"kind": "Reservation"}),
            hold(s.networks[2], "fd00:0::1", {"kind": "Reservation"}),
        ),
    ),
    "two networks overlap": ("I1", lambda s: s.networks.append(network("other", cidr="10.9.0.8/29"))),
    "a network of another namespace overlaps": (
        "I1",
        lambda s: s.networks.append(network("other", "elsewhere", "10.8.128.0/17")),
    ),
    "a block outlived its network and holds records": (
        "I1",
        lambda s: s.blocks[0]["spec"].update(networkUID="uid-of-an-earlier-big"),
    ),
    "a VM carries an address without a record": ("I2", lambda s: _drop(s, "10.9.0.5")),
    "the record has another uid": ("I2", lambda s: _record(s, "10.9.0.5").update(uid="uid-of-an-earlier-web")),
    "the record has another name": ("I2", lambda s: _record(s, "10.8.3.7").update(name="db-2")),
    "the record has another namespace": ("I2", lambda s: _record(s, "10.8.3.7").update(namespace="test")),
    "the record is Platform9 yoshi's": (
        "I2",
        lambda s: s.networks[0]["status"]["allocations"].update({"10.9.0.5": "web"}),
    ),
    "a reserved address is carried": ("I2", lambda s: s.vms.append(machine("printer", "10.9.0.6"))),
    "a VM has two records": ("I3", lambda s: _also_web(s, "10.9.0.7")),
    "a VM carries two addresses": (
        "I3",
        lambda s: s.vms[0]["spec"]["template"]["metadata"].update(
            annotations={"cni.projectcalico.org/ipAddrs": '["10.9.0.5", "10.9.0.7"]'}
        ),
    ),
    "the network address is held": (
        "I4",
        lambda s: (s.networks[0]["spec"].pop("range_start"), _also_web(s, "10.9.0.0")),
    ),
    "the broadcast address is held": ("I4", lambda s: _also_web(s, "10.9.0.15")),
    "the gateway is held": ("I4", lambda s: (s.networks[0]["spec"].pop("range_start"), _also_web(s, "10.9.0.1"))),
    "an excluded address is held": ("I4", lambda s: _also_web(s, "10.9.0.13")),
    "an address below the range is held": (
        "I4",
        lambda s: (s.networks[0]["spec"].update(range_start="10.9.0.5"), _also_web(s, "10.9.0.4")),
    ),
    "an address above the range is held": (
        "I4",
        lambda s: (s.networks[0]["spec"].update(range_end="10.9.0.9"), _also_web(s, "10.9.0.10")),
    ),
    "an address outside the cidr is held": ("I4", lambda s: _also_web(s, "10.9.0.16")),
    "an address of the other family is held outside the cidr": (
        "I4",
        lambda s: (s.networks.append(public()), hold(s.networks[2], "2001:db8::7", {"kind": "Reservation"})),
    ),
    "an address outside a public network's cidr is held for a VM that does not name it": (
        "I4",
        lambda s: (s.networks.append(public()), hold(s.networks[2], "1.2.3.4", record(s.vms[2]))),
    ),
    "an address outside a public network's cidr is in another network's": (
        "I1",
        lambda s: (s.networks.append(public()), hold(s.networks[2], "10.9.0.7", {"kind": "Reservation"})),
    ),
    "two public networks hold an address outside their cidrs": (
        "I1",
        lambda s: (
            s.networks.extend([public(), public("far", cidr="198.51.100.0/29")]),
            hold(s.networks[2], "1.2.3.4", {"kind": "Reservation"}),
            hold(s.networks[3], "1.2.3.4", {"kind": "Reservation"}),
        ),
    ),
    "a VM has an address outside every cidr without a record": (
        "I2",
        lambda s: s.others.update({SERVICES: [service(s.vms[2], public(), "1.2.3.4")]}),
    ),
    "a VMI runs with what nobody holds": (
        "I5",
        lambda s: s.instances.append(
            {
                "metadata": {"name": "idle", "namespace": "prod"},
                "status": {"phase": "Running", "interfaces": [{"ipAddress": "10.9.0.9"}]},
            }
        ),
    ),
    "a pod runs with what another VM holds": (
        "I5",
        lambda s: s.pods.append(
            {
                "metadata": {
                    "name": "virt-launcher-idle",
                    "namespace": "prod",
                    "annotations": {"kubevirt.io/domain": "idle"},
                },
                "status": {"phase": "Running", "podIP": "10.9.0.5"},
            }
        ),
    ),
    "a record's VM is gone": ("I5", lambda s: (s.vms.pop(0), None)),
    "a record's VM was recreated": ("I5", lambda s: s.vms.__setitem__(0, machine("web", uid="uid-of-a-new-web"))),
    "a record's VM does not carry the address": ("I5", lambda s: hold(s.networks[0], "10.9.0.9", record(s.vms[2]))),
    "a block would outlive its network": ("I8", lambda s: s.blocks[0]["metadata"].update(ownerReferences=[])),
    "a handle counts what its block does not contain": (
        "I10",
        lambda s: s.ipam_blocks[0]["spec"]["allocations"].__setitem__(5, None),
    ),
    "a pod's handle does": ("I10", lambda s: s.ipam_handles[1]["spec"].update(block={"10.9.0.0/26": 2})),
    "a handle counts addresses of a block that is gone": ("I10", lambda s: (s.ipam_blocks.pop(), None)),
    "a block contains more than its handle counts": (
        "I10",
        lambda s: s.ipam_blocks[1]["spec"]["allocations"].__setitem__(8, 0),
    ),
    "a block has an address of a handle that does not exist": ("I10", lambda s: (s.ipam_handles.pop(), None)),
    "a handle counts nothing": ("I10", lambda s: s.ipam_handles.append({"spec": {"handleID": f"{WEB}-2"}})),
    "a counter is wrong": ("prod/blue says", lambda s: s.networks[0]["status"].update(used=7)),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_checker_finds_each_violation(sound: RawState, what: str) -> None:
    begins, harm = VIOLATIONS[what]
    seen = deepcopy(sound)
    harm(seen)
    found = violations(seen, {"prod"}, settled=True)
    assert any(sentence.startswith(begins) for sentence in found), found


@pytest.mark.parametrize("what", VIOLATIONS)
def test_checker_ignores_other_namespaces(sound: RawState, what: str) -> None:
    _, harm = VIOLATIONS[what]
    harm(sound)
    assert violations(sound, {"another"}, settled=True) == []


MAC = "02:00:00:00:00:05"


@pytest.fixture
def plugged() -> RawState:
    """A Layer 2 network with a DHCP server; web has an interface on it, and its address is the server's to give."""
    lab, web = network("lab", plugin="ovs"), machine("web")
    web["spec"]["template"] = {
        "metadata": {"annotations": {"ip.plumber.k8s.pf9.io/data": "10.9.0.5"}},
        "spec": {"domain": {"devices": {"interfaces": [{"name": "data", "macAddress": MAC}]}}},
    }
    hold(lab, "10.9.0.2", {"kind": "Network"})
    hold(lab, "10.9.0.5", record(web))
    files = {"10.9.0.5.conf": f"dhcp-host={MAC},10.9.0.5\n", "yoshi-options.conf": "dhcp-option=3\n"}
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in files.items()}
    config = {"metadata": {"name": "lab", "namespace": "prod"}, "binaryData": encoded}
    return RawState([lab], [], [web], others={CONFIGMAPS: [config]})


def test_checker_finds_nothing_in_a_consistent_layer2_network(plugged: RawState) -> None:
    assert violations(plugged, {"prod"}, settled=True) == []


@pytest.mark.parametrize(
    ("harm", "begins"),
    [
        (lambda s: _drop(s, "10.9.0.5"), "I2 prod/web carries 10.9.0.5 (ip.plumber.k8s.pf9.io/data), but"),
        (lambda s: interfaces_of(s.vms[0])[0].update(macAddress="02:00:00:00:00:06"), "I2 prod/web carries"),
        (lambda s: s.others[CONFIGMAPS][0].update(binaryData=None), "I2 prod/web carries 10.9.0.5 for"),
        (lambda s: s.others[CONFIGMAPS][0]["binaryData"].update({"10.9.0.7.conf": "eA=="}), "I8 prod/lab keeps 10.9.0"),
        (lambda s: interfaces_of(s.vms[0]).clear(), "I5 prod/lab: 10.9.0.5 is held for prod/web, which does not carry"),
    ],
)
def test_checker_finds_each_violation_on_a_layer2_network(plugged: RawState, harm: Harm, begins: str) -> None:
    harm(plugged)
    found = violations(plugged, {"prod"}, settled=True)
    assert any(sentence.startswith(begins) for sentence in found), found


def service(vm: Json, of: Json, address: str) -> Json:
    """A Service with a public address of a VM, as this program makes it."""
    name, namespace = f"{vm['metadata']['name']}-{address}", vm["metadata"]["namespace"]
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"plumber.k8s.pf9.io/networkUID": of["metadata"]["uid"]},
            "annotations": {"plumber.k8s.pf9.io/publicIP": address},
            "ownerReferences": [{"uid": vm["metadata"]["uid"]}],
        },
        "spec": {},
    }


@pytest.fixture
def elastic() -> RawState:
    """Two networks without a CIDR and one with; web and db have an address of the first."""
    pub, far, wide = (network(name, plugin="public", cidr=cidr) for name, cidr in NETWORKS_OF_ELASTIC)
    web, db = machine("web"), machine("db")
    for vm, address in ((web, "1.2.3.4"), (db, "1.2.3.5")):
        vm["metadata"]["annotations"] = {"plumber.k8s.pf9.io/publicIP": address}
        hold(pub, address, record(vm))
    hold(far, "9.9.9.9", {"kind": "Reservation", "namespace": "prod"})
    services = [service(web, pub, "1.2.3.4"), service(db, pub, "1.2.3.5")]
    return RawState([pub, far, wide], [], [web, db], others={SERVICES: services})


NETWORKS_OF_ELASTIC = (("pub", ""), ("far", ""), ("wide", "8.8.8.0/24"))


def test_checker_finds_nothing_in_consistent_networks_without_a_cidr(elastic: RawState) -> None:
    assert violations(elastic, {"prod"}, settled=True) == []


@pytest.mark.parametrize(
    ("harm", "begins"),
    [
        (
            lambda s: hold(s.networks[1], "1.2.3.4", record(s.vms[0])),
            "I1 network prod/far has a record of 1.2.3.4, and so has prod/pub",
        ),
        (
            lambda s: (s.networks[1]["metadata"].update(namespace="x"), hold(s.networks[1], "1.2.3.4", {"kind": "X"})),
            "I1 network prod/pub has a record of 1.2.3.4, and so has x/far",
        ),
        (
            lambda s: hold(s.networks[0], "8.8.8.8", {"kind": "Reservation", "namespace": "prod"}),
            "I1 network prod/pub has a record of 8.8.8.8, and it is of network prod/wide (8.8.8.0/24)",
        ),
        (
            lambda s: s.others[SERVICES].append(service(s.vms[1], s.networks[0], "1.2.3.4")),
            "I1 1.2.3.4 is carried by prod/db and prod/web",
        ),
        (
            lambda s: _drop(s, "1.2.3.4"),
            "I2 prod/web carries 1.2.3.4 (service/web-1.2.3.4), but prod/pub has no",
        ),
        (lambda s: _record(s, "1.2.3.4").update(uid="uid-of-an-earlier-web"), "I2 prod/web carries 1.2.3.4"),
        (
            lambda s: (
                s.others[SERVICES].append(service(s.vms[0], s.networks[0], "1.2.3.6")),
                hold(s.networks[0], "1.2.3.6", {"kind": "Reservation", "namespace": "prod"}),
            ),
            "I3 prod/web carries 2 addresses of prod/pub",
        ),
        (lambda s: hold(s.networks[0], "1.2.3.6", record(s.vms[0])), "I3 prod/web (uid-of-web) has 2 records"),
        (lambda s: s.others[SERVICES].pop(), "I5 prod/pub: 1.2.3.5 is held for prod/db, which does not carry it"),
    ],
)
def test_checker_finds_each_violation_on_networks_without_a_cidr(elastic: RawState, harm: Harm, begins: str) -> None:
    harm(elastic)
    found = violations(elastic, {"prod"}, settled=True)
    assert any(sentence.startswith(begins) for sentence in found), found
    assert [line for line in violations(elastic, {"another"}, settled=True) if "x/far" not in line] == []


def test_checker_accepts_a_duplicate_address_until_settled(elastic: RawState) -> None:
    hold(elastic.networks[1], "1.2.3.4", {"kind": "Reservation", "namespace": "prod"})
    elastic.others[SERVICES].clear()
    elastic.vms.clear()
    assert [sentence for sentence in violations(elastic, {"prod"}) if sentence.startswith("I1")] == []


def test_checker_ignores_vms_changed_during_the_read(sound: RawState) -> None:
    seen = replace(sound, vms=[*sound.vms, machine("late", "10.9.0.9")], steady={"uid-of-web", "uid-of-db"})
    assert violations(seen, {"prod"}) == []
    assert violations(replace(seen, steady=None), {"prod"}) != []


def test_checker_accepts_both_addresses_of_a_slash_31_and_127() -> None:
    for cidr, ends in (("10.1.0.0/31", ("10.1.0.0", "10.1.0.1")), ("fd00::/127", ("fd00::", "fd00::1"))):
        pair = network(cidr=cidr)
        for end in ends:
            hold(pair, end, {"kind": "Reservation"})
        assert violations(RawState([pair]), {"prod"}) == []


def test_checker_accepts_the_last_ipv6_address_and_not_the_first() -> None:
    six = network(cidr="fd00::/120")
    hold(six, "fd00::ff", {"kind": "Reservation"})
    assert violations(RawState([six]), {"prod"}) == []
    hold(six, "fd00::", {"kind": "Reservation"})
    assert violations(RawState([six]), {"prod"}) == ["I4 prod/blue: fd00:: is held, but it is the network address"]
