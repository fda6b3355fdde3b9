"""A network without a status gives out no address before those who have one of it are recorded.

| the ledger is lost, and then            | what happens                                                         |
|-----------------------------------------|----------------------------------------------------------------------|
| vm attach, ips reserve, move, import    | refused, nothing written, whatever is previewed                      |
| sync, network create, ips rebuild       | who carries an address is recorded, then the ledger is open          |
| a rebuild that finds nobody             | the ledger is open                                                   |
| whoever opens it may not see all VMs    | it stays closed; a network that this very run has made is opened     |
| a run is killed before the end          | closed until the same command completes it                           |
| another network overlaps it             | it stays closed, and nobody new gets an address of it                |
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
from tests.unit.plan.fake_cluster import BACKENDS, SERVED, World, refusal, wizard

pytestmark = pytest.mark.I1

CIDRS = pytest.mark.parametrize("cidr", ["10.133.0.0/24", "10.133.0.0/16"], ids=["in its status", "in blocks"])
BLUE = NETWORKWIZARD.ref("blue", "prod")
MINE = "10.133.0.1"


def restored(cidr: str, asks: bool = True) -> World:
    """A cluster of which a restore has left out all status: a stopped VM is pinned, and no record says so."""
    world = World()
    world.api.served = served((*SERVED, EVENT))
    world.network(cidr=cidr)
    world.vm()
    world.attach(ip=MINE)
    world.api.change(BLUE, lambda obj: obj.pop("status"))
    for block in world.api.every(ADDRESSBLOCK):
        world.api.drop(ADDRESSBLOCK.ref(name_of(block), "prod"))
    if not asks:
        world.api.change(VM.ref("web-1", "prod"), lambda obj: annotations_of(obj).clear())
    world.api.writes.clear()
    return world


def passed(world: World) -> SyncReport:
    return sync(SyncScope(None), BACKENDS, world.api)  # type: ignore[arg-type]


def rebuild(world: World) -> RunResult:
    return world.run(plan_rebuild, RebuildRequest())


def create(world: World) -> RunResult:
    cidr = str(parse_network(world.api.get(BLUE)).cidr)
    return world.run(plan_network, NetworkRequest("prod", "blue", wizard("blue", cidr)))


def is_initialized(world: World) -> bool:
    return parse_network(world.api.get(BLUE)).is_initialized


def newcomer_gets_another(world: World) -> None:
    world.vm("late")
    with pytest.raises(PreconditionFailed, match=r"10\.133\.0\.1 is not free|prod/late"):
        raise world.attach("late", ip=MINE).errors["prod/late"]
    assert not world.attach("late").errors
    assert world.pin("late") not in ("", MINE)
    world.check()


@CIDRS
@pytest.mark.parametrize(
    "ask",
    [
        lambda world: world.attach("late"),
        lambda world: world.attach("late", ip=MINE),
        lambda world: world.attach("late", dry_run="client"),
        lambda world: world.attach("late", dry_run="server"),
        lambda world: world.reserve(),
        lambda world: world.reserve(MINE),
        lambda world: world.run(plan_move, MoveRequest(parse_address(MINE), ("prod", "late"), ("prod", "blue"))),
        lambda world: world.run(
            plan_import, ImportRequest(("prod", "blue"), (ExistingAddress(("prod", "late"), parse_address(MINE)),))
        ),
    ],
    ids=["attach", "attach --ip", "dry-run=client", "dry-run=server", "reserve", "reserve IP", "move", "import"],
)
def test_no_address_is_given_out_while_the_ledger_is_lost(cidr: str, ask: Callable[[World], RunResult]) -> None:
    world = restored(cidr)
    world.vm("late")
    with pytest.raises(PreconditionFailed, match=r"assigns no addresses yet.*its status was lost") as refused:
        ask(world)
    assert "kubectl yoshi sync -n prod" in refused.value.hint
    assert "kubectl yoshi ips rebuild --network prod/blue" in refused.value.hint
    assert world.api.writes == []


def test_of_a_network_that_is_being_deleted_that_is_told_first() -> None:
    world = restored("10.133.0.0/24")
    world.vm("late")
    world.api.change(BLUE, lambda obj: obj["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"))
    with pytest.raises(PreconditionFailed, match="prod/blue is being deleted"):
        world.attach("late")


@CIDRS
@pytest.mark.parametrize("opens", [passed, rebuild, create])
def test_whoever_opens_the_ledger_records_first_who_has_an_address(cidr: str, opens: Callable[[World], object]) -> None:
    world = restored(cidr, asks=False)
    opens(world)
    assert is_initialized(world)
    record = world.records()[MINE]
    assert (record.holder, record.uid, record.mac) == ("prod/web-1", world.now().uid, world.mac())
    newcomer_gets_another(world)
    world.api.writes.clear()
    opens(world)
    assert world.api.writes == []


@CIDRS
def test_sync_serves_those_who_ask_only_after_those_who_have(cidr: str) -> None:
    world = restored(cidr)
    for number in range(3):
        vm = world.vm(f"asks-{number}")
        world.api.change(
            vm.ref, lambda obj: obj["metadata"].update(annotations={BACKENDS["calico"].annotation_key: "blue"})
        )
    assert not passed(world).failure_count
    assert world.pin() == MINE
    assert len({world.pin(f"asks-{number}") for number in range(3)} - {MINE, ""}) == 3
    world.check()


@CIDRS
def test_a_ledger_in_which_nobody_has_an_address_is_opened_by_a_rebuild(cidr: str) -> None:
    world = restored(cidr)
    world.drop_vm()
    assert rebuild(world).plan.results == {"prod/blue": "0"}
    assert is_initialized(world)
    world.vm("late")
    assert not world.attach("late").errors
    world.check()
    world.api.writes.clear()
    assert not rebuild(world).plan
    assert world.api.writes == []


def test_two_vms_with_one_address_are_told_by_sync_and_one_keeps_it() -> None:
    world = restored("10.133.0.0/24")
    world.api.clock.sleep(1)
    world.vm("twin", pin=MINE)
    report = passed(world)
    assert any(line.startswith("contradiction: ") and "prod/twin has it too" in line for line in report.lines)
    assert world.records()[MINE].holder == "prod/web-1"


# -- who may not see everything --------------------------------------------------------------------------------------


def only_own_namespace(world: World) -> None:
    def forbid(verb: str, ref: ObjectRef) -> None:
        if verb == "list" and ref.namespace is None and ref.resource == VM:
            says = 'User "web" cannot list resource "virtualmachines" at the cluster scope'
            raise _error(403, "Forbidden", says, verb, ref)

    world.api.before.append(forbid)


@CIDRS
@pytest.mark.parametrize("opens", [passed, rebuild, create])
def test_a_ledger_stays_closed_before_one_who_may_not_see_all_vms(cidr: str, opens: Callable[[World], object]) -> None:
    world = restored(cidr)
    only_own_namespace(world)
    try:
        opens(world)
    except PreconditionFailed as refused:
        assert "may not list" in refused.message
    assert not is_initialized(world)
    world.vm("late")
    with pytest.raises(PreconditionFailed, match="assigns no addresses yet"):
        world.attach("late")


def test_a_network_that_this_run_has_made_is_opened_with_what_its_maker_may_see() -> None:
    world = World()
    world.vm(pin=MINE)
    only_own_namespace(world)
    world.network()
    assert world.holders() == {MINE: "prod/web-1"}
    newcomer_gets_another(world)


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["get", "list"])
def test_a_new_network_is_opened_whatever_of_calico_its_maker_may_not_see(verb: str) -> None:
    world = World()
    for resource in (RAW.information, RAW.block) if verb == "list" else (RAW.information,):
        world.api.refuse(verb, resource)
    assert world.network().is_initialized
    assert world.api.tried["create", NETWORKWIZARD.plural] == 1
    assert world.records() == {}


def test_a_network_that_cannot_be_made_is_not_opened() -> None:
    world = restored("10.133.0.0/24")
    theirs = {"metadata": {"name": "theirs"}, "spec": {"cidr": "10.133.0.0/20"}}
    world.api.put(RAW.pool, theirs)
    assert passed(world).network_errors
    assert dig(world.api.get(BLUE), "status", "created") is False
    assert not is_initialized(world)
    with pytest.raises(PreconditionFailed, match=r"prod/blue is not ready: .* overlaps ippool/theirs"):
        world.attach()
    world.api.drop(RAW.pool.ref("theirs"))
    assert not passed(world).failure_count
    newcomer_gets_another(world)


def test_a_deletion_that_is_given_up_leaves_a_lost_ledger_closed() -> None:
    world = restored("10.133.0.0/24")
    world.drop_vm()

    def starts(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref == BLUE:  # the mark that the deletion is begun
            world.api.before.clear()
            world.running(pin=MINE)

    world.api.before.append(starts)
    with pytest.raises(PreconditionFailed, match="Calico still holds"):
        world.delete_network()
    assert world.networks() == ["blue"]
    assert not is_initialized(world)
    assert not passed(world).failure_count
    newcomer_gets_another(world)


@pytest.mark.parametrize("opens", [passed, rebuild])
def test_a_run_that_ends_between_two_blocks_leaves_the_ledger_closed(opens: Callable[[World], object]) -> None:
    world = restored("10.133.0.0/16")
    world.vm("far", pin="10.133.7.7")
    dead = False

    def die(verb: str, ref: ObjectRef) -> None:
        nonlocal dead
        dead = dead or (verb == "patch" and ref.resource in (ADDRESSBLOCK, NETWORKWIZARD) and len(world.holders()) == 1)
        if dead and verb != "get" and verb != "list":
            raise KeyboardInterrupt

    world.api.before.append(die)
    with pytest.raises(KeyboardInterrupt):
        opens(world)
    assert not is_initialized(world)
    world.api.before.clear()
    opens(world)
    assert world.holders() == {MINE: "prod/web-1", "10.133.7.7": "prod/far"}
    newcomer_gets_another(world)


@pytest.mark.parametrize("served_still", [True, False], ids=["its server is there", "its server is gone"])
@pytest.mark.parametrize("opens", [passed, rebuild])
def test_the_address_of_the_network_itself_is_kept_and_is_no_vms(
    opens: Callable[[World], object], served_still: bool
) -> None:
    world = World()
    world.api.served = served((*SERVED, EVENT))
    world.network("lab", "10.20.0.0/24", plugin="ovs", ovs={"bridge": "br-ext", "nic": "eth1", "vlan": 20})
    world.vm()
    world.attach(network="prod/lab", ip="10.20.0.2")
    world.vm("first")
    before = {address: (record.kind, record.holder, record.uid) for address, record in world.records("lab").items()}
    assert before["10.20.0.1"] == (NETWORK, "the network itself (DHCP server)", before["10.20.0.1"][2])
    if not served_still:
        world.api.drop(DHCPSERVER.ref("lab", "prod"))
        world.attach("first", network="prod/lab", ip="10.20.0.9")
        world.api.change(NETWORKWIZARD.ref("lab", "prod"), lambda obj: obj["spec"].update(range_end="10.20.0.9"))
    world.api.change(NETWORKWIZARD.ref("lab", "prod"), lambda obj: obj.pop("status"))
    opens(world)
    after = {address: (record.kind, record.holder, record.uid) for address, record in world.records("lab").items()}
    if served_still:
        assert after == before
    passed(world)
    world.vm("late")
    assert not world.attach("late", network="prod/lab").errors
    server = world.api.get(DHCPSERVER.ref("lab", "prod"))["spec"]["networks"][0]["interfaceIp"].partition("/")[0]
    assert world.records("lab")[server].kind == NETWORK
    assert {"10.20.0.2", server} <= world.records("lab").keys()
    assert [record.kind for record in world.records("lab").values()].count(NETWORK) == 1


# -- networks that another one overlaps ------------------------------------------------------------------------------


def overlapped(world: World, cidr: str = "10.133.0.0/25") -> None:
    """Network prod/blue, which works, and prod/late, applied with kubectl over a part of it."""
    world.network("blue", "10.133.0.0/24")
    world.api.put(NETWORKWIZARD, wizard("late", cidr))


def test_a_rebuild_opens_no_network_that_another_one_overlaps() -> None:
    world = World()
    overlapped(world)
    done = world.run(plan_rebuild, RebuildRequest())
    assert done.notes == ("network prod/late is skipped: 10.133.0.0/25 overlaps network prod/blue (10.133.0.0/24)",)
    assert not parse_network(world.api.get(NETWORKWIZARD.ref("late", "prod"))).is_initialized
    world.vm()
    with pytest.raises(PreconditionFailed, match="assigns no addresses yet"):
        world.attach(network="prod/late")


def test_why_a_network_was_refused_is_why_it_gives_out_no_addresses() -> None:
    world = World()
    overlapped(world)
    assert world.sync_network("late").errors
    world.vm()
    with pytest.raises(PreconditionFailed) as refused:
        world.attach(network="prod/late")
    assert refused.value.message == (
        "network prod/late is not ready: 10.133.0.0/25 overlaps network prod/blue (10.133.0.0/24)"
    )
    assert "kubectl yoshi network describe late -n prod" in refused.value.hint


def test_a_network_that_is_not_ready_any_more_gives_nobody_new_an_address_and_keeps_who_is_on_it() -> None:
    world = World()
    world.network()
    world.vm()
    world.vm("web-2")
    world.attach()
    world.api.put(RAW.pool, {"metadata": {"name": "theirs"}, "spec": {"cidr": "10.133.0.0/16"}})
    assert world.sync_network().errors
    assert not world.attach().errors
    assert "prod/blue is not ready: " in refusal(world.attach("web-2"), "prod/web-2").message
    assert world.holders() == {"10.133.0.1": "prod/web-1"}
    world.api.drop(RAW.pool.ref("theirs"))
    assert not world.sync_network().errors
    assert not world.attach("web-2").errors
