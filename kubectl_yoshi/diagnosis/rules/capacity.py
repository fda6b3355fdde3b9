"""Rules about networks: their capacity, their objects, and overlaps: 3xxx."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kubectl_yoshi import __version__
from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation, Severity
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.model.allocations import compute_counters
from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.durations import format_duration
from kubectl_yoshi.model.errors import PlanningError, UsageError
from kubectl_yoshi.model.network import (
    ADDRESSBLOCK,
    NETWORKWIZARD,
    VERSION_ANNOTATION,
    Network,
    is_older,
    parse_network,
)
from kubectl_yoshi.model.objects import CRD, NODE, Json, annotations_of, dig, name_of, namespace_of
from kubectl_yoshi.model.snapshot import Query
from kubectl_yoshi.plan.attach.quota import count_by_namespace, list_quota_violations
from kubectl_yoshi.plan.conflicts import SERVICECIDR, find_overlaps
from kubectl_yoshi.plan.context import age_in_seconds
from kubectl_yoshi.plan.network_lookup import unsupported_reason

NEARLY_FULL_PERCENT, FULL_PERCENT = 80, 95
MAX_OBJECT_BYTES = 1_572_864
"""The largest object that etcd stores by default (1.5 MiB)."""
LARGE_OBJECT_PERCENT, FULL_OBJECT_PERCENT = 60, 90
QUOTA = "spec.maxAddressesPerNamespace"
DELETION_SECONDS = 600.0
"""A deletion that takes longer than this is stuck."""


def observe_network(network: Network, sentence: str, *commands: str, field: str = "status") -> Observation:
    """Return an observation about a network.

    Args:
        network: the network.
        sentence: what is wrong, which follows the network's name in the message.
        commands: see Observation.
        field: see Observation.
    """
    return Observation(
        network.ref,
        f"network {network.full_name}: {sentence}",
        field=field,
        commands=commands,
        network=(network.namespace, network.name),
    )


def _list_full(facts: Facts, lowest: int, limit: int) -> Iterator[Observation]:
    """Yield the networks of which at least `lowest` and less than `limit` percent of the addresses are allocated."""
    for network in facts.networks:
        numbers = facts.allocations(network).records()
        outside = sum(1 for number in numbers if number not in network.cidr_addresses)
        counters = compute_counters(network, len(numbers), outside)
        if "free" in counters and lowest <= counters["usePercent"] < limit:
            size, free = counters["size"], counters["free"]
            sentence = f"{counters['usePercent']} % of its {size} addresses are allocated, {free} are free"
            yield observe_network(network, sentence, remedies.collect(network), field="status.allocations")


@rule("3301", Severity.INFO, "A network is nearly full")
def network_nearly_full(facts: Facts) -> Iterator[Observation]:
    """80 % or more of the network's addresses are allocated.

    `kubectl yoshi ips gc` releases addresses that nothing uses any more. If the rest is in use, create another network
    for new VMs, or widen the range that this one assigns, if its CIDR has room.
    """
    yield from _list_full(facts, NEARLY_FULL_PERCENT, FULL_PERCENT)


@rule("3302", Severity.WARNING, "A network is full, or almost")
def network_full(facts: Facts) -> Iterator[Observation]:
    """95 % or more of the network's addresses are allocated, so the next VMs may get none.

    The remedies are those of YOSHI-3301.
    """
    yield from _list_full(facts, FULL_PERCENT, 101)


@rule("3303", Severity.ERROR, "A network overlaps another network or addresses of the cluster")
def overlapping_network(facts: Facts) -> Iterator[Observation]:
    """An address of the network may also belong to another network, an IPPool, a Service, a pod or a node.

    The objects were created with kubectl, or at the same time, or the cluster was extended later. Move the VMs of one
    of the networks to a network with another CIDR, and delete it.
    """
    hidden = []
    for network in facts.networks:
        backend, snapshot = facts.backend(network), facts.snapshot
        try:
            overlaps = find_overlaps(network, snapshot)
            conflicts = backend.conflicts(network, snapshot) if _has_private_pool(backend) else ()
        except PlanningError as error:
            hidden.append(error.message)
            continue
        hidden += [conflict.summary for conflict in conflicts if conflict.is_unreadable]
        found = [*overlaps, *(conflict.summary for conflict in conflicts if not conflict.is_unreadable)]
        for sentence in dict.fromkeys(found):
            yield observe_network(network, sentence, remedies.describe(network), field="spec.cidr")
    if facts.networks:
        resources = [NETWORKWIZARD, NODE, *filter(None, [facts.served.resources.get(SERVICECIDR)])]
        hidden += filter(None, (facts.snapshot.unreadable_reason(Query(resource)) for resource in resources))
    if hidden:
        raise CannotCheckError("; ".join(dict.fromkeys(hidden)))


@rule("3304", Severity.INFO, "A namespace has used its quota of a network's addresses")
def quota_used(facts: Facts) -> Iterator[Observation]:
    """The VMs of the namespace hold as many addresses as `spec.maxAddressesPerNamespace` allows.

    The next `vm attach` in that namespace is refused. Detach a VM, release a reservation, or raise the quota.
    """
    for network in facts.networks:
        limit = network.max_per_namespace
        if limit is None:
            continue
        for namespace, count in sorted(count_by_namespace(facts.allocations(network).records().values()).items()):
            if count == limit:
                sentence = f"namespace {namespace} holds {count} addresses, as many as it may"
                yield observe_network(network, sentence, _list_addresses(network), field=QUOTA)


@rule("3305", Severity.WARNING, "A namespace exceeds its quota of a network's addresses")
def quota_exceeded(facts: Facts) -> Iterator[Observation]:
    """The quota was lowered, or `ips rebuild` recorded addresses that VMs had already.

    Nothing is released for that; the VMs keep their addresses. Detach some of them, or raise the quota.
    """
    for network in facts.networks:
        if network.max_per_namespace is not None:
            for sentence in list_quota_violations(network, facts.allocations(network).records().values()):
                yield observe_network(network, sentence, _list_addresses(network), field=QUOTA)


def _list_addresses(network: Network) -> str:
    return f"kubectl yoshi ips list {network.name} -n {network.namespace}"


def _list_large(facts: Facts, lowest: int, limit: int) -> Iterator[Observation]:
    """Yield the networks with at least `lowest` and less than `limit` percent of the largest size."""
    for network in facts.networks:
        size = len(json.dumps(network.raw, separators=(",", ":"), ensure_ascii=False).encode())
        percent = 100 * size // MAX_OBJECT_BYTES
        if lowest <= percent < limit:
            sentence = f"it has {size // 1024} KiB, {percent} % of the largest size"
            yield observe_network(network, sentence, _list_addresses(network), field="status.allocations")


@rule("3306", Severity.INFO, "A NetworkWizard is large")
def large_object(facts: Facts) -> Iterator[Observation]:
    """The object has 60 % or more of the size that etcd stores by default (1.5 MiB).

    A public network keeps allocations outside its CIDR in its own object; about 4,000 of them need that much. Release
    addresses, or assign further ones from another network.
    """
    yield from _list_large(facts, LARGE_OBJECT_PERCENT, FULL_OBJECT_PERCENT)


@rule("3307", Severity.WARNING, "A NetworkWizard has almost the largest size")
def oversized_object(facts: Facts) -> Iterator[Observation]:
    """The object has 90 % or more of the size that etcd stores by default (1.5 MiB).

    Beyond that the API server refuses allocations. Release addresses, or assign further ones from another network.
    """
    yield from _list_large(facts, FULL_OBJECT_PERCENT, 1 << 32)


@rule("3401", Severity.ERROR, "A network is not ready")
def network_not_ready(facts: Facts) -> Iterator[Observation]:
    """The network could not be created or reconciled; its condition Ready has the reason.

    Such a network assigns no address to a new VM. Remove the cause; then `kubectl yoshi sync` reconciles the network.
    """
    for network in facts.networks:
        if network.is_deleting:
            continue
        reason = dig(network.raw, "status", "reason")
        if dig(network.raw, "status", "created") is False or reason:
            yield observe_network(
                network, f"it is not ready: {reason or 'it could not be created'}", remedies.sync(network)
            )


@rule("3402", Severity.ERROR, "The objects of a private network are missing or disabled")
def private_network_broken(facts: Facts) -> Iterator[Observation]:
    """Somebody deleted or disabled the network's IPPool: Calico assigns none of its addresses, and VMs do not start.

    `kubectl yoshi sync` creates the pool again, and reverts what was changed. Public and Layer 2 networks have rules of
    their own, 2xxx and 4xxx.
    """
    for network in facts.networks:
        backend = facts.backend(network)
        if network.is_deleting or not network.is_created or not _has_private_pool(backend):
            continue
        try:
            problem = backend.health(network, facts.snapshot)
        except PlanningError as error:
            raise CannotCheckError(error.message) from None
        if reasons := [reason for query, reason in facts.snapshot.unreadable_queries().items() if _is_pool(query)]:
            raise CannotCheckError(reasons[0])
        if problem:
            yield observe_network(network, problem, remedies.sync(network), field="spec")


def _has_private_pool(backend: Backend) -> bool:
    """Return whether the backend's networks are address pools of the pod network."""
    return backend.pins_vm_template and not backend.has_interface


