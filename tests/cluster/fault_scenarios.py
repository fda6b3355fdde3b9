"""The scenarios of the fault tests: commands, and the state before each. Every command of the program has one.

tests/unit/harness/test_fault_scenarios.py checks that by the program's own table of commands, except for those that
have nothing to do with a cluster.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import click

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, name_of
from kubectl_yoshi.model.vm import VM
from tests.cluster.command_fixture import CommandFixture

NETWORK_NAME = "plumber.k8s.pf9.io/networkName"

BLUE = "network create blue --cidr {ip}.0.0/28"
BIG = "network create big --cidr {ip}.16.0/20"
WIDE = "network create wide --cidr {ip}.24.0/24"
PUB = "network create pub --plugin public --cidr {ip}.9.0/28"
BGP = (
    "network create bgp --plugin public --cidr {ip}.8.0/28 --announce calico-bgp"
    " --peer {ip}.200.1 --my-asn 64512 --remote-asn 64514"
)
ELASTIC = "network create elastic --plugin public"
"""Without a CIDR: addresses of it are requested by name."""
ELASTIC_BGP = (
    "network create elastic --plugin public --announce calico-bgp --peer {ip}.200.1 --my-asn 64512 --remote-asn 64514"
)
LAN = "network create lan --plugin ovs --cidr {ip}.20.0/24 --bridge br{n} --uplink eth{n} --vlan 20"
ALL = "web-1 web-2 web-3"


@dataclass(frozen=True)
class Scenario:
    """A command, and the state before it.

    Attributes:
        command: what is run under faults.
        before: commands, or functions of the fixture.
        fixed: addresses that are asked for by name.
        looks: it changes nothing.
        code: its exit code where nothing goes wrong.
        alone: it changes what is in other fixtures as well, which must not be in the middle of the same.
    """

    command: str
    before: tuple[str | Callable[[CommandFixture], None], ...] = ()
    fixed: tuple[str, ...] = ()
    looks: bool = False
    code: int = 0
    alone: bool = False

    @property
    def name(self) -> str:
        """Return the command's name: "vm attach"."""
        words = shlex.split(self.command)
        return words[0] if words[0] in commands() else " ".join(words[:2])

    def prepare(self, fixture: CommandFixture) -> None:
        """Create the state before the command, and delete all else."""
        fixture.fixed = [fixture.words(address) for address in self.fixed]
        fixture.clear()
        for step in self.before:
            step(fixture) if callable(step) else fixture.done(step)


def turns_of(scenarios: Mapping[str, Scenario]) -> dict[str, tuple[int, int]]:
    """Name -> its place among the cases of the same command, from 0 on, and how many these are."""
    of_command: dict[str, list[str]] = {}
    for name, scenario in scenarios.items():
        of_command.setdefault(scenario.name, []).append(name)
    return {name: (turn, len(names)) for names in of_command.values() for turn, name in enumerate(names)}


@cache
def commands() -> frozenset[str]:
    """Return the names of all commands of the program, from its own table."""
    return frozenset(_commands(cli, ()))


def _commands(group: click.Group, path: tuple[str, ...]) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group) and name != "diff":  # whose commands are those of the other groups
            yield from _commands(found, (*path, name))
        else:
            yield " ".join((*path, name))


# -- what there is before --------------------------------------------------------------------------------------------


def delete_vm(fixture: CommandFixture) -> None:
    fixture.api.delete(VM.ref("web-1", fixture.namespace))


def request_networks(fixture: CommandFixture) -> None:
    """Create a network as with kubectl, and VMs that request it, for `sync`."""
    ref = NETWORKWIZARD.ref("blue", fixture.namespace)
    spec = {"plugin": "calico", "cidr": f"{fixture.prefix}.0.0/28"}
    fixture.api.create(ref, {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata":
                          {"name": "blue", "namespace": fixture.namespace}, "spec": spec})  # fmt: skip
    for name in ("web-1", "web-2"):
        fixture.api.patch(VM.ref(name, fixture.namespace), {"metadata": {"annotations": {NETWORK_NAME: "blue"}}})


def delete_allocations(fixture: CommandFixture) -> None:
    """Delete all allocations, as a restore without status does."""
    for obj in fixture.api.list(ADDRESSBLOCK, fixture.namespace):
        fixture.api.delete(ADDRESSBLOCK.ref(name_of(obj), fixture.namespace))
    for obj in fixture.api.list(NETWORKWIZARD, fixture.namespace):
        gone: Json = {"status": None}
        fixture.api.patch(NETWORKWIZARD.ref(name_of(obj), fixture.namespace), gone, subresource="status")


