"""A map on a terminal: rows, glyphs and colours, legend, shades of blocks, rows that are left out; and the colours."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path

import pytest

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.output.address_map import one_line_map, write_address_map
from kubectl_yoshi.output.map_style import (
    DARK_BACKGROUND,
    DARK_TEXT,
    LIGHT_BACKGROUND,
    LIGHT_TEXT,
    STYLES,
    Shade,
    look_of,
)
from kubectl_yoshi.plan.address_map import MAP_STATES, Cells, MapState, build_address_map
from kubectl_yoshi.plan.inventory import InventoryRow
from tests.address_maps import network_of, row_of

STATES_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "states.md"
TERMINAL_STEPS = (0, 95, 135, 175, 215, 255)


def printed(network: Network, rows: Sequence[InventoryRow], part: str = "", columns: int = 32) -> list[str]:
    out = io.StringIO()
    write_address_map(build_address_map(network, rows, ip_network(part) if part else None), out, columns)
    return out.getvalue().splitlines()


def grid(lines: Sequence[str]) -> list[str]:
    """Return the rows, between the two empty lines."""
    first = lines.index("")
    return [*lines[first + 1 : lines.index("", first + 1)]]


def test_map_of_a_24_has_eight_rows_of_32_columns_with_legend_and_totals() -> None:
    network = network_of("10.20.0.0/24", gateway="10.20.0.1", exclude=["10.20.0.240-10.20.0.254"])
    rows = [
        row_of(network, "10.20.0.2"),
        row_of(network, "10.20.0.3", running=False),
        row_of(network, "10.20.0.9", AddressState.RESERVED),
        row_of(network, "10.20.0.10", AddressState.UNRECORDED),
        row_of(network, "10.20.0.11", AddressState.CONFLICT),
        row_of(network, "10.20.0.64", AddressState.RELEASED),
    ]
    assert printed(network, rows) == [
        "prod/blue 10.20.0.0/24: 1 used, 2 held, 1 reserved, 1 unmanaged, 1 conflict, 18 unusable, 232 free",
        "",
        "             0        8        16       24",
        "10.20.0.0    xx█▒···· ·RN!···· ········ ········",
        "10.20.0.32   ········ ········ ········ ········",
        "10.20.0.64   ▒······· ········ ········ ········",
        "10.20.0.96   ········ ········ ········ ········",
        "10.20.0.128  ········ ········ ········ ········",
        "10.20.0.160  ········ ········ ········ ········",
        "10.20.0.192  ········ ········ ········ ········",
        "10.20.0.224  ········ ········ xxxxxxxx xxxxxxxx",
        "",
        "· free      232   can be assigned to any VM",
        "█ used        1   allocated to a VM",
        "▒ held        2   for a stopped or deleted VM, or cooling down",
        "R reserved    1   by a user, or for the network itself",
        "N unmanaged   1   not managed by yoshi: no allocation",
        "! conflict    1   kubectl yoshi ips check shows the cause",
        "x unusable   18   never assigned",
    ]


def test_every_state_has_a_glyph_and_a_colour_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = printed(network_of("10.20.0.0/24"), [])
    found = re.findall(r"^\x1b\[38;5;(\d+)m(.)\x1b\[0m (\w+)", "\n".join(lines), re.MULTILINE)
    assert len({glyph for _, glyph, _ in found}) == len({colour for colour, _, _ in found}) == len(MapState) == 7
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(printed(network_of("10.20.0.0/24"), []))


def test_colours_are_used_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    assert "\x1b" not in "".join(printed(network_of("10.20.0.0/24"), []))


def test_small_network_keeps_its_columns() -> None:
    network = network_of("10.20.0.16/28")
    assert grid(printed(network, [row_of(network, "10.20.0.20")])) == [
        "           0        8        16       24",
        "10.20.0.0                    x···█··· ·······x",
    ]


def test_wide_map_has_64_columns() -> None:
    lines = grid(printed(network_of("10.20.0.0/24"), [], columns=64))
    assert len(lines) == 1 + 4
    assert lines[-1] == "10.20.0.192  " + " ".join(["········"] * 7 + ["·······x"])


def test_20_is_drawn_by_address_and_19_by_block() -> None:
    assert len(grid(printed(network_of("10.20.0.0/20"), []))) == 1 + 128
    assert grid(printed(network_of("10.20.0.0/19"), [])) == [
        "           0        8        16       24",
        "10.20.0.0  " + " ".join(["········"] * 4),
    ]


@pytest.mark.parametrize(
    ("counts", "look"),
    [
        ({MapState.FREE: 254, MapState.UNUSABLE: 2}, Shade.NONE),
        ({MapState.FREE: 255, MapState.HELD: 1}, Shade.QUARTER),
        ({MapState.FREE: 192, MapState.USED: 64}, Shade.QUARTER),
        ({MapState.FREE: 191, MapState.USED: 65}, Shade.HALF),
        ({MapState.FREE: 128, MapState.USED: 64, MapState.RESERVED: 64}, Shade.HALF),
        ({MapState.FREE: 127, MapState.USED: 129}, Shade.MOST),
        ({MapState.FREE: 1, MapState.USED: 255}, Shade.MOST),
        ({MapState.USED: 254, MapState.UNUSABLE: 2}, Shade.ALL),
        ({MapState.FREE: 250, MapState.CONFLICT: 1}, MapState.CONFLICT),
        ({MapState.UNUSABLE: 256}, MapState.UNUSABLE),
    ],
)
def test_block_is_shaded_by_use_or_shows_a_conflict(counts: dict[MapState, int], look: object) -> None:
    assert look_of(Cells(0, 0, counts)) is look


def test_map_of_blocks_names_the_command_for_their_addresses() -> None:
    network = network_of("10.133.0.0/16")
    lines = printed(network, [row_of(network, f"10.133.33.{number}") for number in range(1, 255)])
    assert grid(lines)[2] == "10.133.32.0   ·▓······ ········ ········ ········"
    assert "Each cell is a /24, in use: · none in use  ░ up to 25 %  ▒ up to 50 %  ▓ more  █ all" in lines
    assert "Its addresses: kubectl yoshi ips map blue 10.133.33.0/24 -n prod" in lines
    assert "  used         254   allocated to a VM" in lines


def test_part_of_a_large_network_is_drawn_by_address() -> None:
    network = network_of("10.133.0.0/16")
    lines = printed(network, [row_of(network, "10.133.4.9")], "10.133.4.0/25")
    assert lines[0] == "prod/blue 10.133.4.0/25: 1 used, 127 free"
    assert grid(lines)[1] == "10.133.4.0   ········ ·█······ ········ ········"


def test_rows_without_use_of_a_very_large_network_are_left_out() -> None:
    network = network_of("10.0.0.0/8")
    rows = [row_of(network, address) for address in ("10.0.96.1", "10.1.0.1", "10.1.64.1", "10.200.0.1")]
    assert grid(printed(network, rows)) == [
        "            0        8        16       24",
        "10.0.0.0    ········ ········ ········ ········",
        "⋮           16,384 addresses, none in use",
        "10.0.96.0   ░······· ········ ········ ········",
        "⋮           32,768 addresses, none in use",
        "10.1.0.0    ░······· ········ ········ ········",
        "10.1.32.0   ········ ········ ········ ········",
        "10.1.64.0   ░······· ········ ········ ········",
        "⋮           13,017,088 addresses, none in use",
        "10.200.0.0  ░······· ········ ········ ········",
        "⋮           3,661,824 addresses, none in use",
    ]


def test_map_of_ipv6_shows_the_surroundings_of_addresses_in_use() -> None:
    network = network_of("fd00:133::/64")
    rows = [row_of(network, address) for address in ("fd00:133::5", "fd00:133::1:2f")]
    assert grid(printed(network, rows)) == [
        "                0        8        10       18",
        "fd00:133::      x····█·· ········ ········ ········",
        "⋮               65,536 addresses, none in use",
        "fd00:133::1:20  ········ ·······█ ········ ········",
        "⋮               1.84e+19 addresses, none in use",
    ]


def test_large_ipv6_network_with_scattered_use_has_blocks() -> None:
    network = network_of("fd00:133::/64")
    first = int(network.cidr[0])
    rows = [row_of(network, first + 64 * number + 1) for number in range(129)]
    lines = printed(network, rows)
    assert "Each cell is a /120, in use: · none in use  ░ up to 25 %  ▒ up to 50 %  ▓ more  █ all" in lines
    assert grid(lines)[1] == "fd00:133::      ░░░░░░░░ ░░░░░░░░ ░░░░░░░░ ░░░░░░░░"
    assert "Its addresses: kubectl yoshi ips map blue fd00:133::/120 -n prod" in lines


def test_addresses_outside_the_cidr_are_drawn_without_their_surroundings() -> None:
    network = network_of("203.0.113.0/29", plugin="public")
    rows = [row_of(network, address) for address in ("203.0.113.1", "203.0.114.34")]
    assert grid(printed(network, rows)) == [
        "              0",
        "203.0.113.0   x█·····x",
        "⋮",
        "203.0.114.32    █",
    ]
    without = network_of("", plugin="public")
    assert printed(without, [row_of(without, "203.0.114.34")])[:4] == [
        "prod/blue: 1 used",
        "",
        "              0",
        "203.0.114.32    █",
    ]
    assert printed(without, [])[0] == "prod/blue: no addresses"


@pytest.mark.parametrize(
    ("cidr", "used", "line"),
    [
        ("10.20.0.0/24", ["10.20.0.9"], "·░······························  8 addresses a cell"),
        ("10.20.0.16/28", ["10.20.0.20"], "x···█··········x  1 address a cell"),
        ("10.0.0.0/8", ["10.128.0.9"], "················░···············  524,288 addresses a cell"),
        ("fd00:133::/64", ["fd00:133::9"], "░·······························  5.76e+17 addresses a cell"),
    ],
)
def test_map_in_one_line_has_at_most_32_cells(cidr: str, used: list[str], line: str) -> None:
    network = network_of(cidr)
    assert one_line_map(build_address_map(network, [row_of(network, address) for address in used])) == line


def test_network_without_cidr_has_no_map_in_one_line() -> None:
    assert one_line_map(build_address_map(network_of("", plugin="public"), [])) == ""


def test_legend_is_documented_with_the_states() -> None:
    page = STATES_PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.)` \| (\w+) \| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE)
    assert [(glyph, label, meaning) for glyph, label, meaning, _ in rows] == [
        (style.glyph, style.label, style.meaning.replace("kubectl yoshi ips check", "`kubectl yoshi ips check`"))
        for style in STYLES.values()
    ]
    documented = {label: {*re.findall(r"`(\w+)`", states)} for _, label, _, states in rows}
    for state, style in STYLES.items():
        expected = {one.value for one, other in MAP_STATES.items() if other is state}
        assert documented[style.label] == expected | ({"Bound"} if state is MapState.HELD else set()), style.label


def channels(colour: str) -> list[float]:
    """Return the linear red, green and blue of an sRGB colour (IEC 61966-2-1)."""
    values = [int(colour[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2)."""
    dark, light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(channels, (one, other)))
    return (light + 0.05) / (dark + 0.05)