def _is_pool(query: Query) -> bool:
    return query.resource.plural == "ippools"


@rule("3403", Severity.ERROR, "The spec of a network is invalid")
def invalid_network(facts: Facts) -> Iterator[Observation]:
    """A field was edited to something that contradicts the others, or a newer version of this program is required.

    Commands leave such a network alone, so that no address is assigned twice. Correct the field that the message names.
    """
    for obj in facts.network_objects:
        try:
            network = parse_network(obj)
            problem = unsupported_reason(network)
            if not problem and network.plugin not in facts.backends:
                problem = f'spec.plugin "{network.plugin}" is unknown'
        except UsageError as error:
            problem = error.message
        if problem:
            name, namespace = name_of(obj), namespace_of(obj)
            yield Observation(
                NETWORKWIZARD.ref(name, namespace),
                problem,
                field="spec",
                commands=(f"kubectl edit {NETWORKWIZARD.full_name} {name} -n {namespace}",),
                network=(namespace, name),
            )


@rule("3404", Severity.WARNING, "The deletion of a network is not complete")
def deletion_stuck(facts: Facts) -> Iterator[Observation]:
    """`network delete` was killed, or something still uses the network, for more than ten minutes.

    The network assigns no addresses. The same command completes the deletion; `kubectl yoshi sync` keeps the network
    instead, if the command has not deleted it yet.
    """
    for network in facts.networks:
        since = network.deleting_since or str(dig(network.raw, "metadata", "deletionTimestamp", default=""))
        seconds = age_in_seconds(since, facts.now) if since else 0.0
        if seconds > DELETION_SECONDS:
            delete = f"kubectl yoshi network delete {network.name} -n {network.namespace}"
            yield observe_network(network, f"it is being deleted for {format_duration(seconds)}", delete)


