"""Which users can change which allocations, as the policy yoshi-allocations decides on a real API server.

A table: every request is a dry run, which the API server admits or refuses like any other and then forgets, so all
cases meet the same networks (policy_scene.py).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import lab
from lab.programs import OLDEST_KUBERNETES
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Json, Yoshi, delete, get, make, make_vms
from tests.cluster.policy_scene import UNTIL, PolicyScene, open_policy_scene, past, set_status

BLUE = "networkwizards/blue/status"
QUOTA = "networkwizards/quota/status"
BIG = "networkwizards/big/status"
BLOCK = "addressblocks/big.10.71.4.0"
NEEDS_NETWORK = "requires permission to patch networkwizard"

Request = Callable[[PolicyScene], Any]


@pytest.fixture(scope="module", params=["newest", OLDEST_KUBERNETES])
def scene(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[PolicyScene]:
    if request.param == "newest":
        with open_policy_scene(request.getfixturevalue("installed")) as found:
            yield found
        return
    if request.config.getoption("cluster") != "lab":
        pytest.skip("has a lab of that version, and another cluster was chosen")
    with lab.start(kubernetes=request.param) as running:
        Yoshi(running.kubeconfig, "lab", forks).done("install")
        with open_policy_scene(Cluster(running.kubeconfig, "lab")) as found:
            yield found


# -- requests --------------------------------------------------------------------------------------------------------


def add(address: str, owner: str = "", **fields: str) -> Request:
    """Allocate an address to a VM, "a/web"."""
    return lambda scene: [op("add", f"/status/allocations/{address}", scene.vm(owner, **fields))]


def reserve(address: str, reserved_for: str = "") -> Request:
    return lambda scene: [op("add", f"/status/allocations/{address}", scene.reservation(reserved_for))]


def remove(*addresses: str) -> Request:
    return lambda scene: [op("remove", f"/status/allocations/{address}") for address in addresses]


def value(path: str, content: Any, verb: str = "add") -> Request:
    return lambda scene: [op(verb, path, content(scene) if callable(content) else content)]


def remove_path(path: str) -> Request:
    return lambda scene: [op("remove", path)]


def hint(address: str, vm: str) -> Request:
    """List an address as reserved for a VM, "a/web"."""
    return lambda scene: [op("add", f"/status/reservedForVMs/{address}", scene.named(vm))]


def outdated(request: Request) -> Request:
    """A block of a network that has been deleted."""

    def block(scene: PolicyScene) -> Json:
        found = request(scene)
        found["spec"]["networkUID"] = found["metadata"]["ownerReferences"][0]["uid"] = "gone"
        return found

    return block


def all_of(*requests: Request) -> Request:
    """Several changes in one patch."""
    return lambda scene: [operation for request in requests for operation in request(scene)]


def many(owner: str, addresses: list[str]) -> Request:
    return all_of(*(add(address, f"{owner}-{address.replace('.', '-').replace(':', '-')}") for address in addresses))


def history(address: str, *entries: Callable[[PolicyScene], Json]) -> Request:
    return lambda scene: [op("add", f"/status/history/{address}", [entry(scene) for entry in entries])]


def ended(owner: str, **fields: str) -> Callable[[PolicyScene], Json]:
    return lambda scene: {**past(scene.vm(owner)), **fields}


def op(verb: str, path: str, content: Any = None) -> Json:
    found: Json = {"op": verb, "path": path}
    return found if verb == "remove" else {**found, "value": content}


def new_block(name: str, first: str, **metadata: Any) -> Request:
    return lambda scene: scene.block_object(name, first, **metadata)


def with_status(request: Request) -> Request:
    held = {"10.71.9.9": {"kind": "VirtualMachine", "namespace": "elsewhere", "name": "x"}}
    return lambda scene: {**request(scene), "status": {"allocations": held}}


# -- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A request and what becomes of it.

    Attributes:
        name: what it does.
        who: the users who send it; see policy_scene.make_users.
        target: the object and subresource.
        request: its body.
        refused: a part of the message; "" if it is admitted.
        method: PATCH, POST, PUT or DELETE.
    """

    name: str
    who: str
    target: str
    request: Request
    refused: str = ""
    method: str = "PATCH"


