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
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Plan, same_json, side_by_side
from kubectl_yoshi.model.errors import Refused, UsageMistake, YoshiError
from kubectl_yoshi.model.facts import Facts, Read, together
from kubectl_yoshi.model.ledger import shelf_of
from kubectl_yoshi.model.network import NETWORKWIZARD, Network, parse_network_name
from kubectl_yoshi.model.objects import Json, dig, resource_version_of, uid_of
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt, seconds_between
from kubectl_yoshi.plan.books import open_network, open_shelves
from kubectl_yoshi.plan.collection import where_to_look
from kubectl_yoshi.plan.cooling import duration
from kubectl_yoshi.plan.releases import lift_barriers, release_of
from kubectl_yoshi.plan.serving import backend_of
from kubectl_yoshi.plan.survey import Row, State

KIND = "AddressReport"
AHEAD_SECONDS = 60.0
"""How far the clock of who made a report may be ahead."""
WAY_OUT = "Make a new report: kubectl yoshi ips check -o FILE.json"


def report_of(rows: Sequence[Row], wrong: Iterable[tuple[Row, str]], now: str, identity: str) -> Json:
    """The report of a survey.

    Args:
        rows: the survey.
        wrong: its disagreements.
        now: RFC 3339.
        identity: unlike any other report's.
    """
    networks = {row.network.uid: row.network for row in rows}
    return {
        "apiVersion": NETWORKWIZARD.api_version,
        "kind": KIND,
        "id": identity,
        "time": now,
        "networks": [
            {"network": one.full_name, "uid": one.uid, "resourceVersion": resource_version_of(one.raw)}
            for one in networks.values()
        ],
        "leaked": [_leaked(row) for row in rows if _is_leaked(row)],
        "problems": [
            {"network": row.network.full_name, "address": row.address, "message": text} for row, text in wrong
        ],
    }


def _is_leaked(row: Row) -> bool:
    return row.state is State.ORPHANED and row.record is not None and isinstance(row.record.as_written, Mapping)


def _leaked(row: Row) -> Json:
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
        UsageMistake: it is none.
    """
    leaked = value.get("leaked") if isinstance(value, dict) and value.get("kind") == KIND else None
    entries = leaked if isinstance(leaked, list) else ()
    sound = isinstance(leaked, list) and all(_is_entry(entry) for entry in entries)
    if not sound or not isinstance(value.get("id"), str) or not isinstance(value.get("time"), str):
        raise UsageMistake(f"{source} is no report of `ips check`", WAY_OUT)
    by_address = {(entry["networkUID"], entry["address"]): entry for entry in entries}
    return Report(source, value["id"], value["time"], by_address)


def _is_entry(entry: Any) -> bool:
    texts = ("network", "networkUID", "address")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in texts):
        return False
    try:
        parse_address(entry["address"])
    except UsageMistake:
        return False
    return entry["network"].count("/") == 1 and isinstance(entry.get("record"), dict)


def agreed(one: Report, two: Report, now: datetime, apart: float, oldest: float) -> list[Json]:
    """What both reports call leaked, in the same words: the record and the VM are as they were.

    Args:
        one, two: in either order.
        now: the time.
        apart: seconds that must be between them.
        oldest: seconds that either may be old.

    Raises:
        UsageMistake: they are the same report.
        Refused: they are too old, or too close to each other.
    """
    if one.identity == two.identity:
        raise UsageMistake(
            f"{one.source} and {two.source} are the same report", f"{WAY_OUT}, some time after the first"
        )
    for report in (one, two):
        age = seconds_between(report.time, now)
        if age > oldest:
            since = f"it was made {report.time}, and may be {duration(oldest)} old"
            raise Refused(f"report {report.source} is too old: {since}", WAY_OUT)
        if age < -AHEAD_SECONDS:
            raise Refused(f"report {report.source} is of the future: it was made {report.time}", WAY_OUT)
    between = abs(seconds_between(one.time, now) - seconds_between(two.time, now))
    if between < apart:
        raise Refused(
            f"reports {one.source} and {two.source} were made only {duration(between)} apart, not {duration(apart)}",
            f"{WAY_OUT}, later",
        )
    return [entry for key, entry in one.leaked.items() if same_json(entry, two.leaked.get(key))]


@dataclass(frozen=True)
class LeakRequest:
    """What is to be given back: entries of reports, see `agreed`."""

    leaks: tuple[Json, ...]


def plan_leak_releases(request: LeakRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that give leaked addresses back. `answers` has who held each; notes say what stays, and why.

    Raises:
        NeedMore: more must be read first.
        Refused: a network may not be read.
    """
    if attempt.failed:
        return Plan(refusals={subject or "the ledger": error for subject, error in attempt.failed.items()})
    networks: dict[str, Network] = {}
    gone: list[str] = []
    for full_name in sorted({leak["network"] for leak in request.leaks}):
        namespace, name = parse_network_name(full_name, "")
        reading = Read(NETWORKWIZARD, namespace, name)
        if not facts.ask(reading) and not facts.why_unknown(reading):
            gone.append(f"network {full_name} is gone, and its records with it")
            continue
        networks[full_name] = open_network(namespace, name, facts)
    there = [(leak, networks[leak["network"]]) for leak in request.leaks if leak["network"] in networks]
    parts = [partial(_one, leak, network, backends, facts, attempt) for leak, network in there]
    plan = side_by_side(together(parts)) if parts else Plan()
    plan = plan + lift_barriers(map(Vm, facts.all(VM)), plan)
    return replace(plan, notes=(*gone, *plan.notes))


def _one(leak: Json, network: Network, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    address = parse_address(leak["address"])
    backend = backend_of(network, backends)
    ledger = open_shelves(network, [shelf_of(network, int(address))], facts)
    record = ledger.records().get(int(address))
    if record is None and attempt.done:
        return Plan()
    here = f"{address} on network {network.full_name}"
    if network.uid != leak["networkUID"] or record is None or not same_json(record.as_written, leak["record"]):
        return Plan(notes=(f"{here} is left alone: its record is not what the reports say",))
    reading = Read(VM, record.namespace, record.name)
    found = facts.ask(reading)
    if why := facts.why_unknown(reading):
        return Plan(notes=(f"{here} is left alone: VM {record.holder} cannot be read: {why}",))
    vm = found[0] if found and uid_of(found[0]) == record.uid else None
    if not same_json(_identity(vm), leak["vm"]) and not attempt.done:
        return Plan(notes=(f"{here} is left alone: VM {record.holder} has changed since",))
    uses = backend.survey(network, where_to_look([record], facts), facts)
    release = release_of(ledger, int(address), record, uses, backend, facts, attempt.moment)
    refusals: dict[str, YoshiError] = {}
    if release.notes:
        refusals[str(address)] = Refused(release.notes[0], f"See `kubectl yoshi ips who {address}`.")
        return Plan(refusals=refusals)
    return replace(release.plan, answers={str(address): record.holder})


def _identity(vm: Json | None) -> Json | None:
    return None if vm is None else {"uid": uid_of(vm), "resourceVersion": dig(vm, "metadata", "resourceVersion")}
