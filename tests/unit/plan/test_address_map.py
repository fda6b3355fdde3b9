"""The map of an address space: the state of every address, and cells of many, without enumerating any."""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import ip_network
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.addresses import span_of
from kubectl_yoshi.model.backend import AddressUse, UsageKind
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.model.vm import VM
from kubectl_yoshi.plan.address_map import MAP_STATES, MapRun, MapState, build_address_map, group_cells, map_state
from tests.address_maps import network_of, row_of
from tests.unit.plan.test_planning_cost import steps

NETWORK = network_of("10.20.0.0/24")
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "gateway": st.integers(1, 254).map(lambda number: f"10.20.0.{number}"),
        "range_start": st.integers(1, 60).map(lambda number: f"10.20.0.{number}"),
        "range_end": st.integers(190, 254).map(lambda number: f"10.20.0.{number}"),
        "exclude": st.lists(st.integers(61, 180).map(lambda number: f"10.20.0.{number}"), max_size=4),
    },
)


def use(number: int, name: str, kind: UsageKind = UsageKind.RUNNING) -> AddressUse:
    return AddressUse(number, kind, VM.ref(name, "prod"), "prod", name)


def test_every_state_of_an_address_has_one_on_the_map() -> None:
    assert {*MAP_STATES} == {*AddressState}
    assert {*MAP_STATES.values()} == {*MapState}


@pytest.mark.parametrize(
    ("state", "running", "expected"),
    [
        (AddressState.BOUND, True, MapState.USED),
        (AddressState.BOUND, False, MapState.HELD),
        (AddressState.PENDING, False, MapState.USED),
        (AddressState.RESTART_NEEDED, False, MapState.USED),
        (AddressState.UNKNOWN, False, MapState.USED),
        (AddressState.ORPHANED, False, MapState.HELD),
        (AddressState.RELEASED, False, MapState.HELD),
        (AddressState.RESERVED, False, MapState.RESERVED),
        (AddressState.UNRECORDED, True, MapState.UNMANAGED),
        (AddressState.LEASED, False, MapState.UNMANAGED),
        (AddressState.CONFLICT, True, MapState.CONFLICT),
    ],
)
def test_address_has_the_state_of_its_row(state: AddressState, running: bool, expected: MapState) -> None:
    assert map_state(row_of(NETWORK, "10.20.0.9", state, running=running)) is expected


@pytest.mark.parametrize(
    ("state", "users", "expected"),
    [
        (AddressState.BOUND, ["web-1"], MapState.USED),
        (AddressState.BOUND, ["web-1", "web-2"], MapState.CONFLICT),
        (AddressState.RESERVED, ["web-2"], MapState.CONFLICT),
        (AddressState.ORPHANED, ["web-2"], MapState.CONFLICT),
        (AddressState.UNRECORDED, ["web-1"], MapState.UNMANAGED),
        (AddressState.UNRECORDED, ["web-1", "web-1"], MapState.UNMANAGED),
        (AddressState.UNRECORDED, ["web-1", "web-2"], MapState.CONFLICT),
        (AddressState.UNKNOWN, ["web-2"], MapState.USED),
    ],
)
def test_address_with_several_users_is_a_conflict(state: AddressState, users: list[str], expected: MapState) -> None:
    number = 0x0A140009
    row = row_of(NETWORK, number, state, holder="web-1", uses=[use(number, name) for name in users])
    assert map_state(row) is expected


def test_conflict_names_the_other_user() -> None:
    row = row_of(NETWORK, 0x0A140009, holder="web-1", uses=[use(0x0A140009, name) for name in ("web-1", "web-2")])
    [reason] = [run.reason for run in build_address_map(NETWORK, [row]).runs if run.row]
    assert reason == "virtualmachine/web-2 in namespace prod uses it too"


