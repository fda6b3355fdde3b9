"""Quotas, history and cool-down, as processes see them on the real API server.

8 processes at a quota of 3, in a small network and in one of several blocks    3 get an address, 5 are refused
history                      `ips show` prints it, as text and as JSON; several concurrent releases are all there
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import Yoshi, get, make_vms

Cidrs = Callable[[int], str]


def holders(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Address -> VM, of all networks of a namespace."""
    found: dict[str, str] = {}
    for obj in get(cluster, "networkwizards,addressblocks", namespace=namespace)["items"]:
        for address, record in obj.get("status", {}).get("allocations", {}).items():
            found[address] = record.get("name", "")
    return found


def host(network: str, number: int) -> str:
    """An address of a network such as 10.1.2.0/24."""
    return f"{network.rpartition('.')[0]}.{number}"


@pytest.mark.parametrize("length", [24, 22])
def test_quota_is_not_exceeded_by_eight_processes(yoshi: Yoshi, installed: Cluster, cidr: Cidrs, length: int) -> None:
    yoshi.done("network", "create", "blue", "--cidr", cidr(length), "--max-addresses-per-namespace", "3")
    names = [f"web-{number}" for number in range(8)]
    make_vms(installed, yoshi.namespace, *names)
    for _ in range(2):  # the second time some have theirs
        rans = yoshi.together(*(("vm", "attach", name, "--network", "blue") for name in names))
        assert sorted(ran.code for ran in rans) == [0] * 3 + [1] * 5, "\n".join(map(str, rans))
        for ran in rans:
            if ran.code:
                assert f"namespace {yoshi.namespace} holds" in ran.err, str(ran)
                assert "which allows 3 per namespace" in ran.err, str(ran)
                assert "spec.maxAddressesPerNamespace" in ran.err, str(ran)
        assert len(holders(installed, yoshi.namespace)) == 3
        check(installed, yoshi.namespace, settled=True)
    leaver = next(ran.args[2] for ran in rans if not ran.code)
    newcomer = next(ran.args[2] for ran in rans if ran.code)
    yoshi.done("vm", "detach", leaver, "--network", "blue")
    yoshi.done("vm", "attach", newcomer, "--network", "blue")
    done = yoshi.run("vm", "attach", *names, "--network", "blue")
    assert done.code == 1
    assert "error: 5 VMs: namespace" in done.err and "which allows 3 per namespace" in done.err, str(done)
    check(installed, yoshi.namespace, settled=True)


@pytest.mark.parametrize("length", [24, 22])
def test_previous_owner_of_an_address_is_reported(yoshi: Yoshi, installed: Cluster, cidr: Cidrs, length: int) -> None:
    network = cidr(length)
    address = host(network, 9)
    yoshi.done("network", "create", "blue", "--cidr", network)
    make_vms(installed, yoshi.namespace, "web-1", "web-2")
    for name in ("web-1", "web-2"):
        yoshi.done("vm", "attach", name, "--network", "blue", "--ip", address)
        yoshi.done("vm", "detach", name, "--network", "blue")
    told = yoshi.done("ips", "show", address)
    assert ["State:", "Free"] in [line.split() for line in told.splitlines()]
    before = [line for line in told.splitlines() if f"{yoshi.namespace}/web-" in line]
    assert ["web-2" in before[0], "web-1" in before[1]] == [True, True]
    assert " until 20" in before[0]
    assert "(uid " in yoshi.done("ips", "show", address, "-o", "wide")

    yoshi.done("ips", "reserve", "blue", address, "--note", "printer")
    found = json.loads(yoshi.done("ips", "show", address, "-o", "json"))
    assert found["status"]["state"] == "Reserved"
    assert [one["name"] for one in found["status"]["history"]] == ["web-2", "web-1"]
    yoshi.done("ips", "release", "blue", address)
    found = json.loads(yoshi.done("ips", "show", address, "-o", "json"))
    assert found["status"]["state"] == "Free"
    assert [one["kind"] for one in found["status"]["history"]] == ["Reservation", "VirtualMachine"]
    assert found["status"]["history"][0]["note"] == "printer"
    check(installed, yoshi.namespace, settled=True)


@pytest.mark.parametrize("length", [24, 22])
def test_history_has_all_of_eight_concurrent_releases(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, length: int
) -> None:
    network = cidr(length)
    yoshi.done("network", "create", "blue", "--cidr", network)
    names = [f"web-{number}" for number in range(8)]
    make_vms(installed, yoshi.namespace, *names)
    yoshi.done("vm", "attach", *names, "--network", "blue")
    had = holders(installed, yoshi.namespace)
    for ran in yoshi.together(*(("vm", "detach", name, "--network", "blue") for name in names)):
        assert ran.code == 0, str(ran)
    told: dict[str, str] = {}
    for obj in get(installed, "networkwizards,addressblocks", namespace=yoshi.namespace)["items"]:
        told |= {address: one[0]["name"] for address, one in obj["status"].get("history", {}).items()}
    assert told == had
    assert holders(installed, yoshi.namespace) == {}
    check(installed, yoshi.namespace, settled=True)


def test_cooling_address_is_assigned_only_to_its_last_owner(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    network = cidr(24)
    first = host(network, 1)
    three = f"{first}-{host(network, 3)}"
    yoshi.done("network", "create", "blue", "--cidr", network, "--cooldown", "1h", "--range", three)
    make_vms(installed, yoshi.namespace, "web-1", "web-2", "web-3", "web-4")
    yoshi.done("vm", "attach", "web-1", "--network", "blue", "--ip", first)
    yoshi.done("vm", "detach", "web-1", "--network", "blue")
    told = yoshi.refused("vm", "attach", "web-2", "--network", "blue", "--ip", first)
    assert f"{first} cools down for another " in told
    assert f"{yoshi.namespace}/web-1 had it until " in told
    assert "it cools down until" in yoshi.done("ips", "show", first)
    rans = yoshi.together(*(("vm", "attach", f"web-{number}", "--network", "blue") for number in (2, 3, 4)))
    assert sorted(ran.code for ran in rans) == [0, 0, 1], "\n".join(map(str, rans))
    assert any("1 are cooling down, the first is free in " in ran.err for ran in rans)
    assert first not in holders(installed, yoshi.namespace)

    installed.kubectl("delete", "virtualmachine", "web-1", "-n", yoshi.namespace)
    make_vms(installed, yoshi.namespace, "web-1")
    yoshi.done("vm", "attach", "web-1", "--network", "blue")
    assert holders(installed, yoshi.namespace)[first] == "web-1"
    check(installed, yoshi.namespace, settled=True)
