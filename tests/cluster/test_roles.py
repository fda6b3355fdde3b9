"""What the roles really allow, as a real API server's RBAC has it.

Who is asked about: a service account for each of our roles, bound in one namespace and bound everywhere, and one for
each of Kubernetes' own view, edit and admin, which our roles are aggregated to.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from lab.errors import LabError
from lab.testing import Cluster

LEVELS = ("viewer", "user", "admin", "nobody")
BUILT_IN = ("view", "edit", "admin")

PLUMBER, DHCP = "plumber.k8s.pf9.io", "dhcp.plumber.k8s.pf9.io"
V1, V3 = "crd.projectcalico.org", "projectcalico.org"

# Verbs, group, resources, and the least of our roles that may; in the namespace that the role is bound in.
NAMESPACED = [
    ("get list watch", PLUMBER, "networkwizards addressblocks", "viewer"),
    ("patch", PLUMBER, "networkwizards/status addressblocks/status", "user"),
    ("update", PLUMBER, "networkwizards/status addressblocks/status", "nobody"),
    ("create delete", PLUMBER, "addressblocks", "user"),
    ("update patch deletecollection", PLUMBER, "addressblocks", "nobody"),
    ("create patch delete", PLUMBER, "networkwizards", "admin"),
    ("update deletecollection", PLUMBER, "networkwizards", "nobody"),
    ("get list watch", "kubevirt.io", "virtualmachines virtualmachineinstances", "viewer"),
    ("patch", "kubevirt.io", "virtualmachines", "user"),
    ("create update delete", "kubevirt.io", "virtualmachines virtualmachineinstances", "nobody"),
    ("patch", "kubevirt.io", "virtualmachineinstances kubevirts", "nobody"),
    ("get list", "kubevirt.io", "kubevirts", "viewer"),
    (
        "update",
        "subresources.kubevirt.io",
        "virtualmachines/restart virtualmachines/start virtualmachines/stop",
        "user",
    ),
    ("get", "subresources.kubevirt.io", "virtualmachineinstances/console virtualmachineinstances/vnc", "nobody"),
    ("get list watch", "", "pods services events", "viewer"),
    ("create patch delete", "", "pods", "nobody"),
    ("create", "", "pods/exec", "nobody"),
    ("create patch delete", "", "services", "user"),
    ("patch", "", "services/status", "admin"),
    ("create patch", "", "events", "user"),
    ("delete", "", "events", "nobody"),
    ("get patch", "", "configmaps", "user"),
    ("create delete", "", "configmaps", "admin"),
    ("list", "", "configmaps", "nobody"),
    ("get list watch create", "", "secrets", "nobody"),
    ("get list", "metallb.io", "ipaddresspools servicel2statuses servicebgpstatuses", "viewer"),
    ("create patch delete", "metallb.io", "ipaddresspools l2advertisements bgpadvertisements bgppeers", "admin"),
    ("get list", "metallb.io", "l2advertisements bgpadvertisements bgppeers configurationstates", "admin"),
    ("get list", "apps", "deployments", "admin"),
    ("patch", "apps", "deployments", "nobody"),
    ("get list", "k8s.cni.cncf.io", "network-attachment-definitions", "viewer"),
    ("create patch delete", "k8s.cni.cncf.io", "network-attachment-definitions", "admin"),
    ("get list", DHCP, "dhcpservers ipallocations", "viewer"),
    ("create patch delete", DHCP, "dhcpservers", "admin"),
    ("create patch delete", DHCP, "ipallocations", "nobody"),
    ("get list create patch delete", PLUMBER, "hostnetworktemplates", "admin"),
    ("get list", PLUMBER, "hostnetworks", "admin"),
    ("create", "rbac.authorization.k8s.io", "roles rolebindings", "nobody"),
]

# The same of cluster-scoped resources, which only a role that is bound everywhere gives.
CLUSTER_SCOPED = [
    ("get list", V1, "ippools ipamblocks ipamhandles ipamconfigs ipreservations clusterinformations", "viewer"),
    ("get list", V3, "ippools ipamblocks ipamhandles ipamconfigurations ipreservations clusterinformations", "viewer"),
    *(
        row
        for group in (V1, V3)
        for row in (
            ("create patch delete", group, "ippools", "admin"),
            ("update", group, "ipamblocks ipamhandles", "admin"),
            ("delete", group, "ipamhandles", "admin"),
            ("create delete", group, "ipamblocks", "nobody"),
            ("get list create patch delete", group, "bgppeers", "admin"),
            # delete: a BGPConfiguration that network create made, once nothing else is in it
            ("get list create patch delete", group, "bgpconfigurations", "admin"),
            ("update", group, "bgpconfigurations", "nobody"),
            ("update patch", group, "clusterinformations ipreservations", "nobody"),
        )
    ),
    ("get list", "migration.projectcalico.org", "datastoremigrations", "viewer"),
    ("get list", "", "nodes", "admin"),
    ("patch", "", "nodes", "nobody"),
    ("get list", "networking.k8s.io", "servicecidrs", "admin"),
    ("list", "apiregistration.k8s.io", "apiservices", "nobody"),
    ("get create patch", "apiextensions.k8s.io", "customresourcedefinitions", "nobody"),
    ("create bind escalate", "rbac.authorization.k8s.io", "clusterroles clusterrolebindings", "nobody"),
]

# What Kubernetes' own roles must have got from ours, and what they must not.
AGGREGATED = [
    ("get list watch", PLUMBER, "networkwizards addressblocks", "view"),
    ("get list watch", "kubevirt.io", "virtualmachines virtualmachineinstances", "view"),
    ("patch", PLUMBER, "networkwizards/status addressblocks/status", "edit"),
    ("create delete", PLUMBER, "addressblocks", "edit"),
    ("patch", "kubevirt.io", "virtualmachines", "edit"),
    ("update", "subresources.kubevirt.io", "virtualmachines/restart", "edit"),
    ("create patch delete", PLUMBER, "networkwizards", "admin"),
    ("create patch delete", "k8s.cni.cncf.io", "network-attachment-definitions", "admin"),
    ("create patch delete", DHCP, "dhcpservers", "admin"),
    ("create patch delete", PLUMBER, "hostnetworktemplates", "nobody"),
    ("patch", "", "services/status", "nobody"),
    ("create patch delete", "metallb.io", "ipaddresspools bgppeers", "nobody"),
]

Question = tuple[str, str, str, str]  # account, verb, group, resource


@pytest.fixture(scope="module")
def place(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace with the service accounts in it; the roles are installed, and aggregated by now."""
    if request.config.getoption("cluster") not in {"lab", "kind"}:
        pytest.skip("makes ClusterRoles, and a cluster that exists was chosen")
    roles = resources.files("kubectl_yoshi.manifests").joinpath("roles.yaml").read_text()
    cluster.kubectl("apply", "--server-side", "--field-manager=kubectl-yoshi", "-f", "-", input=roles)
    with cluster.namespace("yoshi-roles") as name:
        bindings = [binding for role in ("viewer", "user", "admin") for binding in of_ours(role, name)]
        bindings += [obj for role in BUILT_IN for obj in account_with_role(f"k8s-{role}", role, name)]
        cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": bindings}))
        wait_for_aggregation(cluster, name)
        try:
            yield name
        finally:
            for role in ("viewer", "user", "admin"):
                cluster.kubectl("delete", "clusterrolebinding", f"{name}-{role}", "--ignore-not-found")
            cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=roles)


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
        ("k8s-admin", "get", PLUMBER, "networkwizards"),
        ("k8s-admin", "create", PLUMBER, "addressblocks"),
        ("k8s-admin", "create", PLUMBER, "networkwizards"),
        ("k8s-edit", "get", PLUMBER, "networkwizards"),
    ]
    until = time.monotonic() + 30
    while not all(answers(cluster, namespace, asked)):
        assert time.monotonic() < until, "the controller manager has aggregated nothing"
        time.sleep(0.2)


