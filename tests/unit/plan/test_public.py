"""Public addresses, which are not on their VM, with refused writes and concurrent clients.

| What happens                                          | What is left                               |
|-------------------------------------------------------|--------------------------------------------|
| an attachment is refused                              | nothing of it                              |
| a change of the ports is refused                      | the address, its record and its Service    |
| a change of the address is refused                    | the former one, and nothing of the new one |
| a VM gets another address from a faster run           | that one                                   |
| a move is refused                                     | the address where it was                   |
| a move while the holder is being attached             | one VM with the address                    |
| a move while another run detaches, or moves elsewhere | no request of who does not get it          |
| a move into a namespace that has all that it may      | everything as it was                       |
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
from kubectl_yoshi.model.errors import PreconditionFailed, UnreadableError
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
from tests.unit.plan.fake_cluster import BACKENDS, GRACE, SERVED, FakeCluster, refusal, wizard

BY_CALICO = {"announce": "calico-bgp"}
BY_METALLB = {"announce": "metallb-l2"}
ANNOUNCED = (
    SERVICE, RAW.bgp_configuration, RAW.bgp_peer, metallb.POOL, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT,
    metallb.PEER, metallb.DEPLOYMENT, metallb.EVENT,
)  # fmt: skip
PUB = "prod/pub"
FIRST, SECOND = "203.0.113.7", "203.0.113.9"


def make_public(cluster: FakeCluster, name: str, cidr: str, announce: str) -> RunResult:
    """Makes a public network; "" is for one without a CIDR."""
    bgp = {"bgpConfig": {"peers": "10.240.0.5", "myASN": 64512, "remoteASN": 64514}} if "bgp" in announce else {}
    network = wizard(name, cidr, plugin="public", public={"announce": announce}, **bgp)
    if not cidr:
        del network["spec"]["cidr"]
    return cluster.run(plan_network, NetworkRequest("prod", name, network))


def public(cidr: str = "203.0.113.0/24", announce: str = "calico-bgp") -> FakeCluster:
    """A cluster with network prod/pub, and VMs a and b."""
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, *ANNOUNCED))
    assert not make_public(cluster, "pub", cidr, announce).errors
    cluster.vm("a")
    cluster.vm("b")
    return cluster


CLUSTERS = [
    partial(public, cidr, announce)
    for cidr in ("203.0.113.0/24", "203.0.112.0/22", "")
    for announce in ("calico-bgp", "metallb-l2")
]


@pytest.fixture(params=CLUSTERS, ids=lambda made: "-".join(made.args))
def cluster(request: pytest.FixtureRequest) -> FakeCluster:
    """Each kind of public network."""
    made: FakeCluster = request.param()
    return made


def services(cluster: FakeCluster) -> dict[str, str]:
    """VM -> the address of its Service."""
    return {
        dig(service, "metadata", "ownerReferences", 0, "name"): str(get_service_address(service))
        for service in cluster.api.every(SERVICE)
    }


def announced(cluster: FakeCluster) -> list[str]:
    """The addresses that Calico may announce, or for which MetalLB has a pool of their own."""
    listed = dig(cluster.api.look(RAW.bgp_configuration.ref("default")), "spec", "serviceLoadBalancerIPs", default=[])
    pools = [text for pool in cluster.api.every(metallb.POOL) for text in dig(pool, "spec", "addresses", default=[])]
    return sorted(text.partition("/")[0] for text in [*(entry["cidr"] for entry in listed), *pools] if "/32" in text)


def requested_public_ip(cluster: FakeCluster, name: str) -> str:
    """The address that a VM asks for."""
    return cluster.now(name).annotations.get(PUBLIC_IP, "")


def refusing(cluster: FakeCluster, which: Callable[[str, ObjectRef, str], bool]) -> FakeCluster:
    """The same cluster for a user who cannot do some writes: verb, object and subresource tell which."""
    other = cluster.second_client(1)
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


def tenant(cluster: FakeCluster) -> FakeCluster:
    """The cluster as yoshi-user may write to it: Calico's lists and a Service's status are an administrator's."""
    closed = ((RAW.bgp_configuration, ""), (SERVICE, "status"))
    return refusing(cluster, lambda _, ref, subresource: (ref.resource, subresource) in closed)


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


