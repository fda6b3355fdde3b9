"""Implement Layer 2 networks: Open vSwitch bridges on the nodes, a separate interface per VM, addresses by DHCP.

Hostplumber creates the bridges (bridges), Multus and the CNI plugin ovs connect the VM's pod (the
NetworkAttachmentDefinition here), and luigi's DHCP server assigns the guest its address (dhcp).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from kubectl_yoshi.backends import kubevirt
from kubectl_yoshi.backends.defaults import PrivateDefaults
from kubectl_yoshi.backends.ensure import FieldPath, ensure_fields
from kubectl_yoshi.backends.network_annotation import NETWORK_NAME, parse_network_names
from kubectl_yoshi.backends.ovs import bridges, cloud_init, dhcp
from kubectl_yoshi.backends.ovs import interface as interfaces
from kubectl_yoshi.backends.ovs.objects import (
    adoption_fields,
    creation,
    deletion,
    find_name_conflicts,
    find_object,
    is_created_for_network,
    object_query,
)
from kubectl_yoshi.backends.ovs.spec import NAD, PLUGIN, Layer2, parse_layer2_spec
from kubectl_yoshi.backends.ownership import find_deleted_networks, find_recreated_networks
from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import NETWORK, RESERVATION, Allocation
from kubectl_yoshi.model.backend import (
    AddressUse,
    AllocationsLoader,
    Attachment,
    HoldRelease,
    HotPlug,
    NetworkConflict,
    RequestedNetworks,
)
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError, first_few
from kubectl_yoshi.model.jsonpatch import PatchBuilder, same_json
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, has_precedence, parse_network
from kubectl_yoshi.model.objects import ANNOTATIONS, Json, annotations_of, dig, name_of, namespace_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, ServedApis, Snapshot
from kubectl_yoshi.model.vm import (
    LAUNCHER_SELECTOR,
    POD,
    VM,
    VMI,
    Vm,
    find_vms,
    has_ended,
    instance_queries,
    list_launcher_pods,
)

RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName"
CNI_VERSION = "0.4.0"
MAX_LISTED_VMS = 5
"""Maximum number of VMs named in a message."""


class Ovs(PrivateDefaults):
    """The backend for spec.plugin: ovs."""

    plugin = PLUGIN
    annotation_key = NETWORK_NAME
    pins_vm_template = True
    has_interface = True
    keeps_addresses = False
    allowed_as_default = False

    def requested_networks(self, vm: Vm) -> RequestedNetworks:
        return RequestedNetworks(parse_network_names(vm))

    def missing_apis(self, served: ServedApis) -> str:
        return "" if NAD in served else f"Multus's attachments ({NAD.full_name})"

    # -- networks ------------------------------------------------------------------------------------------------

    def conflicts(self, network: Network, snapshot: Snapshot) -> tuple[NetworkConflict, ...]:
        layer = parse_layer2_spec(network)
        missing_reasons = [
            reason
            for reason in (bridges.missing_apis(layer, snapshot.served), dhcp.missing_apis(layer, snapshot.served))
            if reason
        ]
        if missing_reasons:
            raise PreconditionFailed(
                f"network {network.full_name} needs components that are not installed: {missing_reasons[0]}",
                *missing_reasons[1:],
            )
        other_networks, live = _other_networks(network, snapshot)
        return (
            *map(NetworkConflict, _find_bridge_conflicts(network, layer, other_networks)),
            *find_name_conflicts(NAD, network, snapshot),
            *bridges.conflicts(layer, live, snapshot),
            *dhcp.conflicts(network, layer, snapshot),
        )

    def infra_address_purpose(self, network: Network) -> str | None:
        return "DHCP server" if parse_layer2_spec(network).dhcp is not None else ""

    def ensure(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        layer = parse_layer2_spec(network)
        attachment = find_object(NAD, network, snapshot)
        _check_bridge_unchanged(network, layer, attachment, records, snapshot)
        config, annotations = cni_config(network, layer), {RESOURCE_NAME: bridges.node_resource(layer)}
        if attachment is None:
            first_changes = [creation(NAD, network, {"spec": {"config": json.dumps(config)}}, annotations)]
        else:
            fields: dict[FieldPath, object] = {(*ANNOTATIONS, key): value for key, value in annotations.items()}
            if not same_json(_parse_config(attachment), config):  # exact: the API server keeps the text
                fields[("spec", "config")] = json.dumps(config)
            first_changes = ensure_fields(NAD, attachment, fields | adoption_fields(attachment, network))
        first_changes += bridges.ensure(network, layer, snapshot)
        dhcp_plan = dhcp.ensure(network, layer, records, snapshot)
        return (Plan((tuple(first_changes),)) if first_changes else Plan()) + dhcp_plan

    def health(self, network: Network, snapshot: Snapshot) -> str:
        layer = parse_layer2_spec(network)
        if find_object(NAD, network, snapshot) is None:
            return f"{NAD.ref(network.name, network.namespace)} is missing"
        return bridges.health(layer, snapshot) or dhcp.health(network, layer, snapshot)

    def pending_rollout(self, network: Network, snapshot: Snapshot) -> str:
        layer = parse_layer2_spec(network)
        return bridges.pending_rollout(layer, snapshot) or dhcp.pending_rollout(network, layer, snapshot)

    def describe(self, network: Network, snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
        layer = parse_layer2_spec(network)
        existing = find_object(NAD, network, snapshot)
        absence = snapshot.describe_absence(object_query(NAD, network))
        nics = f" on {','.join(layer.nics)}" if layer.nics else ""
        return (
            ("Bridge", f"{layer.bridge}{nics}"),
            ("VLAN", str(layer.vlan) if layer.vlan else "untagged"),
            ("MTU", str(layer.mtu or "")),
            (
                "Attachment",
                str(NAD.ref(network.name, network.namespace)) + ("" if existing else f" ({absence})"),
            ),
            *bridges.describe(layer, snapshot),
            *dhcp.describe(network, layer, snapshot),
        )

    def teardown(self, network: Network, snapshot: Snapshot, ignore_usage: bool = False) -> Plan:
        if (attached_vms := _list_attached_vms(network, snapshot)) and not ignore_usage:
            raise PreconditionFailed(
                f"{attached_vms[0].ref} still has an interface on network {network.full_name}",
                f"Detach it: kubectl yoshi vm detach {attached_vms[0].name} -n {attached_vms[0].namespace} "
                f"--network {network.full_name}",
            )
        attachment = find_object(NAD, network, snapshot)
        last_changes: list[Change] = bridges.release_templates({network.uid}, snapshot)
        if attachment is not None and is_created_for_network(attachment, network):
            last_changes.insert(0, deletion(NAD, attachment))
        return dhcp.teardown(network, snapshot) + (Plan((tuple(last_changes),)) if last_changes else Plan())

    def orphaned_objects(self, live: Sequence[Network], namespace: str | None, snapshot: Snapshot) -> Plan:
        """Return the changes that release HostNetworkTemplates.

        All other objects have an ownerReference to their network, so that Kubernetes deletes them.
        """
        owner_networks = bridges.owner_networks(snapshot)
        deleted_uids = find_deleted_networks(owner_networks, live, namespace) - find_recreated_networks(
            owner_networks, live
        )
        changes = bridges.release_templates(deleted_uids, snapshot) if deleted_uids else []
        return Plan((tuple(changes),)) if changes else Plan()

    # -- VMs -----------------------------------------------------------------------------------------------------

    def address_uses(
        self, network: Network, vms: Sequence[Vm], numbers: Intervals, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        queries = dhcp.lease_queries(network, numbers, snapshot)
        snapshot.lookup(*instance_queries(vms), *queries, *(dhcp.server_queries(network, snapshot) if numbers else ()))
        found: list[AddressUse] = []
        for vm in vms:
            found += interfaces.list_template_uses(vm, network)
            instance = snapshot.get_object(VMI, vm.name, vm.namespace)  # may belong to an earlier VM of that name
            if instance is not None and not has_ended(instance):
                found += interfaces.list_instance_uses(instance, network, vm, snapshot)
            found += [
                u
                for pod in list_launcher_pods(vm.namespace, vm.name, snapshot)
                for u in interfaces.list_pod_uses(pod, network)
            ]
        if numbers:
            found += [use for use in dhcp.list_server_uses(network, snapshot) if use.number in numbers]
        return (*found, *dhcp.list_lease_uses(network, queries, dict(interfaces.iter_macs(vms, network)), snapshot))

    def config_queries(self, snapshot: Snapshot) -> tuple[Query, ...]:
        return ()

    def all_address_uses(
        self, network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot
    ) -> tuple[AddressUse, ...]:
        search_namespaces: tuple[str | None, ...] = (None,) if namespaces is None else namespaces
        vm_queries = [Query(VM, namespace) for namespace in search_namespaces]
        vmi_queries = [Query(VMI, namespace) for namespace in search_namespaces]
        pod_queries = [Query(POD, namespace, label_selector=LAUNCHER_SELECTOR) for namespace in search_namespaces]
        queries = dhcp.lease_queries(network, network.cidr_addresses, snapshot)
        snapshot.lookup(*vm_queries, *vmi_queries, *pod_queries, *queries, *dhcp.server_queries(network, snapshot))
        vms = find_vms(vm_queries, snapshot)
        by_name = {(vm.namespace, vm.name): vm for vm in vms}
        found = [use for vm in vms for use in interfaces.list_template_uses(vm, network)]
        for vmi in snapshot.lookup(*vmi_queries):
            if not has_ended(vmi):
                found += interfaces.list_instance_uses(
                    vmi, network, by_name.get((namespace_of(vmi), name_of(vmi))), snapshot
                )
        for pod in snapshot.lookup(*pod_queries):
            if not has_ended(pod):
                found += interfaces.list_pod_uses(pod, network)
        found += dhcp.list_server_uses(network, snapshot)
        return (*found, *dhcp.list_lease_uses(network, queries, dict(interfaces.iter_macs(vms, network)), snapshot))

    def addresses_on_vm(self, vm: Vm, network: str) -> tuple[Address, ...]:
        return interfaces.addresses_on_vm(vm, network)

    def reserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> Plan:
        return dhcp.reserve(network, records, snapshot) if parse_layer2_spec(network).dhcp is not None else Plan()

    def unreserve(self, network: Network, records: Mapping[int, Allocation], snapshot: Snapshot) -> HoldRelease:
        if parse_layer2_spec(network).dhcp is None:
            return HoldRelease()
        return dhcp.unreserve(network, records, snapshot)

    def attach_patch(self, attachment: Attachment, snapshot: Snapshot) -> tuple[Change, ...]:
        vm, network = attachment.vm, attachment.network
        patch = PatchBuilder.for_uid(vm.uid)
        binding = kubevirt.default_binding(snapshot) if vm.pod_interface == {} else ""
        name = interfaces.attach_interface(patch, attachment, binding)
        layer = parse_layer2_spec(network)
        guest_changes: tuple[Change, ...] = ()
        if attachment.nic.cloud_init:
            guest_changes = cloud_init.write_address(patch, attachment, layer, name, snapshot)
        if not patch.has_writes:
            return guest_changes
        summary = f"assign {attachment.address} to {vm.ref}"
        return (*guest_changes, Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=vm.full_name))

    def hot_plug(self, vm: Vm, snapshot: Snapshot) -> HotPlug:
        return kubevirt.hot_plug(vm, snapshot)

    def detach_patch(self, vm: Vm, network: Network, snapshot: Snapshot, live: bool = False) -> tuple[Change, ...]:
        if not interfaces.is_attached(vm, network):
            return ()
        patch = PatchBuilder.for_uid(vm.uid)
        mac = interfaces.detach_interface(patch, vm, network, live)
        guest_changes = cloud_init.remove_address(patch, vm, mac, snapshot)
        summary = f"detach {vm.ref} from network {network.full_name}"
        return (*guest_changes, Change(Verb.PATCH, vm.ref, summary, patch.ops, before=vm.raw, owner=vm.full_name))

    def release_hold(self, network: Network, number: int, record: Allocation, snapshot: Snapshot) -> HoldRelease:
        """Return how the address's reservation in DHCP is removed.

        A remaining lease keeps the address from other clients until it expires; that needs no allocation.
        """
        if parse_layer2_spec(network).dhcp is None:
            return HoldRelease()
        return dhcp.unreserve(network, {number: record}, snapshot, record.owner)

    def interface_of(self, vm: Vm, network: Network) -> Json | None:
        found = interfaces.find_interface(vm.raw, vm.namespace, network)
        return found.interface if found else None

    def macs_of(self, vm: Vm, network: Network) -> tuple[str, str]:
        return interfaces.macs_of(vm, network)

    def warnings(self, attachment: Attachment, snapshot: Snapshot) -> tuple[str, ...]:
        vm, network, number = attachment.vm, attachment.network, attachment.number
        layer = parse_layer2_spec(network)
        if layer.dhcp is None:
            is_configured = attachment.nic.cloud_init or cloud_init.has_address(vm, number, network, snapshot)
            return () if is_configured else _guest_setup_notes(vm, network, number)
        queries = dhcp.lease_queries(network, Intervals.from_numbers([number]), snapshot)
        snapshot.lookup(*queries)
        found = []
        if reason := snapshot.unreadable_reason(*queries):
            found.append(f"cannot check whether {network.address(number)} is leased to another client: {reason}")
        return (*found, *dhcp.warnings(network, number, snapshot))

    def orphaned_allocations(self, network: Network, recorded: AllocationsLoader, snapshot: Snapshot) -> Plan:
        """Return the changes that remove reservations in DHCP without an allocation.

        Normally an address's file is removed before its allocation. But a slow or killed run may write it afterwards.
        Leases expire by themselves.
        """
        return (
            dhcp.orphaned_allocations(network, recorded, snapshot)
            if parse_layer2_spec(network).dhcp is not None
            else Plan()
        )


def _guest_setup_notes(vm: Vm, network: Network, number: int) -> tuple[str, ...]:
    assert network.cidr is not None
    via = f", gateway {network.gateway}" if network.gateway else ""
    address = f"{network.address(number)}/{network.cidr.prefixlen}{via}"
    return (
        f"{vm.ref}: the guest is not configured with its address: set {address} in the guest, or pass --cloud-init",
    )


def _list_attached_vms(network: Network, snapshot: Snapshot) -> list[Vm]:
    """Return the VMs, of all readable namespaces, that could not start without the network's attachment."""
    all_objects = Query(VM)
    found = snapshot.lookup(all_objects)
    if snapshot.unreadable_reason(all_objects):
        found = snapshot.lookup(Query(VM, network.namespace))
    return [vm for vm in map(Vm, found) if interfaces.find_interface(vm.raw, vm.namespace, network) is not None]


