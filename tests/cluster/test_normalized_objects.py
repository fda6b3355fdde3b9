"""Every changing command of every backend on an API server that normalizes objects.

What it shows (tests/unit/normalization.py) is without what is false or empty, has defaults added, lists in another
order and IPv6 in another form. Each command is run twice: the second run must say so and change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.backends.metallb import objects as metallb
from kubectl_yoshi.backends.ovs.spec import DHCPSERVER, NAD, TEMPLATE
from kubectl_yoshi.kube.connection import HttpRequest
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource, name_of
from kubectl_yoshi.model.vm import VM
from lab.testing import Cluster
from tests.cluster import shared_bgp
from tests.cluster.assertions import assert_state, check_success, raise_first
from tests.cluster.command_fixture import CommandFixture, open_fixtures_with_foreign_bgp, side_by_side
from tests.cluster.fault_scenarios import SCENARIOS, commands, delete_allocations
from tests.cluster.normalizing_server import NormalizingServer
from tests.cluster.seeded_fault_proxy import FaultSchedule
from tests.unit.normalization import normalized

pytestmark = pytest.mark.I7

FIXTURE_NUMBERS = range(50, 55)
MADE = (
    RAW.pool, RAW.bgp_peer, NAD, TEMPLATE, DHCPSERVER,
    metallb.POOL, metallb.L2_ADVERTISEMENT, metallb.BGP_ADVERTISEMENT, metallb.PEER,
)  # fmt: skip
"""What is made for networks and shown otherwise, besides BGPConfiguration."""

V4, V6 = "{ip}.0.0/24", "fd00:{n}::/120"
BGP = " --my-asn 64512 --remote-asn 64514 --peer {ip}.200.1 --peer {ip}.200.2"
BGP_6 = " --my-asn 64512 --remote-asn 64514 --peer fd00:{n}:ff::1 --node-selector rack=1"
KINDS = {
    "calico": f"--cidr {V4}",
    "calico, all else false": f"--cidr {V4} --live-migration",
    "calico IPv6": f"--cidr {V6} --no-nat-outgoing",
    "ovs": f"--plugin ovs --cidr {V4} --bridge br{{n}} --uplink eth{{n}} --vlan 20 --mtu 1400 --node-selector a=1,b=2",
    "ovs IPv6": f"--plugin ovs --cidr {V6} --bridge br{{n}} --uplink eth{{n}} --no-dhcp",
    "metallb-l2": (
        f"--plugin public --cidr {V4} --announce metallb-l2 --announce-interface eth0 --announce-interface eth1"
    ),
    "metallb-l2 IPv6": f"--plugin public --cidr {V6} --announce metallb-l2",
    "metallb-bgp": f"--plugin public --cidr {V4} --announce metallb-bgp{BGP} --node-selector rack=1",
    "metallb-bgp IPv6": f"--plugin public --cidr {V6} --announce metallb-bgp{BGP_6}",
    "calico-bgp": f"--plugin public --cidr {V4} --announce calico-bgp{BGP}",
    "calico-bgp IPv6": f"--plugin public --cidr {V6} --announce calico-bgp{BGP_6}",
    "calico-bgp by external IPs": f"--plugin public --cidr {V4} --announce calico-bgp --via external-ips{BGP}",
}
"""Kind of network -> the flags that make one."""

COURSE = (
    "network create it {flags}",
    "vm attach web-1 web-2 --{kind} it",
    "ips reserve it {address}7 {address}8 --note printer",
    "ips move {address}1 --to web-3",
    "vm detach web-2 --{kind} it",
    "ips release it {address}7",
    "ips reserve it {address}9 --for vm/web-2",
    "vm attach web-2 --{kind} it",
    "vm detach web-2 --{kind} it --keep",
    "ips import --network it -f {tmp}/ports.csv",
    "sync",
    "ips rebuild --yes",
    "ips gc --grace 0s --yes",
    "network update it --max-addresses-per-namespace 200",
    "network delete it --force --yes",
)
"""Every command that changes a network's objects, in an order in which each has something to do."""


def delete_what_was_made(fixture: CommandFixture) -> None:
    """One of the network's objects is gone: `sync` recreates it."""
    resource, obj = next(made_for(fixture))
    fixture.api.delete(resource.ref(name_of(obj), obj["metadata"].get("namespace")))


def delete_holder(fixture: CommandFixture) -> None:
    """A VM that has an address is gone."""
    fixture.api.delete(VM.ref("web-2", fixture.namespace))


BEFORE: dict[str, Callable[[CommandFixture], None]] = {
    "sync": delete_what_was_made,
    "ips rebuild": delete_allocations,
    "ips gc": delete_holder,
}
PUBLIC_ONLY = "ips move"


def made_for(fixture: CommandFixture) -> Iterator[tuple[Resource, Json]]:
    """What was made for a fixture's networks."""
    for resource in MADE:
        for obj in fixture.api.list(resource):
            if fixture.namespace in str(obj):
                yield resource, obj


@pytest.fixture(scope="module")
def fixtures(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[CommandFixture]]:
    with open_fixtures_with_foreign_bgp(installed, FIXTURE_NUMBERS, tmp_path_factory.mktemp("fixtures")) as found:
        for fixture in found:
            fixture.proxy.shows = NormalizingServer(fixture.proxy.upstream)
        yield found


