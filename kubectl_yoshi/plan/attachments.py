"""Attaching VMs to a network: the record first, then the VM, and nothing left behind when it fails.

The protocol and its invariants are in docs/design.md. One plan serves one VM and many: their records go in one patch
per shelf, then the VMs are patched side by side. Every round observes anew, so a run that was killed, was slower than
another, or must wait for a VM to stop, is finished by the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kubectl_yoshi.model.addresses import Address, Intervals, parse_address
from kubectl_yoshi.model.backend import Backend, How, Use
from kubectl_yoshi.model.change import Change, PatchBuilder, Plan, Verb, in_order
from kubectl_yoshi.model.errors import Refused, UsageMistake, YoshiError
from kubectl_yoshi.model.facts import Facts, NeedMore, Read
from kubectl_yoshi.model.ledger import RESERVATION, VIRTUALMACHINE, Ledger, Record, shelf_of
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig, resource_version_of
from kubectl_yoshi.model.ports import Port
from kubectl_yoshi.model.vm import VM, Vm
from kubectl_yoshi.plan import restarts
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import (
    ASK_FOR_IT,
    known_networks,
    network_read,
    open_network,
    open_shelves,
    remove_records,
    write_records,
)
from kubectl_yoshi.plan.choosing import Chooser
from kubectl_yoshi.plan.releases import Release, release_of

GOING_WAY_OUT = "To keep it, make it again with `kubectl yoshi network create`; to be rid of it, `network delete`."


@dataclass(frozen=True)
class AttachRequest:
    """What is wanted.

    Attributes:
        network: its namespace and name.
        vms: namespace and name of each VM.
        address: the address asked for; only for a single VM. None for any.
        mac: "" for none, None for the back-end's way (a random one that is kept), else the address itself.
        replace: move a VM that already has another address or network.
        restart: restart a VM that runs without the address.
        plugin: what the network must be made with; "" for any.
        ports: what a public address is open on; () for what it was, or the usual ones.
        wait: wait until the address can be reached, where that does not depend on the VM.
    """

    network: tuple[str, str]
    vms: tuple[tuple[str, str], ...]
    address: Address | None = None
    mac: str | None = None
    replace: bool = False
    restart: bool = False
    plugin: str = ""
    ports: tuple[Port, ...] = ()
    wait: bool = False


@dataclass
class _Desk:
    """What is at hand while one plan is made."""

    request: AttachRequest
    network: Network
    backend: Backend
    facts: Facts
    attempt: Attempt
    vms: list[Vm]
    uses: tuple[Use, ...] = ()
    ledger: Ledger = field(init=False)
    records: dict[int, Record] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.network, {})

    def look_at(self, numbers: set[int]) -> None:
        """Reads the shelves of these addresses and what the cluster shows of their use."""
        shelves = {shelf_of(self.network, number) for number in numbers}
        self.ledger = self.ledger.with_objects(open_shelves(self.network, shelves, self.facts).objects)
        self.records = self.ledger.records()

    def carried(self, vm: Vm) -> list[int]:
        """The addresses of the network that the VM is made to have."""
        return [u.number for u in self.uses if u.how is How.WANTED and u.is_of(vm.namespace, vm.name, vm.uid)]

    def strangers(self, number: int, vm: Vm) -> list[Use]:
        """Uses of an address by anyone but this VM (one made anew under its name is a stranger while it runs)."""
        return [u for u in self.uses if u.number == number and not u.is_of(vm.namespace, vm.name, vm.uid)]

    def own(self, vm: Vm) -> list[int]:
        """The addresses that the ledger, as far as it was read, gives to the VM."""
        return sorted(number for number, record in self.records.items() if vm.uid and record.uid == vm.uid)

    def former(self, vm: Vm) -> list[int]:
        """The addresses recorded for an earlier VM of this name (or by the original, which wrote no uid)."""
        return sorted(
            number
            for number, record in self.records.items()
            if record.kind == VIRTUALMACHINE
            and (record.namespace, record.name) == (vm.namespace, vm.name)
            and record.uid != vm.uid
        )


def plan_attachments(request: AttachRequest, backends: Mapping[str, Backend], facts: Facts, attempt: Attempt) -> Plan:
    """The changes that give the VMs addresses of the network, as far as they can be planned now.

    The plan's `answers` has each VM's address, its `refusals` why a VM gets none.

    Raises:
        NeedMore: more must be read first.
        Refused, UsageMistake: no VM can be attached (no such network, the network cannot be used).
    """
    reads = tuple(Read(VM, namespace, name) for namespace, name in request.vms)
    facts.ask(network_read(*request.network), *reads)
    network = open_network(*request.network, facts)
    backend = backend_of(network, backends)
    _must_be_made_with(request.plugin, network)
    must_be_served(network, backend, facts)
    if network.is_going:
        gone: YoshiError = Refused(f"network {network.full_name} is being deleted", GOING_WAY_OUT)
        subjects = (f"{namespace}/{name}" for namespace, name in request.vms)
        attempt = replace(attempt, failed={**dict.fromkeys(subjects, gone), **attempt.failed})
    refusals: dict[str, YoshiError] = {}
    vms: list[Vm] = []
    for read in reads:
        subject = f"{read.namespace}/{read.name}"
        found = facts.ask(read)
        if found and not Vm(found[0]).is_going:
            vms.append(Vm(found[0]))
        else:
            refusals[subject] = _no_vm(read, bool(found), facts)
    desk = _Desk(request, network, backend, facts, attempt, vms)
    asked = {int(request.address)} if request.address is not None else set()
    if request.address is not None:
        _check_asked(network, request.address, facts)
    desk.uses = backend.uses(network, vms, Intervals.of_numbers(asked), facts)
    recorded_now = recorded_by_this_run(network, attempt)
    at_hand = asked | set(recorded_now) | {number for vm in vms for number in desk.carried(vm)}
    at_hand |= unmoved_of(network, request.vms)
    if network.cidr is None:
        at_hand.add(0)  # all that it holds is on one shelf
    desk.look_at(at_hand)
    going = [vm for vm in vms if vm.subject not in attempt.failed]
    chosen: dict[str, int] = {}
    choosers: list[Vm] = []
    for vm in going:
        try:
            number = _settled(desk, vm)
        except (Refused, UsageMistake) as error:
            refusals[vm.subject] = error
            continue
        if number is None:
            choosers.append(vm)
        else:
            chosen[vm.subject] = number
    if choosers:
        _choose(desk, choosers, chosen, refusals)
    plan = _plan_for(desk, [vm for vm in going if vm.subject in chosen], chosen, refusals)
    refusals |= {vm.subject: attempt.failed[vm.subject] for vm in vms if vm.subject in attempt.failed}
    undo = _undo(desk, [vm for vm in vms if vm.subject in refusals], recorded_now)
    return plan + undo if undo else replace(plan, refusals={**plan.refusals, **refusals})


def unmoved_of(network: Network, vms: Iterable[tuple[str, str]]) -> set[int]:
    """The addresses that the original yoshi recorded for these VMs in the status of a large network."""
    wanted = set(vms)
    unmoved = Ledger(network, {}).unmoved
    return {n for n, entry in unmoved.items() if (entry.record.namespace, entry.record.name) in wanted}


def backend_of(network: Network, backends: Mapping[str, Backend]) -> Backend:
    """The back-end that makes a network's objects.

    Raises:
        Refused: this program knows none of that name.
    """
    try:
        return backends[network.plugin]
    except KeyError:
        known = f"Known plugins: {', '.join(sorted(backends))}."
        if not network.plugin:
            mend = f"Set spec.plugin: kubectl edit networkwizard {network.name} -n {network.namespace}"
            raise Refused(f"network {network.full_name} has no plugin", f"{known} {mend}") from None
        raise Refused(
            f'network {network.full_name} has plugin "{network.plugin}", which this program does not know', known
        ) from None


def must_be_served(network: Network, backend: Backend, facts: Facts) -> None:
    """Raises Refused where the cluster lacks what the network is made with."""
    if missing := backend.missing(facts.served):
        raise Refused(
            f"network {network.full_name} needs {backend.plugin}, which this cluster lacks: looked for {missing}",
            "Install it first, or choose another network or --plugin.",
        )


def _no_vm(read: Read, going: bool, facts: Facts) -> Refused:
    if going:
        return Refused(f'VM "{read.name}" in namespace "{read.namespace}" is being deleted', "Wait until it is gone.")
    if why := facts.why_unknown(read):
        return Refused(f'VM "{read.name}" in namespace "{read.namespace}" cannot be read: {why}', ASK_FOR_IT)
    return Refused(
        f'VM "{read.name}" not found in namespace "{read.namespace}"',
        "See `kubectl get virtualmachines -A`; choose the namespace with -n.",
    )


def _must_be_made_with(plugin: str, network: Network) -> None:
    if plugin and plugin != network.plugin:
        raise Refused(
            f'network {network.full_name} is made with plugin "{network.plugin}", not "{plugin}"',
            "See `kubectl yoshi network list`.",
        )


def _check_asked(network: Network, address: Address, facts: Facts) -> None:
    if network.cidr is None:
        _must_be_of_no_other(network, address, facts)
    if why := network.why_not_usable(address):
        raise Refused(
            f"{address} cannot be given out by network {network.full_name}: {why}",
            "Leave out --ip for any free address, or see `kubectl yoshi ips list --free`.",
        )


def _must_be_of_no_other(network: Network, address: Address, facts: Facts) -> None:
    """An address named on a network without a CIDR must not be another network's (invariant I1)."""
    for other in known_networks(network.namespace, facts):
        if other.uid != network.uid and (address in other or int(address) in _records_without_cidr(other)):
            raise Refused(
                f"{address} is of network {other.full_name}, not of {network.full_name}",
                f"Attach to network {other.full_name}.",
            )


