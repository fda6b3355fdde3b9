"""Lists of networks and of VMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.cluster.errors import NotFound
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.addresses import surveyed
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.commands.watching import show_again
from kubectl_yoshi.model.errors import Refused, Unseen, UsageMistake
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.lean import lean_of
from kubectl_yoshi.model.ledger import is_large, outside_records
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network, parse_network_name
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, metadata, name_of, namespace_of
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
        inside = self.used - len(outside_records(self.network))
        return _large(max(self.network.usable.size - inside, 0))


def _large(number: int) -> str:
    return str(number) if number < 1 << 32 else f"{number:.3g}"


def list_networks(session: Session, options: network.ListOptions) -> None:
    """`network list`"""

    absent: set[ObjectRef] = set()

    def show() -> None:
        rows = _network_rows(session, options, absent)
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
        if not count and not absent and options.output.for_people:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No networks found{where}.")

    show()
    if options.watch:
        counted = [ADDRESSBLOCK] if ADDRESSBLOCK in session.api.served else []  # the original's clusters have none
        show_again(session, options.all_namespaces, [NETWORKWIZARD, *counted], show)
    _fail_if_any(absent)


def _each(session: Session, refs: Sequence[ObjectRef], absent: set[ObjectRef]) -> list[Json]:
    """Objects by their names; of several, those that are there: each other one is told, and added to `absent`.

    Raises:
        NotFound: the only one is not there.
    """
    found = []
    for ref in refs:
        try:
            found.append(session.api.get(ref))
        except NotFound as error:
            if len(refs) == 1:
                raise
            absent.add(ref)
            session.note(f"error: {error.in_one_line}")
    return found


def _fail_if_any(absent: set[ObjectRef]) -> None:
    """Ends with exit code 1 where something that was named is not there."""
    if absent:
        click.get_current_context().exit(1)


def _network_rows(session: Session, options: network.ListOptions, absent: set[ObjectRef]) -> list[NetworkRow]:
    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        refs = [NETWORKWIZARD.ref(*reversed(_named(session, name))) for name in dict.fromkeys(options.names)]
        found = _each(session, refs, absent)
    else:
        found = list(session.api.list(NETWORKWIZARD, namespace, label_selector=options.selector))
    networks = [(obj, _parsed(session, obj)) for obj in found]
    blocks: dict[tuple[str, str], int] = {}
    large = sorted({one.namespace for _, one in networks if one is not None and is_large(one)})
    for within in [None] if large and namespace is None else large:  # a network named as ns/name has its blocks there
        for block in session.api.list(ADDRESSBLOCK, within):
            key = (namespace_of(block), str(dig(block, "spec", "network")))
            blocks[key] = blocks.get(key, 0) + len(dig(block, "status", "allocations", default={}))
    rows = []
    for obj, one in networks:
        used = len(dig(obj, "status", "allocations", default={}))
        if one is not None and is_large(one):
            used = blocks.get((one.namespace, one.name), 0) + len(outside_records(one))
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
    """A VM and one of its networks, or none.

    Attributes:
        vm: which.
        network: namespace and name; None where it is on no network.
        address, mac: that it has there.
        running: the addresses that it runs with.
        state: see plan.survey.State.
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
    def called(self) -> str:
        """The shortest name of the network in the VM's namespace."""
        if self.network is None:
            return ""
        namespace, name = self.network
        return name if namespace == self.vm.namespace else f"{namespace}/{name}"


