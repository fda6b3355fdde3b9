"""`network list` and `vm list`: names that are not there, and networks that may not be read."""

from __future__ import annotations

import json
import re

import pytest

from kubectl_yoshi.kube.errors import ForbiddenError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef, Resource
from kubectl_yoshi.model.vm import VMI
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_layer2 import spec_of


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with network prod/blue and two VMs on it."""
    cluster = FakeCluster()
    cluster.network("blue")
    for name in ("web-1", "web-2"):
        cluster.vm(name)
    cluster.attach("web-1", "web-2")
    return cluster


def hide(cluster: FakeCluster, resource: Resource, namespace: str) -> None:
    """From now on what is of a kind in a namespace may not be read."""

    def refuse(verb: str, ref: ObjectRef) -> None:
        if ref.resource == resource and ref.namespace in (None, namespace):
            raise ForbiddenError("Forbidden.", missing_permission=f"may not {verb} {resource.full_name}")

    cluster.api.before.append(refuse)


def vms(cluster: FakeCluster, *words: str) -> CliResult:
    return run(cluster, "vm", "list", "--no-headers", *words)


def rows(said: CliResult) -> list[list[str]]:
    return [line.split() for line in said.out.splitlines()]


def test_network_list_shows_existing_networks_and_an_error_for_missing_ones(cluster: FakeCluster) -> None:
    said = run(cluster, "network", "list", "--no-headers", "nope", "blue", "dev/none")
    assert (said.code, [row[0] for row in rows(said)]) == (1, ["blue"])
    assert said.err.splitlines() == [
        "error: networkwizard/nope in namespace prod not found",
        "error: networkwizard/none in namespace dev not found",
    ]


def test_vm_list_shows_existing_vms_and_an_error_for_missing_ones(cluster: FakeCluster) -> None:
    said = vms(cluster, "web-2", "nope")
    assert (said.code, [row[0] for row in rows(said)]) == (1, ["web-2"])
    assert said.err.splitlines() == ["error: virtualmachine/nope in namespace prod not found"]


def test_vm_list_of_one_missing_vm_is_an_error(cluster: FakeCluster) -> None:
    said = vms(cluster, "nope")
    assert (said.code, said.err.splitlines()[0]) == (1, "error: virtualmachine/nope in namespace prod not found")


def test_vm_list_shows_the_vm_fields_for_an_unreadable_network(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24", namespace="shared")
    cluster.running("db")
    cluster.attach("db", network="shared/red", restart=True)
    cluster.time_passes()
    hide(cluster, NETWORKWIZARD, "shared")
    said = vms(cluster, "db")
    (shown,) = said.out.splitlines()
    assert (said.code, re.split(r" {2,}", shown)) == (
        0,
        ["db", "shared/red", "10.144.0.1", "10.144.0.1", "Unknown", "the network cannot be read"],
    )
    obj = json.loads(vms(cluster, "db", "-o", "json").out)
    assert obj["spec"] == {"vm": "db", "network": "shared/red"}
    assert (obj["status"]["address"], obj["status"]["state"]) == ("10.144.0.1", "Unknown")
    assert [row[:3] for row in rows(vms(cluster))] == [
        ["db", "shared/red", "10.144.0.1"],
        ["web-1", "blue", "10.133.0.1"],
        ["web-2", "blue", "10.133.0.2"],
    ]
    assert [row[0] for row in rows(vms(cluster, "--network", "blue"))] == ["web-1", "web-2"]


def test_vm_list_shows_one_address_for_each_unreadable_network(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24", namespace="shared")
    cluster.network("lab", "10.20.0.0/24", namespace="shared", **spec_of())
    cluster.vm("db")
    for network in ("shared/red", "shared/lab"):
        cluster.attach("db", network=network)
    lab = [address for address, holder in cluster.holders("lab", "shared").items() if holder == "prod/db"]
    hide(cluster, NETWORKWIZARD, "shared")
    assert sorted(row[1:3] for row in rows(vms(cluster, "db"))) == [
        ["shared/lab", *lab],
        ["shared/red", "10.144.0.1"],
    ]


def test_vm_list_shows_unknown_if_instances_are_unreadable(cluster: FakeCluster) -> None:
    hide(cluster, VMI, "prod")
    assert {row[3] for row in rows(vms(cluster))} == {"<unknown>"}


def test_vm_list_shows_running_vms_in_a_namespace_without_networks(cluster: FakeCluster) -> None:
    cluster.network("red", "10.144.0.0/24", namespace="shared")
    cluster.running("db", namespace="dev")
    cluster.attach("dev/db", network="shared/red", restart=True)
    cluster.time_passes()
    said = run(cluster, "vm", "list", "--no-headers", namespace="dev")
    assert rows(said) == [["db", "shared/red", "10.144.0.1", "10.144.0.1", "Bound", "<none>"]]
