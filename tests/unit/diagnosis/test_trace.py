"""`trace`: each kind of address on a healthy cluster, and the first break for each hop.

The rules have tests of their own; here is which hop shows their findings, and what a hop states itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, LEASE, NAD
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.vm import POD, VM, VMI
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.diagnosis import test_public_rules as faults
from tests.unit.diagnosis.public_cluster import (
    ADDRESS,
    FRR,
    drop_all,
    named,
    public_cluster,
    put_endpoint,
    put_session,
    service_of,
    set_strategy,
)
from tests.unit.diagnosis.test_node_rules import layer2_cluster
from tests.unit.plan.fake_cluster import FakeCluster

Fault = Callable[[FakeCluster], Any]


def trace(cluster: FakeCluster, target: str = "vm/web-1", **more: str) -> CliResult:
    return run(cluster, "trace", target, **more)


def marks(done: CliResult) -> dict[str, str]:
    """Return hop -> its mark."""
    lines = [line.split() for line in done.out.splitlines() if line[:1] == " " and line[1:2] in "✓!✗?"]
    return {words[1]: words[0] for words in lines}


def first_break(cluster: FakeCluster, target: str = "vm/web-1") -> str:
    """Return the first hop that an address does not pass; "" for none."""
    done = trace(cluster, target)
    found = next((hop for hop, mark in marks(done).items() if mark == "✗"), "")
    assert (done.code == 1) == bool(found), done.out
    assert (f"first break at {found}" in done.out) == bool(found)
    return found


def private_cluster() -> FakeCluster:
    """Return a cluster with VM web-1, which runs with 10.133.0.1 of network prod/blue."""
    cluster = FakeCluster()
    cluster.network()
    cluster.vm("web-1")
    assert not cluster.attach("web-1").errors
    set_strategy(cluster, "Always")
    return cluster


# -- healthy ---------------------------------------------------------------------------------------------------------


def test_private_address_passes_every_hop() -> None:
    done = trace(private_cluster())
    assert marks(done) == dict.fromkeys(["annotation", "allocation", "template", "instance", "pod", "calico"], "✓")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("10.133.0.1 on network prod/blue of VM prod/web-1\n ✓ annotation     ")
    assert done.out.endswith("result: no break\n")


def test_layer2_address_passes_every_hop() -> None:
    cluster = layer2_cluster()
    set_strategy(cluster, "Always")
    address = next(one for one, record in cluster.records("lab").items() if record.name == "web-1")
    cluster.api.put(LEASE, named(address, "default", spec={"macAddr": cluster.records("lab")[address].mac}))
    done = trace(cluster)
    hops = ["annotation", "allocation", "template", "instance", "pod", "attachment", "dhcp", "lease"]
    assert (done.code, marks(done)) == (0, dict.fromkeys(hops, "✓")), done.out


PUBLIC = ["annotation", "allocation", "service", "pool", "assigned", "vm", "endpoint", "advertisement", "node"]


@pytest.mark.parametrize(
    ("announce", "more", "expected"),
    [
        ("metallb-l2", (), dict.fromkeys(PUBLIC, "✓") | {"route": "?"}),
        ("metallb-bgp", FRR, dict.fromkeys([*PUBLIC, "session"], "✓") | {"route": "?"}),
        ("calico-bgp", (), dict.fromkeys([h for h in [*PUBLIC, "session"] if h != "pool"], "✓") | {"route": "?"}),
    ],
)
def test_public_address_passes_every_hop_in_the_cluster(
    announce: str, more: tuple[Any, ...], expected: dict[str, str]
) -> None:
    done = trace(public_cluster(announce, *more))
    assert (done.code, marks(done)) == (0, expected), done.out
    assert "result: no break; not visible: route" in done.out


def test_router_is_asked_by_a_command_that_is_printed() -> None:
    out = trace(public_cluster("metallb-bgp", *FRR)).out
    assert f"gobgp global rib {ADDRESS}/32 -a ipv4; birdc show route {ADDRESS}/32; vtysh -c" in out
    assert f"arping -c 3 {ADDRESS}" in trace(public_cluster()).out


def test_session_that_nothing_reports_makes_the_exit_code_3() -> None:
    done = trace(public_cluster("metallb-bgp"))
    assert (done.code, marks(done)["session"]) == (3, "?")
    assert "MetalLB reports BGP sessions with FRR-K8s only" in done.out


# -- breaks ----------------------------------------------------------------------------------------------------------


def drop(ref: ObjectRef) -> Fault:
    return lambda cluster: cluster.api.drop(ref)


def without_pin(cluster: FakeCluster) -> None:
    cluster.api.change(VM.ref("web-1", "prod"), lambda vm: vm["spec"]["template"]["metadata"].clear())


def without_allocation(cluster: FakeCluster) -> None:
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda network: network["status"]["allocations"].clear())


def with_other_address(cluster: FakeCluster) -> None:
    interfaces = [{"name": "default", "ipAddress": "192.168.0.9"}]
    cluster.api.change(VMI.ref("web-1", "prod"), lambda vmi: vmi["status"].update(interfaces=interfaces))


def with_other_pod_address(cluster: FakeCluster) -> None:
    def change(pod: Any) -> None:
        pod["metadata"]["annotations"]["cni.projectcalico.org/podIPs"] = "192.168.0.9/32"
        pod["status"].update(podIP="192.168.0.9", podIPs=[{"ip": "192.168.0.9"}])

    cluster.api.change(POD.ref("virt-launcher-web-1", "prod"), change)


@pytest.mark.parametrize(
    ("fault", "hop", "printed"),
    [
        (without_allocation, "allocation", "kubectl yoshi ips rebuild -n prod --network blue"),
        (without_pin, "template", "kubectl yoshi vm attach web-1 -n prod --network prod/blue --ip 10.133.0.1"),
        (with_other_address, "instance", "virtctl restart web-1 -n prod"),
        (drop(VMI.ref("web-1", "prod")), "instance", "virtctl start web-1 -n prod"),
        (with_other_pod_address, "pod", "kubectl describe pod virt-launcher-web-1 -n prod"),
        (lambda cluster: cluster.interrupt_release("10.133.0.1"), "calico", "YOSHI-0005"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_first_break_of_a_private_address(fault: Fault, hop: str, printed: str) -> None:
    cluster = private_cluster()
    fault(cluster)
    assert first_break(cluster, "vm/web-1") == hop
    assert printed in trace(cluster).out.partition("result:")[2]


@pytest.mark.parametrize(
    ("fault", "hop", "code"),
    [
        (drop(NAD.ref("lab", "prod")), "attachment", "YOSHI-4401"),
        (lambda cluster: cluster.api.change(CONFIGMAP.ref("lab", "prod"), lambda c: c.update(binaryData={})),
         "dhcp", "YOSHI-4403"),
        (drop(DHCPSERVER.ref("lab", "prod")), "dhcp", "YOSHI-4404"),
    ],
)  # fmt: skip
def test_first_break_of_a_layer2_address(fault: Fault, hop: str, code: str) -> None:
    cluster = layer2_cluster()
    set_strategy(cluster, "Always")
    fault(cluster)
    assert first_break(cluster) == hop
    assert f"[{code}]" in trace(cluster).out


@pytest.mark.parametrize(
    ("fault", "hop", "code"),
    [
        (faults.without_service, "service", "2109"),
        (faults.without_pool, "pool", "2101"),
        (faults.for_other_namespaces, "pool", "2102"),
        (faults.taken_by_another_service, "assigned", "2105"),
        (faults.pending, "assigned", "2111"),
        (faults.with_unready_endpoint, "endpoint", "2104"),
        (faults.without_advertisement, "advertisement", "2103"),
        (faults.excluded_by_label, "node", "2108"),
        (faults.silence, "node", "2110"),
    ],
)
def test_first_break_of_a_public_address(fault: Fault, hop: str, code: str) -> None:
    cluster = public_cluster()
    fault(cluster)
    assert first_break(cluster) == hop
    assert f"kubectl yoshi doctor --explain YOSHI-{code}" in trace(cluster).out


def test_session_of_the_node_of_the_vm_is_a_break_and_that_of_another_is_not() -> None:
    cluster = public_cluster("metallb-bgp", *FRR)
    put_session(cluster, "Active", node="node2")
    assert first_break(cluster) == ""
    put_session(cluster, "Active")
    assert first_break(cluster) == "session"


def test_stopped_vm_with_a_public_address_is_a_break() -> None:
    cluster = public_cluster()
    cluster.api.drop(VMI.ref("web-1", "prod"))
    put_endpoint(cluster, ready=False)
    faults.silence(cluster)
    assert first_break(cluster) == "vm"
    assert "remedy:  virtctl start web-1 -n prod" in trace(cluster).out


def test_hops_after_a_break_are_shown() -> None:
    cluster = public_cluster()
    faults.without_service(cluster)
    assert [*marks(trace(cluster))] == [*PUBLIC, "route"]


def test_break_that_is_over_in_a_moment_is_none() -> None:
    cluster = public_cluster()
    cluster.api.drop(service := service_of(cluster))

    def repair(verb: str, ref: ObjectRef) -> None:
        if cluster.api.clock.now() and cluster.api.look(service) is None:
            cluster.api.before.clear()
            cluster.attach("web-1", network="prod/pub", ip=ADDRESS)

    cluster.api.before.append(repair)
    assert marks(trace(cluster))["service"] == "✓"


# -- what is traced --------------------------------------------------------------------------------------------------


def test_vm_with_two_addresses_has_two_traces() -> None:
    cluster = faults.migratable("v0.16.0")
    out = trace(cluster).out
    assert [line.split()[0] for line in out.splitlines() if " on network " in line and line[0] != " "] == [
        "10.133.0.1",
        ADDRESS,
    ]


def test_address_and_service_lead_to_the_same_trace_as_the_vm() -> None:
    cluster = public_cluster()
    expected = trace(cluster)
    assert trace(cluster, ADDRESS) == expected
    assert trace(cluster, f"svc/{service_of(cluster).name}") == expected
    assert trace(cluster, f"service/prod/{service_of(cluster).name}", namespace="dev") == expected
    assert trace(cluster, "vm/prod/web-1", namespace="dev") == expected


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.133.0.9", "no VM holds 10.133.0.9: it has no allocation"),
        ("10.133.0.8", "no VM holds 10.133.0.8: it is allocated to"),
        ("10.133.0.255", "no VM holds 10.133.0.255: "),
    ],
)
def test_address_that_no_vm_holds_says_why(address: str, message: str) -> None:
    cluster = private_cluster()
    cluster.reserve("10.133.0.8")
    done = trace(cluster, address)
    assert (done.code, marks(done)) == (1, {"allocation": "✗"})
    assert message in done.out


def test_address_of_a_deleted_vm_says_so() -> None:
    cluster = private_cluster()
    cluster.api.drop(VMI.ref("web-1", "prod"))
    cluster.api.drop(VM.ref("web-1", "prod"))
    assert "held by prod/web-1, which does not exist" in trace(cluster, "10.133.0.1").out


def test_network_that_does_not_exist_is_a_break_at_the_annotation() -> None:
    cluster = private_cluster()
    cluster.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    assert first_break(cluster) == "annotation"


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("192.0.2.1", "192.0.2.1 is in no network that you can access"),
        ("vm/nobody", 'VM "nobody" not found in namespace "prod"'),
        ("vm/free", "VM prod/free has no address of a network"),
        ("svc/none", 'Service "none" not found in namespace "prod"'),
        ("svc/inner", "Service prod/inner has and requests no address"),
    ],
)
def test_what_cannot_be_traced_is_an_error_with_code_3(target: str, error: str) -> None:
    cluster = public_cluster()
    cluster.vm("free")
    cluster.api.put(SERVICE, named("inner", "prod", spec={"type": "ClusterIP"}))
    done = trace(cluster, target)
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith(f"error: {error}")


@pytest.mark.parametrize("target", ["pod/web-1", "web-1", "vm/"])
def test_other_targets_are_usage_errors(target: str) -> None:
    assert trace(private_cluster(), target).code == 2


# -- reading ---------------------------------------------------------------------------------------------------------


def test_private_trace_lists_nothing_but_the_pods_and_networks_of_the_namespace() -> None:
    cluster = private_cluster()
    for number in range(3):
        cluster.vm(f"other-{number}")
        assert not cluster.attach(f"other-{number}").errors
    set_strategy(cluster, "Always")
    requests: list[tuple[str, str, str | None]] = []
    cluster.api.before.append(lambda verb, ref: requests.append((verb, ref.resource.plural, ref.namespace)))
    trace(cluster)
    lists = {(plural, namespace) for verb, plural, namespace in requests if verb == "list"}
    assert lists <= {("networkwizards", "prod"), ("pods", "prod"), ("virtualmachines", "prod")}
    assert len(requests) <= 12, requests


def test_public_trace_reads_services_of_other_namespaces_only_while_it_is_pending() -> None:
    cluster = public_cluster()
    lists: set[tuple[str, str | None]] = set()

    def note(verb: str, ref: ObjectRef) -> None:
        if verb == "list":
            lists.add((ref.resource.plural, ref.namespace))

    cluster.api.before.append(note)
    trace(cluster)
    assert ("services", None) not in lists
    assert ("endpointslices", "prod") in lists
    assert not {("virtualmachines", None), ("pods", None)} & lists
    faults.taken_by_another_service(cluster)
    trace(cluster)
    assert ("services", None) in lists


@pytest.mark.parametrize(
    ("resource", "hop"),
    [(metallb.POOL, "pool"), (metallb.L2_STATUS, "node"), (VMI, "vm")],
    ids=lambda value: getattr(value, "plural", value),
)
def test_what_cannot_be_read_is_not_visible(resource: Any, hop: str) -> None:
    cluster = public_cluster()
    for verb in ("get", "list"):
        cluster.api.refuse(verb, resource)
    done = trace(cluster)
    assert (done.code, marks(done)[hop]) == (3, "?"), done.out
    assert f"may not list {resource.plural}" in done.out or f"may not get {resource.plural}" in done.out


def test_tenant_who_cannot_read_calico_sees_the_rest() -> None:
    cluster = private_cluster()
    for resource in (RAW.block, RAW.handle):
        for verb in ("get", "list"):
            cluster.api.refuse(verb, resource)
    done = trace(cluster)
    assert done.code == 3
    assert {mark for hop, mark in marks(done).items() if hop != "calico"} == {"✓"}, done.out
    drop_all(cluster, RAW.handle)
