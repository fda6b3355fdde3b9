"""Lists of networks and of VMs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.addresses import surveyed
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.watching import show_again
from kubectl_yoshi.model.errors import Refused, UsageMistake
from kubectl_yoshi.model.facts import Facts
from kubectl_yoshi.model.lean import lean_of
from kubectl_yoshi.model.ledger import is_large
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, dig, metadata, name_of, namespace_of
from kubectl_yoshi.model.vm import VM, VMI, Vm, instance_of
from kubectl_yoshi.output.ages import age
from kubectl_yoshi.output.formats import print_rows
from kubectl_yoshi.output.tables import Column
from kubectl_yoshi.plan.survey import Row, State

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
        return _large(max(self.network.usable.size - self.used, 0))


def _large(number: int) -> str:
    return str(number) if number < 1 << 32 else f"{number:.3g}"


def list_networks(session: Session, options: network.ListOptions) -> None:
    """`network list`"""

    def show() -> None:
        rows = _network_rows(session, options)
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
        if not count and options.output.for_people:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No networks found{where}.")

    show()
    if options.watch:
        counted = [ADDRESSBLOCK] if ADDRESSBLOCK in session.api.served else []  # the original's clusters have none
        show_again(session, options.all_namespaces, [NETWORKWIZARD, *counted], show)


def _network_rows(session: Session, options: network.ListOptions) -> list[NetworkRow]:
    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        found = [session.api.get(NETWORKWIZARD.ref(*reversed(_named(session, name)))) for name in options.names]
    else:
        found = list(session.api.list(NETWORKWIZARD, namespace, label_selector=options.selector))
    networks = [(obj, _parsed(session, obj)) for obj in found]
    blocks: dict[tuple[str, str], int] = {}
    if any(one is not None and is_large(one) for _, one in networks):
        for block in session.api.list(ADDRESSBLOCK, namespace):
            key = (namespace_of(block), str(dig(block, "spec", "network")))
            blocks[key] = blocks.get(key, 0) + len(dig(block, "status", "allocations", default={}))
    rows = []
    for obj, one in networks:
        used = len(dig(obj, "status", "allocations", default={}))
        if one is not None and is_large(one):
            used = blocks.get((one.namespace, one.name), 0)
        rows.append(NetworkRow(obj, one, used))
    return rows


def _named(session: Session, text: str) -> tuple[str, str]:
    return parse_network_name(text, session.namespace)


def _parsed(session: Session, obj: Json) -> Network | None:
    try:
        return parse_network(obj)
    except UsageMistake as mistake:
        session.warn(mistake.message)
        return None


@dataclass(frozen=True)
class _VmRow:
    vm: Vm
    row: Row | None
    running: str
    state: str
    missing: str


def list_vms(session: Session, options: vm.ListOptions) -> None:
    """`vm list`"""

    def show() -> None:
        rows = _vm_rows(session, options)
        columns: list[Column[_VmRow]] = [
            Column("NAMESPACE", lambda row: row.vm.namespace),
            Column("VM", lambda row: row.vm.name),
            Column("NETWORK", lambda row: row.row.network.called_from(row.vm.namespace) if row.row else ""),
            Column("ADDRESS", lambda row: row.row.address if row.row else ""),
            Column("RUNNING WITH", lambda row: row.running),
            Column("STATE", lambda row: row.state, state=True),
            Column("MISSING", lambda row: row.missing),
            Column("MAC", lambda row: row.row.record.mac if row.row and row.row.record else "", wide=True),
            Column("STATUS", lambda row: dig(row.vm.raw, "status", "printableStatus"), wide=True),
        ]
        shown = columns if options.all_namespaces else columns[1:]
        count = print_rows(
            rows, shown, _vm_json, session.out, options.output,
            no_headers=options.no_headers, single=len(options.names) == 1,
        )  # fmt: skip
        if not count and options.output.for_people:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No VMs found{where}.")

    show()
    if options.watch:
        show_again(session, options.all_namespaces, [NETWORKWIZARD, VM, VMI], show)


def _vm_rows(session: Session, options: vm.ListOptions) -> list[_VmRow]:
    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        found = [session.api.get(VM.ref(name, session.namespace)) for name in options.names]
    else:
        found = list(session.api.list(VM, namespace, label_selector=options.selector, keep=lean_of(VM)))
    rows, facts = surveyed(session, options.network, options.all_namespaces)
    if not options.all_namespaces:
        rows += _shared_rows(session, found, rows)
    by_vm: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.record is not None and row.record.kind == VM.kind:
            by_vm.setdefault((row.record.namespace, row.record.name), []).append(row)
    result = []
    for obj in found:
        vm = Vm(obj)
        mine = by_vm.get((vm.namespace, vm.name), [])
        result += [_vm_row(vm, row, facts) for row in mine]
        if not mine and options.network is None:
            result.append(_VmRow(vm, None, _runs_with(vm, facts), "", ""))
    return result


def _shared_rows(session: Session, vms: list[Json], rows: list[Row]) -> list[Row]:
    """Rows of networks of other namespaces that these VMs' wishes name."""
    seen = {row.network.full_name for row in rows}
    wishes = {
        wish
        for obj in vms
        for backend in BACKENDS.values()
        for wish in Vm(obj).annotations.get(backend.wish, "").split(",")
        if "/" in wish and wish not in seen
    }
    more: list[Row] = []
    for wish in sorted(wishes):
        try:
            more += surveyed(session, wish, False)[0]
        except Refused as refused:
            session.warn(refused.message)
    return more


def _vm_row(vm: Vm, row: Row, facts: Facts) -> _VmRow:
    missing = ""
    if row.state is State.RESTART_NEEDED:
        missing = "restart"
    elif row.state is State.ORPHANED:
        missing = "not on its template" if row.vm is not None else "recorded for an earlier VM of this name"
    elif row.state is State.PENDING:
        on_template = BACKENDS[row.network.plugin].on_template
        missing = "not on its template yet" if on_template else "nothing announces it yet"
    return _VmRow(vm, row, _runs_with(vm, facts), row.state.value, missing)


def _runs_with(vm: Vm, facts: Facts) -> str:
    instance = instance_of(vm, facts)
    addresses = [
        str(i.get("ipAddress")) for i in dig(instance, "status", "interfaces", default=[]) if i.get("ipAddress")
    ]
    return ",".join(addresses)


def _vm_json(row: _VmRow) -> Json:
    network = row.row
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "Attachment",
        "metadata": {"name": row.vm.name, "namespace": row.vm.namespace},
        "spec": {
            "vm": row.vm.name,
            "network": network.network.full_name if network else "",
            "address": network.address if network else "",
        },
        "status": {"runningWith": row.running, "state": row.state, "missing": row.missing},
    }
