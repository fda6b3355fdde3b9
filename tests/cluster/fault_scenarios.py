"""What the fault tests run: commands, and what there is before each. Every command of the program has a course here.

tests/unit/harness/test_fault_scenarios.py checks that by the program's own table of commands, except for those that
have nothing to do with a cluster.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import click

from kubectl_yoshi.backends.calico.api import RAW
from kubectl_yoshi.cli.app import cli
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, name_of
from kubectl_yoshi.model.vm import VM
from tests.cluster.command_fixture import Seat

WISH = "plumber.k8s.pf9.io/networkName"

BLUE = "network create blue --cidr {ip}.0.0/28"
BIG = "network create big --cidr {ip}.16.0/20"
WIDE = "network create wide --cidr {ip}.24.0/24"
PUB = "network create pub --plugin public --cidr {ip}.9.0/28"
BGP = (
    "network create bgp --plugin public --cidr {ip}.8.0/28 --announce calico-bgp"
    " --peer {ip}.200.1 --my-asn 64512 --remote-asn 64514"
)
ELASTIC = "network create elastic --plugin public"
"""Without a CIDR: whoever wants an address of it names it."""
ELASTIC_BGP = (
    "network create elastic --plugin public --announce calico-bgp --peer {ip}.200.1 --my-asn 64512 --remote-asn 64514"
)
LAN = "network create lan --plugin ovs --cidr {ip}.20.0/24 --bridge br{n} --nic eth{n} --vlan 20"
ALL = "web-1 web-2 web-3"


@dataclass(frozen=True)
class Case:
    """A command, and what there is before it.

    Attributes:
        command: what is run under faults.
        before: commands, or functions of the seat.
        fixed: addresses that are asked for by name.
        looks: it changes nothing.
        code: its exit code where nothing goes wrong.
        alone: it changes what is in other seats as well, which must not be in the middle of the same.
    """

    command: str
    before: tuple[str | Callable[[Seat], None], ...] = ()
    fixed: tuple[str, ...] = ()
    looks: bool = False
    code: int = 0
    alone: bool = False

    @property
    def name(self) -> str:
        """The command's name: "vm attach"."""
        words = shlex.split(self.command)
        return words[0] if words[0] in commands() else " ".join(words[:2])

    def prepare(self, seat: Seat) -> None:
        """Makes what there is before, and takes away all else."""
        seat.fixed = [seat.words(address) for address in self.fixed]
        seat.clear()
        for step in self.before:
            step(seat) if callable(step) else seat.done(step)


@cache
def commands() -> frozenset[str]:
    """The names of all commands of the program, by its own table."""
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


def delete_vm(seat: Seat) -> None:
    seat.api.delete(VM.ref("web-1", seat.namespace))


def write_wishes(seat: Seat) -> None:
    """What `sync` makes true: a network of kubectl's, and VMs that ask for it."""
    ref = NETWORKWIZARD.ref("blue", seat.namespace)
    spec = {"plugin": "calico", "cidr": f"{seat.prefix}.0.0/28"}
    seat.api.create(ref, {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata":
                          {"name": "blue", "namespace": seat.namespace}, "spec": spec})  # fmt: skip
    for name in ("web-1", "web-2"):
        seat.api.patch(VM.ref(name, seat.namespace), {"metadata": {"annotations": {WISH: "blue"}}})


def lose_ledgers(seat: Seat) -> None:
    """As a restore without status leaves it."""
    for obj in seat.api.list(ADDRESSBLOCK, seat.namespace):
        seat.api.delete(ADDRESSBLOCK.ref(name_of(obj), seat.namespace))
    for obj in seat.api.list(NETWORKWIZARD, seat.namespace):
        gone: Json = {"status": None}
        seat.api.patch(NETWORKWIZARD.ref(name_of(obj), seat.namespace), gone, subresource="status")


def write_as_the_original(seat: Seat) -> None:
    """What `install` takes over: records that are a VM's name, a finalizer."""
    ref = NETWORKWIZARD.ref("blue", seat.namespace)
    records = seat.api.get(ref)["status"]["allocations"]
    names = {address: record["name"] for address, record in records.items()}
    seat.api.patch(ref, {"status": {"allocations": None}}, subresource="status")
    seat.api.patch(ref, {"status": {"allocations": names}}, subresource="status")
    seat.api.patch(ref, {"metadata": {"finalizers": ["network.plumber.k8s.pf9.io"]}})