def attach_first(cluster: FakeCluster) -> RunResult:
    done = cluster.attach("a", network=PUB, ip=FIRST)
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/a"}, {"a": FIRST})
    return done


# -- what is refused leaves what was -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VM, SERVICE], ids=lambda kind: kind.kind)
def test_refused_ports_keep_the_address(cluster: FakeCluster, kind: Resource) -> None:
    attach_first(cluster)
    there = announced(cluster)
    done = refusing(cluster, patches_of(kind)).attach("a", network=PUB, ports=(Port(8443),), ip=FIRST)
    assert f"may not patch {kind.plural}" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), services(cluster), requested_public_ip(cluster, "a")) == (
        {FIRST: "prod/a"},
        {"a": FIRST},
        FIRST,
    )
    assert announced(cluster) == there
    assert cluster.attach("a", network=PUB, ports=(Port(8443),), ip=FIRST).results == {"prod/a": FIRST}
    assert [port["port"] for port in cluster.api.every(SERVICE)[0]["spec"]["ports"]] == [8443]
    assert cluster.now("a").annotations[PUBLIC_PORTS] == "8443/tcp"


@pytest.mark.parametrize("kind", [VM, SERVICE], ids=lambda kind: kind.kind)
def test_refused_replacement_keeps_the_former_address(cluster: FakeCluster, kind: Resource) -> None:
    attach_first(cluster)
    there = announced(cluster)
    once = at_most(1, patches_of(kind))
    done = refusing(cluster, once).attach("a", network=PUB, ip=SECOND, replace=True)
    assert f"may not patch {kind.plural}" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), services(cluster), requested_public_ip(cluster, "a")) == (
        {FIRST: "prod/a"},
        {"a": FIRST},
        FIRST,
    )
    assert announced(cluster) == there
    assert cluster.attach("a", network=PUB, ip=SECOND, replace=True).results == {"prod/a": SECOND}
    assert (cluster.holders("pub"), services(cluster), requested_public_ip(cluster, "a")) == (
        {SECOND: "prod/a"},
        {"a": SECOND},
        SECOND,
    )


@pytest.mark.parametrize(
    ("cidr", "second", "closed"),
    [
        ("203.0.113.0/24", SECOND, (RAW.bgp_configuration, "")),
        ("203.0.113.0/24", SECOND, (SERVICE, "status")),
        ("203.0.112.0/22", "203.0.112.9", (SERVICE, "status")),  # in another AddressBlock
    ],
)
def test_replace_without_permission_for_bgp_or_status_keeps_the_former_address(
    cidr: str, second: str, closed: tuple[Resource, str]
) -> None:
    cluster = public(cidr)
    attach_first(cluster)
    service, *_ = cluster.api.every(SERVICE)
    tenant = refusing(cluster, lambda _, ref, subresource: (ref.resource, subresource) == closed)
    done = tenant.attach("a", network=PUB, ip=second, replace=True)
    assert "may not patch" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), announced(cluster), requested_public_ip(cluster, "a")) == (
        {FIRST: "prod/a"},
        [FIRST],
        FIRST,
    )
    after, *_ = cluster.api.every(SERVICE)
    assert {key: after[key] for key in ("spec", "status")} == {key: service[key] for key in ("spec", "status")}


def test_refused_attach_leaves_nothing(cluster: FakeCluster) -> None:
    done = refusing(cluster, lambda verb, ref, _: verb == "create" and ref.resource == SERVICE).attach(
        "a", network=PUB, ip=FIRST
    )
    assert "may not create services" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), services(cluster), announced(cluster), requested_public_ip(cluster, "a")) == (
        {},
        {},
        [],
        "",
    )


