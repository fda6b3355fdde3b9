"""Importing addresses that VMs have already: as attachments, whose planner plans all that is written.

It refuses, besides what an attachment refuses, an address that anything else in the cluster uses, and a VM for which
two addresses of one network are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kubectl_yoshi.model.backend import AddressUses, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.network_lookup import check_backend_available, get_backend, load_network, network_query


@dataclass(frozen=True)
class ImportRequest:
    """Request to import addresses into one network.

    Attributes:
        network: its namespace and name.
        existing: the address of each VM.
    """

    network: NamespacedName
    existing: tuple[ExistingAddress, ...]


def plan_import(request: ImportRequest, ctx: PlanContext) -> Plan:
    """Plan the changes that record these addresses for the VMs that have them, and pin them there.

    The plan's `results` has each VM's address, its `errors` why one is not imported; see plan_attach.

    Raises:
        PreconditionFailed, UsageError: none can be imported (the network does not exist or cannot be used).
    """
    ctx.snapshot.lookup(network_query(*request.network))
    network = load_network(*request.network, ctx.snapshot)
    backend = get_backend(network, ctx.backends)
    check_backend_available(network, backend, ctx.snapshot)
    uses = AddressUses(backend.all_address_uses(network, None, ctx.snapshot))
    ambiguous, unambiguous = _split_ambiguous(request.existing)
    errors: dict[str, YoshiError] = {
        f"{vm[0]}/{vm[1]}": PreconditionFailed(
            f"{' and '.join(texts)} are both reported for the VM on network {network.full_name}",
            "A VM has one address of a network: specify it in a file (-f).",
        )
        for vm, texts in ambiguous.items()
    }
    for existing, others in _shared_addresses(unambiguous).items():
        if any(use.is_for_vm(*existing.vm) for use in uses.by_number(int(existing.address))):
            continue  # this VM uses the address: only the others are refused
        errors[_owner_of(existing)] = PreconditionFailed(
            f"{existing.address} is also reported for {' and '.join(others)}",
            "An address has one owner: remove it from the others.",
        )
    for existing in unambiguous:
        other_uses = [
            use
            for use in uses.by_number(int(existing.address))
            if not use.is_for_vm(*existing.vm) and use.kind is not UsageKind.LEASED
        ]
        if other_uses and existing.address in network:
            errors[_owner_of(existing)] = PreconditionFailed(
                f"{existing.address} is also used by {other_uses[0].ref}",
                "See `kubectl yoshi ips rebuild --dry-run=client`, which shows which VM keeps it and why.",
            )
    attach_request = AttachRequest(
        request.network, tuple(dict.fromkeys(existing.vm for existing in request.existing)), existing=tuple(unambiguous)
    )
    new_errors = {owner: error for owner, error in errors.items() if owner not in ctx.run.failed}
    plan = plan_attach(attach_request, replace(ctx, run=replace(ctx.run, failed={**ctx.run.failed, **new_errors})))
    return replace(plan, errors={**plan.errors, **errors})


def _owner_of(existing: ExistingAddress) -> str:
    return "/".join(existing.vm)


def _split_ambiguous(
    all_existing: Iterable[ExistingAddress],
) -> tuple[dict[NamespacedName, list[str]], list[ExistingAddress]]:
    """Return the addresses of VMs for which several are named, and all other entries."""
    by_vm: dict[NamespacedName, dict[str, ExistingAddress]] = {}
    for existing in all_existing:
        by_vm.setdefault(existing.vm, {}).setdefault(str(existing.address), existing)
    ambiguous = {vm: [*by_address] for vm, by_address in by_vm.items() if len(by_address) > 1}
    return ambiguous, [
        existing for vm, by_address in by_vm.items() if vm not in ambiguous for existing in by_address.values()
    ]


def _shared_addresses(unambiguous: Iterable[ExistingAddress]) -> dict[ExistingAddress, list[str]]:
    """Return the entries whose address is named for several VMs, each with the other VMs."""
    unambiguous = list(unambiguous)
    counts = Counter(existing.address for existing in unambiguous)
    return {
        existing: [
            _owner_of(other) for other in unambiguous if other.address == existing.address and other.vm != existing.vm
        ]
        for existing in unambiguous
        if counts[existing.address] > 1
    }
