"""install and uninstall."""

from __future__ import annotations

from tests.golden import faults
from tests.golden.cluster import Cluster, deny, network
from tests.golden.kinds import POLICIES
from tests.golden.scenario import Run, Scenario, fails
from tests.golden.scenarios.calico import BLUE
from tests.golden.server import CRDS

ROLES = "clusterroles.rbac.authorization.k8s.io"


def foreign_role(cluster: Cluster) -> None:
    cluster.put(ROLES, "yoshi-user", rules=[])


def newer_crd(cluster: Cluster) -> None:
    version = {"plumber.k8s.pf9.io/version": "99.0.0"}
    cluster.server.edit(
        CRDS, "", "addressblocks.plumber.k8s.pf9.io", lambda crd: crd["metadata"]["annotations"].update(version)
    )


SCENARIOS = [
    Scenario(
        "new cluster",
        [
            "install --dry-run=client",
            "install --dry-run=client -o yaml",
            "install --dry-run=client -o name",
            "install --dry-run=server",
            "install",
            Run("install", note="again"),
            "install -o json --no-wait",
            "policy status",
            "policy status -o yaml",
            "install --policy audit --dry-run=client",
            "install --policy audit",
            Run("policy status", note="in audit mode"),
            "install --policy off",
            Run("policy status", note="turned off"),
            Run("install", note="without policies"),
            "install --policy enforce",
            "policy print -o name",
            BLUE,
            "uninstall",
            "uninstall --force",
            "uninstall --force --dry-run=client",
            "uninstall --force --dry-run=server",
            Run("uninstall --force", note="confirmed on the terminal", stdin="y\n", terminal=True),
            Run("uninstall", note="again"),
        ],
        {"crds": []},
    ),
    Scenario(
        "without admission policies",
        ["install", "policy status", "install --policy enforce", "uninstall"],
        {"crds": [], "without": POLICIES},
    ),
    Scenario(
        "without permission for policies",
        [
            deny(("patch", "validatingadmissionpolicies.admissionregistration.k8s.io")),
            "install",
            "install --policy off",
            Run("install", note="installed without policies"),
            lambda cluster: cluster.server.denied.clear(),
            "install --policy enforce",
            deny(("patch", "validatingadmissionpolicies.admissionregistration.k8s.io")),
            Run("install", note="and kept"),
            "install --policy audit",
            deny(("get", "validatingadmissionpolicies.admissionregistration.k8s.io")),
            Run("install", note="and not readable"),
            "policy status",
        ],
        {"crds": []},
    ),
    Scenario("role of others", [foreign_role, "install", "uninstall"], {"crds": []}),
    Scenario(
        "newer version", ["install --timeout 5s", newer_crd, Run("install", note="over a newer one")], {"crds": []}
    ),
    Scenario(
        "without permission",
        [
            deny(("patch", CRDS)),
            "install",
            deny(("patch", ROLES)),
            Run("install", note="roles neither"),
            lambda cluster: cluster.server.denied.clear(),
            fails("install", "the answer is lost", ("PATCH .*/customresourcedefinitions/net", faults.lose)),
            fails("install", "a role is refused", ("PATCH .*/clusterroles/yoshi-user", faults.WEBHOOK, 9)),
            fails("install", "the server is busy", ("PATCH", faults.BUSY, 3)),
            network("lost", plugin="calico", cidr="10.1.0.0/24"),
            deny(("delete", CRDS)),
            "uninstall --force --yes",
        ],
        {"crds": []},
    ),
]
