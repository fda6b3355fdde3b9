"""Rules about allocations and their use: 0xxx. `ips check` runs these."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

from kubectl_yoshi.diagnosis import remedies
from kubectl_yoshi.diagnosis.facts import Facts
from kubectl_yoshi.diagnosis.finding import CannotCheckError, Observation, Severity
from kubectl_yoshi.diagnosis.interfaces import derive_mac
from kubectl_yoshi.diagnosis.rule import rule
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import Address, Intervals, parse_address
from kubectl_yoshi.model.allocations import RESERVATION, VIRTUALMACHINE
from kubectl_yoshi.model.network import NETWORKWIZARD, Network
from kubectl_yoshi.model.objects import NamespacedName, dig
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan.context import age_in_seconds
from kubectl_yoshi.plan.gc import GRACE_SECONDS
from kubectl_yoshi.plan.inventory import InventoryRow, list_other_troubles
from kubectl_yoshi.plan.orphaned_vms import find_orphaned_vms


def observe_row(row: InventoryRow, sentence: str, *commands: str, vm: NamespacedName | None = None) -> Observation:
    """Return an observation about an address of a network.

    Args:
        row: the address.
        sentence: what is wrong, which follows the address in the message.
        commands: see Observation.
        vm: the VM concerned; by default the holder, else the only VM that uses the address.
    """
    if vm is None and row.record is not None and row.record.kind == VIRTUALMACHINE:
        vm = (row.record.namespace, row.record.name)
    elif vm is None and len(row.vms) == 1:
        (vm,) = row.vms
    return Observation(
        NETWORKWIZARD.ref(row.network.name, row.network.namespace),
        f"{row.address} on {row.network.full_name}: {sentence}",
        field=f"status.allocations[{row.address}]",
        evidence=tuple(dict.fromkeys(f"{use.kind.value}: {use.ref}" for use in row.address_uses)),
        commands=commands,
        network=(row.network.namespace, row.network.name),
        vm=vm,
        address=row.address,
        row=row,
    )


def _readable_rows(facts: Facts) -> Iterator[InventoryRow]:
    """Return the addresses of all networks.

    Raises:
        CannotCheckError: after the last one, if something about them cannot be read.
    """
    for rows in facts.rows.values():
        yield from rows
    if facts.hidden_from_rows:
        raise CannotCheckError("; ".join(facts.hidden_from_rows))


def _release(row: InventoryRow) -> str:
    return f"kubectl yoshi ips release -n {row.network.namespace} {row.network.name} {row.address}"


def find_free_address(network: Network, facts: Facts) -> Address | None:
    """Return the lowest address of a network that is neither allocated nor used; None if there is none.

    Raises:
        PreconditionFailed: networks cannot be listed.
    """
    rows = facts.rows.get((network.namespace, network.name), ())
    number = network.usable.first_not_in(Intervals.from_numbers(row.number for row in rows))
    return None if number is None else network.address(number)


def _move_to_free_address(name: NamespacedName, row: InventoryRow, facts: Facts) -> str:
    """Return the command that gives a VM another address of the same network, or that shows the address if it is full.

    A running VM is restarted by the same command, since that releases the former address only then.

    Raises:
        CannotCheckError: VMs or VMIs cannot be read.
    """
    address = find_free_address(row.network, facts)
    if address is None:
        return remedies.show_address(row.address)
    attach = remedies.attach(name, f"--network {row.network.full_name}={address} --replace")
    vm = facts.vm(name)
    is_restart_needed = vm is not None and facts.backend(row.network).pins_vm_template and facts.instance(vm)
    return f"{attach} --restart --wait" if is_restart_needed else attach


@rule("0001", Severity.ERROR, "An address is allocated to a VM that does not exist or does not request it")
def allocation_without_vm(facts: Facts) -> Iterator[Observation]:
    """The VM was deleted with kubectl, its annotations were edited by hand, or an attachment was killed.

    The address stays allocated, so nobody else gets it. `kubectl yoshi ips gc` releases it as soon as nothing uses it
    any more, and `ips release` also in the first five minutes; if the VM is to have it, attach the VM again.
    """
    for row in _readable_rows(facts):
        if row.state is AddressState.ORPHANED:
            is_recent = row.record is not None and age_in_seconds(row.record.since, facts.now) < GRACE_SECONDS
            command = _release(row) if is_recent else remedies.collect(row.network)
            yield observe_row(row, f"recorded for {row.holder}, but {row.reason}", command)


@rule("0002", Severity.ERROR, "An address is used without an allocation")
def use_without_allocation(facts: Facts) -> Iterator[Observation]:
    """Somebody wrote the address into a VM's template, a Service or Calico's IPAM by hand, or allocations were lost.

    Yoshi assigns the address to nobody while it can see the use, but nothing says who owns it. `kubectl yoshi ips
    rebuild` records the addresses that VMs have; otherwise remove the use.
    """
    for row in _readable_rows(facts):
        if row.state is AddressState.UNRECORDED:
            rebuild = f"kubectl yoshi ips rebuild -n {row.network.namespace} --network {row.network.name}"
            yield observe_row(row, row.reason, rebuild)


@rule("0003", Severity.ERROR, "An address that is allocated to one holder is used by another one")
def used_by_another(facts: Facts) -> Iterator[Observation]:
    """Two VMs have, or request, one address: often after a VM was cloned, restored, or edited by hand.

    The allocation says who owns the address. Attach the other VM with an address of its own, or detach it.
    """
    for row in _readable_rows(facts):
        if row.record is None or row.state is AddressState.UNKNOWN:
            continue
        for use in row.other_uses:
            sentence = f"recorded for {row.holder}, but {use.cooldown_reason or f'{use.ref} uses it too'}"
            user = (use.namespace, use.name) if use.name else None
            show = remedies.show_address(row.address)
            is_vm = user is not None and facts.vm(user) is not None
            command = _move_to_free_address(user, row, facts) if user and is_vm else show
            yield observe_row(row, sentence, command, vm=user)


@rule("0004", Severity.ERROR, "Two VMs have the same MAC address")
def duplicate_mac_address(facts: Facts) -> Iterator[Observation]:
    """Two VMs of one network have the same MAC address in their templates, often after a VM was cloned.

    On a Layer 2 network neither is reachable reliably. Give the clone another MAC address in its template, attach it
    again, so that the network knows the address, and restart it if it runs.
    """
    holders: dict[tuple[NamespacedName, str], dict[NamespacedName, Vm]] = defaultdict(dict)
    for connection in sorted(facts.connections, key=lambda one: (one.vm.namespace, one.vm.name) in facts.scope.vms):
        vm, network = connection.vm, (connection.network.namespace, connection.network.name)
        for mac in {*_mac_addresses(vm)} - {""}:
            holders[(network, mac)][(vm.namespace, vm.name)] = vm
    for (network, mac), vms in holders.items():
        for name, vm in [*vms.items()][1:]:
            first = next(iter(vms.values()))
            yield Observation(
                VM.ref(vm.name, vm.namespace),
                f"VM {vm.full_name} has the MAC address {mac} of VM {first.full_name}, both on {'/'.join(network)}",
                field="spec.template.spec.domain.devices.interfaces",
                commands=_change_mac(vm, mac, network, facts),
                network=network,
                vm=name,
            )


def _mac_addresses(vm: Vm) -> list[str]:
    """Return the MAC address of each interface in a VM's template, in lower case; "" for none."""
    interfaces = dig(vm.raw, "spec", "template", "spec", "domain", "devices", "interfaces", default=[])
    return [str(interface.get("macAddress", "")).lower() for interface in interfaces]


