"""`kubectl yoshi doctor`: find out what is wrong with networks, VMs and their addresses, and what repairs it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.errors import failure_code, reserve_failure_for_findings, usage_error
from kubectl_yoshi.cli.options import (
    all_namespaces_option,
    as_options,
    command,
    filename_option,
    output_option,
    selector_option,
)
from kubectl_yoshi.cli.param_types import NETWORK_NAME, VM_NAME
from kubectl_yoshi.cli.result_objects import DIAGNOSIS, PREFLIGHT
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import ExitCode
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.diagnosis.facts import Facts
    from kubectl_yoshi.model.objects import Json, NamespacedName

SHORT = "short"
TABLE = "table"
NODE_KINDS = ("node", "nodes", "no")


@dataclass(frozen=True)
class DoctorOptions:
    """The flags of `doctor`."""

    names: tuple[str, ...]
    selector: str
    filenames: tuple[str, ...]
    all_namespaces: bool
    network: str | None
    fail_on: str
    preflight: str | None
    explain: str | None
    output: OutputFormat

    def __post_init__(self) -> None:
        if self.preflight and self.network:
            raise usage_error("--preflight and --network exclude each other", "Name the VMs.")
        if sum((bool(self.names), bool(self.selector), bool(self.filenames))) > 1:
            raise usage_error("name the VMs, or give -l SELECTOR, or -f FILE", "One of the three.")
        if self.nodes and not self.preflight:
            raise usage_error("node/NAME is for --preflight", "Name VMs as vm/NAME.")

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the names of the nodes whose VMs are selected."""
        parts = (name.partition("/") for name in self.names)
        return tuple(name for kind, _, name in parts if kind in NODE_KINDS)

    @property
    def selects_vms(self) -> bool:
        """Return whether the command line selects VMs."""
        return bool(self.names or self.selector or self.filenames)


@command(
    "doctor",
    examples="""
    # What is wrong in this namespace, and what repairs it
    kubectl yoshi doctor

    # In all namespaces, a line for each finding
    kubectl yoshi doctor -A -o short

    # What concerns one VM
    kubectl yoshi doctor vm/web-1

    # Check a VM before it is applied
    kubectl yoshi doctor -f vm.yaml

    # Which VMs with a label keep their addresses when they are restarted
    kubectl yoshi doctor --preflight restart -l app=db
    """,
)
@click.argument("names", nargs=-1, type=VM_NAME, metavar="[vm/NAME|node/NAME]…")
@selector_option
@filename_option
@all_namespaces_option
@click.option("--network", type=NETWORK_NAME, metavar="NAME", help="Only findings about this network.")
@click.option(
    "--fail-on",
    type=click.Choice(["warning", "error", "never"]),
    default="error",
    help="The severity from which on findings make the exit code 1 (default error).",
)
@click.option(
    "--preflight",
    type=click.Choice(["migrate", "restart", "delete"]),
    default=None,
    help="List which of the named VMs, or of those on node/NAME, keep their addresses after this, instead of findings.",
)
@click.option("--explain", metavar="CODE", help="Explain a rule, such as YOSHI-0001; nothing is checked.")
@output_option(DIAGNOSIS, PREFLIGHT, other_formats=(TABLE, SHORT))
@as_options(DoctorOptions)
def doctor(session: Session, options: DoctorOptions) -> None:
    """Find out what is wrong with networks, VMs and their addresses, and what repairs it.

    With -f, VMs are checked as if the files had been applied. The exit code is 1 if there are errors (see --fail-on),
    or if a VM would lose its address (--preflight), and 3 if there are none, but something could not be checked.
    """
    if options.explain:
        _explain(session, options.explain)
        return
    reserve_failure_for_findings(click.get_current_context())
    if options.preflight:
        _preflight(session, options, options.preflight)
    else:
        _diagnose(session, options)


