"""`ips rebuild` on a real API server after restores: allocations lost or old, and everything with a new uid.

| what was restored | what must be true afterwards |
|---|---|
| networks without status or blocks | every record is what it was; a second run changes nothing |
| networks recreated, under new uids | the same; pools serve again, old address blocks are recreated |
| VMs recreated, under new uids | the records are theirs, and the Services too |
| a VM with the address of another | one keeps it, the other is reported; what the message says fixes it |
| an allocations of an older backup | records change hands |
| while others attach | nobody's record is lost |
| networks without status, before any rebuild | no address is assigned; sync does what a rebuild does first |
| kill -9 in the middle | what is written is true; the same command completes it |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check, violations
from tests.cluster.harness import (
    Json,
    Run,
    Yoshi,
    delete_all,
    ensure,
    find,
    get,
    make,
    make_vms,
    patch,
    resource_versions,
    vm,
)
from tests.cluster.killing import ProxiedProgram
from tests.cluster.public_scene import METALLB
from tests.cluster.raw_state import read_raw_state
from tests.waiting import wait_for

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I7]

PIN = "cni.projectcalico.org/ipAddrs"
OF_A_NEW_OBJECT = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "ownerReferences")
OURS = ("networkwizards.plumber.k8s.pf9.io", "addressblocks.plumber.k8s.pf9.io")
VMS = "virtualmachines.kubevirt.io"
WRITTEN = (*OURS, VMS, "services")


@dataclass(frozen=True)
class Scene:
    """A namespace with networks and VMs on them.

    Attributes:
        cluster, yoshi, namespace: where.
        before: see `allocations_of`, before the loss.
    """

    cluster: Cluster
    yoshi: Yoshi
    namespace: str
    before: dict[str, tuple[str, str, str]]

    def items(self, kind: str) -> list[Json]:
        return list(get(self.cluster, kind, namespace=self.namespace)["items"])

    def lose_status(self) -> None:
        """As a restore that leaves status out (what Velero does), with the blocks not restored at all."""
        for network in self.items(OURS[0]):
            if "status" not in network:
                continue
            name, removal = network["metadata"]["name"], [{"op": "remove", "path": "/status"}]
            patch(self.cluster, OURS[0], name, removal, namespace=self.namespace, subresource="status")
        delete_all(self.cluster, OURS[1], namespace=self.namespace)

    def recreate(self, kind: str, cascade: str = "Background") -> None:
        """Deletes all objects of a kind and recreates them, as a restore does: with new uids, without status."""
        objects = self.items(kind)
        delete_all(self.cluster, kind, namespace=self.namespace, cascade=cascade)
        gone = {one["metadata"]["uid"] for one in objects}
        wait_for(lambda: cascade == "Orphan" or not gone & self.owners_of_services(), "what they owned is gone")
        make(self.cluster, *map(new_object, objects))

    def owners_of_services(self) -> set[str]:
        """The uids that Services name as their owners'."""
        owners = (service["metadata"].get("ownerReferences", []) for service in self.items("services"))
        return {owner["uid"] for of_one in owners for owner in of_one}

    def versions(self) -> dict[str, str]:
        return resource_versions(self.cluster, self.namespace, *WRITTEN)

    def newcomers_get_others(self, name: str) -> None:
        """A VM that comes now gets addresses that nobody had before."""
        if not find(self.cluster, VMS, name, namespace=self.namespace):
            make_vms(self.cluster, self.namespace, name)
        self.yoshi.done("vm", "attach", name, "--network", "small", "--public-network", "pub")
        self.yoshi.done("vm", "detach", name, "--network", "small")
        self.yoshi.done("vm", "attach", name, "--network", "large")
        now = allocations_of(self.cluster, self.namespace)
        assert self.before.items() <= now.items()
        assert sorted(one for one, *_ in now.values()).count(name) == 2
        check(self.cluster, self.namespace, settled=True)

    def rebuild_changes_nothing(self) -> None:
        versions = self.versions()
        assert self.yoshi.done("ips", "rebuild", "--yes").startswith("unchanged: ")
        assert self.versions() == versions


