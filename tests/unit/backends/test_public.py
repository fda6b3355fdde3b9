"""Public addresses, the pure part: names, requests, patches of shared lists, who announces.

Whole objects and everything with a conflict in it: tests/cluster/test_public.py.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.backends import kubevirt
from kubectl_yoshi.backends.calico import bgp_configuration as calico_bgp
from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ownership import find_deleted_networks
from kubectl_yoshi.backends.public import annotations as vm_annotations
from kubectl_yoshi.backends.public.backend import Public, get_announcer
from kubectl_yoshi.backends.public.services import service_ref
from kubectl_yoshi.engine.apply import group_by_request, merge_changes
from kubectl_yoshi.model.addresses import address_of
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.backend import Attachment
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.jsonpatch import apply_json_patch
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.model.plan import Change, WaitStatus
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import Vm

Json = dict[str, Any]


def network(name: str = "pub", cidr: str | None = "203.0.113.0/28", **spec: Any) -> Network:
    spec = {"plugin": "public", **({"cidr": cidr} if cidr else {}), **spec}
    return parse_network({"metadata": {"name": name, "namespace": "prod", "uid": f"uid-{name}"}, "spec": spec})


def vm(name: str = "web", uid: str = "1", **annotations: str) -> Vm:
    keys = {f"plumber.k8s.pf9.io/{key}": value for key, value in annotations.items()}
    return Vm({"metadata": {"name": name, "namespace": "prod", "uid": uid, "annotations": keys}, "spec": {}})


def served(*names: str) -> ServedApis:
    resources = {}
    for name in names:
        plural, _, group = name.partition(".")
        resources[name] = Resource(group, "v1", plural, plural)
    return ServedApis(resources)


BGP = {"bgpConfig": {"peers": "10.240.0.5", "myASN": 1, "remoteASN": 2}}
CALICO, METALLB = "bgpconfigurations.crd.projectcalico.org", "ipaddresspools.metallb.io"


@pytest.mark.parametrize(
    ("spec", "there", "expected"),
    [
        ({}, (CALICO, METALLB), "metallb-l2"),
        (BGP, (CALICO, METALLB), "calico-bgp"),
        (BGP, (METALLB,), "metallb-bgp"),
        ({**BGP, "public": {"announce": "metallb-bgp"}}, (CALICO, METALLB), "metallb-bgp"),
    ],
)
def test_announcer_follows_from_the_spec_and_the_served_apis(spec: Json, there: Any, expected: str) -> None:
    assert get_announcer(network(**spec), served(*there)).name == expected


@pytest.mark.parametrize(
    ("spec", "there", "expected"),
    [
        ({}, (METALLB,), ("announced by metallb-l2",)),
        ({}, (CALICO, METALLB), ("announced by metallb-l2",)),
        ({"public": {"announce": "metallb-l2"}}, (METALLB,), ()),
        (BGP, (CALICO,), ("announced by calico-bgp",)),
        (BGP, (CALICO, METALLB), ("announced by calico-bgp (metallb-bgp could be used instead)",)),
        ({**BGP, "public": {"via": "external-ips"}}, (CALICO, METALLB), ("announced by calico-bgp",)),
        (
            {"bgpConfig": {"peers": "10.240.0.5"}, "public": {"announce": "calico-bgp"}},
            (CALICO,),
            ("this cluster's ASN 64512", "the routers' ASN 64514"),
        ),
    ],
)
def test_implicit_choices_are_named(spec: Json, there: Any, expected: tuple[str, ...]) -> None:
    assert Public().implicit_choices(network(**spec), Snapshot(served(*there))) == expected


def test_missing_apis_name_metallb_and_calico() -> None:
    missing_apis = Public().missing_apis(served())
    assert "MetalLB" in missing_apis
    assert "Calico" in missing_apis


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=253))
def test_service_name_is_valid_for_any_vm_name(name: str) -> None:
    made = service_ref(vm(f"a{name}"), network()).name
    assert len(made) <= 63
    assert made[0].isalpha()
    assert made[-1].isalnum()
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_recreated_vm_or_network_has_another_service_name() -> None:
    names = {service_ref(vm(uid=uid), network(name)).name for uid in "12" for name in ("pub", "other")}
    assert len(names) == 4


def test_instance_id_of_a_long_name_matches_kubevirt() -> None:
    assert kubevirt.instance_id("web-1") == "web-1"
    made = kubevirt.instance_id("x" * 64)
    assert made[:55] == "x" * 54 + "-"
    assert len(made) == 63


# -- requests ----------------------------------------------------------------------------------------------------------


def test_legacy_readme_annotations_are_parsed() -> None:
    found = vm_annotations.parse_requested_networks(vm(publicNetwork="yoshiPublicNetwork", publicIP="1.2.3.4"))
    assert found.networks == ("yoshipublicnetwork",)
    assert found.addresses == (ip_address("1.2.3.4"),)


def test_invalid_public_ip_is_refused_with_vm_and_annotation() -> None:
    with pytest.raises(UsageError, match=r"virtualmachine/web.*publicIP"):
        vm_annotations.parse_requested_networks(vm(publicIP="1.2.3.400"))


def test_public_ip_is_added_to_and_removed_from_the_annotation() -> None:
    one = vm(publicNetwork="six", publicIP="2001:db8::5")
    added = vm_annotations.build_attach_annotations(one, network(), ip_address("203.0.113.4"), None, [Port(22)])
    assert added == {
        vm_annotations.PUBLIC_NETWORK: "six,pub",
        vm_annotations.PUBLIC_IP: "2001:db8::5,203.0.113.4",
        vm_annotations.PUBLIC_PORTS: "22/tcp",
    }
    both = vm(publicNetwork="six,pub", publicIP="2001:db8::5,203.0.113.4", publicPorts="22/tcp")
    assert vm_annotations.build_attach_annotations(both, network(), ip_address("203.0.113.4"), None, ()) == {}
    address, previous = ip_address("203.0.113.5"), ip_address("203.0.113.4")
    moved = vm_annotations.build_attach_annotations(both, network(), address, previous, ())
    assert moved == {vm_annotations.PUBLIC_IP: "2001:db8::5,203.0.113.5"}
    assert vm_annotations.build_detach_annotations(both, network(), None) == {
        vm_annotations.PUBLIC_NETWORK: "six",
        vm_annotations.PUBLIC_IP: "2001:db8::5",
    }
    alone = vm(publicNetwork="pub", publicIP="203.0.113.4", publicPorts="22/tcp")
    assert set(vm_annotations.build_detach_annotations(alone, network(), None).values()) == {None}


def test_upper_case_network_name_is_not_rewritten() -> None:
    one = vm(publicNetwork="PUB")
    assert vm_annotations.PUBLIC_NETWORK not in vm_annotations.build_attach_annotations(
        one, network(), ip_address("203.0.113.4"), None, ()
    )


# -- lists that are shared -------------------------------------------------------------------------------------------


def snapshot(configuration: Json | None) -> Snapshot:
    found = (configuration,) if configuration else ()
    return Snapshot(served(CALICO), {Query(RAW.bgp_configuration, name="default"): found, Query(RAW.bgp_peer): ()})


def attached(name: str, address: Any) -> Attachment:
    return Attachment(vm(name, f"uid-{name}"), network(), int(address))


def record(name: str) -> Allocation:
    return Allocation(VIRTUALMACHINE, "prod", name, f"uid-{name}")


def requests(changes: list[Change | None]) -> list[Change]:
    """What is sent for these changes."""
    stage = [change for change in changes if change is not None]
    assert len(stage) == len(changes)
    return [merge_changes([change for _, change in group]) for group in group_by_request(list(enumerate(stage)))]


addresses = st.sets(st.integers(1, 14).map(lambda n: address_of((203 << 24) + (113 << 8) + n, 4)), max_size=14)


@given(st.lists(st.sampled_from(["198.18.0.0/24", "198.18.1.0/32", "198.18.7.0/30"])), addresses)
def test_bgp_entries_are_added_and_removed_by_one_patch_each(foreign: list[str], mine: set[Any]) -> None:
    net = network()
    field = calico_bgp.LOAD_BALANCER_IPS
    before: Json = {"metadata": {"name": "default", "uid": "u"}, "spec": {field: [{"cidr": c} for c in foreign]}}
    added = requests([calico_bgp.add_entry(attached(str(a), a), field, RAW, snapshot(before)) for a in sorted(mine)])
    assert len(added) == (1 if mine else 0)
    there = before
    for change in added:
        there = apply_json_patch(change.body, there)
    assert [e["cidr"] for e in there["spec"][field]] == foreign + [f"{a}/32" for a in sorted(mine)]
    removed = requests([calico_bgp.remove_entry(net, a, RAW, snapshot(there), record(str(a))) for a in sorted(mine)])
    assert len(removed) == (1 if mine else 0)
    for change in removed:
        there = apply_json_patch(change.body, there)
    assert there["spec"] == before["spec"]
    assert not there["metadata"].get("annotations")


def test_only_bgp_entries_of_this_network_are_removed() -> None:
    field = calico_bgp.LOAD_BALANCER_IPS
    there: Json = {"metadata": {"name": "default", "uid": "u"}, "spec": {field: [{"cidr": "203.0.113.4/32"}]}}
    address = ip_address("203.0.113.4")
    assert calico_bgp.add_entry(attached("a", address), field, RAW, snapshot(there)) is None
    assert calico_bgp.remove_entry(network(), address, RAW, snapshot(there), record("a")) is None


@pytest.mark.parametrize(("written", "is_removed"), [(" uid-a", True), (" uid-b", False), ("", True)])
def test_bgp_entry_of_another_vm_is_not_removed(written: str, is_removed: bool) -> None:
    """An earlier version did not write whose it is."""
    mark = f"uid-pub {calico_bgp.LOAD_BALANCER_IPS} prod/pub{written}"
    annotations = {f"{calico_bgp.ENTRY_PREFIX}203.0.113.4": mark}
    spec = {calico_bgp.LOAD_BALANCER_IPS: [{"cidr": "203.0.113.4/32"}]}
    there: Json = {"metadata": {"name": "default", "uid": "u", "annotations": annotations}, "spec": spec}
    address = ip_address("203.0.113.4")
    removed = calico_bgp.remove_entry(network(), address, RAW, snapshot(there), record("a"))
    assert (removed is not None) == is_removed
    added = calico_bgp.add_entry(attached("a", address), calico_bgp.LOAD_BALANCER_IPS, RAW, snapshot(there))
    assert (added is None) == (written == " uid-a")


def test_bgp_entry_names_its_deleted_network() -> None:
    attachment = attached("a", ip_address("203.0.113.5"))
    change = calico_bgp.add_entry(attachment, calico_bgp.EXTERNAL_IPS, RAW, snapshot(None))
    assert change is not None
    there: Json = change.body
    assert calico_bgp.owner_networks(RAW, snapshot(there)) == {"uid-pub": "prod/pub"}
    assert find_deleted_networks({"uid-pub": "prod/pub"}, [], "prod") == {"uid-pub"}
    assert find_deleted_networks({"uid-pub": "prod/pub"}, [], "shop") == set()
    assert find_deleted_networks({"uid-pub": "prod/pub"}, [network()], None) == set()


def test_bgp_entry_of_an_earlier_version_has_no_network_name() -> None:
    mark = f"{calico_bgp.ENTRY_PREFIX}203.0.113.5"
    there = {"metadata": {"name": "default", "annotations": {mark: "uid-pub externalIPs"}}, "spec": {}}
    assert calico_bgp.owner_networks(RAW, snapshot(there)) == {"uid-pub": ""}
    assert find_deleted_networks({"uid-pub": ""}, [], "prod") == set()
    assert find_deleted_networks({"uid-pub": ""}, [], None) == {"uid-pub"}


@pytest.mark.parametrize(
    ("entries", "told", "expected"),
    [
        (["203.0.113.0/24"], None, "203.0.113.0/24"),
        (["203.0.113.0/24"], "Disabled", ""),
        (["203.0.113.4/32", "198.18.0.0/16", "no cidr"], None, ""),
    ],
)
def test_covering_entry_is_found_unless_aggregation_is_disabled(
    entries: list[str], told: str | None, expected: str
) -> None:
    spec: Json = {calico_bgp.LOAD_BALANCER_IPS: [{"cidr": c} for c in entries]}
    spec |= {"serviceLoadBalancerAggregation": told} if told else {}
    there = {"metadata": {"name": "default"}, "spec": spec}
    found = calico_bgp.covering_cidr(ip_address("203.0.113.4"), calico_bgp.LOAD_BALANCER_IPS, RAW, snapshot(there))
    assert found == expected


# -- MetalLB ---------------------------------------------------------------------------------------------------------


def pool(*addresses: str, namespace: str = "lb", **spec: Any) -> Json:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"addresses": list(addresses), **spec}}


@pytest.mark.parametrize(
    ("written", "shares", "just"),
    [
        (pool("203.0.113.0/28", autoAssign=False), True, True),
        (pool("203.0.113.0-203.0.113.7", "203.0.113.8/29", autoAssign=False), True, True),
        (pool("203.0.113.0/28"), True, False),
        (pool("203.0.113.15-203.0.113.20", autoAssign=False), True, False),
        (pool("203.0.113.16/28", "2001:db8::/64", "nonsense"), False, False),
    ],
)
def test_metallb_pools_are_compared_by_addresses(written: Json, shares: bool, just: bool) -> None:
    assert metallb.shares(written, network()) is shares
    assert metallb.has_exactly(written, network()) is just


def own_namespace(pools: list[Json], deployments: list[Json]) -> str:
    results: Json = {Query(metallb.POOL): tuple(pools)}
    for number, labels in enumerate(("app.kubernetes.io/name=metallb", "app=metallb,component=controller")):
        results[Query(metallb.DEPLOYMENT, label_selector=labels)] = tuple(deployments[number : number + 1])
    return metallb.own_namespace(Snapshot(ServedApis(), results))


def test_metallb_namespace_detection() -> None:
    deployment = {"metadata": {"name": "controller", "namespace": "chart"}}
    assert own_namespace([pool(namespace="lb")], [deployment]) == "lb"
    assert own_namespace([pool(namespace="a"), pool(namespace="b")], [deployment]) == "chart"
    assert own_namespace([], [deployment]) == "chart"
    assert own_namespace([], []) == "metallb-system"


def test_latest_metallb_event_of_a_service_is_used() -> None:
    events = [
        {"reason": r, "involvedObject": {"uid": u}, "lastTimestamp": t, "message": m}
        for r, u, t, m in (
            ("AllocationFailed", "s", "2026-01-01T00:00:02Z", "no such pool"),
            ("AllocationFailed", "s", "2026-01-01T00:00:01Z", "earlier"),
            ("AllocationFailed", "t", "2026-01-01T00:00:03Z", "another's"),
            ("IPAllocated", "s", "2026-01-01T00:00:04Z", "given"),
        )
    ]
    assert metallb.allocation_failure("s", events) == "no such pool"
    assert metallb.allocation_failure("u", events) == ""


def test_wait_for_metallb_ends_with_the_address_or_a_failure() -> None:
    ref, address = Resource("", "v1", "services", "Service").ref("web", "prod"), ip_address("203.0.113.1")
    service = {"metadata": {"name": "web", "uid": "s"}}
    missing = f"{ref} without {address}"

    def status(said: str) -> WaitStatus:
        event = {"reason": "AllocationFailed", "involvedObject": {"uid": "s"}, "message": said}
        return metallb.allocation_status(ref, address, service, [event] if said else [])

    assert status("") == WaitStatus(missing)
    assert status("no such pool") == WaitStatus(f"{missing} (no such pool)")
    refusal = f"{address} is not allowed in config"
    assert status(refusal) == WaitStatus(f"{missing} ({refusal})", refusal)
    service["status"] = {"loadBalancer": {"ingress": [{"ip": str(address)}]}}
    assert status(refusal) == WaitStatus()
