"""The page of a map in a browser: it fits narrow and wide screens, and what is below the pointer names the holder."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kubectl_yoshi.model.address_state import AddressState
from kubectl_yoshi.model.network import Network
from kubectl_yoshi.output.address_map_html import to_html
from kubectl_yoshi.output.address_map_svg import to_svg
from kubectl_yoshi.output.map_style import DARK_BACKGROUND, LIGHT_BACKGROUND, STYLES
from kubectl_yoshi.plan.address_map import AddressMap, MapState, build_address_map
from tests.address_maps import SINCE, network_of, row_of
from tests.unit.output.browser import Browser, find_browser, new_browser

NOW = datetime.fromisoformat(SINCE.replace("Z", "+00:00")) + timedelta(days=9)
WIDTHS = (360, 1440)
SCHEMES = {"light": LIGHT_BACKGROUND, "dark": DARK_BACKGROUND}
LONG_NAME = "a-virtual-machine-with-a-name-that-is-as-long-as-kubernetes-allows"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("needs Chromium")
    with new_browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


def map_of(network: Network) -> AddressMap:
    """Return the map of a network with the fifth address held by a VM, and the tenth reserved."""
    first = network.usable.spans[0][0]
    rows = [
        row_of(network, first + 4, holder=LONG_NAME),
        row_of(network, first + 9, AddressState.RESERVED, note="printers of the second floor, not to be used " * 4),
    ]
    return build_address_map(network, rows)


MAPS = {
    cidr: map_of(network_of(cidr)) for cidr in ("10.20.0.0/24", "10.20.0.0/20", "10.0.0.0/8", "fd00:133:1234:5678::/64")
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each map."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for number, (cidr, address_map) in enumerate(MAPS.items()):
        found[cidr] = folder / f"{number}.html"
        found[cidr].write_text(to_html(address_map, NOW), encoding="utf-8")
    return found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("cidr", MAPS)
def test_page_fits_the_screen(browser: Browser, pages: dict[str, Path], cidr: str, width: int) -> None:
    browser.open(pages[cidr], width)
    assert browser.evaluate("innerWidth") == width
    for opened in ("false", "true"):  # the table of addresses
        browser.evaluate(f"document.querySelectorAll('details').forEach(d => d.open = {opened})")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("document.body.getBoundingClientRect().right") <= width
    shown = browser.evaluate("(r => [r.width, r.height])(document.querySelector('.map svg').getBoundingClientRect())")
    assert shown[0] >= 250
    assert shown[1] >= 20


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("cidr", ["10.20.0.0/24", "fd00:133:1234:5678::/64"])
def test_pointer_on_a_cell_shows_holder_and_age(
    browser: Browser, pages: dict[str, Path], cidr: str, width: int
) -> None:
    browser.open(pages[cidr], width)
    address_map = MAPS[cidr]
    used = next(run for run in address_map.runs if run.state is MapState.USED)
    address = address_map.network.address(used.first)
    found = browser.evaluate(
        f"""(() => {{
          const cell = [...document.querySelectorAll('.map rect')]
            .find(r => r.textContent.startsWith('{address}:'));
          cell.scrollIntoView();
          const box = cell.getBoundingClientRect();
          const below = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
          return [box.width, below === cell, below.querySelector('title').textContent];
        }})()"""
    )
    assert found[0] >= 5
    assert found[1:] == [True, f"{address}: used, prod/{LONG_NAME}, age 9d"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_colours_follow_the_scheme_of_the_system(browser: Browser, pages: dict[str, Path], scheme: str) -> None:
    browser.open(pages["10.20.0.0/24"], 1440, scheme)
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == rgb(SCHEMES[scheme])
    for state, style in STYLES.items():
        selector = f".map pattern#{style.label} *"
        property_name = "stroke" if state in (MapState.HELD, MapState.UNUSABLE) else "fill"
        colour = browser.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{property_name}")
        assert colour == rgb(style.dark if scheme == "dark" else style.light), state


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[start : start + 2], 16)) for start in (0, 2, 4))})"


def test_browser_names_the_picture_by_its_title_and_totals(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["10.20.0.0/24"], 1440)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    [image] = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img")]
    assert image["name"]["value"] == "Map of network prod/blue 10.20.0.0/24"
    assert image["description"]["value"].startswith("1 used, 1 reserved, 2 unusable, 252 free; 256 addresses.")


def test_picture_alone_is_shown_in_its_size(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "map.svg"
    file.write_text(to_svg(MAPS["10.20.0.0/24"], NOW), encoding="utf-8")
    browser.open(file, 1440)
    assert browser.evaluate("document.documentElement.tagName") == "svg"
    assert browser.evaluate("document.documentElement.getBoundingClientRect().width") < 600