def new_object(obj: Json) -> Json:
    metadata = {key: value for key, value in obj["metadata"].items() if key not in OF_A_NEW_OBJECT}
    return {key: value for key, value in obj.items() if key != "status"} | {"metadata": metadata}


def allocations_of(cluster: Cluster, namespace: str) -> dict[str, tuple[str, str, str]]:
    """Address -> name, uid and MAC address, of all networks of a namespace."""
    found = {}
    for kind in OURS:
        for obj in get(cluster, kind, namespace=namespace)["items"]:
            for address, record in ((obj.get("status") or {}).get("allocations") or {}).items():
                assert address not in found, f"{address} has two records"
                found[address] = record.get("name", ""), record.get("uid", ""), record.get("mac", "")
    return found


def with_new_uids(before: dict[str, tuple[str, str, str]], vms: Iterable[Json]) -> dict[str, tuple[str, str, str]]:
    uids = {one["metadata"]["name"]: one["metadata"]["uid"] for one in vms}
    return {address: (name, uids[name], mac) for address, (name, _, mac) in before.items()}


def pinned(obj: Json) -> list[str]:
    annotations = (obj["spec"]["template"].get("metadata") or {}).get("annotations") or {}
    return list(json.loads(annotations.get(PIN, "[]")))


@pytest.fixture
def scene(yoshi: Yoshi, installed: Cluster, cidr: Callable[[int], str]) -> Scene:
    """A small and a large private network and a public one, two VMs on each; the first two have a public address."""
    namespace = yoshi.namespace
    ensure(installed, METALLB)
    yoshi.done("network", "create", "small", "--cidr", cidr(24))
    yoshi.done("network", "create", "large", "--cidr", cidr(20))
    yoshi.done("network", "create", "pub", "--plugin", "public", "--announce", "metallb-l2", "--cidr", cidr(28))
    make_vms(installed, namespace, "s-1", "s-2", "l-1", "l-2")
    yoshi.done("vm", "attach", "s-1", "s-2", "--network", "small", "--public-network", "pub")
    yoshi.done("vm", "attach", "l-1", "--network", "large")
    yoshi.done("vm", "attach", "l-2", "--network", "large")
    check(installed, namespace, settled=True)
    before = allocations_of(installed, namespace)
    assert len(before) == 6
    return Scene(installed, yoshi, namespace, before)


def test_rebuild_restores_lost_allocations(scene: Scene) -> None:
    scene.lose_status()
    assert allocations_of(scene.cluster, scene.namespace) == {}
    versions = scene.versions()

    shown = scene.yoshi.run("ips", "rebuild", "--dry-run=client")
    assert shown.code == 0, str(shown)
    for address, (name, uid, _) in scene.before.items():
        line = rf"{re.escape(address)} +<none> +{scene.namespace}/{name} \({uid[:8]}\)"
        assert re.search(line, shown.err), f"{address} of {name} is not shown:\n{shown}"
    assert "contradiction" not in shown.err
    checked = scene.yoshi.run("ips", "rebuild", "--dry-run=server")
    assert checked.code == 0, str(checked)
    assert scene.versions() == versions

    written = scene.yoshi.done("ips", "rebuild", "--yes")
    for network in ("small", "large", "pub"):
        assert f"network {scene.namespace}/{network}: 2 addresses recorded" in written
    assert allocations_of(scene.cluster, scene.namespace) == scene.before
    scene.rebuild_changes_nothing()
    check(scene.cluster, scene.namespace, settled=True)
    scene.yoshi.done("ips", "check")


