"""Taking over what the original yoshi left: its records become ours, and its finalizers go.

The original wrote `address: vm-name` into the network's status, however large the network, and put a finalizer on
every network and VM that it touched. Without its controller such an object can be deleted no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.backend import Backend
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb
from kubectl_yoshi.model.errors import UsageMistake, first_few
from kubectl_yoshi.model.facts import Facts, Read
from kubectl_yoshi.model.ledger import VIRTUALMACHINE, Ledger, Record, is_large, shelf_of
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD, Network, parse_network
from kubectl_yoshi.model.objects import Json, ObjectRef, dig, metadata, name_of, namespace_of, uid_of
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import open_whole, write_records

NETWORK_FINALIZER = "network.plumber.k8s.pf9.io"
VM_FINALIZER = "vm.plumber.k8s.pf9.io"
SHOWN = 5


@dataclass(frozen=True)
class TakeoverRequest:
    """What is to be taken over.

    Attributes:
        namespace: the networks of this namespace; None for all.
        networks: only these, by namespace and name; None for all.
        finalizers: take the original's finalizers away as well.
    """

    namespace: str | None = None
    networks: frozenset[tuple[str, str]] | None = None
    finalizers: bool = False


def plan_takeover(request: TakeoverRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that rewrite the original's records where their VM exists, each network by itself.

    Records of a large network are written to their address block before they are struck from its status, so that a
    run that is killed leaves no address without a record. `answers` has how many addresses each network had.

    Raises:
        NeedMore: more must be read first.
    """
    found = _networks(request, facts)
    if why := facts.why_unknown(Read(NETWORKWIZARD, request.namespace)):
        return Plan(notes=(f"what the original yoshi left is not looked for: {why}",))
    plan = Plan(refusals=attempt.failed)
    freed: list[Change] = []
    for obj in found:
        subject = f"{namespace_of(obj)}/{name_of(obj)}"
        if subject in attempt.failed or dig(obj, "status", "deleting") or metadata(obj).get("deletionTimestamp"):
            continue
        if request.finalizers:
            freed += _without_finalizer(NETWORKWIZARD.ref(name_of(obj), namespace_of(obj)), obj, NETWORK_FINALIZER)
        try:
            network = parse_network(obj)
        except UsageMistake as mistake:
            if dig(obj, "status", "allocations"):
                plan = plan + Plan(notes=(f"{mistake.message}: its records stay as they are",))
            continue
        plan = plan.beside(_records(network, backends.get(network.plugin), facts, attempt))
    if freed:
        vms = facts.ask(Read(VM))
        if why := facts.why_unknown(Read(VM)):
            return plan + Plan(notes=(f"the original yoshi's finalizers stay: {why}",))
        # The networks' come last: as long as one is there, a run that was killed is taken up again.
        plan = Plan((_of_vms(vms, attempt),)) + plan + Plan((tuple(freed),))
    return plan


def _networks(request: TakeoverRequest, facts: Facts) -> list[Json]:
    if request.networks is None:
        return facts.ask(Read(NETWORKWIZARD, request.namespace))
    return facts.ask(*(Read(NETWORKWIZARD, namespace, name) for namespace, name in sorted(request.networks)))


def _of_vms(vms: Iterable[Json], attempt: Attempt) -> tuple[Change, ...]:
    changes = [c for vm in vms for c in _without_finalizer(VM.ref(name_of(vm), namespace_of(vm)), vm, VM_FINALIZER)]
    return tuple(change for change in changes if change.subject not in attempt.failed)


def _whole(network: Network, facts: Facts) -> Ledger:
    """The whole ledger, also while the cluster does not know address blocks yet (under a dry run)."""
    if ADDRESSBLOCK in facts.served or not is_large(network):
        return open_whole(network, facts)
    return Ledger(network, dict.fromkeys(shelf_of(network, number) for number in Ledger(network, {}).unmoved))


@dataclass
class _Sorted:
    """The records of a network, sorted by what becomes of them."""

    taken: dict[int, Record] = field(default_factory=dict)
    ownerless: dict[int, Record] = field(default_factory=dict)
    disputed: list[str] = field(default_factory=list)


def _records(network: Network, backend: Backend | None, facts: Facts, attempt: Attempt) -> Plan:
    if not dig(network.raw, "status", "allocations"):
        return Plan()
    ledger = _whole(network, facts)
    texts = [record for record in ledger.records().values() if not isinstance(record.as_written, Mapping)]
    if not texts and not ledger.unmoved:
        return Plan()
    here = Read(VM, network.namespace)
    vms = {vm.name: vm for vm in map(Vm, facts.ask(here) if texts else ()) if not vm.is_going}
    found = _sort(ledger, vms, backend, attempt)
    notes = [f"network {network.full_name}: {words}" for words in found.disputed]
    if found.ownerless:
        why = facts.why_unknown(here) or "no such VM exists (`kubectl yoshi ips gc` gives them back)"
        listed = [f"{ledger.address(n)} of {r.name}" for n, r in sorted(found.ownerless.items())]
        notes.append(f"network {network.full_name} keeps {first_few(listed, SHOWN, ' and')} as written: {why}")
    plan = write_records(ledger, found.taken, dict.fromkeys(found.taken, network.full_name)) if found.taken else Plan()
    answers = {network.full_name: str(len(found.taken))} if found.taken else {}
    return replace(plan, notes=tuple(notes), answers=answers)


def _sort(ledger: Ledger, vms: Mapping[str, Vm], backend: Backend | None, attempt: Attempt) -> _Sorted:
    found = _Sorted()
    for number, record in ledger.records().items():
        unmoved = ledger.unmoved.get(number)
        if isinstance(record.as_written, Mapping):
            if unmoved is None:
                continue
            if (unmoved.record.namespace, unmoved.record.name) == (record.namespace, record.name):
                found.taken[number] = record
            else:
                found.disputed.append(
                    f"{ledger.address(number)} is recorded for {record.holder}, but its status still says "
                    f"{unmoved.record.name}"
                )
        elif vm := vms.get(record.name):
            mac = backend.macs_of(vm, ledger.network)[1] if backend else ""
            found.taken[number] = Record(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, attempt.stamp)
        else:
            found.ownerless[number] = record
    return found


def _without_finalizer(ref: ObjectRef, obj: Json, finalizer: str) -> list[Change]:
    finalizers = metadata(obj).get("finalizers") or []
    if finalizer not in finalizers:
        return []
    path = ("metadata", "finalizers", str(finalizers.index(finalizer)))
    patch = PatchBuilder.of_uid(uid_of(obj)).test(path, finalizer).remove(path)
    says = f"take the original yoshi's finalizer off {ref}"
    subject = f"{ref.namespace}/{ref.name}" if ref.resource == NETWORKWIZARD else str(ref)
    return [Change(Verb.PATCH, ref, says, patch.ops, before=obj, subject=subject)]
