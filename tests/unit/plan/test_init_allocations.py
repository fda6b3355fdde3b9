"""A network without a status assigns no address before existing addresses are recorded.

| the allocations are lost, and then      | what happens                                                         |
|-----------------------------------------|----------------------------------------------------------------------|
| vm attach, ips reserve, move, import    | refused, nothing written, whatever is previewed                      |
| sync, network create, ips rebuild       | addresses on VMs are recorded, then the network is initialized       |
| a rebuild that finds nobody             | the network is initialized                                           |
| the user cannot list all VMs            | not initialized, except a network that this very run has created     |
| a run is killed before the end          | not initialized until the same command completes it                  |
| another network overlaps it             | not initialized, and no new VM gets an address of it                 |
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.ovs.spec import DHCPSERVER
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.sync import SyncReport, sync
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import NETWORK
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, parse_network
from kubectl_yoshi.model.objects import EVENT, ObjectRef, annotations_of, dig, name_of
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.import_.planner import ImportRequest, plan_import
from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move
from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
from kubectl_yoshi.plan.rebuild.planner import RebuildRequest, plan_rebuild
from kubectl_yoshi.plan.sync.planner import SyncScope
from tests.unit.plan.fake_api import _error, served
from tests.unit.plan.fake_cluster import BACKENDS, SERVED, FakeCluster, refusal, wizard

pytestmark = pytest.mark.I1

CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])
BLUE = NETWORKWIZARD.ref("blue", "prod")
MINE = "10.133.0.1"


def restored(cidr: str, asks: bool = True) -> FakeCluster:
    """A cluster of which a restore has left out all status: a stopped VM is pinned, and no record says so."""
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, EVENT))
    cluster.network(cidr=cidr)
    cluster.vm()
    cluster.attach(ip=MINE)
    cluster.api.change(BLUE, lambda obj: obj.pop("status"))
    for block in cluster.api.every(ADDRESSBLOCK):
        cluster.api.drop(ADDRESSBLOCK.ref(name_of(block), "prod"))
    if not asks:
        cluster.api.change(VM.ref("web-1", "prod"), lambda obj: annotations_of(obj).clear())
    cluster.api.writes.clear()
    return cluster


def passed(cluster: FakeCluster) -> SyncReport:
    return sync(SyncScope(None), BACKENDS, cluster.api)  # type: ignore[arg-type]


def rebuild(cluster: FakeCluster) -> RunResult:
    return cluster.run(plan_rebuild, RebuildRequest())


def create(cluster: FakeCluster) -> RunResult:
    cidr = str(parse_network(cluster.api.get(BLUE)).cidr)
    return cluster.run(plan_network, NetworkRequest("prod", "blue", wizard("blue", cidr)))


def is_initialized(cluster: FakeCluster) -> bool:
    return parse_network(cluster.api.get(BLUE)).is_initialized


def newcomer_gets_another(cluster: FakeCluster) -> None:
    cluster.vm("late")
    with pytest.raises(PreconditionFailed, match=r"10\.133\.0\.1 is not free|prod/late"):
        raise cluster.attach("late", ip=MINE).errors["prod/late"]
    assert not cluster.attach("late").errors
    assert cluster.pin("late") not in ("", MINE)
    cluster.check()


@CIDRS
@pytest.mark.parametrize(
    "ask",
    [
        lambda cluster: cluster.attach("late"),
        lambda cluster: cluster.attach("late", ip=MINE),
        lambda cluster: cluster.attach("late", dry_run="client"),
        lambda cluster: cluster.attach("late", dry_run="server"),
        lambda cluster: cluster.reserve(),
        lambda cluster: cluster.reserve(MINE),
        lambda cluster: cluster.run(plan_move, MoveRequest(parse_address(MINE), ("prod", "late"), ("prod", "blue"))),
        lambda cluster: cluster.run(
            plan_import, ImportRequest(("prod", "blue"), (ExistingAddress(("prod", "late"), parse_address(MINE)),))
        ),
    ],
    ids=["attach", "attach --ip", "dry-run=client", "dry-run=server", "reserve", "reserve IP", "move", "import"],
)
def test_no_address_is_assigned_while_the_allocations_are_lost(
    cidr: str, ask: Callable[[FakeCluster], RunResult]
) -> None:
    cluster = restored(cidr)
    cluster.vm("late")
    with pytest.raises(PreconditionFailed, match=r"assigns no addresses yet.*its status was lost") as refused:
        ask(cluster)
    assert "kubectl yoshi sync -n prod" in refused.value.hint
    assert "kubectl yoshi ips rebuild --network prod/blue" in refused.value.hint
    assert cluster.api.writes == []


def test_network_being_deleted_is_reported_first() -> None:
    cluster = restored("10.133.0.0/24")
    cluster.vm("late")
    cluster.api.change(BLUE, lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    with pytest.raises(PreconditionFailed, match="prod/blue is being deleted"):
        cluster.attach("late")


@CIDRS
@pytest.mark.parametrize("opens", [passed, rebuild, create])
def test_initialization_records_existing_addresses_first(cidr: str, opens: Callable[[FakeCluster], object]) -> None:
    cluster = restored(cidr, asks=False)
    opens(cluster)
    assert is_initialized(cluster)
    record = cluster.records()[MINE]
    assert (record.holder, record.uid, record.mac) == ("prod/web-1", cluster.now().uid, cluster.mac())
    newcomer_gets_another(cluster)
    cluster.api.writes.clear()
    opens(cluster)
    assert cluster.api.writes == []


@CIDRS
def test_sync_records_existing_addresses_before_assigning_new_ones(cidr: str) -> None:
    cluster = restored(cidr)
    for number in range(3):
        vm = cluster.vm(f"asks-{number}")
        cluster.api.change(
            vm.ref, lambda obj: obj["metadata"].update(annotations={BACKENDS["calico"].annotation_key: "blue"})
        )
    assert not passed(cluster).failure_count
    assert cluster.pin() == MINE
    assert len({cluster.pin(f"asks-{number}") for number in range(3)} - {MINE, ""}) == 3
    cluster.check()


@CIDRS
def test_rebuild_initializes_a_network_without_addresses_in_use(cidr: str) -> None:
    cluster = restored(cidr)
    cluster.delete_vm()
    assert rebuild(cluster).plan.results == {"prod/blue": "0"}
    assert is_initialized(cluster)
    cluster.vm("late")
    assert not cluster.attach("late").errors
    cluster.check()
    cluster.api.writes.clear()
    assert not rebuild(cluster).plan
    assert cluster.api.writes == []


def test_sync_reports_a_duplicate_address_and_one_vm_keeps_it() -> None:
    cluster = restored("10.133.0.0/24")
    cluster.api.clock.sleep(1)
    cluster.vm("twin", pin=MINE)
    report = passed(cluster)
    assert any(line.startswith("contradiction: ") and "prod/twin has it too" in line for line in report.lines)
    assert cluster.records()[MINE].holder == "prod/web-1"


# -- without permission to list all VMs --------------------------------------------------------------------------------


def only_own_namespace(cluster: FakeCluster) -> None:
    def forbid(verb: str, ref: ObjectRef) -> None:
        if verb == "list" and ref.namespace is None and ref.resource == VM:
            says = 'User "web" cannot list resource "virtualmachines" at the cluster scope'
            raise _error(403, "Forbidden", says, verb, ref)

    cluster.api.before.append(forbid)


@CIDRS
@pytest.mark.parametrize("opens", [passed, rebuild, create])
def test_network_stays_uninitialized_without_permission_to_list_all_vms(
    cidr: str, opens: Callable[[FakeCluster], object]
) -> None:
    cluster = restored(cidr)
    only_own_namespace(cluster)
    try:
        opens(cluster)
    except PreconditionFailed as refused:
        assert "may not list" in refused.message
    assert not is_initialized(cluster)
    cluster.vm("late")
    with pytest.raises(PreconditionFailed, match="assigns no addresses yet"):
        cluster.attach("late")


def test_new_network_is_initialized_with_what_its_creator_can_read() -> None:
    cluster = FakeCluster()
    cluster.vm(pin=MINE)
    only_own_namespace(cluster)
    cluster.network()
    assert cluster.holders() == {MINE: "prod/web-1"}
    newcomer_gets_another(cluster)


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["get", "list"])
def test_new_network_is_initialized_without_permission_to_read_ipam(verb: str) -> None:
    cluster = FakeCluster()
    for resource in (RAW.information, RAW.block) if verb == "list" else (RAW.information,):
        cluster.api.refuse(verb, resource)
    assert cluster.network().is_initialized
    assert cluster.api.tried["create", NETWORKWIZARD.plural] == 1
    assert cluster.records() == {}


def test_network_that_cannot_be_created_is_not_initialized() -> None:
    cluster = restored("10.133.0.0/24")
    theirs = {"metadata": {"name": "theirs"}, "spec": {"cidr": "10.133.0.0/20"}}
    cluster.api.put(RAW.pool, theirs)
    assert passed(cluster).network_errors
    assert dig(cluster.api.get(BLUE), "status", "created") is False
    assert not is_initialized(cluster)
    with pytest.raises(PreconditionFailed, match=r"prod/blue is not ready: .* overlaps ippool/theirs"):
        cluster.attach()
    cluster.api.drop(RAW.pool.ref("theirs"))
    assert not passed(cluster).failure_count
    newcomer_gets_another(cluster)


def test_abandoned_deletion_does_not_initialize_a_network() -> None:
    cluster = restored("10.133.0.0/24")
    cluster.delete_vm()

    def starts(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref == BLUE:  # the mark that the deletion is begun
            cluster.api.before.clear()
            cluster.running(pin=MINE)

    cluster.api.before.append(starts)
    with pytest.raises(PreconditionFailed, match="Calico still holds"):
        cluster.delete_network()
    assert cluster.networks() == ["blue"]
    assert not is_initialized(cluster)
    assert not passed(cluster).failure_count
    newcomer_gets_another(cluster)


@pytest.mark.parametrize("opens", [passed, rebuild])
def test_run_killed_between_two_blocks_does_not_initialize_the_network(opens: Callable[[FakeCluster], object]) -> None:
    cluster = restored("10.133.0.0/16")
    cluster.vm("far", pin="10.133.7.7")
    dead = False

    def die(verb: str, ref: ObjectRef) -> None:
        nonlocal dead
        dead = dead or (
            verb == "patch" and ref.resource in (ADDRESSBLOCK, NETWORKWIZARD) and len(cluster.holders()) == 1
        )
        if dead and verb != "get" and verb != "list":
            raise KeyboardInterrupt

    cluster.api.before.append(die)
    with pytest.raises(KeyboardInterrupt):
        opens(cluster)
    assert not is_initialized(cluster)
    cluster.api.before.clear()
    opens(cluster)
    assert cluster.holders() == {MINE: "prod/web-1", "10.133.7.7": "prod/far"}
    newcomer_gets_another(cluster)


@pytest.mark.parametrize("served_still", [True, False], ids=["its server is there", "its server is gone"])
@pytest.mark.parametrize("opens", [passed, rebuild])
def test_infrastructure_address_is_recorded_for_the_network(
    opens: Callable[[FakeCluster], object], served_still: bool
) -> None:
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, EVENT))
    cluster.network("lab", "10.20.0.0/24", plugin="ovs", ovs={"bridge": "br-ext", "nic": "eth1", "vlan": 20})
    cluster.vm()
    cluster.attach(network="prod/lab", ip="10.20.0.2")
    cluster.vm("first")
    before = {address: (record.kind, record.holder, record.uid) for address, record in cluster.records("lab").items()}
    assert before["10.20.0.1"] == (NETWORK, "the network itself (DHCP server)", before["10.20.0.1"][2])
    if not served_still:
        cluster.api.drop(DHCPSERVER.ref("lab", "prod"))
        cluster.attach("first", network="prod/lab", ip="10.20.0.9")
        cluster.api.change(NETWORKWIZARD.ref("lab", "prod"), lambda obj: obj["spec"].update(range_end="10.20.0.9"))
    cluster.api.change(NETWORKWIZARD.ref("lab", "prod"), lambda obj: obj.pop("status"))
    opens(cluster)
    after = {address: (record.kind, record.holder, record.uid) for address, record in cluster.records("lab").items()}
    if served_still:
        assert after == before
    passed(cluster)
    cluster.vm("late")
    assert not cluster.attach("late", network="prod/lab").errors
    server = cluster.api.get(DHCPSERVER.ref("lab", "prod"))["spec"]["networks"][0]["interfaceIp"].partition("/")[0]
    assert cluster.records("lab")[server].kind == NETWORK
    assert {"10.20.0.2", server} <= cluster.records("lab").keys()
    assert [record.kind for record in cluster.records("lab").values()].count(NETWORK) == 1


# -- networks that another one overlaps ------------------------------------------------------------------------------


def overlapped(cluster: FakeCluster, cidr: str = "10.133.0.0/25") -> None:
    """Network prod/blue, which works, and prod/late, applied with kubectl over a part of it."""
    cluster.network("blue", "10.133.0.0/24")
    cluster.api.put(NETWORKWIZARD, wizard("late", cidr))


def test_rebuild_does_not_initialize_an_overlapped_network() -> None:
    cluster = FakeCluster()
    overlapped(cluster)
    done = cluster.run(plan_rebuild, RebuildRequest())
    assert done.notes == ("network prod/late is skipped: 10.133.0.0/25 overlaps network prod/blue (10.133.0.0/24)",)
    assert not parse_network(cluster.api.get(NETWORKWIZARD.ref("late", "prod"))).is_initialized
    cluster.vm()
    with pytest.raises(PreconditionFailed, match="assigns no addresses yet"):
        cluster.attach(network="prod/late")


def test_refused_network_reports_its_reason_on_attach() -> None:
    cluster = FakeCluster()
    overlapped(cluster)
    assert cluster.sync_network("late").errors
    cluster.vm()
    with pytest.raises(PreconditionFailed) as refused:
        cluster.attach(network="prod/late")
    assert refused.value.message == (
        "network prod/late is not ready: 10.133.0.0/25 overlaps network prod/blue (10.133.0.0/24)"
    )
    assert "kubectl yoshi network describe late -n prod" in refused.value.hint


def test_network_no_longer_ready_keeps_its_vms_and_assigns_no_new_address() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.vm()
    cluster.vm("web-2")
    cluster.attach()
    cluster.api.put(RAW.pool, {"metadata": {"name": "theirs"}, "spec": {"cidr": "10.133.0.0/16"}})
    assert cluster.sync_network().errors
    assert not cluster.attach().errors
    assert "prod/blue is not ready: " in refusal(cluster.attach("web-2"), "prod/web-2").message
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}
    cluster.api.drop(RAW.pool.ref("theirs"))
    assert not cluster.sync_network().errors
    assert not cluster.attach("web-2").errors
