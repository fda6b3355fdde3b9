"""Rules about VMs, their instances and pods: 1xxx."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from kubectl_yoshi.backends.kubevirt import ALLOW_MIGRATION_ANNOTATION
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Connection, Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation, Severity
from kubectl_yoshi.diagnosis.interfaces import (
    Interface,
    derive_mac,
    find_interface,
    has_guest_agent,
    list_initial_addresses,
    list_reported_addresses,
)
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.diagnosis.rules.allocations import observe_row
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import Address, parse_address
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.vm import VMI, Vm, find_instance
from kubectl_yoshi.plan.inventory import InventoryRow

INTERFACES = "spec.template.spec.domain.devices.interfaces"
STATUS_INTERFACES = "status.interfaces"
LOST_DHCP = "a reboot of the guest after a live migration loses its address (kubevirt#16696, #18621)"


def observe_vm(connection: Connection, sentence: str, *commands: str, field: str = INTERFACES) -> Observation:
    """Return an observation about a VM on a network.

    Args:
        connection: the VM and the network.
        sentence: what is wrong, which follows the VM's name in the message.
        commands: see Observation.
        field: see Observation.
    """
    vm, network = connection.vm, connection.network
    return Observation(
        vm.ref,
        f"VM {vm.full_name} on {network.full_name}: {sentence}",
        field=field,
        commands=commands,
        network=(network.namespace, network.name),
        vm=(vm.namespace, vm.name),
        address=connection.row.address if connection.row else "",
    )


def _inspect_and_restart(vm: Vm) -> tuple[str, str]:
    inspect = f"kubectl describe {VMI.full_name} {vm.name} -n {vm.namespace}"
    return inspect, remedies.restart((vm.namespace, vm.name))


@rule("1101", Severity.WARNING, "A VM needs a restart to get, or to give up, its address")
def restart_needed(facts: Facts) -> Iterator[Observation]:
    """The template of a running VM was changed by an attachment or detachment.

    KubeVirt copies the template to the instance when the VM starts, so the address takes effect with a restart.
    """
    for rows in facts.rows.values():
        for row in rows:
            if _needs_restart(row, facts) and not row.vm_problems:
                sentence = f"{row.holder} runs without its template's latest changes; it needs a restart"
                namespace, _, name = row.holder.partition("/")
                yield observe_row(row, sentence, remedies.restart((namespace, name)))


def _needs_restart(row: InventoryRow, facts: Facts) -> bool:
    """Return whether a VM runs with a template from before its attachment or detachment."""
    return row.state is AddressState.RESTART_NEEDED and not _was_started_with(row, facts)


def _was_started_with(row: InventoryRow, facts: Facts) -> bool:
    """Return whether a VM runs without its address although it was started with it: a restart is not what it needs."""
    instance = find_instance(row.vm, facts.snapshot) if row.vm and not row.running else None
    if row.vm is None or instance is None:
        return False
    return parse_address(row.address) in list_initial_addresses(instance, Connection(row.vm, row.network, row), facts)


def _running_interfaces(facts: Facts) -> Iterator[tuple[Interface, InventoryRow, Json]]:
    """Yield the interfaces of running VMs that have an allocated address, with the address and the VMI.

    Raises:
        CannotCheckError: VMs or VMIs cannot be read.
    """
    for connection in facts.connections:
        interface = find_interface(connection, facts) if connection.row else None
        if interface is not None and connection.row is not None:
            instance = facts.instance(connection.vm)
            if instance is not None and dig(instance, "status", "phase") == "Running":
                yield interface, connection.row, instance


@rule("1102", Severity.ERROR, "A running VM has no address", is_volatile=True)
def running_without_address(facts: Facts) -> Iterator[Observation]:
    """KubeVirt reports no address for the interface although the VM runs: the CNI plugin did not assign one.

    On a Layer 2 network only the guest agent reports addresses, so a VM is reported there only if its agent is
    connected: the guest's DHCP client then got no answer. The events of the instance and its pod show the cause; a
    restart lets the CNI plugin, or the guest, try again.
    """
    for interface, row, instance in _running_interfaces(facts):
        backend = facts.backend(row.network)
        if (backend.has_interface and not has_guest_agent(instance)) or _needs_restart(row, facts):
            continue
        if not list_reported_addresses(instance, interface.name):
            vm = interface.connection.vm
            sentence = f"its interface {interface.name} has no address, and should have {row.address}"
            yield observe_vm(interface.connection, sentence, *_inspect_and_restart(vm), field=STATUS_INTERFACES)


@rule("1103", Severity.ERROR, "A VM runs with another address than the one it was started with", is_volatile=True)
def other_address_than_allocated(facts: Facts) -> Iterator[Observation]:
    """The instance was started with the allocated address, and KubeVirt reports another one.

    With bridge binding or on a Layer 2 network the guest has a static address of its own, or got one from another DHCP
    server: configure the guest for DHCP. Otherwise the CNI plugin ignored the request, as one that is not Calico does.
    """
    for interface, row, instance in _running_interfaces(facts):
        wanted, connection = parse_address(row.address), interface.connection
        reported = [
            address
            for address in list_reported_addresses(instance, interface.name)
            if address.version == wanted.version and not address.is_link_local
        ]
        if row.vm_problems or not reported or wanted in reported:
            continue
        if wanted in list_initial_addresses(instance, connection, facts):
            sentence = f"it runs with {_join(reported)}, and should have {row.address}"
            yield observe_vm(connection, sentence, *_inspect_and_restart(connection.vm), field=STATUS_INTERFACES)


def _join(addresses: list[Address]) -> str:
    return ", ".join(map(str, addresses))


@rule("1201", Severity.WARNING, "A VM that is to be live-migrated cannot keep its address")
def migration_blocked(facts: Facts) -> Iterator[Observation]:
    """The VM's eviction strategy or annotation, or its network, requests live migration, and something prevents it.

    Calico keeps the address of a VM from 3.32 on, if its IPAM configuration does not disable that. The network must
    have neither overlay nor NAT (`network create --live-migration`), and a VM with bridge binding needs an annotation.
    """
    hidden: list[str] = []
    for connection in facts.connections:
        backend = facts.backend(connection.network)
        blockers = backend.migration_blockers(connection.vm, connection.network, facts.snapshot)
        if blockers:
            reasons = "; ".join(map(str, blockers))
            sentence = f"it cannot be live-migrated with its address: {reasons}"
            remedy = (blocker.command for blocker in blockers)
            yield observe_vm(connection, sentence, *remedy, field="spec.template")
        if reason := facts.snapshot.unreadable_reason(*backend.config_queries(facts.snapshot)):
            hidden.append(reason)
    if hidden:
        raise CannotCheckError("; ".join(dict.fromkeys(hidden)))


@rule("1203", Severity.WARNING, "A VM with bridge binding has no fixed MAC address")
def bridge_without_mac(facts: Facts) -> Iterator[Observation]:
    """The pod of a VM without a MAC address gets another one with each start, and with each live migration.

    The guest keeps the first one until it stops, so that KubeVirt's DHCP server no longer answers it: after a live
    migration a reboot of the guest loses the address. A VM that cannot be migrated is not reported. On a Layer 2
    network the DHCP server knows VMs by their MAC addresses, so each start loses the address. Attach the VM with a MAC
    address, such as the one that it has now, and restart it.
    """
    for connection in facts.connections:
        if lost := lost_without_mac(connection, facts):
            vm, network = connection.vm, connection.network
            mac = _current_mac(connection, facts)
            name = (vm.namespace, vm.name)
            attach = remedies.attach(name, f"--network {network.full_name} --mac {mac}")
            remedy = (attach, remedies.restart(name)) if facts.instance(vm) is not None else (attach,)
            yield observe_vm(connection, f"bridge binding without a MAC address: {lost}", *remedy)


def lost_without_mac(connection: Connection, facts: Facts) -> str:
    """Return what an interface with bridge binding loses by having no fixed MAC address; "" if nothing."""
    interface = find_interface(connection, facts)
    if interface is None or interface.mac:
        return ""
    if facts.backend(connection.network).has_interface:
        return "the DHCP server of the network does not know the VM after a restart"
    allows_migration = ALLOW_MIGRATION_ANNOTATION in connection.vm.template_annotations
    return LOST_DHCP if allows_migration and interface.binding == "bridge" else ""


def _current_mac(connection: Connection, facts: Facts) -> str:
    """Return the MAC address that a VM's interface has now, else one derived from the VM."""
    interface = find_interface(connection, facts)
    for status in dig(facts.instance(connection.vm), "status", "interfaces", default=[]):
        if interface is not None and status.get("name") == interface.name and status.get("mac"):
            return str(status["mac"]).lower()
    return derive_mac(connection.vm)


