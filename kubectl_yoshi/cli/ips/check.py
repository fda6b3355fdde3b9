"""`kubectl yoshi ips check`: compare allocations with their use in the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import failure_code, reserve_failure_for_findings
from kubectl_yoshi.cli.options import all_namespaces_option, as_options, command, output_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import API_VERSION, FINDING
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.backend import VmProblem
    from kubectl_yoshi.model.objects import Json, ObjectRef
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.plan.inventory import InventoryRow
    from kubectl_yoshi.plan.orphaned_vms import OrphanedVm


@dataclass(frozen=True)
class CheckOptions:
    """The flags of `ips check`."""

    network: str | None
    all_namespaces: bool
    strict: bool
    output: OutputFormat


@dataclass(frozen=True)
class Problem:
    """What `ips check` reports.

    Attributes:
        message: a sentence that names the object.
        obj: the object for -o json, without the message.
        is_warning: whether it is a finding only with --strict.
    """

    message: str
    obj: Json
    is_warning: bool = False

    def to_json(self) -> Json:
        """Return the object that -o json prints."""
        return {**self.obj, "severity": "Warning" if self.is_warning else "Error", "message": self.message}


@command("check", examples="kubectl yoshi ips check -A")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network.")
@all_namespaces_option
@click.option("--strict", is_flag=True, help="Exit with 1 also if only restarts of VMs are missing.")
@output_option(FINDING)
@as_options(CheckOptions)
def check(session: Session, options: CheckOptions) -> None:
    """Compare allocations with the cluster; exit 1 if they differ.

    A VM that needs a restart is a warning. If something cannot be read and nothing else was found, the exit code is 3.
    """
    from kubectl_yoshi.cli.inventory import load_inventory
    from kubectl_yoshi.output.formats import print_objects

    ctx = click.get_current_context()
    reserve_failure_for_findings(ctx)
    rows, snapshot = load_inventory(session, options.network, options.all_namespaces, exact=True)
    noted = snapshot.unreadable_reasons()
    problems = _find_problems(session, options, rows, snapshot)
    session.note_unreadable(reason for reason in snapshot.unreadable_reasons() if reason not in noted)
    has_findings = any(options.strict or not problem.is_warning for problem in problems)
    is_complete = not snapshot.unreadable_reasons()
    if not options.output.is_human_readable:
        print_objects((problem.to_json() for problem in problems), session.out, options.output)
    else:
        for problem in problems:
            prefix = "warning: " if problem.is_warning and not options.strict else ""
            print(f"{prefix}{problem.message}", file=session.out)
        if not has_findings:
            extent = "" if is_complete else " as far as it can be read"
            print(f"{sum(1 for row in rows if row.record)} addresses, all as recorded{extent}", file=session.out)
    if has_findings:
        ctx.exit(ExitCode.FAILURE)
    if not is_complete:
        ctx.exit(failure_code(ctx))


def _find_problems(
    session: Session, options: CheckOptions, rows: list[InventoryRow], snapshot: Snapshot
) -> list[Problem]:
    """Return every discrepancy, VM of a deleted network, and VM that cannot start."""
    from kubectl_yoshi.cli.inventory import row_to_json
    from kubectl_yoshi.model.address_state import AddressState
    from kubectl_yoshi.model.vm import VM
    from kubectl_yoshi.plan.inventory import find_discrepancies

    problems = [
        Problem(found.message, {**row_to_json(found.row), "kind": FINDING}, found.is_warning)
        for found in find_discrepancies(rows)
    ]
    for orphan in [] if options.network else _find_orphaned_vms(session, options.all_namespaces, snapshot):
        spec = {"network": "/".join(orphan.network), "address": ", ".join(map(str, orphan.addresses))}
        problems.append(Problem(orphan.summary, _vm_object(orphan.vm.ref, AddressState.ORPHANED, spec=spec)))
    for trouble in _find_vm_problems(session, options, rows, snapshot):
        vm = VM.ref(trouble.name, trouble.namespace)
        problems.append(Problem(str(trouble), _vm_object(vm, AddressState.CONFLICT)))
    return problems


def _find_orphaned_vms(session: Session, all_namespaces: bool, snapshot: Snapshot) -> list[OrphanedVm]:
    """Return the VMs, of the session's namespace or of all, with addresses of networks that do not exist."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.model.snapshot import Query
    from kubectl_yoshi.model.vm import VM, Vm
    from kubectl_yoshi.plan.orphaned_vms import find_orphaned_vms

    all_vms = Query(VM)
    known = all_vms in snapshot.results and not snapshot.unreadable_reason(
        all_vms
    )  # the inventory has read them, if it read any
    read = all_vms if all_namespaces or known else Query(VM, session.namespace)

    vms = [vm for vm in map(Vm, snapshot.lookup(read)) if all_namespaces or vm.namespace == session.namespace]
    return find_orphaned_vms(vms, BACKENDS, snapshot)


def _find_vm_problems(
    session: Session, options: CheckOptions, rows: list[InventoryRow], snapshot: Snapshot
) -> list[VmProblem]:
    """Return the problems that prevent VMs without an allocation from starting."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.cli.inventory import select_networks
    from kubectl_yoshi.plan.inventory import list_other_troubles

    networks = select_networks(session, options.network, options.all_namespaces, snapshot)
    parts = (list_other_troubles(one, BACKENDS[one.plugin], rows, snapshot) for one in networks)
    return list(dict.fromkeys(trouble for part in parts for trouble in part))


def _vm_object(vm: ObjectRef, state: AddressState, **fields: Json) -> Json:
    """Return the object of a problem that concerns a VM and no allocation."""
    return {
        "apiVersion": API_VERSION,
        "kind": FINDING,
        "metadata": {"name": vm.name, "namespace": vm.namespace},
        **fields,
        "status": {"state": state.value},
    }
