"""Reports of `ips check`, and giving back what two of them, taken apart in time, both call leaked.

One look may meet an attachment that is under way, or a VM that is being restored. What two looks show, with the record
and the VM unchanged from the first until now, is left behind (the rule is calicoctl's, `ipam release --from-report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.allocations import shard_of
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError, YoshiError
from kubectl_yoshi.model.jsonpatch import same_json
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import Json, dig, resource_version_of, uid_of
from kubectl_yoshi.model.plan import Plan, parallel_plans
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.context import RunContext, seconds_between
from kubectl_yoshi.plan.gc import namespaces_to_search
from kubectl_yoshi.plan.inventory import AddressState, InventoryRow
from kubectl_yoshi.plan.network_lookup import get_backend, load_network
from kubectl_yoshi.plan.records import load_shards
from kubectl_yoshi.plan.release import build_release, remove_left_fences

REPORT_KIND = "AddressReport"
MAX_CLOCK_SKEW_SECONDS = 60.0
"""How far the clock of who made a report may be ahead."""
NEW_REPORT_HINT = "Make a new report: kubectl yoshi ips check -o FILE.json"


def build_report(
    rows: Sequence[InventoryRow], discrepancies: Iterable[tuple[InventoryRow, str]], now: str, identity: str
) -> Json:
    """The report of a survey.

    Args:
        rows: the survey.
        discrepancies: its disagreements.
        now: RFC 3339.
        identity: unlike any other report's.
    """
    networks = {row.network.uid: row.network for row in rows}
    return {
        "apiVersion": NETWORKWIZARD.api_version,
        "kind": REPORT_KIND,
        "id": identity,
        "time": now,
        "networks": [
            {"network": one.full_name, "uid": one.uid, "resourceVersion": resource_version_of(one.raw)}
            for one in networks.values()
        ],
        "leaked": [_leaked(row) for row in rows if _is_leaked(row)],
        "problems": [
            {"network": row.network.full_name, "address": row.address, "message": text} for row, text in discrepancies
        ],
    }


def _is_leaked(row: InventoryRow) -> bool:
    return row.state is AddressState.ORPHANED and row.record is not None and isinstance(row.record.as_written, Mapping)


def _leaked(row: InventoryRow) -> Json:
    vm = {"uid": row.vm.uid, "resourceVersion": resource_version_of(row.vm.raw)} if row.vm else None
    record = row.record.as_written if row.record else None
    return {
        "network": row.network.full_name,
        "networkUID": row.network.uid,
        "address": row.address,
        "record": record,
        "vm": vm,
    }


@dataclass(frozen=True)
class Report:
    """A report as read.

    Attributes:
        source: its file, for messages.
        identity: unlike any other report's.
        time: when it was made, RFC 3339.
        leaked: (network's uid, address) -> what it says of it.
    """

    source: str
    identity: str
    time: str
    leaked: Mapping[tuple[str, str], Json]


def parse_report(value: Any, source: str) -> Report:
    """A report from JSON.

    Raises:
        UsageError: it is none.
    """
    leaked = value.get("leaked") if isinstance(value, dict) and value.get("kind") == REPORT_KIND else None
    entries = leaked if isinstance(leaked, list) else ()
    is_valid = isinstance(leaked, list) and all(_is_entry(entry) for entry in entries)
    if not is_valid or not isinstance(value.get("id"), str) or not isinstance(value.get("time"), str):
        raise UsageError(f"{source} is no report of `ips check`", NEW_REPORT_HINT)
    by_address = {(entry["networkUID"], entry["address"]): entry for entry in entries}
    return Report(source, value["id"], value["time"], by_address)


def _is_entry(entry: Any) -> bool:
    texts = ("network", "networkUID", "address")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in texts):
        return False
    try:
        parse_address(entry["address"])
    except UsageError:
        return False
    return entry["network"].count("/") == 1 and isinstance(entry.get("record"), dict)


def confirmed_leaks(one: Report, two: Report, now: datetime, min_interval: float, max_age: float) -> list[Json]:
    """What both reports call leaked, in the same words: the record and the VM are as they were.

    Args:
        one, two: in either order.
        now: the time.
        min_interval: seconds that must be between them.
        max_age: seconds that either may be old.

    Raises:
        UsageError: they are the same report.
        PreconditionFailed: they are too old, or too close to each other.
    """
    if one.identity == two.identity:
        raise UsageError(
            f"{one.source} and {two.source} are the same report", f"{NEW_REPORT_HINT}, some time after the first"
        )
    for report in (one, two):
        age = seconds_between(report.time, now)
        if age > max_age:
            since = f"it was made {report.time}, and may be {format_duration(max_age)} old"
            raise PreconditionFailed(f"report {report.source} is too old: {since}", NEW_REPORT_HINT)
        if age < -MAX_CLOCK_SKEW_SECONDS:
            raise PreconditionFailed(
                f"report {report.source} is of the future: it was made {report.time}", NEW_REPORT_HINT
            )
    between = abs(seconds_between(one.time, now) - seconds_between(two.time, now))
    if between < min_interval:
        raise PreconditionFailed(
            f"reports {one.source} and {two.source} were made only {format_duration(between)} apart, not "
            f"{format_duration(min_interval)}",
            f"{NEW_REPORT_HINT}, later",
        )
    return [entry for key, entry in one.leaked.items() if same_json(entry, two.leaked.get(key))]


@dataclass(frozen=True)
class LeakRequest:
    """What is to be given back: entries of reports, see `confirmed_leaks`."""

    leaks: tuple[Json, ...]


def plan_leak_release(
    request: LeakRequest, backends: Mapping[str, Backend], snapshot: Snapshot, run: RunContext
) -> Plan:
    """The changes that give leaked addresses back. `results` has who held each; notes say what stays, and why.

    Raises:
        PreconditionFailed: a network may not be read.
    """
    if run.failed:
        return Plan(errors={owner or "the ledger": error for owner, error in run.failed.items()})
    networks: dict[str, Network] = {}
    notes: list[str] = []
    for full_name in sorted({leak["network"] for leak in request.leaks}):
        namespace, name = parse_network_name(full_name, "")
        query = Query(NETWORKWIZARD, namespace, name)
        if not snapshot.lookup(query) and not snapshot.unreadable_reason(query):
            notes.append(f"network {full_name} is gone, and its records with it")
            continue
        networks[full_name] = load_network(namespace, name, snapshot)
    leaks = [(leak, networks[leak["network"]]) for leak in request.leaks if leak["network"] in networks]
    parts = [partial(_release_leak, leak, network, backends, snapshot, run) for leak, network in leaks]
    plan = parallel_plans(snapshot.parallel(parts)) if parts else Plan()
    plan = plan + remove_left_fences(map(Vm, snapshot.list_objects(VM)), plan)
    return replace(plan, notes=(*notes, *plan.notes))


def _release_leak(
    leak: Json, network: Network, backends: Mapping[str, Backend], snapshot: Snapshot, run: RunContext
) -> Plan:
    address = parse_address(leak["address"])
    backend = get_backend(network, backends)
    allocations = load_shards(network, [shard_of(network, int(address))], snapshot)
    record = allocations.records().get(int(address))
    if record is None and run.done:
        return Plan()
    place = f"{address} on network {network.full_name}"
    if network.uid != leak["networkUID"] or record is None or not same_json(record.as_written, leak["record"]):
        return Plan(notes=(f"{place} is left alone: its record is not what the reports say",))
    query = Query(VM, record.namespace, record.name)
    found = snapshot.lookup(query)
    if reason := snapshot.unreadable_reason(query):
        return Plan(notes=(f"{place} is left alone: VM {record.holder} cannot be read: {reason}",))
    vm = found[0] if found and uid_of(found[0]) == record.uid else None
    if not same_json(_identity(vm), leak["vm"]) and not run.done:
        return Plan(notes=(f"{place} is left alone: VM {record.holder} has changed since",))
    address_uses = backend.all_address_uses(network, namespaces_to_search([record], snapshot), snapshot)
    release = build_release(allocations, int(address), record, address_uses, backend, snapshot, run.micro_time)
    errors: dict[str, YoshiError] = {}
    if release.notes:
        errors[str(address)] = PreconditionFailed(release.notes[0], f"See `kubectl yoshi ips who {address}`.")
        return Plan(errors=errors)
    return replace(release.plan, results={str(address): record.holder})


def _identity(vm: Json | None) -> Json | None:
    return None if vm is None else {"uid": uid_of(vm), "resourceVersion": dig(vm, "metadata", "resourceVersion")}
