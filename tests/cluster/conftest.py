"""The program on the chosen cluster, installed, with a namespace and addresses for each test of its own."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lab
from lab.testing import Cluster
from tests.cluster import layer2_scene
from tests.cluster.calico_ipam import Calico
from tests.cluster.crds_scene import Server, taken_over
from tests.cluster.harness import ForkServer, Yoshi, delete, fork_server, get
from tests.cluster.killing import ProxiedProgram, open_proxied_program
from tests.cluster.public_scene import PublicScene, open_public_scene
from tests.cluster.vm_assertions import POOLS

_sixteens = itertools.count()
_bridges = itertools.count(1)


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer]:
    """The fork server of the test's processes."""
    with fork_server() as server:
        yield server


@pytest.fixture(scope="session")
def installed(cluster: Cluster, forks: ForkServer) -> Cluster:
    """The cluster, after `kubectl yoshi install`."""
    Yoshi(cluster.kubeconfig, cluster.context, forks).done("install")
    return cluster


@pytest.fixture
def yoshi(installed: Cluster, forks: ForkServer, namespace: str) -> Yoshi:
    """The program, run by the administrator in the test's namespace."""
    return Yoshi(installed.kubeconfig, installed.context, forks, namespace)


@pytest.fixture
def proxied(yoshi: Yoshi, tmp_path: Path) -> Iterator[ProxiedProgram]:
    """The program by way of a proxy."""
    with open_proxied_program(yoshi, tmp_path) as found:
        yield found


@pytest.fixture
def cidr(request: pytest.FixtureRequest) -> Callable[[int], str]:
    """Gives CIDRs of a prefix length from 16 on that nobody else uses, of the test's own /16: each call another one."""
    number = next(_sixteens)
    mine = ipaddress.ip_network(f"10.{128 + number % 128}.0.0/16")
    if number >= 128:
        _delete_pools(request.getfixturevalue("cluster"), mine)
    used: list[ipaddress.IPv4Network] = []

    def next_cidr(length: int) -> str:
        for candidate in mine.subnets(new_prefix=length):
            if not any(candidate.overlaps(other) for other in used):
                used.append(candidate)
                return str(candidate)
        raise AssertionError(f"no /{length} is left in {mine}")

    return next_cidr


def _delete_pools(cluster: Cluster, within: ipaddress.IPv4Network) -> None:
    """Delete what an earlier test with this /16 left: a pool does not go with its network's namespace."""
    for pool in get(cluster, POOLS)["items"]:
        name, network = pool["metadata"]["name"], ipaddress.ip_network(pool["spec"]["cidr"])
        if name.startswith("yoshi-test-") and network.overlaps(within):
            delete(cluster, POOLS, name)


@pytest.fixture
def blue(yoshi: Yoshi, cidr: Callable[[int], str]) -> str:
    """The CIDR of a network of that name."""
    network = cidr(24)
    yoshi.done("network", "create", "blue", "--cidr", network)
    return network


@pytest.fixture(scope="session")
def native(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose Calico keeps its objects as projectcalico.org/v3."""
    with lab.start(calico="v3") as running:
        forks = request.getfixturevalue("forks")
        found = Cluster(running.kubeconfig, "lab")
        Yoshi(found.kubeconfig, found.context, forks).done("install")
        yield found


@pytest.fixture
def calico(installed: Cluster, namespace: str) -> Iterator[Calico]:
    """Calico's IPAM objects, deleted after the test."""
    books = Calico(installed, namespace)
    yield books
    for name in books.made:
        delete(installed, *name.split("/"))


@pytest.fixture(scope="session", params=["1.36", "1.31"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The oldest and the newest Kubernetes that the lab builds, with NetworkWizards of Platform9 yoshi."""
    if request.config.getoption("cluster") != "lab":
        pytest.skip("replaces CRDs, and another cluster was chosen")
    yield from taken_over(request.param)


@pytest.fixture(params=["crd.projectcalico.org", "projectcalico.org"])
def public_scene(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[PublicScene]:
    """A public scene for each of Calico's API groups."""
    cluster = request.getfixturevalue("installed" if request.param.startswith("crd.") else "native")
    with cluster.namespace() as namespace:
        yield from open_public_scene(cluster, forks, namespace, request.param)


@pytest.fixture
def public(installed: Cluster, forks: ForkServer, namespace: str) -> Iterator[PublicScene]:
    """A public scene for what does not depend on the API group."""
    yield from open_public_scene(installed, forks, namespace, "crd.projectcalico.org")


@pytest.fixture
def bridge() -> Callable[[], tuple[str, str]]:
    """Gives a bridge, and an interface of the nodes for it, that no other test has: nodes are the whole cluster's."""

    def next_bridge() -> tuple[str, str]:
        number = next(_bridges)
        return f"br-t{number}", f"eth{number}"

    return next_bridge


@pytest.fixture
def layer2(yoshi: Yoshi, installed: Cluster, bridge: layer2_scene.Bridges) -> Iterator[layer2_scene.Layer2Scene]:
    """A namespace, and a bridge of the test's own for Layer 2 networks."""
    found = layer2_scene.Layer2Scene(installed, yoshi, *bridge())
    yield found
    for template in found.templates():
        where = template["metadata"]["namespace"]
        delete(installed, layer2_scene.TEMPLATES, template["metadata"]["name"], namespace=where)


@pytest.fixture
def red(layer2: layer2_scene.Layer2Scene, cidr: layer2_scene.Cidrs) -> str:
    """The CIDR of a Layer 2 network of that name, on VLAN 20, whose server has its first address."""
    network = cidr(24)
    layer2.create("red", network, "--vlan", "20")
    return network


@pytest.fixture
def made_by(request: pytest.FixtureRequest, bridge: Callable[[], tuple[str, str]]) -> Callable[[], tuple[str, ...]]:
    """Gives the flags of `network create` besides the CIDR, for the backend that the test is parametrised with:
    those that put addresses on VMs' templates, "calico" (unless said) and "ovs".

    Of Layer 2 networks each call gives another VLAN of the same bridge.
    """
    if getattr(request, "param", "calico") == "calico":
        return lambda: ()
    name, nic = bridge()
    vlans = itertools.count(1)
    return lambda: ("--plugin", "ovs", "--bridge", name, "--uplink", nic, "--vlan", str(next(vlans)))
