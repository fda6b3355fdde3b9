"""Parsing of a VM's annotations, and the requests that follow."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.backend import Calico
from kubectl_yoshi.backends.public.annotations import PUBLIC_IP, PUBLIC_NETWORK
from kubectl_yoshi.backends.public.backend import Public
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError, YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.planner import AttachRequest
from kubectl_yoshi.plan.sync.requests import RequestedNetwork, build_attach_requests, find_requested_networks

NETWORK_NAME = Calico().annotation_key
BACKENDS = {"calico": Calico(), "public": Public()}
WEB = ("prod", "web")


def vm(**annotations: str) -> Vm:
    words = {"private": NETWORK_NAME, "public": PUBLIC_NETWORK, "ip": PUBLIC_IP}
    found = {words[key]: value for key, value in annotations.items()}
    return Vm({"metadata": {"namespace": "prod", "name": "web", "uid": "u", "annotations": found}})


def network(name: str, cidr: str = "", plugin: str = "public", namespace: str = "prod", *held: str) -> Json:
    spec = {"plugin": plugin, **({"cidr": cidr} if cidr else {})}
    status = {"allocations": dict.fromkeys(held, "other")}
    return {"metadata": {"namespace": namespace, "name": name, "uid": name}, "spec": spec, "status": status}


def understood(asking: Vm, *networks: Json) -> list[tuple[str, str]]:
    """Each request as its network's whole name and the address that it names ("" for none)."""
    results: dict[Query, Any] = {Query(NETWORKWIZARD): networks}
    for obj in networks:
        meta = obj["metadata"]
        results[Query(NETWORKWIZARD, meta["namespace"], meta["name"])] = (obj,)
    snapshot = Snapshot(results=results)
    return [("/".join(w.network), str(w.address or "")) for w in find_requested_networks(asking, BACKENDS, snapshot)]


FIRST = network("first", "203.0.113.0/28")
SECOND = network("second", "198.51.100.0/28")
LOOSE = network("loose")


@pytest.mark.parametrize(
    ("asking", "expected"),
    [
        (vm(), []),
        (vm(private="blue"), [("prod/blue", "")]),
        (vm(private=" shop/blue "), [("shop/blue", "")]),
        (vm(public="first"), [("prod/first", "")]),
        (vm(private="blue", public="first"), [("prod/blue", ""), ("prod/first", "")]),
        (vm(ip="203.0.113.3"), [("prod/first", "203.0.113.3")]),
        (vm(public="second", ip="198.51.100.3"), [("prod/second", "198.51.100.3")]),
        (vm(public="first,second", ip="198.51.100.3"), [("prod/first", ""), ("prod/second", "198.51.100.3")]),
        (vm(public="first", ip="192.0.2.1"), [("prod/first", "192.0.2.1")]),  # for the planner to refuse
        (vm(public="nowhere", ip="192.0.2.1"), [("prod/nowhere", "192.0.2.1")]),
    ],
)
def test_annotations_are_parsed_into_networks_and_addresses(asking: Vm, expected: list[tuple[str, str]]) -> None:
    assert understood(asking, network("blue", "10.1.0.0/24", "calico"), FIRST, SECOND) == expected


def test_address_outside_all_cidrs_belongs_to_the_network_without_a_cidr() -> None:
    elsewhere = network("loose-too", namespace="shop")
    assert understood(vm(ip="192.0.2.1"), FIRST, LOOSE, elsewhere) == [("prod/loose", "192.0.2.1")]
    assert understood(vm(ip="192.0.2.1"), FIRST, elsewhere) == [("shop/loose-too", "192.0.2.1")]


@pytest.mark.parametrize(
    ("asking", "error", "words"),
    [
        (vm(private="a/b/c"), UsageError, "not the name of a network"),
        (vm(ip="1.2.3"), UsageError, "1.2.3"),
        (vm(ip="192.0.2.1"), PreconditionFailed, "prod/loose, prod/loose-2 all contain 192.0.2.1"),
        (
            vm(public="first", ip="203.0.113.3,203.0.113.4"),
            PreconditionFailed,
            "requests 203.0.113.3 and 203.0.113.4 of network",
        ),
    ],
)
def test_invalid_annotations_have_an_error(asking: Vm, error: type[YoshiError], words: str) -> None:
    with pytest.raises(error, match=words):
        understood(asking, FIRST, LOOSE, network("loose-2"))


def test_address_outside_all_cidrs_belongs_to_the_only_public_network() -> None:
    elsewhere = network("third", "198.51.100.0/24", namespace="shop")
    assert understood(vm(ip="192.0.2.1"), FIRST, elsewhere) == [("prod/first", "192.0.2.1")]
    assert understood(vm(ip="192.0.2.1"), elsewhere) == [("shop/third", "192.0.2.1")]


def test_address_outside_all_cidrs_belongs_to_the_network_holding_it() -> None:
    holding = network("third", "192.88.99.0/24", "public", "shop", "192.0.2.1")
    assert understood(vm(ip="192.0.2.1"), FIRST, LOOSE, holding) == [("shop/third", "192.0.2.1")]
    assert understood(vm(public="first,shop/third", ip="192.0.2.1"), FIRST, holding) == [
        ("prod/first", ""),
        ("shop/third", "192.0.2.1"),
    ]


def test_ambiguous_address_names_its_networks() -> None:
    with pytest.raises(PreconditionFailed, match=r"networks prod/first, prod/second all contain 192\.0\.2\.1"):
        understood(vm(ip="192.0.2.1"), FIRST, SECOND)


@pytest.mark.parametrize("ip", ["192.0.2.1", "2001:db8::7"])
def test_address_of_no_network_is_refused(ip: str) -> None:
    others = [network("blue", "192.0.2.0/24", "calico")] + ([FIRST] if ":" in ip else [])
    with pytest.raises(PreconditionFailed, match="no public network contains it"):
        understood(vm(ip=ip), *others)


def test_vms_requesting_any_address_of_a_network_share_one_request() -> None:
    blue, first = ("prod", "blue"), ("prod", "first")
    address = parse_address("203.0.113.3")
    requested_network = [
        RequestedNetwork(("prod", "b"), blue, None, "calico"),
        RequestedNetwork(("prod", "a"), blue, None, "calico"),
        RequestedNetwork(("prod", "a"), first, address, "public"),
        RequestedNetwork(("prod", "b"), first, None, "public"),
    ]
    assert build_attach_requests(requested_network, restart=True) == [
        AttachRequest(first, (("prod", "a"),), address, restart=True, plugin="public", network_planned=True),
        AttachRequest(blue, (("prod", "a"), ("prod", "b")), restart=True, plugin="calico", network_planned=True),
        AttachRequest(first, (("prod", "b"),), restart=True, plugin="public", network_planned=True),
    ]
