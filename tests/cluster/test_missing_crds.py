"""Commands on a cluster without this program's CRDs, without Calico's, and without those of Layer 2 networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lab
from lab.testing import Cluster
from tests.cluster.bad_scene import check_message
from tests.cluster.harness import ForkServer, Yoshi, make, make_vms, wizard
from tests.cluster.layer2_scene import ATTACHMENTS, SERVERS, TEMPLATES

OURS = ("networkwizards.plumber.k8s.pf9.io", "addressblocks.plumber.k8s.pf9.io")
IPPOOLS = "ippools.crd.projectcalico.org"


@pytest.fixture(scope="module")
def bare(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A lab whose CRDs these tests delete."""
    if request.config.getoption("cluster") != "lab":
        pytest.skip("deletes CRDs, and another cluster than a lab was chosen")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        make_vms(cluster, "default", "web-1")
        yield cluster


@pytest.fixture
def yoshi(bare: Cluster, forks: ForkServer) -> Yoshi:
    return Yoshi(bare.kubeconfig, bare.context, forks, "default")


def delete_crd(cluster: Cluster, *names: str) -> None:
    cluster.kubectl("delete", "crd", "--ignore-not-found", *names)


@pytest.mark.parametrize(
    "words",
    [
        "network list", "network list red", "network describe red", "network create red --cidr 10.98.0.0/24",
        "network create red --cidr 10.98.0.0/24 --dry-run", "network delete red", "vm attach web-1 --network red",
        "vm detach web-1 --network red", "vm list", "ips list", "ips list -A", "ips list --free", "ips show 10.98.0.1",
        "ips map red", "ips map 10.98.0.0/24",
        "ips reserve red", "ips release red 10.98.0.1", "ips check", "doctor", "ips gc --yes", "sync",
        "status", "status -A -o json", "report -o report.tar.gz",
    ],
)  # fmt: skip
def test_every_command_without_the_crds_suggests_install(bare: Cluster, yoshi: Yoshi, words: str) -> None:
    delete_crd(bare, *OURS)
    check_message(
        yoshi.run(*words.split()), 3 if words in ("ips check", "doctor") else 1, OURS[0], "kubectl yoshi install"
    )


def test_network_create_without_calico_names_the_missing_apis(bare: Cluster, yoshi: Yoshi) -> None:
    yoshi.done("install")
    delete_crd(bare, IPPOOLS)
    looked_for = f"ippools.projectcalico.org or {IPPOOLS}"
    for flags in ([], ["--plugin", "calico"], ["--dry-run"]):
        ran = yoshi.run("network", "create", "red", "--cidr", "10.98.0.0/24", *flags)
        check_message(ran, 1, "looked for", looked_for, "Install")
    assert "No networks found" in yoshi.run("network", "list").err
    assert "web-1" in yoshi.done("vm", "list")
    make(bare, wizard("default", "red", plugin="calico", cidr="10.98.0.0/24"))
    check_message(yoshi.run("vm", "attach", "web-1", "--network", "red"), 1, "default/red", looked_for)
    assert "ipAddrs" not in bare.kubectl("get", "vm", "web-1", "-o", "json")
    bare.kubectl("delete", "networkwizard", "red")


def test_missing_crds_of_layer2_networks_are_named_with_the_remaining_options(bare: Cluster, yoshi: Yoshi) -> None:
    yoshi.done("install")
    words = ["network", "create", "lab", "--plugin", "ovs", "--cidr", "10.20.0.0/24", "--bridge", "br"]
    delete_crd(bare, SERVERS)
    said = yoshi.refused(*words, "--uplink", "eth1")
    assert "luigi's DHCP controller" in said
    assert "--no-dhcp" in said
    words.append("--no-dhcp")
    delete_crd(bare, TEMPLATES)
    said = yoshi.refused(*words, "--uplink", "eth1")
    assert "Hostplumber" in said
    assert "--no-host-config" in said
    words.append("--no-host-config")
    yoshi.done(*words)
    yoshi.done("network", "delete", "lab")
    delete_crd(bare, ATTACHMENTS)
    assert "Multus" in yoshi.refused(*words)
    assert bare.kubectl("get", "networkwizards", "-o", "name") == ""
