"""Run rules on facts, and keep what concerns the scope."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubectl_yoshi.diagnosis.facts import Facts, Scope
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation
from kubectl_yoshi.diagnosis.rule import Diagnosis, Finding, Rule, Unchecked
from kubectl_yoshi.model.objects import NamespacedName


def diagnose(facts: Facts, rules: Iterable[Rule]) -> Diagnosis:
    """Return what rules find within the scope of the facts, and what they could not check."""
    findings: list[Finding] = []
    unchecked: list[Unchecked] = []
    chosen = tuple(rules)
    for rule in chosen:
        try:
            for observation in rule.check(facts):  # it may raise after some observations, which are kept
                findings += [Finding(rule, observation)] if is_in_scope(observation, facts.scope) else []
        except CannotCheckError as error:
            unchecked.append(Unchecked(rule, error.reason))
    findings.sort(key=lambda finding: (finding.rule.severity.rank, finding.rule.number))
    return Diagnosis(tuple(dict.fromkeys(findings)), tuple(unchecked), len(chosen))


def diagnose_twice(facts: Facts, rules: Iterable[Rule], read_again: Callable[[], Facts]) -> Diagnosis:
    """Return the same as `diagnose`; findings of volatile rules must be confirmed by a second read.

    Args:
        facts: the facts.
        rules: the rules.
        read_again: reads the facts again, after a pause; called only if there is something to confirm.
    """
    chosen = tuple(rules)
    first = diagnose(facts, chosen)
    doubtful = {finding.rule for finding in first.findings if finding.rule.is_volatile}
    if not doubtful:
        return first
    second = diagnose(read_again(), (rule for rule in chosen if rule in doubtful))
    confirmed = {finding.identity for finding in second.findings}
    kept = (f for f in first.findings if not f.rule.is_volatile or f.identity in confirmed)
    return Diagnosis(tuple(kept), first.unchecked, first.rules)


def concerned_vms(observation: Observation) -> frozenset[NamespacedName]:
    """Return the VMs that an observation is about: also the holder of an address that another VM uses."""
    named = frozenset([observation.vm] if observation.vm else ())
    return named | (observation.row.vms if observation.row else frozenset())


def is_in_scope(observation: Observation, scope: Scope) -> bool:
    """Return whether an observation concerns what the diagnosis is about."""
    if scope.network is not None and observation.network != scope.network:
        return False
    if scope.vms and not scope.vms & concerned_vms(observation):
        return False
    if scope.namespace is None:
        return True
    concerned = {observation.ref.namespace, *(name[0] for name in (observation.network, observation.vm) if name)}
    return scope.namespace in concerned or concerned == {None}
