"""Many concurrent processes on the real API server: what each of them reports, and the state afterwards.

    24 attach 24 VMs, 20 addresses          exactly 20 succeed, distinct; 4 say that the network is full
    8 attach the same VM                    one address, one record, all report it
    24 and 8 on a /16                       the same, with AddressBlocks
    2 create overlapping networks           at most one survives, and nothing is left of the other
    attach while the network is deleted     attached, or refused with nothing on the VM; in both orders
    attach against detach of the same VM    both ends are sound
    attach -l of 40 against 8 single ones   40 addresses, one each
    gc against attach                       nobody loses an address

The last four are tried on a Layer 2 network too: the rules do not depend on the backend.

The 8 that attach the same VM are interpreters of their own, and forked ones, which meet more closely; all others are
forked.

YOSHI_RACE_ROUNDS   how often a race is run (3), and on until all its outcomes were seen where both can be
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import CommandResult, Run, Yoshi, get, make_vms, reported_address
from tests.cluster.killing import ProxiedProgram
from tests.cluster.raw_state import IP_OF
from tests.cluster.request_gate import RequestGate

pytestmark = [pytest.mark.I1, pytest.mark.I2, pytest.mark.I3]

Cidrs = Callable[[int], str]
MadeBy = Callable[[], tuple[str, ...]]

ROUNDS = int(os.environ.get("YOSHI_RACE_ROUNDS", "3"))
MOST_ROUNDS = max(40, 2 * ROUNDS)
"""Long before that, one of two that race waits longer than the other one takes."""
PIN = "cni.projectcalico.org/ipAddrs"


def records_of(cluster: Cluster, namespace: str, network: str) -> dict[str, str]:
    """Address -> VM, in the network's status and its blocks."""
    found: dict[str, str] = {}
    for obj in get(cluster, "networkwizards,addressblocks", namespace=namespace)["items"]:
        if network in (obj["metadata"]["name"], obj["spec"].get("network")):
            records = obj.get("status", {}).get("allocations", {})
            mine = {address: record for address, record in records.items() if record["kind"] != "Network"}
            found |= {address: record["name"] for address, record in mine.items()}
    return found


def all_done(rans: list[CommandResult]) -> list[CommandResult]:
    for ran in rans:
        assert ran.code == 0, str(ran)
    return rans


def run_interpreters(yoshi: Yoshi, commands: list[tuple[str, ...]]) -> list[CommandResult]:
    """Each command in an interpreter of its own, all started before any is waited for."""
    processes = [yoshi.alone(*command) for command in commands]
    with ThreadPoolExecutor(len(processes)) as pool:
        said = list(pool.map(lambda process: process.communicate(timeout=120), processes))
    return [
        CommandResult(command, process.returncode, out, err, 0.0)
        for command, process, (out, err) in zip(commands, processes, said, strict=True)
    ]


def test_24_processes_attach_exactly_as_many_vms_as_there_are_addresses(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs
) -> None:
    network = cidr(24)
    first = network.removesuffix(".0/24")
    yoshi.done("network", "create", "blue", "--cidr", network, "--range", f"{first}.11-{first}.30")
    names = [f"web-{number:02}" for number in range(24)]
    make_vms(installed, yoshi.namespace, *names)

    rans = yoshi.together(*(("vm", "attach", name, "--network", "blue") for name in names))

    told = {ran.args[2]: reported_address(ran) for ran in rans if ran.code == 0}
    assert len(told) == 20
    assert set(told.values()) == {f"{first}.{number}" for number in range(11, 31)}
    for ran in rans:
        if ran.code:
            assert ran.code == 1
            assert "is full" in ran.err, str(ran)
            assert len(ran.err.splitlines()) <= 5
    assert records_of(installed, yoshi.namespace, "blue") == {address: name for name, address in told.items()}
    check(installed, yoshi.namespace, settled=True)


