"""Faults: other writers, lost answers, a busy server, missing answers, and what is printed of them."""

from __future__ import annotations

from typing import Any

from tests.golden import faults
from tests.golden.cluster import BLOCKS, NETWORKS, Cluster, vms
from tests.golden.controllers import VMS
from tests.golden.kinds import Json
from tests.golden.scenario import Run, Scenario, fails, prepare
from tests.golden.scenarios.calico import BIG, BLUE, RUNS
from tests.golden.scenarios.public import CALICO, LAN
from tests.golden.server import FakeApiServer

ATTACH = "vm attach web-1 --network blue"
STATUS = r"PATCH .*/networkwizards/blue/status"
BLOCK = r"PATCH .*/addressblocks/[^/]+/status"
VM = r"PATCH .*/virtualmachines/web-1\?"
REVIEWS = "POST .*/selfsubjectaccessreviews"


def record_of(name: str) -> Json:
    return {"kind": "VirtualMachine", "namespace": "dev", "name": name, "uid": name, "since": "2026-01-01T00:00:00Z"}


def take(*addresses: str) -> Any:
    """Another client takes addresses of network blue."""

    def change(server: FakeApiServer) -> None:
        for address in addresses:
            entry = {address: record_of(f"rival-{address.rpartition('.')[2]}")}
            server.edit(NETWORKS, "prod", "blue", lambda obj, e=entry: obj["status"]["allocations"].update(e))  # type: ignore[misc]

    return faults.before(change)


def take_in_block(server: FakeApiServer) -> None:
    """Another client takes the first free address of a block of network big."""
    block = server.all(BLOCKS)[0]
    taken = block.get("status", {}).get("allocations") or {}
    base = block["spec"]["first"].rpartition(".")[0]
    address = next(f"{base}.{number}" for number in range(1, 255) if f"{base}.{number}" not in taken)

    def change(obj: Json) -> None:
        obj.setdefault("status", {}).setdefault("allocations", {})[address] = record_of("rival")

    server.edit(BLOCKS, "prod", block["metadata"]["name"], change)


def edit_vm(server: FakeApiServer) -> None:
    """Another client changes a label of web-1."""

    def change(vm: Json) -> None:
        labels = vm["metadata"]["labels"]
        labels["edited"] = str(int(labels.get("edited", "0")) + 1)

    server.edit(VMS, "prod", "web-1", change)


def edit_configuration(server: FakeApiServer) -> None:
    """Another client adds an entry to the BGP configuration."""
    kind = "bgpconfigurations.crd.projectcalico.org"
    there = server.find(kind, "", "default") or {"metadata": {"name": "default"}, "spec": {}}
    entries = there["spec"].setdefault("serviceLoadBalancerIPs", [])
    entries.append({"cidr": f"198.18.0.{len(entries)}/32"})
    server.put(kind, there)


def delete_vm(server: FakeApiServer) -> None:
    server.remove(VMS, "prod", "web-1")


def delete_network(server: FakeApiServer) -> None:
    server.remove(NETWORKS, "prod", "blue")


def start_vm(server: FakeApiServer) -> None:
    server.edit(VMS, "prod", "web-1", lambda vm: vm["spec"].update(runStrategy="Always"))


def many(cluster: Cluster) -> None:
    for number in range(12):
        cluster.vm(f"many-{number:02}")


before = faults.before

