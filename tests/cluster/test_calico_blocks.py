"""Many VMs of one Calico block that change their address while others write to the block, as Calico's programs do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.model.objects import ObjectRef
from lab.testing import Cluster
from tests.calico_writers import faults, forget, hold, writers
from tests.cluster.checker import check
from tests.cluster.harness import Yoshi, make_vms

pytestmark = [pytest.mark.I6, pytest.mark.I10]

NAMES = [f"web-{number}" for number in range(1, 9)]


@pytest.fixture
def api(installed: Cluster) -> Api:
    return Api(Connection.open(ConnectionOptions(kubeconfig=str(installed.kubeconfig), context=installed.context)))


@pytest.fixture
def old(yoshi: Yoshi, installed: Cluster, cidr: Callable[[int], str]) -> str:
    """The CIDR of network old, of which all VMs have an address; there is a network new."""
    found = cidr(24)
    yoshi.done("network", "create", "old", "--cidr", found)
    yoshi.done("network", "create", "new", "--cidr", cidr(24))
    make_vms(installed, yoshi.namespace, *NAMES)
    yoshi.done("vm", "attach", *NAMES, "--network", "old")
    return found


@pytest.fixture
def block(yoshi: Yoshi, api: Api, old: str) -> Iterator[ObjectRef]:
    """The block in which Calico holds these addresses."""
    listed = yoshi.done("ips", "list", "--network", "old")
    found = re.findall(r"^(\S+) .*/(web-\d+) ", listed, re.MULTILINE)
    assert len(found) == len(NAMES), listed
    handles = {address: f"k8s-pod-network.vmi.{yoshi.namespace}.{name}" for address, name in found}
    made = hold(api, f"{old.removesuffix('.0/24')}.0/26", handles)
    yield made
    forget(api, made)


@pytest.mark.parametrize(
    "words", [("attach", "--network", "new", "--replace"), ("detach", "--network", "old")], ids=["attach", "detach"]
)
def test_many_vms_release_addresses_of_a_block_with_concurrent_writers(
    yoshi: Yoshi, installed: Cluster, api: Api, old: str, block: ObjectRef, words: tuple[str, ...]
) -> None:
    with writers(api, block, 4) as others:
        ran = yoshi.run("vm", words[0], *NAMES, *words[1:], "-v", "6")
    assert ran.code == 0, str(ran)
    assert others.writes > 0
    puts = re.findall(r"PUT \S+/ipamblocks/\S+ (\d+)", ran.err)
    assert [*map(int, puts)] == [409] * (len(puts) - 1) + [200], "one write for all, whatever it took"
    assert faults(api, old) == []
    assert ".vmi." not in str(api.get(block))
    check(installed, yoshi.namespace, settled=True)
