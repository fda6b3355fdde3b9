"""`ips list`, `show`, `reserve`, `release`, `check` with its findings and exit codes, and `gc`."""

from __future__ import annotations

import json
from collections.abc import Callable

from lab.testing import Cluster
from tests.cluster.harness import Yoshi, get, make_vms
from tests.cluster.vm_assertions import PIN, host

Cidrs = Callable[[int], str]


def test_ips_reserve_release_and_list(yoshi: Yoshi, blue: str) -> None:
    assert yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer") == (
        f"{host(blue, 9)} reserved on blue\n"
    )
    assert yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer").endswith("(unchanged)\n")
    assert yoshi.done("ips", "reserve", "blue", "--count", "2").split() == [
        *(host(blue, 1), "reserved", "on", "blue"),
        *(host(blue, 2), "reserved", "on", "blue"),
    ]
    assert "is not free" in yoshi.refused("ips", "reserve", "blue", host(blue, 9), "--note", "another")
    told = yoshi.done("ips", "show", host(blue, 9))
    assert {"State:", "Reserved", "(printer)", f"{yoshi.namespace}/blue"} <= set(told.split())
    assert {"State:", "Free"} <= set(yoshi.done("ips", "show", host(blue, 3)).split())
    assert "Unusable" in yoshi.done("ips", "show", host(blue, 255))
    header, *rows = yoshi.done("ips", "list", "--network", "blue").splitlines()
    assert header.split() == ["ADDRESS", "NETWORK", "STATE", "HOLDER", "RUNNING", "AGE"]
    assert [row.split()[0] for row in rows] == [host(blue, 1), host(blue, 2), host(blue, 9)]
    free = yoshi.done("ips", "list", "--free", "-o", "jsonpath={.items[*].spec.range}").split()
    assert free == [f"{host(blue, 3)}-{host(blue, 8)}", f"{host(blue, 10)}-{host(blue, 254)}"]
    assert "released (was reserved (printer))" in yoshi.done("ips", "release", "blue", host(blue, 9))
    assert "is free already" in yoshi.done("ips", "release", "blue", host(blue, 9))


def test_ips_check_reports_discrepancies_and_exits_1(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "gone", "unpinned", "rightly")
    yoshi.done("vm", "attach", "gone", "unpinned", "rightly", "--network", "blue")
    assert yoshi.done("ips", "check") == "3 addresses, all as recorded\n"
    installed.kubectl("delete", "vm", "gone", "-n", yoshi.namespace)
    make_vms(installed, yoshi.namespace, "unknown", template_annotations={PIN: f'["{host(blue, 77)}"]'})
    make_vms(installed, yoshi.namespace, "thief", template_annotations={PIN: f'["{host(blue, 3)}"]'})
    age_records(installed, yoshi.namespace, "blue")
    installed.kubectl(
        "patch", "vm", "unpinned", "-n", yoshi.namespace, "--type=merge",
        "-p", json.dumps({"spec": {"template": {"metadata": {"annotations": {PIN: None}}}}}),
    )  # fmt: skip
    ran = yoshi.run("ips", "check")
    assert ran.code == 1
    found = ran.out.splitlines()
    for address, words in (
        (host(blue, 1), "the VM no longer exists"),
        (host(blue, 3), "uses it too"),
        (host(blue, 77), "but it is not recorded"),
    ):
        assert any(line.startswith(address) and words in line for line in found), str(ran)
    assert any("unpinned" in line and "does not request it" in line for line in found), str(ran)
    assert len(found) == 4, str(ran)
    shown = yoshi.run("ips", "check", "-o", "json")
    assert shown.code == 1
    assert {item["kind"] for item in json.loads(shown.out)["items"]} == {"Finding"}


def age_records(cluster: Cluster, namespace: str, network: str) -> None:
    """Makes every record of a network an hour old."""
    found = get(cluster, "networkwizard", network, namespace=namespace)
    patch = [
        {"op": "add", "path": f"/status/allocations/{address}/since", "value": "2026-01-01T00:00:00Z"}
        for address in found["status"]["allocations"]
    ]
    cluster.kubectl(
        "patch", "networkwizard", network, "-n", namespace, "--subresource=status", "--type=json",
        "-p", json.dumps(patch),
    )  # fmt: skip


def test_gc_releases_unused_addresses_and_keeps_young_allocations(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "gone", "here")
    yoshi.done("vm", "attach", "gone", "here", "--network", "blue")
    yoshi.done("ips", "reserve", "blue", host(blue, 9))
    installed.kubectl("delete", "vm", "gone", "-n", yoshi.namespace)
    assert yoshi.done("ips", "gc", "--network", "blue", "--yes") == "nothing to collect\n"
    age_records(installed, yoshi.namespace, "blue")
    said = yoshi.refused("ips", "gc", "--network", "blue", code=2)
    assert "--yes" in said
    assert f"release {host(blue, 1)} of {yoshi.namespace}/gone" in said
    told = yoshi.done("ips", "gc", "--network", "blue", "--yes")
    assert told == f"release {host(blue, 1)} of {yoshi.namespace}/gone\n"
    left = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]
    assert set(left["allocations"]) == {host(blue, 2), host(blue, 9)}
    assert (left["used"], left["free"]) == (2, 252)
