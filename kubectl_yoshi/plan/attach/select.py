"""Select the address of each VM: the one that it has, had or requests, else a free one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence, Set

from kubectl_yoshi.model.addresses import Address, Intervals
from kubectl_yoshi.model.allocations import RESERVATION, Allocations, Shard
from kubectl_yoshi.model.errors import PlanningError, PreconditionFailed, YoshiError
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.plan import Change, Verb
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attach.allocate import Allocator, BlockCounts, ShardReader
from kubectl_yoshi.plan.attach.context import AttachState, Selection
from kubectl_yoshi.plan.conflicts import OtherNetworks
from kubectl_yoshi.plan.cool_down import check_cooled_down
from kubectl_yoshi.plan.records import check_room_outside_cidr


def select_existing_addresses(state: AttachState, vms: Iterable[Vm]) -> Selection:
    """Return the address of each VM for which none needs to be chosen: the requested one, or one that it has or had."""
    addresses: dict[str, int] = {}
    errors: dict[str, YoshiError] = {}
    other_networks = OtherNetworks(state.network, state.snapshot)
    for vm in vms:
        try:
            for existing in state.existing(vm):
                check_usable(state.network, existing)
            if (requested := state.requested_address(vm)) is not None:
                other_networks.check_not_theirs(requested)
            number = _select_existing_address(state, vm)
            if number is not None:
                other_networks.check_not_theirs(state.network.address(number))
                if number not in state.network.cidr_addresses:
                    check_room_outside_cidr(state.allocations, [*addresses.values(), number])
        except PlanningError as error:
            errors[vm.full_name] = error
            continue
        if number is not None:
            addresses[vm.full_name] = number
    return Selection(addresses, errors)


def check_usable(network: Network, address: Address) -> None:
    """Check that a network assigns an address.

    Raises:
        PreconditionFailed: it does not.
    """
    if reason := network.unusable_reason(address):
        raise PreconditionFailed(
            f"{address} cannot be assigned on network {network.full_name}: {reason}",
            "Leave out --ip for any free address, or see `kubectl yoshi ips list --free`.",
        )


def _select_existing_address(state: AttachState, vm: Vm) -> int | None:
    """Return the address of the VM if none needs to be chosen; None otherwise.

    Raises:
        PreconditionFailed: the VM cannot have an address.
    """
    request, network = state.request, state.network
    requested = state.requested(vm)
    on_vm = state.on_vm(vm)
    other = state.backend.conflicting_address(vm, network, state.snapshot)
    if on_vm and (requested is None or requested in on_vm):
        if other and not request.replace:
            raise PreconditionFailed(
                f"VM {vm.full_name} has {state.allocations.address(on_vm[0])} and {other}",
                "A VM can have one such address; pass --replace to keep the one of this network only.",
            )
        number = requested if requested is not None else on_vm[0]
        _check_available(state, vm, number, ", which is set on the VM,")
        return number
    if on_vm and state.existing(vm) and requested is not None:
        raise _other_address_error(state, vm, state.network.address(requested), state.network.address(on_vm[0]))
    if on_vm and not request.replace:
        raise PreconditionFailed(
            f"VM {vm.full_name} already has {state.allocations.address(on_vm[0])} on network {network.full_name}",
            "Pass --replace to change its address, or detach it first.",
        )
    if other and not request.replace:
        raise PreconditionFailed(
            f"VM {vm.full_name} already has {other}",
            "A VM can be on one such network; pass --replace to move it, or detach it first.",
        )
    if requested is not None:
        _check_available(state, vm, requested)
        check_cooled_down(state.allocations, requested, vm.namespace, vm.name, state.run.now)
        return requested
    for number in state.allocated(vm):
        if number not in on_vm and not network.unusable_reason(network.address(number)):
            return number
    for number in state.held_by_predecessor(vm):
        if not state.other_users(number, vm) and not network.unusable_reason(network.address(number)):
            return number
    if (reserved := _reserved_address(state, vm)) is not None:
        return reserved
    if network.cidr is None:
        raise PreconditionFailed(
            f"network {network.full_name} has no cidr to choose an address from", "Name the address with --ip."
        )
    return None


def _reserved_address(state: AttachState, vm: Vm) -> int | None:
    """Return the address that is reserved for the VM and may be assigned; None if there is none.

    Raises:
        PreconditionFailed: there are several, or something uses it.
    """
    reserved = [n for n in state.reserved_for(vm) if not state.network.unusable_reason(state.network.address(n))]
    if len(reserved) > 1:
        listed = ", ".join(str(state.network.address(number)) for number in reserved)
        raise PreconditionFailed(
            f"{len(reserved)} addresses of network {state.network.full_name} are reserved for VM {vm.full_name}: "
            f"{listed}",
            "Name one with --ip.",
        )
    for number in reserved:
        _check_available(state, vm, number, f", which is reserved for VM {vm.full_name},")
    return reserved[0] if reserved else None


def _other_address_error(state: AttachState, vm: Vm, existing: Address, other: Address) -> PreconditionFailed:
    """Return why an address that a VM already has cannot be recorded: another one is set on the VM."""
    verb = "runs with" if int(existing) in state.running(vm) else "is reported to have"
    network = state.network.relative_name(vm.namespace)
    attach_command = (
        f"kubectl yoshi vm attach {vm.name} -n {vm.namespace} --network {network} --ip {existing} --replace"
    )
    return PreconditionFailed(
        f"VM {vm.full_name} {verb} {existing}, but {other} is set on it (`{attach_command}` changes that)"
    )


def _check_available(state: AttachState, vm: Vm, number: int, suffix: str = "") -> None:
    address = state.allocations.address(number)
    record = state.records.get(number)
    if record is not None and record.kind == RESERVATION:
        if not state.may_take(record, vm):
            raise PreconditionFailed(
                f"{address}{suffix} is not free: it is {record.holder} on network {state.network.full_name}",
                "Choose another address; users who can change the network can assign it with --take-reservation.",
            )
    elif record is not None and record.uid != vm.uid and number not in state.held_by_predecessor(vm):
        raise PreconditionFailed(
            f"{address}{suffix} is not free: {record.holder} holds it on network {state.network.full_name}",
            f"Choose another address, or release it first; see `kubectl yoshi ips show {address}`.",
        )
    if record is None or record.uid != vm.uid:
        if reason := state.network.unusable_reason(address):
            raise PreconditionFailed(
                f"VM {vm.full_name} has {address}, which network {state.network.full_name} never assigns: {reason}",
                "Detach it, or change the network.",
            )
        other_users = state.other_users(number, vm)
        if other_users:
            raise PreconditionFailed(
                f"{address} is not free: {other_users[0].summary}",
                "Choose another address, or wait until it is released.",
            )


def take_reservation_test(network: Network) -> Change:
    """Return a patch that only tests: the API server refuses it to users who cannot change the network."""
    summary = f"check the permission to take reservations of network {network.full_name}"
    return Change(Verb.PATCH, network.ref, summary, PatchBuilder.for_uid(network.uid).ops, before=network.raw)


def allocate_addresses(state: AttachState, vms: Iterable[Vm], selection: Selection) -> tuple[AttachState, Selection]:
    """Choose a free address for each VM that has neither an address nor an error yet.

    Returns:
        The state with the shards that were loaded for it, and the selection with addresses or errors of these VMs.
    """
    unassigned = [vm for vm in vms if vm.full_name not in selection.addresses and vm.full_name not in selection.errors]
    if not unassigned:
        return state, selection
    taken = Intervals.from_numbers(selection.addresses.values())
    while True:
        state, chosen = _try_allocate(state, unassigned, taken)
        unrecorded = {owner: number for owner, number in chosen.addresses.items() if number not in state.records}
        state = state.with_uses(unrecorded.values())
        if not any(state.other_users(unrecorded[vm.full_name], vm) for vm in unassigned if vm.full_name in unrecorded):
            return state, Selection(
                {**selection.addresses, **chosen.addresses}, {**selection.errors, **chosen.errors}, chosen.hint
            )
        taken |= Intervals.from_numbers(use.number for use in state.address_uses.all)


def _try_allocate(state: AttachState, vms: Sequence[Vm], taken: Intervals) -> tuple[AttachState, Selection]:
    """Choose an address without another VM's record for each VM; it may still be in use without a record."""

    def load(shards: Collection[Shard]) -> Allocations:
        nonlocal state
        state = state.with_shards(shards)
        return Allocations(state.network, {shard: state.allocations.objects[shard] for shard in shards})

    counts = BlockCounts(state.network, state.snapshot, state.run.previous_snapshot)
    allocator = Allocator(ShardReader(state.network, load, counts), taken, state.run, wanted=len(vms))
    allocated: dict[str, int] = {}
    errors: dict[str, YoshiError] = {}
    taken_now: set[int] = set()
    for vm in vms:  # before these addresses are assigned to others
        number = _recorded_address(state, vm, taken_now)
        number = _last_held_address(state, vm, taken_now, taken) if number is None else number
        if number is not None:
            allocated[vm.full_name] = number
            taken_now.add(number)
    allocator.exclude(taken_now)
    for vm in vms:
        if vm.full_name in allocated:
            continue
        number = _recorded_address(state, vm, taken_now)
        if number is None:
            try:
                number = allocator.next_address()
            except PreconditionFailed as error:
                errors[vm.full_name] = error
                continue
            number = _recorded_address(state, vm, taken_now) or number
        allocated[vm.full_name] = number
        taken_now.add(number)
    return state, Selection(allocated, errors, allocator.hint)


def _last_held_address(state: AttachState, vm: Vm, taken_now: Set[int], taken: Intervals) -> int | None:
    """Return the address that a VM of this name had last, if it is free; it is reassigned even while it cools down."""
    for number in state.last_held(vm):
        free = number not in state.records and number not in taken_now and number not in taken
        if free and number in state.network.usable:  # one outside the CIDR is never chosen
            return number
    return None


def _recorded_address(state: AttachState, vm: Vm, taken_now: Set[int]) -> int | None:
    """Return an address that the loaded shards allocate to the VM, or to an earlier one of its name."""
    for number in state.allocated(vm) + [n for n in state.held_by_predecessor(vm) if not state.other_users(n, vm)]:
        if number not in taken_now and not state.network.unusable_reason(state.allocations.address(number)):
            return number
    return None