def _change_mac(vm: Vm, mac: str, network: NamespacedName, facts: Facts) -> tuple[str, ...]:
    """Return the commands that give an interface of a VM another MAC address.

    Raises:
        CannotCheckError: VMIs cannot be read.
    """
    path = f"/spec/template/spec/domain/devices/interfaces/{_mac_addresses(vm).index(mac)}/macAddress"
    patch = json.dumps([{"op": "replace", "path": path, "value": derive_mac(vm)}])
    change = f"kubectl patch {VM.full_name} {vm.name} -n {vm.namespace} --type json -p '{patch}'"
    attach = remedies.attach((vm.namespace, vm.name), f"--network {'/'.join(network)}")
    return (change, attach, remedies.restart((vm.namespace, vm.name))) if facts.instance(vm) else (change, attach)


@rule("0005", Severity.ERROR, "The CNI's own records disagree with the allocations")
def cni_disagrees(facts: Facts) -> Iterator[Observation]:
    """Calico's IPAM would give the VM another address, or prevents its start.

    From Calico 3.32 on an IPAMHandle keeps a VM's address and is stronger than the template. The finding names the
    command that repairs the handle.
    """
    for row in _readable_rows(facts):
        if row.record is not None and row.state is not AddressState.UNKNOWN:
            for problem in row.vm_problems:
                yield observe_row(row, problem.summary, problem.hint)
    for network in facts.networks:
        rows = facts.rows[(network.namespace, network.name)]
        for problem in list_other_troubles(network, facts.backend(network), rows, facts.snapshot):
            yield Observation(
                VM.ref(problem.name, problem.namespace),
                problem.summary,
                commands=(problem.hint,),
                network=(network.namespace, network.name),
                vm=(problem.namespace, problem.name),
            )


