"""Two versions of this program at once on one network's allocations, side by side as processes on a real API server.

    an older one, and legacy allocations        the invariants; nobody has an address twice
    a newer one, whose CRDs keep its fields     the same, and its fields survive whatever this version writes
    one that records in a way of its own        this version refuses, and wrote nothing that the newer one did not see

The other versions: tests/cluster/other_versions.py. YOSHI_VERSION_ROUNDS is how many rounds of processes (5).
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

import lab
from kubectl_yoshi.cli.installation import CRD, load_manifests
from lab.testing import Cluster
from tests.cluster.checker import check, violations
from tests.cluster.harness import CommandResult, ForkServer, Json, Run, Yoshi, get, make_vms
from tests.cluster.other_versions import AUDIT, LEASE, NEWER, OLDER
from tests.cluster.raw_state import read_raw_state
from tests.waiting import wait_for

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I6]

ROUNDS = int(os.environ.get("YOSHI_VERSION_ROUNDS", "5"))
SIDE_BY_SIDE = 6
VMS = tuple(f"vm-{number}" for number in range(10))
ORIGINALS = VMS[:3]
"""VMs with allocations of Platform9 yoshi."""
UNDERSTOOD = ("is full", "already has", "is not free", "was faster", "others", "no address", "not found", "stays")
REQUIRES = "plumber.k8s.pf9.io/requires"
OURS = ("networkwizards", "addressblocks")


@dataclass(frozen=True)
class VersionsFixture:
    """A cluster with the CRDs of a newer version, and a namespace with networks small and big, and VMs."""

    cluster: Cluster
    yoshi: Yoshi
    namespace: str

    def allocation_objects(self) -> dict[str, Json]:
        """ "kind/name" -> the object, of every network and block."""
        found = [obj for kind in OURS for obj in get(self.cluster, kind, namespace=self.namespace)["items"]]
        return {f"{obj['kind']}/{obj['metadata']['name']}": obj for obj in found}

    def records(self) -> dict[str, Json]:
        """Address -> record."""
        found: dict[str, Json] = {}
        for obj in self.allocation_objects().values():
            found |= (obj.get("status") or {}).get("allocations") or {}
        return found

    def pins(self) -> dict[str, str]:
        """Address -> the VM that carries it."""
        found = {}
        for vm in get(self.cluster, "virtualmachines", namespace=self.namespace)["items"]:
            annotations = (vm["spec"]["template"].get("metadata") or {}).get("annotations") or {}
            for address in json.loads(annotations.get("cni.projectcalico.org/ipAddrs", "[]")):
                assert address not in found, address
                found[address] = vm["metadata"]["name"]
        return found

    def moment(self) -> list[str]:
        """What must not be, even while runs are under way: a VM may have a second record, which it does not carry."""
        found = violations(read_raw_state(self.cluster, [self.namespace]), [self.namespace])
        return [one for one in found if not one.startswith("I3") or "carries" in one]


@pytest.fixture(scope="module")
def newer_cluster(request: pytest.FixtureRequest, forks: ForkServer) -> Iterator[Cluster]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("replaces the CRDs, so it needs a lab of its own")
    with lab.start() as running:
        cluster = Cluster(running.kubeconfig, "lab")
        cluster.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": newer()}))
        wait_for(
            lambda: {("plumber.k8s.pf9.io", one) for one in OURS} <= set(running.api.list_served_resources()),
            "the CRDs are served",
        )
        yield cluster


def newer() -> list[Json]:
    """What a newer version's `install` makes: CRDs with more fields than this version's."""
    found = load_manifests()
    for obj in found:
        obj["metadata"]["annotations"]["plumber.k8s.pf9.io/version"] = "99.0.0"
        if obj["kind"] == CRD.kind:
            (version,) = obj["spec"]["versions"]
            for part in ("spec", "status"):
                version["schema"]["openAPIV3Schema"]["properties"][part]["x-kubernetes-preserve-unknown-fields"] = True
    return found


@pytest.fixture
def fixture(newer_cluster: Cluster, forks: ForkServer, cidr: Callable[[int], str]) -> Iterator[VersionsFixture]:
    with newer_cluster.namespace() as namespace:
        yoshi = Yoshi(newer_cluster.kubeconfig, newer_cluster.context, forks, namespace)
        yoshi.done("network", "create", "small", "--cidr", cidr(28))
        yoshi.done("network", "create", "big", "--cidr", cidr(20), version=NEWER)
        make_vms(newer_cluster, namespace, *VMS, labels={"app": "db"})
        yield VersionsFixture(newer_cluster, yoshi, namespace)


def patch(fixture: VersionsFixture, kind: str, name: str, body: Json, *more: str) -> None:
    fixture.cluster.kubectl("patch", kind, name, "-n", fixture.namespace, "--type=merge", "-p", json.dumps(body), *more)


def write_legacy_records(fixture: VersionsFixture) -> None:
    """Platform9 yoshi's records: an address, and a VM's name."""
    cidr = get(fixture.cluster, "networkwizard", "small", namespace=fixture.namespace)["spec"]["cidr"]
    first = ipaddress.ip_network(cidr).network_address
    records = {str(first + 5 + number): name for number, name in enumerate(ORIGINALS)}
    patch(fixture, "networkwizard", "small", {"status": {"allocations": records}}, "--subresource=status")


def one_command(rng: random.Random) -> tuple[str, ...]:
    vm, network = rng.choice(VMS), rng.choice(("small", "big"))
    return rng.choice(
        (
            ("vm", "attach", vm, "--network", network, "--replace"),
            ("vm", "attach", vm, "--network", network),
            ("vm", "attach", "-l", "app=db", "--network", network),
            ("vm", "detach", vm, "--network", network),
            ("ips", "gc", "--grace", "5m", "--yes"),
            ("sync",),
        )
    )


def is_understood(ran: CommandResult) -> bool:
    """Whether it did what was wanted, or failed as people understand."""
    return ran.code == 0 or (ran.code == 1 and any(words in ran.err for words in UNDERSTOOD))


@pytest.mark.parametrize("other", [OLDER, NEWER])
def test_invariants_hold_with_two_versions_running_concurrently(fixture: VersionsFixture, other: str) -> None:
    write_legacy_records(fixture)
    rng = random.Random(other)
    wrong: list[CommandResult] = []
    for _ in range(ROUNDS):
        runs = [Run(one_command(rng), version=version) for version in ("", other) for _ in range(SIDE_BY_SIDE // 2)]
        with ThreadPoolExecutor(1) as pool:
            looking = pool.submit(fixture.moment)
            wrong += [ran for ran in fixture.yoshi.together(*runs) if not is_understood(ran)]
            assert looking.result() == []
    assert not wrong, "\n".join(map(str, wrong[:3]))
    assert fixture.moment() == []
    fixture.yoshi.run("sync")
    fixture.yoshi.done("vm", "attach", *VMS, "--network", "small", "--replace")
    fixture.yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    check(fixture.cluster, fixture.namespace, settled=True)
    assert all(isinstance(record, dict) for record in fixture.records().values()), "Platform9 yoshi's are not rewritten"
    assert sorted(record["name"] for record in fixture.records().values()) == sorted(VMS)
    if other == NEWER:
        assert get(fixture.cluster, "networkwizard", "small", namespace=fixture.namespace)["status"]["audit"] == AUDIT
        fixture.yoshi.done("vm", "detach", *VMS, "--network", "small", version=other)
        fixture.yoshi.done("vm", "attach", *VMS, "--network", "big", version=other)
        check(fixture.cluster, fixture.namespace, settled=True)


def theirs(fixture: VersionsFixture) -> dict[str, object]:
    """What there is of the newer version's: its fields in records, statuses and specs."""
    found: dict[str, object] = {}
    for name, obj in fixture.allocation_objects().items():
        found[f"{name}: spec"] = obj["spec"].get("future")
        found[f"{name}: status"] = (obj.get("status") or {}).get("audit")
    found |= {address: record.get("lease") for address, record in fixture.records().items()}
    return {key: value for key, value in found.items() if value is not None}


