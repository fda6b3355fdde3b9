"""Which VMs keep their addresses if they are migrated, restarted or deleted, and why not."""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_yoshi.backends import kubevirt
from kubectl_yoshi.diagnosis.facts import Connection, Facts
from kubectl_yoshi.diagnosis.interfaces import DEFAULT_INTERFACE, find_interface, list_reported_addresses
from kubectl_yoshi.diagnosis.rules.vms import lost_without_mac
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.allocations import RESERVATION
from kubectl_yoshi.model.backend import UsageKind
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import PlanningError, vm_not_found_error
from kubectl_yoshi.model.objects import NamespacedName, dig
from kubectl_yoshi.model.vm import Vm, binding_of
from kubectl_yoshi.plan.inventory import InventoryRow


class Action(enum.Enum):
    """What is about to be done with VMs."""

    MIGRATE = "migrate"
    RESTART = "restart"
    DELETE = "delete"


@dataclass(frozen=True)
class Verdict:
    """Whether a VM keeps an address.

    Attributes:
        keeps: None if that cannot be determined.
        reason: why, as printed.
    """

    keeps: bool | None
    reason: str


@dataclass(frozen=True)
class PreflightRow:
    """A VM with one of its addresses.

    Attributes:
        vm: the VM.
        network: namespace and name; None for an address that no network assigned.
        address: the address; "" for none.
        binding, mac: of the interface with the address; "" for none.
        verdict: whether the VM keeps the address.
    """

    vm: NamespacedName
    network: NamespacedName | None
    address: str
    binding: str
    mac: str
    verdict: Verdict


def check_preflight(action: Action, vms: Iterable[NamespacedName], facts: Facts) -> tuple[PreflightRow, ...]:
    """Return for each address of these VMs whether the VM keeps it.

    Args:
        action: what is about to be done.
        vms: the VMs.
        facts: their scope includes the VMs' namespaces.

    Raises:
        PreconditionFailed: a VM does not exist, or networks cannot be listed.
        CannotCheckError: VMs cannot be read.
    """
    rows_by_vm: dict[NamespacedName, list[InventoryRow]] = defaultdict(list)
    for rows in facts.rows.values():
        for row in rows:
            for name in row.vms if row.record is None or row.record.kind != RESERVATION else ():
                rows_by_vm[name].append(row)
    found: list[PreflightRow] = []
    for name in vms:
        vm = facts.vm(name)
        if vm is None:
            raise vm_not_found_error(*name)
        own = [_check_address(action, Connection(vm, row.network, row), row, facts) for row in rows_by_vm[name]]
        found += own or [_check_without_network(action, vm, facts)]
    return tuple(found)


def list_vms_on_node(node: str, facts: Facts) -> tuple[NamespacedName, ...]:
    """Return the VMs that run on a node.

    Raises:
        CannotCheckError: VMs or VMIs cannot be read.
    """
    return tuple(
        (vm.namespace, vm.name)
        for vm in facts.vms
        if (instance := facts.instance(vm)) is not None and dig(instance, "status", "nodeName") == node
    )


def _check_address(action: Action, connection: Connection, row: InventoryRow, facts: Facts) -> PreflightRow:
    interface = find_interface(connection, facts)
    if row.state is AddressState.UNKNOWN:
        verdict = Verdict(None, row.reason)
    elif action is Action.DELETE:
        verdict = _after_deletion(connection, row)
    elif not facts.backend(row.network).pins_vm_template:
        verdict = Verdict(True, "its Service follows the VM")
    elif row.vm_problems:
        verdict = Verdict(False, "; ".join(problem.summary for problem in row.vm_problems))
    elif interface is None:
        verdict = Verdict(False, "the VM has no interface for it (YOSHI-1206)")
    elif action is Action.RESTART:
        verdict = _after_restart(connection, row, facts)
    else:
        verdict = _after_migration(connection, row, facts)
    return PreflightRow(
        (connection.vm.namespace, connection.vm.name),
        (row.network.namespace, row.network.name),
        row.address,
        interface.binding if interface else "",
        interface.mac if interface else "",
        verdict,
    )


