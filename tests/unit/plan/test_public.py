"""Public addresses, which are beside their VM, when something is refused or somebody else is at work.

| What happens                                                 | What is left                                     |
|--------------------------------------------------------------|--------------------------------------------------|
| an attachment is refused                                     | nothing of it                                    |
| a change of the ports is refused                             | the address, its record and its Service          |
| a change of the address is refused                           | the former one, and nothing of the new one       |
| a VM gets another address from a faster run                  | that one                                         |
| a move is refused                                            | the address where it was                         |
| a move while the holder is being attached                    | one VM with the address                          |
| a move while another run detaches, or moves elsewhere        | no wish of who does not get it                   |
| a move into a namespace that has all that it may             | everything as it was                             |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.public.annotations import PUBLIC_IP, PUBLIC_NETWORK, PUBLIC_PORTS
from kubectl_yoshi.backends.public.services import SERVICE, get_service_address
from kubectl_yoshi.engine.apply import send_change
from kubectl_yoshi.engine.loop import RunResult
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.kube.errors import PatchTestFailedError
from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig
from kubectl_yoshi.model.plan import Change
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext, RunContext
from kubectl_yoshi.plan.move.planner import MoveRequest, plan_move
from kubectl_yoshi.plan.network.planner import NetworkRequest, plan_network
from tests.unit.plan.fake_api import _error, served
from tests.unit.plan.fake_cluster import BACKENDS, GRACE, SERVED, World, refusal, wizard

BY_CALICO = {"announce": "calico-bgp"}
BY_METALLB = {"announce": "metallb-l2"}
ANNOUNCED = (
    SERVICE, RAW.bgp_configuration, RAW.bgp_peer, metallb.POOL, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT,
    metallb.PEER, metallb.DEPLOYMENT, metallb.EVENT,
)  # fmt: skip
PUB = "prod/pub"
FIRST, SECOND = "203.0.113.7", "203.0.113.9"


def make_public(world: World, name: str, cidr: str, announce: str) -> RunResult:
    """Makes a public network; "" is for one without a CIDR."""
    bgp = {"bgpConfig": {"peers": "10.240.0.5", "myASN": 64512, "remoteASN": 64514}} if "bgp" in announce else {}
    network = wizard(name, cidr, plugin="public", public={"announce": announce}, **bgp)
    if not cidr:
        del network["spec"]["cidr"]
    return world.run(plan_network, NetworkRequest("prod", name, network))


def public(cidr: str = "203.0.113.0/24", announce: str = "calico-bgp") -> World:
    """A cluster with network prod/pub, and VMs a and b."""
    world = World()
    world.api.served = served((*SERVED, *ANNOUNCED))
    assert not make_public(world, "pub", cidr, announce).errors
    world.vm("a")
    world.vm("b")
    return world


CLUSTERS = [
    partial(public, cidr, announce)
    for cidr in ("203.0.113.0/24", "203.0.112.0/22", "")
    for announce in ("calico-bgp", "metallb-l2")
]


@pytest.fixture(params=CLUSTERS, ids=lambda made: "-".join(made.args))
def world(request: pytest.FixtureRequest) -> World:
    """Each kind of public network."""
    made: World = request.param()
    return made


def services(world: World) -> dict[str, str]:
    """VM -> the address of its Service."""
    return {
        dig(service, "metadata", "ownerReferences", 0, "name"): str(get_service_address(service))
        for service in world.api.every(SERVICE)
    }


def announced(world: World) -> list[str]:
    """The addresses that Calico may announce, or for which MetalLB has a pool of their own."""
    listed = dig(world.api.look(RAW.bgp_configuration.ref("default")), "spec", "serviceLoadBalancerIPs", default=[])
    pools = [text for pool in world.api.every(metallb.POOL) for text in dig(pool, "spec", "addresses", default=[])]
    return sorted(text.partition("/")[0] for text in [*(entry["cidr"] for entry in listed), *pools] if "/32" in text)


def wish(world: World, name: str) -> str:
    """The address that a VM asks for."""
    return world.now(name).annotations.get(PUBLIC_IP, "")


def refusing(world: World, which: Callable[[str, ObjectRef, str], bool]) -> World:
    """The same cluster for somebody who may not do some writes: verb, object and subresource tell which."""
    other = world.twin(1)
    other.api.before.clear()
    for verb in ("create", "patch", "delete"):
        method = getattr(other.api, verb)

        def asked(ref: ObjectRef, *body: Any, verb: str = verb, method: Any = method, **more: Any) -> Json:
            if which(verb, ref, more.get("subresource", "")):
                raise _error(403, "Forbidden", f'User "web" cannot {verb} resource "{ref.resource.plural}"', verb, ref)
            answer: Json = method(ref, *body, **more)
            return answer

        setattr(other.api, verb, asked)
    return other


def tenant(world: World) -> World:
    """The cluster as yoshi-user may write to it: Calico's lists and a Service's status are an administrator's."""
    closed = ((RAW.bgp_configuration, ""), (SERVICE, "status"))
    return refusing(world, lambda _, ref, subresource: (ref.resource, subresource) in closed)