@pytest.mark.parametrize("length", [24, 16])
@pytest.mark.parametrize("start", ["interpreters", "forks"])
def test_eight_processes_attaching_one_vm_assign_one_address(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, start: str, length: int
) -> None:
    yoshi.done("network", "create", "blue", "--cidr", cidr(length))
    make_vms(installed, yoshi.namespace, "web")

    commands = [("vm", "attach", "web", "--network", "blue")] * 8
    rans = run_interpreters(yoshi, commands) if start == "interpreters" else yoshi.together(*commands)

    addresses = {reported_address(ran) for ran in all_done(rans)}
    assert len(addresses) == 1
    assert records_of(installed, yoshi.namespace, "blue") == {addresses.pop(): "web"}
    check(installed, yoshi.namespace, settled=True)


def test_24_processes_on_a_large_network_assign_distinct_addresses(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs
) -> None:
    yoshi.done("network", "create", "big", "--cidr", cidr(16))
    names = [f"web-{number:02}" for number in range(24)]
    make_vms(installed, yoshi.namespace, *names)
    rans = all_done(yoshi.together(*(("vm", "attach", name, "--network", "big") for name in names)))
    told = {reported_address(ran): ran.args[2] for ran in rans}
    assert len(told) == 24
    assert records_of(installed, yoshi.namespace, "big") == told
    check(installed, yoshi.namespace, settled=True)

    all_done(yoshi.together(*(("vm", "detach", name, "--network", "big") for name in names)))
    assert records_of(installed, yoshi.namespace, "big") == {}
    check(installed, yoshi.namespace, settled=True)


def test_24_processes_in_one_address_block_assign_distinct_addresses(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs
) -> None:
    network = cidr(16)
    first = network.removesuffix(".0.0/16")
    yoshi.done("network", "create", "big", "--cidr", network, "--range", f"{first}.7.1-{first}.7.20")
    names = [f"web-{number:02}" for number in range(24)]
    make_vms(installed, yoshi.namespace, *names)
    rans = yoshi.together(*(("vm", "attach", name, "--network", "big") for name in names))
    assert sorted(ran.code for ran in rans) == [0] * 20 + [1] * 4
    assert all("is full" in ran.err for ran in rans if ran.code)
    assert len(get(installed, "addressblocks", namespace=yoshi.namespace)["items"]) == 1
    check(installed, yoshi.namespace, settled=True)


@pytest.mark.parametrize("second", [24, 26])
def test_overlapping_networks_created_at_once_leave_at_most_one(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, second: int
) -> None:
    survivors: set[str] = set()
    number = 0
    while number < ROUNDS or survivors != {"one", "two"}:  # both may give way to each other, but not as a rule
        assert number < MOST_ROUNDS, f"only {survivors} ever stayed"
        network = cidr(24)
        inside = network.replace("/24", f"/{second}")
        waits = (0.0, 0.04 * number) if number % 2 else (0.04 * number, 0.0)
        rans = yoshi.together(
            Run(("network", "create", f"one-{number}", "--cidr", network), wait=waits[0]),
            Run(("network", "create", f"two-{number}", "--cidr", inside), wait=waits[1]),
        )
        made = {ran.args[2] for ran in rans if ran.code == 0}
        names = {
            obj["metadata"]["name"] for obj in get(installed, "networkwizards", namespace=yoshi.namespace)["items"]
        }
        assert {name for name in names if name.endswith(f"-{number}")} == made
        assert len(made) <= 1
        for ran in rans:
            if ran.code:
                assert ran.code == 1
                assert "overlaps" in ran.err, str(ran)
        survivors |= {name.partition("-")[0] for name in made}
        check(installed, yoshi.namespace, settled=True)
        nothing_is_left_but(installed, yoshi.namespace, names)
        number += 1


def nothing_is_left_but(cluster: Cluster, namespace: str, networks: set[str]) -> None:
    """No pool of this namespace is left that is no network's."""
    pools = {item["metadata"]["name"] for item in get(cluster, "ippools.crd.projectcalico.org")["items"]}
    assert {pool for pool in pools if pool.startswith(f"{namespace}.")} <= {f"{namespace}.{name}" for name in networks}


