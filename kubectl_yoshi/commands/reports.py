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
from kubectl_yoshi.cluster.observing import observe_value
from kubectl_yoshi.commands.addresses import networks_meant, row_json, surveyed
from kubectl_yoshi.commands.changing import carry
from kubectl_yoshi.commands.releasing import tell_released
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.backend import Trouble
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.output.asked import Output, ReportFile
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.plans import DRY_RUN_SUFFIXES
from kubectl_yoshi.plan.attempt import stamp_of
from kubectl_yoshi.plan.forsaken import Forsaken, forsaken
from kubectl_yoshi.plan.reports import WAY_OUT, LeakRequest, Report, agreed, parse_report, plan_leak_releases, report_of
from kubectl_yoshi.plan.survey import Row, disagreements, troubles_besides

if TYPE_CHECKING:
    from kubectl_yoshi.commands.ips import CheckOptions, ReleaseOptions


def check_addresses(session: Session, options: CheckOptions) -> int:
    """`ips check`: prints every disagreement and gives their number."""
    now = stamp_of(datetime.now(timezone.utc))  # before the look: what changes meanwhile has changed since
    rows, facts = surveyed(session, options.network, options.all_namespaces, exact=True)
    found = disagreements(rows)
    lost = [] if options.network else _forsaken(session, options.all_namespaces, facts)
    troubles = _troubles(session, options, rows, facts)
    problems = len(found) + len(lost) + len(troubles)
    output = options.output
    if isinstance(output, ReportFile):
        _write(report_of(rows, found, now, uuid.uuid4().hex), Path(output.path))
    elif not output.for_people:
        print_objects(_problems(found, lost, troubles), session.out, output)
        return problems
    for sentence in (*(sentence for _, sentence in found), *(one.says for one in lost), *map(str, troubles)):
        print(sentence, file=session.out)
    if not problems:
        print(f"{len(rows)} addresses, all as recorded", file=session.out)
    return problems


def _forsaken(session: Session, everywhere: bool, facts: Facts) -> list[Forsaken]:
    """The VMs, of the session's namespace or of all, that are on networks which do not exist."""
    every = Read(VM)
    known = every in facts.answers and not facts.why_unknown(every)  # the survey has read them, where it read any
    read = every if everywhere or known else Read(VM, session.namespace)

    def ask(facts: Facts) -> list[Forsaken]:
        vms = [vm for vm in map(Vm, facts.ask(read)) if everywhere or vm.namespace == session.namespace]
        return forsaken(vms, BACKENDS, facts)

    return observe_value(ask, session.api, facts, lean=True)[0]


def _troubles(session: Session, options: CheckOptions, rows: list[Row], facts: Facts) -> list[Trouble]:
    """What keeps VMs from starting that have no address recorded."""

    def ask(facts: Facts) -> list[Trouble]:
        networks = networks_meant(session, options.network, options.all_namespaces, facts)
        parts = (troubles_besides(one, BACKENDS[one.plugin], rows, facts) for one in networks)
        return list(dict.fromkeys(trouble for part in parts for trouble in part))

    return observe_value(ask, session.api, facts, lean=True)[0]


def _problems(found: list[tuple[Row, str]], lost: list[Forsaken], troubles: list[Trouble]) -> Iterator[Json]:
    for row, sentence in found:
        yield {**row_json(row), "kind": "AddressProblem", "message": sentence}
    for one in lost:
        yield {
            "apiVersion": NETWORKWIZARD.api_version,
            "kind": "AddressProblem",
            "metadata": {"name": one.vm.name, "namespace": one.vm.namespace},
            "spec": {"network": "/".join(one.network), "address": ", ".join(map(str, one.addresses))},
            "message": one.says,
        }

    for trouble in troubles:
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
        raise UsageMistake(f"cannot write {path}: {error.strerror}", "Name another file.") from error


def release_leaked(session: Session, options: ReleaseOptions) -> None:
    """`ips release --from-report A --from-report B`

    Raises:
        UsageMistake, Refused: a file is no report, or the two do not tell enough.
    """
    one, two = (_read(name) for name in options.from_report)
    leaks = agreed(one, two, datetime.now(timezone.utc), options.apart, options.max_age)
    planner = partial(plan_leak_releases, LeakRequest(tuple(leaks)), BACKENDS)
    done = carry(session, planner, options.dry_run, Output(), doing="releasing", lenient=True)
    if done is None:
        return
    suffix = DRY_RUN_SUFFIXES[options.dry_run]
    addresses = {str(leak["address"]) for leak in leaks}
    told = [address for address in {**done.plan.answers, **done.refusals} if address in addresses]
    if not told and not done.refusals:
        nothing = "nothing to release: the reports agree on no address that is still as they say"
        print(f"{nothing}{suffix}", file=session.out)
    tell_released(session, done, told, options.dry_run)


def _read(name: str) -> Report:
    try:
        return parse_report(json.loads(Path(name).read_text(encoding="utf-8")), name)
    except OSError as error:
        raise UsageMistake(f"cannot read {name}: {error.strerror}", WAY_OUT) from error
    except ValueError as error:
        raise UsageMistake(f"{name} is no report of `ips check`: it is no JSON", WAY_OUT) from error