def test_refused_vms_keep_their_allocation_until_their_service_is_deleted() -> None:
    cluster = public()
    own: list[str] = []

    def refused(verb: str, ref: ObjectRef, _: str) -> bool:
        if verb == "delete" and ref.resource == SERVICE:
            own.append(ref.name)
            return own[0] == ref.name and own.count(ref.name) < 3  # of one of the two, twice
        return ref.resource == RAW.bgp_configuration

    other = refusing(cluster, refused)
    other.api.before.append(lambda *_: there_are_records_of_all_services(cluster))
    done = other.attach("a", "b", network=PUB)
    assert done.errors.keys() == {"prod/a", "prod/b"}
    assert len(own) > 3
    assert (cluster.holders("pub"), services(cluster), announced(cluster), requested_public_ip(cluster, "a")) == (
        {},
        {},
        [],
        "",
    )


def there_are_records_of_all_services(cluster: FakeCluster) -> None:
    recorded = {(record.name, address) for address, record in cluster.records("pub").items()}
    assert recorded >= {*services(cluster).items()}


def test_requested_address_of_a_foreign_service_is_not_adopted(
    cluster: FakeCluster,
) -> None:
    theirs = {"type": "LoadBalancer", "selector": {"app": "shop"}}
    served_already = {"loadBalancer": {"ingress": [{"ip": FIRST}]}}
    meta = {"name": "shop", "namespace": "elsewhere"}
    cluster.api.put(SERVICE, {"metadata": meta, "spec": theirs, "status": served_already})
    asks = {PUBLIC_NETWORK: "pub", PUBLIC_IP: FIRST}
    cluster.api.change(VM.ref("a", "prod"), lambda obj: obj["metadata"].update(annotations=asks))
    done = cluster.attach("a", network=PUB)
    assert f"{FIRST} is not free: service/shop in namespace elsewhere uses it" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), len(cluster.api.every(SERVICE)), announced(cluster)) == ({}, 1, [])
    cluster.api.drop(SERVICE.ref("shop", "elsewhere"))
    assert cluster.attach("a", network=PUB).results == {"prod/a": FIRST}


def test_attach_started_by_a_killed_run_is_rolled_back_when_refused() -> None:
    cluster = public()

    def killed(verb: str, ref: ObjectRef, _: str) -> bool:
        if ref.resource == VM:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        refusing(cluster, killed).attach("a", network=PUB, ip=FIRST)
    assert cluster.holders("pub") == {FIRST: "prod/a"}
    assert "may not patch" in refusal(tenant(cluster).attach("a", network=PUB, ip=FIRST), "prod/a").message
    assert (cluster.holders("pub"), services(cluster), announced(cluster), requested_public_ip(cluster, "a")) == (
        {},
        {},
        [],
        "",
    )


def test_slower_run_keeps_the_address_assigned_by_a_faster_one(cluster: FakeCluster) -> None:
    slower = cluster.second_client(1)
    slower.api.before.clear()

    def faster(verb: str, ref: ObjectRef) -> None:
        if verb == "patch" and ref.resource == VM:
            slower.api.before.clear()
            attach_first_after_all(cluster)

    def attach_first_after_all(cluster: FakeCluster) -> None:
        assert cluster.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}

    slower.api.before.append(faster)
    done = slower.attach("a", network=PUB, ip=SECOND)
    assert f"already has {FIRST}" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), services(cluster), requested_public_ip(cluster, "a")) == (
        {FIRST: "prod/a"},
        {"a": FIRST},
        FIRST,
    )


def test_missing_peer_settings_are_filled_in_with_a_note() -> None:
    cluster = public()
    peers = {"bgpConfig": {"peers": "10.240.0.9"}}
    made = cluster.run(
        plan_network, NetworkRequest("prod", "more", wizard("more", "198.51.100.0/28", plugin="public", **peers))
    )
    (note,) = made.notes
    assert note == (
        "defaults chosen for network prod/more: announced by calico-bgp (metallb-bgp could be used instead), this "
        "cluster's ASN 64512, the routers' ASN 64514"
    )
    assert make_public(cluster, "said", "198.51.100.16/28", "calico-bgp").notes == ()


def test_gc_keeps_a_vm_attached_after_the_vms_were_listed() -> None:
    cluster = public("203.0.112.0/22")
    assert not make_public(cluster, "far", "198.51.100.0/24", "calico-bgp").errors
    cluster.attach("a", network="prod/far")

    def attaches(verb: str, ref: ObjectRef) -> None:
        if verb == "get" and ref == VM.ref("a", "prod"):
            cluster.api.before.clear()
            assert cluster.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}

    cluster.api.before.append(attaches)
    cluster.collect(grace=0.0)
    assert cluster.api.before == []
    assert cluster.holders("pub") == {FIRST: "prod/a"}