def start_vms(seat: Seat) -> None:
    """web-1 and web-2 run, with what their templates say."""
    kubevirt = seat.play_kubevirt()
    for name in ("web-1", "web-2"):
        vm = seat.api.patch(VM.ref(name, seat.namespace), {"spec": {"runStrategy": "Always"}})
        kubevirt.run(vm)


def start_with_addresses(seat: Seat) -> None:
    """web-1 and web-2 run with addresses of network blue that nobody has written down."""
    kubevirt = seat.play_kubevirt()
    for number, name in ((7, "web-1"), (8, "web-2")):
        vm = seat.api.patch(VM.ref(name, seat.namespace), {"spec": {"runStrategy": "Always"}})
        kubevirt.run(vm, [f"{seat.prefix}.0.{number}"])


def keep_in_calico(seat: Seat) -> None:
    """Calico itself keeps an address of network wide for web-1, as it does from 3.32 on."""
    cidr, ordinal = f"{seat.prefix}.24.0/26", 40
    handle = f"k8s-pod-network.vmi.{seat.namespace}.web-1"
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
        seat.api.create(resource.ref(name), body)


def leave_it_running(seat: Seat) -> None:
    """Of web-1, which is deleted, the instance still runs."""
    kubevirt = seat.play_kubevirt()
    vm = seat.api.get(VM.ref("web-1", seat.namespace))
    delete_vm(seat)
    kubevirt.run(vm, owned=False)
    seat.api.delete(VM.ref("web-2", seat.namespace))


def write_csv(seat: Seat) -> None:
    lines = ["name,address,mac,namespace", f"web-1,{seat.prefix}.0.7,02:00:00:00:00:07", f"web-2,{seat.prefix}.0.8,"]
    (seat.folder / "ports.csv").write_text("\n".join(lines))


def pin_as_nobody_recorded(seat: Seat) -> None:
    """web-1 is made to have an address that the ledger does not know."""
    pin = {"cni.projectcalico.org/ipAddrs": json.dumps([f"{seat.prefix}.0.7"])}
    seat.api.patch(VM.ref("web-1", seat.namespace), {"spec": {"template": {"metadata": {"annotations": pin}}}})


ATTACHED_BLUE = (BLUE, f"vm attach {ALL} --network blue")
ATTACHED_BIG = (BIG, f"vm attach {ALL} --network big")
ATTACHED_PUB = (PUB, "vm attach web-1 web-2 --public-network pub")
ATTACHED_BGP = (BGP, "vm attach web-1 web-2 --public-network bgp")
ATTACHED_ELASTIC = (ELASTIC, "vm attach web-1 --public-network elastic --public-ip {ip}.10.5")
ATTACHED_LAN = (LAN, "vm attach web-1 web-2 --network lan")
LOOKED_AT = (*ATTACHED_BLUE, BIG, "ips reserve big {ip}.17.7 --note printer", delete_vm)

