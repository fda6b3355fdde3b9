"""The cost of a diagnosis of all namespaces: requests and steps are counted, not seconds (invariant I9).

All rules together read at most MAX_LISTS lists, however many VMs, networks and namespaces there are. Besides, they read
the DHCP server of each Layer 2 network, and the events of namespaces in which a Service has no address.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from kubectl_yoshi.backends.metallb.objects import LOAD_BALANCER_IPS_ANNOTATION
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.run import diagnose
from kubectl_yoshi.diagnosis.status import compute_status
from kubectl_yoshi.model.objects import CRD, POLICY, POLICY_BINDING, annotations_of
from tests.unit.diagnosis.clusters import healthy
from tests.unit.diagnosis.diagnosing import facts_of
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_layer2 import spec_of
from tests.unit.plan.test_planning_cost import FEW, MANY, SLACK, steps
from tests.unit.plan.test_public import ANNOUNCED

pytestmark = pytest.mark.I9

KINDS = ("private", "layer2", "public")
MAX_LISTS = {(): 12, ("private",): 12, ("layer2",): 12, ("public",): 14, KINDS: 20}
"""By the kinds of networks: each product has lists of its own."""
PUBLIC = {"plugin": "public", "public": {"announce": "metallb-l2"}}


def cluster_with(kinds: tuple[str, ...] = KINDS, namespaces: int = 1, networks: int = 1, vms: int = 1) -> FakeCluster:
    """Return a cluster in which each namespace has that many networks of each kind, with VMs on each."""
    cluster = healthy()
    cluster.api.served = served((*SERVED, CRD, POLICY, POLICY_BINDING, *ANNOUNCED))
    for place in range(namespaces):
        namespace = f"ns-{place}"
        for number in range(networks):
            octet = place * networks + number
            specs = {
                "private": (f"10.{octet}.0.0/20", {}),
                "layer2": (f"172.16.{octet}.0/24", spec_of(vlan=octet + 1)),
                "public": (f"203.0.{octet}.0/24", PUBLIC),
            }
            for plugin in kinds:
                cidr, spec = specs[plugin]
                cluster.network(f"{plugin}-{number}", cidr, namespace, **spec)
                names = [f"{plugin}-{number}-{count}" for count in range(vms)]
                for name in names:
                    cluster.vm(name, namespace)
                owners = [f"{namespace}/{name}" for name in names]
                assert not cluster.attach(*owners, network=f"{namespace}/{plugin}-{number}").errors
    for service in cluster.api.every(SERVICE):
        address = annotations_of(service)[LOAD_BALANCER_IPS_ANNOTATION]
        cluster.api.put(SERVICE, {**service, "status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
    return cluster


def lists_of_doctor(cluster: FakeCluster) -> Counter[str]:
    """Return how often all rules list the objects of each resource."""
    cluster.api.tried.clear()
    diagnose(facts_of(cluster), RULES)
    return Counter({plural: count for (verb, plural), count in cluster.api.tried.items() if verb == "list"})


@pytest.mark.parametrize("kinds", MAX_LISTS, ids="+".join)
def test_rules_read_few_lists_however_large_the_cluster_is(kinds: tuple[str, ...]) -> None:
    expected = lists_of_doctor(cluster_with(kinds))
    assert expected.total() <= MAX_LISTS[kinds], expected
    assert set(expected.values()) == {1}
    for sizes in ({"namespaces": 3}, {"networks": 3}, {"vms": 8}):
        assert lists_of_doctor(cluster_with(kinds, **sizes)) == expected, sizes


@pytest.mark.parametrize("compute", [diagnose, compute_status], ids=["doctor", "status"])
def test_steps_grow_linearly_with_the_vms(compute: object) -> None:
    counted = []
    for count in (FEW, MANY):
        cluster = FakeCluster()
        cluster.network("blue", "10.133.0.0/20")
        names = [f"web-{number:04}" for number in range(count)]
        for name in names:
            cluster.vm(name)
        cluster.attach(*names)
        counted.append(steps(partial(compute, facts_of(cluster), RULES)))  # type: ignore[operator]
    assert counted[1] <= counted[0] * MANY / FEW * SLACK
