"""Allocations: where an address's record is stored, and what it contains."""

from __future__ import annotations

import re
from ipaddress import ip_network
from itertools import islice
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubectl_yoshi.model import allocations as allocations_module
from kubectl_yoshi.model.addresses import Intervals, parse_address
from kubectl_yoshi.model.allocations import (
    RESERVATION,
    SHARD_SIZE,
    VIRTUALMACHINE,
    Allocation,
    Allocations,
    block_name,
    build_block,
    is_large,
    iter_shards,
    parse_allocation,
    shard_of,
)
from kubectl_yoshi.model.network import Network, parse_network

NAMES = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?){0,2}\Z")
LONG_NAMES = st.integers(180, 253).map(lambda length: ("very-long." * 30)[: length - 1] + "z")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def network(cidr: str, name: str = "blue", allocations: dict[str, Any] | None = None, **spec: Any) -> Network:
    status = {"status": {"allocations": allocations}} if allocations is not None else {}
    return parse_network(
        {
            "apiVersion": "plumber.k8s.pf9.io/v1",
            "kind": "NetworkWizard",
            "metadata": {"name": name, "namespace": "prod", "uid": "uid-blue"},
            "spec": {"plugin": "calico", "cidr": cidr, **spec},
            **status,
        }
    )


def cidrs(ipv4: tuple[int, int] = (8, 32), ipv6: tuple[int, int] = (48, 128)) -> st.SearchStrategy[str]:
    four = st.tuples(st.ip_addresses(v=4), st.integers(*ipv4))
    six = st.tuples(st.ip_addresses(v=6), st.integers(*ipv6))
    return (four | six).map(lambda pair: str(ip_network(pair, strict=False)))


def number(text: str) -> int:
    return int(parse_address(text))


@given(cidrs(), st.data())
def test_address_has_one_shard_of_at_most_256_addresses(cidr: str, data: st.DataObject) -> None:
    net = network(cidr)
    first, last = net.cidr_addresses.spans[0]
    here = data.draw(st.integers(first, last))
    shard = shard_of(net, here)
    assert shard.span[0] <= here <= shard.span[1]
    assert shard.span[1] - shard.span[0] < SHARD_SIZE
    assert shard.is_block == is_large(net) == (last - first >= SHARD_SIZE)
    assert shard.ref.namespace == "prod"
    other = data.draw(st.integers(first, last))
    assert (shard_of(net, other) == shard) == (shard.span[0] <= other <= shard.span[1])


def test_network_of_256_addresses_has_no_blocks() -> None:
    small = network("10.133.0.0/24")
    assert shard_of(small, number("10.133.0.77")).ref == small.ref
    assert shard_of(network("10.133.0.0/23"), number("10.133.1.77")).ref.name == "blue.10.133.1.0"
    assert shard_of(network("fd00::/64"), number("fd00::1:2ff")).ref.name == (
        "blue.fd00-0000-0000-0000-0000-0000-0001-0200"
    )


@given(NAMES | LONG_NAMES, cidrs((8, 23), (48, 119)), st.data())
def test_block_name_is_valid_in_kubernetes(name: str, cidr: str, data: st.DataObject) -> None:
    net = network(cidr, name)
    first, last = net.cidr_addresses.spans[0]
    shard = shard_of(net, data.draw(st.integers(first, last)))
    assert SUBDOMAIN.fullmatch(shard.ref.name)
    assert len(shard.ref.name) <= 253
    block = build_block(net, shard)
    assert block["metadata"]["name"] == shard.ref.name
    for label in block["metadata"]["labels"].values():
        assert LABEL_VALUE.fullmatch(label)


@given(LONG_NAMES, LONG_NAMES)
def test_block_names_of_two_networks_differ(one: str, other: str) -> None:
    assume(one != other)
    assert block_name(network("10.0.0.0/8", one), 0) != block_name(network("10.0.0.0/8", other), 0)