def test_no_address_is_assigned_before_lost_allocations_are_rebuilt(scene: Scene) -> None:
    """The address of a stopped VM, of which only its template tells, would be the next VM's."""
    public = next(iter(get(scene.cluster, OURS[0], "pub", namespace=scene.namespace)["status"]["allocations"]))
    scene.lose_status()
    make_vms(scene.cluster, scene.namespace, "late")
    versions = scene.versions()
    for args in (("--network", "small"), ("--network", "large"), ("--public-network", "pub")):
        said = scene.yoshi.refused("vm", "attach", "late", *args)
        assert "assigns no addresses yet: it is not initialized, or its status was lost" in said
        assert "kubectl yoshi ips rebuild" in said
    for network in ("small", "large", "pub"):
        assert "assigns no addresses yet" in scene.yoshi.refused("ips", "reserve", network)
        assert "assigns no addresses yet" in scene.yoshi.refused("ips", "reserve", network, "--dry-run=server")
    assert "assigns no addresses yet" in scene.yoshi.refused("ips", "move", public, "--to", "late")
    assert scene.versions() == versions
    scene.yoshi.done("ips", "rebuild", "--yes")
    scene.newcomers_get_others("late")


def test_sync_with_lost_allocations_records_existing_addresses_first(scene: Scene) -> None:
    for name in ("s-1", "l-1"):  # asks for nothing any more: only the template and the Service tell
        removed = {"metadata": {"annotations": {"plumber.k8s.pf9.io/networkName": None}}}
        patch(scene.cluster, VMS, name, removed, namespace=scene.namespace)
    scene.lose_status()
    asking = [vm(scene.namespace, f"asks-{number}") for number in range(4)]
    for number, one in enumerate(asking):
        one["metadata"]["annotations"] = {"plumber.k8s.pf9.io/networkName": "small" if number % 2 else "large"}
    make(scene.cluster, *asking)
    synced = scene.yoshi.run("sync")
    assert synced.code == 0, str(synced)
    assert scene.before.items() <= allocations_of(scene.cluster, scene.namespace).items()
    scene.newcomers_get_others("late")
    assert "unchanged" in scene.yoshi.done("sync")


def test_concurrent_commands_after_a_loss_assign_no_address_in_use(scene: Scene) -> None:
    scene.lose_status()
    fresh = [f"n-{number}" for number in range(8)]
    make_vms(scene.cluster, scene.namespace, *fresh)
    attach = [
        Run(("vm", "attach", name, "--network", "large" if number % 2 else "small"), wait=0.3 * number)
        for number, name in enumerate(fresh)
    ]
    openers = [Run(("sync",)), Run(("ips", "rebuild", "--yes"), wait=0.2), Run(("sync",), wait=0.4)]
    for ran in scene.yoshi.together(*openers, *attach)[: len(openers)]:
        assert ran.code == 0, str(ran)
    assert scene.before.items() <= allocations_of(scene.cluster, scene.namespace).items()
    for number, name in enumerate(fresh):
        scene.yoshi.done("vm", "attach", name, "--network", "large" if number % 2 else "small")
    check(scene.cluster, scene.namespace, settled=True)


@pytest.mark.parametrize("cascade", ["Background", "Orphan"])
def test_rebuild_restores_allocations_of_recreated_networks(scene: Scene, cascade: str) -> None:
    """With `orphan` Kubernetes puts a finalizer on the network and takes the ownerReferences off its blocks."""
    blocks = {block["metadata"]["name"] for block in scene.items(OURS[1])}
    scene.recreate(OURS[0], cascade)
    if cascade == "Orphan":
        assert {block["metadata"]["name"] for block in scene.items(OURS[1])} == blocks
    assert scene.yoshi.run("ips", "rebuild", "--yes").code == 0
    assert allocations_of(scene.cluster, scene.namespace) == scene.before
    uids = {one["metadata"]["name"]: one["metadata"]["uid"] for one in scene.items(OURS[0])}
    assert {block["spec"]["networkUID"] for block in scene.items(OURS[1])} == {uids["large"]}
    scene.rebuild_changes_nothing()

    synced = scene.yoshi.run("sync")
    assert synced.code == 0, str(synced)
    assert allocations_of(scene.cluster, scene.namespace) == scene.before
    assert all(network["status"]["created"] for network in scene.items(OURS[0]))
    check(scene.cluster, scene.namespace, settled=True)
    scene.yoshi.done("ips", "check")
    for name in ("s-1", "l-1"):
        scene.yoshi.done("vm", "detach", name, "--network", "small" if name == "s-1" else "large")
    check(scene.cluster, scene.namespace, settled=True)


