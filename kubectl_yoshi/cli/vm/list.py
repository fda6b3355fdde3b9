"""`kubectl yoshi vm list`: VMs with their networks and addresses, and the states of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    no_headers_option,
    output_option,
    selector_option,
    sort_by_option,
    watch_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import ATTACHMENT
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed, UnreadableError, UsageError
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.objects import Json, ObjectRef
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.model.vm import Vm
    from kubectl_yoshi.output.sorting import SortBy
    from kubectl_yoshi.plan.inventory import InventoryRow


UNREADABLE_NETWORK = "the network cannot be read"


@dataclass(frozen=True)
class ListOptions:
    """The flags of `vm list`."""

    names: tuple[str, ...]
    network: str | None
    all_namespaces: bool
    selector: str
    sort_by: SortBy | None
    watch: bool
    no_headers: bool
    output: OutputFormat


@command("list", examples="kubectl yoshi vm list -A")
@click.argument("names", nargs=-1, type=VM_NAME, metavar="[VM]…")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only VMs of this network.")
@all_namespaces_option
@selector_option
@sort_by_option
@watch_option
@no_headers_option
@output_option(ATTACHMENT)
@as_options(ListOptions)
def list_vms(session: Session, options: ListOptions) -> None:
    """List VMs with their networks, addresses and states."""
    from kubectl_yoshi.cli.inventory import exit_if_missing
    from kubectl_yoshi.cli.row_list import ListFlags, RowList, print_row_list
    from kubectl_yoshi.model.network import NETWORKWIZARD
    from kubectl_yoshi.model.objects import dig
    from kubectl_yoshi.model.vm import VM, VMI
    from kubectl_yoshi.output.formats import ListFormat
    from kubectl_yoshi.output.tables import Column

    not_found: set[ObjectRef] = set()
    columns: list[Column[_VmRow]] = [
        Column("NAMESPACE", lambda row: row.vm.namespace),
        Column("VM", lambda row: row.vm.name),
        Column("NETWORK", lambda row: row.network_label),
        Column("ADDRESS", lambda row: row.address),
        Column("RUNNING WITH", lambda row: row.running),
        Column("STATE", lambda row: row.state, state=True),
        Column("REASON", lambda row: row.reason),
        Column("MAC", lambda row: row.mac, wide=True),
        Column("STATUS", lambda row: dig(row.vm.raw, "status", "printableStatus"), wide=True),
    ]
    vms = RowList(
        "VMs",
        columns if options.all_namespaces else columns[1:],
        _vm_json,
        key=lambda row: (row.vm.namespace, row.vm.name, row.network),
        load=lambda: _vm_rows(session, options, not_found),
        removed=lambda row: replace(row, address="", mac="", state="", reason=""),
        resources=lambda: [NETWORKWIZARD, VM, VMI],
    )
    list_format = ListFormat(options.output, options.no_headers, single=len(options.names) == 1)
    flags = ListFlags(options.all_namespaces, options.watch, options.sort_by, list_format)
    print_row_list(session, vms, flags, not_found)
    exit_if_missing(not_found)


@dataclass(frozen=True)
class _VmRow:
    """A VM with one of its networks, or without a network.

    Attributes:
        vm: the VM.
        network: namespace and name, or None.
        address, mac: of the VM on this network.
        running: the addresses that the VM runs with.
        state: an AddressState.
        reason: why the address has this state; "" if it is as recorded.
    """

    vm: Vm
    network: tuple[str, str] | None
    running: str
    address: str = ""
    mac: str = ""
    state: str = ""
    reason: str = ""

    @property
    def network_label(self) -> str:
        """The shortest name of the network, relative to the VM's namespace."""
        if self.network is None:
            return ""
        namespace, name = self.network
        return name if namespace == self.vm.namespace else f"{namespace}/{name}"