def answers(cluster: Cluster, namespace: str, questions: list[Question], cluster_scoped: bool = False) -> list[bool]:
    """What the API server's RBAC says to each; in the namespace, or of cluster-scoped resources."""
    reviews = []
    for account, verb, group, resource in questions:
        plural, _, subresource = resource.partition("/")
        wish = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
        spec = {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": wish if cluster_scoped else wish | {"namespace": namespace},
        }
        reviews.append({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
    # Each comes back as a document of its own, in order.
    text = cluster.kubectl("create", "-o", "json", "-f", "-", input="\n".join(map(json.dumps, reviews)))
    decoder, told, at = json.JSONDecoder(), [], 0
    while at < len(text.rstrip()):
        review, at = decoder.raw_decode(text, at)
        found = review["items"] if review["kind"] == "List" else [review]
        told += [item["status"]["allowed"] for item in found]
        at += len(text[at:]) - len(text[at:].lstrip())
    assert len(told) == len(questions)
    return told


def questions_of(rows: list[tuple[str, str, str, str]], account: str) -> list[tuple[Question, str]]:
    return [
        ((account, verb, group, resource), least)
        for verbs, group, names, least in rows
        for verb in verbs.split()
        for resource in names.split()
    ]


def disagreements(
    cluster: Cluster, place: str, asked: list[tuple[Question, bool]], cluster_scoped: bool = False
) -> list[tuple[Question, bool]]:
    """The questions that were answered otherwise than wanted, with what was wanted."""
    told = answers(cluster, place, [question for question, _ in asked], cluster_scoped)
    return [(question, wanted) for (question, wanted), allowed in zip(asked, told, strict=True) if allowed != wanted]


@pytest.mark.parametrize("role", LEVELS[:3])
@pytest.mark.parametrize("bound", ["in the namespace", "everywhere"])
def test_a_role_allows_what_its_commands_need_and_no_more(cluster: Cluster, place: str, role: str, bound: str) -> None:
    account = role if bound == "in the namespace" else f"everywhere-{role}"
    asked = [
        (question, LEVELS.index(role) >= LEVELS.index(least)) for question, least in questions_of(NAMESPACED, account)
    ]
    assert disagreements(cluster, place, asked) == []


@pytest.mark.parametrize("role", LEVELS[:3])
def test_cluster_scoped_rights_need_a_binding_everywhere(cluster: Cluster, place: str, role: str) -> None:
    everywhere = [
        (question, LEVELS.index(role) >= LEVELS.index(least))
        for question, least in questions_of(CLUSTER_SCOPED, f"everywhere-{role}")
    ]
    here = [(question, False) for question, _ in questions_of(CLUSTER_SCOPED, role)]
    assert disagreements(cluster, place, everywhere + here, cluster_scoped=True) == []


@pytest.mark.parametrize("role", BUILT_IN)
def test_kubernetes_own_roles_get_their_share(cluster: Cluster, place: str, role: str) -> None:
    levels = (*BUILT_IN, "nobody")
    asked = [
        (question, levels.index(role) >= levels.index(least))
        for question, least in questions_of(AGGREGATED, f"k8s-{role}")
    ]
    assert disagreements(cluster, place, asked) == []


@pytest.mark.parametrize("role", LEVELS[:3])
def test_a_role_ends_at_its_namespace(cluster: Cluster, place: str, role: str) -> None:
    user = f"--as=system:serviceaccount:{place}:{role}"
    assert cluster.kubectl("auth", "can-i", "list", "services", f"--namespace={place}", user).strip() == "yes"
    with pytest.raises(LabError):
        cluster.kubectl("auth", "can-i", "list", "services", "--namespace=default", user)


def test_calicos_apiservice_alone_is_readable(cluster: Cluster, place: str) -> None:
    user = f"--as=system:serviceaccount:{place}:everywhere-viewer"
    assert cluster.kubectl("auth", "can-i", "get", "apiservice/v3.projectcalico.org", user).strip() == "yes"
    with pytest.raises(LabError):
        cluster.kubectl("auth", "can-i", "get", "apiservice/v1.apps", user)
