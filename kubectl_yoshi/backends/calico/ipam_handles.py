"""Calico's IPAMHandles of VMs compared with its IPAMBlocks: what differs, which VM it concerns, and what repairs it.

A release writes the block, then the handle. A run that was killed in between leaves a handle that counts addresses
which its block does not contain; Calico takes that for an allocation in progress, and the VM cannot start. And what a
VM's handle holds Calico assigns to it, whatever its template says. Both are looked for here: docs/design.md, "Calico's
handles"; how a handle is repaired: `ipam`.

Where a pod exists nothing is written: `ips check` names the command, `vm attach --restart`, which stops the VM, repairs
the handle and starts the VM again. A pod without an address while its VM's handle is miscounted does not count as a VM
that runs, so `vm attach` refuses it. A block with addresses of a handle that does not count them is not caused by this
program: it is only reported. Where Calico would assign another address to a VM than the one on its template, the state
is Conflict, not Bound. `ips check`, `ips list` and `vm list` read the lists of blocks and handles once; only what
differs in these, which were not read at one moment, is read again by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.backends.calico import ipam
from kubectl_yoshi.backends.calico.annotations import POD_IPS_ANNOTATION, list_pinned_uses
from kubectl_yoshi.backends.calico.api import CalicoApi, get_read_api
from kubectl_yoshi.model.addresses import Address, address_of
from kubectl_yoshi.model.backend import AddressUse, HoldRelease, VmProblem
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, NamespacedName, annotations_of, dig, name_of
from kubectl_yoshi.model.plan import Plan, parallel_plans
from kubectl_yoshi.model.snapshot import Query, Snapshot
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm, list_launcher_pods


def vm_problems(network: Network, namespaces: tuple[str, ...] | None, snapshot: Snapshot) -> tuple[VmProblem, ...]:
    """Return the problems of VMs with their handles (see Backend.vm_problems)."""
    api = get_read_api(snapshot)
    snapshot.lookup(Query(api.block), Query(api.handle))
    if snapshot.unreadable_reason(Query(api.block), Query(api.handle)):
        return ()
    wanted = {(use.namespace, use.name): use for use in list_pinned_uses(network, namespaces, snapshot)}
    found = snapshot.parallel(
        partial(
            _vm_problem, network, api, mismatches, wanted.get(ipam.parse_handle_name(mismatches[0].handle)), snapshot
        )
        for mismatches in _iter_mismatches(network, {*wanted}, snapshot)
        if namespaces is None or ipam.parse_handle_name(mismatches[0].handle)[0] in namespaces
    )
    problems = [problem for problem in found if problem is not None]
    return (*problems, *_iter_wrong_assignments(network, api, wanted.values(), snapshot))


def repairs(network: Network, namespace: str | None, snapshot: Snapshot) -> Plan:
    """Return the changes that repair handles of VMs (see Backend.repairs)."""
    api = get_read_api(snapshot)
    vms = Query(VM, namespace)
    snapshot.lookup(Query(api.block), Query(api.handle), vms)
    if snapshot.unreadable_reason(Query(api.block), Query(api.handle)):
        return Plan()
    wanted = {(use.namespace, use.name): use for use in list_pinned_uses(network, None, snapshot)}
    found = [
        (ipam.parse_handle_name(mismatches[0].handle), mismatches)
        for mismatches in _iter_mismatches(network, {*wanted}, snapshot)
    ]
    selected = [(vm, mismatches) for vm, mismatches in found if namespace in (None, vm[0])]
    plans = (partial(_plan_repair, network, vm, mismatches, wanted.get(vm), snapshot) for vm, mismatches in selected)
    return parallel_plans(snapshot.parallel(plans))


def _plan_repair(
    network: Network,
    vm: NamespacedName,
    mismatches: Sequence[ipam.Mismatch],
    wanted: AddressUse | None,
    snapshot: Snapshot,
) -> Plan:
    """Return the changes that repair a VM's handle, or a note about what is needed first."""
    api = get_read_api(snapshot)
    if plan := ipam.repair_handle(api, *vm, snapshot, "/".join(vm)):
        reason = ipam.forbidden_write_reason(plan, snapshot)
        return Plan(notes=(f"{mismatches[0]}, and is not repaired: {reason}",)) if reason else plan
    problem = _vm_problem(network, api, mismatches, wanted, snapshot)
    return Plan(notes=(str(problem),) if problem else ())


def _iter_mismatches(
    network: Network, vms: Collection[NamespacedName], snapshot: Snapshot
) -> Iterator[list[ipam.Mismatch]]:
    """Yield the differences between each VM's handle and the blocks.

    Only handles of these VMs, and those with a differing block of the network, are included. The lists of handles and
    blocks were not read at the same moment, so a difference may be temporary.
    """
    for vm, mismatches in snapshot.derived(_index_mismatches).items():
        if vm in vms or any(_overlaps(network, mismatch.cidr) for mismatch in mismatches):
            yield mismatches


