"""foreign Services: which VM each is for, and what it shows of its addresses.

With a whole cluster around it: tests/cluster/test_ips_import.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.public.backend import Public
from kubectl_yoshi.backends.public.foreign_services import find_foreign_service, list_service_uses, selects
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.backend import AddressUse, Attachment, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.network import Network, parse_network
from kubectl_yoshi.model.snapshot import MissingQueriesError, Query, Snapshot, Unreadable
from kubectl_yoshi.model.vm import VM, Vm

Json = dict[str, Any]
ADDRESS = parse_address("203.0.113.3")


def network(cidr: str | None = "203.0.113.0/28") -> Network:
    spec = {"plugin": "public", **({"cidr": cidr} if cidr else {})}
    return parse_network({"metadata": {"name": "pub", "namespace": "prod", "uid": "uid-pub"}, "spec": spec})


def vm(name: str = "web", namespace: str = "prod", ip: str = "", **labels: str) -> Vm:
    annotations = {"plumber.k8s.pf9.io/publicIP": ip} if ip else {}
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "annotations": annotations}
    return Vm(
        {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": meta,
            "spec": {"template": {"metadata": {"labels": labels}, "spec": {}}},
        }
    )


def service(namespace: str = "prod", ingress: str = "", selector: Json | None = None, **spec: Any) -> Json:
    """A Service of the name lb; it asks for 203.0.113.3 unless its spec has another."""
    status = {"loadBalancer": {"ingress": [{"ip": ingress}]}} if ingress else {}
    spec = spec or {"type": "LoadBalancer", "loadBalancerIP": str(ADDRESS)}
    selector = {"app": "web"} if selector is None else selector
    return {
        "metadata": {"name": "lb", "namespace": namespace, "uid": "uid-lb"},
        "spec": {**spec, "selector": selector},
        "status": status,
    }


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({"app": "web"}, True),
        ({"app": "web", "tier": "front"}, True),
        ({"app": "web", "tier": "back"}, False),
        ({"kubevirt.io/domain": "web"}, True),
        ({"vm.kubevirt.io/name": "web"}, True),
        ({"vmi.kubevirt.io/id": "web"}, True),
        ({"kubevirt.io": "virt-launcher", "app": "web"}, True),
        ({"vm.kubevirt.io/name": "other"}, False),
        ({}, False),
    ],
)
def test_service_selects_vms_by_their_pod_labels(selector: Json, selected: bool) -> None:
    one = vm(**{"app": "web", "tier": "front", "kubevirt.io/domain": "web"})
    assert selects(service(selector=selector), one) is selected
    assert not selects(service("elsewhere", selector=selector), one)


def test_vm_name_label_of_the_template_is_ignored() -> None:
    assert not selects(service(selector={"vm.kubevirt.io/name": "other"}), vm(**{"vm.kubevirt.io/name": "other"}))


def of(one: Vm, how: UsageKind) -> AddressUse:
    return AddressUse(int(ADDRESS), how, SERVICE.ref("lb", "prod"), one.namespace, one.name, one.uid)


@pytest.mark.parametrize(
    "written",
    [
        {"loadBalancerIP": str(ADDRESS)},
        {"externalIPs": [str(ADDRESS)]},
        {"type": "LoadBalancer", "ingress": str(ADDRESS)},
    ],
)
def test_service_addresses_are_used_by_every_selected_vm(written: Json) -> None:
    one, two = vm("one", app="web"), vm("two", app="web")
    assert list_service_uses(service(**written), network(), [one, two, vm("three")]) == [
        of(one, UsageKind.HELD_BY_BACKEND),
        of(two, UsageKind.HELD_BY_BACKEND),
    ]
    assert list_service_uses(service(**written), network(), [vm("three")]) == [
        AddressUse(int(ADDRESS), UsageKind.HELD_BY_BACKEND, SERVICE.ref("lb", "prod"))
    ]


def test_address_is_announced_if_its_vm_requests_it_and_the_service_has_it() -> None:
    asks = vm(ip=str(ADDRESS), app="web")
    hows = [use.kind for use in list_service_uses(service(ingress=str(ADDRESS)), network(), [asks])]
    assert hows == [UsageKind.HELD_BY_BACKEND, UsageKind.ANNOUNCED]
    assert [use.kind for use in list_service_uses(service(), network(), [asks])] == [UsageKind.HELD_BY_BACKEND]
    assert [use.kind for use in list_service_uses(service(ingress=str(ADDRESS)), network(), [vm(app="web")])] == [
        UsageKind.HELD_BY_BACKEND
    ]


def snapshot(*services: Json, vms: tuple[Vm, ...] = ()) -> Snapshot:
    return Snapshot(results={Query(SERVICE): services, Query(VM): tuple(one.raw for one in vms)})


def test_importable_addresses_are_in_the_cidr_or_any_without_a_cidr() -> None:
    one = vm(app="web")
    outside = {**service(loadBalancerIP="198.51.100.7"), "metadata": {"name": "out", "namespace": "prod"}}
    known = snapshot(service(), outside, vms=(one,))
    assert Public().service_addresses(network(), None, known) == (of(one, UsageKind.HELD_BY_BACKEND),)
    assert {use.ref.name for use in Public().service_addresses(network(None), None, known)} == {"lb", "out"}


def test_own_services_are_not_foreign() -> None:
    ours = service()
    ours["metadata"]["labels"] = {"plumber.k8s.pf9.io/networkUID": "uid-other"}
    one = vm(app="web")
    assert Public().service_addresses(network(), None, snapshot(ours, vms=(one,))) == ()
    assert find_foreign_service(one, ADDRESS, snapshot(ours)) is None


def test_unreadable_services_are_not_treated_as_absent() -> None:
    unknown = Snapshot(results={Query(SERVICE): Unreadable("may not list services"), Query(VM): ()})
    with pytest.raises(PreconditionFailed, match="may not list services"):
        Public().service_addresses(network(), None, unknown)
    with pytest.raises(MissingQueriesError) as queries:
        find_foreign_service(vm(), ADDRESS, unknown)
    assert queries.value.queries == (Query(SERVICE, "prod"),)
    with pytest.raises(PreconditionFailed, match=r"whether a Service has 203\.0\.113\.3"):
        find_foreign_service(vm(), ADDRESS, unknown.with_results({Query(SERVICE, "prod"): Unreadable("may not")}))


def test_no_service_is_created_if_a_foreign_one_has_the_address_for_the_vm() -> None:
    one = vm(app="web")
    own = Query(SERVICE, "prod", "")
    known = snapshot(service(), vms=(one,)).with_results({own: (service(),)})

    def ask(snapshot: Snapshot) -> Any:
        return Public().ensure_service(Attachment(one, network(), int(ADDRESS)), snapshot)

    while True:
        try:
            plan = ask(known)
            break
        except MissingQueriesError as more:
            known = known.with_results(dict.fromkeys(more.queries, ()))
    assert not plan


def test_address_of_a_foreign_service_for_another_vm_is_in_use() -> None:
    one, two = vm("one"), vm("two", app="web")
    known = snapshot(service(), vms=(one, two))

    def ask(snapshot: Snapshot) -> Any:
        return Public().address_uses(network(), [one], Intervals.from_numbers([int(ADDRESS)]), snapshot)

    while True:
        try:
            address_uses = ask(known)
            break
        except MissingQueriesError as more:
            known = known.with_results(
                {read: (one.raw, two.raw) if read.resource == VM else () for read in more.queries}
            )
    assert address_uses == (of(two, UsageKind.HELD_BY_BACKEND),)