def patches_of(resource: Resource) -> Callable[[str, ObjectRef, str], bool]:
    """What `refusing` takes: every patch of one kind."""
    return lambda verb, ref, _: verb == "patch" and ref.resource == resource


def at_most(times: int, which: Callable[[str, ObjectRef, str], bool]) -> Callable[[str, ObjectRef, str], bool]:
    """What `refusing` takes: only so many times what another one tells."""
    left = [times]

    def tells(verb: str, ref: ObjectRef, subresource: str) -> bool:
        if not left[0] or not which(verb, ref, subresource):
            return False
        left[0] -= 1
        return True

    return tells


def attach_first(world: World) -> RunResult:
    done = world.attach("a", network=PUB, ip=FIRST)
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/a"}, {"a": FIRST})
    return done


# -- what is refused leaves what was -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VM, SERVICE], ids=lambda kind: kind.kind)
def test_refused_ports_leave_the_vm_its_address(world: World, kind: Resource) -> None:
    attach_first(world)
    there = announced(world)
    done = refusing(world, patches_of(kind)).attach("a", network=PUB, ports=(Port(8443),), ip=FIRST)
    assert f"may not patch {kind.plural}" in refusal(done, "prod/a").message
    assert (world.holders("pub"), services(world), wish(world, "a")) == ({FIRST: "prod/a"}, {"a": FIRST}, FIRST)
    assert announced(world) == there
    assert world.attach("a", network=PUB, ports=(Port(8443),), ip=FIRST).results == {"prod/a": FIRST}
    assert [port["port"] for port in world.api.every(SERVICE)[0]["spec"]["ports"]] == [8443]
    assert world.now("a").annotations[PUBLIC_PORTS] == "8443/tcp"


@pytest.mark.parametrize("kind", [VM, SERVICE], ids=lambda kind: kind.kind)
def test_a_refused_change_of_the_address_leaves_the_former_one(world: World, kind: Resource) -> None:
    attach_first(world)
    there = announced(world)
    once = at_most(1, patches_of(kind))
    done = refusing(world, once).attach("a", network=PUB, ip=SECOND, replace=True)
    assert f"may not patch {kind.plural}" in refusal(done, "prod/a").message
    assert (world.holders("pub"), services(world), wish(world, "a")) == ({FIRST: "prod/a"}, {"a": FIRST}, FIRST)
    assert announced(world) == there
    assert world.attach("a", network=PUB, ip=SECOND, replace=True).results == {"prod/a": SECOND}
    assert (world.holders("pub"), services(world), wish(world, "a")) == ({SECOND: "prod/a"}, {"a": SECOND}, SECOND)


