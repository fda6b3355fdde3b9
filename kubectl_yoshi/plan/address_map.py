"""The map of a network's address space: one of seven states for every address, as runs of neighbouring addresses.

A run is one address that is recorded, used or cooling down, or any number of free or unusable ones. So the cost of a
map depends on the addresses in use and on the spans of the network, never on its size (invariant I9). Pictures of large
networks have a cell for each block of 256 addresses, which `group_cells` counts from the runs.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import Cidr, Intervals, format_span, span_of, usable_hosts
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.plan.inventory import InventoryRow


class MapState(enum.Enum):
    """The state of an address on a map: docs/reference/states.md has all with their marks."""

    FREE = "Free"  # can be assigned to any VM
    USED = "Used"  # allocated to a VM that has it or is about to get it
    HELD = "Held"  # kept for a VM that has stopped or does not exist, or cooling down
    RESERVED = "Reserved"  # reserved by a user, or used by the network itself
    UNMANAGED = "Unmanaged"  # not managed by yoshi: used or leased without an allocation
    CONFLICT = "Conflict"  # the cluster contradicts the allocation, or several VMs use the address
    UNUSABLE = "Unusable"  # never assigned

    __hash__ = object.__hash__  # that of Enum hashes the name each time, which took a third of a large picture's time


MAP_STATES: Mapping[AddressState, MapState] = {
    AddressState.BOUND: MapState.USED,
    AddressState.RESTART_NEEDED: MapState.USED,
    AddressState.PENDING: MapState.USED,
    AddressState.UNKNOWN: MapState.USED,
    AddressState.ORPHANED: MapState.HELD,
    AddressState.RELEASED: MapState.HELD,
    AddressState.RESERVED: MapState.RESERVED,
    AddressState.UNRECORDED: MapState.UNMANAGED,
    AddressState.LEASED: MapState.UNMANAGED,
    AddressState.CONFLICT: MapState.CONFLICT,
    AddressState.FREE: MapState.FREE,
    AddressState.UNUSABLE: MapState.UNUSABLE,
}
"""The state on the map of an address that nobody else uses; `Bound` without a running VM is HELD (see `map_state`)."""

IN_USE = frozenset(MapState) - {MapState.FREE, MapState.UNUSABLE}
"""The states of addresses that an inventory has; the others are those of the gaps between."""


def map_state(row: InventoryRow) -> MapState:
    """Return the state on the map of an address of the inventory."""
    if _has_several_users(row):
        return MapState.CONFLICT
    if row.state is AddressState.BOUND and not row.running:
        return MapState.HELD
    return MAP_STATES[row.state]


def _has_several_users(row: InventoryRow) -> bool:
    """Return whether others than its holder use an address, or without a record several VMs (`ips check`)."""
    if row.record is None:
        return len(row.vms) > 1
    return row.state is not AddressState.UNKNOWN and bool(row.other_uses)


class MapRun(NamedTuple):
    """Neighbouring addresses of one state.

    Attributes:
        first, last: the addresses, as numbers.
        state: of each of them.
        row: the address, if it is one of the inventory; None for free and unusable ones.
        reason: why the addresses have their state; "" if it is as recorded.
    """

    first: int
    last: int
    state: MapState
    row: InventoryRow | None = None
    reason: str = ""

    @property
    def size(self) -> int:
        """Return the number of addresses."""
        return self.last - self.first + 1


def format_run(run: MapRun, network: Network) -> str:
    """Return the addresses of a run: "10.0.0.1" or "10.0.0.1-10.0.0.9"."""
    first = network.address(run.first)
    return format_span((run.first, run.last), first.version)


@dataclass(frozen=True)
class AddressMap:
    """The addresses of a network, or of a part of it.

    Attributes:
        network: the network.
        cidr: the part that was requested, else the network's CIDR; None for a network without one.
        space: the addresses of `cidr` that are in the network's CIDR.
        runs: in order; those of `space` have no gaps, and outside it only recorded and used addresses have runs.
    """

    network: Network
    cidr: Cidr | None
    space: Intervals
    runs: Sequence[MapRun]

    @cached_property
    def totals(self) -> Mapping[MapState, int]:
        """Return the number of addresses in each state."""
        totals = dict.fromkeys(MapState, 0)
        for run in self.runs:
            totals[run.state] += run.size
        return totals

    @property
    def size(self) -> int:
        """Return the number of addresses."""
        return sum(self.totals.values())


def build_address_map(network: Network, rows: Iterable[InventoryRow], part: Cidr | None = None) -> AddressMap:
    """Return the map of a network.

    Args:
        network: the network.
        rows: its inventory, in order.
        part: draw these addresses only; None for all, including those outside the CIDR.
    """
    space = network.cidr_addresses
    if part is not None:
        rows = [row for row in rows if network.address(row.number) in part]
        space &= Intervals.from_spans([span_of(part)])
    in_use = [MapRun(row.number, row.number, map_state(row), row, _reason(row)) for row in rows]
    unused = [MapRun(first, last, MapState.FREE) for first, last in (network.usable & space).spans]
    unused = sorted([*unused, *_unusable_runs(network, space - network.usable)])
    return AddressMap(network, part or network.cidr, space, [*_interleave(unused, in_use)])


def _reason(row: InventoryRow) -> str:
    """Return why an address has its state; "" if it is as recorded, and nobody else uses it."""
    if row.reason or not _has_several_users(row):
        return row.reason
    other = row.other_uses[0]
    return other.cooldown_reason or f"{other.ref} uses it too"


def _interleave(unused: Sequence[MapRun], in_use: Sequence[MapRun]) -> Iterator[MapRun]:
    """Yield all runs in order; of the unused ones the parts between the addresses in use.

    Args:
        unused: the runs that the network has without its inventory, in order.
        in_use: runs of one address, in order, of which some may be outside.
    """
    position, count = 0, len(in_use)
    for first, last, state, _, reason in unused:
        while position < count and in_use[position].last < first:
            yield in_use[position]
            position += 1
        start = first
        while position < count and (number := in_use[position].first) <= last:
            if start < number:
                yield MapRun(start, number - 1, state, None, reason)
            yield in_use[position]
            start = number + 1
            position += 1
        if start <= last:
            yield MapRun(start, last, state, None, reason)
    yield from in_use[position:]


def _unusable_runs(network: Network, unusable: Intervals) -> Iterator[MapRun]:
    """Yield runs of unusable addresses, each with one reason."""
    if network.cidr is None:
        return
    hosts, in_range = usable_hosts(network.cidr), Intervals.from_spans([network.range_span])
    gateway = Intervals.from_numbers([int(network.gateway)] if network.gateway else ())
    others = (unusable & hosts) - gateway
    for addresses in (unusable - hosts, unusable & gateway, others & in_range, others - in_range):
        for first, last in addresses.spans:
            yield MapRun(first, last, MapState.UNUSABLE, reason=network.unusable_reason(network.address(first)))


class Cells(NamedTuple):
    """Neighbouring cells of a picture that have the same content.

    Attributes:
        first, last: the numbers of the cells: the number of their first address, divided by the size of a cell.
        counts: the number of addresses of each state in each cell; states without addresses are left out.
        run: the addresses, if a cell is one address.
    """

    first: int
    last: int
    counts: Mapping[MapState, int]
    run: MapRun | None = None

    @property
    def usable(self) -> int:
        """Return how many addresses of each cell are not unusable."""
        return sum(self.counts.values()) - self.counts.get(MapState.UNUSABLE, 0)

    @property
    def free(self) -> int:
        """Return how many addresses of each cell are free."""
        return self.counts.get(MapState.FREE, 0)


def group_cells(runs: Iterable[MapRun], size: int) -> list[Cells]:
    """Return the cells of a picture, in order.

    The steps are proportional to the runs: each is cut into three parts at most.

    Args:
        runs: in order.
        size: how many addresses a cell has; cells begin at its multiples.
    """
    if size == 1:
        return [Cells(run.first, run.last, {run.state: 1}, run) for run in runs]
    cells: list[Cells] = []
    counts: dict[MapState, int] = {}
    number = -1  # of the cell whose addresses are counted
    for run in runs:
        state, first, last = run.state, run.first // size, run.last // size
        if first != number:
            counts = _new_cell(cells, first)
            number = first
        if first == last:
            counts[state] = counts.get(state, 0) + run.last - run.first + 1
            continue
        counts[state] = counts.get(state, 0) + (first + 1) * size - run.first
        if first + 1 < last:
            cells.append(Cells(first + 1, last - 1, {state: size}))
        counts = _new_cell(cells, last)
        counts[state] = run.last - last * size + 1
        number = last
    return cells


def _new_cell(cells: list[Cells], number: int) -> dict[MapState, int]:
    """Append a cell without addresses; return its counts, to be filled."""
    counts: dict[MapState, int] = {}
    cells.append(Cells(number, number, counts))
    return counts
