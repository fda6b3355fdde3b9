"""A tenant who sends thousands of random writes, while others work: what belongs to others does not change.

mallory may write VMs, VMIs, pods and Services in one namespace, and has all verbs for the status of networks and for
AddressBlocks, which is more than yoshi-user. `GENERATORS` has what mallory sends.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from lab.api import MERGE_PATCH, ApiError
from lab.testing import Cluster
from tests.cluster import hostile_requests
from tests.cluster.harness import JSON_PATCH, ForkServer, Json, Yoshi, get, make, make_vms
from tests.cluster.hostile_requests import Attack
from tests.cluster.policy_scene import UNTIL, PolicyScene, bind, open_policy_scene, past
from tests.waiting import wait_for

REQUESTS = 5000
THREADS = 4
STATUSES = ("networkwizards/blue", "networkwizards/quota", "networkwizards/layer2", "networkwizards/loose")
BLOCKS = ("addressblocks/big.10.71.4.0", "addressblocks/big.10.71.5.0", "addressblocks/big.10.71.6.0")
PREFIXES = {"blue": "10.70.0", "quota": "10.72.0", "layer2": "10.73.0", "loose": "198.51.100", "big": "10.71.4"}


WANTED = ("10.70.0.10", "10.70.0.12", "10.70.0.13", "10.71.4.30", "10.71.4.31", "10.72.0.10", "10.79.0.1", "10.79.0.2")
"""Addresses of others, which mallory writes on objects."""
MACS = ("02:00:00:00:00:0a",)
MALLORYS_VMS = ("mine", "other")
OBJECT_RULES = [
    {"apiGroups": ["kubevirt.io"], "resources": ["*"], "verbs": ["*"]},
    {"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["*"]},
]

Generator = Callable[[PolicyScene, random.Random], Attack]


@pytest.fixture(scope="module")
def scene(installed: Cluster) -> Iterator[PolicyScene]:
    with open_policy_scene(installed) as found:
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": OBJECT_RULES}
        make(installed, {**role, "metadata": {"name": "objects", "namespace": found.b}})
        bind(found, "mallory", "Role", "objects", found.b)
        for vm in make_vms(installed, found.b, *MALLORYS_VMS):
            found.uids[f"b/{vm['metadata']['name']}"] = vm["metadata"]["uid"]
        yield found


# -- what mallory sends ----------------------------------------------------------------------------------------------


def some_target(rng: random.Random) -> tuple[str, str]:
    """Return a network or block, and the first three bytes of its addresses."""
    target = rng.choice([*STATUSES, *BLOCKS])
    name = target.partition("/")[2]
    return target, name.removeprefix("big.")[:-2] if name.startswith("big.") else PREFIXES[name]


def some_record(scene: PolicyScene, rng: random.Random) -> Any:
    """Return an allocation, of anybody and in any form."""
    owner = f"{rng.choice('aaabbbbbbbbcn')}/{rng.choice(['web', 'new', 'evil'])}".replace("n/", "net/")
    record = scene.vm(owner, uid=rng.choice(["uid-a-web", "uid-b-web", f"uid-{rng.random()}"]))
    for_whom = rng.choice(["vm/a/new", "vm/b/x", "namespace/a", "namespace/b", "vm/net/x", "nonsense"])
    changed = {**record, "kind": rng.choice(["Reservation", "Network", ""])}
    promised = {**record, "for": scene.named(for_whom)}
    others = [
        {"kind": "Network", "name": "blue"},
        {"kind": "Other"},
        {**record, "note": "x" * 3000},
        "web",
        None,
        {},
        7,
    ]
    return rng.choice(
        [record, record, record, scene.reservation(), scene.reservation(for_whom), changed, promised, *others]
    )


def some_operation(scene: PolicyScene, rng: random.Random, prefix: str) -> Json:
    """Return an operation of a JSON Patch of a status."""
    address = rng.choice([f"{prefix}.{rng.randrange(8, 60)}", f"{prefix}.{rng.randrange(256)}", "fd00::1", "x"])
    verb = rng.choice(["add", "replace", "remove", "add", "move", "copy"])
    where = rng.choice(["allocations", "allocations", "allocations", "history", "reservedForVMs"])
    path = f"/status/{where}/{address}"
    if verb == "remove":
        return {"op": verb, "path": path}
    if verb in ("move", "copy"):
        return {"op": verb, "from": f"/status/{where}/{prefix}.{rng.randrange(8, 40)}", "path": path}
    values: dict[str, Callable[[], Any]] = {
        "allocations": lambda: some_record(scene, rng),
        "history": lambda: [past(scene.vm(rng.choice(["a/web", "b/web"])))] * rng.randrange(3),
        "reservedForVMs": lambda: scene.named(rng.choice(["a/new", "b/x", "b", ""])),
    }
    return {"op": verb, "path": path, "value": values[where]()}


def status_operations(scene: PolicyScene, rng: random.Random) -> Attack:
    """One to four operations on entries of the maps."""
    target, prefix = some_target(rng)
    operations = [some_operation(scene, rng, prefix) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
    return Attack("PATCH", scene.path(f"{target}/status"), operations)


def whole_maps(scene: PolicyScene, rng: random.Random) -> Attack:
    """The status, or one of its fields, as a whole."""
    target, prefix = some_target(rng)
    records = {f"{prefix}.{rng.randrange(8, 40)}": some_record(scene, rng) for _ in range(rng.randrange(4))}
    fields = [
        ("/reservedForVMs", {}),
        ("/created", False),
        ("/deleting", UNTIL),
        ("/reason", "no"),
        ("/conditions", []),
    ]
    maps = [("", {}), ("", {"allocations": records}), ("/allocations", records), ("/allocations", {}), ("/history", {})]
    path, value = rng.choice([*fields, *maps])
    verb = rng.choice(["add", "replace", "remove"])
    return Attack("PATCH", scene.path(f"{target}/status"), [{"op": verb, "path": f"/status{path}", "value": value}])


def merge_patches(scene: PolicyScene, rng: random.Random) -> Attack:
    """Merge patches, in which null removes an entry."""
    target, prefix = some_target(rng)
    keys = {f"{prefix}.{rng.randrange(8, 40)}": rng.choice([None, some_record(scene, rng)]) for _ in range(3)}
    status = rng.choice([None, {"allocations": None}, {"allocations": keys}, {"history": None}])
    return Attack("PATCH", scene.path(f"{target}/status"), {"status": status}, MERGE_PATCH)


def own_allocations(scene: PolicyScene, rng: random.Random) -> Attack:
    """What mallory may do: allocate and release addresses of VMs in b."""
    address = f"10.70.0.{rng.randrange(20, 60)}"
    change = {"op": "add", "value": scene.vm(f"b/vm-{rng.randrange(9)}", uid=f"uid-b-{rng.randrange(9)}")}
    operation = {**rng.choice([change, {"op": "remove"}]), "path": f"/status/allocations/{address}"}
    return Attack("PATCH", scene.path("networkwizards/blue/status"), [operation])


def blocks(scene: PolicyScene, rng: random.Random) -> Attack:
    """AddressBlocks: created, deleted, and their metadata."""
    number = rng.randrange(12)
    name = rng.choice([f"big.10.71.{number}.0", f"blue.10.71.{number}.0", f"big.10.70.{number}.0"])
    new = scene.block_object(name, f"10.71.{rng.choice([number, 9])}.0")
    new |= rng.choice([{}, {"status": {"allocations": {"10.71.9.9": some_record(scene, rng)}}}])
    if rng.random() < 0.5:
        new["metadata"] |= rng.choice([{"ownerReferences": []}, {"finalizers": ["a.b/c"]}, {"labels": {}}])
    path = scene.path(f"addressblocks/{name}")
    field, value = rng.choice([("labels", {}), ("ownerReferences", []), ("finalizers", ["a.b/c"]), ("annotations", {})])
    return rng.choice(
        [
            Attack("POST", scene.path("addressblocks"), new),
            Attack("DELETE", path),
            Attack("PATCH", path, [{"op": "add", "path": f"/metadata/{field}", "value": value}]),
            Attack("PUT", path, new),
        ]
    )


def objects(scene: PolicyScene, rng: random.Random) -> Attack:
    """VMs, VMIs, pods and Services with addresses of others."""
    vms = {name: scene.uids[f"b/{name}"] for name in MALLORYS_VMS}
    tenant = hostile_requests.Tenant(scene.b, vms, WANTED, MACS)
    return rng.choice(hostile_requests.GENERATORS)(tenant, rng)


GENERATORS: list[tuple[int, Generator]] = [
    (5, status_operations), (2, whole_maps), (1, merge_patches), (3, own_allocations), (2, blocks), (4, objects),
]  # fmt: skip
"""How often, and what."""


def send(scene: PolicyScene, attack: Attack) -> int:
    """Send a write as mallory; return the HTTP status."""
    api = scene.users["mallory"]
    try:
        if attack.method == "PATCH":
            api.patch(attack.path, attack.body, attack.kind)
        elif attack.method == "POST":
            api.post(attack.path, attack.body)
        elif attack.method == "PUT":
            api.put(attack.path, attack.body)
        else:
            api.delete(attack.path)
    except ApiError as error:
        return error.status
    return 200


def attack_repeatedly(scene: PolicyScene, count: int, seed: int) -> Counter[str]:
    """Send random writes; return how often each generator was answered with each status."""
    rng = random.Random(seed)
    weights, generators = zip(*GENERATORS, strict=True)
    answers: Counter[str] = Counter()
    for _ in range(count):
        [generator] = rng.choices(generators, weights)
        answers[f"{generator.__name__} {send(scene, generator(scene, rng))}"] += 1
    return answers


# -- what others do, and what must stay ------------------------------------------------------------------------------


def allocate_and_release(scene: PolicyScene, stop: threading.Event) -> int:
    """Allocate and release addresses as alice, and see that nobody else changes them; return how many."""
    rng, count = random.Random(1), 0
    alice, path = scene.users["alice"], scene.path("networkwizards/blue/status")
    while not stop.is_set():
        address, record = f"10.70.0.{rng.randrange(61, 90)}", scene.vm(f"a/busy-{count}")
        key = f"/status/allocations/{address}"
        try:
            alice.patch(path, [{"op": "test", "path": key, "value": None}, {"op": "add", "path": key, "value": record}],
                        JSON_PATCH)  # fmt: skip
        except ApiError as error:
            assert error.status == 422, error  # mallory has the address
            continue
        stop.wait(0.05)
        alice.patch(path, [{"op": "test", "path": key, "value": record}, {"op": "remove", "path": key}], JSON_PATCH)
        count += 1
    return count


def of_others(scene: PolicyScene) -> dict[str, Any]:
    """Return what mallory must not change: allocations of others, hints for them, all other fields, and metadata.

    An empty AddressBlock may be deleted and created again.
    """
    found: dict[str, Any] = {}
    for obj in get(scene.cluster, "networkwizards,addressblocks", namespace=scene.net)["items"]:
        name, status = f"{obj['kind']}/{obj['metadata']['name']}", obj.get("status", {})
        records = {
            f"{name} {address}": record
            for address, record in status.get("allocations", {}).items()
            if not isinstance(record, dict)
            or scene.b not in (record.get("namespace"), *str(record.get("for")).split("/"))
        }
        found |= records
        fields = ("created", "reason", "deleting", "conditions", "observedGeneration")
        found |= {f"{name} {field}": status[field] for field in fields if field in status}
        found |= {f"{name} hint {k}": vm for k, vm in status.get("reservedForVMs", {}).items() if scene.b not in vm}
        if records or obj["kind"] == "NetworkWizard":
            kept = ("uid", "labels", "annotations", "ownerReferences", "finalizers")
            found[f"{name} metadata"] = {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}
            found[f"{name} spec"] = obj["spec"]
    return found


def without_renewed(found: dict[str, Any]) -> dict[str, Any]:
    """Return the same without what attaching again renews: the time and the MAC address of an allocation."""
    renewed = [f"NetworkWizard/used {address}" for address in WANTED]
    holders = {key: found[key]["name"] for key in renewed if key in found}
    return {**found, **holders}


def is_refused(scene: PolicyScene) -> bool:
    """Return whether mallory may not write an address of another tenant on a VM."""
    template = {"metadata": {"annotations": {"cni.projectcalico.org/ipAddrs": '["10.79.0.1"]'}}}
    path = f"/apis/kubevirt.io/v1/namespaces/{scene.b}/virtualmachines/{MALLORYS_VMS[0]}?dryRun=All"
    return send(scene, Attack("PATCH", path, {"spec": {"template": template}}, MERGE_PATCH)) == 403


def stolen_addresses(scene: PolicyScene) -> list[str]:
    """Return the objects of mallory's namespace that request an address of others."""
    kinds = "virtualmachines,virtualmachineinstances,pods,services"
    return [
        f"{obj['kind']} {obj['metadata']['name']}"
        for obj in get(scene.cluster, kinds, namespace=scene.b)["items"]
        if {*WANTED}.intersection(hostile_requests.requested_addresses(obj))
    ]


