"""`kubectl yoshi ips check`: compare allocations with their use in the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import all_namespaces_option, as_options, command, output_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.backend import VmProblem
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.plan.inventory import InventoryRow
    from kubectl_yoshi.plan.orphaned_vms import OrphanedVm


@dataclass(frozen=True)
class CheckOptions:
    """The flags of `ips check`."""

    network: str | None
    all_namespaces: bool
    output: OutputFormat


@command("check", examples="kubectl yoshi ips check -A")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network.")
@all_namespaces_option
@output_option("json", "yaml")
@as_options(CheckOptions)
def check(session: Session, options: CheckOptions) -> None:
    """Compare allocations with the cluster; exit 1 if they differ."""
    if _print_problems(session, options):
        click.get_current_context().exit(1)


def _print_problems(session: Session, options: CheckOptions) -> int:
    """Print every discrepancy and return their number."""
    from kubectl_yoshi.cli.inventory import load_inventory
    from kubectl_yoshi.output.formats import print_objects
    from kubectl_yoshi.plan.inventory import find_discrepancies

    rows, snapshot = load_inventory(session, options.network, options.all_namespaces, exact=True)
    found = find_discrepancies(rows)
    orphaned = [] if options.network else _find_orphaned_vms(session, options.all_namespaces, snapshot)
    vm_problems = _find_vm_problems(session, options, rows, snapshot)
    problems = len(found) + len(orphaned) + len(vm_problems)
    if not options.output.is_human_readable:
        print_objects(_problem_objects(found, orphaned, vm_problems), session.out, options.output)
        return problems
    for sentence in (*(sentence for _, sentence in found), *(one.summary for one in orphaned), *map(str, vm_problems)):
        print(sentence, file=session.out)
    if not problems:
        print(f"{len(rows)} addresses, all as recorded", file=session.out)
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


def _problem_objects(
    found: list[tuple[InventoryRow, str]], orphaned: list[OrphanedVm], vm_problems: list[VmProblem]
) -> Iterator[Json]:
    from kubectl_yoshi.cli.inventory import row_to_json
    from kubectl_yoshi.model.network import NETWORKWIZARD

    for row, sentence in found:
        yield {**row_to_json(row), "kind": "AddressProblem", "message": sentence}
    for orphan in orphaned:
        yield {
            "apiVersion": NETWORKWIZARD.api_version,
            "kind": "AddressProblem",
            "metadata": {"name": orphan.vm.name, "namespace": orphan.vm.namespace},
            "spec": {"network": "/".join(orphan.network), "address": ", ".join(map(str, orphan.addresses))},
            "message": orphan.summary,
        }

    for trouble in vm_problems:
        yield {
            "apiVersion": NETWORKWIZARD.api_version,
            "kind": "AddressProblem",
            "metadata": {"name": trouble.name, "namespace": trouble.namespace},
            "message": str(trouble),
        }
