"""`kubectl yoshi ips show`: the allocation of an address, its use in the cluster, and its previous holders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from kubectl_yoshi.cli.options import as_options, command, output_option
from kubectl_yoshi.cli.param_types import HELD_ADDRESS
from kubectl_yoshi.cli.result_objects import ADDRESS
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.model.errors import PreconditionFailed
from kubectl_yoshi.output.format_option import OutputFormat

if TYPE_CHECKING:
    from kubectl_yoshi.model.addresses import Address
    from kubectl_yoshi.model.history import PastAllocation
    from kubectl_yoshi.model.network import Network
    from kubectl_yoshi.model.objects import Json
    from kubectl_yoshi.model.snapshot import Snapshot
    from kubectl_yoshi.plan.inventory import InventoryRow


@dataclass(frozen=True)
class ShowOptions:
    """The flags of `ips show`."""

    address: str
    output: OutputFormat


@command("show", examples="kubectl yoshi ips show 10.133.0.10")
@click.argument("address", type=HELD_ADDRESS, metavar="IP")
@output_option(ADDRESS)
@as_options(ShowOptions)
def show(session: Session, options: ShowOptions) -> None:
    """Show the holder of an address, and its previous holders."""
    from kubectl_yoshi.engine.read import new_snapshot
    from kubectl_yoshi.model.addresses import parse_address
    from kubectl_yoshi.output.formats import print_objects
    from kubectl_yoshi.output.tables import write_fields
    from kubectl_yoshi.plan.network_lookup import LIST_NETWORKS_HINT, list_requested_networks

    address = parse_address(options.address)
    now = datetime.now(timezone.utc)

    snapshot = new_snapshot(session.api, trim_objects=True)
    networks = list_requested_networks(None, None, snapshot, session.namespace)[0]
    networks = [n for n in networks if address in n] or [n for n in networks if n.can_hold(address)]
    found = [_load_address_info(network, address, snapshot, now) for network in networks]
    session.note_unreadable(snapshot.unreadable_reasons())
    found = [info for info in found if info.row or info.history or address in info.network]
    if not found:
        raise PreconditionFailed(f"{address} is in no network that you can access", f"{LIST_NETWORKS_HINT}.")
    if not options.output.is_human_readable:
        print_objects([_to_json(info, address) for info in found], session.out, options.output, single=True)
        return
    for info in found:
        fields = _fields(info, address, now, wide=options.output.kind == "wide")
        write_fields([(name, value) for name, value in fields if value], session.out)


@dataclass(frozen=True)
class _AddressInfo:
    """An address on one network.

    Attributes:
        network: the network.
        row: its allocation and use; None if there is neither.
        history: its previous holders, the latest first.
        cooldown_seconds: how long it can still be assigned only to its last holder.
    """

    network: Network
    row: InventoryRow | None
    history: tuple[PastAllocation, ...]
    cooldown_seconds: float = 0.0


def _load_address_info(network: Network, address: Address, snapshot: Snapshot, now: datetime) -> _AddressInfo:
    from kubectl_yoshi.backends.registry import BACKENDS
    from kubectl_yoshi.plan.context import PlanContext, RunContext
    from kubectl_yoshi.plan.cool_down import cooling_down
    from kubectl_yoshi.plan.inventory import build_inventory
    from kubectl_yoshi.plan.records import load_allocations

    rows: tuple[InventoryRow, ...] = ()
    if network.plugin in BACKENDS:
        ctx = PlanContext(snapshot, BACKENDS, RunContext(now=now))
        rows = build_inventory(network, ctx, all_namespaces=False)
    row = next((row for row in rows if row.number == int(address)), None)
    allocations = load_allocations(network, snapshot)
    cooldown_seconds = cooling_down(allocations, now).get(int(address), 0.0)
    return _AddressInfo(network, row, allocations.history_of(int(address)), cooldown_seconds)


def _state(info: _AddressInfo, address: Address) -> tuple[str, str]:
    """Return the state of an address, and the reason for it; "" if it is as recorded."""
    from kubectl_yoshi.model.address_state import AddressState

    if info.row is not None:
        return info.row.state.value, info.row.reason
    reason = info.network.unusable_reason(address)
    return (AddressState.UNUSABLE if reason else AddressState.FREE).value, reason


def _fields(info: _AddressInfo, address: Address, now: datetime, wide: bool) -> list[tuple[str, object]]:
    from kubectl_yoshi.output.tables import STATE_FIELD

    state, reason = _state(info, address)
    fields: list[tuple[str, object]] = [
        ("Address", str(address)),
        ("Network", info.network.full_name),
        (STATE_FIELD, state),
        ("Reason", reason),
    ]
    previous = [_format_past_allocation(past, now, wide) for past in info.history]
    if info.row is None:
        return [*fields, ("Before", previous)]
    row, record = info.row, info.row.record
    fields.append(("Holder", row.holder))
    if record is not None:
        fields += [
            ("UID", record.uid),
            ("MAC", record.mac),
            ("Since", _with_age(record.since, now)),
            ("Note", record.note),
        ]
    return [*fields, ("Seen", [f"{use.kind.value}: {use.ref}" for use in row.address_uses]), ("Before", previous)]


def _with_age(since: str, now: datetime) -> str:
    from kubectl_yoshi.output.tables import age

    return f"{since} ({age(since, now)} ago)" if since else ""


def _format_past_allocation(past: PastAllocation, now: datetime, wide: bool) -> str:
    from kubectl_yoshi.output.tables import age

    uid = f" (uid {past.uid})" if wide and past.uid else ""
    since = f" from {past.since}" if past.since else ""
    return f"{past.holder}{uid}{since} until {past.until} ({age(past.until, now)} ago)"


def _to_json(info: _AddressInfo, address: Address) -> Json:
    """Return the object that `ips list` prints; for an address without a holder, one in the same form."""
    from kubectl_yoshi.cli.inventory import row_to_json
    from kubectl_yoshi.cli.result_objects import address_object

    if info.row is not None:
        obj = row_to_json(info.row)
    else:
        state, reason = _state(info, address)
        status = {"state": state, "reason": reason, "holder": "", "running": False, "uses": []}
        obj = address_object((info.network.namespace, info.network.name), str(address), status)
    if info.cooldown_seconds:
        obj["status"]["coolsDownSeconds"] = round(info.cooldown_seconds)
    obj["status"]["history"] = [{"kind": past.kind, **past.to_json()} for past in info.history]
    return obj
