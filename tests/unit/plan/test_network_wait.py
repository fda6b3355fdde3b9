"""Waiting until VMs can use a network: for what, how long, and what is recorded.

| a network | is waited for until |
|---|---|
| on Calico | its pool exists and is not disabled |
| that MetalLB announces | MetalLB has loaded its pool and rejects nothing, where it reports that |
| on Layer 2 | the bridge is on each node that takes VMs, and the DHCP server's VM runs |
| that is deleted, or of which something may not be read | not, with an error |
"""

from __future__ import annotations

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import NODE, Json, ObjectRef
from kubectl_yoshi.model.vm import VMI
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_public import ANNOUNCED

POOL = RAW.pool.ref("prod.blue")
BRIDGE = {"ovs-cni.network.kubevirt.io/br-ext": "1000"}
LAB = ("lab", "--type", "l2", "--cidr", "10.20.0.0/24", "--bridge", "br-ext", "--uplink", "eth1")


def create(cluster: FakeCluster, *words: str) -> CliResult:
    return run(cluster, "network", "create", *words, "--wait", "--timeout", "30s")


def ready(cluster: FakeCluster, name: str) -> list[str]:
    found = cluster.api.get(NETWORKWIZARD.ref(name, "prod"))["status"]["conditions"]
    return [one["status"] for one in found if one["type"] == "Ready"]


def node(cluster: FakeCluster, name: str, allocatable: Json | None = None, **more: Json) -> None:
    status = {"allocatable": allocatable or {}, "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.api.put(NODE, {"metadata": {"name": name}, "status": status, **more})


def dhcp_server(cluster: FakeCluster, phase: str = "Running") -> None:
    cluster.api.put(VMI, {"metadata": {"name": "lab-0", "namespace": "prod"}, "status": {"phase": phase}})


def test_wait_ends_when_the_pool_is_usable_and_records_that_the_network_is_ready() -> None:
    cluster = FakeCluster()
    assert run(cluster, "network", "create", "blue", "--cidr", "10.133.0.0/24").code == 0
    cluster.api.change(POOL, lambda pool: pool.update(status={"conditions": [NOT_ALLOCATABLE]}))
    assert not cluster.sync_network().errors
    assert ready(cluster, "blue") == ["False"]
    reads = 0

    def becomes_usable(verb: str, ref: ObjectRef) -> None:
        nonlocal reads
        reads += (verb, ref.resource) == ("list", RAW.pool)
        if reads == 4:
            cluster.api.change(POOL, lambda pool: pool.pop("status"))
            cluster.api.before.clear()

    cluster.api.before.append(becomes_usable)
    said = create(cluster, "blue", "--cidr", "10.133.0.0/24")
    assert (said.code, said.err) == (0, "")
    assert not cluster.api.before
    assert ready(cluster, "blue") == ["True"]


NOT_ALLOCATABLE = {"type": "Allocatable", "status": "False", "message": "it overlaps another pool"}


def test_wait_times_out_with_what_is_missing() -> None:
    cluster = FakeCluster()
    assert run(cluster, "network", "create", "blue", "--cidr", "10.133.0.0/24").code == 0
    cluster.api.change(POOL, lambda pool: pool.update(status={"conditions": [NOT_ALLOCATABLE]}))
    said = create(cluster, "blue", "--cidr", "10.133.0.0/24")
    assert said.code == 1
    assert said.out == "networkwizard.plumber.k8s.pf9.io/blue configured\n"
    assert said.err == (
        "error: network prod/blue is not rolled out yet: ippool/prod.blue is not allocatable: it overlaps another "
        "pool\nIt exists, and the same command waits again. See `kubectl yoshi network describe`.\n"
    )


def test_wait_for_a_layer_2_network_needs_bridges_and_the_dhcp_server() -> None:
    cluster = FakeCluster()
    node(cluster, "full", BRIDGE)
    node(cluster, "empty")
    node(cluster, "cordoned", spec={"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]})
    assert "bridge br-ext is missing on empty\n" in create(cluster, *LAB).err
    node(cluster, "empty", BRIDGE)
    missing = "virtualmachine/lab-0 in namespace prod, its DHCP server, does not run\n"
    assert missing in create(cluster, *LAB).err
    dhcp_server(cluster, "Scheduling")
    assert create(cluster, *LAB).code == 1
    dhcp_server(cluster)
    said = create(cluster, *LAB)
    assert (said.code, said.out, said.err) == (0, "networkwizard.plumber.k8s.pf9.io/lab unchanged\n", "")


def test_wait_counts_only_the_selected_nodes_and_needs_one() -> None:
    cluster = FakeCluster()
    dhcp_server(cluster)
    node(cluster, "other")
    selected = (*LAB, "--node-selector", "zone=a")
    assert "bridge br-ext is on no node\n" in create(cluster, *selected).err
    cluster.api.put(NODE, {"metadata": {"name": "one", "labels": {"zone": "a"}}, "status": {"allocatable": BRIDGE}})
    assert create(cluster, *selected).code == 0


def test_wait_does_not_check_bridges_and_servers_that_are_not_created() -> None:
    cluster = FakeCluster()
    node(cluster, "empty")
    words = [word for word in LAB if word not in ("--uplink", "eth1")]
    assert create(cluster, *words, "--no-host-config", "--no-dhcp").code == 0


@pytest.mark.parametrize(
    ("states", "pool_status", "missing"),
    [
        ([], None, ""),
        (["Valid"], {"availableIPv4": 256}, ""),
        (["Valid"], None, "MetalLB has not loaded ipaddresspool/prod.pub"),
        (["Valid", "Invalid"], {"availableIPv4": 256}, "MetalLB rejects its configuration: no reason is reported"),
    ],
)
def test_wait_for_metallb_goes_by_what_it_reports(states: list[str], pool_status: Json | None, missing: str) -> None:
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, *ANNOUNCED, metallb.CONFIGURATION_STATE))
    for number, result in enumerate(states):
        metadata = {"name": f"state-{number}", "namespace": metallb.DEFAULT_NAMESPACE}
        cluster.api.put(metallb.CONFIGURATION_STATE, {"metadata": metadata, "status": {"result": result}})
    words = ("pub", "--type", "public", "--cidr", "203.0.113.0/24")
    assert run(cluster, "network", "create", *words).code == 0
    if pool_status:
        ref = metallb.POOL.ref("prod.pub", metallb.DEFAULT_NAMESPACE)
        cluster.api.change(ref, lambda pool: pool.update(status=pool_status))
    said = create(cluster, *words)
    assert said.code == bool(missing)
    assert missing in said.err


def test_wait_is_refused_where_something_may_not_be_read() -> None:
    cluster = FakeCluster()
    cluster.api.refuse("list", NODE)
    said = create(cluster, *LAB)
    assert said.code == 1
    assert "cannot check whether network prod/lab is ready: may not list nodes" in said.err


def test_nothing_is_waited_for_after_a_dry_run() -> None:
    cluster = FakeCluster()
    said = run(cluster, "network", "create", *LAB, "--wait", "--dry-run=client")
    assert said.code == 0
    assert not cluster.networks()