def test_fields_of_a_newer_version_are_preserved(fixture: VersionsFixture) -> None:
    yoshi = fixture.yoshi
    yoshi.done("vm", "attach", "vm-0", "vm-1", "--network", "small", version=NEWER)
    yoshi.done("vm", "attach", "vm-2", "--network", "big", version=NEWER)
    patch(fixture, "networkwizard", "small", {"spec": {"future": {"mode": "new"}}})
    patch(fixture, "networkwizard", "big", {"spec": {"future": {"mode": "new"}}})
    before = theirs(fixture)
    assert list(before.values()).count(LEASE) == 3
    assert list(before.values()).count(AUDIT) == 3, "two networks and a block"
    since = {address: record["since"] for address, record in fixture.records().items()}
    unpin: Json = {"spec": {"template": {"metadata": {"annotations": None}}}}
    for name in ("vm-0", "vm-2"):
        patch(fixture, "virtualmachine", name, unpin)
    for command in (
        ("vm", "attach", "vm-0", "vm-1", "vm-3", "--network", "small"),
        ("vm", "attach", "vm-2", "vm-4", "--network", "big"),
        ("vm", "detach", "vm-3", "--network", "small"),
        ("ips", "gc", "--grace", "0s", "--yes"),
        ("ips", "rebuild", "--yes"),
        ("sync",),
    ):
        yoshi.done(*command)
        left = theirs(fixture)
        assert {key: left.get(key) for key in before} == before, f"after {' '.join(command)}"
    again = {address: record["since"] for address, record in fixture.records().items()}
    assert sum(again[address] != since[address] for address in since) == 2, "no record was written again"
    check(fixture.cluster, fixture.namespace, settled=True)


