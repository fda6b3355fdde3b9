"""Maps as SVG and HTML: one file without scripts, each address drawn once, texts for pointers and screen readers."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.output.address_map_html import to_html
from kubectl_yoshi.output.address_map_svg import to_svg
from kubectl_yoshi.plan.address_map import AddressMap, MapState, build_address_map
from tests.address_maps import SINCE, network_of, row_of
from tests.unit.plan.test_address_map import populated
from tests.unit.plan.test_planning_cost import steps

NOW = datetime.fromisoformat(SINCE.replace("Z", "+00:00")) + timedelta(days=3, hours=4)
SVG = "{http://www.w3.org/2000/svg}"
FORMATS: dict[str, Callable[[AddressMap, datetime], str]] = {"svg": to_svg, "html": to_html}
EVIL = '</title><script>alert(1)</script>"\x1b[31m\u202e & <b>'


def small_map() -> AddressMap:
    """Return a map of a /24 with every state."""
    network = network_of("10.20.0.0/24", gateway="10.20.0.1")
    rows = [
        row_of(network, "10.20.0.2"),
        row_of(network, "10.20.0.3", running=False),
        row_of(network, "10.20.0.9", AddressState.RESERVED, note="printer"),
        row_of(network, "10.20.0.10", AddressState.UNRECORDED),
        row_of(network, "10.20.0.11", AddressState.CONFLICT),
        row_of(network, "10.20.0.64", AddressState.RELEASED),
    ]
    return build_address_map(network, rows)


def cells_of(svg: str) -> list[tuple[dict[str, int], str, str]]:
    """Return the place, the look and the tooltip of each rectangle with a tooltip."""
    found = []
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None:
            place = {name: int(rect.attrib[name]) for name in ("x", "y", "width", "height")}
            found.append((place, rect.attrib["fill"], title.text or ""))
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_file_needs_no_scripts_and_no_other_files(name: str) -> None:
    text = FORMATS[name](small_map(), NOW)
    assert not re.search(r"<script|javascript:|\bon\w+=|<link|<img|@import|<iframe|<object|\bsrc=|href=", text)
    assert re.findall(r"url\((?!#)", text) == []
    assert {*re.findall(r"https?://[^\"]*", text)} == {"http://www.w3.org/2000/svg"}


def test_every_cell_of_a_picture_is_drawn_once() -> None:
    svg = to_svg(small_map(), NOW)
    drawn = [
        (x, y)
        for place, _, _ in cells_of(svg)
        for x in range(place["x"], place["x"] + place["width"], 22)
        for y in range(place["y"], place["y"] + place["height"], 22)
    ]
    assert sorted(drawn) == [(22 * column, 22 * row) for column in range(16) for row in range(16)]


def test_picture_uses_a_pattern_for_each_state() -> None:
    svg = to_svg(small_map(), NOW)
    patterns = {f"url(#{name})" for name in re.findall(r'<pattern id="([\w-]+)"', svg)}
    assert {look for _, look, _ in cells_of(svg)} == patterns
    assert len(patterns) == len(MapState)


def test_tooltips_have_holder_and_age() -> None:
    texts = {text for _, _, text in cells_of(to_svg(small_map(), NOW))}
    assert {
        "10.20.0.0: unusable (it is the network or broadcast address)",
        "10.20.0.1: unusable (it is the gateway)",
        "10.20.0.2: used, prod/web-1, age 3d4h",
        "10.20.0.3: held, prod/web-1, age 3d4h",
        "10.20.0.4-10.20.0.8: free",
        "10.20.0.9: reserved, reserved (printer), age 3d4h",
        "10.20.0.64: held",
        "10.20.0.65-10.20.0.254: free",
    } < texts


def test_tooltips_of_blocks_have_their_totals() -> None:
    network = network_of("10.133.0.0/16")
    rows = [row_of(network, "10.133.33.7"), row_of(network, "10.133.33.9", AddressState.RESERVED)]
    texts = {text for _, _, text in cells_of(to_svg(build_address_map(network, rows), NOW))}
    assert texts == {
        "10.133.0.0/24: 1 unusable, 255 free",
        "10.133.1.0-10.133.32.255: 256 free in each of 32 blocks",
        "10.133.33.0/24: 254 free, 1 used, 1 reserved",
        "10.133.34.0-10.133.254.255: 256 free in each of 221 blocks",
        "10.133.255.0/24: 255 free, 1 unusable",
    }


def test_blocks_are_filled_by_use_in_the_full_colour() -> None:
    svg = to_svg(build_address_map(network_of("10.0.0.0/8"), []), NOW)
    assert "opacity" not in svg
    shares = re.findall(r'<pattern id="use-\w+" [^>]*><rect [^>]*height="([\d.]+)" class="used"/>', svg)
    assert [float(share) for share in shares] == [1, 1.5, 2.25, 3]


@pytest.mark.parametrize("name", FORMATS)
def test_screen_readers_find_title_and_totals(name: str) -> None:
    text = FORMATS[name](small_map(), NOW)
    assert re.search(r'<svg [^>]*role="img" aria-labelledby="map-title" aria-describedby="map-totals">', text)
    assert '<title id="map-title">Map of network prod/blue 10.20.0.0/24</title>' in text
    totals = "1 used, 2 held, 1 reserved, 1 unmanaged, 1 conflict, 3 unusable, 247 free; 256 addresses."
    assert f'<desc id="map-totals">{totals} Each cell is one address.</desc>' in text


@pytest.mark.parametrize("name", FORMATS)
def test_file_has_colours_for_light_and_dark(name: str) -> None:
    assert "@media (prefers-color-scheme:dark){" in FORMATS[name](small_map(), NOW)


@pytest.mark.parametrize("name", FORMATS)
def test_texts_of_others_are_escaped(name: str) -> None:
    network = network_of("10.20.0.0/24")
    rows = [row_of(network, "10.20.0.9", AddressState.RESERVED, note=EVIL)]
    text = FORMATS[name](build_address_map(network, rows), NOW)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "&lt;/title&gt;&lt;script&gt;alert(1)" in text
    ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


@pytest.mark.parametrize("name", FORMATS)
def test_network_without_addresses_has_an_empty_picture(name: str) -> None:
    text = FORMATS[name](build_address_map(network_of("", plugin="public"), []), NOW)
    assert '<desc id="map-totals">no addresses; 0 addresses.' in text


def test_addresses_outside_the_cidr_are_below_a_mark() -> None:
    network = network_of("203.0.113.0/28", plugin="public")
    svg = to_svg(build_address_map(network, [row_of(network, "203.0.114.34")]), NOW)
    assert [place["x"] for place, _, text in cells_of(svg) if "203.0.114.34" in text] == [44]
    labels = [text.strip() for text in re.findall(r"<text [^>]*>([^<]*)</text>", svg)]
    assert labels[labels.index("203.0.113.0") :][:3] == ["203.0.113.0", "⋮", "203.0.114.32"]


class Rows(HTMLParser):
    """The cells of each table row of a page, and the elements that are not closed in order.

    Attributes:
        rows: the texts of the cells.
        open: the elements that are not closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_page_has_a_legend_with_totals_and_a_table_of_addresses() -> None:
    parser = Rows()
    parser.feed(to_html(small_map(), NOW))
    assert parser.open == []
    assert ["", "held", "2", "for a stopped or deleted VM, or cooling down"] in parser.rows
    assert parser.rows[-6:-3] == [
        ["10.20.0.2", "used", "prod/web-1", "3d4h"],
        ["10.20.0.3", "held", "prod/web-1", "3d4h"],
        ["10.20.0.9", "reserved", "reserved (printer)", "3d4h"],
    ]