@pytest.mark.parametrize(
    ("cidr", "second", "closed"),
    [
        ("203.0.113.0/24", SECOND, (RAW.bgp_configuration, "")),
        ("203.0.113.0/24", SECOND, (SERVICE, "status")),
        ("203.0.112.0/22", "203.0.112.9", (SERVICE, "status")),  # in another AddressBlock
    ],
)
def test_a_tenant_to_whom_calicos_list_or_the_status_is_closed_keeps_the_address_that_he_had(
    cidr: str, second: str, closed: tuple[Resource, str]
) -> None:
    world = public(cidr)
    attach_first(world)
    service, *_ = world.api.every(SERVICE)
    tenant = refusing(world, lambda _, ref, subresource: (ref.resource, subresource) == closed)
    done = tenant.attach("a", network=PUB, ip=second, replace=True)
    assert "may not patch" in refusal(done, "prod/a").message
    assert (world.holders("pub"), announced(world), wish(world, "a")) == ({FIRST: "prod/a"}, [FIRST], FIRST)
    after, *_ = world.api.every(SERVICE)
    assert {key: after[key] for key in ("spec", "status")} == {key: service[key] for key in ("spec", "status")}


def test_a_refused_attachment_leaves_nothing(world: World) -> None:
    done = refusing(world, lambda verb, ref, _: verb == "create" and ref.resource == SERVICE).attach(
        "a", network=PUB, ip=FIRST
    )
    assert "may not create services" in refusal(done, "prod/a").message
    assert (world.holders("pub"), services(world), announced(world), wish(world, "a")) == ({}, {}, [], "")


def test_of_several_refused_vms_each_keeps_its_record_until_its_own_service_is_gone() -> None:
    world = public()
    own: list[str] = []

    def refused(verb: str, ref: ObjectRef, _: str) -> bool:
        if verb == "delete" and ref.resource == SERVICE:
            own.append(ref.name)
            return own[0] == ref.name and own.count(ref.name) < 3  # of one of the two, twice
        return ref.resource == RAW.bgp_configuration

    other = refusing(world, refused)
    other.api.before.append(lambda *_: there_are_records_of_all_services(world))
    done = other.attach("a", "b", network=PUB)
    assert done.errors.keys() == {"prod/a", "prod/b"}
    assert len(own) > 3
    assert (world.holders("pub"), services(world), announced(world), wish(world, "a")) == ({}, {}, [], "")


def there_are_records_of_all_services(world: World) -> None:
    recorded = {(record.name, address) for address, record in world.records("pub").items()}
    assert recorded >= {*services(world).items()}


def test_an_address_that_is_written_on_the_vm_and_that_a_service_of_others_has_is_not_adopted(world: World) -> None:
    theirs = {"type": "LoadBalancer", "selector": {"app": "shop"}}
    served_already = {"loadBalancer": {"ingress": [{"ip": FIRST}]}}
    meta = {"name": "shop", "namespace": "elsewhere"}
    world.api.put(SERVICE, {"metadata": meta, "spec": theirs, "status": served_already})
    asks = {PUBLIC_NETWORK: "pub", PUBLIC_IP: FIRST}
    world.api.change(VM.ref("a", "prod"), lambda obj: obj["metadata"].update(annotations=asks))
    done = world.attach("a", network=PUB)
    assert f"{FIRST} is not free: service/shop in namespace elsewhere uses it" in refusal(done, "prod/a").message
    assert (world.holders("pub"), len(world.api.every(SERVICE)), announced(world)) == ({}, 1, [])
    world.api.drop(SERVICE.ref("shop", "elsewhere"))
    assert world.attach("a", network=PUB).results == {"prod/a": FIRST}


def test_an_attachment_that_a_killed_run_began_is_taken_back_when_it_is_refused() -> None:
    world = public()

    def killed(verb: str, ref: ObjectRef, _: str) -> bool:
        if ref.resource == VM:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        refusing(world, killed).attach("a", network=PUB, ip=FIRST)
    assert world.holders("pub") == {FIRST: "prod/a"}
    assert "may not patch" in refusal(tenant(world).attach("a", network=PUB, ip=FIRST), "prod/a").message
    assert (world.holders("pub"), services(world), announced(world), wish(world, "a")) == ({}, {}, [], "")


