"""How many addresses of a network the VMs of one namespace may hold: `spec.maxAddressesPerNamespace`.

Counted are VMs with a record, by their names: a VM that gets another address holds two for a moment and counts once;
reservations are of no namespace's VMs and do not count. Nothing but the records is counted, so nothing can get out of
step with them.

Where all records are in one object, they are counted and written by one patch, which is refused if anybody has written
to that object meanwhile: the records never say more than the quota. Where they are in several, a record is written
first, then all are counted, and whoever finds too many takes his own back before any VM has the address. Of those who
write at the same time, the one who writes last counts last and sees all others: so no more VMs get addresses than may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kubectl_yoshi.model.errors import Refused, YoshiError
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.books import open_whole
from kubectl_yoshi.plan.desk import Desk
from kubectl_yoshi.plan.undoing import recorded_by_this_run, records_before


def keep_quota(desk: Desk, vms: Iterable[Vm], refusals: dict[str, YoshiError]) -> bool:
    """Adds to `refusals` the VMs for which the quota leaves no address; gives whether any of the others is a new one.

    Args:
        desk: with what is wanted.
        vms: those for which there is an address.
        refusals: by VM.

    Raises:
        NeedMore: the whole ledger was not read yet.
    """
    most = desk.network.most_per_namespace
    if most is None:
        return False
    names = _names(open_whole(desk.network, desk.facts).records().values())
    count = Counter(namespace for namespace, _ in names)
    anew = False
    for vm in vms:
        if (vm.namespace, vm.name) in names:
            if count[vm.namespace] > most and (not desk.carried(vm) or _only_recorded(desk, vm)):
                refusals[vm.subject] = _reached(desk.network, vm.namespace, count[vm.namespace])
        elif count[vm.namespace] >= most:
            refusals[vm.subject] = _reached(desk.network, vm.namespace, count[vm.namespace])
        else:
            count[vm.namespace] += 1
            anew = True
    return anew


def _only_recorded(desk: Desk, vm: Vm) -> bool:
    """Whether all that this run has done for a VM yet is to record an address for one that had none: whatever it
    carries, it has carried before."""
    if any(change.ref == vm.ref for change in desk.attempt.sent):
        return False
    recorded = recorded_by_this_run(desk.network, desk.attempt)
    written = any(desk.records[number].as_written in recorded.get(number, ()) for number in desk.own(vm))
    return written and (vm.namespace, vm.name) not in _names(records_before(desk).values())


def must_have_room(network: Network, records: Mapping[int, Record], vm: Vm, instead_of: Record | None = None) -> None:
    """Raises Refused where the quota leaves no address for a VM.

    Args:
        network: which.
        records: all of the network.
        vm: who is to get an address.
        instead_of: the record that this replaces.
    """
    left = [record for record in records.values() if record is not instead_of]
    names = _names(left)
    count = sum(1 for namespace, _ in names if namespace == vm.namespace)
    most = network.most_per_namespace
    if most is not None and count >= most and (vm.namespace, vm.name) not in names:
        raise _reached(network, vm.namespace, count)


def must_not_be_beyond(network: Network, records: Iterable[Record], vm: Vm) -> None:
    """Raises Refused where the VMs of a VM's namespace, with its own record, hold more addresses than they may."""
    count = sum(1 for namespace, _ in _names(records) if namespace == vm.namespace)
    most = network.most_per_namespace
    if most is not None and count > most:
        raise _reached(network, vm.namespace, most)


def beyond_quota(network: Network, records: Iterable[Record]) -> Iterator[str]:
    """A sentence for each namespace whose VMs hold more addresses than they may."""
    most = network.most_per_namespace
    if most is not None:
        count = Counter(namespace for namespace, _ in _names(records))
        for namespace in sorted(count):
            if count[namespace] > most:
                yield _reached(network, namespace, count[namespace]).message


def _names(records: Iterable[Record]) -> set[tuple[str, str]]:
    return {(record.namespace, record.name) for record in records if record.kind == VIRTUALMACHINE}


def _reached(network: Network, namespace: str, count: int) -> Refused:
    return Refused(
        f"namespace {namespace} holds {count} addresses of network {network.full_name}, which gives it "
        f"{network.most_per_namespace} at most",
        f"Detach a VM of it, or raise the quota (spec.maxAddressesPerNamespace): "
        f"kubectl edit networkwizard {network.name} -n {network.namespace}",
    )
