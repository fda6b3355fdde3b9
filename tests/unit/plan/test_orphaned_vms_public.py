"""What a deleted public network has left on VMs: reported, and removed by `vm detach`.

| left                                  | goes with                                                           |
|---------------------------------------|---------------------------------------------------------------------|
| the request of a move that was killed | the network's name, whatever else the VM asks for                   |
| an address that may be another's      | the last network that it may be of: gone as well, or without a CIDR |
"""

from __future__ import annotations

import pytest

from kubectl_yoshi.backends.public.annotations import PUBLIC_IP, PUBLIC_NETWORK
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move
from kubectl_yoshi.plan.orphaned_vms import find_orphaned_vms
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster
from tests.unit.plan.test_public import FIRST, PUB, make_public, public

pytestmark = pytest.mark.I8


class Killed(BaseException):
    """What ends a run without a last word."""


def killed_move(cluster: FakeCluster) -> None:
    """A move of the address from VM a to VM b that is killed once b asks for it."""
    mine = cluster.second_client(1)

    def kill(verb: str, ref: ObjectRef) -> None:
        if cluster.now("b").annotations.get(PUBLIC_IP, "").endswith(FIRST):
            raise Killed

    mine.api.before.append(kill)
    with pytest.raises(Killed):
        mine.run(plan_move, MoveRequest(parse_address(FIRST), ("prod", "b")))


def told(cluster: FakeCluster) -> list[str]:
    def ask(snapshot: Snapshot) -> list[str]:
        return [one.message for one in find_orphaned_vms([cluster.now("a"), cluster.now("b")], BACKENDS, snapshot)]

    return ask(new_snapshot(cluster.api))  # type: ignore[arg-type]


def public_annotations(cluster: FakeCluster, name: str) -> tuple[str | None, str | None]:
    found = cluster.now(name).annotations
    return found.get(PUBLIC_NETWORK), found.get(PUBLIC_IP)


@pytest.mark.parametrize("by_kubectl", [False, True])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("cidr", ["203.0.113.0/24", ""])
def test_annotations_left_by_a_killed_move_are_reported_and_removed(cidr: str, other: bool, by_kubectl: bool) -> None:
    cluster = public(cidr)
    kept: tuple[str | None, str | None] = (None, None)
    if other:
        make_public(cluster, "far", "198.51.100.0/24", "calico-bgp")
        cluster.attach("b", network="prod/far", ip="198.51.100.7")
        kept = ("far", "198.51.100.7")
    cluster.attach("a", network=PUB, ip=FIRST)
    killed_move(cluster)
    assert public_annotations(cluster, "b")[1] == ",".join(filter(None, [kept[1], FIRST]))
    cluster.detach("a", network=PUB)
    if by_kubectl:
        cluster.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    else:
        assert not cluster.delete_network("pub").errors
    [line] = told(cluster)
    assert f"VM prod/b requests network prod/pub, which does not exist, and still has {FIRST}" in line
    assert not cluster.detach("b", network=PUB).errors
    assert public_annotations(cluster, "b") == kept
    assert told(cluster) == []


def test_address_that_may_belong_to_another_network_is_kept() -> None:
    """One without a CIDR, or one that is gone too: what it was given goes with the last of them."""
    cluster = public()
    for name in ("far", "loose"):
        make_public(cluster, name, "198.51.100.0/24" if name == "far" else "", "calico-bgp")
    cluster.attach("b", network=PUB, ip=FIRST)
    cluster.attach("b", network="prod/far", ip="198.51.100.7")
    cluster.attach("b", network="prod/loose", ip="192.0.2.7")
    for name in ("pub", "far"):
        cluster.api.drop(NETWORKWIZARD.ref(name, "prod"))
    texts = f"{FIRST},198.51.100.7,192.0.2.7"
    cluster.detach("b", network=PUB)
    assert public_annotations(cluster, "b") == ("far,loose", texts)
    cluster.detach("b", network="prod/far")
    assert public_annotations(cluster, "b") == ("loose", texts)
    cluster.detach("b", network="prod/loose")
    assert public_annotations(cluster, "b") == (None, None)


def test_running_vm_needs_no_restart_for_a_public_address() -> None:
    cluster = public()
    cluster.running("c")
    cluster.attach("c", network=PUB, ip=FIRST)
    cluster.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    done = cluster.detach("c", network=PUB)
    assert (public_annotations(cluster, "c"), done.notes) == ((None, None), ())


def test_address_requested_without_its_network_is_kept() -> None:
    cluster = public()
    make_public(cluster, "far", "198.51.100.0/24", "calico-bgp")
    asking = {PUBLIC_NETWORK: "pub", PUBLIC_IP: f"{FIRST},198.51.100.7"}
    cluster.api.change(cluster.now("b").ref, lambda obj: obj["metadata"].update(annotations=asking))
    cluster.api.drop(NETWORKWIZARD.ref("pub", "prod"))
    cluster.detach("b", network=PUB)
    assert public_annotations(cluster, "b") == (None, "198.51.100.7")


def test_detach_from_the_last_deleted_network_removes_all_remaining_annotations() -> None:
    cluster = public()
    make_public(cluster, "far", "198.51.100.0/24", "calico-bgp")
    make_public(cluster, "near", "192.0.2.0/24", "calico-bgp")
    for name, ip in (("pub", FIRST), ("far", "198.51.100.7"), ("near", "192.0.2.7")):
        cluster.attach("b", network=f"prod/{name}", ip=ip)
    for name in ("pub", "far"):
        cluster.api.drop(NETWORKWIZARD.ref(name, "prod"))
    cluster.detach("b", network=PUB)
    assert public_annotations(cluster, "b") == ("far,near", f"{FIRST},198.51.100.7,192.0.2.7")
    cluster.detach("b", network="prod/far")
    assert public_annotations(cluster, "b") == ("near", "192.0.2.7")