VISIONS = {
    "trichromacy": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
"""What each sees of linear red, green and blue: Machado, Oliveira and Fernandes (2009), severity 1."""


def seen(colour: str, vision: str) -> tuple[float, float, float]:
    """Return a colour in CIELAB, as it is seen."""
    linear = channels(colour)
    r, g, b = (min(max(sum(map(float.__mul__, map(float, row), linear)), 0), 1) for row in VISIONS[vision])
    x = (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    z = (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883
    fx, fy, fz = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def terminal_colour(number: int) -> str:
    """Return a colour of the 256 of xterm, from 16 on."""
    if number >= 232:
        return f"{8 + 10 * (number - 232):02X}" * 3
    cube = number - 16
    return "".join(f"{TERMINAL_STEPS[step]:02X}" for step in (cube // 36, cube // 6 % 6, cube % 6))


PALETTES = {
    "light": ([style.light for style in STYLES.values()], 18),
    "dark": ([style.dark for style in STYLES.values()], 18),
    "terminal": ([terminal_colour(style.terminal) for style in STYLES.values()], 12),
}
"""The colours, and the least difference (CIE76) of two of them; that of FREE, the first, is only of a dot."""


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("name", PALETTES)
def test_colours_are_distinguishable_by_every_vision(name: str, vision: str) -> None:
    (_, *colours), least = PALETTES[name]
    for one, other in combinations(colours, 2):
        difference = sum((a - b) ** 2 for a, b in zip(seen(one, vision), seen(other, vision), strict=True)) ** 0.5
        assert difference >= least, (one, other)


@pytest.mark.parametrize(("name", "background"), [("light", LIGHT_BACKGROUND), ("dark", DARK_BACKGROUND)])
def test_cells_contrast_with_the_background(name: str, background: str) -> None:
    for colour in PALETTES[name][0]:
        assert contrast(colour, background) >= 3, colour


def test_text_contrasts_with_the_background() -> None:
    assert contrast(LIGHT_TEXT, LIGHT_BACKGROUND) >= 7
    assert contrast(DARK_TEXT, DARK_BACKGROUND) >= 7
