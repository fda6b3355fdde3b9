"""Lists of networks and of VMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.addresses import load_inventory
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.watching import show_on_changes
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.kube.errors import NotFoundError
from kubectl_yoshi.model.allocations import allocations_outside_cidr, is_large
from kubectl_yoshi.model.errors import PreconditionFailed, UnreadableError, UsageError
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, metadata, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, VMI, Vm, find_instance, get_trimmer
from kubectl_yoshi.output.formats import print_rows
from kubectl_yoshi.output.tables import Column, age
from kubectl_yoshi.plan.inventory import AddressState, InventoryRow

if TYPE_CHECKING:
    from kubectl_yoshi.commands import network, vm


@dataclass(frozen=True)
class NetworkRow:
    """A network, as lists show it; `used` is None where it cannot be told."""

    raw: Json
    network: Network | None
    used: int | None

    @property
    def ready(self) -> str:
        """The Ready condition, or what the original wrote in its place."""
        for condition in dig(self.raw, "status", "conditions", default=[]):
            if condition.get("type") == "Ready":
                return str(condition.get("status"))
        created = dig(self.raw, "status", "created")
        return "Unknown" if created is None else str(bool(created))

    @property
    def free(self) -> str:
        """How many addresses are free."""
        if self.network is None or self.used is None or self.network.cidr is None:
            return "<unknown>"
        inside = self.used - len(allocations_outside_cidr(self.network))
        return _format_count(max(self.network.usable.size - inside, 0))


def _format_count(number: int) -> str:
    return str(number) if number < 1 << 32 else f"{number:.3g}"


def list_networks(session: Session, options: network.ListOptions) -> None:
    """`network list`"""

    not_found: set[ObjectRef] = set()

    def show() -> None:
        rows = _network_rows(session, options, not_found)
        columns: list[Column[NetworkRow]] = [
            Column("NAMESPACE", lambda row: namespace_of(row.raw)),
            Column("NAME", lambda row: name_of(row.raw)),
            Column("PLUGIN", lambda row: dig(row.raw, "spec", "plugin")),
            Column("CIDR", lambda row: str(row.network.cidr or "") if row.network else dig(row.raw, "spec", "cidr")),
            Column("READY", lambda row: row.ready),
            Column("USED", lambda row: "<unknown>" if row.used is None else str(row.used)),
            Column("FREE", lambda row: row.free),
            Column("REASON", lambda row: dig(row.raw, "status", "reason"), wide=True),
            Column("AGE", lambda row: age(metadata(row.raw).get("creationTimestamp"))),
        ]
        shown = columns if options.all_namespaces else columns[1:]
        single = len(options.names) == 1
        count = print_rows(
            rows, shown, lambda row: row.raw, session.out, options.output, no_headers=options.no_headers, single=single
        )
        if not count and not not_found and options.output.is_human_readable:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No networks found{where}.")

    show()
    if options.watch:
        watched = [ADDRESSBLOCK] if ADDRESSBLOCK in session.api.served else []  # the original's clusters have none
        show_on_changes(session, options.all_namespaces, [NETWORKWIZARD, *watched], show)
    _exit_if_missing(not_found)


def _get_named(session: Session, refs: Sequence[ObjectRef], not_found: set[ObjectRef]) -> list[Json]:
    """Objects by their names; of several, those that are there: each other one is told, and added to `not_found`.

    Raises:
        NotFoundError: the only one is not there.
    """
    found = []
    for ref in refs:
        try:
            found.append(session.api.get(ref))
        except NotFoundError as error:
            if len(refs) == 1:
                raise
            not_found.add(ref)
            session.note(f"error: {error.in_one_line}")
    return found


def _exit_if_missing(not_found: set[ObjectRef]) -> None:
    """Ends with exit code 1 where something that was named is not there."""
    if not_found:
        click.get_current_context().exit(1)


def _network_rows(session: Session, options: network.ListOptions, not_found: set[ObjectRef]) -> list[NetworkRow]:
    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        refs = [NETWORKWIZARD.ref(*reversed(_parse_name(session, name))) for name in dict.fromkeys(options.names)]
        found = _get_named(session, refs, not_found)
    else:
        found = list(session.api.list(NETWORKWIZARD, namespace, label_selector=options.selector))
    networks = [(obj, _parse_or_warn(session, obj)) for obj in found]
    blocks: dict[tuple[str, str], int] = {}
    block_namespaces = sorted({parsed.namespace for _, parsed in networks if parsed is not None and is_large(parsed)})
    for block_namespace in (
        [None] if block_namespaces and namespace is None else block_namespaces
    ):  # a network named as ns/name has its blocks there
        for block in session.api.list(ADDRESSBLOCK, block_namespace):
            key = (namespace_of(block), str(dig(block, "spec", "network")))
            blocks[key] = blocks.get(key, 0) + len(dig(block, "status", "allocations", default={}))
    rows = []
    for obj, parsed in networks:
        used = len(dig(obj, "status", "allocations", default={}))
        if parsed is not None and is_large(parsed):
            used = blocks.get((parsed.namespace, parsed.name), 0) + len(allocations_outside_cidr(parsed))
        rows.append(NetworkRow(obj, parsed, used))
    return rows


def _parse_name(session: Session, text: str) -> tuple[str, str]:
    return parse_network_name(text, session.namespace)


def _parse_or_warn(session: Session, obj: Json) -> Network | None:
    try:
        return parse_network(obj)
    except UsageError as error:
        session.warn(error.message)
        return None


@dataclass(frozen=True)
class _VmRow:
    """A VM and one of its networks, or none.

    Attributes:
        vm: which.
        network: namespace and name; None where it is on no network.
        address, mac: that it has there.
        running: the addresses that it runs with.
        state: see plan.inventory.State.
        missing: what would make it whole.
    """

    vm: Vm
    network: tuple[str, str] | None
    running: str
    address: str = ""
    mac: str = ""
    state: str = ""
    missing: str = ""

    @property
    def network_label(self) -> str:
        """The shortest name of the network in the VM's namespace."""
        if self.network is None:
            return ""
        namespace, name = self.network
        return name if namespace == self.vm.namespace else f"{namespace}/{name}"


