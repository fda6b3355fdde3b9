"""An address in cloud-init network data: written, found again, taken out, and all else kept."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubectl_yoshi.backends.ovs.cloud_init import GuestAddress, remove_from_network_data, set_in_network_data
from kubectl_yoshi.model.errors import PreconditionFailed

MAC = "02:00:00:00:00:07"
WANTED = GuestAddress("lab", MAC, ip_address("10.20.0.42"), 24, ip_address("10.20.0.1"))

NAMES = st.text("abc", min_size=1, max_size=3)
OTHERS = st.dictionaries(NAMES, st.fixed_dictionaries({"dhcp4": st.booleans()}), max_size=3)


def written(text: str, first: bool = True, wanted: GuestAddress = WANTED) -> Any:
    return yaml.safe_load(set_in_network_data(text, wanted, first))


@pytest.mark.parametrize("under", [False, True])
@given(ethernets=OTHERS, rest=st.dictionaries(NAMES, st.integers(), max_size=2))
def test_existing_version_2_data_is_preserved(under: bool, ethernets: dict[str, Any], rest: dict[str, Any]) -> None:
    inner = {**rest, "version": 2, "ethernets": ethernets}
    before = {"network": inner} if under else inner
    text = yaml.safe_dump(before)
    after = written(text)
    inside = after["network"] if under else after
    assert inside == {**inner, "ethernets": {**ethernets, "yoshi-lab": inside["ethernets"]["yoshi-lab"]}}
    assert inside["ethernets"]["yoshi-lab"]["addresses"] == ["10.20.0.42/24"]
    again = set_in_network_data(text, WANTED, True)
    assert set_in_network_data(again, WANTED, True) == again
    assert yaml.safe_load(remove_from_network_data(again, MAC)) == before
    assert remove_from_network_data(text, MAC) == text


def test_new_address_replaces_the_former() -> None:
    text = set_in_network_data("", WANTED, False)
    other = GuestAddress("lab", MAC, ip_address("10.20.0.43"), 24)
    assert written(text, wanted=other) == {
        "version": 2,
        "ethernets": {"yoshi-lab": {"match": {"macaddress": MAC}, "addresses": ["10.20.0.43/24"]}},
    }


@pytest.mark.parametrize("first", [True, False])
def test_new_network_data_keeps_dhcp_on_the_first_interface(first: bool) -> None:
    found = written("", first=first)["ethernets"]
    assert ("enp1s0" in found) == first


@pytest.mark.parametrize("text", ["[1]", "a: [", "just words"])
def test_invalid_network_data_is_refused_and_unchanged(text: str) -> None:
    with pytest.raises(PreconditionFailed):
        set_in_network_data(text, WANTED, True)
    assert remove_from_network_data(text, MAC) == text
