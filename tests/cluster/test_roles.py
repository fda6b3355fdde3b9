"""What the roles really allow, as a real API server's RBAC has it.

Who is asked about: a service account for each of our roles, bound in one namespace and bound everywhere, and one for
each of Kubernetes' own view, edit and admin, which our roles are aggregated to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import APISERVICE, MIGRATION, NATIVE, RAW
from kubectl_yoshi.backends.kubevirt import KUBEVIRT
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs import spec as ovs_spec
from kubectl_yoshi.backends.ovs.cloud_init import SECRET
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.cli.policies import POLICY, POLICY_BINDING
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import NODE, Resource
from kubectl_yoshi.model.vm import POD, VM, VM_SUBRESOURCES, VMI
from kubectl_yoshi.plan.events import EVENT
from lab.errors import LabError
from lab.testing import Cluster
from tests.cluster.harness import delete, make, wait_for_role
from tests.waiting import wait_for

LEVELS = ("viewer", "user", "admin", "nobody")
BUILT_IN = ("view", "edit", "admin")

Asked = tuple[str, str]  # group, resource
Row = tuple[str, tuple[Asked, ...], str]  # verbs, of what, and the least of our roles that may


def of(*resources: Resource, sub: str = "") -> tuple[Asked, ...]:
    """What the program itself reads and writes: so nothing that it does not know is asked about as if it did."""
    return tuple((resource.group, f"{resource.plural}/{sub}" if sub else resource.plural) for resource in resources)


def other(group: str, names: str) -> tuple[Asked, ...]:
    """What the program has nothing to do with."""
    return tuple((group, name) for name in names.split())


# In the namespace that the role is bound in.
NAMESPACED: list[Row] = [
    ("get list watch", of(NETWORKWIZARD, ADDRESSBLOCK), "viewer"),
    ("patch", of(NETWORKWIZARD, ADDRESSBLOCK, sub="status"), "user"),
    ("update", of(NETWORKWIZARD, ADDRESSBLOCK, sub="status"), "nobody"),
    ("create delete", of(ADDRESSBLOCK), "user"),
    ("update patch deletecollection", of(ADDRESSBLOCK), "nobody"),
    ("create patch delete", of(NETWORKWIZARD), "admin"),
    ("update deletecollection", of(NETWORKWIZARD), "nobody"),
    ("get list watch", of(VM, VMI), "viewer"),
    ("patch", of(VM), "user"),
    ("create update delete", of(VM, VMI), "nobody"),
    ("patch", of(VMI, KUBEVIRT), "nobody"),
    ("list", of(KUBEVIRT), "viewer"),
    ("get watch", of(KUBEVIRT), "nobody"),
    *(("update", of(VM_SUBRESOURCES, sub=call), "user") for call in ("restart", "start", "stop")),
    ("get", other(VM_SUBRESOURCES.group, "virtualmachineinstances/console virtualmachineinstances/vnc"), "nobody"),
    ("list", of(POD), "viewer"),
    ("get watch create patch delete", of(POD), "nobody"),
    ("create", of(POD, sub="exec"), "nobody"),
    ("get list", of(SERVICE), "viewer"),
    ("create patch delete", of(SERVICE), "user"),
    ("patch", of(SERVICE, sub="status"), "admin"),
    ("watch", of(SERVICE), "nobody"),
    ("list", of(EVENT), "viewer"),
    ("get create patch", of(EVENT), "user"),
    ("watch delete", of(EVENT), "nobody"),
    ("get patch", of(CONFIGMAP), "user"),
    ("create delete", of(CONFIGMAP), "admin"),
    ("list", of(CONFIGMAP), "nobody"),
    ("get list watch create", of(SECRET), "nobody"),
    ("list", of(metallb.POOL, metallb.L2_STATUS, metallb.BGP_STATUS, metallb.CONFIGURATION_STATE), "viewer"),
    ("list", of(metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT), "viewer"),
    ("list", other("frrk8s.metallb.io", "bgpsessionstates frrnodestates"), "viewer"),
    ("list", other("discovery.k8s.io", "endpointslices"), "viewer"),
    ("get watch create patch delete", other("discovery.k8s.io", "endpointslices"), "nobody"),
    ("create patch delete", of(metallb.POOL), "admin"),
    ("create patch delete", of(metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT), "admin"),
    ("list create patch delete", of(metallb.PEER), "admin"),  # which may contain passwords
    ("list", of(metallb.DEPLOYMENT), "admin"),
    ("get watch", of(metallb.POOL, metallb.L2_STATUS, metallb.PEER, metallb.CONFIGURATION_STATE), "nobody"),
    ("get patch", of(metallb.DEPLOYMENT), "nobody"),
    ("get", of(ovs_spec.NAD), "viewer"),
    ("create patch delete", of(ovs_spec.NAD), "admin"),
    ("list watch", of(ovs_spec.NAD), "nobody"),
    ("get list", of(ovs_spec.DHCPSERVER, ovs_spec.LEASE), "viewer"),
    ("create patch delete", of(ovs_spec.DHCPSERVER), "admin"),
    ("create patch delete", of(ovs_spec.LEASE), "nobody"),
    ("list create patch delete", of(ovs_spec.TEMPLATE), "admin"),
    ("list", of(ovs_spec.HOST), "admin"),
    ("get", of(ovs_spec.TEMPLATE, ovs_spec.HOST), "nobody"),
    ("create", other("rbac.authorization.k8s.io", "roles rolebindings"), "nobody"),
]

# The same of cluster-scoped resources, which only a role that is bound everywhere gives.
CLUSTER_SCOPED: list[Row] = [
    *(
        row
        for api in (RAW, NATIVE)
        for row in (
            ("get list", of(api.pool, api.block, api.handle), "viewer"),
            ("get", of(api.config, api.information), "viewer"),
            ("create patch delete", of(api.pool), "admin"),
            ("update", of(api.block, api.handle), "admin"),
            ("delete", of(api.handle), "admin"),
            ("create delete", of(api.block), "nobody"),
            ("list", of(api.bgp_peer), "viewer"),
            ("create patch delete", of(api.bgp_peer), "admin"),
            ("list", other(api.pool.group, "caliconodestatuses"), "viewer"),
            ("get", of(api.bgp_configuration), "viewer"),
            # delete: a BGPConfiguration that network create made, once nothing else is in it
            ("create patch delete", of(api.bgp_configuration), "admin"),
            ("get", of(api.bgp_peer), "nobody"),
            ("list", of(api.config, api.information, api.bgp_configuration), "nobody"),
            ("update", of(api.bgp_configuration), "nobody"),
            ("update patch", of(api.information), "nobody"),
            ("get list create update patch delete", other(api.pool.group, "ipreservations"), "nobody"),
        )
    ),
    ("list", of(MIGRATION), "viewer"),
    ("get", of(MIGRATION), "nobody"),
    ("get list", of(POLICY, POLICY_BINDING), "admin"),
    ("create update patch delete", of(POLICY, POLICY_BINDING), "nobody"),
    ("list", other("nmstate.io", "nodenetworkconfigurationpolicies"), "admin"),
    ("list", of(NODE), "viewer"),
    ("get patch", of(NODE), "nobody"),
    ("list", other("networking.k8s.io", "servicecidrs"), "admin"),
    ("get", other("networking.k8s.io", "servicecidrs"), "nobody"),
    ("list", of(APISERVICE), "nobody"),
    ("get create patch", other("apiextensions.k8s.io", "customresourcedefinitions"), "nobody"),
    ("create bind escalate", other("rbac.authorization.k8s.io", "clusterroles clusterrolebindings"), "nobody"),
]

# What Kubernetes' own roles must have got from ours, and what they must not.
AGGREGATED: list[Row] = [
    ("get list watch", of(NETWORKWIZARD, ADDRESSBLOCK, VM, VMI), "view"),
    ("patch", of(NETWORKWIZARD, ADDRESSBLOCK, sub="status"), "edit"),
    ("create delete", of(ADDRESSBLOCK), "edit"),
    ("patch", of(VM), "edit"),
    ("update", of(VM_SUBRESOURCES, sub="restart"), "edit"),
    ("create patch delete", of(NETWORKWIZARD, ovs_spec.NAD, ovs_spec.DHCPSERVER), "admin"),
    ("create patch delete", of(ovs_spec.TEMPLATE), "nobody"),
    ("patch", of(SERVICE, sub="status"), "nobody"),
    ("create patch delete", of(metallb.POOL, metallb.PEER), "nobody"),
]

Question = tuple[str, str, str, str]  # account, verb, group, resource


@pytest.fixture(scope="module")
def place(installed: Cluster) -> Iterator[str]:
    """A namespace with the service accounts in it; the roles are installed, and aggregated by now."""
    with installed.namespace("yoshi-roles") as name:
        bindings = [binding for role in ("viewer", "user", "admin") for binding in of_ours(role, name)]
        bindings += [obj for role in BUILT_IN for obj in account_with_role(f"k8s-{role}", role, name)]
        make(installed, *bindings)
        wait_for_aggregation(installed, name)
        for account in (f"{prefix}{role}" for prefix in ("", "everywhere-") for role in ("viewer", "user", "admin")):
            wait_for_role(installed, f"system:serviceaccount:{name}:{account}", name)
        try:
            yield name
        finally:
            for role in ("viewer", "user", "admin"):
                delete(installed, "clusterrolebinding", f"{name}-{role}")


def of_ours(role: str, namespace: str) -> list[dict[str, Any]]:
    """An account with one of our roles in the namespace, and one that has it everywhere."""
    everywhere = account_with_role(f"everywhere-{role}", f"yoshi-{role}", namespace)
    everywhere[1]["kind"] = "ClusterRoleBinding"
    everywhere[1]["metadata"] = {"name": f"{namespace}-{role}"}
    return account_with_role(role, f"yoshi-{role}", namespace) + everywhere


def account_with_role(account: str, role: str, namespace: str) -> list[dict[str, Any]]:
    there = {"name": account, "namespace": namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": there},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": there,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", **there}],
        },
    ]


def wait_for_aggregation(cluster: Cluster, namespace: str) -> None:
    # "admin" gets yoshi-user's rules through "edit", in two steps of the controller manager.
    asked: list[Question] = [
        ("k8s-admin", "get", NETWORKWIZARD.group, "networkwizards"),
        ("k8s-admin", "create", ADDRESSBLOCK.group, "addressblocks"),
        ("k8s-admin", "create", NETWORKWIZARD.group, "networkwizards"),
        ("k8s-edit", "get", NETWORKWIZARD.group, "networkwizards"),
    ]
    wait_for(lambda: all(answers(cluster, namespace, asked)), "the controller manager has aggregated")


def answers(cluster: Cluster, namespace: str, questions: list[Question], cluster_scoped: bool = False) -> list[bool]:
    """What the API server's RBAC says to each; in the namespace, or of cluster-scoped resources."""
    reviews = []
    for account, verb, group, resource in questions:
        plural, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
        spec = {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": attributes if cluster_scoped else attributes | {"namespace": namespace},
        }
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return [cluster.api.post(path, review)["status"]["allowed"] for review in reviews]


