"""Rules on the cluster in memory of tests/unit/plan/fake_cluster.py."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from kubectl_yoshi.diagnosis.facts import Facts, Scope
from kubectl_yoshi.diagnosis.finding import Observation
from kubectl_yoshi.diagnosis.rule import Diagnosis, Finding, Rule
from kubectl_yoshi.diagnosis.rules import ALLOCATION_RULES, RULES
from kubectl_yoshi.diagnosis.run import diagnose
from kubectl_yoshi.engine.read import new_snapshot
from kubectl_yoshi.plan.context import PlanContext, RunContext
from tests.unit.diagnosis.remedies import check_remedy
from tests.unit.plan.fake_cluster import BACKENDS, FakeCluster

EVERYTHING = Scope()


def facts_of(cluster: FakeCluster, scope: Scope = EVERYTHING, age: timedelta = timedelta()) -> Facts:
    """Return new facts about a cluster, at a time after now."""
    run = RunContext(now=datetime.now(timezone.utc) + age)
    return Facts(PlanContext(new_snapshot(cluster.api, trim_objects=True), BACKENDS, run), scope)  # type: ignore[arg-type]


def diagnosis_of(cluster: FakeCluster, rules: Iterable[Rule] = RULES, scope: Scope = EVERYTHING) -> Diagnosis:
    """Return what rules find in a cluster."""
    return diagnose(facts_of(cluster, scope), rules)


def findings_of(cluster: FakeCluster, rule: Rule, scope: Scope = EVERYTHING) -> list[Finding]:
    """Return the findings of one rule, which must be able to check everything, and whose remedies must be valid."""
    diagnosis = diagnosis_of(cluster, [rule], scope)
    assert not diagnosis.unchecked
    for finding in diagnosis.findings:
        check_remedy(finding.observation)
    return [*diagnosis.findings]


def finding_of(cluster: FakeCluster, rule: Rule, scope: Scope = EVERYTHING) -> Observation:
    """Return what the only finding of one rule observed; see `findings_of`."""
    (finding,) = findings_of(cluster, rule, scope)
    return finding.observation


def reasons_unchecked(cluster: FakeCluster, rule: Rule, scope: Scope = EVERYTHING) -> list[str]:
    """Return why one rule could not check everything."""
    return [one.reason for one in diagnosis_of(cluster, [rule], scope).unchecked]


def allocation_messages(cluster: FakeCluster, network: str = "blue", age: timedelta = timedelta()) -> list[str]:
    """Return the messages of the rules of `ips check` about a network of namespace prod."""
    facts = facts_of(cluster, Scope(network=("prod", network)), age)
    return [finding.observation.message for finding in diagnose(facts, ALLOCATION_RULES).findings]


def allocation_lines(cluster: FakeCluster, age: timedelta = timedelta()) -> list[str]:
    """Return the lines that `ips check` prints about network prod/blue: each message with its first command."""
    facts = facts_of(cluster, Scope(network=("prod", "blue")), age)
    return [finding.observation.line for finding in diagnose(facts, ALLOCATION_RULES).findings]