# -- a Service without a VM --------------------------------------------------------------------------------------------


def delete_without_its_service(cluster: FakeCluster) -> None:
    """`kubectl delete vm a --cascade=orphan`"""
    (service,) = cluster.api.every(SERVICE)
    service["metadata"].pop("ownerReferences")
    cluster.api.put(SERVICE, service)
    cluster.api.drop(VM.ref("a", "prod"))


def test_gc_deletes_a_service_without_vm_with_its_allocation(cluster: FakeCluster) -> None:
    attach_first(cluster)
    delete_without_its_service(cluster)
    assert cluster.attach("b", network=PUB, ip=FIRST).errors
    assert not cluster.collect().errors
    assert (cluster.holders("pub"), cluster.api.every(SERVICE), announced(cluster)) == ({}, [], [])
    assert cluster.attach("b", network=PUB, ip=FIRST).results == {"prod/b": FIRST}


def test_service_of_a_deleted_vm_is_no_conflict_for_the_recreated_one(
    cluster: FakeCluster,
) -> None:
    attach_first(cluster)
    delete_without_its_service(cluster)
    cluster.vm("a")
    cluster.collect(grace=GRACE)
    assert cluster.attach("a", network=PUB, ip=FIRST).results == {"prod/a": FIRST}
    there = announced(cluster)
    cluster.collect()
    assert (cluster.holders("pub"), services(cluster), announced(cluster)) == ({FIRST: "prod/a"}, {"a": FIRST}, there)
    cluster.detach("a", network=PUB)
    assert (cluster.holders("pub"), cluster.api.every(SERVICE), announced(cluster)) == ({}, [], [])


def test_gc_deletes_the_service_of_a_deleted_vm_after_it_was_recreated() -> None:
    cluster = public()
    attach_first(cluster)
    delete_without_its_service(cluster)
    cluster.vm("a")
    assert cluster.attach("a", network=PUB).results == {"prod/a": FIRST}
    cluster.collect()
    assert (cluster.holders("pub"), services(cluster), announced(cluster)) == ({FIRST: "prod/a"}, {"a": FIRST}, [FIRST])


def test_gc_keeps_a_service_without_owner_reference_of_an_existing_vm(cluster: FakeCluster) -> None:
    attach_first(cluster)
    (service,) = cluster.api.every(SERVICE)
    service["metadata"].pop("ownerReferences")
    cluster.api.put(SERVICE, service)
    cluster.collect()
    assert len(cluster.api.every(SERVICE)) == 1
    assert cluster.attach("a", network=PUB).results == {"prod/a": FIRST}
    assert services(cluster) == {"a": FIRST}


# -- an address moves, or stays where it is ----------------------------------------------------------------------------


def move(cluster: FakeCluster, to: str = "b", address: str = FIRST) -> RunResult:
    return cluster.run(plan_move, MoveRequest(parse_address(address), ("prod", to), ("prod", "pub")))


def begin_attaching(cluster: FakeCluster, name: str, address: str) -> list[Change]:
    """Carries an attachment out up to the write to the VM, and gives the rest of it."""
    request = AttachRequest(("prod", "pub"), (("prod", name),), parse_address(address))
    done: list[Change] = []
    rest: list[Change] = []
    while not rest:
        plan = plan_attach(request, PlanContext(new_snapshot(cluster.api), BACKENDS, RunContext(done=tuple(done))))
        changes = [*plan]
        assert changes
        place = next((place for place, change in enumerate(changes) if change.ref.resource == VM), len(changes))
        done, rest = [*done, *changes[:place]], changes[place:]
        for change in changes[:place]:
            send_change(change, cluster.api, dry_run=False, waiters={})
    return rest


def test_late_attach_of_the_former_owner_is_refused_after_a_move(
    cluster: FakeCluster,
) -> None:
    late, *_ = begin_attaching(cluster, "a", FIRST)
    assert cluster.holders("pub") == {FIRST: "prod/a"}
    assert move(cluster).results == {"prod/b": FIRST}
    with pytest.raises(PatchTestFailedError):
        send_change(late, cluster.api, dry_run=False, waiters={})
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/b"}, {"b": FIRST})