def test_rebuild_updates_the_uids_of_recreated_vms(scene: Scene) -> None:
    scene.recreate(VMS)
    vms = scene.items(VMS)
    assert scene.yoshi.run("ips", "rebuild", "--yes").code == 0
    assert allocations_of(scene.cluster, scene.namespace) == with_new_uids(scene.before, vms)
    scene.rebuild_changes_nothing()
    synced = scene.yoshi.run("sync")
    assert synced.code == 0, str(synced)
    assert allocations_of(scene.cluster, scene.namespace) == with_new_uids(scene.before, vms)
    owners = {s["metadata"]["ownerReferences"][0]["uid"] for s in scene.items("services")}
    assert owners == {one["metadata"]["uid"] for one in vms if one["metadata"]["name"] in ("s-1", "s-2")}
    check(scene.cluster, scene.namespace, settled=True)


def test_rebuild_after_everything_was_recreated(scene: Scene) -> None:
    scene.recreate(OURS[0])
    scene.recreate(VMS)
    scene.lose_status()
    vms = scene.items(VMS)
    assert scene.yoshi.run("ips", "rebuild", "--yes").code == 0
    assert allocations_of(scene.cluster, scene.namespace) == with_new_uids(scene.before, vms)
    synced = scene.yoshi.run("sync")
    assert synced.code == 0, str(synced)
    assert allocations_of(scene.cluster, scene.namespace) == with_new_uids(scene.before, vms)
    check(scene.cluster, scene.namespace, settled=True)
    scene.yoshi.done("ips", "check")