@pytest.mark.parametrize(("made_by", "length"), [("calico", 28), ("calico", 20), ("ovs", 28)], indirect=["made_by"])
@pytest.mark.parametrize("force", [(), ("--force", "--yes")])
def test_attach_during_network_deletion_leaves_nothing_on_the_vm(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, made_by: MadeBy, length: int, force: tuple[str, ...]
) -> None:
    names = [f"web-{number}" for number in range(5)]
    make_vms(installed, yoshi.namespace, *names)
    for number in range(ROUNDS):
        network = f"net-{number}"
        yoshi.done("network", "create", network, "--cidr", cidr(length), *made_by())
        deleting, *attaching = yoshi.together(
            Run(("network", "delete", network, *force), wait=0.06 * (2 * number % 7)),
            *(("vm", "attach", name, "--network", network) for name in names),
        )
        there = network in {
            obj["metadata"]["name"] for obj in get(installed, "networkwizards", namespace=yoshi.namespace)["items"]
        }
        assert there == (deleting.code != 0), str(deleting)
        check(installed, yoshi.namespace, settled=True)
        for ran in attaching:
            carried = pin_of(installed, yoshi.namespace, ran.args[2])
            if there:
                assert (carried != "") == (ran.code == 0), str(ran)
            else:
                assert carried == "", f"{ran}\n{deleting}"
        if there:
            must_be_ready(installed, yoshi.namespace, network)
            yoshi.done("network", "delete", network, "--force", "--yes")
        nothing_is_left_but(installed, yoshi.namespace, set())


@pytest.mark.parametrize(("made_by", "length"), [("calico", 28), ("calico", 20), ("ovs", 28)], indirect=["made_by"])
@pytest.mark.parametrize("force", [(), ("--force", "--yes")], ids=["", "force"])
@pytest.mark.parametrize("recorded", [False, True], ids=["before the record", "after the record"])
def test_network_delete_in_the_middle_of_an_attach(
    yoshi: Yoshi,
    proxied: ProxiedProgram,
    installed: Cluster,
    cidr: Cidrs,
    made_by: MadeBy,
    length: int,
    force: tuple[str, ...],
    recorded: bool,
) -> None:
    """Both orders of the race above: the deletion comes before the attachment's first write, or before its last."""
    yoshi.done("network", "create", "blue", "--cidr", cidr(length), *made_by())
    make_vms(installed, yoshi.namespace, "web")
    gate = RequestGate(0, "PATCH", "/virtualmachines/") if recorded else RequestGate(0)
    with proxied.held(gate, "vm", "attach", "web", "--network", "blue") as attaching:
        assert attaching.poll() is None, "it has not come to the gate"
        deleting = yoshi.run("network", "delete", "blue", *force)
        gate.open()
        out, err = attaching.communicate(timeout=120)
    stays = recorded and not force
    assert deleting.code == (1 if stays else 0), str(deleting)
    assert attaching.returncode == (0 if stays else 1), out + err
    assert (pin_of(installed, yoshi.namespace, "web") != "") == stays
    check(installed, yoshi.namespace, settled=True)
    if stays:
        must_be_ready(installed, yoshi.namespace, "blue")
    else:
        assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []
        nothing_is_left_but(installed, yoshi.namespace, set())


def must_be_ready(cluster: Cluster, namespace: str, network: str) -> None:
    """Fails if a network that was not deleted after all does not say that it is ready."""
    ready = get(cluster, "networkwizard", network, namespace=namespace)["status"]["conditions"]
    assert [c["status"] for c in ready if c["type"] == "Ready"] == ["True"]


def pin_of(cluster: Cluster, namespace: str, name: str) -> str:
    """What of an address, or a requested network, is on a VM."""
    found = get(cluster, "virtualmachine", name, namespace=namespace)
    template = found["spec"]["template"].get("metadata", {}).get("annotations", {})
    requested = found["metadata"].get("annotations", {}).get("plumber.k8s.pf9.io/networkName", "")
    pins = [template[key] for key in template if key == PIN or key.startswith(IP_OF)]
    return str(pins or requested or "")