def cni_config(network: Network, layer: Layer2) -> Json:
    """Return the config of the NetworkAttachmentDefinition, as the CNI plugin ovs reads it.

    It always contains the VLAN: without one the plugin creates a trunk port, and the VM would see every VLAN of the
    bridge.
    """
    config: Json = {
        "cniVersion": CNI_VERSION,
        "name": network.name,
        "type": "ovs",
        "bridge": layer.bridge,
        "vlan": layer.vlan,
    }
    return {**config, "mtu": layer.mtu} if layer.mtu else config


def _parse_config(attachment: Json) -> object:
    try:
        return json.loads(dig(attachment, "spec", "config", default=""))
    except ValueError:
        return None


def _check_bridge_unchanged(
    network: Network, layer: Layer2, attachment: Json | None, records: Mapping[int, Allocation], snapshot: Snapshot
) -> None:
    """Raise PreconditionFailed if an edited spec would change the bridge that attached VMs use.

    They run on that bridge, or would start on another one than before.
    """
    held = {n: r for n, r in sorted(records.items()) if r.kind not in (NETWORK, RESERVATION)}
    if not held:
        return
    former_bridge = bridges.find_removed_bridge(network, layer, snapshot) or _former_bridge(layer, attachment)
    if not former_bridge:
        return
    holders = [f"{record.holder} ({network.address(number)})" for number, record in held.items()]
    raise PreconditionFailed(
        f"network {network.full_name} requires bridge {bridges.describe_bridge(layer)}, but VMs are on bridge "
        f"{former_bridge}: {first_few(holders, MAX_LISTED_VMS)}",
        f"Detach them first, or restore the network's previous spec.ovs: "
        f"kubectl edit networkwizard {network.name} -n {network.namespace}",
    )