@given(SPECS, st.sets(st.integers(0, 255)))
def test_runs_are_each_address_once_with_its_state_and_reason(spec: dict[str, object], used: set[int]) -> None:
    network = network_of("10.20.0.0/24", **spec)
    first, last = span_of(network.cidr)
    rows = [row_of(network, first + offset) for offset in sorted(used)]
    address_map = build_address_map(network, rows)
    assert address_map.runs[0].first == first
    assert address_map.runs[-1].last == last
    assert all(one.last + 1 == other.first for one, other in pairwise(address_map.runs))
    for run in address_map.runs:
        for number in range(run.first, run.last + 1):
            if number - first in used:
                assert (run.state, run.row, run.size) == (MapState.USED, row_of(network, number), 1)
            elif number in network.usable:
                assert (run.state, run.reason) == (MapState.FREE, "")
            else:
                reason = network.unusable_reason(network.address(number))
                assert (run.state, run.reason) == (MapState.UNUSABLE, reason)
    states = Counter(state for run in address_map.runs for state in [run.state] * run.size)
    assert {state: count for state, count in address_map.totals.items() if count} == states


def test_part_has_only_its_addresses() -> None:
    rows = [row_of(NETWORK, f"10.20.0.{number}") for number in (5, 70, 200)]
    runs = build_address_map(NETWORK, rows, ip_network("10.20.0.64/26")).runs
    assert [(run.first & 255, run.last & 255, run.state) for run in runs] == [
        (64, 69, MapState.FREE),
        (70, 70, MapState.USED),
        (71, 127, MapState.FREE),
    ]


def test_addresses_outside_the_cidr_are_alone() -> None:
    network = network_of("203.0.113.0/30", plugin="public")
    rows = [row_of(network, address) for address in ("198.51.100.9", "203.0.113.1", "203.0.114.7")]
    address_map = build_address_map(network, rows)
    assert [(str(network.address(run.first)), run.size) for run in address_map.runs] == [
        ("198.51.100.9", 1), ("203.0.113.0", 1), ("203.0.113.1", 1), ("203.0.113.2", 1), ("203.0.113.3", 1),
        ("203.0.114.7", 1),
    ]  # fmt: skip
    assert address_map.space.size == 4


def test_network_without_cidr_has_only_its_addresses() -> None:
    network = network_of("", plugin="public")
    rows = [row_of(network, address) for address in ("203.0.113.9", "2001:db8::9")]
    assert [run.row for run in build_address_map(network, rows).runs] == rows
    part = build_address_map(network, rows, ip_network("2001:db8::/64"))
    assert [run.row for run in part.runs] == rows[1:]


RUNS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from(MapState)), min_size=1, max_size=30)


@given(RUNS, st.sampled_from([1, 4, 16]), st.integers(0, 30))
def test_cells_count_the_addresses_of_their_runs(parts: list[tuple[int, MapState]], size: int, start: int) -> None:
    runs, number = [], start
    for length, state in parts:
        runs.append(MapRun(number, number + length - 1, state))
        number += length
    expected: dict[int, Counter[MapState]] = {}
    for run in runs:
        for address in range(run.first, run.last + 1):
            expected.setdefault(address // size, Counter())[run.state] += 1
    counted: dict[int, dict[MapState, int]] = {}
    for cells in group_cells(runs, size):
        for cell in range(cells.first, cells.last + 1):
            assert cell not in counted
            counted[cell] = dict(cells.counts)
    assert counted == {cell: dict(counts) for cell, counts in expected.items()}
    assert [*counted] == sorted(counted)


def populated(cidr: str, count: int) -> tuple[Network, list[int]]:
    """Return a network and that many addresses, scattered over its first 2**20."""
    network = network_of(cidr)
    first = network.usable.spans[0][0]
    return network, sorted(first + offset for offset in random.Random(1).sample(range(1 << 20), count))


def cost(cidr: str, count: int) -> int:
    network, numbers = populated(cidr, count)
    rows = [row_of(network, number) for number in numbers]
    return steps(lambda: group_cells(build_address_map(network, rows).runs, 256))


@pytest.mark.I9
def test_steps_do_not_depend_on_the_size_of_the_network() -> None:
    assert cost("10.0.0.0/8", 100) == cost("10.0.0.0/12", 100)
    assert cost("fd00:133::/64", 100) <= cost("fd00:133::/108", 100)


@pytest.mark.I9
def test_steps_grow_linearly_with_the_addresses_in_use() -> None:
    assert cost("10.0.0.0/8", 800) <= 4 * cost("10.0.0.0/8", 200) * 1.1