def allowed(name: str, who: str, target: str, request: Request, method: str = "PATCH") -> Case:
    return Case(name, who, target, request, method=method)


def refused(name: str, who: str, target: str, request: Request, message: str, method: str = "PATCH") -> Case:
    return Case(name, who, target, request, message, method)


OTHERS = "requires permission to patch virtualmachines in namespace"
NOTHING: Request = lambda scene: None  # noqa: E731
CASES = [
    # -- allocations of VMs
    allowed("allocate to an own VM", "alice both everywhere boss root", BLUE, add("10.70.0.20", "a/new")),
    refused("allocate to another's VM", "bob mallory", BLUE, add("10.70.0.20", "a/new"), "address 10.70.0.20 (VM "),
    allowed("change an own allocation", "alice", BLUE, add("10.70.0.10", "a/web", since=UNTIL)),
    refused("change another's", "bob", BLUE, add("10.70.0.10", "a/web", since=UNTIL), OTHERS),
    refused("replace another's", "bob", BLUE, add("10.70.0.10", "b/web"), "address 10.70.0.10 (VM "),
    refused("replace by another's", "alice", BLUE, add("10.70.0.10", "b/web"), OTHERS),
    allowed("move between own namespaces", "both three everywhere boss", BLUE, add("10.70.0.10", "b/web")),
    allowed("release an own allocation", "alice everywhere boss root", BLUE, remove("10.70.0.10")),
    refused("release another's", "bob mallory", BLUE, remove("10.70.0.10"), OTHERS),
    refused("release an own and another's", "alice", BLUE, remove("10.70.0.10", "10.70.0.11"), OTHERS),
    allowed("release those of two namespaces", "both", BLUE, remove("10.70.0.10", "10.70.0.11")),
    refused(
        "allocate in three namespaces", "both three", BLUE,
        all_of(*(add(f"10.70.0.2{n}", f"{ns}/new") for n, ns in enumerate("abc"))), "in all namespaces",
    ),
    allowed(
        "allocate in three namespaces, as administrator", "everywhere boss root", BLUE,
        all_of(*(add(f"10.70.0.2{n}", f"{ns}/new") for n, ns in enumerate("abc"))),
    ),
    refused("empty the map", "alice", BLUE, value("/status/allocations", {}), "requires permission to patch"),
    refused("remove the map", "alice everywhere", BLUE, remove_path("/status/allocations"), "requires permission"),
    refused("remove the status", "alice", BLUE, remove_path("/status"), "requires permission"),
    refused("initialize a network", "alice", "networkwizards/new/status",
            value("/status", {"allocations": {}}), "status.allocations: to initialize"),
    allowed("initialize a network, as administrator", "everywhere boss", "networkwizards/new/status",
            value("/status", {"allocations": {}})),
    # -- reservations, and what others wrote
    allowed("reserve for the own namespace", "alice", BLUE, reserve("10.70.0.30", "namespace/a")),
    allowed("reserve for an own VM", "alice", BLUE, reserve("10.70.0.30", "vm/a/web")),
    refused("reserve for another namespace", "alice", BLUE, reserve("10.70.0.30", "namespace/b"), OTHERS),
    refused("reserve for another's VM", "alice", BLUE, reserve("10.70.0.30", "vm/b/web"), OTHERS),
    refused("reserve for nobody", "alice mallory", BLUE, reserve("10.70.0.30"), OTHERS),
    allowed("reserve for nobody, as administrator", "everywhere boss root", BLUE, reserve("10.70.0.30")),
    refused("reserve for a text", "alice", BLUE, value("/status/allocations/10.70.0.30",
            lambda s: {**s.reservation(), "for": "vm/a"}), NEEDS_NETWORK),
    refused("release a reservation for nobody", "alice", BLUE, remove("10.70.0.12"), OTHERS),
    allowed("take a reservation for the own VM", "alice", BLUE, value("/status/allocations/10.70.0.13",
            lambda s: s.vm("a/new", **{"for": s.named("vm/a/new")}))),
    refused("take another's", "bob", BLUE, value("/status/allocations/10.70.0.13",
            lambda s: s.vm("b/new", **{"for": s.named("vm/a/new")})), "reserved for vm/"),
    allowed("take a reservation for the own namespace", "bob", BLUE, value("/status/allocations/10.70.0.14",
            lambda s: s.vm("b/new", **{"for": s.named("namespace/b")}))),
    allowed("release a reservation for the own namespace", "bob", BLUE, remove("10.70.0.14")),
    refused("release another namespace's", "alice", BLUE, remove("10.70.0.14"), "reserved for namespace/"),
    allowed("restore the reservation that was taken", "alice", BLUE, reserve("10.70.0.17", "vm/b/loser")),
    refused("promise an address to another", "alice", BLUE,
            value("/status/allocations/10.70.0.10", lambda s: s.vm("a/web", **{"for": s.named("vm/b/x")})), OTHERS),
    refused("release the network's own address", "alice everywhere", BLUE, remove("10.70.0.15"), "the network itself"),
    allowed("release the network's own address, as administrator", "boss root", BLUE, remove("10.70.0.15")),
    refused("write one of the network's own", "alice everywhere", BLUE,
            value("/status/allocations/10.70.0.31", {"kind": "Network", "name": "blue"}), NEEDS_NETWORK),
    refused("release an allocation by Platform9 yoshi", "alice", BLUE, remove("10.70.0.16"), OTHERS),
    refused("convert an allocation by Platform9 yoshi", "alice", BLUE, add("10.70.0.16", "net/old"), OTHERS),
    allowed("convert it, as administrator", "everywhere boss", BLUE, add("10.70.0.16", "net/old")),
    refused("write in Platform9 yoshi's form", "everywhere", BLUE, value("/status/allocations/10.70.0.31", "vm"),
            "not an allocation as kubectl yoshi writes it"),
    refused("release one of an unknown kind", "alice everywhere", BLUE, remove("10.70.0.18"), NEEDS_NETWORK),
    refused("write one of an unknown kind", "alice", BLUE, value("/status/allocations/10.70.0.31",
            lambda s: {**s.vm("a/x"), "kind": "Future"}), NEEDS_NETWORK),
    refused("write one without a name", "alice", BLUE, value("/status/allocations/10.70.0.31",
            lambda s: {**s.vm("a/x"), "name": ""}), "not an allocation as kubectl yoshi writes it"),
    refused("write a large one", "alice", BLUE, add("10.70.0.31", "a/x", note="x" * 2000), "not an allocation"),
    refused("take the uid of another's VM", "alice", BLUE, add("10.70.0.31", "a/x", uid="uid-b-web"), "has this uid"),
    refused("take the MAC address of another's VM", "alice", BLUE, add("10.70.0.31", "a/x", mac="02:00:00:00:00:0B"),
            "uid or MAC address"),
    # -- addresses
    *(
        refused(f"allocate {what}", "alice everywhere", BLUE, add(address, "a/x"), f"address {address} is not one that")
        for what, address in {
            "an address outside the CIDR": "10.70.1.20", "the network address": "10.70.0.0", "the gateway": "10.70.0.1",
            "below the range": "10.70.0.9", "above the range": "10.70.0.201", "the broadcast address": "10.70.0.255",
            "an excluded address": "10.70.0.100", "in an excluded range": "10.70.0.120",
            "in an excluded network": "10.70.0.131", "another family": "fd00::1", "no address": "web",
        }.items()
    ),
    *(
        allowed(f"allocate {address}", "alice", BLUE, add(address, "a/x"))
        for address in ("10.70.0.19", "10.70.0.200", "10.70.0.109", "10.70.0.121", "10.70.0.127", "10.70.0.132")
    ),
    allowed("allocate outside the range, as administrator", "boss root", BLUE, add("10.70.0.5", "a/x")),
    allowed("change one outside the range", "alice", BLUE, add("10.70.0.250", "a/outside", since=UNTIL)),
    allowed("allocate in a small IPv6 network", "alice", "networkwizards/six/status", add("fd00:70::10", "a/x")),
    *(
        refused(f"allocate {address}", "alice", "networkwizards/six/status", add(address, "a/x"), f"address {address}")
        for address in ("fd00:70::", "fd00:70::f", "fd00:70::a5", "fd00:70:0::20", "fd00:71::20")
    ),
    allowed("a public address in the CIDR", "alice", "networkwizards/pub/status", add("203.0.113.5", "a/x")),
    allowed("a public address outside", "alice", "networkwizards/pub/status", add("198.51.100.9", "a/x")),
    refused("of the other family", "alice", "networkwizards/pub/status", add("fd00::9", "a/x"), "address fd00::9"),
    refused("the broadcast address", "alice", "networkwizards/pub/status", add("203.0.113.15", "a/x"), "203.0.113.15"),
    allowed("IPv4 without a CIDR", "alice", "networkwizards/loose/status", add("198.51.100.9", "a/x")),
    allowed("IPv6 without a CIDR", "alice", "networkwizards/loose/status", add("fd00::9", "a/x")),
    refused("a second spelling", "alice", "networkwizards/loose/status", add("fd00:0::9", "a/x"), "fd00:0::9"),
    allowed("on a Layer 2 network", "alice", "networkwizards/layer2/status",
            add("10.73.0.9", "a/x", mac="02:00:00:00:00:01")),
    refused("another's on a Layer 2 network", "bob", "networkwizards/layer2/status", add("10.73.0.9", "a/x"), OTHERS),
    refused("in the status of a large network", "alice", BIG, add("10.71.4.50", "a/x"), "is not one that"),
    # -- the quota
    allowed("a second address of a VM", "alice", QUOTA, add("10.72.0.20", "a/one")),
    refused("one more than the quota", "alice everywhere", QUOTA, add("10.72.0.20", "a/two"), "allows 2 addresses"),
    refused("reserve one more", "alice", QUOTA, reserve("10.72.0.20", "vm/a/three"), "allows 2 addresses"),
    allowed("take the reservation", "alice", QUOTA, add("10.72.0.11", "a/two")),
    allowed("two of another namespace", "bob", QUOTA, many("b/vm", ["10.72.0.20", "10.72.0.21"])),
    refused("three of another namespace", "bob", QUOTA, many("b/vm", ["10.72.0.20", "10.72.0.21", "10.72.0.22"]),
            "allows 2 addresses"),
    allowed("more than the quota, as the network's administrator", "boss root", QUOTA, add("10.72.0.20", "a/two")),
    refused("more than the quota without a CIDR", "bob", "networkwizards/loose/status",
            many("b/vm", [f"198.51.100.{n}" for n in range(4)]), "allows 3 addresses"),
    # -- the history
    allowed("release with history", "alice", BLUE, all_of(remove("10.70.0.10"), history("10.70.0.10", ended("a/web")))),
    allowed("release with a second entry", "bob", BLUE, all_of(remove("10.70.0.11"),
            history("10.70.0.11", ended("b/web"), ended("a/web")))),
    refused("lose the first entry", "bob", BLUE, all_of(remove("10.70.0.11"), history("10.70.0.11", ended("b/web"))),
            "its history does not fit"),
    refused("record another holder", "alice", BLUE, all_of(remove("10.70.0.10"),
            history("10.70.0.10", ended("b/web"))), "address 10.70.0.10: its history does not fit"),
    refused("write history only", "bob", BLUE, history("10.70.0.11", ended("b/web"), ended("a/web")), "history"),
    refused("remove another's history", "alice", BLUE, remove_path("/status/history/10.70.0.90"), "10.70.0.90"),
    refused("remove all history", "alice", BLUE, value("/status/history", {}), "its history does not fit"),
    # -- counters, hints, and all other fields
    allowed("counters", "alice", BLUE, all_of(*(value(f"/status/{name}", 9) for name in ("size", "used", "free")))),
    allowed("where the search starts", "alice", BIG, value("/status/searchFrom", "10.71.4.0")),
    allowed("a conflict", "alice", BIG, value("/status/contendedAt", UNTIL)),
    *(
        refused(f"write {name}", "alice everywhere mallory", BLUE, value(f"/status/{name}", content), f"status.{name}")
        for name, content in {
            "created": False, "reason": "broken", "deleting": UNTIL, "observedGeneration": 9, "conditions": [{
                "type": "Ready", "status": "False", "reason": "No", "message": "", "lastTransitionTime": UNTIL}],
        }.items()
    ),
    allowed("delete a network", "boss root", BLUE, value("/status/deleting", UNTIL)),
    allowed("hint at an own reservation", "alice", BIG, hint("10.71.4.40", "a/x")),
    refused("hint at another's", "alice", BIG, hint("10.71.4.40", "b/x"), OTHERS),
    refused("remove another's hint", "bob", BIG, remove_path("/status/reservedForVMs/10.71.4.31"),
            "status.reservedForVMs: to change this"),
    refused("too many hints", "alice", BIG, value("/status/reservedForVMs", lambda s: {
            "10.71.4.31": s.named("a/new"), **{f"10.71.{n // 250}.{n % 250}": s.named("a/x") for n in range(1024)}}),
            "status.reservedForVMs: more addresses"),
    # -- what the status subresource ignores
    allowed("labels and spec by the status", "alice", BLUE, all_of(value("/metadata/labels", {"a": "b"}),
            value("/spec/gateway", "10.70.0.2"))),
    refused("labels by the object", "alice", BLOCK, value("/metadata/labels", {}), "cannot patch resource"),
    refused("patch a network", "alice mallory", "networkwizards/blue", value("/metadata/labels", {}), "cannot patch"),
    # -- AddressBlocks
    allowed("allocate in a block", "alice everywhere", f"{BLOCK}/status", add("10.71.4.40", "a/x")),
    refused("another's in a block", "bob mallory", f"{BLOCK}/status", add("10.71.4.40", "a/x"), "address 10.71.4.40"),
    refused("release another's in a block", "bob mallory", f"{BLOCK}/status", remove("10.71.4.30"), OTHERS),
    refused("take another's in a block", "bob", f"{BLOCK}/status", add("10.71.4.31", "b/x"), "reserved for"),
    *(
        refused(f"allocate {address} in a block", "alice", f"{BLOCK}/status", add(address, "a/x"), f"address {address}")
        for address in ("10.71.5.40", "10.71.4.9", "10.71.4.20", "10.71.4.100", "10.71.4.110", "10.71.4.140")
    ),
    *(
        allowed(f"allocate {address} in a block", "alice", f"{BLOCK}/status", add(address, "a/x"))
        for address in ("10.71.4.10", "10.71.4.99", "10.71.4.111", "10.71.4.255")
    ),
    refused("allocate in an excluded block", "alice", "addressblocks/big.10.71.7.0/status",
            value("/status", lambda s: {"allocations": {"10.71.7.7": s.vm("a/x")}}), "address 10.71.7.7"),
    refused("the broadcast address of a large network", "alice", "addressblocks/big.10.71.255.0/status",
            value("/status", lambda s: {"allocations": {"10.71.255.255": s.vm("a/x")}}), "address 10.71.255.255"),
    refused("allocate below the range", "alice", "addressblocks/big.10.71.2.0/status",
            value("/status", lambda s: {"allocations": {"10.71.2.7": s.vm("a/x")}}), "address 10.71.2.7"),
    allowed("the first one in a block", "alice", "addressblocks/big.10.71.6.0/status",
            value("/status/allocations", lambda s: {"10.71.6.7": s.vm("a/x")})),
    allowed("create a block", "alice", "addressblocks", new_block("big.10.71.9.0", "10.71.9.0"), "POST"),
    allowed("create one with allocations, which are dropped", "alice", "addressblocks",
            with_status(new_block("big.10.71.9.0", "10.71.9.0")), "POST"),
    refused("with another name", "alice root", "addressblocks", new_block("big.10.71.8.0", "10.71.9.0"),
            "its name must end with its first address", "POST"),
    refused("outside the network", "alice", "addressblocks", new_block("big.10.99.9.0", "10.99.9.0"),
            "is not of network", "POST"),
    refused("of another network's name", "alice", "addressblocks", new_block("pub.10.71.9.0", "10.71.9.0"),
            "its network", "POST"),
    refused("without an owner", "alice", "addressblocks",
            new_block("big.10.71.9.0", "10.71.9.0", ownerReferences=[]), NEEDS_NETWORK[:8], "POST"),
    refused("with a finalizer", "alice", "addressblocks",
            new_block("big.10.71.9.0", "10.71.9.0", finalizers=["example.com/x"]), NEEDS_NETWORK[:8], "POST"),
    allowed("with a finalizer, as administrator", "boss", "addressblocks",
            new_block("big.10.71.9.0", "10.71.9.0", finalizers=["example.com/x"]), "POST"),
    refused("of a network that was deleted", "alice", "addressblocks",
            outdated(new_block("big.10.71.9.0", "10.71.9.0")),
            "network", "POST"),
    *(
        refused(f"change its {field}", "mallory", BLOCK, value(f"/metadata/{field}", content), "to change its metadata")
        for field, content in {
            "labels": {}, "annotations": {"a": "b"}, "ownerReferences": [], "finalizers": ["example.com/x"],
        }.items()
    ),
    allowed("change its labels, as administrator", "root", BLOCK, value("/metadata/labels", {})),
    allowed("change nothing", "mallory", BLOCK, lambda s: []),
    refused("delete one with allocations", "alice mallory", BLOCK, NOTHING, "has allocations or their history",
            "DELETE"),
    refused("delete one with history", "alice", "addressblocks/big.10.71.6.0", NOTHING, "their history", "DELETE"),
    allowed("delete an empty one", "alice", "addressblocks/big.10.71.5.0", NOTHING, "DELETE"),
    allowed("delete any, as administrator", "boss root", BLOCK, NOTHING, "DELETE"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} ({case.target.split('/')[1:2]})")
def test_case(scene: PolicyScene, case: Case) -> None:
    for who in case.who.split():
        status, message = scene.send(who, case.method, case.target, case.request(scene))
        if not case.refused:
            assert status == 200, f"{who}: {message}"
        else:
            assert status in (403, 422), f"{who}: {status} {message}"
            assert case.refused in message, f"{who}: {message}"
            assert "error" not in message.lower(), f"{who}: {message}"


# -- many at once ----------------------------------------------------------------------------------------------------


def test_full_objects_stay_within_the_budget_of_an_expression(scene: PolicyScene) -> None:
    """The API server refuses a request whose evaluation costs too much, even those of administrators."""
    numbers = range(1, 251)
    held = {f"10.75.0.{n}": scene.vm(f"a/web-{n}", mac=f"02:00:00:00:00:{n:02x}") for n in numbers}
    set_status(scene, "networkwizards/full", {"allocations": held, "history": {}, "created": True})
    release = [
        operation
        for n in numbers
        for operation in (
            op("remove", f"/status/allocations/10.75.0.{n}"),
            op("add", f"/status/history/10.75.0.{n}", [past(scene.vm(f"a/web-{n}"))]),
        )
    ]
    requests = {
        "renew 250": ("networkwizards/full/status", many("a/new", [*held])(scene)),
        "release 250": ("networkwizards/full/status", release),
        "quota": ("networkwizards/full/status", add("10.75.0.251", "a/web-1")(scene)),
        "256 without a CIDR": (
            "networkwizards/open/status", many("a/x", [f"198.51.{n // 200}.{n % 200}" for n in range(256)])(scene),
        ),
        "IPv6": ("networkwizards/six/status", many("a/x", [f"fd00:70::{n:x}" for n in range(16, 160)])(scene)),
        "a block": (f"{BLOCK}/status", many("a/x", [f"10.71.4.{n}" for n in range(144, 256)])(scene)),
        "40 exclusions": (
            "networkwizards/excluding/status", many("a/x", [f"10.76.0.{n}" for n in range(81, 255)])(scene),
        ),
    }  # fmt: skip
    for name, (target, body) in requests.items():
        assert scene.send("alice", "PATCH", target, body) == (200, ""), name
    status, message = scene.send(
        "alice", "PATCH", "networkwizards/full/status", add("10.75.0.251", "a/one-more")(scene)
    )
    assert (status, "allows 250 addresses" in message) == (422, True), message
    too_many = many("a/x", [f"198.51.{n // 200}.{n % 200}" for n in range(257)])(scene)
    status, message = scene.send("alice", "PATCH", "networkwizards/open/status", too_many)
    assert (status, "records at most 256 addresses" in message) == (422, True), message
    assert scene.send("boss", "PATCH", "networkwizards/open/status", too_many) == (200, "")


@pytest.mark.parametrize(
    ("target", "field", "entry"),
    [
        (BLUE, "allocations", lambda scene: scene.vm("a/web")),
        (BLUE, "history", lambda scene: [past(scene.vm("a/web"))]),
        (BIG, "reservedForVMs", lambda scene: scene.named("a/web")),
        (f"{BLOCK}/status", "allocations", lambda scene: scene.vm("a/web")),
        (f"{BLOCK}/status", "history", lambda scene: [past(scene.vm("a/web"))]),
    ],
)
def test_large_request_is_answered_soon(scene: PolicyScene, target: str, field: str, entry: Request) -> None:
    """An API server that compared all entries would be busy for half a minute."""

    def request(count: int) -> list[Json]:
        return [
            op(
                "add",
                f"/status/{field}",
                {f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}": entry(scene) for n in range(count)},
            )
        ]

    start = time.monotonic()
    status, message = scene.send("alice", "PATCH", target, request(16_000))
    assert time.monotonic() - start < 10
    assert (status, "can grow by up to 1,024 entries in one request" in message) == (422, True), message
    assert scene.send("boss", "PATCH", target, request(2_000)) == (200, "")


def test_large_history_of_an_allocation_is_refused_soon(scene: PolicyScene) -> None:
    entries = [past(scene.vm("a/web"))] * 8_000
    body = [*remove("10.70.0.10")(scene), op("add", "/status/history/10.70.0.10", entries)]
    start = time.monotonic()
    status, message = scene.send("alice", "PATCH", BLUE, body)
    assert time.monotonic() - start < 10
    assert (status, "its history does not fit" in message) == (422, True), message


# -- the program -----------------------------------------------------------------------------------------------------


_programs = itertools.count()


@pytest.fixture
def program(scene: PolicyScene, forks: ForkServer) -> Iterator[tuple[Yoshi, str]]:
    """The program and a network; there are VMs in three namespaces, and its users may read Calico's objects."""
    yoshi = Yoshi(scene.cluster.kubeconfig, scene.cluster.context, forks, scene.net)
    network = f"program-{next(_programs)}"
    yoshi.done("network", "create", network, "--cidr", f"10.77.{network[-1]}.0/24")
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "yoshi-calico-reader"}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": f"{scene.net}-{name}"}
                for name in ("three", "bob")]  # fmt: skip
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "roleRef": role}
    make(scene.cluster, {**binding, "metadata": {"name": f"{scene.net}-calico"}, "subjects": subjects})
    yield yoshi, network
    delete(scene.cluster, "clusterrolebindings", f"{scene.net}-calico")


