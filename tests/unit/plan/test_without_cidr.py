"""Public networks assign any address outside their CIDR, or have none, but none of another network (I1), in any
order.

| The address is                           | What happens                                          |
|------------------------------------------|-------------------------------------------------------|
| in the CIDR of another network           | attaching and reserving are refused                   |
| held by another network outside its CIDR | attaching and reserving, and a CIDR over it, are      |
| recorded by two at the same moment       | one at most keeps it, and nothing of the other's stays |
| one more than 256                        | attaching, reserving and importing are refused        |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import
from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.plan.fake_cluster import FakeCluster, refusal
from tests.unit.plan.test_public import FIRST, SECOND, make_public, public, requested_public_ip, services

pytestmark = pytest.mark.I1

NETWORKS = ["pub", "far"]


CLUSTERS = [
    ("calico-bgp", "", ""),
    ("metallb-l2", "", ""),
    ("calico-bgp", "198.18.0.0/24", "198.19.0.0/16"),
    ("metallb-l2", "198.18.0.0/16", "198.19.0.0/24"),
]


@pytest.fixture(params=CLUSTERS, ids=lambda made: "-".join(filter(None, made)))
def cluster(request: pytest.FixtureRequest) -> FakeCluster:
    """A cluster with networks pub and far, which have no CIDR, or a small and a large one, and VMs a and b."""
    announce, cidr, other = request.param
    made = public(cidr, announce)
    make_public(made, "far", other, announce)
    return made


def meanwhile(cluster: FakeCluster, happens: Callable[[], object]) -> FakeCluster:
    """The world of somebody right before whose first record something happens."""
    mine = cluster.second_client(1)
    mine.api.before.clear()

    def look(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", NETWORKWIZARD):
            mine.api.before.clear()
            happens()

    mine.api.before.append(look)
    return mine


def refused(run: Callable[[], RunResult]) -> str:
    """Why a run did nothing; "" where it did."""
    try:
        return "; ".join(error.message for error in run().errors.values())
    except YoshiError as error:
        return error.message


def whole(cluster: FakeCluster, held: dict[str, str]) -> bool:
    """Whether this and nothing else is recorded in any network, asked for by VMs and on Services."""
    recorded: dict[str, str] = {}
    for name in cluster.networks():
        recorded |= cluster.holders(name)
    asked = {f"prod/{name}": requested_public_ip(cluster, name) for name in "ab"}
    served = {f"prod/{name}": address for name, address in services(cluster).items()}
    on_vms = {holder: address for address, holder in held.items() if holder.startswith("prod/")}
    return recorded == held and {vm: ip for vm, ip in asked.items() if ip} == on_vms == served


# -- one after the other -----------------------------------------------------------------------------------------------


def test_address_allocated_by_one_network_is_refused_by_another(cluster: FakeCluster) -> None:
    cluster.attach("a", network="prod/pub", ip=FIRST)
    of_other = f"{FIRST} belongs to network prod/pub, not to prod/far"
    assert of_other in refused(lambda: cluster.attach("b", network="prod/far", ip=FIRST))
    assert of_other in refused(lambda: cluster.reserve(FIRST, network="far", note="printer"))
    assert whole(cluster, {FIRST: "prod/a"})


def test_address_in_the_cidr_of_one_network_is_refused_by_another(cluster: FakeCluster) -> None:
    make_public(cluster, "wide", "203.0.113.0/24", "calico-bgp")
    of_other = f"{FIRST} belongs to network prod/wide, not to prod/far"
    assert of_other in refused(lambda: cluster.attach("b", network="prod/far", ip=FIRST))
    assert of_other in refused(lambda: cluster.reserve(FIRST, network="far"))
    assert whole(cluster, {})


@pytest.mark.parametrize("note", ["", "printer"])
def test_network_over_an_allocated_address_of_another_is_refused(cluster: FakeCluster, note: str) -> None:
    if note:
        cluster.reserve(FIRST, network="far", note=note)
    else:
        cluster.attach("a", network="prod/far", ip=FIRST)
    holder = cluster.holders("far")[FIRST]
    with pytest.raises(PreconditionFailed) as error:
        make_public(cluster, "wide", "203.0.113.0/24", "calico-bgp")
    assert f"203.0.113.0/24 overlaps network prod/far, which has {FIRST} ({holder})" in error.value.message
    assert cluster.networks() == ["far", "pub"]


def test_addresses_of_a_network_with_an_invalid_spec_are_refused_by_others(cluster: FakeCluster) -> None:
    make_public(cluster, "wide", "203.0.113.0/24", "calico-bgp")
    cluster.attach("a", network="prod/pub", ip="198.51.100.7")
    for name in ("wide", "pub"):
        ref = NETWORKWIZARD.ref(name, "prod")
        cluster.api.change(ref, lambda obj: obj["spec"].update(exclude=["10.200.0.0/24"]))
    assert "belongs to network prod/wide" in refused(lambda: cluster.attach("b", network="prod/far", ip=FIRST))
    assert "belongs to network prod/pub" in refused(lambda: cluster.attach("b", network="prod/far", ip="198.51.100.7"))
    for cidr, other in (("203.0.113.0/25", "wide"), ("198.51.100.0/24", "pub")):
        with pytest.raises(PreconditionFailed, match=f"overlaps network prod/{other}"):
            make_public(cluster, "more", cidr, "calico-bgp")


# -- how many ---------------------------------------------------------------------------------------------------------


def fill(cluster: FakeCluster, name: str, count: int) -> None:
    """Record so many addresses outside the CIDR of a network, as reservations."""
    held = {f"192.0.{number // 256}.{number % 256}": {"kind": "Reservation"} for number in range(count)}

    def add(obj: Json) -> None:
        obj["status"].setdefault("allocations", {}).update(held)

    cluster.api.change(NETWORKWIZARD.ref(name, "prod"), add)


def adopt(cluster: FakeCluster, vm: str, address: str) -> RunResult:
    given = ExistingAddress(("prod", vm), parse_address(address))
    return cluster.run(plan_import, ImportRequest(("prod", "pub"), (given,)))


RECORDS = {
    "attach": lambda cluster: cluster.attach("a", network="prod/pub", ip=FIRST),
    "reserve": lambda cluster: cluster.reserve(FIRST, network="pub"),
    "import": lambda cluster: adopt(cluster, "a", FIRST),
}


@pytest.mark.parametrize("how", RECORDS)
def test_network_records_at_most_256_addresses_outside_its_cidr(cluster: FakeCluster, how: str) -> None:
    fill(cluster, "pub", 256)
    before = cluster.holders("pub")
    said = refused(lambda: RECORDS[how](cluster))
    has_cidr = "cidr" in cluster.api.get(NETWORKWIZARD.ref("pub", "prod"))["spec"]
    limit = "can hold 256 addresses outside its CIDR" if has_cidr else "has no CIDR and can hold 256 addresses"
    assert said == f"network prod/pub {limit}: 256 are recorded, and 1 more requested"
    assert cluster.holders("pub") == before
    cluster.release("192.0.0.0", network="pub")
    assert not refused(lambda: RECORDS[how](cluster))
    assert FIRST in cluster.holders("pub")
    assert len(cluster.holders("pub")) == 256


def test_limit_counts_several_addresses_of_one_command_together(cluster: FakeCluster) -> None:
    fill(cluster, "pub", 255)
    assert "255 are recorded, and 2 more requested" in refused(lambda: cluster.reserve(FIRST, SECOND, network="pub"))
    assert not cluster.reserve(FIRST, network="pub").errors


def test_full_network_still_serves_its_vms(cluster: FakeCluster) -> None:
    cluster.attach("a", network="prod/pub", ip=FIRST)
    fill(cluster, "pub", 300)
    assert not cluster.attach("a", network="prod/pub", ip=FIRST).errors
    moved = cluster.run(plan_move, MoveRequest(parse_address(FIRST), ("prod", "b"), ("prod", "pub")))
    assert moved.results == {"prod/b": FIRST}
    assert not cluster.run(plan_rebuild, RebuildRequest(("prod", "pub"))).errors
    cluster.detach("b", network="prod/pub")
    assert len(cluster.holders("pub")) == 300


# -- at the same moment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserves", [False, True], ids=["attach", "reserve"])
def test_slower_of_two_networks_recording_one_address_rolls_back(cluster: FakeCluster, reserves: bool) -> None:
    mine = meanwhile(cluster, lambda: cluster.attach("b", network="prod/far", ip=FIRST))
    if reserves:
        said = refused(lambda: mine.reserve(FIRST, network="pub"))
    else:
        said = refusal(mine.attach("a", network="prod/pub", ip=FIRST), "prod/a").message
    assert f"{FIRST} belongs to network prod/far, not to prod/pub" in said
    assert whole(cluster, {FIRST: "prod/b"})


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_commands_never_record_an_address_twice(cluster: FakeCluster, seed: int) -> None:
    def attach(mine: FakeCluster, vm: str, network: str) -> Any:
        return mine.attach(vm, network=f"prod/{network}", ip=FIRST)

    cluster.run_concurrently(
        lambda mine: attach(mine, "a", "pub"),
        lambda mine: attach(mine, "b", "far"),
        lambda mine: make_public(mine, "wide", "203.0.113.0/24", "calico-bgp"),
        seed=seed,
    )
    cluster.collect()  # the network with a CIDR records whom it finds with an address, for which it may have gone since
    held = [*cluster.holders("pub").items(), *cluster.holders("far").items()]
    assert len(held) + ("wide" in cluster.networks()) <= 1
    assert whole(cluster, dict(held))
