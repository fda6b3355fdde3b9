"""Implement public networks: addresses reachable from outside the cluster, each on a separate Service for its VM.

`spec.public.announce` selects what announces the addresses: MetalLB on the nodes' LAN, MetalLB by BGP, or Calico by
BGP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType

from kubectl_yoshi.backends import kubevirt
from kubectl_yoshi.backends.calico import api as calico_api
from kubectl_yoshi.backends.defaults import BackendDefaults
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ownership import find_deleted_networks
from kubectl_yoshi.backends.public import annotations as vm_annotations
from kubectl_yoshi.backends.public import calico_bgp as public_calico
from kubectl_yoshi.backends.public import foreign_services, services
from kubectl_yoshi.backends.public import metallb as public_metallb
from kubectl_yoshi.backends.public.announcer import Announcer
from kubectl_yoshi.backends.public.calico_bgp import CalicoBgp
from kubectl_yoshi.backends.public.metallb import MetalLb
from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.backend import (
    AddressUse,
    AllocationsLoader,
    Attachment,
    HoldRelease,
    HotPlug,
    NetworkConflict,
    RequestedNetworks,
    UsageKind,
)
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, metadata, name_of, namespace_of
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.model.ports import DEFAULT_PORTS, Port
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import VM, VMI, Vm, find_instance, find_vms

ANNOUNCERS: Mapping[str, Announcer] = {
    announcer.name: announcer
    for announcer in (
        MetalLb("metallb-l2", metallb.L2_ADVERTISEMENT, metallb.L2_STATUS),
        MetalLb("metallb-bgp", metallb.BGP_ADVERTISEMENT, metallb.BGP_STATUS),
        CalicoBgp(),
    )
}


def get_announcer(network: Network, served: ServedApis) -> Announcer:
    """Return the announcer of a network.

    It is the one that the spec names. The default without bgpConfig is MetalLB on the LAN; with bgpConfig it is Calico
    if the cluster uses Calico, otherwise MetalLB by BGP.
    """
    requested = network.options.get("announce")
    if requested in ANNOUNCERS:
        return ANNOUNCERS[str(requested)]
    if network.bgp is None:
        return ANNOUNCERS["metallb-l2"]
    return ANNOUNCERS["metallb-bgp" if ANNOUNCERS["calico-bgp"].missing_apis(served) else "calico-bgp"]


class Public(BackendDefaults):
    """The backend for spec.plugin: public."""

    plugin = "public"
    annotation_key = vm_annotations.PUBLIC_NETWORK
    pins_vm_template = False
    has_interface = False
    keeps_addresses = False
    allowed_as_default = False

    def requested_networks(self, vm: Vm) -> RequestedNetworks:
        return vm_annotations.parse_requested_networks(vm)

    def missing_apis(self, served: ServedApis) -> str:
        reasons = [announcer.missing_apis(served) for announcer in ANNOUNCERS.values()]
        return "" if "" in reasons else " and ".join(dict.fromkeys(reasons))

    # -- networks ------------------------------------------------------------------------------------------------

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        announcer = get_announcer(network, snapshot.served)
        if missing_apis := announcer.missing_apis(snapshot.served):
            return (NetworkConflict(f"{announcer.name} announces it and is not installed: looked for {missing_apis}"),)
        overlapping = (
            public_calico.overlapping_pools(network, snapshot) if calico_api.is_installed(snapshot.served) else []
        )
        return (
            *map(NetworkConflict, _list_contradictions(network, announcer)),
            *announcer.conflicts(network, snapshot),
            *map(NetworkConflict, overlapping),
        )

    def implicit_choices(self, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """Return the announcer and the ASNs, as far as the spec does not contain them."""
        announcer = get_announcer(network, snapshot.served)
        found = []
        if not network.options.get("announce"):
            others = [
                a.name for a in ANNOUNCERS.values() if a is not announcer and _could_announce(a, network, snapshot)
            ]
            instead = f" ({' or '.join(others)} could be used instead)" if others else ""
            found.append(f"announced by {announcer.name}{instead}")
        if network.bgp is not None:
            bgp_spec = dig(network.raw, "spec", "bgpConfig", default={})
            if bgp_spec.get("myASN") is None:
                found.append(f"this cluster's ASN {network.bgp.my_asn}")
            if bgp_spec.get("remoteASN") is None:
                found.append(f"the routers' ASN {network.bgp.remote_asn}")
        return tuple(found)

    def infra_address_purpose(self, network: Network) -> str | None:
        return None

    def ensure(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        announcer = get_announcer(network, snapshot.served)
        plan = announcer.ensure(network, snapshot)
        return plan if plan or not network.is_edited else _remove_former_announcement(network, announcer, snapshot)

    def health(self, network: Network, snapshot: Snapshot) -> str:
        return get_announcer(network, snapshot.served).health(network, snapshot)

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        return get_announcer(network, snapshot.served).pending_rollout(network, snapshot)

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        announcer = get_announcer(network, snapshot.served)
        return (("Announced By", announcer.name), *announcer.describe(network, snapshot))

    def teardown(self, network: Network, snapshot: Snapshot, ignore_usage: bool = False) -> Plan:
        query = services.network_services_query(network)
        remaining = [service for service in snapshot.lookup(query) if not metadata(service).get("deletionTimestamp")]
        if reason := snapshot.unreadable_reason(query):
            raise PreconditionFailed(
                f"cannot check whether Services have addresses of network {network.full_name}: {reason}",
                "Ask an administrator for this permission, or to delete the network.",
            )
        if remaining and not ignore_usage:
            ref = SERVICE.ref(name_of(remaining[0]), namespace_of(remaining[0]))
            raise PreconditionFailed(
                f"{ref} still has an address of network {network.full_name}",
                "Detach its VM; if the VM no longer exists, Kubernetes deletes the Service in a moment.",
            )
        announcer = get_announcer(network, snapshot.served)
        plan = Plan() if announcer.missing_apis(snapshot.served) else announcer.teardown(network, snapshot)
        for provider in _installed_providers(snapshot.served):  # announcements of a former spec
            try:
                other = provider.remove_for_networks({network.uid}, snapshot)
            except PreconditionFailed as error:
                other = Plan(notes=(error.message,))
            plan = plan + (other if any(change not in tuple(plan) for change in other) else Plan())
        return plan

    def orphaned_objects(self, live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
        owned = [
            (s, services.get_owner_networks(s))
            for s in snapshot.lookup(Query(SERVICE, label_selector=metallb.NETWORK_LABEL))
        ]
        deleted_uids = find_deleted_networks(
            {uid: name for _, owner_networks in owned for uid, name in owner_networks.items()}, live, namespace
        )
        orphans = [service for service, owner_networks in owned if owner_networks.keys() & deleted_uids]
        plan = Plan((tuple(services.deletion(service, "") for service in orphans),) if orphans else ())
        for provider in _installed_providers(snapshot.served):
            deleted_uids = find_deleted_networks(provider.owner_networks(snapshot), live, namespace)
            plan = plan + (provider.remove_for_networks(deleted_uids, snapshot) if deleted_uids else Plan())
        return plan

    # -- VMs -----------------------------------------------------------------------------------------------------

    def address_uses(
        self, network: Network, vms: Sequence[Vm], numbers: Intervals, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        snapshot.lookup(*(services.service_query(vm, network) for vm in vms))
        found: list[AddressUse] = []
        own_services: set[tuple[str, str]] = set()
        for vm in vms:
            requested = vm_annotations.list_requested_addresses(vm, network)
            found += [_vm_use(int(address), UsageKind.REQUESTED, vm) for address in requested]
            service = services.find_service(vm, network, snapshot)
            if service is not None:
                own_services.add((namespace_of(service), name_of(service)))
                found += _service_uses(service, "", "")
        unverified = numbers - Intervals.from_numbers(use.number for use in found if use.ref.resource == SERVICE)
        others = [
            service
            for service in (snapshot.lookup(Query(SERVICE)) if unverified else ())
            if (namespace_of(service), name_of(service)) not in own_services
            and any(int(address) in unverified for address in services.list_service_addresses(service))
        ]
        nearby_vms = foreign_services.list_vms_in_namespaces_of(others, vms, snapshot)
        for service in others:
            found += [use for use in _other_service_uses(service, network, nearby_vms) if use.number in unverified]
        return tuple(found)

    def config_queries(self, snapshot: Snapshot) -> tuple[Query, ...]:
        return ()

    def all_address_uses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        search_namespaces: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_queries = [Query(VM, namespace) for namespace in search_namespaces]
        service_queries = [Query(SERVICE, namespace) for namespace in search_namespaces]
        snapshot.lookup(*vm_queries, *service_queries, *(Query(VMI, namespace) for namespace in search_namespaces))
        found: list[AddressUse] = []
        for vm in find_vms(vm_queries, snapshot):
            requested = vm_annotations.list_requested_addresses(vm, network)
            found += [_vm_use(int(address), UsageKind.REQUESTED, vm) for address in requested]
        requested_numbers = {use.number for use in found}
        nearby_vms = foreign_services.group_by_namespace(snapshot.lookup(*vm_queries))
        announcer = get_announcer(network, snapshot.served)
        for service in snapshot.lookup(*service_queries):
            if services.is_for_network(service, network):
                by, node = announcer.get_announcement(service, _find_vmi(service, snapshot), snapshot)
                found += _service_uses(service, by, node)
            else:
                foreign_uses = _other_service_uses(service, network, nearby_vms.get(namespace_of(service), ()))
                found += [
                    use
                    for use in foreign_uses
                    if use.number in network.cidr_addresses or use.number in requested_numbers
                ]
        return tuple(found)

    def addresses_on_vm(self, vm: Vm, network: str) -> tuple[Address, ...]:
        requested = self.requested_networks(vm)
        return requested.addresses if len(requested.networks) == 1 else ()

    def service_addresses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        return foreign_services.service_addresses(network, namespaces, snapshot)

    def attach_patch(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        vm, network, address = attachment.vm, attachment.network, attachment.address
        service = services.find_service(vm, network, snapshot)
        previous_address = services.get_service_address(service) if service else None
        changed = vm_annotations.build_attach_annotations(vm, network, address, previous_address, attachment.ports)
        summary = f"record on {vm.ref} that it has {address}"
        return _annotation_patch(vm, changed, summary)

    def ensure_service(self, attachment: Attachment, snapshot: Snapshot) -> Plan:
        vm, network, address = attachment.vm, attachment.network, attachment.address
        announcer = get_announcer(network, snapshot.served)
        service = services.find_service(vm, network, snapshot)
        ref = services.service_ref(vm, network)
        attachment = replace(attachment, ports=attachment.ports or vm_annotations.parse_ports_annotation(vm))
        selector = kubevirt.pod_selector(vm, snapshot)
        service_template = announcer.service_template(network, address)
        wanted = services.new_service(attachment, service_template, selector)
        if service is not None and metadata(service).get("deletionTimestamp"):
            wait = Change(
                Verb.WAIT, ref, f"wait until {ref} is deleted", before=service, owner=vm.full_name, wait_for="deleted"
            )
            return sequential(wait)
        if service is None and foreign_services.find_foreign_service(vm, address, snapshot) is not None:
            return Plan()
        if service is not None and services.needs_recreation(service, wanted):
            return sequential(services.deletion(service, vm.full_name))
        plan = announcer.ensure_prerequisites(network, address, snapshot, vm.full_name)
        if service is None:
            summary = f"create {ref} with {address}"
            create = Change(
                Verb.CREATE, ref, summary, wanted, owner=vm.full_name, rejection_hint=service_template.rejection_hint
            )
            plan = plan + sequential(create)
        elif ops := services.build_service_patch(service, wanted, attachment.ports, kubevirt.selectors(vm)):
            summary = f"set {address} on {ref}"
            plan = plan + sequential(Change(Verb.PATCH, ref, summary, ops, before=service, owner=vm.full_name))
        return plan + announcer.announce(attachment, service, snapshot)

    def configured_ports(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[Port, ...]:
        if annotated := vm_annotations.parse_ports_annotation(vm):
            return annotated
        service = services.find_service(vm, network, snapshot)
        ports = services.get_service_ports(service) if service else ()
        return () if set(ports) == set(DEFAULT_PORTS) else ports

    def wait_conditions(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        vm, network, address = attachment.vm, attachment.network, attachment.address
        announcer = get_announcer(network, snapshot.served)
        service = services.find_service(vm, network, snapshot)
        foreign_service = foreign_services.find_foreign_service(vm, address, snapshot) if service is None else None
        if foreign_service is not None and foreign_services.has_address(foreign_service, address):
            return ()
        if foreign_service is not None:
            ref = SERVICE.ref(name_of(foreign_service), namespace_of(foreign_service))
            return announcer.wait_conditions(address, ref, foreign_service, vm.full_name)
        return announcer.wait_conditions(address, services.service_ref(vm, network), service, vm.full_name)

    def hot_plug(self, vm: Vm, snapshot: Snapshot) -> HotPlug:
        return HotPlug("it has no additional interface")

    def detach_patch(self, vm: Vm, network: Network, snapshot: Snapshot, live: bool = False) -> tuple[Change, ...]:
        service = services.find_service(vm, network, snapshot)
        previous_address = services.get_service_address(service) if service else None
        changed = vm_annotations.build_detach_annotations(vm, network, previous_address)
        detach_patches = _annotation_patch(vm, changed, f"detach {vm.ref} from network {network.full_name}")
        return (*detach_patches, *((services.deletion(service, vm.full_name),) if service else ()))

    def release_hold(self, network: Network, number: int, record: Allocation, snapshot: Snapshot) -> HoldRelease:
        announcer = get_announcer(network, snapshot.served)
        if announcer.missing_apis(snapshot.served):
            return HoldRelease()
        try:
            return HoldRelease(announcer.withdraw(network, network.address(number), record, snapshot))
        except PreconditionFailed as error:
            return HoldRelease(blocker=error.message)

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        return "", ""

    def warnings(self, attachment: Attachment, snapshot: Snapshot) -> tuple[str, ...]:
        vm, network = attachment.vm, attachment.network
        found = get_announcer(network, snapshot.served).warnings(network, attachment.address, snapshot)
        if vm.pod_interface is None:
            return (*found, f"{vm.ref} has no interface on the pod network: it receives no traffic")
        return found

    def orphaned_allocations(self, network: Network, recorded: AllocationsLoader, snapshot: Snapshot) -> Plan:
        """Return the changes that delete Services and announcements of addresses without an allocation.

        Normally they are deleted along with the allocation. But a slow or killed run may create the Service after the
        address was released, and a Service may remain without its VM (--cascade=orphan).
        """
        query = services.network_services_query(network)
        plan = Plan()
        for service in snapshot.lookup(query):
            namespace, name, uid = services.get_owner_vm(service)
            address = services.get_service_address(service)
            if not name and address is not None:
                plan = plan.parallel(self._remove_ownerless(service, address, network, recorded, snapshot))
                continue
            vms = snapshot.lookup(Query(VM, namespace, name)) if uid and address else []
            if address is None or not vms or address in vm_annotations.list_requested_addresses(Vm(vms[0]), network):
                continue
            holder = Allocation(VIRTUALMACHINE, namespace, name, uid)
            hold_release = self.release_hold(network, int(address), holder, snapshot)  # read before the allocations
            record = recorded().get(int(address))
            if record is None:
                plan = plan.parallel(hold_release.plan)
            if record is None or record.uid != uid:
                plan = plan.parallel(sequential(services.deletion(service, "")))
        return plan

    def _remove_ownerless(
        self,
        service: Json,
        address: Address,
        network: Network,
        recorded: AllocationsLoader,
        snapshot: Snapshot,
    ) -> Plan:
        """Return the changes that delete a Service without a VM.

        There are none while it may belong to the VM that holds its address.
        """
        deletion = sequential(services.deletion(service, ""))
        holder = Allocation(VIRTUALMACHINE, namespace_of(service), "")
        hold_release = self.release_hold(network, int(address), holder, snapshot)  # read before the allocations
        record = recorded().get(int(address))
        if record is None:
            return hold_release.plan.parallel(deletion)
        query = Query(VM, record.namespace, record.name)
        vm_exists = any(Vm(obj).uid == record.uid for obj in snapshot.lookup(query)) or snapshot.unreadable_reason(
            query
        )
        existing = snapshot.lookup(services.network_services_query(network))
        owned_services = (service_of_vm for service_of_vm in existing if services.get_owner_vm(service_of_vm)[1])
        has_other_service = any(
            services.get_service_address(service_of_vm) == address for service_of_vm in owned_services
        )
        return deletion if has_other_service or not vm_exists else Plan()


def _list_contradictions(network: Network, announcer: Announcer) -> list[str]:
    requested = network.options.get("announce")
    found = []
    if requested is not None and requested not in ANNOUNCERS:
        found.append(f'announce "{requested}" is unknown: choose one of {", ".join(ANNOUNCERS)}')
    if announcer.name.endswith("bgp") and network.bgp is None:
        found.append(f"{announcer.name} needs a bgpConfig (--peer, --my-asn, --remote-asn)")
    if announcer.name == "metallb-l2" and network.bgp is not None:
        found.append("metallb-l2 announces on the LAN and does not use a bgpConfig: leave one of them out")
    if network.options.get("via") == "external-ips" and announcer.name != "calico-bgp":
        found.append(f"via external-ips is for calico-bgp, and {announcer.name} announces this network")
    if network.options.get("interfaces") and announcer.name != "metallb-l2":
        found.append(f"interfaces are for metallb-l2, and {announcer.name} announces this network")
    return found


def _remove_former_announcement(network: Network, announcer: Announcer, snapshot: Snapshot) -> Plan:
    """Return the changes that remove a network's announcements under a former spec.

    There are none while one of its Services needs them.
    """
    query = services.network_services_query(network)
    found = snapshot.lookup(query)
    if snapshot.unreadable_reason(query):
        return Plan()
    plan = Plan()
    for provider in _installed_providers(snapshot.served):
        is_current = (provider is public_calico) == (announcer.name == "calico-bgp")
        if is_current or any(provider.announces(service) for service in found):
            continue
        try:
            plan = plan + provider.remove_for_networks({network.uid}, snapshot)
        except PreconditionFailed:  # unknown now: the next run checks again
            continue
    return plan


def _could_announce(announcer: Announcer, network: Network, snapshot: Snapshot) -> bool:
    """Return whether a different announcer could announce the network with its current spec."""
    return not announcer.missing_apis(snapshot.served) and not _list_contradictions(network, announcer)


def _installed_providers(served: ServedApis) -> list[ModuleType]:
    """Return the modules for those of MetalLB and Calico that are installed."""
    found: list[ModuleType] = [public_metallb] if metallb.is_installed(served) else []
    return [*found, public_calico] if not ANNOUNCERS["calico-bgp"].missing_apis(served) else found


def _annotation_patch(vm: Vm, changed: Mapping[str, str | None], summary: str) -> tuple[Change, ...]:
    if not changed:
        return ()
    patch = PatchBuilder.for_uid(vm.uid).set_keys(vm.raw, ANNOTATIONS, changed)
    return (Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=vm.full_name),)


def _vm_use(number: int, how: UsageKind, vm: Vm) -> AddressUse:
    return AddressUse(number, how, vm.ref, vm.namespace, vm.name, vm.uid)


def _service_uses(service: Json, by: str, node: str) -> list[AddressUse]:
    """Return what a Service managed by yoshi shows: that its VM requests the address, and that it is announced."""
    address = services.get_service_address(service)
    if address is None:
        return []
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    owner = services.get_owner_vm(service)
    if not owner[1]:  # its VM was deleted with --cascade=orphan: `orphaned_allocations` deletes it
        return [AddressUse(int(address), UsageKind.HELD_BY_BACKEND, ref)]
    found = [AddressUse(int(address), UsageKind.REQUESTED, ref, *owner)]
    if foreign_services.has_address(service, address):
        found.append(AddressUse(int(address), UsageKind.ANNOUNCED, ref, *owner, by, node))
    elif by:
        found[0] = AddressUse(int(address), UsageKind.REQUESTED, ref, *owner, by)
    return found


def _other_service_uses(service: Json, network: Network, vms: Iterable[Vm]) -> list[AddressUse]:
    """Return the uses by a Service that is not for one of these VMs or not for this network; see list_service_uses."""
    if not services.is_created_by_yoshi(service):
        return foreign_services.list_service_uses(service, network, vms)
    ref = SERVICE.ref(name_of(service), namespace_of(service))
    owner = services.get_owner_vm(service) if services.is_for_network(service, network) else ("", "", "")
    how = UsageKind.REQUESTED if owner[1] else UsageKind.HELD_BY_BACKEND
    wanted = (
        a for a in services.list_service_addresses(service) if network.cidr is None or a.version == network.version
    )
    return [AddressUse(int(address), how, ref, *owner) for address in wanted]


def _find_vmi(service: Json, snapshot: Snapshot) -> Json | None:
    namespace, name, uid = services.get_owner_vm(service)
    vm = snapshot.get_object(VM, name, namespace)
    if vm is None or (uid and Vm(vm).uid != uid):
        return None
    return find_instance(Vm(vm), snapshot)