def write_legacy_records(fixture: CommandFixture) -> None:
    """Write allocations and a finalizer of Platform9 yoshi, for `install`."""
    ref = NETWORKWIZARD.ref("blue", fixture.namespace)
    records = fixture.api.get(ref)["status"]["allocations"]
    names = {address: record["name"] for address, record in records.items()}
    fixture.api.patch(ref, {"status": {"allocations": None}}, subresource="status")
    fixture.api.patch(ref, {"status": {"allocations": names}}, subresource="status")
    fixture.api.patch(ref, {"metadata": {"finalizers": ["network.plumber.k8s.pf9.io"]}})


def start_vms(fixture: CommandFixture) -> None:
    """Start web-1 and web-2 with their templates."""
    kubevirt = fixture.play_kubevirt()
    for name in ("web-1", "web-2"):
        vm = fixture.api.patch(VM.ref(name, fixture.namespace), {"spec": {"runStrategy": "Always"}})
        kubevirt.run(vm)


def start_with_addresses(fixture: CommandFixture) -> None:
    """Start web-1 and web-2 with addresses of network blue that are not recorded."""
    kubevirt = fixture.play_kubevirt()
    for number, name in ((7, "web-1"), (8, "web-2")):
        vm = fixture.api.patch(VM.ref(name, fixture.namespace), {"spec": {"runStrategy": "Always"}})
        kubevirt.run(vm, [f"{fixture.prefix}.0.{number}"])


def hold_in_calico(fixture: CommandFixture) -> None:
    """Let Calico hold an address of network wide for web-1, as it does from 3.32 on."""
    cidr, ordinal = f"{fixture.prefix}.24.0/26", 40
    handle = f"k8s-pod-network.vmi.{fixture.namespace}.web-1"
    block: Json = {
        "cidr": cidr,
        "affinity": "host:node1",
        "strictAffinity": False,
        "allocations": [0 if number == ordinal else None for number in range(64)],
        "unallocated": [number for number in range(64) if number != ordinal],
        "attributes": [{"handle_id": handle}],
        "deleted": False,
        "sequenceNumber": 2,
        "sequenceNumberForAllocation": {str(ordinal): 1},
    }
    for resource, name, spec in (
        (RAW.block, cidr.replace(".", "-").replace("/", "-"), block),
        (RAW.handle, handle, {"handleID": handle, "block": {cidr: 1}, "deleted": False}),
    ):
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}, "spec": spec}
        fixture.api.create(resource.ref(name), body)


def orphan_running_vm(fixture: CommandFixture) -> None:
    """Delete web-1 while its instance runs."""
    kubevirt = fixture.play_kubevirt()
    vm = fixture.api.get(VM.ref("web-1", fixture.namespace))
    delete_vm(fixture)
    kubevirt.run(vm, owned=False)
    fixture.api.delete(VM.ref("web-2", fixture.namespace))


def write_csv(fixture: CommandFixture) -> None:
    lines = [
        "name,address,mac,namespace",
        f"web-1,{fixture.prefix}.0.7,02:00:00:00:00:07",
        f"web-2,{fixture.prefix}.0.8,",
    ]
    (fixture.folder / "ports.csv").write_text("\n".join(lines))


def pin_unrecorded_address(fixture: CommandFixture) -> None:
    """Pin web-1 to an address that is not recorded."""
    pin = {"cni.projectcalico.org/ipAddrs": json.dumps([f"{fixture.prefix}.0.7"])}
    fixture.api.patch(VM.ref("web-1", fixture.namespace), {"spec": {"template": {"metadata": {"annotations": pin}}}})


ATTACHED_BLUE = (BLUE, f"vm attach {ALL} --network blue")
ATTACHED_BIG = (BIG, f"vm attach {ALL} --network big")
ATTACHED_PUB = (PUB, "vm attach web-1 web-2 --public-network pub")
ATTACHED_BGP = (BGP, "vm attach web-1 web-2 --public-network bgp")
ATTACHED_ELASTIC = (ELASTIC, "vm attach web-1 --public-network elastic --public-ip {ip}.10.5")
ATTACHED_LAN = (LAN, "vm attach web-1 web-2 --network lan")
LOOKED_AT = (*ATTACHED_BLUE, BIG, "ips reserve big {ip}.17.7 --note printer", delete_vm)

