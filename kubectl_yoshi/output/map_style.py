"""How the states of a map look: a glyph and colours for each, on terminals and in pictures.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), darker or lighter where the contrast with the
background requires it: in pictures 3:1 or more (WCAG 2.2, 1.4.11), and all are distinguishable with protanopia,
deuteranopia and tritanopia. No state has only a colour: each has its own glyph, or its own mark in pictures.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from kubectl_yoshi.plan.address_map import Cells, MapState


@dataclass(frozen=True)
class StateStyle:
    """How a state looks.

    Attributes:
        glyph: one character.
        label: its name in legends.
        meaning: which addresses have it, for legends.
        terminal: the number of its colour among the 256 of terminals.
        light, dark: its colour on a light and on a dark background, as six hexadecimal digits.
    """

    glyph: str
    label: str
    meaning: str
    terminal: int
    light: str
    dark: str


STYLES: Mapping[MapState, StateStyle] = {
    MapState.FREE: StateStyle("·", "free", "can be assigned to any VM", 244, "868686", "7A7A7A"),
    MapState.USED: StateStyle("█", "used", "allocated to a VM", 32, "00578A", "3A8FCC"),
    MapState.HELD: StateStyle("▒", "held", "for a stopped or deleted VM, or cooling down", 175, "CC79A7", "F0A0D0"),
    MapState.RESERVED: StateStyle("R", "reserved", "by a user, or for the network itself", 36, "008662", "00C48E"),
    MapState.UNMANAGED: StateStyle("N", "unmanaged", "not managed by yoshi: no allocation", 178, "5C4000", "F0E442"),
    MapState.CONFLICT: StateStyle("!", "conflict", "kubectl yoshi ips check shows the cause", 166, "CA5900", "D55E00"),
    MapState.UNUSABLE: StateStyle("x", "unusable", "never assigned", 243, "3D3D3D", "6F6F6F"),
}
DRAWN_OF_BLOCKS = (MapState.CONFLICT, MapState.UNUSABLE)
"""The states that are drawn where a cell is a block of addresses, instead of its use."""
LIGHT_BACKGROUND, DARK_BACKGROUND = "FFFFFF", "14171A"
LIGHT_TEXT, DARK_TEXT = "1B1F23", "E6E8EB"


class Shade(enum.Enum):
    """How many of a block's usable addresses are in use: its glyph, the colour on terminals, and the filled share."""

    NONE = ("·", 244, 0.0)
    QUARTER = ("░", 74, 0.25)
    HALF = ("▒", 38, 0.5)
    MOST = ("▓", 32, 0.75)
    ALL = ("█", 26, 1.0)

    __hash__ = object.__hash__  # see MapState

    @property
    def glyph(self) -> str:
        """Return its glyph."""
        return self.value[0]

    @property
    def terminal(self) -> int:
        """Return the number of its colour among the 256 of terminals."""
        return self.value[1]

    @property
    def share(self) -> float:
        """Return how much of a cell is filled in pictures, in the colour of USED."""
        return self.value[2]


SHADE_MEANINGS = {
    Shade.NONE: "none in use",
    Shade.QUARTER: "up to 25 %",
    Shade.HALF: "up to 50 %",
    Shade.MOST: "more",
    Shade.ALL: "all",
}
"""The legend of the shades."""

Look: TypeAlias = MapState | Shade
"""How a cell is drawn: a single address by its state; a block by its use, unless it has a conflict or is unusable."""


def look_of(cells: Cells) -> Look:
    """Return how cells are drawn."""
    if cells.run is not None:
        return cells.run.state
    if MapState.CONFLICT in cells.counts:
        return MapState.CONFLICT
    usable, free = cells.usable, cells.free
    if usable == 0:
        return MapState.UNUSABLE
    if free == usable:
        return Shade.NONE
    if free == 0:
        return Shade.ALL
    return Shade.QUARTER if free * 4 >= usable * 3 else Shade.HALF if free * 2 >= usable else Shade.MOST


def glyph_of(look: Look) -> tuple[str, int]:
    """Return the glyph of a cell, and the number of its colour among the 256 of terminals."""
    style = STYLES[look] if isinstance(look, MapState) else look
    return style.glyph, style.terminal


def format_count(number: int) -> str:
    """Format a number of addresses; of a large IPv6 network in scientific notation."""
    return f"{number:,}" if number < 1 << 32 else f"{number:.3g}"


def format_totals(totals: Mapping[MapState, int]) -> str:
    """Format the number of addresses in each state: "4 used, 1 held, 250 free, 2 unusable"; zeros are left out."""
    in_order = [*(state for state in MapState if state is not MapState.FREE), MapState.FREE]
    return ", ".join(f"{format_count(totals[state])} {STYLES[state].label}" for state in in_order if totals[state])