def test_program_attaches_vms_of_three_namespaces_for_a_user_of_these(
    scene: PolicyScene, program: tuple[Yoshi, str]
) -> None:
    """One request for the allocations of each namespace, since the policy refuses three in one."""
    yoshi, network = program
    for namespace in (scene.a, scene.b, scene.c):
        make_vms(scene.cluster, namespace, "one", "two")
    vms = [f"{namespace}/{name}" for namespace in (scene.a, scene.b, scene.c) for name in ("one", "two")]
    words = (*vms, "--network", f"{scene.net}/{network}", "--as", f"{scene.net}-three")
    said = yoshi.done("vm", "attach", *words)
    assert said.count("attached to") == 6, said
    status = get(scene.cluster, "networkwizards", network, namespace=scene.net)["status"]
    assert {f"{record['namespace']}/{record['name']}" for record in status["allocations"].values()} == {*vms}
    assert status["used"] == 6
    yoshi.done("vm", "detach", *words)
    status = get(scene.cluster, "networkwizards", network, namespace=scene.net)["status"]
    assert (status["allocations"], status["used"]) == ({}, 0)


def test_program_names_the_address_its_holder_and_the_command_that_shows_it(
    scene: PolicyScene, program: tuple[Yoshi, str]
) -> None:
    yoshi, network = program
    address = f"10.77.{network[-1]}.9"
    yoshi.done("ips", "reserve", network, address, "--for", f"vm/{scene.a}/one")
    refused = yoshi.refused("ips", "release", network, address, "--as", f"{scene.net}-bob")
    assert f"address {address} (reserved for vm/{scene.a}/one): to change this requires permission to patch" in refused
    assert f"kubectl yoshi ips show {address}" in refused
