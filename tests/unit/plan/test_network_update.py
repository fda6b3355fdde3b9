"""Changing the spec of a network, with what follows from it, on a small cluster.

| what happens | what is left |
|---|---|
| a field is changed | the spec, the objects of Calico, MetalLB or luigi, and the counters |
| the range becomes smaller | every allocation; a note names those outside it |
| the new spec is invalid, or in the way of others | everything as it was |
| another client changes the same field meanwhile | what that client wrote |
| the run ends after the first write | the same command does the rest |
"""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import DHCPSERVER
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.kube.errors import ApiError
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, name_of
from kubectl_yoshi.plan.network.update import NetworkUpdateRequest, plan_network_update
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.plan.fake_cluster import FakeCluster, refusal
from tests.unit.plan.test_layer2 import files, layer2
from tests.unit.plan.test_public import public
from tests.unit.plan.test_public_edits import sharing_a_peering

BLUE = NETWORKWIZARD.ref("blue", "prod")
RANGE = {("range_start",): "10.133.0.100", ("range_end",): "10.133.0.200"}


def update(cluster: FakeCluster, fields: dict[tuple[str, ...], Any], name: str = "blue", **options: Any) -> RunResult:
    return cluster.run(plan_network_update, NetworkUpdateRequest("prod", name, fields), **options)


def command(cluster: FakeCluster, line: str) -> CliResult:
    return run(cluster, "network", "update", *line.split())


def spec(cluster: FakeCluster, name: str = "blue") -> Json:
    found: Json = cluster.api.get(NETWORKWIZARD.ref(name, "prod"))["spec"]
    return found


def status(cluster: FakeCluster, name: str = "blue") -> Json:
    found: Json = cluster.api.get(NETWORKWIZARD.ref(name, "prod"))["status"]
    return found


def is_unchanged_now(cluster: FakeCluster, line: str) -> bool:
    """Whether the same command, and sync, write nothing any more."""
    cluster.api.writes.clear()
    name = line.split()[0]
    assert command(cluster, line).out == f"networkwizard.plumber.k8s.pf9.io/{name} unchanged\n"
    assert not cluster.sync_network(name).has_changed()
    return cluster.api.writes == []


def test_range_quota_and_cool_down_are_changed_with_the_counters(cluster: FakeCluster) -> None:
    line = "blue --range 10.133.0.100-10.133.0.109 --exclude 10.133.0.105 --max-addresses-per-namespace 3 --cooldown 5m"
    said = command(cluster, line)
    assert (said.code, said.out, said.err) == (0, "networkwizard.plumber.k8s.pf9.io/blue updated\n", "")
    assert spec(cluster) == {
        "plugin": "calico", "cidr": "10.133.0.0/24", "range_start": "10.133.0.100", "range_end": "10.133.0.109",
        "exclude": ["10.133.0.105"], "maxAddressesPerNamespace": 3, "coolDown": "5m",
    }  # fmt: skip
    assert (status(cluster)["used"], status(cluster)["free"]) == (0, 9)
    assert is_unchanged_now(cluster, line)
    cluster.vm()
    cluster.attach()
    assert cluster.pin() == "10.133.0.100"
    assert command(cluster, "blue --range none --exclude none --max-addresses-per-namespace none").code == 0
    assert spec(cluster) == {"plugin": "calico", "cidr": "10.133.0.0/24", "coolDown": "5m"}
    assert (status(cluster)["used"], status(cluster)["free"]) == (1, 253)


