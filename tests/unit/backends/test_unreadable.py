"""`network describe` where nothing of a backend may be read: unknown, never absent."""

from __future__ import annotations

from typing import Any

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import CONFIGMAP, DHCPSERVER, HOST, NAD, TEMPLATE
from kubectl_yoshi.backends.registry import BACKENDS
from kubectl_yoshi.model.network import parse_network
from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.snapshot import MissingQueriesError, Snapshot, Unreadable
from tests.unit.plan.fake_api import served

SERVED = served(
    (
        RAW.pool, RAW.information, RAW.bgp_configuration, RAW.bgp_peer, NAD, TEMPLATE, HOST, DHCPSERVER, CONFIGMAP,
        metallb.POOL, metallb.PEER, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT,
    )
)  # fmt: skip
BGP: Json = {"bgpConfig": {"peers": "10.240.0.5", "myASN": 64512, "remoteASN": 64999}}
SPECS: dict[str, tuple[Json, int]] = {
    "calico": ({"plugin": "calico"}, 1),
    "ovs": ({"plugin": "ovs", "ovs": {"bridge": "br-ext", "nic": "eth1"}, "gateway": "10.20.0.1"}, 4),
    "metallb-l2": ({"plugin": "public"}, 1),
    "metallb-bgp": ({"plugin": "public", "public": {"announce": "metallb-bgp"}, **BGP}, 2),
    "calico-bgp": ({"plugin": "public", "public": {"announce": "calico-bgp"}, **BGP}, 2),
}


def described(spec: Json, answer: Any) -> str:
    """What `network describe` adds, where every read is answered like that."""
    one = parse_network(
        {"metadata": {"name": "red", "namespace": "team-a", "uid": "1"}, "spec": {"cidr": "10.20.0.0/24", **spec}}
    )
    snapshot = Snapshot(SERVED)
    while True:
        try:
            rows = BACKENDS[one.plugin].describe(one, snapshot)
        except MissingQueriesError as more:
            snapshot = snapshot.with_results(dict.fromkeys(more.queries, answer))
        else:
            return "\n".join(f"{label}: {value}" for label, value in rows)


@pytest.mark.parametrize("name", SPECS)
def test_unreadable_objects_are_not_described_as_missing(name: str) -> None:
    spec, unread = SPECS[name]
    shown = described(spec, Unreadable("may not list anything"))
    assert "missing" not in shown
    assert shown.count("cannot be read") == unread, shown


@pytest.mark.parametrize("name", SPECS)
def test_absent_objects_are_described_as_missing(name: str) -> None:
    shown = described(SPECS[name][0], ())
    assert "missing" in shown
    assert "cannot be read" not in shown


@pytest.mark.parametrize("name", ["metallb-bgp", "calico-bgp"])
def test_peer_is_described_with_its_asn(name: str) -> None:
    assert "Peer: 10.240.0.5 (AS 64999): missing" in described(SPECS[name][0], ())