def _records_without_cidr(network: Network) -> dict[int, Record]:
    return Ledger(network, {shelf_of(network, 0): network.raw}).records() if network.cidr is None else {}


def recorded_by_this_run(network: Network, attempt: Attempt) -> dict[int, Json]:
    """Addresses whose records earlier rounds of this run wrote, and what they wrote."""
    numbers: dict[int, Json] = {}
    for change in attempt.done:
        if change.subresource == "status" and isinstance(change.body, list):
            for op in change.body:
                if op["op"] != "add":
                    continue
                values = {op["path"].rsplit("/", 1)[1]: op["value"]}
                if op["path"].endswith("/allocations"):
                    values = op["value"]
                elif op["path"] == "/status":
                    values = dig(op, "value", "allocations", default={})
                for key, value in values.items():
                    try:
                        address = parse_address(key)
                    except UsageMistake:
                        continue
                    if network.cidr is None or address in network:
                        numbers[int(address)] = value
    return numbers


def _settled(desk: _Desk, vm: Vm) -> int | None:
    """The address that the VM is to have where nothing needs to be chosen; None where it does.

    Raises:
        Refused: it cannot have one.
    """
    request, network = desk.request, desk.network
    asked = int(request.address) if request.address is not None else None
    carried = desk.carried(vm)
    other = desk.backend.elsewhere(vm, network, desk.facts)
    if carried and (asked is None or asked in carried):
        if other and not request.replace:
            raise Refused(
                f"VM {vm.subject} has {desk.ledger.address(carried[0])} and {other}",
                "A VM can have one such address; pass --replace to keep the one of this network only.",
            )
        number = asked if asked is not None else carried[0]
        _may_have(desk, vm, number, ", which is written on the VM,")
        return number
    if carried and not request.replace:
        raise Refused(
            f"VM {vm.subject} already has {desk.ledger.address(carried[0])} on network {network.full_name}",
            "Pass --replace to change its address, or detach it first.",
        )
    if other and not request.replace:
        raise Refused(
            f"VM {vm.subject} already has {other}",
            "A VM can be on one such network; pass --replace to move it, or detach it first.",
        )
    if asked is not None:
        _may_have(desk, vm, asked)
        return asked
    for number in desk.own(vm):
        if number not in carried and not network.why_not_usable(network.address(number)):
            return number
    for number in desk.former(vm):
        if not desk.strangers(number, vm) and not network.why_not_usable(network.address(number)):
            return number
    if network.cidr is None:
        raise Refused(
            f"network {network.full_name} has no cidr to choose an address from", "Name the address with --ip."
        )
    return None


