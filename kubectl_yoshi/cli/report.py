"""`kubectl yoshi report`: write an archive from which another person can see what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import usage_error
from kubectl_yoshi.cli.options import all_namespaces_option, as_options, command
from kubectl_yoshi.cli.param_types import FILE
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed

if TYPE_CHECKING:
    from kubectl_yoshi.diagnosis.facts import Facts
    from kubectl_yoshi.diagnosis.status import ClusterStatus
    from kubectl_yoshi.model.objects import Json

STDOUT = "-"


@dataclass(frozen=True)
class ReportOptions:
    """The flags of `report`."""

    all_namespaces: bool
    file: str
    redact: bool
    force: bool


@command(
    "report",
    examples="""
    # An archive for a bug report, without names and public addresses
    kubectl yoshi report --redact -o report.tar.gz

    # Of all namespaces, to stdout
    kubectl yoshi report -A -o - | tar -tzf -
    """,
)
@all_namespaces_option
@click.option(
    "-o", "--output", "file", type=FILE, required=True, metavar="FILE", help='The archive (.tar.gz), or "-" for stdout.'
)
@click.option("--redact", is_flag=True, help="Replace names, public IP addresses and MAC addresses by pseudonyms.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@as_options(ReportOptions)
def report(session: Session, options: ReportOptions) -> None:
    """Write an archive of status, findings, objects and events, without secrets.

    It has what the rules of `doctor` read, no object of kind Secret, and no cloud-init data. Only you can read the
    file. Look at it before you pass it on: without --redact it has all names and addresses.
    """
    from pathlib import Path

    from kubectl_yoshi.cli.archive import to_archive, write_whole_file
    from kubectl_yoshi.cli.cluster_status import read_server_version
    from kubectl_yoshi.cli.findings import read_facts
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.diagnosis.report import read_events
    from kubectl_yoshi.diagnosis.rules import RULES
    from kubectl_yoshi.diagnosis.status import compute_status
    from kubectl_yoshi.output.escaping import unwrap_stream

    to_stdout = options.file == STDOUT
    if to_stdout and session.out.isatty():
        raise usage_error("the archive is not written to a terminal", "Name a file, or pipe it to another program.")
    if not to_stdout and Path(options.file).is_file() and not options.force:
        raise PreconditionFailed(f"{options.file} exists", "Name another file, or replace it with --force.")
    scope = Scope(None if options.all_namespaces else session.namespace)
    facts = read_facts(session, scope, server_version=read_server_version(session))
    status = compute_status(facts, RULES)
    read_events(facts)
    content = to_archive(_report_files(facts, status, redact=options.redact))
    if to_stdout:
        stream = unwrap_stream(session.out).buffer
        stream.write(content)
        stream.flush()
        return
    write_whole_file(Path(options.file), content)
    redacted = "" if options.redact else "; it has names and addresses of your cluster, see --redact"
    session.note(f"{options.file} written{redacted}")


def _report_files(facts: Facts, status: ClusterStatus, *, redact: bool) -> Mapping[str, str]:
    """Return the files of a report, by path."""
    from kubectl_yoshi.cli.cluster_status import status_object
    from kubectl_yoshi.cli.findings import diagnosis_object
    from kubectl_yoshi.cli.version import client_version_object
    from kubectl_yoshi.diagnosis.redaction import Redactor
    from kubectl_yoshi.diagnosis.report import list_reported_objects, list_unreadable
    from kubectl_yoshi.output.formats import to_json_text, to_list_object, to_yaml

    objects = list_reported_objects(facts)
    unreadable = list_unreadable(facts, status)
    values: dict[str, Json] = {
        "report/status.json": status_object(status),
        "report/versions.json": {**client_version_object(), "components": status_object(status)["versions"]},
    }
    if status.diagnosis is not None:
        values["report/findings.json"] = diagnosis_object(status.diagnosis, success=not status.pending)
    if redact:
        findings = [finding.observation for finding in status.diagnosis.findings] if status.diagnosis else []
        redactor = Redactor(
            (obj for found in objects.values() for obj in found),
            networks=(seen.network for seen in findings if seen.network),
            vms=(seen.vm for seen in findings if seen.vm),
        )
        values = {path: redactor.value(value) for path, value in values.items()}
        objects = {name: [redactor.value(obj) for obj in found] for name, found in objects.items()}
        unreadable = [redactor.text(line) for line in unreadable]
    return {
        **{path: to_json_text(value) for path, value in values.items()},
        "report/unreadable.txt": "".join(f"{line}\n" for line in unreadable),
        **{f"report/objects/{name}.yaml": to_yaml(to_list_object(found)) for name, found in objects.items()},
    }