def test_block_refers_to_its_network_and_is_owned_by_it() -> None:
    net = network("10.133.0.0/16")
    block = build_block(net, shard_of(net, number("10.133.4.9")))
    assert block["spec"] == {"network": "blue", "networkUID": "uid-blue", "first": "10.133.4.0", "size": 256}
    (owner,) = block["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("NetworkWizard", "blue", "uid-blue")
    assert owner["blockOwnerDeletion"] is False
    assert block["metadata"]["namespace"] == "prod"


@given(cidrs((14, 32), (110, 128)), st.data())
def test_iter_shards_yields_every_usable_shard_once_from_the_start(cidr: str, data: st.DataObject) -> None:
    net = network(cidr)
    start = data.draw(st.integers(*net.cidr_addresses.spans[0]))
    shards = list(iter_shards(net, start))
    assert len(shards) == len(set(shards))
    if is_large(net):
        assert Intervals.from_spans(shard.span for shard in shards) & net.cidr_addresses == net.cidr_addresses
        assert len(shards) == net.cidr_addresses.size // SHARD_SIZE
        assert shards[0] == shard_of(net, start)
        assert [shard.span for shard in shards] == sorted(
            (shard.span for shard in shards), key=lambda span: (span[1] < start, span)
        )
    else:
        assert [shard.ref for shard in shards] == [net.ref]


def test_iter_shards_skips_unusable_shards() -> None:
    net = network(
        "10.133.0.0/16", range_start="10.133.2.250", range_end="10.133.6.1", exclude=["10.133.4.0/24", "10.133.5.7"]
    )
    for start, expected in (("10.133.0.0", "2356"), ("10.133.4.9", "5623"), ("10.133.7.0", "2356")):
        found = [shard.ref.name for shard in iter_shards(net, number(start))]
        assert found == [f"blue.10.133.{third}.0" for third in expected]


@pytest.mark.parametrize(
    "cidr", ["10.133.0.0/22", "10.0.0.0/8", "0.0.0.0/0", "fd00:133::/112", "fd00:133::/64", "fd00::/48"]
)
def test_iter_shards_is_lazy(cidr: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    original_shelf_of = allocations_module.shard_of

    def counting_shelf_of(net: Network, here: int) -> Any:
        nonlocal asked
        asked += 1
        return original_shelf_of(net, here)

    monkeypatch.setattr(allocations_module, "shard_of", counting_shelf_of)
    middle = sum(network(cidr).cidr_addresses.spans[0]) // 2
    assert len(list(islice(iter_shards(network(cidr), middle), 3))) == 3
    assert asked == 3


def test_legacy_allocation_is_a_vm_name_in_the_network_namespace() -> None:
    record = parse_allocation("web-1", "prod")
    assert (record.kind, record.namespace, record.name, record.uid) == (VIRTUALMACHINE, "prod", "web-1", "")
    assert record.as_written == "web-1"
    assert record.holder == "prod/web-1"


WORDS = st.text(max_size=5)


@given(st.sampled_from([VIRTUALMACHINE, RESERVATION]), WORDS, WORDS, WORDS, WORDS, WORDS, WORDS)
def test_allocation_round_trip(kind: str, namespace: str, name: str, uid: str, mac: str, since: str, note: str) -> None:
    record = Allocation(kind, namespace, name, uid, mac, since, note)
    value = record.to_json()
    read = parse_allocation(value, "elsewhere")
    assert read.as_written == value
    assert Allocation(kind, read.namespace, read.name, read.uid, read.mac, read.since, read.note) == record
    assert "" not in value.values()


def test_reservation_holder_has_its_note() -> None:
    assert Allocation(RESERVATION, "prod", "", note="the printer").holder == "reserved (the printer)"
    assert Allocation(RESERVATION, "prod", "").holder == "reserved"
    assert Allocation(RESERVATION, "prod", "joe").owner == ""


def opened(net: Network) -> Allocations:
    return Allocations(net, {shard_of(net, 0): net.raw})


def test_invalid_address_keys_are_ignored() -> None:
    allocations = {
        "10.133.0.10": "web-1",
        "10.134.0.10": "web-2",
        "fd00::1": "web-3",
        "": "web-4",
        "not-an-address": "web-5",
        "10.133.0.999": "web-6",
    }
    records = opened(network("10.133.0.0/24", allocations=allocations)).records()
    assert {key: record.name for key, record in records.items()} == {number("10.133.0.10"): "web-1"}


def test_address_is_found_under_its_stored_key() -> None:
    allocations = {"fd00:0:0::0A": {"kind": VIRTUALMACHINE, "name": "web-1"}, "fd00::b": "web-2"}
    loaded = opened(network("fd00::/120", allocations=allocations))
    assert {str(loaded.address(key)): record.name for key, record in loaded.records().items()} == {
        "fd00::a": "web-1",
        "fd00::b": "web-2",
    }
    assert loaded.key_of(number("fd00::a")) == "fd00:0:0::0A"
    assert loaded.key_of(number("fd00::b")) == "fd00::b"
    assert loaded.key_of(number("fd00::c")) == "fd00::c"


@given(st.sets(st.integers(0, 255)), st.integers(0, 255))
def test_allocations_have_their_stored_keys(members: set[int], other: int) -> None:
    allocations = {f"10.133.0.{member}": f"vm-{member}" for member in members}
    loaded = opened(network("10.133.0.0/24", allocations=allocations))
    for key, record in loaded.records().items():
        assert allocations[loaded.key_of(key)] == record.as_written
    assert len(loaded.records()) == len(members)
    assert loaded.key_of(number("10.133.0.0") + other) == f"10.133.0.{other}"


def test_network_without_a_cidr_accepts_both_families() -> None:
    cluster = parse_network(
        {
            "apiVersion": "plumber.k8s.pf9.io/v1",
            "kind": "NetworkWizard",
            "metadata": {"name": "world", "namespace": "prod", "uid": "u"},
            "spec": {"plugin": "public"},
            "status": {"allocations": {"207.97.241.196": "web-1", "2001:db8::7": "web-2"}},
        }
    )
    loaded = opened(cluster)
    assert sorted(str(loaded.address(key)) for key in loaded.records()) == ["2001:db8::7", "207.97.241.196"]