@pytest.mark.parametrize(("made_by", "length"), [("calico", 28), ("calico", 20), ("ovs", 28)], indirect=["made_by"])
def test_concurrent_attach_and_detach_of_one_vm_leave_a_consistent_state(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, made_by: MadeBy, length: int
) -> None:
    yoshi.done("network", "create", "blue", "--cidr", cidr(length), *made_by())
    make_vms(installed, yoshi.namespace, "web", "other")
    attach, detach = ("vm", "attach", "web", "--network", "blue"), ("vm", "detach", "web", "--network", "blue")
    ends: set[bool] = set()
    number = 0
    while number < ROUNDS + 1 or len(ends) < 2:
        assert number < MOST_ROUNDS, f"it was always {'attached' if True in ends else 'detached'} in the end"
        waits = (0.06 * number, 0.0) if number % 2 else (0.0, 0.06 * number)
        last_ones = Run(attach, wait=waits[0]), Run(detach, wait=waits[1])
        all_done(yoshi.together(Run(attach, wait=0.01 * (number % 4)), detach, *last_ones))
        check(installed, yoshi.namespace)
        ends.add(pin_of(installed, yoshi.namespace, "web") != "")
        number += 1
        if beside := yoshi.done("ips", "gc", "--network", "blue", "--grace", "0s", "--yes").splitlines():
            # An attachment that was overtaken writes its DHCP server's file late; records are released by then.
            assert all("configmap/" in line or line == "nothing to collect" for line in beside), beside
        check(installed, yoshi.namespace, settled=True)
    told = reported_address(yoshi.run(*attach))
    assert records_of(installed, yoshi.namespace, "blue") == {told: "web"}


@pytest.mark.parametrize(("made_by", "length"), [("calico", 24), ("calico", 18), ("ovs", 24)], indirect=["made_by"])
def test_attach_of_forty_vms_while_other_processes_attach_some_of_them(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, made_by: MadeBy, length: int
) -> None:
    yoshi.done("network", "create", "blue", "--cidr", cidr(length), *made_by())
    names = [f"db-{number:02}" for number in range(40)]
    make_vms(installed, yoshi.namespace, *names, labels={"app": "db"})
    make_vms(installed, yoshi.namespace, "web-0", "web-1", "web-2", "web-3")
    single = [*names[:4], "web-0", "web-1", "web-2", "web-3"]
    bulk, *singles = all_done(
        yoshi.together(
            ("vm", "attach", "-l", "app=db", "--network", "blue"),
            *(("vm", "attach", name, "--network", "blue") for name in single),
        )
    )
    told = dict(re.findall(r"/(\S+) attached to blue: (\S+)", bulk.out))
    assert set(told) == set(names)
    for ran in singles:
        assert told.setdefault(ran.args[2], reported_address(ran)) == reported_address(ran)
    assert len(set(told.values())) == 44
    assert records_of(installed, yoshi.namespace, "blue") == {address: name for name, address in told.items()}
    check(installed, yoshi.namespace, settled=True)


@pytest.mark.parametrize(
    ("made_by", "grace"), [("calico", "0s"), ("calico", "5m"), ("ovs", "0s")], indirect=["made_by"]
)
def test_gc_never_releases_the_address_of_an_attach_in_progress(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, made_by: MadeBy, grace: str
) -> None:
    """With --grace 0s a record may be taken while its attachment is under way; that attachment then fixes it."""
    network = cidr(28)
    yoshi.done("network", "create", "blue", "--cidr", network, *made_by())
    names = [f"web-{number}" for number in range(8)]
    make_vms(installed, yoshi.namespace, *names)
    collect = ("ips", "gc", "--network", "blue", "--grace", grace, "--yes")
    for number in range(ROUNDS):
        rans = yoshi.together(
            *(Run(("vm", "attach", name, "--network", "blue"), wait=0.04 * place) for place, name in enumerate(names)),
            *(Run(collect, wait=0.1 + 0.05 * (2 * number % 7) + 0.2 * place) for place in range(2)),
        )
        told = {reported_address(ran): ran.args[2] for ran in all_done(rans)[:8]}
        assert records_of(installed, yoshi.namespace, "blue") == told
        if grace == "5m":
            assert all("nothing to collect" in ran.out for ran in rans[8:])
        check(installed, yoshi.namespace, settled=True)
        all_done(yoshi.together(*(("vm", "detach", name, "--network", "blue") for name in names)))
        check(installed, yoshi.namespace, settled=True)
