"""Calico's IPAMHandles of VMs compared with its IPAMBlocks: what differs, whom it concerns, and what repairs it.

A release writes the block, then the handle. A run that was cut off in between leaves a handle that counts addresses
which its block does not contain; Calico takes that for an allocation in progress, and the VM cannot start. And what a
VM's handle holds Calico assigns to it, whatever its template says. Both are looked for here: docs/design.md, "Calico's
handles".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import ip_network

from kubectl_yoshi.backends import calico_ipam as ipam
from kubectl_yoshi.backends.calico_api import CalicoApi, api_for_reading
from kubectl_yoshi.backends.calico_pins import POD_IPS, wanted_in
from kubectl_yoshi.model.addresses import Address, address_of
from kubectl_yoshi.model.backend import LetGo, Trouble, Use
from kubectl_yoshi.model.change import Plan, side_by_side
from kubectl_yoshi.model.facts import Facts, Read, together
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, Name, annotations_of, dig, name_of
from kubectl_yoshi.model.vm import POD, VM, VMI, Vm, pods_of


def troubles(network: Network, namespaces: tuple[str, ...] | None, facts: Facts) -> tuple[Trouble, ...]:
    """See Backend."""
    api = api_for_reading(facts)
    facts.ask(Read(api.block), Read(api.handle))
    if facts.why_unknown(Read(api.block), Read(api.handle)):
        return ()
    wanted = {(use.namespace, use.name): use for use in wanted_in(network, namespaces, facts)}
    found = together(
        partial(_trouble, network, api, wrong, wanted.get(ipam.vm_of_handle(wrong[0].handle)), facts)
        for wrong in _mismatched(network, {*wanted}, facts)
        if namespaces is None or ipam.vm_of_handle(wrong[0].handle)[0] in namespaces
    )
    told = [trouble for trouble in found if trouble is not None]
    return (*told, *_assigned_otherwise(network, api, wanted.values(), facts))


def repairs(network: Network, namespace: str | None, facts: Facts) -> Plan:
    """See Backend."""
    api = api_for_reading(facts)
    vms = Read(VM, namespace)
    facts.ask(Read(api.block), Read(api.handle), vms)
    if facts.why_unknown(Read(api.block), Read(api.handle)):
        return Plan()
    wanted = {(use.namespace, use.name): use for use in wanted_in(network, None, facts)}
    found = [(ipam.vm_of_handle(wrong[0].handle), wrong) for wrong in _mismatched(network, {*wanted}, facts)]
    mine = [(vm, wrong) for vm, wrong in found if namespace in (None, vm[0])]
    plans = (partial(_repaired, network, api, vm, wrong, wanted.get(vm), facts) for vm, wrong in mine)
    return side_by_side(together(plans))


def _repaired(
    network: Network, api: CalicoApi, vm: Name, wrong: Sequence[ipam.Mismatch], wanted: Use | None, facts: Facts
) -> Plan:
    """What repairs a VM's handle, or what somebody has to do before that can be."""
    if plan := ipam.repair(api, *vm, facts, "/".join(vm)):
        why = ipam.why_not_allowed(plan, facts)
        return Plan(notes=(f"{wrong[0]}, and is not repaired: {why}",)) if why else plan
    trouble = _trouble(network, api, wrong, wanted, facts)
    return Plan(notes=(str(trouble),) if trouble else ())


def _mismatched(network: Network, vms: Collection[Name], facts: Facts) -> Iterator[list[ipam.Mismatch]]:
    """Of each VM's handle that differs from the blocks, where: those of these VMs, and those that have to do with
    blocks of the network. The lists of handles and of blocks were not read at one moment, so it may be over already.
    """
    for vm, wrong in facts.derived(_mismatches).items():
        if vm in vms or any(_overlaps(network, one.cidr) for one in wrong):
            yield wrong


def _mismatches(facts: Facts) -> dict[Name, list[ipam.Mismatch]]:
    """Every VM whose handle differs from the blocks, and where."""
    api = api_for_reading(facts)
    contained = ipam.contents(facts.ask(Read(api.block)))
    counted = {name_of(handle).lower(): ipam.counts_of(handle) for handle in facts.ask(Read(api.handle))}
    found: dict[Name, list[ipam.Mismatch]] = {}
    for handle in dict.fromkeys([*counted, *contained]):
        vm = ipam.vm_of_handle(handle)
        if vm[1] and (wrong := ipam.compare(handle, counted.get(handle, {}), contained.get(handle, {}))):
            found[vm] = wrong
    return found


