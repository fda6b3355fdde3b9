"""Implement private networks on Calico: an IPPool per network, and an address annotation on each VM's template.

KubeVirt copies the annotation cni.projectcalico.org/ipAddrs to the launcher pod, and Calico's CNI plugin assigns that
address (https://docs.tigera.io/calico/latest/networking/ipam/use-specific-ip). It reaches a running VM only by a
restart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_network

from kubectl_yoshi.backends.calico import ipam, ipam_handles, ippool
from kubectl_yoshi.backends.calico.annotations import (
    HW_ADDR_ANNOTATION,
    IP_ADDRS_ANNOTATION,
    list_instance_uses,
    list_pinned_uses,
    list_pod_uses,
    list_template_uses,
    parse_pinned_addresses,
)
from kubectl_yoshi.backends.calico.api import (
    V1,
    V3,
    CalicoApi,
    calico_version,
    get_read_api,
    get_write_api,
    is_installed,
)
from kubectl_yoshi.backends.defaults import PrivateDefaults
from kubectl_yoshi.backends.kubevirt import ALLOW_MIGRATION_ANNOTATION
from kubectl_yoshi.backends.network_annotation import (
    NETWORK_NAME,
    add_network_name,
    list_other_network_names,
    names_network,
    parse_network_names,
    remove_network_name,
)
from kubectl_yoshi.model.addresses import Address, Intervals, address_of
from kubectl_yoshi.model.allocations import Allocation
from kubectl_yoshi.model.backend import (
    AddressUse,
    AllocationsLoader,
    Attachment,
    HoldRelease,
    HotPlug,
    MigrationBlocker,
    NetworkConflict,
    RequestedNetworks,
    UsageKind,
    VmProblem,
)
from kubectl_yoshi.model.errors import ASK_ADMIN_HINT, PreconditionFailed, UnreadableError, UsageError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, dig, labels_of, name_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import (
    LAUNCHER_SELECTOR,
    POD,
    VM,
    VMI,
    Vm,
    get_instance_name,
    has_ended,
    instance_queries,
    list_launcher_pods,
)

TEMPLATE_ANNOTATIONS = ("spec", "template", "metadata", "annotations")

MIGRATING_STRATEGIES = ("LiveMigrate", "LiveMigrateIfPossible", "External")
"""Eviction strategies with which a VM leaves its node while it runs."""
ADDRESS_PERSISTENCE_VERSION = (3, 32)
"""From this version on Calico itself keeps a VM's address in an IPAM handle."""


MAX_ADDRESSES_BY_NAME = 64 * 32
"""For more addresses than this, all IPAM blocks are listed instead of read by name."""