FAULTS: dict[str, list[tuple[Any, ...]]] = {
    "another client takes the address": [(STATUS, take("10.20.0.2"))],
    "other clients take addresses again and again": [(STATUS, take(f"10.20.0.{n}")) for n in range(2, 8)],
    "another client edits the VM": [(VM, before(edit_vm))],
    "another client edits the VM again and again": [(VM, before(edit_vm), 6)],
    "another client deletes the VM before the allocation": [(STATUS, before(delete_vm))],
    "another client deletes the VM before its change": [(VM, before(delete_vm))],
    "another client deletes the network": [(STATUS, before(delete_network))],
    "another client starts the VM": [(VM, before(start_vm))],
    "the answer to the allocation is lost": [(STATUS, faults.lose)],
    "the answer to the change of the VM is lost": [(VM, faults.lose)],
    "the allocation does not arrive": [(STATUS, faults.cut)],
    "the change of the VM does not arrive": [(VM, faults.cut)],
    "the change of the VM never arrives": [(VM, faults.cut, 50)],
    "the allocation is not answered in time": [(STATUS, faults.time_out)],
    "a webhook refuses the VM": [(VM, faults.WEBHOOK, 50)],
    "a webhook refuses the allocation": [(STATUS, faults.WEBHOOK, 50)],
    "the server is busy once": [(VM, faults.BUSY)],
    "the server stays busy": [(VM, faults.BUSY, 100)],
    "the server fails once on a write": [(VM, faults.ERROR)],
    "the server fails on each write": [(VM, faults.ERROR, 100)],
    "the server is unavailable for a read": [("GET .*/virtualmachines/web-1", faults.UNAVAILABLE)],
    "the server is unavailable for all reads": [("GET .*/virtualmachines/web-1", faults.UNAVAILABLE, 100)],
    "a read is cut once": [("GET .*/networkwizards/blue", faults.cut)],
    "all reads are cut": [("GET", faults.cut, 100)],
    "a read is not answered in time": [("GET .*/ippools", faults.time_out)],
    "the connection is refused once": [("GET /apis", faults.refuse_connection)],
    "the connection is refused": [("GET", faults.refuse_connection, 100)],
    "a web page answers": [("GET", faults.page, 100)],
    "the credentials are refused": [("GET", faults.UNAUTHORIZED, 100)],
    "the second look fails": [("GET .*/networkwizards/blue", faults.UNAVAILABLE, 3, 1)],
    "the user presses Ctrl-C before anything is written": [("GET .*/ippools", faults.interrupt)],
    "the user presses Ctrl-C during the allocation": [(STATUS, faults.interrupt)],
    "the user presses Ctrl-C during the change of the VM": [(VM, faults.interrupt)],
    "the server warns": [(VM, faults.warn("kubevirt.io/v1 VirtualMachine is deprecated"))],
    "the patch is rejected without a reason": [(STATUS, faults.PATCH_REJECTED, 3)],
}
ATTACHMENTS = [
    Scenario(
        f"attachment while {name}",
        [vms("web-1"), *prepare(BLUE), fails(ATTACH, "", *some), Run(ATTACH, note="again")],
    )
    for name, some in FAULTS.items()
]
SCENARIOS = [
    *ATTACHMENTS,
    Scenario(
        "detachment",
        [
            vms("web-1", "web-2"),
            *prepare(BLUE, ATTACH, "vm attach web-2 --network blue"),
            fails("vm detach web-1 --network blue", "the VM is edited", (VM, before(edit_vm))),
            *prepare(ATTACH),
            fails("vm detach web-1 --network blue", "the answer is lost", (VM, faults.lose)),
            *prepare(ATTACH),
            fails("vm detach web-1 --network blue", "the release is lost", (STATUS, faults.lose)),
            *prepare(ATTACH),
            fails("vm detach web-1 --network blue", "a webhook refuses", (VM, faults.WEBHOOK, 50)),
            fails("vm detach web-1 web-2 --network blue", "one is deleted meanwhile", (VM, before(delete_vm))),
        ],
    ),
    Scenario(
        "bulk",
        [
            many,
            *prepare(BLUE, BIG),
            fails("vm attach -l app=many --network blue", "one is refused", ("PATCH .*many-05", faults.WEBHOOK, 9)),
            fails(
                "vm detach -l app=many --network blue", "the user presses Ctrl-C", ("PATCH .*many-06", faults.interrupt)
            ),
            fails("vm attach -l app=many --network blue", "one answer is lost", ("PATCH .*many-05", faults.lose)),
            fails(
                "vm detach -l app=many --network blue", "the server is busy", ("PATCH .*many-0[0-3]", faults.BUSY, 9)
            ),
            fails(
                "vm attach -l app=many --network big", "another client takes an address", (BLOCK, before(take_in_block))
            ),
            fails("vm detach -l app=many --network big", "some do not answer", ("PATCH .*many-0", faults.ERROR, 4)),
        ],
    ),
    Scenario(
        "large network",
        [
            vms("web-1", "web-2"),
            *prepare(BIG),
            fails(
                "vm attach web-1 --network big",
                "the block is created meanwhile",
                ("POST .*/addressblocks", faults.lose),
            ),
            fails("vm attach web-2 --network big", "an address is taken", (BLOCK, before(take_in_block))),
            fails("vm detach web-2 --network big", "the answer is lost", (BLOCK, faults.lose)),
        ],
    ),
    Scenario(
        "restart",
        [
            vms("web-1", **RUNS),
            *prepare(BLUE),
            fails(f"{ATTACH} --restart", "the stop is lost", (VM, faults.lose, 1, 1)),
            fails("vm detach web-1 --network blue --restart", "the start is refused", (VM, faults.WEBHOOK, 9, 2)),
        ],
    ),
    Scenario(
        "networks",
        [
            vms("web-1"),
            fails(BLUE, "the answer is lost", ("POST .*/networkwizards", faults.lose)),
            fails(f"{BIG}", "the pool's answer is lost", ("POST .*/ippools", faults.lose)),
            fails("network delete big", "the pool stays", ("DELETE .*/ippools", faults.WEBHOOK, 9)),
            fails("network delete big", "the answer is lost", ("DELETE .*/networkwizards", faults.lose)),
            fails(f"{BIG}", "the pool is refused", ("POST .*/ippools", faults.WEBHOOK, 9)),
            fails("network list", "the list expires", ("GET .*/networkwizards", faults.GONE)),
            fails("network list", "the server is unavailable", ("GET", faults.UNAVAILABLE, 9)),
            fails("ips list", "pods cannot be read for a moment", ("GET .*/pods", faults.ERROR)),
            fails("ips reserve blue 10.20.0.9", "the answer is lost", (STATUS, faults.lose)),
            fails("ips release blue 10.20.0.9", "another client takes one", (STATUS, take("10.20.0.5"))),
            fails(BLUE, "reviews are not answered", (REVIEWS, faults.ERROR, 9)),
        ],
    ),
    Scenario(
        "public networks",
        [
            vms("web-1", "web-2"),
            *prepare(CALICO, LAN),
            fails(
                "vm attach web-1 --public-network edge",
                "the configuration changes",
                ("(PUT|PATCH) .*/bgpconf", before(edit_configuration)),
            ),
            fails(
                "vm attach web-1 --public-network internet",
                "the Service's answer is lost",
                ("POST .*/services", faults.lose),
            ),
            fails(
                "vm attach web-2 --public-network internet",
                "the Service is refused",
                ("POST .*/services", faults.WEBHOOK, 9),
            ),
            fails("ips move 203.0.113.1 --to web-2", "a write is lost", ("(PUT|PATCH) .*/networkwizards", faults.lose)),
            fails(
                "ips move 203.0.113.1 --to web-1",
                "the VM is refused",
                ("PATCH .*/virtualmachines/web-1", faults.WEBHOOK, 9),
            ),
            fails(
                "vm detach web-2 --public-network internet", "the deletion is lost", ("DELETE .*/services", faults.lose)
            ),
        ],
    ),
]