def _may_have(desk: _Desk, vm: Vm, number: int, why: str = "") -> None:
    address = desk.ledger.address(number)
    record = desk.records.get(number)
    if record is not None and record.uid != vm.uid and number not in desk.former(vm):
        holds = f"it is {record.holder}" if record.kind == RESERVATION else f"{record.holder} holds it"
        raise Refused(
            f"{address}{why} is not free: {holds} on network {desk.network.full_name}",
            f"Choose another address, or give it back first; see `kubectl yoshi ips who {address}`.",
        )
    if record is None or record.uid != vm.uid:
        if reason := desk.network.why_not_usable(address):
            raise Refused(
                f"VM {vm.subject} carries {address}, which network {desk.network.full_name} never gives out: {reason}",
                "Detach it, or change the network.",
            )
        strangers = desk.strangers(number, vm)
        if strangers:
            raise Refused(
                f"{address} is not free: {strangers[0].ref} uses it",
                "Choose another address, or wait until it is gone.",
            )


def _choose(desk: _Desk, vms: list[Vm], chosen: dict[str, int], refusals: dict[str, YoshiError]) -> None:
    """Chooses an address for each VM; adds to `chosen` or `refusals`."""
    taken = Intervals()
    while True:

        def open_shelf(shelf: object) -> Ledger:
            ledger = open_shelves(desk.network, [shelf], desk.facts)  # type: ignore[list-item]
            desk.ledger = desk.ledger.with_objects(ledger.objects)
            return ledger

        chooser = Chooser(
            desk.network,
            vms[0].uid,
            open_shelf,
            taken,
            desk.attempt.chance if desk.attempt.number else None,
        )
        chooser.exclude(chosen.values())
        picks: dict[str, int] = {}
        for vm in vms:
            number = _resumed(desk, vm, picks)
            if number is None:
                try:
                    number = chooser.next()
                except Refused as full:
                    refusals[vm.subject] = full
                    continue
                number = _resumed(desk, vm, picks) or number
            picks[vm.subject] = number
        desk.records = desk.ledger.records()
        resumed = {s: n for s, n in picks.items() if n in desk.records}
        fresh = Intervals.of_numbers(n for s, n in picks.items() if s not in resumed)
        desk.uses = desk.backend.uses(desk.network, desk.vms, fresh, desk.facts)
        names = {vm.subject: vm for vm in vms}
        used = {n for s, n in picks.items() if s not in resumed and desk.strangers(n, names[s])}
        if not used:
            chosen.update(picks)
            return
        taken |= Intervals.of_numbers(u.number for u in desk.uses)
        for vm in vms:
            refusals.pop(vm.subject, None)