def test_smaller_range_keeps_allocations_and_names_them(cluster: FakeCluster) -> None:
    cluster.vm()
    cluster.attach()
    cluster.reserve("10.133.0.9", note="printer")
    before = cluster.records()
    for how in ("--dry-run=client", "--dry-run=server", ""):
        said = command(cluster, f"blue --range 10.133.0.100-10.133.0.200 {how}")
        assert said.code == 0
        assert said.err == (
            "note: these addresses of network prod/blue stay allocated until they are released: 10.133.0.1 prod/web-1 "
            "(it is outside the range 10.133.0.100-10.133.0.200), 10.133.0.9 reserved (printer) (it is outside the "
            "range 10.133.0.100-10.133.0.200)\n"
        )
    assert cluster.records() == before
    assert not cluster.attach().has_changed()
    assert command(cluster, "blue --exclude 10.133.0.9").err == "", "it was outside before"


def test_objects_of_calico_are_changed(cluster: FakeCluster) -> None:
    line = "blue --encapsulation None --no-nat-outgoing"
    assert command(cluster, line).code == 0
    pool = cluster.api.get(RAW.pool.ref("prod.blue"))["spec"]
    assert (pool["vxlanMode"], pool["natOutgoing"]) == ("Never", False)
    assert is_unchanged_now(cluster, line)


@pytest.mark.parametrize(("announce", "resource"), [("calico-bgp", RAW.bgp_peer), ("metallb-bgp", metallb.PEER)])
def test_missing_permission_to_delete_a_former_peer_changes_nothing(announce: str, resource: Resource) -> None:
    cluster = public(announce=announce)
    before = (spec(cluster, "pub"), cluster.api.every(resource))
    cluster.api.refuse("delete", resource)
    assert command(cluster, "pub --peer 10.240.0.9").code == 1
    assert (spec(cluster, "pub"), cluster.api.every(resource)) == before


@pytest.mark.parametrize(("announce", "resource"), [("calico-bgp", RAW.bgp_peer), ("metallb-bgp", metallb.PEER)])
def test_peers_are_replaced(announce: str, resource: Resource) -> None:
    cluster = public(announce=announce)
    line = "pub --peer 10.240.0.9 --peer 10.240.0.10 --remote-asn 64999"
    assert command(cluster, line).code == 0
    assert [name_of(obj) for obj in cluster.api.every(resource)] == ["yoshi-10.240.0.10", "yoshi-10.240.0.9"]
    assert spec(cluster, "pub")["bgpConfig"] == {
        "peers": [{"peerIP": "10.240.0.9"}, {"peerIP": "10.240.0.10"}], "myASN": 64512, "remoteASN": 64999,
    }  # fmt: skip
    assert is_unchanged_now(cluster, line)


def test_announcing_interfaces_and_nodes_are_changed_and_removed() -> None:
    cluster = public(announce="metallb-l2")
    line = "pub --announce-interface eth0 --node-selector zone=a,rack=1"
    assert command(cluster, line).code == 0
    [advertisement] = cluster.api.every(metallb.L2_ADVERTISEMENT)
    assert advertisement["spec"]["interfaces"] == ["eth0"]
    assert advertisement["spec"]["nodeSelectors"] == [{"matchLabels": {"zone": "a", "rack": "1"}}]
    assert command(cluster, "pub --announce-interface none --node-selector none").code == 0
    [advertisement] = cluster.api.every(metallb.L2_ADVERTISEMENT)
    assert not {"interfaces", "nodeSelectors"} & advertisement["spec"].keys()


