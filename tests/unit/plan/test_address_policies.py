"""The bindings of the policies for the use of addresses, one for each namespace with networks."""

from __future__ import annotations

from kubectl_yoshi.cli.policies import load_policies
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import POLICY, POLICY_BINDING, Json, name_of
from kubectl_yoshi.model.plan import Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot, Unreadable
from kubectl_yoshi.plan.address_policies import (
    ADDRESS_USE_POLICIES,
    build_binding,
    list_bound_namespaces,
    list_unbound_namespaces,
    plan_bindings,
)
from tests.unit.plan.fake_api import served

POLICIES = [obj | {"metadata": {**obj["metadata"], "uid": obj["metadata"]["name"]}} for obj in load_policies()]
NETWORKS = tuple({"metadata": {"namespace": namespace, "name": "blue"}} for namespace in ("nets", "prod", "nets"))


def snapshot(*more_bindings: Json, namespace: str | None = None, policies: list[Json] = POLICIES) -> Snapshot:
    kinds = {kind: tuple(obj for obj in policies if obj["kind"] == kind) for kind in (POLICY.kind, POLICY_BINDING.kind)}
    results = {
        Query(POLICY): kinds[POLICY.kind],
        Query(POLICY_BINDING): (*kinds[POLICY_BINDING.kind], *more_bindings),
        Query(NETWORKWIZARD, namespace): NETWORKS if namespace is None else NETWORKS[:1],
    }
    return Snapshot(served([POLICY, POLICY_BINDING, NETWORKWIZARD]), results)


def test_each_namespace_with_networks_gets_a_binding_of_each_policy() -> None:
    changes = list(plan_bindings(None, snapshot()))
    assert [change.ref.name for change in changes] == [
        "yoshi-address-use.nets", "yoshi-address-use-blocks.nets",
        "yoshi-address-use.prod", "yoshi-address-use-blocks.prod",
    ]  # fmt: skip
    binding = changes[0].body
    assert binding["spec"]["paramRef"] == {
        "namespace": "nets", "selector": {}, "parameterNotFoundAction": "Allow",
    }  # fmt: skip
    (elsewhere,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert (elsewhere["operator"], elsewhere["values"]) == ("NotIn", ["nets"]), "the installed binding has its own"
    assert [owner["uid"] for owner in binding["metadata"]["ownerReferences"]] == ["yoshi-address-use"]
    assert len(list(plan_bindings("nets", snapshot(namespace="nets")))) == 2


def test_bindings_that_exist_are_left_as_they_are() -> None:
    existing = [change.body for change in plan_bindings(None, snapshot())]
    assert not plan_bindings(None, snapshot(*existing))
    assert list_bound_namespaces(existing) == {"nets", "prod"}
    assert list_bound_namespaces(existing[1:]) == {"prod"}, "one of two policies is not enough"
    bases = [obj for obj in POLICIES if obj["kind"] == POLICY_BINDING.kind]
    assert list_unbound_namespaces([*bases, *existing[1:]], ["prod", "nets", "nets"]) == ["nets"]
    assert list_unbound_namespaces([*bases, *existing], ["prod", "nets"]) == []
    assert list_unbound_namespaces([], ["prod", "nets"]) == [], "there the policies do nothing at all"


def test_binding_of_a_namespace_without_networks_is_deleted() -> None:
    policy, binding = (
        next(obj for obj in POLICIES if obj["kind"] == kind.kind and name_of(obj) == "yoshi-address-use")
        for kind in (POLICY, POLICY_BINDING)
    )
    outdated = build_binding(policy, binding, "gone")
    deletions = [change for change in plan_bindings(None, snapshot(outdated)) if change.verb is Verb.DELETE]
    assert [change.ref.name for change in deletions] == ["yoshi-address-use.gone"]
    assert all(change.verb is Verb.CREATE for change in plan_bindings("nets", snapshot(outdated, namespace="nets")))


def test_bindings_follow_the_mode_of_the_installed_ones() -> None:
    existing = [change.body for change in plan_bindings("nets", snapshot(namespace="nets"))]
    audited = load_policies()
    for obj in audited:
        if obj["kind"] == POLICY_BINDING.kind:
            obj["spec"]["validationActions"] = ["Warn", "Audit"]
    changes = list(plan_bindings("nets", snapshot(*existing, namespace="nets", policies=audited)))
    assert [change.verb for change in changes] == [Verb.PATCH, Verb.PATCH]
    assert changes[0].body[-1] == {
        "op": "replace", "path": "/spec/validationActions", "value": ["Warn", "Audit"],
    }  # fmt: skip


def test_nothing_is_bound_without_installed_policies() -> None:
    assert not plan_bindings(None, snapshot(policies=[]))
    assert not plan_bindings(None, Snapshot(served([NETWORKWIZARD])))
    unreadable = {
        Query(POLICY): Unreadable("forbidden"), Query(POLICY_BINDING): (), Query(NETWORKWIZARD): NETWORKS,
    }  # fmt: skip
    assert not plan_bindings(None, Snapshot(served([POLICY, POLICY_BINDING, NETWORKWIZARD]), unreadable))


def test_policies_share_their_variables() -> None:
    """The two policies with parameters differ in what a network and a block are, and in nothing else."""
    first, second = (
        {variable["name"]: variable["expression"] for variable in policy["spec"]["variables"]}
        for policy in POLICIES
        if policy["kind"] == POLICY.kind and name_of(policy) in ADDRESS_USE_POLICIES
    )
    different = {name for name in first.keys() & second.keys() if first[name] != second[name]}
    assert different == {"network", "cidr", "concerned", "isOnNetwork", "isAdministrator"}
