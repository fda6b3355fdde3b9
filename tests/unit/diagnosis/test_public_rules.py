"""Rules about public addresses: each finds its fault, and nothing else does; a healthy cluster has no findings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.calico.node_status import V1_NODE_STATUS
from kubectl_yoshi.backends.metallb import frr
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.diagnosis.public import ENDPOINT_SLICE
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.rules import public_addresses as rules
from kubectl_yoshi.diagnosis.run import diagnose
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import EVENT, NAMESPACE, NODE, Json, uid_of
from kubectl_yoshi.model.vm import VMI
from tests.unit.diagnosis.diagnosing import diagnosis_of, facts_of
from tests.unit.diagnosis.public_cluster import (
    ADDRESS,
    FRR,
    METALLB_NAMESPACE,
    NODE_NAME,
    check_schemas,
    drop_all,
    named,
    public_cluster,
    put_endpoint,
    put_frr,
    put_session,
    service_of,
    set_ingress,
    set_strategy,
    silence,
)
from tests.unit.diagnosis.remedies import check_remedy
from tests.unit.plan.fake_cluster import FakeCluster

FAMILY = [rule for rule in RULES if rule.number.startswith("2")]
POOL = metallb.POOL.ref("prod.pub", METALLB_NAMESPACE)

Fault = Callable[[FakeCluster], Any]


def codes(cluster: FakeCluster) -> list[str]:
    """Return the numbers of the rules about public addresses that find something."""
    check_schemas(cluster)
    findings = diagnosis_of(cluster, FAMILY).findings
    for finding in findings:
        check_remedy(finding.observation)
    return [finding.rule.number for finding in findings]


def unchecked(cluster: FakeCluster) -> dict[str, str]:
    """Return the rules about public addresses that cannot check everything, and why."""
    return {one.rule.number: one.reason for one in diagnosis_of(cluster, FAMILY).unchecked}


@pytest.mark.parametrize(
    ("announce", "more"),
    [("metallb-l2", ()), ("metallb-bgp", FRR), ("calico-bgp", ())],
    ids=lambda value: str(value)[:11],
)
def test_healthy_cluster_has_no_findings(announce: str, more: tuple[Any, ...]) -> None:
    cluster = public_cluster(announce, *more)
    assert (codes(cluster), unchecked(cluster)) == ([], {})


def pending(cluster: FakeCluster) -> None:
    """MetalLB withdraws the address from the Service, and its announcement."""
    set_ingress(cluster)
    silence(cluster)


def without_pool(cluster: FakeCluster) -> None:
    cluster.api.drop(POOL)
    pending(cluster)


def with_restricted_pool(cluster: FakeCluster, **allocation: Any) -> None:
    cluster.api.change(POOL, lambda pool: pool["spec"].update(serviceAllocation=allocation))
    pending(cluster)


def for_other_namespaces(cluster: FakeCluster) -> None:
    with_restricted_pool(cluster, namespaces=["dev"])


def for_other_labels(cluster: FakeCluster) -> None:
    with_restricted_pool(cluster, namespaceSelectors=[{"matchLabels": {"tier": "dev"}}])


def for_other_services(cluster: FakeCluster) -> None:
    expression = {"key": "app", "operator": "In", "values": ["db"]}
    with_restricted_pool(cluster, serviceSelectors=[{"matchExpressions": [expression]}])


def without_advertisement(cluster: FakeCluster) -> None:
    drop_all(cluster, metallb.L2_ADVERTISEMENT)
    silence(cluster)


def with_unready_endpoint(cluster: FakeCluster) -> None:
    put_endpoint(cluster, ready=False)
    silence(cluster)


def with_endpoint_elsewhere(cluster: FakeCluster) -> None:
    cluster.api.change(VMI.ref("web-1", "prod"), lambda vmi: vmi["status"].update(nodeName="node2"))
    cluster.api.put(NODE, named("node2"))
    silence(cluster)


def other_service(**content: Any) -> Json:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    return named("old", "dev", spec=spec, status={"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}, **content)


def taken_by_another_service(cluster: FakeCluster) -> None:
    pending(cluster)
    cluster.api.put(SERVICE, other_service())


def excluded_by_label(cluster: FakeCluster) -> None:
    cluster.api.put(NODE, named(NODE_NAME, labels={rules.EXCLUDED_LABEL: ""}))
    silence(cluster)


def network_unavailable(cluster: FakeCluster) -> None:
    condition = {"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated"}
    cluster.api.put(NODE, named(NODE_NAME, status={"conditions": [condition]}))
    silence(cluster)


def not_selected(cluster: FakeCluster) -> None:
    [advertisement] = cluster.api.every(metallb.L2_ADVERTISEMENT)
    advertisement["spec"]["nodeSelectors"] = [{"matchLabels": {"rack": "b"}}]
    cluster.api.put(metallb.L2_ADVERTISEMENT, advertisement)
    silence(cluster)


def without_service(cluster: FakeCluster) -> None:
    cluster.api.drop(service_of(cluster))
    silence(cluster)


def change_service(cluster: FakeCluster, **spec: Any) -> None:
    cluster.api.change(service_of(cluster), lambda service: service["spec"].update(spec))


def with_other_selector(cluster: FakeCluster) -> None:
    change_service(cluster, selector={"app": "web"})


def with_other_selector_and_no_endpoint(cluster: FakeCluster) -> None:
    with_other_selector(cluster)
    drop_all(cluster, ENDPOINT_SLICE)
    silence(cluster)


def with_other_policy(cluster: FakeCluster) -> None:
    change_service(cluster, externalTrafficPolicy="Cluster")


def invalid_configuration(cluster: FakeCluster) -> None:
    status = {"result": "Invalid", "errorSummary": "duplicate peer"}
    cluster.api.put(metallb.CONFIGURATION_STATE, named("speaker-node1", METALLB_NAMESPACE, status=status))


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (without_pool, "2101"),
        (for_other_namespaces, "2102"),
        (for_other_labels, "2102"),
        (for_other_services, "2102"),
        (without_advertisement, "2103"),
        (with_unready_endpoint, "2104"),
        (with_endpoint_elsewhere, "2104"),
        (taken_by_another_service, "2105"),
        (lambda cluster: set_ingress(cluster, ADDRESS, "192.0.2.1"), "2106"),
        (excluded_by_label, "2108"),
        (network_unavailable, "2108"),
        (not_selected, "2108"),
        (without_service, "2109"),
        (with_other_selector, "2109"),
        (with_other_policy, "2109"),
        (with_other_selector_and_no_endpoint, "2109"),
        (silence, "2110"),
        (pending, "2111"),
        (invalid_configuration, "2202"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fault_on_the_lan_is_found_once(fault: Fault, code: str) -> None:
    cluster = public_cluster()
    fault(cluster)
    assert codes(cluster) == [code]


def not_converted(cluster: FakeCluster) -> None:
    put_frr(cluster, "", conversion="duplicate neighbor")


def not_reloaded(cluster: FakeCluster) -> None:
    put_frr(cluster, "", reload="exit status 1")


def without_peer(cluster: FakeCluster) -> None:
    drop_all(cluster, metallb.PEER)
    drop_all(cluster, frr.SESSION_STATE)


def without_peer_and_announcement(cluster: FakeCluster) -> None:
    without_peer(cluster)
    silence(cluster)


def peer_without_node(cluster: FakeCluster) -> None:
    [peer] = cluster.api.every(metallb.PEER)
    [advertisement] = cluster.api.every(metallb.BGP_ADVERTISEMENT)
    advertisement["spec"]["nodeSelectors"] = [{"matchLabels": {"rack": "b"}}]
    cluster.api.put(metallb.BGP_ADVERTISEMENT, advertisement)
    silence(cluster)
    assert peer


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (lambda cluster: put_session(cluster, "Active"), "2201"),
        (not_converted, "2202"),
        (not_reloaded, "2202"),
        (lambda cluster: put_frr(cluster, f" network {ADDRESS}0/32\n"), "2203"),
        (without_peer, "2204"),
        (without_peer_and_announcement, "2204"),
        (peer_without_node, "2108"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fault_of_bgp_is_found_once(fault: Fault, code: str) -> None:
    cluster = public_cluster("metallb-bgp", *FRR)
    fault(cluster)
    assert codes(cluster) == [code]


def announced_just_now(cluster: FakeCluster) -> None:
    put_frr(cluster, "")
    [status] = cluster.api.every(metallb.BGP_STATUS)
    status["metadata"]["creationTimestamp"] = datetime.now(timezone.utc).isoformat()
    cluster.api.put(metallb.BGP_STATUS, status)


def reported_never(cluster: FakeCluster) -> None:
    cluster.api.put(frr.NODE_STATE, named(NODE_NAME))


@pytest.mark.parametrize("delay", [announced_just_now, reported_never])
def test_configuration_that_frr_k8s_has_not_reported_yet_is_no_finding(delay: Fault) -> None:
    cluster = public_cluster("metallb-bgp", *FRR)
    delay(cluster)
    assert codes(cluster) == []


def unlisted(cluster: FakeCluster) -> None:
    cluster.api.change(RAW.bgp_configuration.ref("default"), lambda c: c["spec"].update(serviceLoadBalancerIPs=[]))


def without_calico_peer(cluster: FakeCluster) -> None:
    drop_all(cluster, RAW.bgp_peer)
    drop_all(cluster, V1_NODE_STATUS)


def calico_session_down(cluster: FakeCluster) -> None:
    cluster.api.change(
        V1_NODE_STATUS.ref("node1-status"), lambda one: one["status"]["bgp"]["peersV4"][0].update(state="Connect")
    )


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (unlisted, "2103"),
        (lambda cluster: put_endpoint(cluster, ready=False), "2104"),
        (without_service, "2109"),
        (lambda cluster: set_ingress(cluster), "2109"),
        (calico_session_down, "2201"),
        (without_calico_peer, "2204"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_fault_of_calico_is_found_once(fault: Fault, code: str) -> None:
    cluster = public_cluster("calico-bgp")
    fault(cluster)
    assert codes(cluster) == [code]


def found(cluster: FakeCluster) -> Any:
    """Return the only observation of these rules."""
    [finding] = diagnosis_of(cluster, FAMILY).findings
    return finding.observation


def test_finding_names_the_object_the_cause_and_the_remedy() -> None:
    cluster = public_cluster()
    with_other_policy(cluster)
    seen, service = found(cluster), service_of(cluster)
    assert seen.ref == service
    assert (
        seen.message
        == f"{service} was changed: spec.externalTrafficPolicy is not what {ADDRESS} of VM prod/web-1 needs"
    )
    assert seen.evidence == ("spec.externalTrafficPolicy: Cluster",)
    assert seen.commands == (f"kubectl yoshi vm attach web-1 -n prod --public-network prod/pub --ip {ADDRESS}",)
    assert (seen.vm, seen.network, seen.address) == (("prod", "web-1"), ("prod", "pub"), ADDRESS)


def test_remedy_of_2109_repairs_the_service() -> None:
    cluster = public_cluster()
    with_other_selector(cluster)
    assert not cluster.attach("web-1", network="prod/pub", ip=ADDRESS).errors
    assert codes(cluster) == []


def test_pending_address_shows_the_event_of_metallb() -> None:
    cluster = public_cluster()
    pending(cluster)
    uid = uid_of(cluster.api.get(service_of(cluster)))
    event = {"reason": "AllocationFailed", "message": "no available IPs", "involvedObject": {"uid": uid}}
    cluster.api.put(EVENT, named("web.1", "prod", **event))
    assert found(cluster).evidence == ("Event: no available IPs",)


def test_service_of_another_owner_with_the_name_is_found() -> None:
    cluster = public_cluster()
    cluster.api.change(service_of(cluster), lambda service: service["metadata"].update(labels={}))
    assert found(cluster).message.endswith("and was not created for its network")


def test_second_controller_of_calico_is_restricted() -> None:
    cluster = public_cluster()
    configurations = "kubecontrollersconfigurations.crd.projectcalico.org"
    cluster.api.served.resources[configurations] = RAW.pool  # type: ignore[index]
    cluster.api.put(RAW.pool, named("lb", spec={"cidr": "192.0.2.0/24", "allowedUses": ["LoadBalancer"]}))
    set_ingress(cluster, "192.0.2.1")
    silence(cluster)
    assert found(cluster).commands[0].startswith(f"kubectl patch {configurations} default")


def test_stopped_vm_is_no_finding() -> None:
    cluster = public_cluster()
    cluster.api.drop(VMI.ref("web-1", "prod"))
    put_endpoint(cluster, ready=False)
    silence(cluster)
    assert codes(cluster) == []


def test_namespace_selector_that_matches_allows_the_service() -> None:
    cluster = public_cluster()
    with_restricted_pool(cluster, namespaceSelectors=[{"matchLabels": {"kubernetes.io/metadata.name": "prod"}}])
    assert codes(cluster) == ["2111"]


def test_sessions_without_reports_are_unchecked() -> None:
    assert "vtysh" in unchecked(public_cluster("metallb-bgp"))["2201"]
    cluster = public_cluster("calico-bgp")
    drop_all(cluster, V1_NODE_STATUS)
    assert "no CalicoNodeStatus reports it" in unchecked(cluster)["2201"]


def test_ipv6_router_of_a_session_is_read() -> None:
    peer = {"status": {"peer": "2001-0db8-0000-0000-0000-0000-0000-0005"}}
    assert str(frr.get_peer(peer)) == "2001:db8::5"


@pytest.mark.parametrize(
    ("resource", "fault", "expected"),
    [
        (metallb.POOL, pending, {"2101", "2102", "2111"}),
        (metallb.L2_STATUS, lambda cluster: None, {"2103", "2104", "2108", "2110"}),
        (NODE, silence, {"2108", "2110"}),
        (NAMESPACE, for_other_labels, {"2102", "2111"}),
        (metallb.CONFIGURATION_STATE, lambda cluster: None, {"2202"}),
    ],
    ids=lambda value: getattr(value, "plural", ""),
)
def test_what_cannot_be_read_is_unchecked(resource: Any, fault: Fault, expected: set[str]) -> None:
    cluster = public_cluster()
    fault(cluster)
    for verb in ("get", "list"):
        cluster.api.refuse(verb, resource)
    assert {*unchecked(cluster)} >= expected
    assert codes(cluster) == []


def migratable(version: str) -> FakeCluster:
    """Return a cluster whose VM can be migrated, with a private address, and this version of MetalLB."""
    cluster = public_cluster()
    cluster.network()
    set_strategy(cluster, "Halted")
    assert not cluster.attach("web-1").errors
    set_strategy(cluster, "Always")
    status = {"nodeName": NODE_NAME, "conditions": [{"type": "LiveMigratable", "status": "True"}]}
    cluster.api.change(VMI.ref("web-1", "prod"), lambda vmi: vmi["status"].update(status))
    containers = [{"image": f"quay.io/metallb/controller:{version}"}]
    labels = {"app": "metallb", "component": "controller"}
    spec = {"template": {"spec": {"containers": containers}}}
    cluster.api.put(metallb.DEPLOYMENT, named("controller", METALLB_NAMESPACE, labels, spec=spec))
    return cluster


def test_old_metallb_withdraws_addresses_of_migrating_vms() -> None:
    assert codes(migratable("v0.15.3")) == ["2301"]
    assert codes(migratable("v0.16.0")) == []
    assert "MetalLB's version is unknown" in unchecked(migratable("latest"))["2301"]


def test_external_ips_are_deprecated() -> None:
    cluster = public_cluster("calico-bgp")
    assert codes(cluster) == []
    cluster.api.change(
        NETWORKWIZARD.ref("pub", "prod"), lambda network: network["spec"]["public"].update(via="external-ips")
    )
    assert "2401" in codes(cluster)


def test_healthy_network_is_read_with_few_lists() -> None:
    cluster = public_cluster("metallb-bgp", *FRR)
    lists: list[str] = []
    cluster.api.before.append(lambda verb, ref: lists.append(ref.resource.plural) if verb == "list" else None)
    diagnose(facts_of(cluster), RULES)
    assert len(lists) == len({*lists})
    assert "endpointslices" not in lists
    assert len(lists) <= 12, lists