def list_vms(session: Session, options: vm.ListOptions) -> None:
    """`vm list`"""

    not_found: set[ObjectRef] = set()

    def show() -> None:
        rows = _vm_rows(session, options, not_found)
        columns: list[Column[_VmRow]] = [
            Column("NAMESPACE", lambda row: row.vm.namespace),
            Column("VM", lambda row: row.vm.name),
            Column("NETWORK", lambda row: row.network_label),
            Column("ADDRESS", lambda row: row.address),
            Column("RUNNING WITH", lambda row: row.running),
            Column("STATE", lambda row: row.state, state=True),
            Column("MISSING", lambda row: row.missing),
            Column("MAC", lambda row: row.mac, wide=True),
            Column("STATUS", lambda row: dig(row.vm.raw, "status", "printableStatus"), wide=True),
        ]
        shown = columns if options.all_namespaces else columns[1:]
        count = print_rows(
            rows, shown, _vm_json, session.out, options.output,
            no_headers=options.no_headers, single=len(options.names) == 1,
        )  # fmt: skip
        if not count and not not_found and options.output.is_human_readable:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No VMs found{where}.")

    show()
    if options.watch:
        show_on_changes(session, options.all_namespaces, [NETWORKWIZARD, VM, VMI], show)
    _exit_if_missing(not_found)


def _vm_rows(session: Session, options: vm.ListOptions, not_found: set[ObjectRef]) -> list[_VmRow]:
    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        refs = [VM.ref(name, session.namespace) for name in dict.fromkeys(options.names)]
        found = _get_named(session, refs, not_found)
    else:
        found = list(session.api.list(VM, namespace, label_selector=options.selector, transform=get_trimmer(VM)))
    rows, snapshot = load_inventory(session, options.network, options.all_namespaces)
    unreadable: set[tuple[str, str]] = set()
    if not options.all_namespaces and options.network is None:
        rows += _other_namespace_rows(session, found, rows, unreadable)
    instances = Query(VMI, namespace)
    snapshot = read_and_compute(lambda known: known.lookup(instances), session.api, snapshot, trim_objects=True)[1]
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
    """Rows of networks of other namespaces that these VMs' wishes name; what may not be read is added to
    `unreadable`."""
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
            unreadable.add(_parse_name(session, network_name))
        except PreconditionFailed as error:
            session.warn(error.message)
    return result


def _rows_from_vm(vm: Vm, unreadable: set[tuple[str, str]], known: set[str], running: str) -> list[_VmRow]:
    """What a VM itself says of its networks that may not be read, without the addresses that are known otherwise."""
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
        _VmRow(vm, network, running, ",".join(addresses), state=AddressState.UNKNOWN.value)
        for network, addresses in found.items()
    ]


def _vm_row(vm: Vm, row: InventoryRow, running: str) -> _VmRow:
    missing = ""
    if row.vm_problems:
        missing = "; ".join(trouble.summary for trouble in row.vm_problems)
    elif row.state is AddressState.RESTART_NEEDED:
        missing = "restart"
    elif row.state is AddressState.ORPHANED:
        missing = "not on its template" if row.vm is not None else "recorded for an earlier VM of this name"
    elif row.state is AddressState.PENDING:
        pins_vm_template = BACKENDS[row.network.plugin].pins_vm_template
        missing = "not on its template yet" if pins_vm_template else "nothing announces it yet"
    network = (row.network.namespace, row.network.name)
    mac = row.record.mac if row.record else ""
    return _VmRow(vm, network, running, row.address, mac, row.state.value, missing)


def _runs_with(vm: Vm, snapshot: Snapshot) -> str:
    instance = find_instance(vm, snapshot)
    addresses = [
        str(i.get("ipAddress")) for i in dig(instance, "status", "interfaces", default=[]) if i.get("ipAddress")
    ]
    return ",".join(addresses)


def _vm_json(row: _VmRow) -> Json:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "Attachment",
        "metadata": {"name": row.vm.name, "namespace": row.vm.namespace},
        "spec": {
            "vm": row.vm.name,
            "network": "/".join(row.network or ()),
            "address": row.address,
        },
        "status": {"runningWith": row.running, "state": row.state, "missing": row.missing},
    }