def _former_bridge(layer: Layer2, attachment: Json | None) -> str:
    """Return the bridge that the attachment was created for, if it is another one.

    Returns:
        "" also if the attachment was edited, so that its two mentions of the bridge differ.
    """
    if attachment is None:
        return ""
    marker = str(annotations_of(attachment).get(RESOURCE_NAME, ""))
    bridge = marker.removeprefix(bridges.MARKER_PREFIX)
    is_unchanged = marker.startswith(bridges.MARKER_PREFIX) and dig(_parse_config(attachment), "bridge") == bridge
    return bridge if is_unchanged and bridge != layer.bridge else ""


def _other_networks(network: Network, snapshot: Snapshot) -> tuple[list[Network], set[str]]:
    """Return the other readable Layer 2 networks, and the uids of all networks among them, including this one."""
    all_objects = Query(NETWORKWIZARD)
    found = snapshot.lookup(all_objects)
    if snapshot.unreadable_reason(all_objects):
        found = snapshot.lookup(Query(NETWORKWIZARD, network.namespace))
    other_networks = []
    for obj in found:
        is_same = (namespace_of(obj), name_of(obj)) == (network.namespace, network.name)
        if is_same or dig(obj, "spec", "plugin") != PLUGIN:
            continue
        try:
            other_networks.append(parse_network(obj))
        except UsageError:
            continue
    return other_networks, {other.uid for other in other_networks} | {network.uid}