def _index_mismatches(snapshot: Snapshot) -> dict[NamespacedName, list[ipam.Mismatch]]:
    """Return each VM whose handle differs from the blocks, and the differences."""
    api = get_read_api(snapshot)
    contained = ipam.count_by_handle(snapshot.lookup(Query(api.block)))
    counted = {name_of(handle).lower(): ipam.get_handle_counts(handle) for handle in snapshot.lookup(Query(api.handle))}
    found: dict[NamespacedName, list[ipam.Mismatch]] = {}
    for handle in dict.fromkeys([*counted, *contained]):
        vm = ipam.parse_handle_name(handle)
        if vm[1] and (mismatches := ipam.compare_counts(handle, counted.get(handle, {}), contained.get(handle, {}))):
            found[vm] = mismatches
    return found


def _overlaps(network: Network, cidr: str) -> bool:
    block = ip_network(cidr)
    return network.cidr is not None and block.version == network.version and block.overlaps(network.cidr)


def _vm_problem(
    network: Network, api: CalicoApi, mismatches: Sequence[ipam.Mismatch], wanted: AddressUse | None, snapshot: Snapshot
) -> VmProblem | None:
    """Return the problem of a VM whose handle differs from the blocks; None if it no longer does."""
    namespace, name = ipam.parse_handle_name(mismatches[0].handle)
    _, found = ipam.find_mismatches(
        api, mismatches[0].handle, snapshot, ipam.SECOND_READ, [mismatch.cidr for mismatch in mismatches]
    )
    if not found:
        return None
    first = next((mismatch for mismatch in found if mismatch.is_excess), found[0])
    summary = str(first)
    held = snapshot.derived(_index_addresses_by_handle).get(first.handle.lower(), ())
    if not held:
        summary += f": VM {namespace}/{name} cannot start"
    pods = list_launcher_pods(namespace, name, snapshot)
    if any(map(_has_no_address, pods)) and wanted is not None and first.is_excess:
        hint = _attach_command(namespace, name, network, restart=True)
    elif pods:
        hint = f"virtctl stop {name} -n {namespace}"
    elif first.is_excess:
        hint = f"kubectl yoshi ips gc --network {network.full_name}"
    else:
        inside = (address for address in held if address in ip_network(first.cidr))
        hint = f"calicoctl ipam release --ip={next(inside, 'ADDRESS')}"
    return VmProblem(namespace, name, summary, hint)


def _iter_wrong_assignments(
    network: Network, api: CalicoApi, wanted: Iterable[AddressUse], snapshot: Snapshot
) -> Iterator[VmProblem]:
    """Yield the VMs to which Calico would assign an address other than the one in their template."""
    held = snapshot.derived(_index_addresses_by_handle)
    for use in wanted:
        handle = ipam.handle_name(use.namespace, use.name)
        addresses = held.get(handle, ()) if handle else ()
        others = [address for address in addresses if address != network.address(use.number)]
        if not others or not ipam.keeps_addresses(api, snapshot):
            continue
        is_running = snapshot.get_object(VMI, use.name, use.namespace) is not None or bool(
            list_launcher_pods(use.namespace, use.name, snapshot)
        )
        summary = f"Calico would assign {others[0]} to VM {use.namespace}/{use.name}"
        yield VmProblem(
            use.namespace, use.name, summary, _attach_command(use.namespace, use.name, network, restart=is_running)
        )


def _index_addresses_by_handle(snapshot: Snapshot) -> dict[str, list[Address]]:
    """Return handle, in lower case -> the addresses that blocks assign to it."""
    api = get_read_api(snapshot)
    found: dict[str, list[Address]] = {}
    for block in snapshot.lookup(Query(api.block)):
        if not dig(block, "spec", "deleted"):
            for allocation in ipam.iter_block_allocations(block, api.block.ref(name_of(block))):
                found.setdefault(allocation.handle.lower(), []).append(
                    address_of(allocation.number, allocation.version)
                )
    return found


def _attach_command(namespace: str, name: str, network: Network, restart: bool) -> str:
    """Return the command that makes Calico IPAM match the VM's allocation."""
    command = f"kubectl yoshi vm attach {name} -n {namespace} --network {network.relative_name(namespace)}"
    return f"{command} --restart" if restart else command


def reconcile_handle(api: CalicoApi, vm: Vm, snapshot: Snapshot) -> HoldRelease:
    """Return how a VM's handle can be made to count what its blocks contain, or why it cannot be now."""
    handle = ipam.handle_name(vm.namespace, vm.name)
    if not handle or ipam.find_excess(api, handle, snapshot) is None:
        return HoldRelease()
    if repair := ipam.repair_handle(api, vm.namespace, vm.name, snapshot, vm.full_name):
        return HoldRelease(repair)
    confirmed = ipam.find_excess(api, handle, snapshot, ipam.SECOND_READ)
    if confirmed is None:
        return HoldRelease()
    summary = str(confirmed[1][0])
    pods = list_launcher_pods(vm.namespace, vm.name, snapshot)
    if any(_has_no_address(pod) for pod in pods):
        return HoldRelease(blocker=f"{summary}: VM {vm.full_name} cannot start")
    reason = f"{POD.ref(name_of(pods[0]), vm.namespace)} exists" if pods else "cannot check whether a pod exists"
    return HoldRelease(Plan(notes=(f"{summary}; it is repaired when VM {vm.full_name} does not run ({reason})",)))


def _has_no_address(pod: Json) -> bool:
    """Return whether Calico has not assigned a pod's address yet."""
    return not dig(pod, "status", "podIP") and not annotations_of(pod).get(POD_IPS_ANNOTATION)