def test_install_over_a_newer_version_is_refused(fixture: VersionsFixture) -> None:
    said = fixture.yoshi.refused("install")
    assert "installed by kubectl yoshi 99.0.0" in said
    assert "Use kubectl yoshi 99.0.0 or a later one" in said
    for kind in OURS:
        crd = get(fixture.cluster, "crd", f"{kind}.plumber.k8s.pf9.io")
        assert crd["metadata"]["annotations"]["plumber.k8s.pf9.io/version"] == "99.0.0"


@pytest.mark.parametrize("network", ["small", "big"])
def test_network_requiring_a_newer_version_is_refused_and_unchanged(fixture: VersionsFixture, network: str) -> None:
    fixture.yoshi.done("vm", "attach", "vm-0", "--network", network, version=NEWER)
    patch(fixture, "networkwizard", network, {"metadata": {"annotations": {REQUIRES: "99.0.0"}}})
    before = fixture.allocation_objects()
    (address,) = fixture.records()
    for command in (
        ("vm", "attach", "vm-1", "--network", network),
        ("vm", "attach", "vm-0", "--network", network),
        ("vm", "detach", "vm-0", "--network", network),
        ("ips", "reserve", network, "--count", "1"),
        ("ips", "release", network, address),
        ("ips", "gc", "--network", network, "--grace", "0s", "--yes"),
        ("ips", "rebuild", "--network", network, "--yes"),
        ("network", "delete", network, "--force", "--yes"),
        ("network", "describe", network),
    ):
        said = fixture.yoshi.refused(*command)
        assert f"network {fixture.namespace}/{network} requires kubectl yoshi 99.0.0 or later" in said, said
        assert "Use kubectl yoshi 99.0.0 or later" in said, said
    for command in (("ips", "gc", "--grace", "0s", "--yes"), ("ips", "rebuild", "--yes"), ("ips", "list"), ("sync",)):
        ran = fixture.yoshi.run(*command)
        assert "requires kubectl yoshi 99.0.0 or later" in ran.err, str(ran)
    assert network in fixture.yoshi.done("network", "list")
    assert {name: fixture.allocation_objects()[name]["status"] for name in before} == {
        name: obj["status"] for name, obj in before.items()
    }


@pytest.mark.parametrize("network", ["small", "big"])
def test_newer_version_started_during_attaches_sees_every_allocation(fixture: VersionsFixture, network: str) -> None:
    """It marks the network, then reads the records: no VM gets an address that it has not read.

    The first VM has its address when it begins, the last one asks for it afterwards.
    """
    first, *vms, last = VMS
    rans = [fixture.yoshi.run("vm", "attach", first, "--network", network)]
    assert rans[0].code == 0, str(rans[0])

    def begin() -> dict[str, Json]:
        wait_for(lambda: len(fixture.pins()) > 1, "one more VM has an address")
        patch(fixture, "networkwizard", network, {"metadata": {"annotations": {REQUIRES: "99.0.0"}}})
        return fixture.records()

    with ThreadPoolExecutor(1) as pool:
        began = pool.submit(begin)
        rans += fixture.yoshi.together(
            *(Run(("vm", "attach", vm, "--network", network), wait=0.1 * n) for n, vm in enumerate(vms))
        )
        read = began.result()
    rans.append(fixture.yoshi.run("vm", "attach", last, "--network", network))
    late = [ran for ran in rans if ran.code]
    assert rans[-1] in late
    assert all("requires kubectl yoshi 99.0.0 or later" in ran.err for ran in late), "\n".join(map(str, late))
    seen = read_raw_state(fixture.cluster, [fixture.namespace])
    assert [one for one in violations(seen, [fixture.namespace]) if "carries" in one] == []
    for address, name in fixture.pins().items():
        assert read[address]["name"] == name
