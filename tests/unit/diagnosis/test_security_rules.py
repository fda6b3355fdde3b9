"""Rules about security: admission policies that are missing, or that refuse nothing."""

from __future__ import annotations

import pytest

from kubectl_yoshi.diagnosis.facts import Scope
from kubectl_yoshi.diagnosis.rules import security
from kubectl_yoshi.model.objects import CRD, POLICY, POLICY_BINDING, Json, new_object
from kubectl_yoshi.plan.address_policies import ADDRESS_USE_POLICIES, build_binding
from tests.unit.diagnosis.clusters import healthy, installed
from tests.unit.diagnosis.diagnosing import finding_of, findings_of, reasons_unchecked
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED

NAME = "yoshi-allocations"
DENIES = {"policyName": NAME, "validationActions": ["Deny"]}


def test_enforced_policies_of_this_version_are_not_reported() -> None:
    cluster = healthy()
    cluster.api.put(POLICY, {"metadata": {"name": "other"}, "spec": {}})  # of another program
    cluster.api.put(POLICY, installed(NAME, "99.0.0"))
    assert findings_of(cluster, security.no_policy) == []
    assert findings_of(cluster, security.ineffective_policy) == []


def test_missing_policies_are_worth_knowing() -> None:
    cluster = healthy()
    cluster.api.drop(POLICY.ref(NAME))
    cluster.api.drop(POLICY_BINDING.ref(NAME))
    found = finding_of(cluster, security.no_policy, Scope("prod"))
    assert found.message == "the admission policies of yoshi are not installed"
    assert findings_of(cluster, security.ineffective_policy) == []


def test_api_server_without_admission_policies_is_worth_knowing() -> None:
    cluster = healthy()
    cluster.api.served = served((*SERVED, CRD))
    assert "does not serve" in finding_of(cluster, security.no_policy).message
    assert findings_of(cluster, security.ineffective_policy) == []


@pytest.mark.parametrize(
    ("policy", "binding", "message"),
    [
        (installed(NAME), None, "policy yoshi-allocations has no binding"),
        (
            installed(NAME),
            installed(NAME, **(DENIES | {"validationActions": ["Warn", "Audit"]})),
            "policy yoshi-allocations does not refuse requests, its validationActions are Audit, Warn",
        ),
        (installed(NAME, "0.0.1"), installed(NAME, **DENIES), "policy yoshi-allocations is of 0.0.1, and this is "),
        (
            None,
            installed(NAME, **DENIES),
            "binding yoshi-allocations is of policy yoshi-allocations, which does not exist",
        ),
    ],
)
def test_policy_that_refuses_nothing_is_reported(policy: Json | None, binding: Json | None, message: str) -> None:
    cluster = healthy()
    for resource, obj in ((POLICY, policy), (POLICY_BINDING, binding)):
        cluster.api.drop(resource.ref(NAME))
        if obj:
            cluster.api.put(resource, obj)
    assert finding_of(cluster, security.ineffective_policy).message.startswith(message)
    assert findings_of(cluster, security.no_policy) == []


def test_namespace_whose_networks_lack_a_binding_is_reported() -> None:
    cluster = healthy()
    cluster.network()
    for policy in ADDRESS_USE_POLICIES:
        cluster.api.put(POLICY, installed(policy))
        cluster.api.put(POLICY_BINDING, installed(policy, **(DENIES | {"policyName": policy})))
    found = finding_of(cluster, security.unbound_namespace, Scope("prod"))
    assert found.message == "only objects of namespace prod are compared with the networks in it"
    assert found.commands == ("kubectl yoshi sync -n prod",)
    assert findings_of(cluster, security.unbound_namespace, Scope("other")) == []
    for policy in ADDRESS_USE_POLICIES:
        owner = new_object(POLICY.ref(policy), {}, uid=policy)
        binding = build_binding(owner, installed(policy, **DENIES), "prod")
        cluster.api.put(POLICY_BINDING, {"metadata": binding["metadata"], "spec": binding["spec"]})
    assert findings_of(cluster, security.unbound_namespace) == []


def test_namespaces_need_no_binding_where_the_policies_are_missing() -> None:
    cluster = healthy()
    cluster.network()
    assert findings_of(cluster, security.unbound_namespace) == []
    cluster.api.served = served((*SERVED, CRD))
    assert findings_of(cluster, security.unbound_namespace) == []


@pytest.mark.parametrize(
    "rule",
    [security.no_policy, security.ineffective_policy, security.unbound_namespace],
    ids=lambda rule: rule.code,
)
def test_policies_that_may_not_be_listed_are_unchecked(rule: object) -> None:
    cluster = healthy()
    cluster.api.refuse("list", POLICY_BINDING)
    assert "validatingadmissionpolicybindings" in reasons_unchecked(cluster, rule)[0]  # type: ignore[arg-type]
