"""`kubectl yoshi policy explain`: which VM can use an address, and whether the user can change its allocation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.param_types import HELD_ADDRESS
from kubectl_yoshi.cli.result_objects import API_VERSION, POLICY_EXPLANATION
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.kube.client import Api
    from kubectl_yoshi.model.addresses import Address
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.model.vm import Vm
    from kubectl_yoshi.plan.address_use import AddressUse


@dataclass(frozen=True)
class ExplainOptions:
    """The flags of `policy explain`."""

    subject: str
    output: OutputFormat


@command(
    "explain",
    examples="""
    # Which VM can use an address?
    kubectl yoshi policy explain 10.133.0.10

    # Which addresses can a VM use?
    kubectl yoshi policy explain vm/web-1
    """,
)
@click.argument("subject", type=HELD_ADDRESS, metavar="vm/NAME|IP")
@output_option(POLICY_EXPLANATION)
@as_options(ExplainOptions)
def explain(session: Session, options: ExplainOptions) -> None:
    """Show which VM can use an address, or which addresses a VM can use, and whether you can change their allocations.

    This is what the admission policies decide from what you can read. An address that belongs to no network may be used
    by everybody.
    """
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.output.formats import print_objects
    from kubectl_yoshi.output.tables import write_fields

    snapshot = new_snapshot(session.api)
    address = _parse_address_or_none(options.subject)
    vm = None if address is not None else _load_vm(session, options.subject, snapshot)
    uses = _find_address_uses(session, address, snapshot) if vm is None else _find_vm_uses(session, vm, snapshot)
    session.note_unreadable(snapshot.unreadable_reasons())
    found = [Explanation(use, vm, session.api, snapshot) for use in uses]
    if not options.output.is_human_readable:
        print_objects([_to_json(one) for one in found], session.out, options.output, single=address is not None)
        return
    if vm is not None and not found:
        print(f"VM {vm.full_name} has no address of a network that you can read", file=session.out)
    for number, one in enumerate(found):
        if number:
            print(file=session.out)
        write_fields(_fields(one), session.out)


@dataclass(frozen=True)
class Explanation:
    """What the policies decide about an address, for the current user.

    Attributes:
        use: the address and its allocation.
        vm: the VM that is asked about; None for none.
        api, snapshot: where the rest is read.
    """

    use: AddressUse
    vm: Vm | None
    api: Api
    snapshot: Snapshot

    @cached_property
    def refusal(self) -> str:
        """Return why the policies refuse the address on the VM; "" if they admit it."""
        return self.use.refusal(self.vm) if self.vm is not None else ""

    @cached_property
    def is_administrator(self) -> bool:
        """Return whether the user may use and change every address of the network."""
        from kubectl_yoshi.engine.permissions import is_allowed
        from kubectl_yoshi.model.access import Access
        from kubectl_yoshi.model.network import NETWORKWIZARD

        network = self.use.network
        return is_allowed(self.api, Access("patch", NETWORKWIZARD, network.namespace, network.name))

    @cached_property
    def may_change_allocation(self) -> bool:
        """Return whether the user may change the allocation of the address."""
        from kubectl_yoshi.engine.permissions import is_allowed
        from kubectl_yoshi.model.access import Access
        from kubectl_yoshi.model.allocations import VIRTUALMACHINE, shard_of
        from kubectl_yoshi.model.vm import VM

        network, record = self.use.network, self.use.record
        shard = shard_of(network, int(self.use.address)).ref.resource
        may_patch = is_allowed(self.api, Access("patch", shard, network.namespace, subresource="status"))
        if not may_patch or self.is_administrator or record is None:
            return may_patch
        namespace = record.namespace if record.kind == VIRTUALMACHINE else record.reserved_namespace
        return bool(namespace) and is_allowed(self.api, Access("patch", VM, namespace))

    @cached_property
    def policies(self) -> str:
        """Return how the policies treat violations: "enforce", "audit", "off"; "Unknown" if that cannot be read."""
        from kubectl_yoshi.model.objects import POLICY_BINDING, name_of
        from kubectl_yoshi.model.policy_mode import PolicyMode, mode_of
        from kubectl_yoshi.model.snapshot import Query
        from kubectl_yoshi.plan.address_policies import ADDRESS_USE_POLICIES

        if POLICY_BINDING not in self.api.served:
            return PolicyMode.OFF.value
        bindings = self.snapshot.lookup(Query(POLICY_BINDING))
        if self.snapshot.unreadable_reason(Query(POLICY_BINDING)):
            return "Unknown"
        return mode_of(binding for binding in bindings if name_of(binding) in ADDRESS_USE_POLICIES).value

    @cached_property
    def compared_namespaces(self) -> str:
        """Return whose VMs, Services and pods are compared with the network: "All", or its own namespace."""
        from kubectl_yoshi.model.objects import POLICY_BINDING
        from kubectl_yoshi.model.snapshot import Query
        from kubectl_yoshi.plan.address_policies import list_bound_namespaces

        if self.policies in ("off", "Unknown"):
            return "None" if self.policies == "off" else "Unknown"
        namespace = self.use.network.namespace
        return "All" if namespace in list_bound_namespaces(self.snapshot.lookup(Query(POLICY_BINDING))) else namespace


def _parse_address_or_none(text: str) -> Address | None:
    from kubectl_yoshi.model.addresses import parse_address

    try:
        return parse_address(text)
    except UsageError:
        return None


def _load_vm(session: Session, text: str, snapshot: Snapshot) -> Vm:
    from kubectl_yoshi.cli.vm_args import parse_vm_name
    from kubectl_yoshi.model.snapshot import Query
    from kubectl_yoshi.model.vm import VM, Vm

    namespace, name = parse_vm_name(text, session)
    query = Query(VM, namespace, name)
    for obj in snapshot.lookup(query):
        return Vm(obj)
    reason = snapshot.unreadable_reason(query) or "it does not exist"
    raise PreconditionFailed(
        f'"{text}" is not an address, and VM {namespace}/{name} cannot be read: {reason}',
        "Write an IP address, vm/NAME or vm/NAMESPACE/NAME.",
    )


def _find_address_uses(session: Session, address: Address | None, snapshot: Snapshot) -> list[AddressUse]:
    """Return the address in each network that has it; normally there is one.

    Raises:
        PreconditionFailed: no network has it.
    """
    from kubectl_yoshi.plan.address_use import find_address_use
    from kubectl_yoshi.plan.network_lookup import LIST_NETWORKS_HINT, list_requested_networks

    assert address is not None
    networks = list_requested_networks(None, None, snapshot, session.namespace)[0]
    found = (find_address_use(network, address, snapshot) for network in networks if network.can_hold(address))
    uses = [use for use in found if use is not None]
    if not uses:
        raise PreconditionFailed(
            f"{address} is in no network that you can access; the policies admit other addresses everywhere",
            f"{LIST_NETWORKS_HINT}.",
        )
    return uses


def _find_vm_uses(session: Session, vm: Vm, snapshot: Snapshot) -> list[AddressUse]:
    """Return the addresses that are allocated to a VM, or that it requests or uses."""
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.plan.address_use import find_address_use
    from kubectl_yoshi.plan.context import PlanContext, RunContext
    from kubectl_yoshi.plan.inventory import build_inventory
    from kubectl_yoshi.plan.network_lookup import list_requested_networks

    ctx = PlanContext(snapshot, BACKENDS, RunContext())
    found = []
    for network in list_requested_networks(None, None, snapshot, session.namespace)[0]:
        if network.plugin not in BACKENDS:
            continue
        for row in build_inventory(network, ctx, all_namespaces=vm.namespace != network.namespace):
            users = {(use.namespace, use.name) for use in row.address_uses} | row.vms
            if (vm.namespace, vm.name) in users:
                found.append(find_address_use(network, network.address(row.number), snapshot))
    return [use for use in found if use is not None]


def _fields(one: Explanation) -> Iterable[tuple[str, object]]:
    fields: list[tuple[str, object]] = [
        ("Address", str(one.use.address)),
        ("Network", one.use.network.full_name),
        ("Holder", one.use.holder),
        ("Usable By", [*one.use.users, "objects written by users who can patch the network"]),
    ]
    if one.vm is not None:
        fields.append((f"VM {one.vm.full_name}", f"refused: {one.refusal}" if one.refusal else "admitted"))
    anywhere = "may use it for every VM" if one.is_administrator else "may use it only as stated"
    change = "may change its allocation" if one.may_change_allocation else "may not change its allocation"
    return [
        *fields,
        ("You", [anywhere, change]),
        ("Policies", one.policies),
        ("Namespaces", one.compared_namespaces),
    ]


def _to_json(one: Explanation) -> Json:
    use, network = one.use, one.use.network
    vm = {} if one.vm is None else {"vm": {"namespace": one.vm.namespace, "name": one.vm.name}}
    verdict = {} if one.vm is None else {"admitted": not one.refusal, "reason": one.refusal}
    return {
        "apiVersion": API_VERSION,
        "kind": POLICY_EXPLANATION,
        "metadata": {"namespace": network.namespace, "name": str(use.address)},
        "spec": {"network": network.name, "address": str(use.address), **vm},
        "status": {
            "holder": use.holder,
            "usableBy": list(use.users),
            **verdict,
            "userMayUseAnyAddress": one.is_administrator,
            "userMayChangeAllocation": one.may_change_allocation,
            "policies": one.policies,
            "namespaces": one.compared_namespaces,
        },
    }