class Calico(PrivateDefaults):
    """The backend for spec.plugin: calico."""

    plugin = "calico"
    annotation_key = NETWORK_NAME
    pins_vm_template = True
    has_interface = False
    keeps_addresses = True
    allowed_as_default = True

    def requested_networks(self, vm: Vm) -> RequestedNetworks:
        return RequestedNetworks(parse_network_names(vm))

    def missing_apis(self, served: ServedApis) -> str:
        return "" if is_installed(served) else f"Calico's IPPools (ippools.{V3} or ippools.{V1})"

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        if network.cidr is None:
            raise UsageError(
                f"network {network.full_name}: a Calico network needs a cidr", "Give it one, such as 10.133.0.0/16."
            )
        ippool.pool_spec(network, manual=True)
        return ippool.conflicts(network, snapshot)

    def infra_address_purpose(self, network: Network) -> str | None:
        return None

    def ensure(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        return ippool.ensure(network, snapshot)

    def health(self, network: Network, snapshot: Snapshot) -> str:
        return ippool.health(network, snapshot)

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        """Return "": Calico assigns addresses of a pool as soon as the pool exists and is not disabled."""
        return ""

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        api = get_write_api(snapshot)
        pool = ippool.find_pool(network, api, snapshot)
        if pool is None:
            return (("IPPool", f"{ippool.pool_name(network)} ({snapshot.describe_absence(Query(api.pool))})"),)
        spec = pool.get("spec") or {}
        return (
            ("IPPool", f"{name_of(pool)} ({api.pool.api_version})"),
            ("VXLAN", str(spec.get("vxlanMode", "Never"))),
            ("IPIP", str(spec.get("ipipMode", "Never"))),
            ("NAT Outgoing", str(bool(spec.get("natOutgoing"))).lower()),
            ("Block Size", str(spec.get("blockSize", ""))),
            ("Assignment", str(spec.get("assignmentMode", "Automatic"))),
        )

    def teardown(self, network: Network, snapshot: Snapshot, ignore_usage: bool = False) -> Plan:
        return ippool.teardown(network, snapshot, ignore_usage)

    def orphaned_objects(self, live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
        return ippool.orphaned_objects(live, namespace, snapshot) if is_installed(snapshot.served) else Plan()

    # -- VMs -----------------------------------------------------------------------------------------------------

    def address_uses(
        self, network: Network, vms: Sequence[Vm], numbers: Intervals, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        api = get_read_api(snapshot)
        _prefetch_address_uses(network, vms, numbers, api, snapshot)
        found: list[AddressUse] = []
        held: set[tuple[int, str]] = set()
        for vm in vms:
            found += list_template_uses(vm, network)
            instance = snapshot.get_object(VMI, vm.name, vm.namespace)  # may belong to an earlier VM of that name
            if instance is not None and not has_ended(instance):
                found += list_instance_uses(instance, network)
            found += [
                u for pod in list_launcher_pods(vm.namespace, vm.name, snapshot) for u in list_pod_uses(pod, network)
            ]
            for allocation in ipam.find_vm_allocations(api, vm.namespace, vm.name, snapshot)[0]:
                if allocation.version == network.version and allocation.number in network.cidr_addresses:
                    found.append(_to_address_use(allocation, snapshot))
                    held.add((allocation.number, allocation.handle))
        for allocation in ipam.list_block_allocations(numbers, network.version, api, snapshot):
            if (allocation.number, allocation.handle) not in held:
                found.append(_to_address_use(allocation, snapshot))
        return tuple(found)

    def config_queries(self, snapshot: Snapshot) -> tuple[Query, ...]:
        """Return the queries for how Calico assigns and keeps addresses, and for its version."""
        api = get_read_api(snapshot)
        return Query(api.config, name="default"), Query(api.information, name="default")

    def all_address_uses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        api = get_read_api(snapshot)
        search_namespaces: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_queries = [Query(VM, namespace) for namespace in search_namespaces]
        vmi_queries = [Query(VMI, namespace) for namespace in search_namespaces]
        pod_queries = [Query(POD, namespace, label_selector=LAUNCHER_SELECTOR) for namespace in search_namespaces]
        snapshot.lookup(*vm_queries, *vmi_queries, *pod_queries, Query(api.block))
        found: list[AddressUse] = list_pinned_uses(network, namespaces, snapshot)
        for vmi in snapshot.lookup(*vmi_queries):
            if not has_ended(vmi):
                found += list_instance_uses(vmi, network)
        for pod in snapshot.lookup(*pod_queries):
            if not has_ended(pod):
                found += list_pod_uses(pod, network)
        found += [
            _to_address_use(h, snapshot)
            for h in ipam.list_block_allocations(network.cidr_addresses, network.version, api, snapshot)
        ]
        return tuple(found)

    def addresses_on_vm(self, vm: Vm, network: str) -> tuple[Address, ...]:
        """Return all pinned addresses, since a VM can be on one Calico network only."""
        return parse_pinned_addresses(vm.template_annotations)

    def conflicting_address(self, vm: Vm, network: Network, snapshot: Snapshot) -> str:
        for address in parse_pinned_addresses(vm.template_annotations):
            if address not in network:
                others = self._networks_to_leave(vm, network, snapshot)
                return f"{address} " + (
                    f"on network {others[0]}" if others else f"({IP_ADDRS_ANNOTATION} in its template)"
                )
        return ""

    def release_previous(self, vm: Vm, network: Network, number: int, snapshot: Snapshot) -> HoldRelease:
        api = get_read_api(snapshot)
        held, reason = ipam.find_vm_allocations(api, vm.namespace, vm.name, snapshot)
        if reason:
            return HoldRelease(Plan(notes=(f"cannot check whether Calico holds other addresses for VMs: {reason}",)))
        other_holdings = [h for h in held if (h.number, h.version) != (number, network.version)]
        if not other_holdings or not ipam.keeps_addresses(api, snapshot):
            return ipam_handles.reconcile_handle(api, vm, snapshot)
        address = address_of(other_holdings[0].number, other_holdings[0].version)
        released = ipam.release_allocations(api, other_holdings, snapshot, vm.full_name)
        if running_reason := ipam.running_reason(vm.namespace, vm.name, snapshot):
            if reason := ipam.forbidden_write_reason(released, snapshot):  # stopping the VM would have no effect
                raise PreconditionFailed(
                    f"Calico holds {address} for VM {vm.full_name} and would assign it again: {reason}",
                    "Ask an administrator to run this command, or attach the VM to that address.",
                )
            return HoldRelease(
                blocker=f"Calico holds {address} for VM {vm.full_name} and would assign it again ({running_reason})"
            )
        return HoldRelease(released)

    def attach_patch(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        vm, network = attachment.vm, attachment.network
        if network.cidr is None:
            raise PreconditionFailed(
                f"network {network.full_name} has no cidr, and a Calico network needs one",
                "Delete it and create it again with a cidr.",
            )
        interface_mac, _ = self.macs_of(vm, network)
        template: dict[str, str | None] = {IP_ADDRS_ANNOTATION: json.dumps([str(attachment.address)])}
        if not interface_mac:
            template[HW_ADDR_ANNOTATION] = attachment.mac or None
        network_names = add_network_name(vm, network, self._networks_to_leave(vm, network, snapshot))
        patch = PatchBuilder.for_uid(vm.uid)
        patch.set_keys(vm.raw, TEMPLATE_ANNOTATIONS, template)
        patch.set_keys(vm.raw, ANNOTATIONS, {self.annotation_key: network_names})
        if not patch.has_writes:
            return ()
        summary = f"assign {attachment.address} to {vm.ref}"
        return (Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=vm.full_name),)

    def _networks_to_leave(self, vm: Vm, network: Network, snapshot: Snapshot) -> tuple[str, ...]:
        """Return the networks that a VM requests and leaves when it joins this one.

        A VM can be on one Calico network only.
        """
        parsed_names = {name: parse_network_name(name, vm.namespace) for name in list_other_network_names(vm, network)}
        queries = {name: Query(NETWORKWIZARD, *parsed_name) for name, parsed_name in parsed_names.items()}
        snapshot.lookup(*queries.values())
        plugins = {
            name: {dig(obj, "spec", "plugin") for obj in snapshot.lookup(query)} for name, query in queries.items()
        }
        return tuple(
            name
            for name, found in plugins.items()
            if self.plugin in found or not (found or snapshot.unreadable_reason(queries[name]))
        )

    def hot_plug(self, vm: Vm, snapshot: Snapshot) -> HotPlug:
        return HotPlug("it has no additional interface")

    def detach_patch(self, vm: Vm, network: Network, snapshot: Snapshot, live: bool = False) -> tuple[Change, ...]:
        pins = parse_pinned_addresses(vm.template_annotations)
        remaining = [str(address) for address in pins if address not in network]
        has_pin = len(remaining) < len(pins)
        is_requested = names_network(vm, network)
        if not has_pin and not is_requested:
            return ()
        patch = PatchBuilder.for_uid(vm.uid)
        if has_pin and remaining:
            patch.set_in(vm.raw, (*TEMPLATE_ANNOTATIONS, IP_ADDRS_ANNOTATION), json.dumps(remaining))
        elif has_pin:
            patch.unset_in(vm.raw, (*TEMPLATE_ANNOTATIONS, IP_ADDRS_ANNOTATION))
            patch.unset_in(vm.raw, (*TEMPLATE_ANNOTATIONS, HW_ADDR_ANNOTATION))
        if is_requested:
            patch.set_keys(vm.raw, ANNOTATIONS, remove_network_name(vm, network))
        summary = f"detach {vm.ref} from network {network.full_name}"
        return (Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=vm.full_name),)

    def release_hold(self, network: Network, number: int, record: Allocation, snapshot: Snapshot) -> HoldRelease:
        namespace, name = record.namespace, record.name
        api = get_read_api(snapshot)
        held, reason = ipam.find_vm_allocations(api, namespace, name, snapshot)
        if reason:
            return HoldRelease(blocker=f"cannot check whether Calico still holds it: {reason}")
        vm_holdings = [h for h in held if h.number == number and h.version == network.version]
        if not vm_holdings:
            repair = ipam.repair_handle(api, namespace, name, snapshot, f"{namespace}/{name}")
            return HoldRelease() if ipam.forbidden_write_reason(repair, snapshot) else HoldRelease(repair)
        released = ipam.release_allocations(api, vm_holdings, snapshot, f"{namespace}/{name}")
        forbidden = ipam.forbidden_write_reason(released, snapshot)
        if running_reason := ipam.running_reason(namespace, name, snapshot):
            return HoldRelease(blocker=running_reason, forbidden=forbidden)
        if forbidden:
            reason = f"Calico holds it until an administrator runs `kubectl yoshi ips gc`: {forbidden}"
            return HoldRelease(blocker=reason, forbidden=forbidden)
        return HoldRelease(released)

    def interface_of(self, vm: Vm, network: Network) -> Json | None:
        return vm.pod_interface

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        interface = vm.pod_interface or {}
        return str(interface.get("macAddress") or ""), str(vm.template_annotations.get(HW_ADDR_ANNOTATION, ""))

    def warnings(self, attachment: Attachment, snapshot: Snapshot) -> tuple[str, ...]:
        vm, network = attachment.vm, attachment.network
        api = get_read_api(snapshot)
        snapshot.lookup(*self.config_queries(snapshot))
        interface = vm.pod_interface
        if interface is None:
            return (f"{vm.ref} has no interface on the pod network: the address has no effect",)
        found = []
        if "masquerade" in interface:
            guest_cidr = ip_network(vm.masquerade_cidr, strict=False)
            if network.cidr is not None and guest_cidr.version == network.version and guest_cidr.overlaps(network.cidr):
                found.append(f"{vm.ref}: masquerade uses {guest_cidr} inside the guest, which overlaps {network.cidr}")
        elif network.version == 6:
            found.append(f"{vm.ref}: bridge binding gives the guest no IPv6 address")
        version = calico_version(api, snapshot)
        has_no_handle = not ipam.handle_name(vm.namespace, vm.name)
        if (
            has_no_handle
            and version is not None
            and version >= ADDRESS_PERSISTENCE_VERSION
            and ipam.keeps_addresses(api, snapshot)
        ):
            found.append(
                f"{vm.ref} might not start: Calico's CNI plugin fails where the names of a VM and its namespace have "
                f"more than {ipam.MAX_NAMES_LENGTH} characters together, and these have "
                f"{len(vm.namespace) + len(vm.name)}"
            )
        if any(dig(config, "spec", "strictAffinity") for config in snapshot.lookup(Query(api.config, name="default"))):
            found.append(
                f"{api.config.kind.lower()}/default has strictAffinity: {vm.ref} can start only on the node that owns "
                "the address's block"
            )
        return tuple(found)

    def migration_blockers(
        self, vm: Vm, network: Network, snapshot: Snapshot, *, is_planned: bool = False
    ) -> tuple[MigrationBlocker, ...]:
        """Check the requirements listed in docs/guides/private-networks.md."""
        interface = vm.pod_interface
        requests_migration = (
            network.options.get("liveMigration") or ALLOW_MIGRATION_ANNOTATION in vm.template_annotations
        )
        is_required = is_planned or requests_migration or vm.eviction_strategy in MIGRATING_STRATEGIES
        if interface is None or not is_required:
            return ()
        api = get_read_api(snapshot)
        queries = self.config_queries(snapshot)
        snapshot.lookup(*queries)
        found = []
        if overlay := ippool.describe_overlay(network):
            found.append(
                MigrationBlocker(
                    f"network {network.full_name} has {overlay} (created without --live-migration)",
                    f"kubectl yoshi network describe {network.name} -n {network.namespace}",
                )
            )
        if "masquerade" not in interface and ALLOW_MIGRATION_ANNOTATION not in vm.template_annotations:
            reason = f"bridge binding without annotation {ALLOW_MIGRATION_ANNOTATION}"
            found.append(MigrationBlocker(reason, _allow_migration(vm)))
        version = calico_version(api, snapshot)
        if version is not None and version < ADDRESS_PERSISTENCE_VERSION:
            found.append(
                MigrationBlocker(
                    f"Calico v{version[0]}.{version[1]} does not keep the addresses of VMs (v3.32 and later do)",
                    f"kubectl get {api.information.full_name} default",
                )
            )
        elif not ipam.keeps_addresses(api, snapshot):
            enabled = json.dumps({"spec": {"kubeVirtVMAddressPersistence": "Enabled"}})
            found.append(
                MigrationBlocker(
                    f"{api.config.kind.lower()}/default has kubeVirtVMAddressPersistence: Disabled",
                    f"kubectl patch {api.config.full_name} default --type merge -p '{enabled}'",
                )
            )
        if is_planned and not found and version is None:
            reason = snapshot.unreadable_reason(*queries) or "clusterinformation/default has none"
            raise UnreadableError(f"cannot determine Calico's version: {reason}", ASK_ADMIN_HINT)
        return tuple(found)

    def orphaned_allocations(self, network: Network, recorded: AllocationsLoader, snapshot: Snapshot) -> Plan:
        api = get_read_api(snapshot)
        snapshot.lookup(Query(api.block))
        if reason := snapshot.unreadable_reason(Query(api.block)):
            return Plan(notes=(f"cannot determine what Calico holds for deleted VMs: {reason}",))
        held = [
            h
            for h in ipam.list_block_allocations(network.cidr_addresses, network.version, api, snapshot)
            if h.name and h.handle
        ]
        queries = {h: (Query(VM, h.namespace, h.name), Query(VMI, h.namespace, h.name)) for h in held}
        snapshot.lookup(*(query for vm_queries in queries.values() for query in vm_queries))
        deleted_vms = [
            h
            for h, vm_queries in queries.items()
            if not snapshot.lookup(*vm_queries) and not snapshot.unreadable_reason(*vm_queries)
        ]
        snapshot.lookup(*(query for h in deleted_vms for query in ipam.handle_queries(api, h.namespace, h.name)))
        stopped_vms = [h for h in deleted_vms if not ipam.running_reason(h.namespace, h.name, snapshot)]
        released = ipam.release_allocations(api, stopped_vms, snapshot) if stopped_vms else Plan()
        if reason := ipam.forbidden_write_reason(released, snapshot):
            return Plan(notes=(f"what Calico holds for deleted VMs is not released: {reason}",))
        return released

    def vm_problems(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[VmProblem, ...]:
        return ipam_handles.vm_problems(network, namespaces, snapshot)

    def repairs(self, network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
        return ipam_handles.repairs(network, namespace, snapshot)


def _allow_migration(vm: Vm) -> str:
    """Return the command that adds the annotation with which KubeVirt migrates a VM with bridge binding."""
    annotations = {"annotations": {ALLOW_MIGRATION_ANNOTATION: "true"}}
    patch = json.dumps({"spec": {"template": {"metadata": annotations}}})
    return f"kubectl patch {VM.full_name} {vm.name} -n {vm.namespace} --type merge -p '{patch}'"


def _prefetch_address_uses(
    network: Network, vms: Sequence[Vm], numbers: Intervals, api: CalicoApi, snapshot: Snapshot
) -> None:
    """Read the VMIs and pods of VMs, their handles, and the blocks of these handles and addresses."""
    handle_queries = [query for vm in vms for query in ipam.handle_queries(api, vm.namespace, vm.name)]
    block_queries: list[Query] = []
    if numbers and network.cidr is not None:
        # Blocks have the configured size, unless the spec was edited after the pool was created.
        block_queries = _block_queries(network, numbers, ippool.block_size(network), api)
        pool_query = Query(api.pool, name=ippool.pool_name(network))
        snapshot.prefetch(*instance_queries(vms), *handle_queries, *block_queries, pool_query)
        block_queries = _block_queries(network, numbers, ippool.actual_block_size(network, api, snapshot), api)
    else:
        snapshot.prefetch(*instance_queries(vms), *handle_queries)
    for handle in snapshot.lookup(*handle_queries):
        block_queries += ipam.handle_block_queries(api, handle)
    snapshot.prefetch(*block_queries)


def _block_queries(network: Network, numbers: Intervals, block_size: int, api: CalicoApi) -> list[Query]:
    """Return the queries for the blocks of these addresses, or for all blocks if these would be too many."""
    if numbers.size > MAX_ADDRESSES_BY_NAME:
        return [Query(api.block)]
    blocks = {ipam.block_cidr(number, network.version, block_size) for number in numbers}
    return [Query(api.block, name=ipam.block_name(block)) for block in blocks]


def _to_address_use(allocation: ipam.IpamAllocation, snapshot: Snapshot) -> AddressUse:
    """Convert an entry of Calico IPAM to a use.

    It is a use of the VM that the entry names, else of the VM whose launcher pod it names, else of the pod itself.
    """
    if allocation.released_at:
        reason = f"it is cooling down in Calico, which released it at {allocation.released_at}"
        return AddressUse(allocation.number, UsageKind.HELD_BY_BACKEND, allocation.block, cooldown_reason=reason)
    namespace, name = allocation.namespace, allocation.name
    pod = None if name else snapshot.get_object(POD, allocation.pod[1], allocation.pod[0])
    if pod is not None and labels_of(pod).get("kubevirt.io") == "virt-launcher":
        namespace, name = allocation.pod[0], get_instance_name(pod)
    ref = POD.ref(allocation.pod[1], allocation.pod[0]) if allocation.pod[1] and not name else allocation.block
    return AddressUse(allocation.number, UsageKind.HELD_BY_BACKEND, ref, namespace, name, allocation.vm_uid)