def test_attach_of_the_former_owner_during_a_move_leaves_no_service(
    cluster: FakeCluster,
) -> None:
    """It has written the request, which the move removes, and makes its Service when the move is complete."""
    slower = cluster.second_client(1)
    slower.api.before.clear()
    there: list[list[str]] = []

    def moves(verb: str, ref: ObjectRef) -> None:
        if verb == "create" and ref.resource == SERVICE:
            slower.api.before.clear()
            assert move(cluster).results == {"prod/b": FIRST}
            there.append(announced(cluster))

    slower.api.before.append(moves)
    done = slower.attach("a", network=PUB, ip=FIRST)
    assert "prod/b holds it" in refusal(done, "prod/a").message
    assert (cluster.holders("pub"), services(cluster), [announced(cluster)]) == ({FIRST: "prod/b"}, {"b": FIRST}, there)
    assert (requested_public_ip(cluster, "a"), requested_public_ip(cluster, "b")) == ("", FIRST)


def test_service_created_after_the_detach_is_deleted() -> None:
    cluster = public()
    attach_first(cluster)
    cluster.api.drop(SERVICE.ref(cluster.api.every(SERVICE)[0]["metadata"]["name"], "prod"))
    slower = refusing(cluster, lambda _, ref, subresource: subresource == "status" and ref.resource == NETWORKWIZARD)

    def detached(verb: str, ref: ObjectRef) -> None:
        if verb == "create" and ref.resource == SERVICE:
            slower.api.before.clear()
            cluster.detach("a", network=PUB)
            assert cluster.holders("pub") == {}

    slower.api.before.append(detached)
    assert "may not patch" in refusal(slower.attach("a", network=PUB), "prod/a").message
    assert (cluster.holders("pub"), services(cluster), announced(cluster), requested_public_ip(cluster, "a")) == (
        {},
        {},
        [],
        "",
    )


REFUSED = {
    "the request of the other VM": lambda verb, ref, _: verb == "patch" and ref == VM.ref("b", "prod"),
    "the request of the VM": lambda verb, ref, _: verb == "patch" and ref == VM.ref("a", "prod"),
    "the VM's Service": lambda verb, ref, _: verb == "delete" and ref.resource == SERVICE,
    "the record": lambda verb, ref, subresource: subresource == "status" and ref.resource != SERVICE,
    "the other VM's Service": lambda verb, ref, _: verb == "create" and ref.resource == SERVICE,
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_move_keeps_the_address_on_its_vm(cluster: FakeCluster, what: str) -> None:
    attach_first(cluster)
    cluster.attach("a", network=PUB, ip=FIRST, ports=(Port(8443),))
    there = announced(cluster)
    (before,) = cluster.api.every(SERVICE)
    done = move(refusing(cluster, at_most(1, REFUSED[what])))
    assert "may not" in refusal(done, "prod/b").message
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/a"}, {"a": FIRST})
    assert (requested_public_ip(cluster, "a"), requested_public_ip(cluster, "b"), announced(cluster)) == (
        FIRST,
        "",
        there,
    )
    (after,) = cluster.api.every(SERVICE)
    assert after["spec"]["ports"] == before["spec"]["ports"]
    assert move(cluster).results == {"prod/b": FIRST}
    assert (cluster.holders("pub"), services(cluster), requested_public_ip(cluster, "a")) == (
        {FIRST: "prod/b"},
        {"b": FIRST},
        "",
    )


def test_refused_move_keeps_the_request_of_the_other_vm(cluster: FakeCluster) -> None:
    attach_first(cluster)
    asked = {PUBLIC_NETWORK: "pub", PUBLIC_IP: FIRST}
    cluster.api.change(VM.ref("b", "prod"), lambda obj: obj["metadata"].update(annotations=asked))
    done = move(refusing(cluster, at_most(1, REFUSED["the other VM's Service"])))
    assert "may not create services" in refusal(done, "prod/b").message
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/a"}, {"a": FIRST})
    assert (requested_public_ip(cluster, "a"), requested_public_ip(cluster, "b")) == (FIRST, FIRST)


def test_address_taken_by_a_killed_move_stays_with_the_new_vm_when_refused(cluster: FakeCluster) -> None:
    attach_first(cluster)

    def dies(verb: str, ref: ObjectRef, subresource: str) -> bool:
        if subresource == "status" and ref.resource != SERVICE:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        move(refusing(cluster, dies))
    refused = move(refusing(cluster, REFUSED["the other VM's Service"]))
    assert "may not create services" in refusal(refused, "prod/b").message
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/b"}, {})
    assert (requested_public_ip(cluster, "a"), requested_public_ip(cluster, "b")) == ("", FIRST)
    assert move(cluster).results == {"prod/b": FIRST}
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/b"}, {"b": FIRST})


def test_move_without_permission_for_the_service_status_changes_nothing() -> None:
    cluster = public()
    attach_first(cluster)
    cluster.api.writes.clear()
    assert "may not patch services" in refusal(move(tenant(cluster)), "prod/b").message
    assert not [write for write in cluster.api.writes if "service" in write or "virtualmachine/a" in write]
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: "prod/a"}, {"a": FIRST})
    assert (requested_public_ip(cluster, "a"), requested_public_ip(cluster, "b")) == (FIRST, "")


