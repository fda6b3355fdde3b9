"""Let API servers load changed admission policies without evaluating one meanwhile.

Before Kubernetes 1.36 an API server may crash if it compiles one policy while it evaluates another one, or an earlier
version of the same (https://github.com/kubernetes/kubernetes/issues/135757). Once a second it compiles those policies
that have a binding and were changed, also if just their status was: the controller manager writes the result of type
checking into it. A server-side apply that changes nothing else may change managedFields, which is enough. So `install`
does not write policies that are current on such servers, and otherwise does this:

1. it deletes the bindings of policies that it changes,
2. changes the policies, and waits for the result of type checking,
3. creates bindings that match nothing, with which the policies are compiled,
4. creates the bindings, and deletes those of step 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kubectl_yoshi.cli.policies import policy_ref
from kubectl_yoshi.engine.apply import apply_plan
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.model.network import PART_OF_LABEL
from kubectl_yoshi.model.objects import (
    POLICY,
    POLICY_BINDING,
    Json,
    dig,
    metadata,
    name_of,
    new_object,
    owner_reference,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.output.plan_printer import is_unchanged

TYPE_CHECK_SECONDS = 10.0
"""How long to wait for the result of type checking; a controller manager may not do that."""
REFRESH_SECONDS = 2.0
"""How long to wait until all API servers have compiled the policies, which they do once a second."""
NOTHING = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["none"]}
"""A rule that matches no request."""


def has_compile_race(api: Api) -> bool:
    """Return whether the API server may crash as stated above: releases before 1.36, and unknown ones."""
    found = re.match(r"v(\d+)\.(\d+)", str(api.raw("/version").get("gitVersion", "")))
    return found is None or (int(found[1]), int(found[2])) < (1, 36)


def are_current(api: Api, policies: Iterable[Change]) -> bool:
    """Return whether the policies exist, and writing them would not change their content.

    Args:
        api: the cluster.
        policies: the server-side applies of all policies.

    Raises:
        ClusterError: a dry run of an apply was refused, or nothing answered.
    """
    return all(
        change.before is not None and is_unchanged(change.before, api.apply(change.ref, change.body, dry_run=True))
        for change in policies
    )


def plan_unbinding(api: Api, installation: Plan) -> Plan:
    """Return step 1: the deletion of all bindings if policies are to be changed.

    The policies are not in effect until step 4, so this changes nothing on other servers.

    Args:
        api: the cluster.
        installation: the server-side applies of the policies and their bindings.

    Raises:
        ClusterError: a dry run of an apply was refused, or nothing answered.
    """
    policies = [change for change in installation if change.ref.resource == POLICY]
    is_new = all(change.before is None for change in policies)
    if is_new or not has_compile_race(api) or are_current(api, policies):
        return Plan()
    deletions = []
    for binding in api.list(POLICY_BINDING, label_selector="=".join(PART_OF_LABEL)):
        ref = POLICY_BINDING.ref(name_of(binding))
        deletions.append(Change(Verb.DELETE, ref, "", before=binding, uid=uid_of(binding), ignore_not_found=True))
    return Plan((tuple(deletions),)) if deletions else Plan()


def wait_until_type_checked(api: Api, policies: Iterable[Json]) -> None:
    """Wait for the end of step 2; there is no error if the result of type checking does not come."""
    deadline = api.clock.now() + TYPE_CHECK_SECONDS
    for policy in policies:
        found = policy
        while not _is_type_checked(found) and api.clock.now() < deadline:
            api.clock.sleep(0.1)
            found = api.get(policy_ref(policy))


@contextmanager
def preloaded(api: Api, policies: Iterable[Json]) -> Iterator[None]:
    """Do step 3, then in the context what creates the bindings, then delete those of step 3.

    They belong to their policies, and do not look like protection if the program is killed.
    """
    if not has_compile_race(api):
        yield
        return
    changes = []
    for policy in policies:
        ref = POLICY_BINDING.ref(f"{name_of(policy)}-preload")
        rules = {"resourceRules": [NOTHING]}
        spec = {"policyName": name_of(policy), "validationActions": ["Audit"], "matchResources": rules}
        body = new_object(ref, {"spec": spec}, ownerReferences=[owner_reference(policy)])
        changes.append(Change(Verb.CREATE, ref, "", body=body, ignore_already_exists=True))
    deletions = tuple(Change(Verb.DELETE, change.ref, "", ignore_not_found=True) for change in changes)
    try:
        apply_plan(Plan((tuple(changes),)), api).raise_first()
        api.clock.sleep(REFRESH_SECONDS)
        yield
    finally:
        apply_plan(Plan((deletions,)), api)


def _is_type_checked(policy: Json) -> bool:
    """Return whether the status of a policy is about its last change."""
    return bool(dig(policy, "status", "observedGeneration", default=0) == metadata(policy).get("generation"))