def _overlaps(network: Network, cidr: str) -> bool:
    block = ip_network(cidr)
    return network.cidr is not None and block.version == network.version and block.overlaps(network.cidr)


def _trouble(
    network: Network, api: CalicoApi, wrong: Sequence[ipam.Mismatch], wanted: Use | None, facts: Facts
) -> Trouble | None:
    """What is to be said of a VM's handle that differs from the blocks; None where it does not any more."""
    namespace, name = ipam.vm_of_handle(wrong[0].handle)
    _, found = ipam.differences(api, wrong[0].handle, facts, ipam.AGAIN, [one.cidr for one in wrong])
    if not found:
        return None
    first = next((one for one in found if one.is_excess), found[0])
    says = str(first)
    held = facts.derived(_held_by_handles).get(first.handle.lower(), ())
    if not held:
        says += f": VM {namespace}/{name} cannot start"
    pods = pods_of(namespace, name, facts)
    if any(map(_has_no_address, pods)) and wanted is not None and first.is_excess:
        way_out = _attach_again(namespace, name, network, restart=True)
    elif pods:
        way_out = f"virtctl stop {name} -n {namespace}"
    elif first.is_excess:
        way_out = f"kubectl yoshi ips gc --network {network.full_name}"
    else:
        inside = (address for address in held if address in ip_network(first.cidr))
        way_out = f"calicoctl ipam release --ip={next(inside, 'ADDRESS')}"
    return Trouble(namespace, name, says, way_out)


def _assigned_otherwise(network: Network, api: CalicoApi, wanted: Iterable[Use], facts: Facts) -> Iterator[Trouble]:
    """VMs to which Calico would assign another address than the one that is on their template."""
    held = facts.derived(_held_by_handles)
    for use in wanted:
        handle = ipam.handle_name(use.namespace, use.name)
        addresses = held.get(handle, ()) if handle else ()
        others = [address for address in addresses if address != network.address(use.number)]
        if not others or not ipam.keeps_addresses(api, facts):
            continue
        runs = facts.one(VMI, use.name, use.namespace) is not None or bool(pods_of(use.namespace, use.name, facts))
        says = f"Calico would assign {others[0]} to VM {use.namespace}/{use.name}"
        yield Trouble(use.namespace, use.name, says, _attach_again(use.namespace, use.name, network, restart=runs))


def _held_by_handles(facts: Facts) -> dict[str, list[Address]]:
    """Handle, in lower case -> the addresses that blocks give to it."""
    api = api_for_reading(facts)
    found: dict[str, list[Address]] = {}
    for block in facts.ask(Read(api.block)):
        if not dig(block, "spec", "deleted"):
            for holding in ipam.holdings(block, api.block.ref(name_of(block))):
                found.setdefault(holding.handle.lower(), []).append(address_of(holding.number, holding.version))
    return found


def _attach_again(namespace: str, name: str, network: Network, restart: bool) -> str:
    """The command that makes Calico's bookkeeping say of a VM what is recorded."""
    command = f"kubectl yoshi vm attach {name} -n {namespace} --network {network.called_from(namespace)}"
    return f"{command} --restart" if restart else command


def made_consistent(api: CalicoApi, vm: Vm, facts: Facts) -> LetGo:
    """What makes a VM's handle count what its blocks contain, or why that cannot be now."""
    handle = ipam.handle_name(vm.namespace, vm.name)
    if not handle or ipam.excess(api, handle, facts) is None:
        return LetGo()
    if repair := ipam.repair(api, vm.namespace, vm.name, facts, vm.subject):
        return LetGo(repair)
    confirmed = ipam.excess(api, handle, facts, ipam.AGAIN)
    if confirmed is None:
        return LetGo()
    says = str(confirmed[1][0])
    pods = pods_of(vm.namespace, vm.name, facts)
    if any(_has_no_address(pod) for pod in pods):
        return LetGo(obstacle=f"{says}: VM {vm.subject} cannot start")
    why = f"{POD.ref(name_of(pods[0]), vm.namespace)} is there" if pods else "whether a pod is there cannot be told"
    return LetGo(Plan(notes=(f"{says}; it is repaired when VM {vm.subject} does not run ({why})",)))


def _has_no_address(pod: Json) -> bool:
    """Whether Calico has not given a pod its address yet."""
    return not dig(pod, "status", "podIP") and not annotations_of(pod).get(POD_IPS)
