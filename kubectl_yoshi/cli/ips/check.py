"""`kubectl yoshi ips check`: compare allocations with their use in the cluster."""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.cli.errors import failure_code, reserve_failure_for_findings
from kubectl_yoshi.cli.options import all_namespaces_option, as_options, command, output_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME
from kubectl_yoshi.cli.result_objects import FINDING
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode
from kubectl_yoshi.output.format_option import OutputFormat


@dataclass(frozen=True)
class CheckOptions:
    """The flags of `ips check`."""

    network: str | None
    all_namespaces: bool
    strict: bool
    output: OutputFormat


@command("check", examples="kubectl yoshi ips check -A")
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only this network.")
@all_namespaces_option
@click.option("--strict", is_flag=True, help="Exit with 1 also if only restarts of VMs are missing.")
@output_option(FINDING)
@as_options(CheckOptions)
def check(session: Session, options: CheckOptions) -> None:
    """Compare allocations with the cluster; exit 1 if they differ.

    These are the rules about allocations of `doctor`. A VM that needs a restart is a warning. If something cannot be
    read and nothing else was found, the exit code is 3.
    """
    from kubectl_yoshi.cli.findings import finding_object, read_facts
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.diagnosis.finding import Severity
    from kubectl_yoshi.diagnosis.rules import ALLOCATION_RULES
    from kubectl_yoshi.diagnosis.run import diagnose
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.formats import print_objects

    ctx = click.get_current_context()
    reserve_failure_for_findings(ctx)
    network = parse_network_name(options.network, session.namespace) if options.network else None
    namespace = None if options.all_namespaces or network else session.namespace
    facts = read_facts(session, Scope(namespace, network))
    diagnosis = diagnose(facts, ALLOCATION_RULES)
    for text in facts.invalid_networks:
        session.warn(text)
    reasons = tuple(dict.fromkeys(one.reason for one in diagnosis.unchecked))
    session.note_unreadable(reasons)
    has_findings = any(options.strict or one.rule.severity is Severity.ERROR for one in diagnosis.findings)
    if not options.output.is_human_readable:
        print_objects(map(finding_object, diagnosis.findings), session.out, options.output)
    else:
        for finding in diagnosis.findings:
            is_warning = finding.rule.severity is not Severity.ERROR and not options.strict
            print(f"{'warning: ' if is_warning else ''}{finding.observation.line}", file=session.out)
        if not has_findings:
            extent = " as far as it can be read" if reasons else ""
            count = sum(1 for rows in facts.rows.values() for row in rows if row.record)
            print(f"{count} addresses, all as recorded{extent}", file=session.out)
    if has_findings:
        ctx.exit(ExitCode.FAILURE)
    if reasons:
        ctx.exit(failure_code(ctx))
