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
from kubectl_yoshi.commands.addresses import row_json, surveyed
from kubectl_yoshi.commands.changing import carry
from kubectl_yoshi.commands.releasing import tell_released
from kubectl_yoshi.commands.session import Session
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.output.asked import Output, ReportFile
from kubectl_yoshi.output.formats import print_objects
from kubectl_yoshi.output.plans import DRY_RUN_SUFFIXES
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.reports import WAY_OUT, LeakRequest, Report, agreed, parse_report, plan_leak_releases, report_of
from kubectl_yoshi.plan.survey import Row, disagreements

if TYPE_CHECKING:
    from kubectl_yoshi.commands.ips import CheckOptions, ReleaseOptions


def check_addresses(session: Session, options: CheckOptions) -> int:
    """`ips check`: prints every disagreement and gives their number."""
    now = Attempt().stamp  # before the look: what changes meanwhile has changed since
    rows, _ = surveyed(session, options.network, options.all_namespaces, exact=True)
    found = disagreements(rows)
    output = options.output
    if isinstance(output, ReportFile):
        _write(report_of(rows, found, now, uuid.uuid4().hex), Path(output.path))
    elif not output.for_people:
        print_objects(_problems(found), session.out, output)
        return len(found)
    for _, sentence in found:
        print(sentence, file=session.out)
    if not found:
        print(f"{len(rows)} addresses, all as recorded", file=session.out)
    return len(found)


def _problems(found: list[tuple[Row, str]]) -> Iterator[Json]:
    for row, sentence in found:
        yield {**row_json(row), "kind": "AddressProblem", "message": sentence}


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