def test_move_of_an_address_detached_concurrently_leaves_no_request(cluster: FakeCluster) -> None:
    attach_first(cluster)
    mover = cluster.second_client(1)
    mover.api.before.clear()

    def detached(verb: str, ref: ObjectRef) -> None:
        if ref == VM.ref("a", "prod") and verb == "patch":
            mover.api.before.clear()
            cluster.detach("a", network=PUB)

    mover.api.before.append(detached)
    with pytest.raises(PreconditionFailed, match="is not assigned on"):
        move(mover)
    assert (cluster.holders("pub"), services(cluster)) == ({}, {})
    assert (requested_public_ip(cluster, "a"), requested_public_ip(cluster, "b")) == ("", "")


def with_quota(cluster: FakeCluster, most: int) -> None:
    """Let the VMs of one namespace hold at most so many addresses of network prod/pub."""
    cluster.api.change(NETWORKWIZARD.ref("pub", "prod"), lambda obj: obj["spec"].update(maxAddressesPerNamespace=most))


def test_move_into_a_namespace_at_its_quota_changes_nothing(cluster: FakeCluster) -> None:
    with_quota(cluster, 1)
    cluster.vm("full", "dev")
    cluster.vm("b", "dev")
    attach_first(cluster)
    cluster.attach("dev/full", network=PUB, ip=SECOND)
    before = (cluster.holders("pub"), services(cluster), announced(cluster))
    cluster.api.writes.clear()
    message = "namespace dev holds 1 addresses of network prod/pub, which allows 1 per namespace"
    request = MoveRequest(parse_address(FIRST), ("dev", "b"), ("prod", "pub"))
    for dry_run in ("client", "server", "none"):
        with pytest.raises(PreconditionFailed, match=message):
            cluster.run(plan_move, request, dry_run=dry_run)
    assert not cluster.api.writes
    assert (cluster.holders("pub"), services(cluster), announced(cluster)) == before
    cluster.detach("dev/full", network=PUB)
    assert cluster.run(plan_move, request).results == {"dev/b": FIRST}
    assert cluster.holders("pub") == {FIRST: "dev/b"}


def test_move_within_a_namespace_at_its_quota_is_allowed(cluster: FakeCluster) -> None:
    with_quota(cluster, 1)
    attach_first(cluster)
    assert move(cluster).results == {"prod/b": FIRST}