def questions_of(rows: list[Row], account: str) -> list[tuple[Question, str]]:
    return [
        ((account, verb, group, resource), least)
        for verbs, asked, least in rows
        for verb in verbs.split()
        for group, resource in asked
    ]


def disagreements(
    cluster: Cluster, place: str, asked: list[tuple[Question, bool]], cluster_scoped: bool = False
) -> list[tuple[Question, bool]]:
    """The questions that were answered otherwise than wanted, with what was wanted."""
    told = answers(cluster, place, [question for question, _ in asked], cluster_scoped)
    return [(question, wanted) for (question, wanted), allowed in zip(asked, told, strict=True) if allowed != wanted]


@pytest.mark.parametrize("role", LEVELS[:3])
@pytest.mark.parametrize("bound", ["in the namespace", "everywhere"])
def test_role_allows_exactly_what_its_commands_need(cluster: Cluster, place: str, role: str, bound: str) -> None:
    account = role if bound == "in the namespace" else f"everywhere-{role}"
    asked = [
        (question, LEVELS.index(role) >= LEVELS.index(least)) for question, least in questions_of(NAMESPACED, account)
    ]
    assert disagreements(cluster, place, asked) == []


@pytest.mark.parametrize("role", LEVELS[:3])
def test_cluster_scoped_permissions_require_a_clusterrolebinding(cluster: Cluster, place: str, role: str) -> None:
    everywhere = [
        (question, LEVELS.index(role) >= LEVELS.index(least))
        for question, least in questions_of(CLUSTER_SCOPED, f"everywhere-{role}")
    ]
    here = [(question, False) for question, _ in questions_of(CLUSTER_SCOPED, role)]
    assert disagreements(cluster, place, everywhere + here, cluster_scoped=True) == []


