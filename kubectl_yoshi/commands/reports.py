"""`ips check`, its reports, and `ips release --from-report`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.commands.addresses import load_inventory, row_to_json, select_networks
from kubectl_yoshi.commands.changing import execute
from kubectl_yoshi.commands.releasing import print_released
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.engine.read import read_and_compute
from kubectl_yoshi.model.backend import VmProblem
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.output.format_option import OutputFormat, ReportFile
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.plan_printer import DRY_RUN_SUFFIXES
from kubectl_yoshi.plan.context import format_timestamp
from kubectl_yoshi.plan.inventory import InventoryRow, find_discrepancies, list_other_troubles
from kubectl_yoshi.plan.orphaned_vms import OrphanedVm, find_orphaned_vms
from kubectl_yoshi.plan.reports import (
    NEW_REPORT_HINT,
    LeakRequest,
    Report,
    build_report,
    confirmed_leaks,
    parse_report,
    plan_leak_release,
)

if TYPE_CHECKING:
    from kubectl_yoshi.commands.ips import CheckOptions, ReleaseOptions


def check_addresses(session: Session, options: CheckOptions) -> int:
    """`ips check`: prints every disagreement and gives their number."""
    now = format_timestamp(datetime.now(timezone.utc))  # before the look: what changes meanwhile has changed since
    rows, snapshot = load_inventory(session, options.network, options.all_namespaces, exact=True)
    found = find_discrepancies(rows)
    orphaned = [] if options.network else _find_orphaned_vms(session, options.all_namespaces, snapshot)
    vm_problems = _find_vm_problems(session, options, rows, snapshot)
    problems = len(found) + len(orphaned) + len(vm_problems)
    output = options.output
    if isinstance(output, ReportFile):
        _write(build_report(rows, found, now, uuid.uuid4().hex), Path(output.path))
    elif not output.is_human_readable:
        print_objects(_problem_objects(found, orphaned, vm_problems), session.out, output)
        return problems
    for sentence in (*(sentence for _, sentence in found), *(one.summary for one in orphaned), *map(str, vm_problems)):
        print(sentence, file=session.out)
    if not problems:
        print(f"{len(rows)} addresses, all as recorded", file=session.out)
    return problems


def _find_orphaned_vms(session: Session, all_namespaces: bool, snapshot: Snapshot) -> list[OrphanedVm]:
    """The VMs, of the session's namespace or of all, that are on networks which do not exist."""
    all_vms = Query(VM)
    known = all_vms in snapshot.results and not snapshot.unreadable_reason(
        all_vms
    )  # the survey has read them, where it read any
    read = all_vms if all_namespaces or known else Query(VM, session.namespace)

    def ask(snapshot: Snapshot) -> list[OrphanedVm]:
        vms = [vm for vm in map(Vm, snapshot.lookup(read)) if all_namespaces or vm.namespace == session.namespace]
        return find_orphaned_vms(vms, BACKENDS, snapshot)

    return read_and_compute(ask, session.api, snapshot, trim_objects=True)[0]


def _find_vm_problems(
    session: Session, options: CheckOptions, rows: list[InventoryRow], snapshot: Snapshot
) -> list[VmProblem]:
    """What keeps VMs from starting that have no address recorded."""

    def ask(snapshot: Snapshot) -> list[VmProblem]:
        networks = select_networks(session, options.network, options.all_namespaces, snapshot)
        parts = (list_other_troubles(one, BACKENDS[one.plugin], rows, snapshot) for one in networks)
        return list(dict.fromkeys(trouble for part in parts for trouble in part))

    return read_and_compute(ask, session.api, snapshot, trim_objects=True)[0]


def _problem_objects(
    found: list[tuple[InventoryRow, str]], orphaned: list[OrphanedVm], vm_problems: list[VmProblem]
) -> Iterator[Json]:
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


def _write(report: Json, path: Path) -> None:
    try:
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", "Name another file.") from error


def release_leaked(session: Session, options: ReleaseOptions) -> None:
    """`ips release --from-report A --from-report B`

    Raises:
        UsageError, PreconditionFailed: a file is no report, or the two do not tell enough.
    """
    one, two = (_read(name) for name in options.from_report)
    leaks = confirmed_leaks(one, two, datetime.now(timezone.utc), options.apart, options.max_age)
    planner = partial(plan_leak_release, LeakRequest(tuple(leaks)), BACKENDS)
    done = execute(session, planner, options.dry_run, OutputFormat(), activity="releasing", tolerate_errors=True)
    if done is None:
        return
    suffix = DRY_RUN_SUFFIXES[options.dry_run]
    addresses = {str(leak["address"]) for leak in leaks}
    reported = [address for address in {**done.plan.results, **done.errors} if address in addresses]
    if not reported and not done.errors:
        nothing = "nothing to release: the reports agree on no address that is still as they say"
        print(f"{nothing}{suffix}", file=session.out)
    print_released(session, done, reported, options.dry_run)


def _read(name: str) -> Report:
    try:
        return parse_report(json.loads(Path(name).read_text(encoding="utf-8")), name)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}", NEW_REPORT_HINT) from error
    except ValueError as error:
        raise UsageError(f"{name} is no report of `ips check`: it is no JSON", NEW_REPORT_HINT) from error
