"""Running rules: what is in scope, what could not be checked, and findings that need a second read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubectl_yoshi.diagnosis.facts import Facts, Scope
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation, Severity
from kubectl_yoshi.diagnosis.rule import Rule, rule
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.run import diagnose, diagnose_twice
from kubectl_yoshi.kube.errors import ForbiddenError
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.objects import NODE, ObjectRef, Resource
from kubectl_yoshi.model.vm import POD, VM, VMI
from tests.unit.diagnosis.diagnosing import facts_of
from tests.unit.plan.fake_cluster import FakeCluster

A = Observation(VM.ref("a", "prod"), "a is wrong", vm=("prod", "a"), network=("prod", "blue"))
B = Observation(VM.ref("b", "dev"), "b is wrong", vm=("dev", "b"), network=("prod", "blue"))
N = Observation(NODE.ref("n"), "n is wrong")


def rule_of(*observations: Observation, reason: str = "", **settings: bool) -> Rule:
    """Return a rule that reports these observations, and then cannot check the rest if there is a reason."""

    @rule("9001", Severity.ERROR, "wrong", **settings)
    def check(facts: Facts) -> Iterator[Observation]:
        yield from observations
        if reason:
            raise CannotCheckError(reason)

    return check


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (Scope(), [A, B, N]),
        (Scope("prod"), [A, B, N]),
        (Scope("dev"), [B, N]),
        (Scope("other"), [N]),
        (Scope("prod", vms=frozenset({("prod", "a")})), [A]),
        (Scope(network=("prod", "blue")), [A, B]),
        (Scope(network=("prod", "red")), []),
    ],
)
def test_only_what_concerns_the_scope_is_found(scope: Scope, expected: list[Observation]) -> None:
    found = diagnose(facts_of(FakeCluster(), scope), [rule_of(A, B, N)])
    assert [finding.observation for finding in found.findings] == expected


def test_rule_that_cannot_check_everything_keeps_its_findings() -> None:
    found = diagnose(facts_of(FakeCluster()), [rule_of(A, reason="may not list pods")])
    assert [finding.observation for finding in found.findings] == [A]
    assert [one.reason for one in found.unchecked] == ["may not list pods"]


def test_rows_of_a_namespace_are_known_without_permission_for_all_namespaces() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.running()
    cluster.attach(restart=True)
    cluster.time_passes()

    def refuse(verb: str, ref: ObjectRef) -> None:
        if verb == "list" and ref.resource in (VM, VMI, POD) and ref.namespace is None:
            raise ForbiddenError("Forbidden.", missing_permission=f"may not list {ref.resource.full_name}")

    cluster.api.before.append(refuse)
    facts = facts_of(cluster, Scope("prod"))
    assert [row.state for row in facts.rows["prod", "blue"]] == [AddressState.BOUND]
    assert facts.hidden_from_rows[0].startswith("may not list virtualmachine")


@pytest.mark.parametrize("resource", [VM, VMI, POD], ids=lambda resource: resource.plural)
def test_rules_about_allocations_are_unchecked_if_uses_cannot_be_read(resource: Resource) -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.api.refuse("list", resource)
    found = diagnose(facts_of(cluster), RULES)
    assert "0003" in {one.rule.number for one in found.unchecked if resource.full_name in one.reason}


def test_volatile_findings_need_a_second_read() -> None:
    second_reads: list[Facts] = []
    seen = iter([[A, B], [B]])

    @rule("9002", Severity.ERROR, "wrong", is_volatile=True)
    def check(facts: Facts) -> Iterator[Observation]:
        yield from next(seen)

    def read_again() -> Facts:
        second_reads.append(facts_of(FakeCluster()))
        return second_reads[-1]

    found = diagnose_twice(facts_of(FakeCluster()), [check], read_again)
    assert ([finding.observation for finding in found.findings], len(second_reads)) == ([B], 1)


def test_nothing_is_read_twice_without_volatile_findings() -> None:
    found = diagnose_twice(facts_of(FakeCluster()), [rule_of(A), rule_of(is_volatile=True)], pytest.fail)
    assert [finding.observation for finding in found.findings] == [A]


def test_codes_are_unique_and_explained() -> None:
    assert len({one.number for one in RULES}) == len(RULES)
    for one in RULES:
        assert one.number.isdigit(), one.code
        assert len(one.number) == 4, one.code
        assert "\n\n" in one.explanation, f"{one.code}: the docstring says the cause, then the remedy"