@rule("1204", Severity.WARNING, "The masquerade network of a guest overlaps the network of the VM")
def masquerade_overlap(facts: Facts) -> Iterator[Observation]:
    """With masquerade binding the guest has an address of its own, 10.0.2.2 by default, behind that of its pod.

    If both are of one range, the guest looks for the other VMs of the network on its own interface and cannot reach
    them. Give the VM another `vmNetworkCIDR`.
    """
    for connection in facts.connections:
        interface, network = find_interface(connection, facts), connection.network
        if interface is None or "masquerade" not in interface.spec or network.cidr is None:
            continue
        try:
            guest = ip_network(connection.vm.masquerade_cidr, strict=False)
        except ValueError:
            continue
        if guest.version == network.version and guest.overlaps(network.cidr):
            vm = connection.vm
            sentence = f"the guest's masquerade network {guest} overlaps {network.cidr}"
            edit = f"kubectl edit {vm.ref.resource.full_name} {vm.name} -n {vm.namespace}"
            yield observe_vm(connection, sentence, edit, field="spec.template.spec.networks")


@rule("1206", Severity.ERROR, "A VM holds an address and has no interface for it")
def address_without_interface(facts: Facts) -> Iterator[Observation]:
    """The interface was removed from the VM's template, or the VM is not on the pod network.

    The address has no effect. Attach the VM again, which adds an interface on a Layer 2 network; a private network
    needs an interface on the pod network.
    """
    for connection in facts.connections:
        backend, row = facts.backend(connection.network), connection.row
        if row is None or not backend.pins_vm_template or row.state is AddressState.ORPHANED:
            continue
        if find_interface(connection, facts) is None:
            vm, network = connection.vm, connection.network
            attach = remedies.attach((vm.namespace, vm.name), f"--network {network.full_name}")
            show = f"kubectl get {vm.ref.resource.full_name} {vm.name} -n {vm.namespace} -o yaml"
            sentence = f"it has no interface for {row.address}"
            yield observe_vm(connection, sentence, attach if backend.has_interface else show)