@dataclass
class RepeatedCommand:
    """The commands of one kind of network, each run twice.

    Attributes:
        name: the kind.
        fixture: where they are run.
        before: what there is before the network is created, "kind name".
        made: what creating it has made.
    """

    name: str
    fixture: CommandFixture
    before: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()

    def run(self) -> None:
        """All of them; nothing is left then."""
        self.fixture.clear()
        self.before = frozenset(self.versions())
        (self.fixture.folder / "ports.csv").write_text(
            f"name,address,mac,namespace\nweb-2,{self.words('{address}9')}\n"
        )
        for command in COURSE:
            if not command.startswith(PUBLIC_ONLY) or self.is_public:
                self.twice(command)
        assert self.versions().keys() & self.made == set()

    @property
    def is_public(self) -> bool:
        return "public" in KINDS[self.name]

    def words(self, text: str) -> str:
        """A command line of the sequence for this kind."""
        named = {
            "{flags}": KINDS[self.name],
            "{kind}": "public-network" if self.is_public else "network",
            "{address}": "fd00:{n}::" if V6 in KINDS[self.name] else "{ip}.0.",
        }
        for word, instead in named.items():
            text = text.replace(word, instead)
        return self.fixture.words(text)

    def twice(self, command: str) -> None:
        """A command by the proxy; and once more, which changes nothing."""
        first = next(word for word in commands() if command.startswith(word))
        if first in BEFORE:
            BEFORE[first](self.fixture)
        schedule, again = FaultSchedule(), FaultSchedule()
        ran = self.fixture.run(self.words(command), schedule)
        assert ran.code == 0, f"{self.name}: {ran}"
        assert schedule.writes, f"{self.name}: it has changed nothing: {ran}"
        versions = self.versions()
        if command.startswith("network create"):
            self.made = frozenset(versions.keys() - self.before)
            assert len(self.made) > 1, self.name
        ran = self.fixture.run(self.words(command), again)
        check_success(ran)
        assert again.writes == [], f"{self.name}: {ran}"
        assert_state(self.versions(), versions, f"{self.name}: once more has changed something: {ran}")

    def versions(self) -> dict[str, str]:
        """ "kind name" -> resourceVersion, of everything that is this fixture's."""
        found = self.fixture.versions()
        for resource, obj in made_for(self.fixture):
            found[f"{resource.kind} {name_of(obj)}"] = obj["metadata"]["resourceVersion"]
        return found


def test_second_run_of_every_command_changes_nothing_for_every_backend(fixtures: list[CommandFixture]) -> None:
    wrong = side_by_side(
        fixtures, [partial(lambda name, fixture: RepeatedCommand(name, fixture).run(), name) for name in KINDS]
    )
    raise_first(wrong)
    there = fixtures[0].api.get(shared_bgp.REF)  # what another client has written there, in whatever order
    theirs = {**there, "spec": dict(shared_bgp.THEIRS)}
    assert normalized(there, "bgpconfigurations") == normalized(theirs, "bgpconfigurations")
    assert there["metadata"]["annotations"] == {"example.com/theirs": "stay"}


def test_field_dropped_by_the_server_is_named_and_the_command_rolls_back(
    fixtures: list[CommandFixture],
) -> None:
    fixture, schedule = fixtures[0], FaultSchedule()
    fixture.clear()
    assert fixture.proxy.shows is not None
    fixture.proxy.shows.drops = ("natOutgoing",)
    try:
        ran = fixture.run(fixture.words(f"network create it --cidr {V4}"), schedule)
    finally:
        fixture.proxy.shows.drops = ()
    assert ran.code == 1, str(ran)
    assert f"ippool/{fixture.namespace}.it: the API server does not store spec.natOutgoing" in ran.err
    assert sum(schedule.asked[request] for request in schedule.writes) < 10, schedule.asked
    assert list(made_for(fixture)) == []
    assert list(fixture.api.list(NETWORKWIZARD, fixture.namespace)) == []


def test_every_changing_command_is_covered() -> None:
    changing = {scenario.name for scenario in SCENARIOS.values() if not scenario.looks}
    tried = {name for name in commands() for command in COURSE if command.startswith(name)}
    assert changing - tried == {"install"}


def test_normalizing_server_normalizes_objects_and_drops_false_fields(
    fixtures: list[CommandFixture],
) -> None:
    fixture = fixtures[0]
    fixture.clear()
    assert fixture.run(fixture.words("network create it --cidr fd00:{n}::/120"), FaultSchedule()).code == 0
    ref = RAW.pool.ref(f"{fixture.namespace}.it")
    raw = fixture.api.get(ref)
    assert raw["spec"]["disabled"] is False
    path = RAW.pool.path(name=ref.name)
    test, add = ({"op": op, "path": "/spec/disabled", "value": value} for op, value in (("test", None), ("add", False)))
    ops, wrong = json.dumps([test, add]).encode(), json.dumps([{**test, "value": False}]).encode()
    headers = {"Content-Type": "application/json-patch+json", "Accept": "application/json"}
    assert fixture.proxy.shows is not None
    for _ in range(2):
        shown: Json = json.loads(fixture.proxy.shows.send(HttpRequest("PATCH", path, headers, ops)).data)
        assert "disabled" not in shown["spec"]
        assert shown["spec"]["cidr"].startswith("FD00:0")
        assert shown["spec"]["namespaceSelector"] == "all()"
    assert fixture.proxy.shows.send(HttpRequest("PATCH", path, headers, wrong)).status == 422