def test_started_move_is_completed_though_another_one_uses_the_last_quota(cluster: FakeCluster) -> None:
    with_quota(cluster, 1)
    cluster.vm("c")
    cluster.vm("b", "dev")
    cluster.vm("c", "dev")
    assert not cluster.attach("a", network=PUB, ip=FIRST).errors
    with_quota(cluster, 2)
    assert not cluster.attach("c", network=PUB, ip=SECOND).errors
    with_quota(cluster, 1)
    slower = cluster.second_client(1)
    slower.api.before.clear()

    def faster(verb: str, ref: ObjectRef) -> None:
        if ref == VM.ref("a", "prod") and verb == "patch":
            slower.api.before.clear()
            request = MoveRequest(parse_address(SECOND), ("dev", "c"), ("prod", "pub"))
            assert cluster.run(plan_move, request).results == {"dev/c": SECOND}

    slower.api.before.append(faster)
    done = slower.run(plan_move, MoveRequest(parse_address(FIRST), ("dev", "b"), ("prod", "pub")))
    assert done.results == {"dev/b": FIRST}
    assert cluster.holders("pub") == {FIRST: "dev/b", SECOND: "dev/c"}
    assert services(cluster) == {"b": FIRST, "c": SECOND}


def test_concurrent_moves_leave_the_address_with_one_vm_and_no_other_request(cluster: FakeCluster) -> None:
    cluster.vm("c")
    attach_first(cluster)
    slower = cluster.second_client(1)
    slower.api.before.clear()

    def faster(verb: str, ref: ObjectRef) -> None:
        if ref == VM.ref("a", "prod") and verb == "patch":
            slower.api.before.clear()
            assert move(cluster, "c").results == {"prod/c": FIRST}

    slower.api.before.append(faster)
    done = move(slower)
    winner = "b" if done.results else "c"
    assert (cluster.holders("pub"), services(cluster)) == ({FIRST: f"prod/{winner}"}, {winner: FIRST})
    assert {name: requested_public_ip(cluster, name) for name in "abc" if requested_public_ip(cluster, name)} == {
        winner: FIRST
    }


@pytest.mark.I6
def test_status_of_a_service_moved_to_another_network_is_not_written() -> None:
    """I6: there it may have the same address, by another announcer."""
    cluster = public()

    def comes_to_another(verb: str, ref: ObjectRef) -> None:
        if (verb, ref.resource) == ("patch", SERVICE):
            cluster.api.before.clear()
            cluster.api.change(ref, lambda obj: obj["metadata"]["labels"].update({metallb.NETWORK_LABEL: "uid-of-far"}))

    cluster.api.before.append(comes_to_another)
    with pytest.raises(PreconditionFailed, match="was not created for network prod/pub"):
        cluster.attach("a", network=PUB, ip=FIRST)
    [service] = cluster.api.every(SERVICE)
    assert service["status"] == {"loadBalancer": {}}


@pytest.mark.parametrize(
    ("status", "hint"), [(403, "Ask an administrator for this permission"), (503, "Run the same command again")]
)
def test_network_is_not_deleted_while_its_pool_cannot_be_read(status: int, hint: str) -> None:
    cluster = public(announce="metallb-l2")
    cluster.api.refuse("list", metallb.POOL, status)
    cluster.api.writes.clear()
    with pytest.raises(UnreadableError, match=r"network prod/pub cannot be deleted: .*ipaddresspools") as refused:
        cluster.delete_network("pub")
    assert hint in refused.value.hint
    assert (cluster.api.writes, cluster.networks()) == ([], ["pub"])
    cluster.api.allow_everything()
    assert not cluster.delete_network("pub").errors
    assert (cluster.networks(), cluster.api.every(metallb.POOL)) == ([], [])


def test_network_is_kept_if_its_pool_cannot_be_read_in_the_middle_of_its_deletion() -> None:
    cluster = public(announce="metallb-l2")
    assert not cluster.attach("a", network=PUB).errors

    def becomes_unavailable(verb: str, ref: ObjectRef) -> None:
        if verb == "delete" and ref.resource == SERVICE:
            cluster.api.refuse("list", metallb.POOL, 503)

    cluster.api.before.append(becomes_unavailable)
    with pytest.raises(UnreadableError, match="cannot be deleted: cannot list ipaddresspools"):
        cluster.delete_network("pub", force=True)
    assert (cluster.networks(), services(cluster)) == (["pub"], {})
    cluster.api.before.clear()
    cluster.api.allow_everything()
    assert not cluster.delete_network("pub").errors
    assert (cluster.networks(), cluster.api.every(metallb.POOL)) == ([], [])
