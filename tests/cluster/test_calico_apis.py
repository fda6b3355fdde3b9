"""The whole way of a network on each set-up of Calico's two API groups, in labs whose set-up grows.

none                          refused, naming what was looked for
crd v1                        written to crd.projectcalico.org/v1
v3 as CRDs                    written to projectcalico.org/v3
both as CRDs                  v1, which is what Calico itself uses then
both, DatastoreMigration      refused until it is Complete, then v3
v1 behind Calico's API server written to projectcalico.org/v3 through the aggregator, IPAM read from v1
its API server is down        refused to write; what can be read is shown
the datastore is locked       refused
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import lab
from lab.api import DISCOVERY
from lab.manifests import set_documents
from lab.profiles.core import load_crds
from lab.testing import Cluster
from tests.cluster.calico_apiserver import KEPT, calico_apiserver
from tests.cluster.harness import ForkServer, Json, Yoshi, delete, get, make, make_vms, reported_address
from tests.waiting import wait_for

V1, V3 = "crd.projectcalico.org", "projectcalico.org"
MARK = "plumber.k8s.pf9.io/network"

MIGRATIONS = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: datastoremigrations.migration.projectcalico.org
spec:
  group: migration.projectcalico.org
  scope: Cluster
  names: {kind: DatastoreMigration, plural: datastoremigrations, singular: datastoremigration}
  versions:
    - name: v1beta1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""


@dataclass
class Growing:
    """A lab that has these sets of Calico's CRDs ("migration" is one), and can get more: Kubernetes may take minutes to
    delete CRDs that nobody has read."""

    lab: lab.Lab
    sets: set[str]


@pytest.fixture(scope="module")
def labs() -> Iterator[list[Growing]]:
    """The labs that were started so far; they end with the module."""
    started: list[Growing] = []
    try:
        yield started
    finally:
        for one in started:
            one.lab.down()


@pytest.fixture
def bare(request: pytest.FixtureRequest, labs: list[Growing], forks: ForkServer) -> lab.Lab:
    """A lab with the sets that the test is parametrised with, and no others; without Calico where it is not.

    One that has the most of them already gets the others; where each has others, a new one is started.
    """
    if request.config.getoption("cluster") != "lab":
        pytest.skip("chooses what CRDs of Calico there are, and another cluster than a lab was chosen")
    wanted: tuple[str, ...] = getattr(request, "param", ())
    fitting = [one for one in labs if one.sets <= {*wanted}]
    if not fitting:
        running = lab.start(calico="none")
        labs.append(Growing(running, set()))
        fitting = labs[-1:]
        Yoshi(running.kubeconfig, "lab", forks).done("install")
    chosen = max(fitting, key=lambda one: len(one.sets))
    missing = [name for name in wanted if name not in chosen.sets]
    chosen.sets.update(missing)
    load_crds(
        chosen.lab.api,
        [text for name in missing for text in (_migration() if name == "migration" else set_documents(name))],
    )
    return chosen.lab


with_v1 = pytest.mark.parametrize("bare", [("calico-v1",)], indirect=True, ids=["v1"])


@pytest.fixture
def cluster(bare: lab.Lab) -> Cluster:
    return Cluster(bare.kubeconfig, "lab")


@pytest.fixture
def yoshi(bare: lab.Lab, cluster: Cluster, forks: ForkServer) -> Iterator[Yoshi]:
    with cluster.namespace() as name:
        yield Yoshi(bare.kubeconfig, "lab", forks, name)


def _migration() -> list[bytes]:
    return [MIGRATIONS.strip().encode()]


def pools(cluster: Cluster, group: str) -> dict[str, Json]:
    return {item["metadata"]["name"]: item for item in get(cluster, f"ippools.{group}")["items"]}


def whole_way(yoshi: Yoshi, cluster: Cluster, group: str) -> None:
    """Makes a network, attaches, lists, checks, detaches and deletes; all of it is in that group and nowhere else."""
    name = f"{yoshi.namespace}.blue"
    version = "v1" if group == V1 else "v3"
    shown = yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24", "--dry-run=server")
    assert f"ippool.{group}/{name} created (server dry run)" in shown
    yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24")
    assert yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24").endswith("unchanged\n")
    made = pools(cluster, group)[name]
    assert made["apiVersion"] == f"{group}/{version}"
    assert made["metadata"]["annotations"][MARK] == f"{yoshi.namespace}/blue"
    assert (made["spec"]["cidr"], made["spec"]["vxlanMode"]) == ("10.33.0.0/24", "Always")
    assert f"{name} ({group}/{version})" in yoshi.done("network", "describe", "blue")
    said = yoshi.refused("network", "create", "green", "--cidr", "10.33.0.128/25")
    assert "overlaps" in said
    make_vms(cluster, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", "10.33.0.10")
    assert "10.33.0.10" in yoshi.done("vm", "list")
    assert yoshi.done("ips", "check") == "1 addresses, all as recorded\n"
    yoshi.done("vm", "detach", "web", "--network", "blue")
    harm = '[{"op": "replace", "path": "/spec/natOutgoing", "value": false}]'
    cluster.kubectl("patch", f"ippool.{group}", name, "--type=json", "-p", harm)
    assert yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24").endswith("configured\n")
    assert pools(cluster, group)[name]["spec"]["natOutgoing"] is True
    yoshi.done("network", "delete", "blue")
    assert name not in pools(cluster, group)

    yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24")
    cluster.kubectl("delete", "networkwizard", "blue", "-n", yoshi.namespace)
    assert f"delete ippool {name}" in yoshi.done("ips", "gc", "--yes")
    assert name not in pools(cluster, group)
    cluster.kubectl("delete", "virtualmachine", "web", "-n", yoshi.namespace)


def test_network_create_without_calico_names_the_missing_apis(bare: lab.Lab, yoshi: Yoshi) -> None:
    said = yoshi.refused("network", "create", "blue", "--cidr", "10.33.0.0/24")
    for group in (V1, V3):
        assert f"ippools.{group}" in said
    said = yoshi.refused("network", "create", "blue", "--cidr", "10.33.0.0/24", "--plugin", "calico")
    assert f"ippools.{V1}" in said
    assert yoshi.done("network", "list") == ""
    assert yoshi.done("vm", "list") == ""


@with_v1
def test_pool_is_written_through_the_calico_api_server(
    bare: lab.Lab, cluster: Cluster, yoshi: Yoshi, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("calico")
    with calico_apiserver(bare, folder):
        whole_way(yoshi, cluster, V3)
        yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24")
        raw = pools(cluster, V1)[f"{yoshi.namespace}.blue"]
        assert MARK in json.loads(raw["metadata"]["annotations"][KEPT])["annotations"]
        assert raw["spec"]["assignmentMode"] == "Manual"
        assert "disabled" not in raw["spec"]  # false: neither stored nor shown
        yoshi.done("sync")
        again = pools(cluster, V1)[f"{yoshi.namespace}.blue"]
        assert again["metadata"]["resourceVersion"] == raw["metadata"]["resourceVersion"]
        yoshi.done("network", "delete", "blue")


@with_v1
def test_unavailable_calico_api_server_is_reported_as_unknown_and_nothing_is_written(
    bare: lab.Lab, cluster: Cluster, yoshi: Yoshi
) -> None:
    def groups() -> set[str]:
        return {group["metadata"]["name"] for group in bare.api.get("/apis", accept=DISCOVERY)["items"]}

    yoshi.done("network", "create", "blue", "--cidr", "10.33.0.0/24")
    make_vms(cluster, yoshi.namespace, "web", "db")
    yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", "10.33.0.10")
    service = {"name": "calico-api", "namespace": "nowhere", "port": 443}
    spec = {"group": V3, "version": "v3", "service": service, "insecureSkipTLSVerify": True}
    priorities = {"groupPriorityMinimum": 1500, "versionPriority": 20}
    name = "v3.projectcalico.org"
    make(
        cluster,
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": name},
            "spec": {**spec, **priorities},
        },
    )
    cluster.kubectl("wait", f"apiservice/{name}", "--for=condition=Available=False", "--timeout=60s")
    wait_for(lambda: V3 in groups(), "discovery says that it does not answer")
    said = yoshi.refused("network", "create", "green", "--cidr", "10.33.1.0/24")
    assert "Calico's API server does not answer" in said
    assert name in said
    assert f"{yoshi.namespace}.green" not in pools(cluster, V1)
    assert "10.33.0.10" in yoshi.done("ips", "list")
    assert reported_address(yoshi.run("vm", "attach", "db", "--network", "blue")) == "10.33.0.1"
    assert "does not answer" in yoshi.refused("network", "delete", "blue", "--force", "--yes")
    cluster.kubectl("delete", "apiservice", name)
    wait_for(lambda: V3 not in groups(), "discovery has forgotten it")
    yoshi.done("network", "delete", "blue", "--force", "--yes")


@pytest.mark.parametrize(("bare", "group"), [(("calico-v1",), V1), (("calico-v3",), V3)], indirect=["bare"])
def test_locked_datastore_is_not_written_to(cluster: Cluster, yoshi: Yoshi, group: str) -> None:
    information = {
        "apiVersion": f"{group}/{'v1' if group == V1 else 'v3'}",
        "kind": "ClusterInformation",
        "metadata": {"name": "default"},
        "spec": {"datastoreReady": False, "calicoVersion": "v3.32.1"},
    }
    make(cluster, information)
    said = yoshi.refused("network", "create", "blue", "--cidr", "10.33.0.0/24")
    assert "datastoreReady: false" in said
    assert get(cluster, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert pools(cluster, group) == {}
    delete(cluster, f"clusterinformations.{group}", "default")


@pytest.mark.parametrize(
    ("bare", "group", "other"),
    [(("calico-v1",), V1, None), (("calico-v3",), V3, None), (("calico-v1", "calico-v3"), V1, V3)],
    indirect=["bare"],
    ids=["v1", "v3", "both"],
)
def test_pool_is_written_to_the_api_group_that_calico_uses(
    cluster: Cluster, yoshi: Yoshi, group: str, other: str | None
) -> None:
    whole_way(yoshi, cluster, group)
    assert other is None or pools(cluster, other) == {}


@pytest.mark.parametrize("bare", [("calico-v1", "calico-v3", "migration")], indirect=True, ids=["both"])
def test_datastore_migration_blocks_writes_until_it_is_finished(cluster: Cluster, yoshi: Yoshi) -> None:
    whole_way(yoshi, cluster, V1)  # a migration that nobody has begun
    migration = {
        "apiVersion": "migration.projectcalico.org/v1beta1",
        "kind": "DatastoreMigration",
        "metadata": {"name": "v1-to-v3"},
    }
    make(cluster, {**migration, "status": {"phase": "Migrating"}})
    said = yoshi.refused("network", "create", "blue", "--cidr", "10.33.0.0/24")
    assert "datastoremigration is Migrating" in said
    assert get(cluster, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert (pools(cluster, V1), pools(cluster, V3)) == ({}, {})
    done = json.dumps({"status": {"phase": "Complete"}})
    cluster.kubectl("patch", "datastoremigration", "v1-to-v3", "--type=merge", "-p", done)
    whole_way(yoshi, cluster, V3)
    assert pools(cluster, V1) == {}
