"""API servers that may crash when policies change: which these are, and what is done for them.

That none crashes: tests/cluster/test_policy_changes.py.
"""

from __future__ import annotations

import pytest

from kubectl_yoshi.cli.installation import plan_install
from kubectl_yoshi.cli.policies import load_policies, policy_ref
from kubectl_yoshi.cli.policy_loading import (
    TYPE_CHECK_SECONDS,
    has_compile_race,
    plan_unbinding,
    preloaded,
    wait_until_type_checked,
)
from kubectl_yoshi.model.network import VERSION_ANNOTATION
from kubectl_yoshi.model.objects import POLICY, POLICY_BINDING, Json, ObjectRef
from kubectl_yoshi.model.plan import Verb
from tests.unit.plan.fake_api import FakeApi


class ApplyingApi(FakeApi):
    """Answers dry runs of server-side applies."""

    def apply(self, ref: ObjectRef, body: Json, *, dry_run: bool = False) -> Json:
        assert dry_run
        there = self.get(ref)
        return {**there, **body, "metadata": {**there["metadata"], **body["metadata"], "managedFields": []}}


def installed(server_version: str, **annotations: str) -> tuple[ApplyingApi, dict[ObjectRef, Json]]:
    """Return a cluster with policies, and these policies and their bindings."""
    api = ApplyingApi([POLICY, POLICY_BINDING])
    api.version = server_version
    found = {}
    for obj in load_policies():
        obj["metadata"]["annotations"] |= annotations
        found[policy_ref(obj)] = api.put(policy_ref(obj).resource, obj)
    return api, found


@pytest.mark.parametrize(
    ("version", "expected"),
    [("v1.31.13", True), ("v1.35.9-eks-1", True), ("v1.36.0", False), ("v2.0.0", False), ("", True), ("dev", True)],
)
def test_releases_before_the_correction_may_crash(version: str, expected: bool) -> None:
    api, _ = installed(version)
    assert has_compile_race(api) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "installed_by", "count"), [
    ("v1.31.0", "0.0.1", 5), ("v1.31.0", "", 0), ("v1.36.0", "0.0.1", 0),
])  # fmt: skip
def test_bindings_of_policies_that_change_are_deleted_first(version: str, installed_by: str, count: int) -> None:
    api, found = installed(version, **({VERSION_ANNOTATION: installed_by} if installed_by else {}))
    must_unbind(api, found, count)


@pytest.mark.parametrize(("version", "count"), [("v1.31.0", 5), ("v1.36.0", 0)])
def test_policy_that_another_client_changed_or_deleted_is_written_without_bindings(version: str, count: int) -> None:
    api, found = installed(version)
    ref = next(ref for ref in found if ref.resource == POLICY)
    changed = {**found[ref], "spec": {**found[ref]["spec"], "failurePolicy": "other"}}
    must_unbind(api, found | {ref: api.put(POLICY, changed)}, count)
    must_unbind(api, {other: obj for other, obj in found.items() if other != ref}, count)


def must_unbind(api: ApplyingApi, found: dict[ObjectRef, Json], count: int) -> None:
    """Fails if not so many bindings are deleted first."""
    installation = plan_install(load_policies(), found)
    deletions = list(plan_unbinding(api, installation))  # type: ignore[arg-type]
    assert [change.verb for change in deletions] == [Verb.DELETE] * count
    assert {change.ref.resource for change in deletions} <= {POLICY_BINDING}


def test_new_policies_need_no_deletion() -> None:
    api, _ = installed("v1.31.0")
    assert not plan_unbinding(api, plan_install(load_policies(), {}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("version", "count"), [("v1.35.0", 5), ("v1.36.0", 0)])
def test_bindings_that_match_nothing_exist_until_the_others_do(version: str, count: int) -> None:
    api, found = installed(version)
    policies = [obj for ref, obj in found.items() if ref.resource == POLICY]
    before = api.list(POLICY_BINDING)
    with preloaded(api, policies):  # type: ignore[arg-type]
        added = [obj for obj in api.list(POLICY_BINDING) if obj not in before]
        assert [obj["spec"]["matchResources"]["resourceRules"][0]["resources"] for obj in added] == [["none"]] * count
        assert not any(obj["metadata"].get("labels") for obj in added), "they do not count as protection"
        assert all(obj["metadata"]["ownerReferences"][0]["kind"] == POLICY.kind for obj in added)
    assert api.list(POLICY_BINDING) == before


def test_missing_result_of_type_checking_is_no_error() -> None:
    api, found = installed("v1.31.0")
    policies = [obj for ref, obj in found.items() if ref.resource == POLICY]
    start = api.clock.now()
    wait_until_type_checked(api, policies)  # type: ignore[arg-type]
    assert TYPE_CHECK_SECONDS <= api.clock.now() - start < TYPE_CHECK_SECONDS + 1
    for policy in policies:
        api.put(POLICY, {**policy, "status": {"observedGeneration": policy["metadata"]["generation"]}})
    start = api.clock.now()
    wait_until_type_checked(api, api.list(POLICY))  # type: ignore[arg-type]
    assert api.clock.now() == start