def _resumed(desk: _Desk, vm: Vm, picks: Mapping[str, int]) -> int | None:
    """An address that the shelves read so far already give to the VM, or gave to an earlier one of its name."""
    desk.records = desk.ledger.records()
    for number in desk.own(vm) + [n for n in desk.former(vm) if not desk.strangers(n, vm)]:
        if number not in picks.values() and not desk.network.why_not_usable(desk.ledger.address(number)):
            return number
    return None


def _plan_for(desk: _Desk, vms: list[Vm], chosen: Mapping[str, int], refusals: dict[str, YoshiError]) -> Plan:
    """Records, then VMs, then what must be given back, then restarts."""
    records: dict[int, Record] = {}
    subjects: dict[int, str] = {}
    after: Plan = Plan()
    notes: list[str] = []
    answers: dict[str, str] = {}
    for vm in vms:
        number = chosen[vm.subject]
        try:
            errand = _errand(desk, vm, number)
        except NeedMore:
            raise
        except YoshiError as error:
            refusals[vm.subject] = error
            continue
        if errand.record is not None:
            records[number] = errand.record
            subjects[number] = vm.subject
        after = after.beside(errand.after)
        notes += [*errand.notes, *desk.backend.concerns(vm, desk.network, number, desk.facts)]
        answers[vm.subject] = str(desk.ledger.address(number))
    plan = write_records(desk.ledger, records, subjects) if records else Plan()
    plan = plan + after
    notes = [*plan.notes, *notes]
    return replace(plan, notes=tuple(dict.fromkeys(notes)), answers=answers, refusals=dict(refusals))


