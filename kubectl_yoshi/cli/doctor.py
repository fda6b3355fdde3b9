"""`kubectl yoshi doctor`: find out what is wrong with networks, VMs and their addresses, and what repairs it."""

from __future__ import annotations

from dataclasses import dataclass

import click

from kubectl_yoshi.cli.errors import failure_code, reserve_failure_for_findings, usage_error
from kubectl_yoshi.cli.options import all_namespaces_option, as_options, command, output_option
from kubectl_yoshi.cli.param_types import NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import DIAGNOSIS
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode
from kubectl_yoshi.output.format_option import OutputFormat

SHORT = "short"
TABLE = "table"


@dataclass(frozen=True)
class DoctorOptions:
    """The flags of `doctor`."""

    vms: tuple[str, ...]
    all_namespaces: bool
    network: str | None
    fail_on: str
    explain: str | None
    output: OutputFormat


@command(
    "doctor",
    examples="""
    # What is wrong in this namespace, and what repairs it
    kubectl yoshi doctor

    # In all namespaces, a line for each finding
    kubectl yoshi doctor -A -o short

    # What concerns one VM
    kubectl yoshi doctor vm/web-1
    """,
)
@click.argument("vms", nargs=-1, type=VM_NAME, metavar="[vm/NAME]…")
@all_namespaces_option
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only findings about this network.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "error", "never"]),
    default="error",
    help="The severity from which on findings make the exit code 1 (default error).",
)
@click.option("--explain", metavar="CODE", help="Explain a rule, such as YOSHI-0001; nothing is checked.")
@output_option(DIAGNOSIS, other_formats=(TABLE, SHORT))
@as_options(DoctorOptions)
def doctor(session: Session, options: DoctorOptions) -> None:
    """Find out what is wrong with networks, VMs and their addresses, and what repairs it.

    The exit code is 1 if there are errors (see --fail-on), and 3 if there are none, but something could not be
    checked.
    """
    from kubectl_yoshi.cli.findings import (
        CONFIRMATION_SECONDS,
        diagnosis_object,
        is_failed,
        print_findings,
        print_short,
        read_facts,
    )
    from kubectl_yoshi.cli.vm_args import parse_vm_name
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.diagnosis.finding import Severity
    from kubectl_yoshi.diagnosis.rules import RULES, VM_RULES
    from kubectl_yoshi.diagnosis.run import diagnose_twice
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.formats import print_objects

    if options.explain:
        _explain(session, options.explain)
        return
    ctx = click.get_current_context()
    reserve_failure_for_findings(ctx)
    vms = frozenset(parse_vm_name(name, session) for name in options.vms)
    network = parse_network_name(options.network, session.namespace) if options.network else None
    namespaces = {namespace for namespace, _ in vms} or {session.namespace}
    namespace = None if options.all_namespaces or network or len(namespaces) > 1 else namespaces.pop()
    scope = Scope(namespace, network, vms)
    rules = VM_RULES if vms else RULES
    diagnosis = diagnose_twice(
        lambda: read_facts(session, scope), rules, lambda: session.api.clock.sleep(CONFIRMATION_SECONDS)
    )
    threshold = {"error": Severity.ERROR, "warning": Severity.WARNING, "never": None}[options.fail_on]
    failed = is_failed(diagnosis.findings, threshold)
    unchecked = bool(diagnosis.unchecked) and threshold is not None
    if not options.output.is_human_readable:
        result = diagnosis_object(diagnosis, success=not (failed or unchecked))
        print_objects([result], session.out, options.output, single=True)
    elif options.output.kind == SHORT:
        print_short(diagnosis, session.out)
    else:
        print_findings(diagnosis, session.out, with_evidence=options.output.kind == "wide")
    if failed:
        ctx.exit(ExitCode.FAILURE)
    if unchecked:
        ctx.exit(failure_code(ctx))


def _explain(session: Session, code: str) -> None:
    """Print the documentation of a rule.

    Raises:
        UsageError: there is no such rule.
    """
    from kubectl_yoshi.diagnosis.rule import CODE_PREFIX
    from kubectl_yoshi.diagnosis.rules import RULES

    number = code.upper().removeprefix(CODE_PREFIX)
    for rule in RULES:
        if rule.number == number:
            text = f"{rule.code} ({rule.severity.value}): {rule.title}\n\n{rule.explanation}"
            print(text, file=session.out)
            return
    raise usage_error(f'there is no rule "{code}"', "See docs/rules for all rules.")