def _after_deletion(connection: Connection, row: InventoryRow) -> Verdict:
    vm, network = connection.vm, row.network
    if row.record is None:
        return Verdict(False, "it is not recorded (YOSHI-0002)")
    if row.record.reserved_for:
        return Verdict(True, f"it stays reserved for {row.record.reserved_for}")
    keep = f"`kubectl yoshi vm detach {vm.name} -n {vm.namespace} --network {network.full_name} --keep` reserves it"
    cool_down = f", then it cools down for {format_duration(network.cool_down)}" if network.cool_down else ""
    return Verdict(False, f"`kubectl yoshi ips gc` releases it{cool_down}; {keep}")


def _after_restart(connection: Connection, row: InventoryRow, facts: Facts) -> Verdict:
    vm = connection.vm
    requested = any(
        use.kind is UsageKind.REQUESTED and use.is_for_vm(vm.namespace, vm.name, vm.uid) for use in row.address_uses
    )
    if requested and facts.backend(row.network).has_interface and (lost := lost_without_mac(connection, facts)):
        return Verdict(False, f"no MAC address: {lost} (YOSHI-1203)")
    if requested:
        return Verdict(True, "the VM's template requests it")
    if row.state is AddressState.PENDING:
        return Verdict(None, "an attachment is in progress")
    return Verdict(False, "the VM's template does not request it")


def _after_migration(connection: Connection, row: InventoryRow, facts: Facts) -> Verdict:
    vm, network = connection.vm, connection.network
    if facts.instance(vm) is None:
        return Verdict(True, "the VM does not run, so it is not migrated")
    if not row.running:
        return Verdict(False, "the VM runs without it until it is restarted (YOSHI-1101)")
    try:
        blockers = facts.backend(network).migration_blockers(vm, network, facts.snapshot, is_planned=True)
    except PlanningError as error:
        return Verdict(None, error.message)
    if blockers:
        return Verdict(False, f"it cannot be migrated with the VM: {'; '.join(map(str, blockers))}")
    if lost := lost_without_mac(connection, facts):
        return Verdict(False, f"no MAC address: {lost} (YOSHI-1203)")
    interface = find_interface(connection, facts)
    if interface is not None and interface.binding == "masquerade":
        return Verdict(True, f"the new pod gets it; the guest keeps its own of {vm.masquerade_cidr}")
    if facts.backend(network).has_interface:
        return Verdict(True, "the interface keeps its MAC address")
    return Verdict(True, "the new pod gets it")


def _check_without_network(action: Action, vm: Vm, facts: Facts) -> PreflightRow:
    """Return the row of a VM that holds no address of a network that can be read."""
    instance, interface = facts.instance(vm), vm.pod_interface
    name = str((interface or {}).get("name") or DEFAULT_INTERFACE)
    addresses = list_reported_addresses(instance, name) if instance is not None and interface is not None else ()
    binding = (binding_of(interface) or kubevirt.default_binding(facts.snapshot)) if interface is not None else ""
    mac = str((interface or {}).get("macAddress") or "")
    address = str(addresses[0]) if addresses else ""
    return PreflightRow((vm.namespace, vm.name), None, address, binding, mac, _without_network(action, address, facts))


def _without_network(action: Action, address: str, facts: Facts) -> Verdict:
    if facts.hidden_from_rows:
        return Verdict(None, f"cannot check its networks: {'; '.join(facts.hidden_from_rows)}")
    if not address:
        return Verdict(True, "the VM has no address")
    if action is Action.DELETE:
        return Verdict(False, "no network holds it for the VM")
    return Verdict(None, "no network holds it for the VM, so it depends on the CNI plugin")