@dataclass(frozen=True)
class _Errand:
    """What one VM needs: its record (None where it stands), and what comes after."""

    record: Record | None
    after: Plan
    notes: tuple[str, ...] = ()


def _errand(desk: _Desk, vm: Vm, number: int) -> _Errand:
    request, backend, network, facts = desk.request, desk.backend, desk.network, desk.facts
    record = desk.records.get(number)
    mac = _mac(desk, vm, record) if backend.on_template else ""
    fastened = backend.fasten(vm, network, number, mac, facts, request.ports)
    fastened = _only_as_read(vm, fastened)
    established = backend.establish(vm, network, number, request.ports, facts)
    wanted = Record(VIRTUALMACHINE, vm.namespace, vm.name, vm.uid, mac, desk.attempt.moment)
    stands = record is not None and record.uid == vm.uid and not fastened and isinstance(record.as_written, Mapping)
    stands = stands and number not in desk.ledger.unmoved
    prepared = backend.prepare(vm, network, number, facts)
    restart = restarts.Restart()
    if backend.on_template:
        restart = restarts.plan_restart(vm, number, desk.uses, facts, desk.attempt, bool(prepared.obstacle))
    if prepared.obstacle and not request.restart:
        raise Refused(prepared.obstacle, "Pass --restart to stop it, release that address and start it again.")
    plan = Plan((tuple(fastened),) if fastened else ()) + established
    if request.wait and (awaited := backend.awaited(vm, network, number, facts)):
        plan = plan + Plan((awaited,))
    if not prepared.obstacle:
        plan = plan + prepared.plan
    released = _release_others(desk, vm, number, settled=bool(prepared.plan))
    plan = plan + released.plan
    notes = released.notes
    if restart and (request.restart or restart.resumes):
        plan = plan + restart.plan
    elif restart:
        notes = (*notes, f"restart needed: {vm.ref} runs without {desk.ledger.address(number)} (`--restart`)")
    if prepared.obstacle:
        plan = replace(plan, again=True)
        notes = (*notes, f"{vm.ref} is stopped, what is held for it is released, and it is started again")
    return _Errand(None if stands else wanted, plan, notes)


def _only_as_read(vm: Vm, changes: tuple[Change, ...]) -> tuple[Change, ...]:
    """Changes of the VM that are refused if anybody has written to it since it was read.

    Whoever gives back the record that these changes rest on has written to the VM before (releases.py), so an address
    gets onto a VM only while its record stands (invariant I2), however late the change arrives.
    """
    test = PatchBuilder().test(("metadata", "resourceVersion"), resource_version_of(vm.raw)).ops
    return tuple(
        replace(change, body=[*test, *change.body])
        if change.ref == vm.ref and change.verb is Verb.PATCH and isinstance(change.body, list)
        else change
        for change in changes
    )


