"""How many addresses of a network the VMs of one namespace may hold: `spec.maxAddressesPerNamespace`.

VMs with an allocation are counted, by their names: a VM that gets another address holds two for a moment and counts
once; a recreated VM takes its allocation over. Each address that is reserved for a VM or a namespace counts for that
namespace; other reservations do not count. Nothing but the allocations is counted, so nothing can get out of step with
them, with an older program or after a kill.

Where all allocations are in one object, one patch writes after the count and tests the object's resourceVersion: the
allocations never exceed the quota. Where they are in several, an allocation is written first, then all are counted, and
a run that finds too many rolls its own back before any VM has the address. Of simultaneous writers, the one that writes
last counts last and sees all others: so no more VMs get addresses than may. It costs one list of the network's blocks
for each command; a network without a quota costs nothing.

The quota holds for `vm attach`, `ips reserve --for`, `sync`, `ips import` and `ips move`. `ips rebuild` and the
conversion of Platform9 yoshi's allocations record what is so; rebuild names a namespace that exceeds its quota.
Lowering a quota releases nothing.

`ips move` counts once, before it changes anything: each of several moves into a namespace at the same time may see the
same room, and the namespace may then exceed its quota, by one address with two moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from kubectl_yoshi.model.allocations import VIRTUALMACHINE, Allocation
from kubectl_yoshi.model.errors import PreconditionFailed, YoshiError
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.snapshot import Snapshot
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.context import AttachState, Selection
from kubectl_yoshi.plan.records import load_allocations, original_records


@dataclass(frozen=True)
class QuotaCheck:
    """The result of a quota check for the VMs of one plan.

    Attributes:
        errors: VM -> that the quota leaves no address for it.
        has_new_vms: whether VMs are admitted that hold no address yet.
    """

    errors: Mapping[str, YoshiError] = field(default_factory=dict)
    has_new_vms: bool = False


def check_quota(state: AttachState, vms: Iterable[Vm], selection: Selection) -> QuotaCheck:
    """Return for which of these VMs, in their order, the network's quota leaves the selected address."""
    limit = state.network.max_per_namespace
    if limit is None:
        return QuotaCheck()
    records = load_allocations(state.network, state.snapshot).records()
    names = _vm_names(records.values())
    count = count_by_namespace(records.values())
    errors: dict[str, YoshiError] = {}
    has_new_vms = False
    for vm in vms:
        if (vm.namespace, vm.name) in names:
            if count[vm.namespace] > limit and (not state.on_vm(vm) or _has_only_recorded(state, vm)):
                errors[vm.full_name] = _quota_error(state.network, vm.namespace, count[vm.namespace])
        elif _reserved_namespace(records, selection.addresses[vm.full_name]) == vm.namespace:
            continue  # it counts already
        elif count[vm.namespace] >= limit:
            errors[vm.full_name] = _quota_error(state.network, vm.namespace, count[vm.namespace])
        else:
            count[vm.namespace] += 1
            has_new_vms = True
    return QuotaCheck(errors, has_new_vms)


def _has_only_recorded(state: AttachState, vm: Vm) -> bool:
    """Return whether this run has only recorded an address for a VM that had none yet.

    Then whatever addresses are set on the VM were set before the run.
    """
    if state.run.sent_to(vm.ref):
        return False
    written = any(
        state.records[number].as_written in state.written_by_run.get(number, ()) for number in state.allocated(vm)
    )
    return written and (vm.namespace, vm.name) not in _vm_names(original_records(state.network, state.run).values())


def check_quota_room(network: Network, records: Iterable[Allocation], vm: Vm) -> None:
    """Check that the quota leaves an address for a VM.

    Args:
        records: those of the network, without the one that the VM's new one replaces.
        vm: the VM that is to get an address.

    Raises:
        PreconditionFailed: the quota is used up.
    """
    limit, others = network.max_per_namespace, list(records)
    count = count_by_namespace(others)[vm.namespace]
    if limit is not None and count >= limit and (vm.namespace, vm.name) not in _vm_names(others):
        raise _quota_error(network, vm.namespace, count)


def check_reservation_quota(network: Network, namespace: str, numbers: Collection[int], snapshot: Snapshot) -> None:
    """Check that a namespace may have addresses of a network reserved for it.

    Args:
        network: the network.
        namespace: for which they are reserved; "" for none.
        numbers: the addresses; those that are allocated already are counted as reserved for the namespace.
        snapshot: the state of the cluster.

    Raises:
        PreconditionFailed: they exceed the quota.
    """
    limit = network.max_per_namespace
    if limit is None or not namespace or not numbers:
        return
    records = load_allocations(network, snapshot).records()
    count = count_by_namespace(record for number, record in records.items() if number not in numbers)[namespace]
    if count + len(numbers) > limit:
        raise _quota_error(network, namespace, count)


def list_quota_violations(network: Network, records: Iterable[Allocation]) -> Iterator[str]:
    """Yield a sentence for each namespace whose VMs hold more addresses than the quota allows."""
    limit = network.max_per_namespace
    if limit is not None:
        count = count_by_namespace(records)
        for namespace in sorted(count):
            if count[namespace] > limit:
                yield _quota_error(network, namespace, count[namespace]).message


def count_by_namespace(records: Iterable[Allocation]) -> Counter[str]:
    """Return how many addresses of a network count for each namespace."""
    counted = list(records)
    reserved = (record.reserved_namespace for record in counted if record.reserved_namespace)
    return Counter(namespace for namespace, _ in _vm_names(counted)) + Counter(reserved)


def _reserved_namespace(records: Mapping[int, Allocation], number: int) -> str:
    """Return the namespace for which an address is reserved; "" for none."""
    return records[number].reserved_namespace if number in records else ""


def _vm_names(records: Iterable[Allocation]) -> set[tuple[str, str]]:
    return {(record.namespace, record.name) for record in records if record.kind == VIRTUALMACHINE}


def _quota_error(network: Network, namespace: str, count: int) -> PreconditionFailed:
    return PreconditionFailed(
        f"namespace {namespace} holds {count} addresses of network {network.full_name}, which allows "
        f"{network.max_per_namespace} per namespace",
        f"Detach a VM of it, release a reservation for it, or raise the quota (spec.maxAddressesPerNamespace): "
        f"kubectl edit networkwizard {network.name} -n {network.namespace}",
    )
