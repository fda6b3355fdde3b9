"""Drawing the map of a large network from its inventory: on the terminal, and as pictures of 65,536 cells."""

from __future__ import annotations

import gc
import io
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial

from kubectl_yoshi.__main__ import GC_THRESHOLD
from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.output.address_map import write_address_map
from kubectl_yoshi.output.address_map_html import to_html
from kubectl_yoshi.output.address_map_svg import to_svg
from kubectl_yoshi.plan.address_map import AddressMap, build_address_map
from kubectl_yoshi.plan.inventory import InventoryRow
from tests.address_maps import network_of, row_of
from tests.bench.bench import Bench
from tests.bench.measuring import Row, Target, microseconds, single

NETWORK = network_of("10.0.0.0/8")
STATES = (AddressState.BOUND, AddressState.BOUND, AddressState.RESERVED, AddressState.ORPHANED, AddressState.LEASED)
SOON = Target(1000)
"""Milliseconds of CPU, after the objects are read."""
NOW = datetime(2026, 2, 1, tzinfo=timezone.utc)

FORMATS: dict[str, Callable[[AddressMap], object]] = {
    "terminal": lambda address_map: write_address_map(address_map, io.StringIO()),
    "svg": lambda address_map: to_svg(address_map, NOW),
    "html": lambda address_map: to_html(address_map, NOW),
}


def measure(bench: Bench) -> Iterator[Row]:
    """A /8 with addresses in use at random, and one with an address in use in each of its /24s."""
    threshold = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD)  # as the program does
    try:
        yield from drawn(bench, f"{bench.sizes.map:,} in use at random", at_random(bench.sizes.map))
        yield from drawn(bench, f"one in use in {bench.sizes.map_cells:,} cells", in_each_cell(bench.sizes.map_cells))
    finally:
        gc.set_threshold(*threshold)


def drawn(bench: Bench, what: str, rows: list[InventoryRow]) -> Iterator[Row]:
    """Milliseconds of CPU from the inventory to the text of each format."""
    for name, draw in FORMATS.items():
        with bench.progress.task(f"map of {NETWORK.cidr}, {what}, {name}"):
            samples = microseconds(partial(_draw, draw, rows), bench.runs)
        yield single(f"ips map -o {name} of {NETWORK.cidr}, {what}", "ms", [one / 1000 for one in samples]).aims(SOON)


def _draw(draw: Callable[[AddressMap], object], rows: list[InventoryRow]) -> object:
    return draw(build_address_map(NETWORK, rows))


def at_random(count: int) -> list[InventoryRow]:
    """Return the inventory of a network of which so many addresses are in use."""
    [(first, last)] = NETWORK.usable.spans
    rng = random.Random(7)
    return [row_of(NETWORK, number, rng.choice(STATES)) for number in sorted(rng.sample(range(first, last), count))]


def in_each_cell(count: int) -> list[InventoryRow]:
    """Return the inventory of a network with one address in use in each of its first /24s."""
    first = int(NETWORK.cidr[9]) if NETWORK.cidr else 0
    return [row_of(NETWORK, first + 256 * cell, STATES[cell % len(STATES)]) for cell in range(count)]
