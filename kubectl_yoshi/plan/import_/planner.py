"""Importing addresses that VMs have already: as attachments, whose planner plans all that is written.

It refuses, besides what an attachment refuses, an address that anything else in the cluster uses, and a VM for which
two addresses of one network are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kubectl_yoshi.model.addresses import Address
from kubectl_yoshi.model.backend import AddressUses, UsageKind
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import NamespacedName
from kubectl_yoshi.model.plan import Plan
from kubectl_yoshi.plan.attach.context import ExistingAddress
from kubectl_yoshi.plan.attach.planner import AttachRequest, plan_attach
from kubectl_yoshi.plan.context import PlanContext
from kubectl_yoshi.plan.network_lookup import check_backend_available, get_backend, load_network


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
    network = load_network(*request.network, ctx.snapshot)
    backend = get_backend(network, ctx.backends)
    check_backend_available(network, backend, ctx.snapshot)
    uses = AddressUses(backend.all_address_uses(network, None, ctx.snapshot))
    unambiguous, ambiguous_errors = _select_unambiguous(request.existing, network)
    errors = {
        **ambiguous_errors,
        **_shared_address_errors(unambiguous, uses),
        **_other_use_errors(unambiguous, uses, network),
    }
    plan = _attach(request, unambiguous, errors, ctx)
    return replace(plan, errors={**plan.errors, **errors})


def _select_unambiguous(
    all_existing: Iterable[ExistingAddress], network: Network
) -> tuple[list[ExistingAddress], dict[str, YoshiError]]:
    """Return the addresses of VMs for which one is named, and an error for each other VM."""
    by_vm: dict[NamespacedName, dict[str, ExistingAddress]] = {}
    for existing in all_existing:
        by_vm.setdefault(existing.vm, {}).setdefault(str(existing.address), existing)
    errors: dict[str, YoshiError] = {
        "/".join(vm): PreconditionFailed(
            f"{' and '.join(by_address)} are both reported for the VM on network {network.full_name}",
            "A VM has one address of a network: specify it in a file (-f).",
        )
        for vm, by_address in by_vm.items()
        if len(by_address) > 1
    }
    return [existing for vm in by_vm.values() if len(vm) == 1 for existing in vm.values()], errors


def _shared_address_errors(unambiguous: Sequence[ExistingAddress], uses: AddressUses) -> dict[str, YoshiError]:
    """Return the VMs whose address is named for other VMs too, unless that VM uses it, each with an error."""
    by_address: dict[Address, list[ExistingAddress]] = {}
    for existing in unambiguous:
        by_address.setdefault(existing.address, []).append(existing)
    errors: dict[str, YoshiError] = {}
    for existing in unambiguous:
        others = [_owner_of(other) for other in by_address[existing.address] if other.vm != existing.vm]
        if others and not any(use.is_for_vm(*existing.vm) for use in uses.by_number(int(existing.address))):
            errors[_owner_of(existing)] = PreconditionFailed(
                f"{existing.address} is also reported for {' and '.join(others)}",
                "An address has one owner: remove it from the others.",
            )
    return errors


def _other_use_errors(
    unambiguous: Iterable[ExistingAddress], uses: AddressUses, network: Network
) -> dict[str, YoshiError]:
    """Return the VMs whose address is used by anything else in the cluster, each with an error."""
    errors: dict[str, YoshiError] = {}
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
    return errors


def _attach(
    request: ImportRequest, unambiguous: Iterable[ExistingAddress], errors: Mapping[str, YoshiError], ctx: PlanContext
) -> Plan:
    """Plan to attach the VMs with the addresses that they have, except those with an error."""
    vms = tuple(dict.fromkeys(existing.vm for existing in request.existing))
    attach_request = AttachRequest(request.network, vms, existing=tuple(unambiguous))
    run = replace(ctx.run, failed={**errors, **ctx.run.failed})
    return plan_attach(attach_request, replace(ctx, run=run))


def _owner_of(existing: ExistingAddress) -> str:
    return "/".join(existing.vm)
