"""Rules about networks: their capacity, their objects, and overlaps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.diagnosis.facts import Scope
from kubectl_yoshi.diagnosis.rules import capacity
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import CRD, NODE, Json
from tests.unit.diagnosis.clusters import healthy, installed
from tests.unit.diagnosis.diagnosing import diagnosis_of, finding_of, findings_of, reasons_unchecked
from tests.unit.plan.fake_cluster import SERVICECIDR, FakeCluster, wizard

BLUE = NETWORKWIZARD.ref("blue", "prod")


def codes(cluster: FakeCluster) -> list[str]:
    """Return the codes of all findings."""
    return [finding.rule.number for finding in diagnosis_of(cluster).findings]


def with_addresses(count: int, cidr: str = "10.133.0.0/24", **spec: Any) -> FakeCluster:
    """Return a healthy cluster with network prod/blue, of which that many addresses are reserved."""
    cluster = healthy()
    network = cluster.network(cidr=cidr, **spec)
    first = network.usable.spans[0][0]
    addresses = [str(network.address(first + number)) for number in range(count)]
    if addresses:
        cluster.reserve(*addresses)
    return cluster


@pytest.mark.parametrize(
    ("used", "expected"), [(0, []), (200, []), (204, ["3301"]), (238, ["3301"]), (242, ["3302"]), (254, ["3302"])]
)
def test_full_networks_are_reported(used: int, expected: list[str]) -> None:
    assert codes(with_addresses(used)) == expected


def test_allocations_of_a_large_network_are_counted_in_its_blocks() -> None:
    cluster = with_addresses(290, "10.133.0.0/23", exclude=["10.133.1.64-10.133.1.255"])
    (finding,) = findings_of(cluster, capacity.network_nearly_full)
    assert finding.observation.message == ("network prod/blue: 91 % of its 319 addresses are allocated, 29 are free")
    assert finding.observation.commands == ("kubectl yoshi ips gc -n prod --network blue",)


def test_full_network_is_a_warning_with_the_number_of_free_addresses() -> None:
    found = finding_of(with_addresses(254), capacity.network_full)
    assert found.message == "network prod/blue: 100 % of its 254 addresses are allocated, 0 are free"


def node(address: str = "172.18.0.2", pods: str = "10.244.0.0/24") -> Json:
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    return {"metadata": {"name": "node1"}, "spec": {"podCIDR": pods}, "status": status}


def pool(name: str, cidr: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"cidr": cidr}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.api.put(NODE, node("10.133.0.9")), "the address of node/node1 (10.133.0.9/32)"),
        (lambda c: c.api.put(NODE, node(pods="10.133.0.0/16")), "the pod CIDR of node/node1 (10.133.0.0/16)"),
        (
            lambda c: c.api.put(SERVICECIDR, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.132.0.0/15"]}}),
            "servicecidr/more (10.132.0.0/15)",
        ),
        (lambda c: c.api.put(RAW.pool, pool("pods", "10.133.0.128/25")), "ippool/pods (10.133.0.128/25)"),
        (
            lambda c: c.api.put(NETWORKWIZARD, {**wizard("red", "10.133.0.0/28", "dev"), "status": {"created": True}}),
            "network dev/red (10.133.0.0/28)",
        ),
    ],
    ids=["node", "pods", "Services", "pool", "network"],
)
def test_overlaps_are_reported(change: Callable[[FakeCluster], object], message: str) -> None:
    cluster = with_addresses(0)
    cluster.api.put(NODE, node())
    assert codes(cluster) == []
    change(cluster)
    found = [f.observation for f in findings_of(cluster, capacity.overlapping_network)]
    assert f"network prod/blue: 10.133.0.0/24 overlaps {message}" in [one.message for one in found]


@pytest.mark.parametrize("resource", [NODE, SERVICECIDR, RAW.pool, NETWORKWIZARD], ids=lambda one: one.plural)
def test_overlaps_with_what_cannot_be_read_are_unchecked(resource: Any) -> None:
    cluster = with_addresses(0)
    listing = cluster.api.list

    def refuse_all_namespaces(kind: Any, namespace: str | None = None, **more: Any) -> Any:
        if kind == resource and namespace is None:
            cluster.api.refuse("list", resource)
        try:
            return listing(kind, namespace, **more)
        finally:
            cluster.api.allow_everything()

    cluster.api.list = refuse_all_namespaces  # type: ignore[method-assign]
    assert resource.plural in reasons_unchecked(cluster, capacity.overlapping_network, Scope("prod"))[0]


def with_quota(*vms: str) -> FakeCluster:
    """Return a healthy cluster whose network prod/blue allows two addresses for a namespace, with attached VMs."""
    cluster = healthy()
    cluster.network(maxAddressesPerNamespace=2)
    for name in vms:
        cluster.vm(name)
        cluster.attach(name)
    return cluster


def test_used_quota_is_worth_knowing() -> None:
    assert codes(with_quota("a")) == []
    found = finding_of(with_quota("a", "b"), capacity.quota_used)
    assert found.message == "network prod/blue: namespace prod holds 2 addresses, as many as it may"
    assert codes(with_quota("a", "b")) == ["3304"]


def test_exceeded_quota_is_reported() -> None:
    cluster = with_quota("a", "b")
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(maxAddressesPerNamespace=1))
    assert "allows 1 per namespace" in finding_of(cluster, capacity.quota_exceeded).message
    assert codes(cluster) == ["3305"]


@pytest.mark.parametrize(("size", "expected"), [(900_000, []), (1_000_000, ["3306"]), (1_500_000, ["3307"])])
def test_large_objects_are_reported(size: int, expected: list[str]) -> None:
    cluster = with_addresses(0)
    cluster.api.change(BLUE, lambda obj: obj["metadata"].update(annotations={"notes": "x" * size}))
    assert codes(cluster) == expected
    found = [*findings_of(cluster, capacity.large_object), *findings_of(cluster, capacity.oversized_object)]
    assert [finding.rule.number for finding in found] == expected


def test_network_that_is_not_ready_is_reported_with_the_reason() -> None:
    cluster = with_addresses(0)
    cluster.api.change(BLUE, lambda obj: obj["status"].update(created=False, reason="10.133.0.0/24 overlaps a pool"))
    found = finding_of(cluster, capacity.network_not_ready)
    assert found.message == "network prod/blue: it is not ready: 10.133.0.0/24 overlaps a pool"
    assert found.commands == ("kubectl yoshi sync -n prod",)
    assert codes(cluster) == ["3401"]


def disable(obj: Json) -> None:
    obj["spec"]["disabled"] = True


POOL = RAW.pool.ref("prod.blue")


@pytest.mark.parametrize(
    "change", [lambda api: api.drop(POOL), lambda api: api.change(POOL, disable)], ids=["missing", "disabled"]
)
def test_missing_or_disabled_pool_is_reported(change: Callable[[Any], object]) -> None:
    cluster = with_addresses(0)
    change(cluster.api)
    found = finding_of(cluster, capacity.private_network_broken)
    assert "ippool/prod.blue is " in found.message
    assert codes(cluster) == ["3402"]
    cluster.sync_network()
    assert codes(cluster) == []


def test_pools_that_cannot_be_read_are_unchecked() -> None:
    cluster = with_addresses(0)
    cluster.api.refuse("list", RAW.pool)
    assert "ippools" in reasons_unchecked(cluster, capacity.private_network_broken)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda obj: obj["spec"].update(exclude=["10.99.0.0/28"]), "is outside 10.133.0.0/24"),
        (lambda obj: obj["spec"].update(plugin="weave"), 'spec.plugin "weave" is unknown'),
        (
            lambda obj: obj["metadata"].update(annotations={"plumber.k8s.pf9.io/requires": "99.0.0"}),
            "requires kubectl yoshi 99.0.0 or later",
        ),
    ],
    ids=["field", "plugin", "version"],
)
def test_invalid_spec_is_reported(change: Callable[[Json], object], message: str) -> None:
    cluster = with_addresses(0)
    cluster.api.change(BLUE, change)
    found = finding_of(cluster, capacity.invalid_network)
    assert message in found.message
    assert found.commands == ("kubectl edit networkwizards.plumber.k8s.pf9.io blue -n prod",)
    assert codes(cluster) == ["3403"]


@pytest.mark.parametrize(("minutes", "expected"), [(1, []), (11, ["3404"])])
def test_deletion_that_is_not_complete_is_reported(minutes: int, expected: list[str]) -> None:
    cluster = with_addresses(0)
    since = datetime.now(timezone.utc) - timedelta(minutes=minutes)
    cluster.api.change(BLUE, lambda obj: obj["status"].update(deleting=f"{since:%Y-%m-%dT%H:%M:%SZ}"))
    assert codes(cluster) == expected
    commands = [command for f in findings_of(cluster, capacity.deletion_stuck) for command in f.observation.commands]
    assert commands == ["kubectl yoshi network delete blue -n prod"] * len(expected)


def test_network_without_a_status_is_not_initialized() -> None:
    cluster = with_addresses(0)
    cluster.api.change(BLUE, lambda obj: obj.pop("status"))
    found = finding_of(cluster, capacity.network_not_initialized)
    assert found.commands == ("kubectl yoshi sync -n prod",)
    assert codes(cluster) == ["3405"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda api: api.drop(CRD.ref(ADDRESSBLOCK.full_name)), "addressblocks.plumber.k8s.pf9.io is not installed"),
        (lambda api: api.put(CRD, installed(NETWORKWIZARD.full_name, "0.0.1")), "is of kubectl yoshi 0.0.1, and this"),
        (lambda api: api.put(CRD, {"metadata": {"name": NETWORKWIZARD.full_name}}), "is of an unknown version"),
    ],
    ids=["missing", "older", "of another program"],
)
def test_older_crds_are_reported(change: Callable[[Any], object], message: str) -> None:
    cluster = healthy()
    change(cluster.api)
    found = finding_of(cluster, capacity.outdated_crds)
    assert message in found.message
    assert found.commands == ("kubectl yoshi install",)


def test_newer_crds_are_not_reported_and_unreadable_ones_are_unchecked() -> None:
    cluster = healthy()
    cluster.api.put(CRD, installed(NETWORKWIZARD.full_name, "99.0.0"))
    assert findings_of(cluster, capacity.outdated_crds) == []
    cluster.api.refuse("get", CRD)
    assert "customresourcedefinitions" in reasons_unchecked(cluster, capacity.outdated_crds)[0]