def _vm_rows(session: Session, options: ListOptions, not_found: set[ObjectRef]) -> list[_VmRow]:
    from kubectl_yoshi.cli.inventory import get_named_objects, load_inventory
    from kubectl_yoshi.model.snapshot import Query
    from kubectl_yoshi.model.vm import VM, VMI, Vm, get_trimmer

    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        refs = [VM.ref(name, session.namespace) for name in dict.fromkeys(options.names)]
        found = get_named_objects(session, refs, not_found)
    else:
        found = list(session.api.list(VM, namespace, label_selector=options.selector, transform=get_trimmer(VM)))
    rows, snapshot = load_inventory(session, options.network, options.all_namespaces)
    unreadable: set[tuple[str, str]] = set()
    if not options.all_namespaces and options.network is None:
        rows += _other_namespace_rows(session, found, rows, unreadable)
    instances = Query(VMI, namespace)
    snapshot.prefetch(instances)
    by_vm: dict[tuple[str, str], list[InventoryRow]] = {}
    for row in rows:
        if row.record is not None and row.record.kind == VM.kind:
            by_vm.setdefault((row.record.namespace, row.record.name), []).append(row)
    result = []
    for obj in found:
        vm = Vm(obj)
        own_rows = by_vm.get((vm.namespace, vm.name), [])
        running = "<unknown>" if snapshot.unreadable_reason(instances) else _runs_with(vm, snapshot)
        rows_of_vm = [_vm_row(vm, row, running) for row in own_rows]
        rows_of_vm += _rows_from_vm(vm, unreadable, {row.address for row in own_rows}, running)
        if not rows_of_vm and options.network is None:
            rows_of_vm.append(_VmRow(vm, None, running))
        result += rows_of_vm
    return result


def _other_namespace_rows(
    session: Session, vms: list[Json], rows: list[InventoryRow], unreadable: set[tuple[str, str]]
) -> list[InventoryRow]:
    """Return the rows of networks of other namespaces that these VMs request; unreadable networks are added to
    `unreadable`."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cli.inventory import load_inventory
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.model.vm import Vm

    seen = {row.network.full_name for row in rows}
    network_names = {
        network_name
        for obj in vms
        for backend in BACKENDS.values()
        for network_name in Vm(obj).annotations.get(backend.annotation_key, "").split(",")
        if "/" in network_name and network_name not in seen
    }
    result: list[InventoryRow] = []
    for network_name in sorted(network_names):
        try:
            result += load_inventory(session, network_name, False)[0]
        except UnreadableError as error:
            session.warn(error.message)
            unreadable.add(parse_network_name(network_name, session.namespace))
        except PreconditionFailed as error:
            session.warn(error.message)
    return result


def _rows_from_vm(vm: Vm, unreadable: set[tuple[str, str]], known: set[str], running: str) -> list[_VmRow]:
    """Return rows of a VM's unreadable networks, with the addresses that the VM states and that are not in `known`."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.network import parse_network_name

    found: dict[tuple[str, str], list[str]] = {}
    for backend in sorted(
        BACKENDS.values(), key=lambda backend: not backend.has_interface
    ):  # those that know the network
        try:
            requested = [parse_network_name(name, vm.namespace) for name in backend.requested_networks(vm).networks]
        except UsageError:
            continue
        for network in (network for network in requested if network in unreadable):
            addresses = found.setdefault(network, [])
            known_addresses = known.union(*found.values())
            if not addresses:
                addresses += [
                    text
                    for text in map(str, backend.addresses_on_vm(vm, "/".join(network)))
                    if text not in known_addresses
                ]
    return [
        _VmRow(vm, network, running, ",".join(addresses), state=AddressState.UNKNOWN.value, reason=UNREADABLE_NETWORK)
        for network, addresses in found.items()
    ]


def _vm_row(vm: Vm, row: InventoryRow, running: str) -> _VmRow:
    network = (row.network.namespace, row.network.name)
    mac = row.record.mac if row.record else ""
    return _VmRow(vm, network, running, row.address, mac, row.state.value, row.reason)


def _runs_with(vm: Vm, snapshot: Snapshot) -> str:
    from kubectl_yoshi.model.objects import dig
    from kubectl_yoshi.model.vm import find_instance

    instance = find_instance(vm, snapshot)
    addresses = [
        str(i.get("ipAddress")) for i in dig(instance, "status", "interfaces", default=[]) if i.get("ipAddress")
    ]
    return ",".join(addresses)


def _vm_json(row: _VmRow) -> Json:
    from kubectl_yoshi.cli.result_objects import attachment_object

    status = {
        "address": row.address,
        "mac": row.mac,
        "state": row.state,
        "runningWith": row.running,
        "reason": row.reason,
    }
    return attachment_object((row.vm.namespace, row.vm.name), "/".join(row.network or ()), status)