def test_dhcp_server_is_changed() -> None:
    cluster = FakeCluster()
    layer2(cluster)
    line = "lab --dns-server 10.20.0.2,9.9.9.9 --dhcp-lease-time 10m --dhcp-range 10.20.0.100-10.20.0.199 --mtu 1400"
    assert command(cluster, line).code == 0
    [server] = cluster.api.every(DHCPSERVER)
    served = server["spec"]["networks"][0]
    assert (served["leaseDuration"], served["cidr"]["range_start"]) == ("10m", "10.20.0.100")
    assert "dhcp-option=6,10.20.0.2,9.9.9.9\ndhcp-option=26,1400\n" in files(cluster)["yoshi-options.conf"]
    assert is_unchanged_now(cluster, line)
    assert command(cluster, "lab --dns-server none --dhcp-range none").code == 0
    assert "dhcp-option=6" not in files(cluster)["yoshi-options.conf"]
    assert spec(cluster, "lab")["ovs"]["dhcp"] == {"lease": "10m"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("blue", "nothing to change"),
        ("blue --peer 10.240.0.5", "--peer is not for network prod/blue, whose plugin is calico"),
        ("blue --node-selector zone=a", "--node-selector is not for network prod/blue"),
        ("blue --range 10.134.0.1-10.134.0.9", 'network "blue": range_start 10.134.0.1 is outside 10.133.0.0/24'),
        ("blue --range 10.133.0.9", '--range "10.133.0.9" has no end'),
        ("blue --exclude 10.133.0.0/24", 'network "blue": no address of 10.133.0.0/24 is left to assign'),
        ("blue --max-addresses-per-namespace 0", '--max-addresses-per-namespace "0" is not a number of addresses'),
        ("blue --cooldown soon", '--cooldown "soon" is not a duration'),
        ("blue --encapsulation none", 'network prod/blue: encapsulation "none" is unknown'),
    ],
)
def test_invalid_values_are_usage_errors(cluster: FakeCluster, line: str, message: str) -> None:
    cluster.api.writes.clear()
    said = command(cluster, line)
    assert (said.code, said.out, cluster.api.writes) == (2, "", [])
    assert said.err.startswith(f"error: {message}")
    assert "kubectl edit" not in said.err


def test_parts_that_a_network_does_not_have_are_not_added() -> None:
    cluster = public(announce="metallb-l2")
    assert "--peer is not for network prod/pub, which has no BGP peers" in command(cluster, "pub --peer 10.240.0.5").err
    layer2(cluster, dhcp={"enabled": False})
    assert (
        "--dns-server is not for network prod/lab, which has no DHCP server"
        in command(cluster, "lab --dns-server 9.9.9.9").err
    )


def test_new_spec_that_conflicts_changes_nothing() -> None:
    cluster = sharing_a_peering("calico-bgp")
    cluster.api.writes.clear()
    with pytest.raises(PreconditionFailed, match="as network prod/far requires, but this network requires 64999"):
        update(cluster, {("bgpConfig", "remoteASN"): 64999}, "pub")
    assert cluster.api.writes == []
    layer2(cluster)
    cluster.api.writes.clear()
    with pytest.raises(PreconditionFailed, match="has no address left for DHCP to lease"):
        update(cluster, {("ovs", "dhcp", "rangeStart"): "10.20.0.1", ("ovs", "dhcp", "rangeEnd"): "10.20.0.1"}, "lab")
    assert cluster.api.writes == []


@pytest.mark.parametrize("resource", [NETWORKWIZARD, RAW.pool])
def test_missing_permission_for_a_write_changes_nothing(cluster: FakeCluster, resource: Resource) -> None:
    cluster.api.refuse("patch", resource)
    cluster.api.writes.clear()
    said = command(cluster, "blue --no-nat-outgoing")
    assert (said.code, cluster.api.writes) == (1, [])
    assert f"may not patch {resource.plural}" in said.err
    assert f"Ask an administrator for permission to patch {resource.plural}" in said.err


def test_missing_network_and_one_that_is_being_deleted_are_refused(cluster: FakeCluster) -> None:
    with pytest.raises(PreconditionFailed, match='network "nowhere" not found'):
        update(cluster, RANGE, "nowhere")
    cluster.api.change(BLUE, lambda obj: obj["status"].update(deleting="2026-01-01T00:00:00Z"))
    with pytest.raises(PreconditionFailed, match="network prod/blue is being deleted"):
        update(cluster, RANGE)