def test_page_of_blocks_has_no_table_of_addresses() -> None:
    network = network_of("10.133.0.0/16")
    text = to_html(build_address_map(network, [row_of(network, "10.133.33.7")]), NOW)
    assert "<details>" not in text
    assert "Each cell is a /24, in use" in text


@pytest.mark.parametrize(("cidr", "columns"), [("10.0.0.0/8", 256), ("10.0.0.0/12", 64), ("10.0.0.0/20", 64)])
def test_picture_is_about_square(cidr: str, columns: int) -> None:
    svg = to_svg(build_address_map(network_of(cidr), []), NOW)
    places = [place for place, _, _ in cells_of(svg)]
    cell = min(place["width"] for place in places)
    right = max(place["x"] + place["width"] for place in places)
    bottom = max(place["y"] + place["height"] for place in places)
    assert (right // cell, bottom // cell) == (columns, columns)


def drawing_steps(cidr: str, count: int) -> int:
    network, numbers = populated(cidr, count)
    address_map = build_address_map(network, [row_of(network, number) for number in numbers])
    return steps(lambda: to_svg(address_map, NOW))


@pytest.mark.I9
def test_steps_of_drawing_do_not_grow_with_the_network() -> None:
    """Besides the labels of the rows: 64 of a /8."""
    assert drawing_steps("10.0.0.0/8", 60) <= drawing_steps("10.0.0.0/12", 60) * 1.2


@pytest.mark.I9
def test_steps_of_drawing_grow_linearly_with_the_addresses_in_use() -> None:
    assert drawing_steps("10.0.0.0/8", 160) <= 4 * drawing_steps("10.0.0.0/8", 40) * 1.1