@pytest.mark.parametrize("role", BUILT_IN)
def test_kubernetes_roles_aggregate_the_yoshi_roles(cluster: Cluster, place: str, role: str) -> None:
    levels = (*BUILT_IN, "nobody")
    asked = [
        (question, levels.index(role) >= levels.index(least))
        for question, least in questions_of(AGGREGATED, f"k8s-{role}")
    ]
    assert disagreements(cluster, place, asked) == []


@pytest.mark.parametrize("role", LEVELS[:3])
def test_role_bound_in_a_namespace_is_limited_to_it(cluster: Cluster, place: str, role: str) -> None:
    user = f"--as=system:serviceaccount:{place}:{role}"
    assert cluster.kubectl("auth", "can-i", "list", "services", f"--namespace={place}", user).strip() == "yes"
    with pytest.raises(LabError):
        cluster.kubectl("auth", "can-i", "list", "services", "--namespace=default", user)


def test_only_the_calico_apiservice_is_readable(cluster: Cluster, place: str) -> None:
    user = f"--as=system:serviceaccount:{place}:everywhere-viewer"
    assert cluster.kubectl("auth", "can-i", "get", "apiservice/v3.projectcalico.org", user).strip() == "yes"
    with pytest.raises(LabError):
        cluster.kubectl("auth", "can-i", "get", "apiservice/v1.apps", user)