def meanwhile(cluster: FakeCluster, change: dict[str, Any]) -> None:
    """Another client changes the spec right before the patch of this one arrives."""

    def happens(verb: str, ref: ObjectRef) -> None:
        if (verb, ref) == ("patch", BLUE):
            cluster.api.before.clear()
            cluster.api.change(BLUE, lambda obj: obj["spec"].update(change))

    cluster.api.before.append(happens)


def test_two_administrators_do_not_overwrite_each_other(cluster: FakeCluster) -> None:
    meanwhile(cluster, {"range_start": "10.133.0.50"})
    with pytest.raises(
        PreconditionFailed, match=r"spec.range_start of network prod/blue was changed by another client"
    ):
        update(cluster, RANGE)
    assert (spec(cluster)["range_start"], spec(cluster).get("range_end")) == ("10.133.0.50", None)


def test_other_fields_may_change_meanwhile(cluster: FakeCluster) -> None:
    meanwhile(cluster, {"coolDown": "10m"})
    assert not update(cluster, RANGE).errors
    assert (spec(cluster)["range_start"], spec(cluster)["coolDown"]) == ("10.133.0.100", "10m")


def test_same_change_by_another_client_is_no_conflict(cluster: FakeCluster) -> None:
    meanwhile(cluster, {"range_start": "10.133.0.100", "range_end": "10.133.0.200"})
    assert not update(cluster, RANGE).errors


def test_refused_write_after_the_spec_is_recorded_and_completed_later(cluster: FakeCluster) -> None:
    cluster.api.reviews = False
    cluster.api.refuse("patch", RAW.pool, 422, "denied by a webhook")
    done = update(cluster, {("calico", "natOutgoing"): False})
    assert "denied by a webhook" in str(refusal(done, "prod/blue"))
    assert "denied by a webhook" in status(cluster)["reason"]
    cluster.api.allow_everything()
    assert command(cluster, "blue --no-nat-outgoing").code == 0
    assert not cluster.api.get(RAW.pool.ref("prod.blue"))["spec"]["natOutgoing"]
    assert status(cluster)["reason"] == ""


def test_interrupted_run_is_completed_by_the_same_command(cluster: FakeCluster) -> None:
    cluster.api.change(BLUE, lambda obj: obj["spec"].update(calico={"natOutgoing": False}))
    assert command(cluster, "blue --no-nat-outgoing").out == "networkwizard.plumber.k8s.pf9.io/blue updated\n"
    assert not cluster.api.get(RAW.pool.ref("prod.blue"))["spec"]["natOutgoing"]


@pytest.mark.parametrize("dry_run", ["client", "server"])
def test_dry_run_shows_every_change_and_makes_none(cluster: FakeCluster, dry_run: str) -> None:
    cluster.api.writes.clear()
    done = update(cluster, {("calico", "natOutgoing"): False}, dry_run=dry_run)
    assert [change.ref for change in done.plan] == [BLUE, RAW.pool.ref("prod.blue")]
    assert cluster.api.writes == []


def test_unreadable_allocations_of_a_large_network_refuse_a_smaller_range() -> None:
    cluster = FakeCluster()
    cluster.network("big", "10.60.0.0/20")
    cluster.api.refuse("list", ADDRESSBLOCK)
    with pytest.raises(PreconditionFailed, match="the allocations of network prod/big cannot be read"):
        update(cluster, {("range_start",): "10.60.1.0"}, "big")


def test_invalid_field_is_a_usage_error_of_the_planner(cluster: FakeCluster) -> None:
    with pytest.raises(UsageError):
        update(cluster, {("exclude",): ["10.134.0.1"]})


def test_field_that_the_crd_rejects_leaves_everything_as_it_was(cluster: FakeCluster) -> None:
    cluster.api.refuse("patch", NETWORKWIZARD, 422, "spec.range_start: Invalid value")
    cluster.api.writes.clear()
    done = update(cluster, RANGE)
    assert isinstance(refusal(done, "prod/blue"), ApiError)
    assert "range_start" not in spec(cluster)