def _diagnose(session: Session, options: DoctorOptions) -> None:
    """Run the rules and print what they find; exit with 1 if they find something, with 3 if they cannot check."""
    from kubectl_yoshi.cli.findings import (
        CONFIRMATION_SECONDS,
        diagnosis_object,
        is_failed,
        print_findings,
        print_short,
        read_facts,
    )
    from kubectl_yoshi.diagnosis.facts import Scope
    from kubectl_yoshi.diagnosis.finding import Severity
    from kubectl_yoshi.diagnosis.rules import RULES, VM_RULES
    from kubectl_yoshi.diagnosis.run import diagnose_twice
    from kubectl_yoshi.model.network import parse_network_name
    from kubectl_yoshi.output.formats import print_objects

    manifests = _read_manifests(session, options)
    vms = frozenset(_select_vms(session, options, manifests)) if options.selects_vms else frozenset()
    network = parse_network_name(options.network, session.namespace) if options.network else None
    namespaces = {namespace for namespace, _ in vms} or {session.namespace}
    namespace = None if options.all_namespaces or network or len(namespaces) > 1 else namespaces.pop()
    scope = Scope(namespace, network, vms)

    def read_again() -> Facts:
        session.api.clock.sleep(CONFIRMATION_SECONDS)
        return read_facts(session, scope, manifests)

    facts = read_facts(session, scope, manifests)
    diagnosis = diagnose_twice(facts, VM_RULES if vms else RULES, read_again)
    _check_vms_exist(vms - {finding.observation.vm for finding in diagnosis.findings}, facts)
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
    _exit(has_problem=failed, is_unchecked=unchecked)


def _check_vms_exist(vms: Iterable[NamespacedName], facts: Facts) -> None:
    """Check that VMs without a finding exist.

    Raises:
        PreconditionFailed: one does not.
    """
    from kubectl_yoshi.diagnosis.finding import CannotCheckError
    from kubectl_yoshi.model.errors import vm_not_found_error

    for namespace, name in sorted(vms):
        try:
            vm = facts.vm((namespace, name))
        except CannotCheckError:
            return  # which is reported
        if vm is None:
            raise vm_not_found_error(namespace, name)


def _preflight(session: Session, options: DoctorOptions, action_name: str) -> None:
    """Print which VMs keep their addresses; exit with 1 if one does not, with 3 if that is unknown."""
    from kubectl_yoshi.cli.preflight import print_preflight, read_preflight, read_vms_on_nodes
    from kubectl_yoshi.diagnosis.preflight import Action

    action, manifests = Action(action_name), _read_manifests(session, options)
    if options.nodes and len(options.nodes) == len(options.names):
        vms = read_vms_on_nodes(session, options.nodes)
    else:
        vms = _select_vms(session, options, manifests)
    rows = read_preflight(session, action, vms, manifests) if vms else ()
    print_preflight(session, action, rows, options.output)
    verdicts = {row.verdict.keeps for row in rows}
    _exit(has_problem=False in verdicts, is_unchecked=None in verdicts)


def _read_manifests(session: Session, options: DoctorOptions) -> list[Json]:
    """Return the VMs of -f.

    Raises:
        UsageError: a file cannot be read, or contains something else.
    """
    from kubectl_yoshi.cli.vm_args import read_vm_manifests
    from kubectl_yoshi.diagnosis.manifests import check_manifest

    manifests = read_vm_manifests(session, options.filenames) if options.filenames else []
    for manifest in manifests:
        check_manifest(manifest)
    return manifests


def _select_vms(session: Session, options: DoctorOptions, manifests: Sequence[Json]) -> tuple[NamespacedName, ...]:
    """Return the VMs that the command line selects.

    Raises:
        UsageError: it selects none.
        PreconditionFailed: no VM matches the selector.
    """
    from kubectl_yoshi.cli.vm_args import resolve_vms
    from kubectl_yoshi.model.objects import name_of, namespace_of

    if manifests:
        return tuple(dict.fromkeys((namespace_of(obj), name_of(obj)) for obj in manifests))
    return resolve_vms(session, options.names, options.selector, (), options.all_namespaces)


def _exit(*, has_problem: bool, is_unchecked: bool) -> None:
    ctx = click.get_current_context()
    if has_problem:
        ctx.exit(ExitCode.FAILURE)
    if is_unchecked:
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
