"""The status of a cluster: what is counted, and what is unknown because it cannot be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.kubevirt import KUBEVIRT
from kubectl_yoshi.backends.metallb.objects import DEPLOYMENT
from kubectl_yoshi.diagnosis.facts import Scope
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.status import POLICY, POLICY_BINDING, ClusterStatus, compute_status
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, VERSION_ANNOTATION
from kubectl_yoshi.model.objects import CRD, Resource
from kubectl_yoshi.model.vm import VM
from tests.unit.diagnosis.diagnosing import EVERYTHING, facts_of
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_public import ANNOUNCED

OURS = {"app.kubernetes.io/part-of": "kubectl-yoshi"}


def status_of(cluster: FakeCluster, scope: Scope = EVERYTHING) -> ClusterStatus:
    """Return the status of a cluster whose API server is v1.36.0."""
    facts = facts_of(cluster, scope)
    facts.server_version = "v1.36.0"
    return compute_status(facts, RULES)


@pytest.fixture
def cluster() -> FakeCluster:
    """VM web-1 on blue, web-2 that needs a restart to give up an address of blue, db on big, and idle on none."""
    cluster = FakeCluster()
    cluster.network()
    cluster.network("big", "10.140.0.0/16", range_start="10.140.0.20")
    cluster.vm()
    cluster.running("web-2", pin="10.133.0.9")
    cluster.vm("db")
    cluster.vm("idle", "dev")
    cluster.attach("web-1", "web-2")
    cluster.detach("web-2")
    cluster.attach("db", network="prod/big")
    cluster.reserve("10.133.0.50")
    return cluster


def versions(status: ClusterStatus) -> dict[str, str]:
    return {one.name: one.version for one in status.components}


def test_networks_vms_and_addresses_are_counted(cluster: FakeCluster) -> None:
    status = status_of(cluster)
    assert status.networks is not None
    counted = [(n.name[1], n.range, n.ready, n.used, n.reserved, n.free, n.use_percent) for n in status.networks]
    assert counted == [
        ("big", "10.140.0.0/16 (10.140.0.20-end)", "True", 1, 0, 65514, 1),
        ("blue", "10.133.0.0/24", "True", 2, 1, 251, 2),
    ]
    assert status.vms is not None
    assert (status.vms.total, status.vms.with_address, status.vms.without_address) == (4, 3, 1)
    assert status.vms.restart_needed == 1
    assert status.addresses == {AddressState.BOUND: 2, AddressState.RESTART_NEEDED: 1, AddressState.RESERVED: 1}
    assert (status.missing_permissions, status.unreadable, status.pending) == ((), (), "")


def test_only_what_concerns_the_namespace_is_counted(cluster: FakeCluster) -> None:
    status = status_of(cluster, Scope("dev"))
    assert status.vms is not None
    assert (status.networks, status.vms.total, status.vms.with_address) == ((), 1, 0)


def test_versions_are_those_that_the_components_report(cluster: FakeCluster) -> None:
    cluster.api.served = served(
        (*SERVED, *ANNOUNCED, CRD, Resource("frrk8s.metallb.io", "v1beta1", "frrnodestates", "X"))
    )
    annotations = {VERSION_ANNOTATION: "0.2.0"}
    cluster.api.put(CRD, {"metadata": {"name": NETWORKWIZARD.full_name, "annotations": annotations}})
    cluster.api.put(
        KUBEVIRT,
        {"metadata": {"name": "kubevirt", "namespace": "kubevirt"}, "status": {"observedKubeVirtVersion": "v1.9.0"}},
    )
    controller = {"name": "controller", "image": "registry:5000/metallb/controller:v0.16.1@sha256:0"}
    cluster.api.put(
        DEPLOYMENT,
        {
            "metadata": {"name": "controller", "namespace": "m", "labels": {"app.kubernetes.io/name": "metallb"}},
            "spec": {"template": {"spec": {"containers": [{"name": "proxy", "image": "proxy:v2"}, controller]}}},
        },
    )
    status = status_of(cluster)
    found = versions(status)
    del found["kubectl-yoshi"]
    assert found == {
        "CRDs": "v0.2.0",
        "Kubernetes": "v1.36.0",
        "KubeVirt": "v1.9.0",
        "Calico": "v3.32.1",
        "MetalLB": "v0.16.1",
        "Multus": "",
    }
    details = {one.name: one.detail for one in status.components if one.detail}
    assert details == {"Calico": "crd.projectcalico.org/v1", "MetalLB": "frr-k8s"}


def test_what_is_not_served_is_not_installed() -> None:
    cluster = FakeCluster()
    cluster.api.served = served((NETWORKWIZARD, ADDRESSBLOCK))
    installed = {one.name: one.installed for one in status_of(cluster).components}
    assert [name for name, is_there in installed.items() if not is_there] == ["KubeVirt", "Calico", "MetalLB", "Multus"]


def test_locked_datastore_of_calico_is_a_reason(cluster: FakeCluster) -> None:
    cluster.api.change(RAW.information.ref("default"), lambda obj: obj["spec"].update(datastoreReady=False))
    status = status_of(cluster)
    (calico,) = [one for one in status.components if one.name == "Calico"]
    assert (calico.version, calico.detail) == ("v3.32.1", "")
    assert "datastore is locked" in calico.reason
    assert calico.reason in status.unreadable


@pytest.mark.parametrize(
    ("resource", "unknown"),
    [
        (NETWORKWIZARD, {"networks", "vms", "addresses", "diagnosis"}),
        (VM, {"vms"}),
        (ADDRESSBLOCK, {"big"}),
        (POLICY, {"policies"}),
        (KUBEVIRT, set()),
        (CRD, set()),
    ],
    ids=lambda value: value.plural if isinstance(value, Resource) else "",
)
def test_what_cannot_be_read_is_unknown_and_has_a_reason(
    cluster: FakeCluster, resource: Resource, unknown: set[str]
) -> None:
    cluster.api.served = served((*SERVED, POLICY, POLICY_BINDING, CRD))
    cluster.api.refuse("list", resource)
    cluster.api.refuse("get", resource)
    status = status_of(cluster)
    parts = ("networks", "vms", "addresses", "policies", "diagnosis")
    found = {name for name in parts if getattr(status, name) is None}
    found |= {n.name[1] for n in status.networks or () if (n.used, n.reserved, n.free) == (None, None, None)}
    assert found == unknown
    assert any(resource.full_name in reason for reason in status.unreadable)
    if "networks" in unknown:
        assert resource.full_name in status.pending


def test_missing_permissions_name_the_commands_that_need_them(cluster: FakeCluster) -> None:
    cluster.api.refuse("patch", VM)
    cluster.api.refuse("create", CRD)
    missing = {one.permission: one.commands for one in status_of(cluster, Scope("prod")).missing_permissions}
    assert missing == {
        "may not patch virtualmachines.kubevirt.io in namespace prod": "vm attach, vm detach",
        "may not create customresourcedefinitions.apiextensions.k8s.io": "install",
    }


def test_policies_have_the_mode_of_their_bindings(cluster: FakeCluster) -> None:
    cluster.api.served = served((*SERVED, POLICY, POLICY_BINDING, CRD))
    for name in ("denies", "warns", "unbound"):
        cluster.api.put(POLICY, {"metadata": {"name": name, "labels": OURS}})
    cluster.api.put(POLICY, {"metadata": {"name": "foreign"}})
    for number, (name, action) in enumerate([("denies", "Audit"), ("denies", "Deny"), ("warns", "Warn")]):
        spec = {"policyName": name, "validationActions": [action]}
        cluster.api.put(POLICY_BINDING, {"metadata": {"name": f"b{number}"}, "spec": spec})
    policies = status_of(cluster).policies
    assert policies is not None
    assert {one.name: one.mode for one in policies} == {"denies": "enforced", "warns": "audit", "unbound": "off"}


def test_networks_that_are_not_ready_and_errors_are_pending(cluster: FakeCluster) -> None:
    cluster.api.change(
        NETWORKWIZARD.ref("blue", "prod"),
        lambda obj: obj["status"].update(conditions=[{"type": "Ready", "status": "False"}], reason="the pool is gone"),
    )
    status = status_of(cluster)
    assert status.pending == "network prod/blue is not ready: the pool is gone"
    cluster.delete_vm("web-1")
    cluster.time_passes()
    broken = status_of(cluster)
    assert replace(broken, networks=()).pending == "2 errors found; see `kubectl yoshi doctor`"