@pytest.mark.timeout(1200)
def test_nothing_of_others_changes(scene: PolicyScene, installed: Cluster, forks: ForkServer) -> None:
    make_vms(installed, scene.a, "one", "two")
    administrator = Yoshi(installed.kubeconfig, installed.context, forks, scene.net)
    administrator.done("network", "create", "used", "--cidr", "10.79.0.0/24")
    user = administrator.within(scene.a)
    user.done("vm", "attach", "one", "two", "--network", f"{scene.net}/used")
    wait_for(lambda: is_refused(scene), "the policies protect the addresses of the new network")
    before = of_others(scene)
    stop = threading.Event()
    with ThreadPoolExecutor(THREADS + 1) as pool:
        work = pool.submit(allocate_and_release, scene, stop)
        attacks = [pool.submit(partial(attack_repeatedly, scene, REQUESTS // THREADS, n)) for n in range(THREADS)]
        try:
            for _ in range(2):
                user.done("vm", "detach", "one", "two", "--network", f"{scene.net}/used")
                user.done("vm", "attach", "one", "two", "--network", f"{scene.net}/used")
            answers = sum((attack.result() for attack in attacks), Counter())
        finally:
            stop.set()
        assert work.result() > 5
    assert without_renewed(of_others(scene)) == without_renewed(before)
    assert stolen_addresses(scene) == []
    statuses: Counter[str] = Counter()
    for answer, count in answers.items():
        statuses[answer.split()[1]] += count
    assert statuses["200"] > REQUESTS // 20, answers
    assert statuses["403"] > REQUESTS // 20, answers
    assert not any(status.startswith("5") for status in statuses), answers