def test_who_was_slower_leaves_the_vm_the_address_that_a_faster_run_gave_it(world: World) -> None:
    slower = world.twin(1)
    slower.api.before.clear()

    def faster(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            slower.api.before.clear()
            attach_first_after_all(world)

    def attach_first_after_all(world: World) -> None:
        assert world.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}

    slower.api.before.append(faster)
    done = slower.attach("a", network=PUB, ip=SECOND)
    assert f"already has {FIRST}" in refusal(done, "prod/a").message
    assert (world.holders("pub"), services(world), wish(world, "a")) == ({FIRST: "prod/a"}, {"a": FIRST}, FIRST)


def test_what_a_network_does_not_say_is_told_when_it_is_made() -> None:
    world = public()
    peers = {"bgpConfig": {"peers": "10.240.0.9"}}
    made = world.run(
        plan_network, NetworkRequest("prod", "more", wizard("more", "198.51.100.0/28", plugin="public", **peers))
    )
    (note,) = made.notes
    assert note == (
        "defaults chosen for network prod/more: announced by calico-bgp (metallb-bgp could be used instead), this "
        "cluster's ASN 64512, the routers' ASN 64514"
    )
    assert make_public(world, "said", "198.51.100.16/28", "calico-bgp").notes == ()


def test_what_is_attached_while_it_is_collected_stays_though_vms_were_listed_for_another_network_before() -> None:
    world = public("203.0.112.0/22")
    assert not make_public(world, "far", "198.51.100.0/24", "calico-bgp").errors
    world.attach("a", network="prod/far")

    def attaches(verb: str, ref: ObjectRef) -> None:
        if verb == "get" and ref == VM.ref("a", "prod"):
            world.api.before.clear()
            assert world.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}

    world.api.before.append(attaches)
    world.collect(grace=0.0)
    assert world.api.before == []
    assert world.holders("pub") == {FIRST: "prod/a"}


# -- a Service without a VM --------------------------------------------------------------------------------------------


def delete_without_its_service(world: World) -> None:
    """`kubectl delete vm a --cascade=orphan`"""
    (service,) = world.api.every(SERVICE)
    service["metadata"].pop("ownerReferences")
    world.api.put(SERVICE, service)
    world.api.drop(VM.ref("a", "prod"))


def test_a_service_that_was_left_without_its_vm_goes_with_the_vms_record(world: World) -> None:
    attach_first(world)
    delete_without_its_service(world)
    assert world.attach("b", network=PUB, ip=FIRST).errors
    assert not world.collect().errors
    assert (world.holders("pub"), world.api.every(SERVICE), announced(world)) == ({}, [], [])
    assert world.attach("b", network=PUB, ip=FIRST).results == {"prod/b": FIRST}


def test_a_service_that_was_left_without_its_vm_is_not_in_the_way_of_the_vm_that_was_made_anew(world: World) -> None:
    attach_first(world)
    delete_without_its_service(world)
    world.vm("a")
    world.collect(grace=GRACE)
    assert world.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}
    there = announced(world)
    world.collect()
    assert (world.holders("pub"), services(world), announced(world)) == ({FIRST: "prod/a"}, {"a": FIRST}, there)
    world.detach("a", network=PUB)
    assert (world.holders("pub"), world.api.every(SERVICE), announced(world)) == ({}, [], [])


def test_a_service_that_was_left_without_its_vm_goes_once_the_vm_that_was_made_anew_has_its_own() -> None:
    world = public()
    attach_first(world)
    delete_without_its_service(world)
    world.vm("a")
    assert world.attach("a", network=PUB).results == {"prod/a": FIRST}
    world.collect()
    assert (world.holders("pub"), services(world), announced(world)) == ({FIRST: "prod/a"}, {"a": FIRST}, [FIRST])


