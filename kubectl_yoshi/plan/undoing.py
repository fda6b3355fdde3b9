"""Taking back what this very run wrote for a VM that does not get the address in the end."""

from __future__ import annotations

from collections.abc import Mapping

from kubectl_yoshi.model.addresses import parse_address
from kubectl_yoshi.model.change import Plan, side_by_side
from kubectl_yoshi.model.errors import UsageMistake
from kubectl_yoshi.model.ledger import Record
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.objects import Json, dig
from kubectl_yoshi.model.vm import Vm
from kubectl_yoshi.plan.attempt import Attempt
from kubectl_yoshi.plan.books import remove_records
from kubectl_yoshi.plan.desk import Desk


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


def undo_records(desk: Desk, vms: list[Vm], recorded: Mapping[int, Json]) -> Plan:
    """Takes back the records that this run wrote for VMs that do not get them: their own change was refused, or
    somebody was faster and gave them another address, or another network."""
    numbers: dict[int, Record] = {}
    plans: list[Plan] = []
    for vm in vms:
        carried = desk.carried(vm)
        for number in desk.own(vm):
            if recorded.get(number) != desk.records[number].as_written:
                continue
            if not desk.backend.on_template:
                plans.append(_take_back(desk, vm, number))
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
    if not numbers:
        return Plan()
    plans.append(desk.backend.retract(desk.network, numbers, desk.facts).plan)
    return side_by_side(plans) + remove_records(desk.ledger, numbers)


def _take_back(desk: Desk, vm: Vm, number: int) -> Plan:
    """Takes away what was made beside a VM for an address that it does not get in the end."""
    loosened = desk.backend.loosen(vm, desk.network, desk.facts)
    let_go = desk.backend.let_go(desk.network, number, vm.namespace, vm.name, desk.facts)
    return Plan((tuple(loosened),) if loosened else ()) + let_go.plan