def test_duplicate_address_of_a_restored_vm_is_reported_and_its_hint_resolves_it(scene: Scene) -> None:
    (address,) = (address for address, (name, *_) in scene.before.items() if name == "l-1")
    original = get(scene.cluster, "virtualmachine", "l-1", namespace=scene.namespace)
    created = datetime.fromisoformat(original["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    wait_for(lambda: datetime.now(timezone.utc) >= created + timedelta(seconds=1), "the other VM is younger")
    twin = vm(scene.namespace, "twin", template_annotations={PIN: json.dumps([address])})
    make(scene.cluster, twin)
    scene.lose_status()
    ran = scene.yoshi.run("ips", "rebuild", "--yes")
    assert ran.code == 0, str(ran)
    (said,) = (line for line in ran.err.splitlines() if "contradiction: " in line)
    assert f"{address} on network {scene.namespace}/large: {scene.namespace}/l-1 keeps it" in said
    assert "this VM is older" in said
    assert f"{scene.namespace}/twin has it too" in said
    assert allocations_of(scene.cluster, scene.namespace) == scene.before
    check_fails = scene.yoshi.run("ips", "check")
    assert check_fails.code == 1
    (mend,) = re.findall(r"`kubectl yoshi ([^`]+)`", said)
    scene.yoshi.done(*mend.split())
    assert allocations_of(scene.cluster, scene.namespace) == scene.before
    scene.yoshi.done("vm", "attach", "twin", "--network", "large")
    scene.yoshi.done("ips", "rebuild", "--yes")  # counts the addresses of the large network
    scene.rebuild_changes_nothing()
    check(scene.cluster, scene.namespace, settled=True)


def test_rebuild_updates_allocations_from_an_older_backup(scene: Scene) -> None:
    """Yesterday's networks were restored into today's cluster: addresses have changed hands since."""
    old = {network["metadata"]["name"]: network["status"] for network in scene.items(OURS[0])}
    (address,) = (
        address
        for address, (name, *_) in scene.before.items()
        if name == "s-1" and address in old["small"]["allocations"]
    )
    scene.yoshi.done("vm", "detach", "s-1", "--network", "small")
    make_vms(scene.cluster, scene.namespace, "heir")
    scene.yoshi.done("vm", "attach", "heir", "--network", "small", "--ip", address)
    now = allocations_of(scene.cluster, scene.namespace)
    status = {"status": {"allocations": old["small"]["allocations"]}}
    patch(scene.cluster, OURS[0], "small", status, namespace=scene.namespace, subresource="status")
    assert allocations_of(scene.cluster, scene.namespace) == scene.before
    ran = scene.yoshi.run("ips", "rebuild", "--yes")
    assert ran.code == 0, str(ran)
    assert "contradiction" not in ran.err
    assert allocations_of(scene.cluster, scene.namespace) == now
    scene.rebuild_changes_nothing()
    check(scene.cluster, scene.namespace, settled=True)


def test_concurrent_rebuild_and_attach_leave_correct_allocations(
    yoshi: Yoshi, installed: Cluster, cidr: Callable[[int], str]
) -> None:
    namespace, blue = yoshi.namespace, cidr(24)
    yoshi.done("network", "create", "blue", "--cidr", blue)
    restored = {f"{blue.removesuffix('0/24')}{100 + n}": f"r-{n}" for n in range(6)}
    make(
        installed, *(vm(namespace, name, template_annotations={PIN: json.dumps([ip])}) for ip, name in restored.items())
    )
    fresh = [f"n-{number}" for number in range(6)]
    make_vms(installed, namespace, *fresh)
    # asked for by name: what is chosen may be one that a VM above has, as long as no rebuild has recorded it
    asked = {f"{blue.removesuffix('0/24')}{10 + n}": name for n, name in enumerate(fresh)}
    attach = [Run(("vm", "attach", name, "--network", "blue", "--ip", ip)) for ip, name in asked.items()]
    rebuilds = [Run(("ips", "rebuild", "--yes"), wait=0.15 * number) for number in range(3)]
    for ran in yoshi.together(*attach, *rebuilds):
        assert ran.code == 0, str(ran)
    held = {address: name for address, (name, *_) in allocations_of(installed, namespace).items()}
    assert held == {**restored, **asked}
    check(installed, namespace, settled=True)


def test_killed_rebuild_writes_nothing_wrong_and_is_completed_by_a_second_run(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, cidr: Callable[[int], str]
) -> None:
    namespace, first = yoshi.namespace, cidr(20)
    yoshi.done("network", "create", "large", "--cidr", first)
    prefix = ".".join(first.split(".")[:2])
    third = int(first.split(".")[2])
    wanted = {f"{prefix}.{third + n % 12}.{10 + n // 12}": f"vm-{n}" for n in range(240)}
    objects = [vm(namespace, name, template_annotations={PIN: json.dumps([ip])}) for ip, name in wanted.items()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda some: make(installed, *some), (objects[:120], objects[120:])))

    def nothing_is_false() -> None:
        held = allocations_of(installed, namespace)
        assert {address: name for address, (name, *_) in held.items()}.items() <= wanted.items()
        assert [
            v for v in violations(read_raw_state(installed, [namespace]), [namespace]) if "has no record" not in v
        ] == []

    assert proxied.kills("ips", "rebuild", "--yes", look=nothing_is_false) > 3
    assert {address: name for address, (name, *_) in allocations_of(installed, namespace).items()} == wanted
    assert "unchanged" in yoshi.done("ips", "rebuild", "--yes")
    check(installed, namespace, settled=True)
    yoshi.done("ips", "check")