def _mac(desk: _Desk, vm: Vm, record: Record | None) -> str:
    """The MAC address: the interface's own, the one asked for, recorded or written before, else a random local one."""
    own, written = desk.backend.macs_of(vm, desk.network)
    if own:
        return own
    if desk.request.mac is not None:
        return desk.request.mac
    if record is not None and record.uid == vm.uid and isinstance(record.as_written, Mapping):
        return record.mac
    return written or random_mac(desk.attempt)


def random_mac(attempt: Attempt) -> str:
    """A random locally administered unicast MAC address (IEEE 802: the second bit of the first octet is set)."""
    octets = [0x02, *(attempt.chance.randrange(256) for _ in range(5))]
    return ":".join(f"{octet:02x}" for octet in octets)


def _release_others(desk: _Desk, vm: Vm, number: int, settled: bool) -> Release:
    """Gives back the VM's other addresses: what it had before, or lost to a faster run.

    Args:
        desk, vm: whose.
        number: the one that it keeps.
        settled: the plan already makes the back-end forget what it held for the VM.
    """
    uses = tuple(u for u in desk.uses if not (u.how is How.WANTED and u.is_of(vm.namespace, vm.name, vm.uid)))
    result = Release()
    for other in desk.own(vm):
        if other != number:
            record = desk.records[other]
            result = result + release_of(desk.ledger, other, record, uses, desk.backend, desk.facts, settled, True)
    moved_from = desk.backend.elsewhere(vm, desk.network, desk.facts)
    if moved_from:
        result = result + _release_elsewhere(desk, vm, parse_address(moved_from.split()[0]), settled)
    return result


def _release_elsewhere(desk: _Desk, vm: Vm, address: Address, settled: bool) -> Release:
    """Gives back the address that the VM had on the network that it leaves."""
    for network in known_networks(vm.namespace, desk.facts):
        if address in network and network.uid != desk.network.uid:
            ledger = open_shelves(network, [shelf_of(network, int(address))], desk.facts)
            record = ledger.records().get(int(address))
            if record is None or record.uid != vm.uid:
                return Release()
            backend = desk.backend
            uses = backend.uses(network, [vm], Intervals(), desk.facts)
            uses = tuple(u for u in uses if not (u.how is How.WANTED and u.is_of(vm.namespace, vm.name, vm.uid)))
            return release_of(ledger, int(address), record, uses, backend, desk.facts, settled, True)
    return Release()


def _undo(desk: _Desk, vms: list[Vm], recorded: Mapping[int, Json]) -> Plan:
    """Takes back the records that this run wrote for VMs that do not get them: their own change was refused, or
    somebody was faster and gave them another address, or another network."""
    numbers: dict[int, Record] = {}
    plan = Plan()
    for vm in vms:
        carried = desk.carried(vm)
        for number in desk.own(vm):
            if recorded.get(number) != desk.records[number].as_written:
                continue
            if not desk.backend.on_template:
                plan = plan.beside(_take_back(desk, vm, number))
            elif number in carried:
                continue
            numbers[number] = desk.records[number]
    alive = {vm.uid for vm in desk.vms}
    subjects = {f"{namespace}/{name}" for namespace, name in desk.request.vms}
    numbers |= {
        number: record
        for number, record in desk.records.items()
        if number in recorded and record.holder in subjects and record.uid not in alive
    }
    return plan + remove_records(desk.ledger, numbers) if numbers else in_order()


def _take_back(desk: _Desk, vm: Vm, number: int) -> Plan:
    """Takes away what was made beside a VM for an address that it does not get in the end."""
    loosened = desk.backend.loosen(vm, desk.network, desk.facts)
    let_go = desk.backend.let_go(desk.network, number, vm.namespace, vm.name, desk.facts)
    return Plan((tuple(loosened),) if loosened else ()) + let_go.plan