SCENARIOS = {
    "create small": Scenario(BLUE),
    "create large": Scenario(BIG),
    "create public": Scenario(PUB),
    "create announced by Calico": Scenario(BGP),
    "create without a CIDR": Scenario(ELASTIC),
    "create Layer 2": Scenario(LAN),
    "update small": Scenario("network update blue --range {ip}.0.1-{ip}.0.12 --no-nat-outgoing", ATTACHED_BLUE),
    "update large": Scenario("network update big --exclude {ip}.31.0/24 --cooldown 10m", ATTACHED_BIG),
    "update public": Scenario("network update pub --announce-interface eth0", ATTACHED_PUB),
    "update announced by Calico": Scenario("network update bgp --peer {ip}.200.2", ATTACHED_BGP),
    "update without a CIDR": Scenario("network update elastic --max-addresses-per-namespace 9", ATTACHED_ELASTIC,
                                      ("{ip}.10.5",)),
    "update Layer 2": Scenario("network update lan --dns-server 9.9.9.9 --dhcp-lease-time 10m", ATTACHED_LAN),
    "delete small": Scenario("network delete blue", (BLUE,)),
    "delete large, in use": Scenario("network delete big --force --yes", ATTACHED_BIG),
    "delete public, in use": Scenario("network delete pub --force --yes", ATTACHED_PUB),
    "delete announced by Calico, in use": Scenario("network delete bgp --force --yes", ATTACHED_BGP),
    "delete without a CIDR, in use": Scenario("network delete elastic --force --yes", ATTACHED_ELASTIC, ("{ip}.10.5",)),
    "delete Layer 2, in use": Scenario("network delete lan --force --yes", ATTACHED_LAN),
    "attach one": Scenario("vm attach web-1 --network blue", (BLUE,)),
    "attach to an address": Scenario("vm attach web-1 --network blue --ip {ip}.0.5", (BLUE,), ("{ip}.0.5",)),
    "attach several": Scenario("vm attach -l app=web --network big", (BIG,)),
    "attach elsewhere": Scenario("vm attach web-1 --network big --replace", (*ATTACHED_BLUE, BIG)),
    "attach public": Scenario("vm attach web-1 web-2 --public-network pub", (PUB,)),
    "attach announced by Calico": Scenario("vm attach web-1 web-2 --public-network bgp", (BGP,)),
    "attach without a CIDR": Scenario(
        "vm attach web-1 --public-network elastic --public-ip {ip}.10.5", (ELASTIC,), ("{ip}.10.5",)
    ),
    "attach without a CIDR, announced by Calico": Scenario(
        "vm attach web-1 --public-network elastic --public-ip {ip}.10.5", (ELASTIC_BGP,), ("{ip}.10.5",)
    ),
    "attach both": Scenario("vm attach web-1 --network blue --public-network pub", (BLUE, PUB)),
    "attach Layer 2": Scenario("vm attach web-1 web-2 --network lan", (LAN,)),
    "attach running ones": Scenario("vm attach web-1 web-2 --network blue --restart", (BLUE, start_vms)),
    "attach a running one elsewhere": Scenario(
        "vm attach web-1 --network big --replace --restart", (*ATTACHED_BLUE, BIG, start_vms)
    ),
    "attach what Calico keeps": Scenario(
        "vm attach web-1 --network wide --ip {ip}.24.5", (WIDE, hold_in_calico), ("{ip}.24.5",)
    ),
    "attach what Calico keeps, running": Scenario(
        "vm attach web-1 --network wide --ip {ip}.24.5 --restart", (WIDE, hold_in_calico, start_vms), ("{ip}.24.5",)
    ),
    "attach reserved": Scenario(
        "vm attach web-1 --network blue", (BLUE, "ips reserve blue {ip}.0.5 --for vm/web-1"), ("{ip}.0.5",)
    ),
    "attach reserved, large": Scenario(
        "vm attach web-1 --network big", (BIG, "ips reserve big {ip}.17.5 --for vm/web-1"), ("{ip}.17.5",)
    ),
    "take a reservation": Scenario(
        "vm attach web-1 --network blue --ip {ip}.0.5 --take-reservation",
        (BLUE, "ips reserve blue {ip}.0.5 --for vm/web-2"), ("{ip}.0.5",),
    ),
    "detach and keep": Scenario(
        "vm detach web-1 --network blue --keep", (BLUE, "vm attach web-1 --network blue --ip {ip}.0.5"), ("{ip}.0.5",)
    ),
    "detach and keep, large": Scenario(
        "vm detach web-1 --network big --keep", (BIG, "vm attach web-1 --network big --ip {ip}.17.5"), ("{ip}.17.5",)
    ),
    "detach several": Scenario(f"vm detach {ALL} --network big", ATTACHED_BIG),
    "detach one": Scenario("vm detach web-2 --network blue", ATTACHED_BLUE),
    "detach running ones": Scenario("vm detach web-1 web-2 --network blue --restart", (*ATTACHED_BLUE, start_vms)),
    "detach public": Scenario("vm detach web-1 --public-network pub", ATTACHED_PUB),
    "detach announced by Calico": Scenario("vm detach web-1 --public-network bgp", ATTACHED_BGP),
    "detach without a CIDR": Scenario("vm detach web-1 --public-network elastic", ATTACHED_ELASTIC, ("{ip}.10.5",)),
    "detach Layer 2": Scenario("vm detach web-1 --network lan", ATTACHED_LAN),
    "reserve": Scenario("ips reserve blue {ip}.0.7 {ip}.0.8 --note printer", (BLUE,)),
    "reserve in a large one": Scenario("ips reserve big {ip}.17.7 {ip}.19.8", (BIG,)),
    "reserve without a CIDR": Scenario("ips reserve elastic {ip}.10.7 --note printer", (ELASTIC,)),
    "release": Scenario("ips release blue {ip}.0.7", (BLUE, "ips reserve blue {ip}.0.7 {ip}.0.8")),
    "release without a CIDR": Scenario("ips release elastic {ip}.10.7", (ELASTIC, "ips reserve elastic {ip}.10.7")),
    "move": Scenario(
        "ips move {ip}.9.5 --to web-2",
        (PUB, "vm attach web-1 --public-network pub --public-ip {ip}.9.5"), ("{ip}.9.5",),
    ),
    "move announced by Calico": Scenario(
        "ips move {ip}.8.5 --to web-2",
        (BGP, "vm attach web-1 --public-network bgp --public-ip {ip}.8.5"), ("{ip}.8.5",),
    ),
    "move to a reservation": Scenario(
        "ips move {ip}.9.5 --reserve-for vm/web-2",
        (PUB, "vm attach web-1 --public-network pub --public-ip {ip}.9.5"), ("{ip}.9.5",),
    ),
    "gc": Scenario("ips gc --grace 0s --yes", (*ATTACHED_BLUE, delete_vm)),
    "gc beside what still runs": Scenario("ips gc --grace 0s --yes", (*ATTACHED_BLUE, orphan_running_vm)),
    "import what runs": Scenario("ips import --from vms", (BLUE, start_with_addresses), ("{ip}.0.7", "{ip}.0.8")),
    "import what Calico keeps": Scenario("ips import --from calico", (WIDE, hold_in_calico), ("{ip}.24.40",)),
    "import a file": Scenario("ips import -f {tmp}/ports.csv", (BLUE, write_csv), ("{ip}.0.7", "{ip}.0.8")),
    "rebuild": Scenario("ips rebuild --yes", (*ATTACHED_BLUE, BIG, "vm detach web-3 --network blue",
                                          "vm attach web-3 --network big", delete_allocations)),
    "sync": Scenario("sync", (request_networks,)),
    "take over": Scenario("install", (*ATTACHED_BLUE, write_legacy_records), alone=True),
    "list networks": Scenario("network list", LOOKED_AT, looks=True),
    "describe a small one": Scenario("network describe blue", LOOKED_AT, looks=True),
    "describe a large one": Scenario("network describe big", LOOKED_AT, looks=True),
    "list VMs": Scenario("vm list", LOOKED_AT, looks=True),
    "list addresses": Scenario("ips list", LOOKED_AT, looks=True),
    "list free addresses": Scenario("ips list --network big --free", LOOKED_AT, looks=True),
    "show": Scenario("ips show {ip}.17.7", LOOKED_AT, looks=True),
    "map": Scenario("ips map {ip}.17.0/24", LOOKED_AT, looks=True),
    "check": Scenario("ips check", LOOKED_AT, looks=True, code=1),
    "status": Scenario("status", LOOKED_AT, looks=True),
    "report": Scenario("report -o /dev/null", LOOKED_AT, looks=True),
    "explain policies": Scenario("policy explain {ip}.17.7", LOOKED_AT, looks=True),
    "trace": Scenario("trace {ip}.17.7", LOOKED_AT, looks=True, code=1),
    "diagnose": Scenario("doctor -o short", LOOKED_AT, looks=True, code=1),
    "diff": Scenario("diff vm attach web-2 --network big --ip {ip}.18.5 --replace", LOOKED_AT, looks=True, code=1),
    "version": Scenario("version", looks=True),
}  # fmt: skip
"""By name; all but the last ones, which only look, change something."""