def list_vms(session: Session, options: vm.ListOptions) -> None:
    """`vm list`"""

    absent: set[ObjectRef] = set()

    def show() -> None:
        rows = _vm_rows(session, options, absent)
        columns: list[Column[_VmRow]] = [
            Column("NAMESPACE", lambda row: row.vm.namespace),
            Column("VM", lambda row: row.vm.name),
            Column("NETWORK", lambda row: row.called),
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
        if not count and not absent and options.output.for_people:
            where = "" if options.all_namespaces else f" in {session.namespace} namespace"
            session.note(f"No VMs found{where}.")

    show()
    if options.watch:
        show_again(session, options.all_namespaces, [NETWORKWIZARD, VM, VMI], show)
    _fail_if_any(absent)


def _vm_rows(session: Session, options: vm.ListOptions, absent: set[ObjectRef]) -> list[_VmRow]:
    namespace = None if options.all_namespaces else session.namespace
    if options.names:
        refs = [VM.ref(name, session.namespace) for name in dict.fromkeys(options.names)]
        found = _each(session, refs, absent)
    else:
        found = list(session.api.list(VM, namespace, label_selector=options.selector, keep=lean_of(VM)))
    rows, facts = surveyed(session, options.network, options.all_namespaces)
    unseen: set[tuple[str, str]] = set()
    if not options.all_namespaces and options.network is None:
        rows += _shared_rows(session, found, rows, unseen)
    instances = Read(VMI, namespace)
    facts = observe_value(lambda known: known.ask(instances), session.api, facts, lean=True)[1]
    by_vm: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.record is not None and row.record.kind == VM.kind:
            by_vm.setdefault((row.record.namespace, row.record.name), []).append(row)
    result = []
    for obj in found:
        vm = Vm(obj)
        mine = by_vm.get((vm.namespace, vm.name), [])
        running = "<unknown>" if facts.why_unknown(instances) else _runs_with(vm, facts)
        rows_of_vm = [_vm_row(vm, row, running) for row in mine]
        rows_of_vm += _rows_by_itself(vm, unseen, {row.address for row in mine}, running)
        if not rows_of_vm and options.network is None:
            rows_of_vm.append(_VmRow(vm, None, running))
        result += rows_of_vm
    return result


def _shared_rows(session: Session, vms: list[Json], rows: list[Row], unseen: set[tuple[str, str]]) -> list[Row]:
    """Rows of networks of other namespaces that these VMs' wishes name; what may not be read is added to `unseen`."""
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
        except Unseen as why:
            session.warn(why.message)
            unseen.add(_named(session, wish))
        except Refused as refused:
            session.warn(refused.message)
    return more


def _rows_by_itself(vm: Vm, unseen: set[tuple[str, str]], known: set[str], running: str) -> list[_VmRow]:
    """What a VM itself says of its networks that may not be read, without the addresses that are known otherwise."""
    found: dict[tuple[str, str], list[str]] = {}
    for backend in sorted(BACKENDS.values(), key=lambda one: not one.has_interface):  # those that know the network
        try:
            wished = [parse_network_name(name, vm.namespace) for name in backend.wishes(vm).networks]
        except UsageMistake:
            continue
        for network in (network for network in wished if network in unseen):
            told = found.setdefault(network, [])
            taken = known.union(*found.values())
            if not told:
                told += [text for text in map(str, backend.told_by(vm, "/".join(network))) if text not in taken]
    return [_VmRow(vm, network, running, ",".join(told), state=State.UNKNOWN.value) for network, told in found.items()]


def _vm_row(vm: Vm, row: Row, running: str) -> _VmRow:
    missing = ""
    if row.troubles:
        missing = "; ".join(trouble.says for trouble in row.troubles)
    elif row.state is State.RESTART_NEEDED:
        missing = "restart"
    elif row.state is State.ORPHANED:
        missing = "not on its template" if row.vm is not None else "recorded for an earlier VM of this name"
    elif row.state is State.PENDING:
        on_template = BACKENDS[row.network.plugin].on_template
        missing = "not on its template yet" if on_template else "nothing announces it yet"
    network = (row.network.namespace, row.network.name)
    mac = row.record.mac if row.record else ""
    return _VmRow(vm, network, running, row.address, mac, row.state.value, missing)


def _runs_with(vm: Vm, facts: Facts) -> str:
    instance = instance_of(vm, facts)
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