def test_a_service_whose_vm_only_is_its_owner_no_more_stays(world: World) -> None:
    attach_first(world)
    (service,) = world.api.every(SERVICE)
    service["metadata"].pop("ownerReferences")
    world.api.put(SERVICE, service)
    world.collect()
    assert len(world.api.every(SERVICE)) == 1
    assert world.attach("a", network=PUB).results == {"prod/a": FIRST}
    assert services(world) == {"a": FIRST}


# -- an address moves, or stays where it is ----------------------------------------------------------------------------


def move(world: World, to: str = "b", address: str = FIRST) -> RunResult:
    return world.run(plan_move, MoveRequest(parse_address(address), ("prod", to), ("prod", "pub")))


def begin_attaching(world: World, name: str, address: str) -> list[Change]:
    """Carries an attachment out up to the write to the VM, and gives the rest of it."""
    request = AttachRequest(("prod", "pub"), (("prod", name),), parse_address(address))
    done: list[Change] = []
    rest: list[Change] = []
    while not rest:
        plan = plan_attach(request, PlanContext(new_snapshot(world.api), BACKENDS, RunContext(done=tuple(done))))
        changes = [*plan]
        assert changes
        place = next((place for place, change in enumerate(changes) if change.ref.resource == VM), len(changes))
        done, rest = [*done, *changes[:place]], changes[place:]
        for change in changes[:place]:
            send_change(change, world.api, dry_run=False, waiters={})
    return rest


def test_an_attachment_of_the_holder_that_is_under_way_is_refused_once_the_address_has_moved(world: World) -> None:
    late, *_ = begin_attaching(world, "a", FIRST)
    assert world.holders("pub") == {FIRST: "prod/a"}
    assert move(world).results == {"prod/b": FIRST}
    with pytest.raises(PatchTestFailedError):
        send_change(late, world.api, dry_run=False, waiters={})
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/b"}, {"b": FIRST})
    assert "plumber.k8s.pf9.io/releasing" not in world.now("a").annotations


def test_an_attachment_of_the_holder_from_which_the_address_moves_meanwhile_leaves_no_service(world: World) -> None:
    """It has written the wish, which the move takes off, and makes its Service when the move is complete."""
    slower = world.twin(1)
    slower.api.before.clear()
    there: list[list[str]] = []

    def moves(verb: str, ref: ObjectRef) -> None:
        if verb == "create" and ref.resource == SERVICE:
            slower.api.before.clear()
            assert move(world).results == {"prod/b": FIRST}
            there.append(announced(world))

    slower.api.before.append(moves)
    done = slower.attach("a", network=PUB, ip=FIRST)
    assert "prod/b holds it" in refusal(done, "prod/a").message
    assert (world.holders("pub"), services(world), [announced(world)]) == ({FIRST: "prod/b"}, {"b": FIRST}, there)
    assert (wish(world, "a"), wish(world, "b")) == ("", FIRST)


def test_a_service_that_is_made_after_its_vm_was_detached_goes_if_the_address_is_not_recorded_again() -> None:
    world = public()
    attach_first(world)
    world.api.drop(SERVICE.ref(world.api.every(SERVICE)[0]["metadata"]["name"], "prod"))
    slower = refusing(world, lambda _, ref, subresource: subresource == "status" and ref.resource == NETWORKWIZARD)

    def detached(verb: str, ref: ObjectRef) -> None:
        if verb == "create" and ref.resource == SERVICE:
            slower.api.before.clear()
            world.detach("a", network=PUB)
            assert world.holders("pub") == {}

    slower.api.before.append(detached)
    assert "may not patch" in refusal(slower.attach("a", network=PUB), "prod/a").message
    assert (world.holders("pub"), services(world), announced(world), wish(world, "a")) == ({}, {}, [], "")