@rule("3405", Severity.ERROR, "A network assigns no addresses: its allocations are not initialized")
def network_not_initialized(facts: Facts) -> Iterator[Observation]:
    """The network was created with kubectl, or its status was lost when it was restored from a backup.

    Which addresses VMs have already is then unknown. `kubectl yoshi sync` finds them and initializes the network; after
    a restore, `kubectl yoshi ips rebuild` does it and shows what it records.
    """
    for network in facts.networks:
        if not network.is_initialized and not network.is_deleting and not dig(network.raw, "status", "reason"):
            yield observe_network(network, "it is not initialized, or its status was lost", remedies.sync(network))


@rule("3501", Severity.WARNING, "The CRDs are older than this program")
def outdated_crds(facts: Facts) -> Iterator[Observation]:
    """An earlier version of `kubectl yoshi install`, or Platform9 yoshi, created the CRDs.

    The API server drops the fields that only newer CRDs have, so commands that write them fail. `kubectl yoshi install`
    updates the CRDs.
    """
    for resource in (NETWORKWIZARD, ADDRESSBLOCK):
        crd = facts.get(CRD, resource.full_name)
        if crd is None:
            message = f"the CRD {resource.full_name} is not installed"
        elif is_older(version := _version(crd)):
            message = f"the CRD {resource.full_name} is of {_describe_version(version)}, and this is {__version__}"
        else:
            continue
        yield Observation(
            CRD.ref(resource.full_name), message, field="metadata.annotations", commands=("kubectl yoshi install",)
        )


def _version(obj: Json) -> str:
    return annotations_of(obj).get(VERSION_ANNOTATION, "")


def _describe_version(version: str) -> str:
    return f"kubectl yoshi {version}" if version else "an unknown version"
