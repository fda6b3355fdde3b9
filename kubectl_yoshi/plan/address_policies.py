"""The bindings of the admission policies for the use of addresses: which networks they compare objects with.

A policy gets networks (or AddressBlocks) as parameters, and a binding names the one namespace that it takes them from.
`install` creates a binding that takes those of the object's own namespace. For objects of all other namespaces, each
namespace with networks needs a binding of its own, which `install`, `network create` and `sync` create as far as their
user may: it is cluster-scoped. It goes with its policy (ownerReference), and has that binding's validationActions.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from kubectl_yoshi.model.network import GROUP, NETWORKWIZARD, PART_OF_LABEL
from kubectl_yoshi.model.objects import (
    POLICY,
    POLICY_BINDING,
    Json,
    dig,
    labels_of,
    name_of,
    namespace_of,
    new_object,
    owner_reference,
    uid_of,
)
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, Snapshot

ADDRESS_USE_POLICIES = ("yoshi-address-use", "yoshi-address-use-blocks")
"""The policies with parameters: networks, AddressBlocks."""

NAMESPACE_LABEL = f"{GROUP}/networks-of"
"""Label of a binding: the namespace whose networks it is for."""


def binding_name(policy: str, namespace: str) -> str:
    """Return the name of the binding of a policy for the networks of a namespace: "yoshi-address-use.nets"."""
    return f"{policy}.{namespace}"


def build_binding(policy: Json, installed: Json, namespace: str) -> Json:
    """Return the binding that compares objects of all other namespaces with the networks of a namespace.

    Args:
        policy: the policy.
        installed: its binding that `install` created, whose validationActions are copied.
        namespace: the namespace with networks.
    """
    other_namespaces = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [namespace]}
    spec = {
        "policyName": name_of(policy),
        "validationActions": dig(installed, "spec", "validationActions", default=["Deny"]),
        "paramRef": {"namespace": namespace, "selector": {}, "parameterNotFoundAction": "Allow"},
        "matchResources": {"namespaceSelector": {"matchExpressions": [other_namespaces]}},
    }
    return new_object(
        POLICY_BINDING.ref(binding_name(name_of(policy), namespace)),
        {"spec": spec},
        labels={**dict([PART_OF_LABEL]), NAMESPACE_LABEL: namespace},
        ownerReferences=[owner_reference(policy)],
    )


def plan_bindings(namespace: str | None, snapshot: Snapshot) -> Plan:
    """Plan the missing bindings of namespaces with networks, and the same validationActions in those that exist.

    Args:
        namespace: the namespace of the networks; None for all. Then bindings of namespaces without networks are
            removed, too.
        snapshot: what is read.

    Returns:
        No changes where the policies are not installed, or something cannot be read.
    """
    policies, bindings, networks = Query(POLICY), Query(POLICY_BINDING), Query(NETWORKWIZARD, namespace)
    if POLICY not in snapshot.served:
        return Plan()
    snapshot.prefetch(policies, bindings)
    snapshot.prefetch(networks)  # later: a binding that was read is older than the list in which its network may lack
    if snapshot.unreadable_reason(policies, bindings, networks):
        return Plan()
    installed = {name_of(obj): obj for obj in snapshot.lookup(policies)}
    existing = {name_of(obj): obj for obj in snapshot.lookup(bindings)}
    namespaces = {namespace_of(obj) for obj in snapshot.lookup(networks)}
    changes = [
        change
        for network_namespace in sorted(namespaces)
        for policy in ADDRESS_USE_POLICIES
        if policy in installed and policy in existing
        for change in _plan_binding(installed[policy], existing, network_namespace)
    ]
    if namespace is None:
        changes += _remove_outdated_bindings(existing.values(), namespaces)
    return Plan((tuple(changes),) if changes else ())


def _remove_outdated_bindings(bindings: Iterable[Json], namespaces: Container[str]) -> list[Change]:
    """Return the deletions of the bindings of namespaces that have no networks any more."""
    changes = []
    for binding in bindings:
        namespace = labels_of(binding).get(NAMESPACE_LABEL)
        if namespace and namespace not in namespaces:
            ref = POLICY_BINDING.ref(name_of(binding))
            summary = f"delete {ref}, since namespace {namespace} has no networks"
            uid = uid_of(binding)
            changes.append(Change(Verb.DELETE, ref, summary, before=binding, uid=uid, ignore_not_found=True))
    return changes


def _plan_binding(policy: Json, existing: Mapping[str, Json], namespace: str) -> list[Change]:
    wanted = build_binding(policy, existing[name_of(policy)], namespace)
    ref = POLICY_BINDING.ref(name_of(wanted))
    found = existing.get(name_of(wanted))
    if found is None:
        summary = f"apply policy {name_of(policy)} to the networks of namespace {namespace}"
        return [Change(Verb.CREATE, ref, summary, wanted, ignore_already_exists=True)]
    actions = wanted["spec"]["validationActions"]
    before = dig(found, "spec", "validationActions")
    if before == actions:
        return []
    patch = [
        {"op": "test", "path": "/spec/validationActions", "value": before},
        {"op": "replace", "path": "/spec/validationActions", "value": actions},
    ]
    return [Change(Verb.PATCH, ref, f"set validationActions of {ref} to {', '.join(actions)}", patch, before=found)]


def list_unbound_namespaces(bindings: Iterable[Json], namespaces: Iterable[str]) -> list[str]:
    """Return the namespaces whose networks are compared with objects of their own namespace only.

    Args:
        bindings: the bindings of this program's policies.
        namespaces: the namespaces with networks.

    Returns:
        The sorted names; [] where the policies for the use of addresses have no bindings at all.
    """
    found = list(bindings)
    if not {name_of(binding) for binding in found} >= set(ADDRESS_USE_POLICIES):
        return []
    return sorted(set(namespaces) - list_bound_namespaces(found))


def list_bound_namespaces(bindings: Iterable[Json]) -> set[str]:
    """Return the namespaces whose networks a policy for the use of addresses compares all objects with."""
    bound: dict[str, set[str]] = {}
    for binding in bindings:
        if namespace := labels_of(binding).get(NAMESPACE_LABEL):
            bound.setdefault(namespace, set()).add(str(dig(binding, "spec", "policyName")))
    return {namespace for namespace, policies in bound.items() if policies >= set(ADDRESS_USE_POLICIES)}