REFUSED = {
    "the wish of the other VM": lambda verb, ref, _: verb == "patch" and ref == VM.ref("b", "prod"),
    "the wish of the VM": lambda verb, ref, _: verb == "patch" and ref == VM.ref("a", "prod"),
    "the VM's Service": lambda verb, ref, _: verb == "delete" and ref.resource == SERVICE,
    "the record": lambda verb, ref, subresource: subresource == "status" and ref.resource != SERVICE,
    "the other VM's Service": lambda verb, ref, _: verb == "create" and ref.resource == SERVICE,
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_move_leaves_the_address_where_it_was(world: World, what: str) -> None:
    attach_first(world)
    world.attach("a", network=PUB, ip=FIRST, ports=(Port(8443),))
    there = announced(world)
    (before,) = world.api.every(SERVICE)
    done = move(refusing(world, at_most(1, REFUSED[what])))
    assert "may not" in refusal(done, "prod/b").message
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/a"}, {"a": FIRST})
    assert (wish(world, "a"), wish(world, "b"), announced(world)) == (FIRST, "", there)
    (after,) = world.api.every(SERVICE)
    assert after["spec"]["ports"] == before["spec"]["ports"]
    assert move(world).results == {"prod/b": FIRST}
    assert (world.holders("pub"), services(world), wish(world, "a")) == ({FIRST: "prod/b"}, {"b": FIRST}, "")


def test_a_refused_move_leaves_the_other_vm_the_wish_that_it_had(world: World) -> None:
    attach_first(world)
    asked = {PUBLIC_NETWORK: "pub", PUBLIC_IP: FIRST}
    world.api.change(VM.ref("b", "prod"), lambda obj: obj["metadata"].update(annotations=asked))
    done = move(refusing(world, at_most(1, REFUSED["the other VM's Service"])))
    assert "may not create services" in refusal(done, "prod/b").message
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/a"}, {"a": FIRST})
    assert (wish(world, "a"), wish(world, "b")) == (FIRST, FIRST)


def test_what_a_killed_move_took_stays_with_the_other_vm_though_that_is_refused(world: World) -> None:
    attach_first(world)

    def dies(verb: str, ref: ObjectRef, subresource: str) -> bool:
        if subresource == "status" and ref.resource != SERVICE:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        move(refusing(world, dies))
    refused = move(refusing(world, REFUSED["the other VM's Service"]))
    assert "may not create services" in refusal(refused, "prod/b").message
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/b"}, {})
    assert (wish(world, "a"), wish(world, "b")) == ("", FIRST)
    assert move(world).results == {"prod/b": FIRST}
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/b"}, {"b": FIRST})


def test_who_may_not_write_a_services_status_takes_no_address_from_its_vm() -> None:
    world = public()
    attach_first(world)
    world.api.writes.clear()
    assert "may not patch services" in refusal(move(tenant(world)), "prod/b").message
    assert not [write for write in world.api.writes if "service" in write or "virtualmachine/a" in write]
    assert (world.holders("pub"), services(world)) == ({FIRST: "prod/a"}, {"a": FIRST})
    assert (wish(world, "a"), wish(world, "b")) == (FIRST, "")


def test_a_move_of_an_address_that_is_detached_meanwhile_leaves_no_wish(world: World) -> None:
    attach_first(world)
    mover = world.twin(1)
    mover.api.before.clear()

    def detached(verb: str, ref: ObjectRef) -> None:
        if ref == VM.ref("a", "prod") and verb == "patch":
            mover.api.before.clear()
            world.detach("a", network=PUB)

    mover.api.before.append(detached)
    with pytest.raises(PreconditionFailed, match="is not assigned on"):
        move(mover)
    assert (world.holders("pub"), services(world)) == ({}, {})
    assert (wish(world, "a"), wish(world, "b")) == ("", "")


def with_quota(world: World, most: int) -> None:
    """Let the VMs of one namespace hold at most so many addresses of network prod/pub."""
    world.api.change(NETWORKWIZARD.ref("pub", "prod"), lambda obj: obj["spec"].update(maxAddressesPerNamespace=most))


def test_a_move_into_a_namespace_that_has_all_that_it_may_changes_nothing(world: World) -> None:
    with_quota(world, 1)
    world.vm("full", "dev")
    world.vm("b", "dev")
    attach_first(world)
    world.attach("dev/full", network=PUB, ip=SECOND)
    before = (world.holders("pub"), services(world), announced(world))
    world.api.writes.clear()
    message = "namespace dev holds 1 addresses of network prod/pub, which allows 1 per namespace"
    request = MoveRequest(parse_address(FIRST), ("dev", "b"), ("prod", "pub"))
    for dry_run in ("client", "server", "none"):
        with pytest.raises(PreconditionFailed, match=message):
            world.run(plan_move, request, dry_run=dry_run)
    assert not world.api.writes
    assert (world.holders("pub"), services(world), announced(world)) == before
    world.detach("dev/full", network=PUB)
    assert world.run(plan_move, request).results == {"dev/b": FIRST}
    assert world.holders("pub") == {FIRST: "dev/b"}


def test_a_move_within_a_namespace_that_has_all_that_it_may_is_not_refused(world: World) -> None:
    with_quota(world, 1)
    attach_first(world)
    assert move(world).results == {"prod/b": FIRST}


def test_a_move_that_has_begun_is_finished_though_another_one_takes_the_last_room(world: World) -> None:
    with_quota(world, 1)
    world.vm("c")
    world.vm("b", "dev")
    world.vm("c", "dev")
    assert not world.attach("a", network=PUB, ip=FIRST).errors
    with_quota(world, 2)
    assert not world.attach("c", network=PUB, ip=SECOND).errors
    with_quota(world, 1)
    slower = world.twin(1)
    slower.api.before.clear()

    def faster(verb: str, ref: ObjectRef) -> None:
        if ref == VM.ref("a", "prod") and verb == "patch":
            slower.api.before.clear()
            request = MoveRequest(parse_address(SECOND), ("dev", "c"), ("prod", "pub"))
            assert world.run(plan_move, request).results == {"dev/c": SECOND}

    slower.api.before.append(faster)
    done = slower.run(plan_move, MoveRequest(parse_address(FIRST), ("dev", "b"), ("prod", "pub")))
    assert done.results == {"dev/b": FIRST}
    assert world.holders("pub") == {FIRST: "dev/b", SECOND: "dev/c"}
    assert services(world) == {"b": FIRST, "c": SECOND}


def test_of_two_moves_at_once_one_vm_gets_the_address_and_the_other_wishes_for_nothing(world: World) -> None:
    world.vm("c")
    attach_first(world)
    slower = world.twin(1)
    slower.api.before.clear()

    def faster(verb: str, ref: ObjectRef) -> None:
        if ref == VM.ref("a", "prod") and verb == "patch":
            slower.api.before.clear()
            assert move(world, "c").results == {"prod/c": FIRST}

    slower.api.before.append(faster)
    done = move(slower)
    winner = "b" if done.results else "c"
    assert (world.holders("pub"), services(world)) == ({FIRST: f"prod/{winner}"}, {winner: FIRST})
    assert {name: wish(world, name) for name in "abc" if wish(world, name)} == {winner: FIRST}


@pytest.mark.I6
def test_the_status_of_a_service_that_has_come_to_another_network_meanwhile_is_not_written() -> None:
    """I6: there it may have the same address, by another announcer."""
    world = public()

    def comes_to_another(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", SERVICE):
            world.api.before.clear()
            world.api.change(ref, lambda obj: obj["metadata"]["labels"].update({metallb.NETWORK_LABEL: "uid-of-far"}))

    world.api.before.append(comes_to_another)
    with pytest.raises(PreconditionFailed, match="was not created for network prod/pub"):
        world.attach("a", network=PUB, ip=FIRST)
    [service] = world.api.every(SERVICE)
    assert service["status"] == {"loadBalancer": {}}
