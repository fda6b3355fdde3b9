"""spec.maxAddressesPerNamespace: no path assigns the VMs of a namespace more addresses.

one after the other, many at once, by one command     small network, large network; also what `ips import` adopts
who has an address keeps it                           attached again, another address, recreated, quota lowered
what does not count                                   reservations, other namespaces, other networks
what is not refused                                   rebuild, which says so
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.network import NETWORKWIZARD, parse_network
from kubectl_yoshi.model.objects import ObjectRef
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.attach.quota import check_quota_room, list_quota_violations
from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from tests.unit.plan.fake_cluster import FakeCluster, refusal, wizard

SMALL, LARGE = "10.133.0.0/24", "10.133.0.0/16"
SIZES = pytest.mark.parametrize("cidr", [SMALL, LARGE])


def limited(cidr: str, most: int) -> FakeCluster:
    """Network prod/blue, of whose addresses the VMs of a namespace may hold so many."""
    cluster = FakeCluster()
    cluster.network(cidr=cidr, maxAddressesPerNamespace=most)
    return cluster


@SIZES
def test_quota_of_a_namespace_is_enforced_with_a_hint(cidr: str) -> None:
    cluster = limited(cidr, 2)
    for name in ("web-1", "web-2", "web-3"):
        cluster.vm(name)
    assert not cluster.attach("web-1").errors
    assert not cluster.attach("web-2").errors
    error = refusal(cluster.attach("web-3"), "prod/web-3")
    assert error.message == "namespace prod holds 2 addresses of network prod/blue, which allows 2 per namespace"
    assert "Detach a VM of it" in error.hint
    assert "kubectl edit networkwizard blue -n prod" in error.hint
    assert cluster.pin("web-3") == ""
    assert set(cluster.holders().values()) == {"prod/web-1", "prod/web-2"}

    cluster.detach("web-1")
    assert not cluster.attach("web-3").errors
    cluster.check()


@SIZES
@pytest.mark.parametrize("ip", ["", "10.133.0.77"])
def test_quota_applies_to_requested_and_adopted_addresses(cidr: str, ip: str) -> None:
    cluster = limited(cidr, 1)
    cluster.vm("web-1")
    cluster.vm("web-2", pin=ip)
    cluster.attach("web-1")
    assert "which allows 1 per namespace" in refusal(cluster.attach("web-2"), "prod/web-2").message
    assert (
        "which allows 1 per namespace" in refusal(cluster.attach("web-2", ip=ip or "10.133.0.9"), "prod/web-2").message
    )
    assert len(cluster.holders()) == 1


@SIZES
def test_one_command_attaches_vms_up_to_the_quota(cidr: str) -> None:
    cluster = limited(cidr, 3)
    names = [f"web-{number}" for number in range(5)]
    for name in names:
        cluster.vm(name)
    done = cluster.attach(*names)
    assert set(done.errors) == {"prod/web-3", "prod/web-4"}
    assert len(cluster.holders()) == 3
    assert len(done.results) == 3
    cluster.check()


@SIZES
def test_each_namespace_has_its_own_quota(cidr: str) -> None:
    cluster = limited(cidr, 1)
    cluster.vm("web-1")
    cluster.vm("web-1", "dev")
    cluster.attach("prod/web-1")
    assert not cluster.attach("dev/web-1").errors


@SIZES
def test_attached_vm_is_not_refused_at_the_quota(cidr: str) -> None:
    cluster = limited(cidr, 1)
    cluster.vm()
    cluster.attach()
    assert not cluster.attach().errors  # again
    assert not cluster.attach(ip="10.133.0.9", replace=True).errors
    assert cluster.holders() == {"10.133.0.9": "prod/web-1"}
    cluster.delete_vm()
    cluster.vm()
    assert not cluster.attach().errors  # recreated
    assert set(cluster.holders().values()) == {"prod/web-1"}


@SIZES
def test_lowered_quota_releases_nothing_and_refuses_new_vms(cidr: str) -> None:
    cluster = limited(cidr, 3)
    for name in ("web-1", "web-2", "web-3"):
        cluster.vm(name)
    cluster.attach("web-1", "web-2")
    blue = NETWORKWIZARD.ref("blue", "prod")
    cluster.api.change(blue, lambda obj: obj["spec"].update(maxAddressesPerNamespace=1))
    assert not cluster.attach("web-1", "web-2").errors
    error = refusal(cluster.attach("web-3"), "prod/web-3")
    assert error.message == "namespace prod holds 2 addresses of network prod/blue, which allows 1 per namespace"
    assert len(cluster.holders()) == 2


def test_reservations_do_not_count_for_the_quota() -> None:
    cluster = limited(SMALL, 1)
    cluster.vm()
    assert not cluster.reserve("10.133.0.7", "10.133.0.8").errors
    assert not cluster.attach().errors


@SIZES
@pytest.mark.parametrize("seed", range(5))
def test_concurrent_attaches_fill_the_quota_exactly(cidr: str, seed: int) -> None:
    cluster = limited(cidr, 3)
    names = [f"web-{number}" for number in range(8)]
    for name in names:
        cluster.vm(name)
    done = cluster.run_concurrently(*(lambda mine, name=name: mine.attach(name) for name in names), seed=seed)
    got = [one for one in done if not isinstance(one, Exception) and not one.errors]
    assert len(got) == 3
    assert sum(1 for name in names if cluster.pin(name)) == len(cluster.holders()) == 3
    for one in done:
        if one not in got:
            error = one if isinstance(one, Exception) else next(iter(one.errors.values()))
            assert "allows 3 per namespace" in str(error)
    cluster.check()


def adopt(cluster: FakeCluster, *names: str) -> RunResult:
    """Import these addresses with `ips import`: web-7 has the address with 7 at its end."""
    given = tuple(
        ExistingAddress(("prod", name), parse_address(f"10.133.0.{name.partition('-')[2]}")) for name in names
    )
    return cluster.run(plan_import, ImportRequest(("prod", "blue"), given))


@SIZES
def test_concurrent_adoptions_do_not_exceed_the_quota(cidr: str) -> None:
    cluster = limited(cidr, 1)
    cluster.vm("web-1", pin="10.133.0.9")
    cluster.vm("web-2", pin="10.133.0.200" if cidr == SMALL else "10.133.1.9")
    mine = cluster.second_client(1)

    def meanwhile(verb: str, ref: ObjectRef) -> None:
        if verb == "patch":
            mine.api.before.clear()
            assert not cluster.attach("web-2").errors

    mine.api.before[:] = [meanwhile]
    assert "allows 1 per namespace" in refusal(mine.attach("web-1"), "prod/web-1").message
    assert list(cluster.holders().values()) == ["prod/web-2"]
    assert cluster.pin("web-1") == "10.133.0.9"


@SIZES
def test_recorded_address_is_kept_under_a_lowered_quota(cidr: str) -> None:
    cluster = limited(cidr, 2)
    for name in ("web-1", "web-2"):
        cluster.vm(name)
        cluster.attach(name)
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["spec"].update(maxAddressesPerNamespace=1))
    held = cluster.holders()
    assert not cluster.attach("web-1", mac="02:00:00:00:00:07").errors  # the record is written again
    assert cluster.holders() == held


@SIZES
def test_import_adopts_addresses_up_to_the_quota(cidr: str) -> None:
    cluster = limited(cidr, 2)
    for name in ("web-7", "web-8", "web-9"):
        cluster.vm(name)
    cluster.attach("web-8")
    done = adopt(cluster, "web-7", "web-9")
    assert done.results == {"prod/web-7": "10.133.0.7"}
    assert "which allows 2 per namespace" in refusal(done, "prod/web-9").message
    assert set(cluster.holders().values()) == {"prod/web-7", "prod/web-8"}
    assert not adopt(cluster, "web-7").errors  # again
    cluster.check()


@SIZES
@pytest.mark.parametrize("seed", range(3))
def test_concurrent_imports_and_attaches_share_the_quota(cidr: str, seed: int) -> None:
    cluster = limited(cidr, 3)
    names = [f"web-{number}" for number in range(11, 19)]
    for name in names:
        cluster.vm(name)
    imports = [lambda mine, some=names[at : at + 2]: adopt(mine, *some) for at in (0, 2)]
    attach = [lambda mine, name=name: mine.attach(name) for name in names[4:]]
    cluster.run_concurrently(*imports, *attach, seed=seed)
    assert sum(1 for name in names if cluster.pin(name)) == len(cluster.holders()) == 3
    cluster.check()


@pytest.mark.parametrize("seed", range(3))
def test_allocations_of_a_small_network_never_exceed_the_quota(seed: int) -> None:
    cluster = limited(SMALL, 2)
    most: list[int] = []
    blue = NETWORKWIZARD.ref("blue", "prod")

    def look(verb: str, ref: object) -> None:
        obj = cluster.api.look(blue)
        assert obj is not None
        most.append(len(obj["status"]["allocations"]))

    cluster.api.before.append(look)
    names = [f"web-{number}" for number in range(6)]
    for name in names:
        cluster.vm(name)

    def attach_and_watch(mine: FakeCluster, name: str) -> None:
        mine.api.before.append(look)
        mine.attach(name)

    cluster.run_concurrently(
        *(partial(lambda mine, name: attach_and_watch(mine, name), name=name) for name in names), seed=seed
    )
    assert max(most) == 2


def test_rebuild_exceeds_the_quota_and_reports_it() -> None:
    cluster = limited(SMALL, 1)
    cluster.vm("web-1", pin="10.133.0.7")
    cluster.vm("web-2", pin="10.133.0.8")
    done = cluster.run(plan_rebuild, RebuildRequest(("prod", "blue")))
    assert len(cluster.holders()) == 2
    assert "namespace prod holds 2 addresses of network prod/blue, which allows 1 per namespace" in done.notes


NAMES = st.tuples(st.sampled_from(["prod", "dev", "test"]), st.sampled_from("abcdef"))


@given(st.dictionaries(st.integers(1, 200), st.tuples(NAMES, st.booleans())), st.integers(1, 6), NAMES)
def test_check_quota_room_counts_the_vms_of_the_namespace(
    held: dict[int, tuple[tuple[str, str], bool]], most: int, asks: tuple[str, str]
) -> None:
    blue = parse_network(wizard("blue", SMALL, maxAddressesPerNamespace=most))
    records = {n: Allocation(VIRTUALMACHINE if vm else RESERVATION, *name) for n, (name, vm) in held.items()}
    holders = {name for name, vm in held.values() if vm}
    there = Counter(namespace for namespace, _ in holders)
    room = asks in holders or there[asks[0]] < most
    vm = Vm({"metadata": {"namespace": asks[0], "name": asks[1]}, "spec": {}})
    if room:
        check_quota_room(blue, records.values(), vm)
    else:
        with pytest.raises(PreconditionFailed, match=f"namespace {asks[0]} holds {there[asks[0]]} addresses"):
            check_quota_room(blue, records.values(), vm)
    assert len(list(list_quota_violations(blue, records.values()))) == sum(
        1 for count in there.values() if count > most
    )


@pytest.mark.parametrize("value", [0, -1, True, "3", 1.5])
def test_invalid_quota_is_a_usage_error(value: object) -> None:
    with pytest.raises(UsageError, match="maxAddressesPerNamespace"):
        parse_network(wizard("blue", SMALL, maxAddressesPerNamespace=value))
