"""Run the rules of a diagnosis against the cluster, and print what they find."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from kubectl_yoshi.cli.inventory import row_to_json
from kubectl_yoshi.cli.result_objects import API_VERSION, DIAGNOSIS, FINDING
from kubectl_yoshi.diagnosis.facts import Facts, Scope
from kubectl_yoshi.diagnosis.finding import Severity
from kubectl_yoshi.diagnosis.manifests import with_manifests
from kubectl_yoshi.diagnosis.rule import Diagnosis, Finding
from kubectl_yoshi.output.tables import painter

if TYPE_CHECKING:
    from kubectl_yoshi.cli.session import Session
    from kubectl_yoshi.model.objects import Json

SEVERITY_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
CONFIRMATION_SECONDS = 1.0
"""How long after the first read volatile facts are read again."""


def read_facts(session: Session, scope: Scope, manifests: Sequence[Json] = (), server_version: str = "") -> Facts:
    """Return new facts, which read from the cluster what rules need.

    Args:
        session: the session.
        scope: what the diagnosis is about.
        manifests: VirtualMachines, each with a namespace, that are checked as if they had been applied.
        server_version: the version of the API server; "" if unknown.
    """
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.plan.context import PlanContext, RunContext

    snapshot = new_snapshot(session.api, trim_objects=True)
    if manifests:
        snapshot = with_manifests(snapshot, manifests)
    return Facts(PlanContext(snapshot, BACKENDS, RunContext()), scope, server_version)


def finding_object(finding: Finding) -> Json:
    """Return the object of a finding that -o json prints."""
    seen = finding.observation
    namespace = {"namespace": seen.ref.namespace} if seen.ref.namespace else {}
    network = "/".join(seen.network or ())
    return {
        "apiVersion": API_VERSION,
        "kind": FINDING,
        "metadata": {"name": seen.ref.name, **namespace},
        "code": finding.rule.code,
        "severity": finding.rule.severity.value,
        "title": finding.rule.title,
        "message": seen.message,
        "object": {
            "apiVersion": seen.ref.resource.api_version,
            "kind": seen.ref.resource.kind,
            "name": seen.ref.name,
            **namespace,
        },
        "field": seen.field,
        "evidence": [*seen.evidence],
        "remedy": {"commands": [*seen.commands]},
        "documentation": finding.rule.documentation,
        "spec": {"network": network, "vm": "/".join(seen.vm or ()), "address": seen.address},
        **({"status": row_to_json(seen.row)["status"]} if seen.row else {}),
    }


def diagnosis_object(diagnosis: Diagnosis, *, success: bool) -> Json:
    """Return the object of a diagnosis that -o json prints.

    Args:
        diagnosis: the diagnosis.
        success: whether the command exits with 0.
    """
    return {
        "apiVersion": API_VERSION,
        "kind": DIAGNOSIS,
        "metadata": {"name": "cluster"},
        "success": success,
        "counts": {
            **{severity.value.lower(): diagnosis.count(severity) for severity in Severity},
            "unchecked": len(diagnosis.unchecked),
            "rules": diagnosis.rules,
        },
        "findings": [finding_object(finding) for finding in diagnosis.findings],
        "unchecked": [
            {"code": one.rule.code, "title": one.rule.title, "reason": one.reason} for one in diagnosis.unchecked
        ],
    }


def print_short(diagnosis: Diagnosis, out: TextIO) -> None:
    """Print one line for each finding, and for each reason why something could not be checked."""
    for finding in diagnosis.findings:
        ref = finding.observation.ref
        place = f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name
        head = f"{_severity(finding.rule.severity, out)} [{finding.rule.code}] ({ref.resource.kind} {place})"
        print(f"{head} {finding.observation.message}", file=out)
    _print_unchecked(diagnosis, out)
    print(summary(diagnosis), file=out)


def print_findings(diagnosis: Diagnosis, out: TextIO, *, with_evidence: bool) -> None:
    """Print findings in blocks: what is wrong, why, and what repairs it; then what could not be checked."""
    for finding in diagnosis.findings:
        seen = finding.observation
        print(f"{_severity(finding.rule.severity, out)} {finding.rule.code}: {finding.rule.title}", file=out)
        print(f"  {seen.message}", file=out)
        print(f"  object:  {seen.ref}{', ' + seen.field if seen.field else ''}", file=out)
        print_remedy(finding, out, with_evidence=with_evidence)
        print(file=out)
    _print_unchecked(diagnosis, out)
    print(summary(diagnosis), file=out)


def print_remedy(finding: Finding, out: TextIO, *, with_evidence: bool) -> None:
    """Print what was seen, the commands that repair it, and the command that explains the rule, a line each."""
    seen = finding.observation
    for text in seen.evidence if with_evidence else ():
        print(f"  seen:    {text}", file=out)
    for command in seen.commands:
        print(f"  remedy:  {command}", file=out)
    print(f"  explain: kubectl yoshi doctor --explain {finding.rule.code}", file=out)


def summary(diagnosis: Diagnosis) -> str:
    """Return the number of findings of each severity and of rules that could not be checked, in a line."""
    parts = [count_text(severity, number) for severity in Severity if (number := diagnosis.count(severity))]
    return (", ".join(parts) or "no findings") + unchecked_text(diagnosis)


def count_text(severity: Severity, number: int) -> str:
    """Return a number of findings of a severity as words, such as "2 errors"."""
    word = severity.value.lower()
    return f"{number} {word if number == 1 or severity is Severity.INFO else f'{word}s'}"


def unchecked_text(diagnosis: Diagnosis) -> str:
    """Return how many rules could not be checked, to be appended to a list; "" if there are none."""
    return f", {len(diagnosis.unchecked)} of {diagnosis.rules} rules not checked" if diagnosis.unchecked else ""


def _print_unchecked(diagnosis: Diagnosis, out: TextIO) -> None:
    codes: dict[str, list[str]] = defaultdict(list)
    for one in diagnosis.unchecked:
        codes[one.reason].append(one.rule.code)
    mark = painter(out)("?", "yellow")
    for reason, affected in codes.items():
        print(f"{mark} not checked, {reason}: {', '.join(affected)}", file=out)


def _severity(severity: Severity, out: TextIO) -> str:
    return painter(out)(severity.value, SEVERITY_COLOURS[severity])


def is_failed(findings: Iterable[Finding], threshold: Severity | None) -> bool:
    """Return whether a finding is at least as serious as the threshold; None for no threshold."""
    return threshold is not None and any(finding.rule.severity.rank <= threshold.rank for finding in findings)