def _find_bridge_conflicts(network: Network, layer: Layer2, other_networks: Sequence[Network]) -> Iterator[str]:
    """Yield the conflicts with other networks.

    These use the same VLAN of the same bridge, this network's physical interface in another bridge, or the same bridge
    with another definition. Of two networks that are created at the same moment, one has precedence.
    """
    for other in other_networks:
        if network.uid and not has_precedence(other, network):
            continue
        try:
            other_layer = parse_layer2_spec(other)
        except UsageError:
            continue
        if (other_layer.bridge, other_layer.vlan) == (layer.bridge, layer.vlan):
            vlan = f"VLAN {layer.vlan}" if layer.vlan else "untagged"
            yield f"network {other.full_name} is on bridge {layer.bridge}, {vlan}, already"
        elif nic := bridges.find_shared_nic(layer, other_layer):
            other_bridge = other_layer.bridge
            yield (
                f"network {other.full_name} has {nic} in bridge {other_bridge}: an interface can be in one bridge only"
            )
        elif bridges.has_other_nics(layer, other_layer):
            yield f"network {other.full_name} has {','.join(other_layer.nics)} in bridge {layer.bridge}"
        elif bridges.has_other_nodes(layer, other_layer):
            yield (
                f"network {other.full_name} creates bridge {layer.bridge} on other nodes: use the same "
                "--node-selector, or --no-host-config"
            )
