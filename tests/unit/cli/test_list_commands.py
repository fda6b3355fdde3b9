"""`network list`, `vm list` and `ips list`: missing names, unreadable networks, filters, order, and free addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from kubectl_yoshi.kube.errors import ForbiddenError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef, Resource
from kubectl_yoshi.model.vm import VM, VMI
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


def addresses(cluster: FakeCluster, *words: str) -> list[str]:
    return [row[0] for row in rows(run(cluster, "ips", "list", "--no-headers", *words))]


@pytest.fixture
def mixed(cluster: FakeCluster) -> FakeCluster:
    """A cluster with three VMs, of which one is deleted, and a reserved address."""
    cluster.vm("old")
    cluster.attach("old")
    cluster.api.delete(VM.ref("old", "prod"))
    cluster.reserve("10.133.0.9", reserved_for="vm/prod/web-9")
    cluster.api.change(VM.ref("web-2", "prod"), lambda obj: obj["metadata"].update(labels={"app": "shop"}))
    cluster.time_passes()
    return cluster


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--state orphaned", ["10.133.0.3"]),
        ("--state Reserved --state Bound", ["10.133.0.1", "10.133.0.2", "10.133.0.9"]),
        ("--vm web-2", ["10.133.0.2"]),
        ("--vm prod/web-2", ["10.133.0.2"]),
        ("--vm web-9", ["10.133.0.9"]),
        ("--vm nope", []),
        ("-l app=shop", ["10.133.0.2"]),
        ("-l app=none", []),
        ("--sort-by state", ["10.133.0.1", "10.133.0.2", "10.133.0.3", "10.133.0.9"]),
        ("--sort-by {.status.state}", ["10.133.0.1", "10.133.0.2", "10.133.0.3", "10.133.0.9"]),
        ("--sort-by holder", ["10.133.0.3", "10.133.0.1", "10.133.0.2", "10.133.0.9"]),
        ("--sort-by .status.record.uid", ["10.133.0.9", "10.133.0.1", "10.133.0.2", "10.133.0.3"]),
    ],
)
def test_ips_list_selects_and_sorts_addresses(mixed: FakeCluster, words: str, shown: list[str]) -> None:
    assert addresses(mixed, *words.split()) == shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ips list --free --state Bound", "--free cannot be combined with --state, --vm or --selector"),
        ("ips list --vm web-1 -l app=shop", "--vm cannot be combined with --selector"),
        ("ips list --state lost", "'lost' is not one of"),
        ("ips list --vm a/b/c", '"a/b/c" is not the name of a VM'),
        ("ips list --sort-by size", '--sort-by: there is no column "size"'),
        ("ips list --sort-by {.a", '"{.a" is not a path'),
        ("network list --sort-by .spec.nope", 'couldn\'t find any field with path ".spec.nope" in the list of objects'),
    ],
)
def test_lists_refuse_wrong_flags(cluster: FakeCluster, words: str, message: str) -> None:
    said = run(cluster, *words.split())
    assert said.code == 2
    assert message in said.err


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("name", ["blue", "red-2", "red-10"]),
        (".metadata.name", ["blue", "red-2", "red-10"]),
        ("used", ["red-10", "red-2", "blue"]),
        ("use%", ["red-10", "red-2", "blue"]),
        (".spec.cidr", ["red-10", "blue", "red-2"]),
    ],
)
def test_network_list_is_sorted(cluster: FakeCluster, key: str, names: list[str]) -> None:
    cluster.network("red-10", "10.99.0.0/24")
    cluster.network("red-2", "10.144.0.0/24")
    assert [row[0] for row in rows(run(cluster, "network", "list", "--no-headers", "--sort-by", key))] == names


def test_list_of_free_addresses_reports_that_none_is_free() -> None:
    cluster = FakeCluster()
    cluster.network("tiny", "10.144.0.0/30", range_start="10.144.0.2", range_end="10.144.0.2")
    assert rows(run(cluster, "ips", "list", "tiny", "--free", "--no-headers")) == [["tiny", "10.144.0.2", "1"]]
    cluster.reserve("10.144.0.2", network="tiny")
    said = run(cluster, "ips", "list", "tiny", "--free")
    assert (said.code, said.out, said.err) == (0, "", "No free addresses found in prod namespace.\n")


def watched(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, line: str, *changes: Callable[[], object]) -> str:
    """What a list with -w prints while these changes are made."""

    def show(session: object, all_namespaces: bool, resources: object, print_changed: Callable[[], None]) -> None:
        for change in changes:
            change()
            print_changed()

    monkeypatch.setattr("kubectl_yoshi.cli.watch.show_on_changes", show)
    return run(cluster, *line.split(), "-w").out


def test_watch_prints_only_changed_rows(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = (lambda: None, lambda: cluster.detach("web-1"), lambda: cluster.attach("web-1", ip="10.133.0.7"))
    shown = watched(cluster, monkeypatch, "ips list", *changes).splitlines()
    assert [line.split()[:4] for line in shown[3:]] == [
        ["10.133.0.1", "blue", "Free", "<none>"],
        ["10.133.0.7", "blue", "Bound", "prod/web-1"],
    ]
    shown = watched(cluster, monkeypatch, "vm list -o name", lambda: cluster.detach("web-2")).splitlines()
    assert shown == [f"attachment.cli.plumber.k8s.pf9.io/{name}" for name in ("web-1", "web-2", "web-2", "web-2")]
    shown = watched(cluster, monkeypatch, "ips list --free", lambda: cluster.attach("web-2")).splitlines()
    assert [line.split()[1] for line in shown[1:]] == [
        "10.133.0.1-10.133.0.6", "10.133.0.8-10.133.0.254", "10.133.0.1", "10.133.0.3-10.133.0.6",
    ]  # fmt: skip