CASES = {
    "create small": Case(BLUE),
    "create large": Case(BIG),
    "create public": Case(PUB),
    "create announced by Calico": Case(BGP),
    "create without a CIDR": Case(ELASTIC),
    "create layer 2": Case(LAN),
    "delete small": Case("network delete blue", (BLUE,)),
    "delete large, in use": Case("network delete big --force --yes", ATTACHED_BIG),
    "delete public, in use": Case("network delete pub --force --yes", ATTACHED_PUB),
    "delete announced by Calico, in use": Case("network delete bgp --force --yes", ATTACHED_BGP),
    "delete without a CIDR, in use": Case("network delete elastic --force --yes", ATTACHED_ELASTIC, ("{ip}.10.5",)),
    "delete layer 2, in use": Case("network delete lan --force --yes", ATTACHED_LAN),
    "attach one": Case("vm attach web-1 --network blue", (BLUE,)),
    "attach to an address": Case("vm attach web-1 --network blue --ip {ip}.0.5", (BLUE,), ("{ip}.0.5",)),
    "attach several": Case("vm attach -l app=web --network big", (BIG,)),
    "attach elsewhere": Case("vm attach web-1 --network big --replace", (*ATTACHED_BLUE, BIG)),
    "attach public": Case("vm attach web-1 web-2 --public-network pub", (PUB,)),
    "attach announced by Calico": Case("vm attach web-1 web-2 --public-network bgp", (BGP,)),
    "attach without a CIDR": Case(
        "vm attach web-1 --public-network elastic --public-ip {ip}.10.5", (ELASTIC,), ("{ip}.10.5",)
    ),
    "attach without a CIDR, announced by Calico": Case(
        "vm attach web-1 --public-network elastic --public-ip {ip}.10.5", (ELASTIC_BGP,), ("{ip}.10.5",)
    ),
    "attach both": Case("vm attach web-1 --network blue --public-network pub", (BLUE, PUB)),
    "attach layer 2": Case("vm attach web-1 web-2 --network lan", (LAN,)),
    "attach running ones": Case("vm attach web-1 web-2 --network blue --restart", (BLUE, start_vms)),
    "attach a running one elsewhere": Case(
        "vm attach web-1 --network big --replace --restart", (*ATTACHED_BLUE, BIG, start_vms)
    ),
    "attach what Calico keeps": Case(
        "vm attach web-1 --network wide --ip {ip}.24.5", (WIDE, keep_in_calico), ("{ip}.24.5",)
    ),
    "attach what Calico keeps, running": Case(
        "vm attach web-1 --network wide --ip {ip}.24.5 --restart", (WIDE, keep_in_calico, start_vms), ("{ip}.24.5",)
    ),
    "detach several": Case(f"vm detach {ALL} --network big", ATTACHED_BIG),
    "detach one": Case("vm detach web-2 --network blue", ATTACHED_BLUE),
    "detach running ones": Case("vm detach web-1 web-2 --network blue --restart", (*ATTACHED_BLUE, start_vms)),
    "detach public": Case("vm detach web-1 --public-network pub", ATTACHED_PUB),
    "detach announced by Calico": Case("vm detach web-1 --public-network bgp", ATTACHED_BGP),
    "detach without a CIDR": Case("vm detach web-1 --public-network elastic", ATTACHED_ELASTIC, ("{ip}.10.5",)),
    "detach layer 2": Case("vm detach web-1 --network lan", ATTACHED_LAN),
    "reserve": Case("ips reserve blue {ip}.0.7 {ip}.0.8 --note printer", (BLUE,)),
    "reserve in a large one": Case("ips reserve big {ip}.17.7 {ip}.19.8", (BIG,)),
    "reserve without a CIDR": Case("ips reserve elastic {ip}.10.7 --note printer", (ELASTIC,)),
    "release": Case("ips release blue {ip}.0.7", (BLUE, "ips reserve blue {ip}.0.7 {ip}.0.8")),
    "release without a CIDR": Case("ips release elastic {ip}.10.7", (ELASTIC, "ips reserve elastic {ip}.10.7")),
    "move": Case(
        "ips move {ip}.9.5 --to web-2",
        (PUB, "vm attach web-1 --public-network pub --public-ip {ip}.9.5"), ("{ip}.9.5",),
    ),
    "move announced by Calico": Case(
        "ips move {ip}.8.5 --to web-2",
        (BGP, "vm attach web-1 --public-network bgp --public-ip {ip}.8.5"), ("{ip}.8.5",),
    ),
    "gc": Case("ips gc --grace 0s --yes", (*ATTACHED_BLUE, delete_vm)),
    "gc beside what still runs": Case("ips gc --grace 0s --yes", (*ATTACHED_BLUE, leave_it_running)),
    "import what runs": Case("ips import --from vms", (BLUE, start_with_addresses), ("{ip}.0.7", "{ip}.0.8")),
    "import what Calico keeps": Case("ips import --from calico", (WIDE, keep_in_calico), ("{ip}.24.40",)),
    "import a file": Case("ips import -f {tmp}/ports.csv", (BLUE, write_csv), ("{ip}.0.7", "{ip}.0.8")),
    "rebuild": Case("ips rebuild --yes", (*ATTACHED_BLUE, BIG, "vm detach web-3 --network blue",
                                          "vm attach web-3 --network big", lose_ledgers)),
    "sync": Case("sync", (write_wishes,)),
    "take over": Case("install", (*ATTACHED_BLUE, write_as_the_original), alone=True),
    "list networks": Case("network list", LOOKED_AT, looks=True),
    "describe a small one": Case("network describe blue", LOOKED_AT, looks=True),
    "describe a large one": Case("network describe big", LOOKED_AT, looks=True),
    "list VMs": Case("vm list", LOOKED_AT, looks=True),
    "list addresses": Case("ips list", LOOKED_AT, looks=True),
    "list free addresses": Case("ips list --network big --free", LOOKED_AT, looks=True),
    "who": Case("ips who {ip}.17.7", LOOKED_AT, looks=True),
    "check": Case("ips check", LOOKED_AT, looks=True, code=1),
    "diff": Case("diff vm attach web-2 --network big --ip {ip}.18.5 --replace", LOOKED_AT, looks=True, code=1),
    "version": Case("version --server-version", looks=True),
}  # fmt: skip
"""By name; all but the last ones, which only look, change something."""