@rule("0006", Severity.ERROR, "An allocation is in the format of Platform9 yoshi")
def allocation_of_platform9(facts: Facts) -> Iterator[Observation]:
    """The allocation names a VM without its uid, so another VM of that name looks the same.

    Attach the VM again to write the uid, or run `kubectl yoshi install`, which converts all allocations.
    """
    for row in _readable_rows(facts):
        if row.record is not None and row.record.kind == VIRTUALMACHINE and not row.record.uid:
            sentence = f"recorded in the format of Platform9 yoshi, without the VM's uid; attach {row.holder} again"
            holder = (row.record.namespace, row.record.name)
            yield observe_row(row, sentence, remedies.attach(holder, f"--network {row.network.full_name}"))


@rule("0007", Severity.ERROR, "An address is allocated that the network does not assign")
def unusable_allocation(facts: Facts) -> Iterator[Observation]:
    """The allocation is outside the range, or excluded, or the gateway: the network was edited after it was made.

    The VM keeps the address, since an edit must not detach it. Attach the VM with another one and --replace, or change
    the range back.
    """
    for row in _readable_rows(facts):
        if row.record is None or row.state is AddressState.UNKNOWN:
            continue
        if reason := row.network.unusable_reason(parse_address(row.address)):
            if row.record.kind == VIRTUALMACHINE:
                command = _move_to_free_address((row.record.namespace, row.record.name), row, facts)
            else:
                is_reserved = row.record.kind == RESERVATION
                command = _release(row) if is_reserved else remedies.show_address(row.address)
            yield observe_row(row, f"recorded for {row.holder}, but {reason}", command)


@rule("0008", Severity.ERROR, "A VM requests a network that does not exist")
def vm_of_missing_network(facts: Facts) -> Iterator[Observation]:
    """The network was deleted with kubectl while the VM was on it, or its name is misspelled.

    Without the network's pool the VM may not start. Detach it, or create the network again.
    """
    for orphan in find_orphaned_vms(facts.vms, facts.backends, facts.snapshot):
        yield Observation(
            orphan.vm.ref,
            orphan.message,
            field="metadata.annotations",
            commands=(remedies.detach((orphan.vm.namespace, orphan.vm.name), orphan.network),),
            network=orphan.network,
            vm=(orphan.vm.namespace, orphan.vm.name),
            address=", ".join(map(str, orphan.addresses)),
        )
