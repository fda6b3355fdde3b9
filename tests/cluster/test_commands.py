"""What holds for every command on the real API server; each one alone: test_{network,vm,address}_commands.py.

diff         exits 0, 1, 2, 3
twice (I7)   every command's second run leaves every resourceVersion as it was
gone (I8)    what was made for a network goes away with it
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import Yoshi, get, make_vms, resource_versions
from tests.cluster.vm_assertions import PIN, POOLS, host

pytestmark = [pytest.mark.I7, pytest.mark.I8]

Cidrs = Callable[[int], str]


def test_diff_exit_codes(yoshi: Yoshi, installed: Cluster, cidr: Cidrs, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "other")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    before = resource_versions(installed, yoshi.namespace, "networkwizards", "virtualmachines")
    shown = yoshi.done("diff", "network", "create", "new", "--cidr", cidr(24), code=1)
    assert "+kind: IPPool" in shown
    shown = yoshi.done("diff", "vm", "attach", "other", "--network", "blue", code=1)
    assert f"+        {PIN}: '[\"{host(blue, 2)}\"]'" in shown
    shown = yoshi.done("diff", "vm", "detach", "web", "--network", "blue", code=1)
    assert f"-        {PIN}: '[\"{host(blue, 1)}\"]'" in shown
    assert "-kind: NetworkWizard" in yoshi.done("diff", "network", "delete", "blue", "--force", code=1)
    for command in (
        ("network", "create", "blue", "--cidr", blue),
        ("vm", "attach", "web", "--network", "blue"),
        ("vm", "detach", "other", "--network", "blue"),
        ("ips", "gc", "--network", "blue", "--grace", "0s"),
        ("ips", "release", "blue", host(blue, 99)),
    ):
        assert yoshi.done("diff", *command) == ""
    assert "not found" in yoshi.refused("diff", "vm", "attach", "web", "--network", "no-such", code=3)
    assert "not found" in yoshi.refused("diff", "vm", "attach", "no-such", "--network", "blue", code=3)
    assert 'unknown command "list"' in yoshi.refused("diff", "vm", "list", code=2)
    assert resource_versions(installed, yoshi.namespace, "networkwizards", "virtualmachines") == before


KINDS = ("networkwizards", "addressblocks", "virtualmachines", POOLS)


def test_every_command_is_idempotent(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    blue, big = cidr(24), cidr(20)
    make_vms(installed, yoshi.namespace, "web", "db", labels={"app": "x"})

    def twice(*command: str, says: str = "unchanged") -> None:
        yoshi.done(*command)
        before = everything()
        assert says in yoshi.done(*command), command
        assert everything() == before, command

    def everything() -> dict[str, str]:
        found = resource_versions(installed, yoshi.namespace, *KINDS[:3])
        # Pools are cluster-wide, and sync rightly takes those whose namespace has just gone with an earlier test.
        pools = resource_versions(installed, "", KINDS[3])
        return found | {name: version for name, version in pools.items() if f"/{yoshi.namespace}." in name}

    twice("install")
    twice("network", "create", "blue", "--cidr", blue)
    twice("network", "create", "big", "--cidr", big)
    twice("vm", "attach", "web", "--network", "blue")
    twice("vm", "attach", "-l", "app=x", "--network", "big", "--replace")
    twice("vm", "attach", "db", "--network", "blue", "--ip", host(blue, 7), "--replace")
    twice("ips", "reserve", "blue", host(blue, 9), "--note", "n")
    twice("ips", "release", "blue", host(blue, 9), says="free already")
    twice("sync", says="")
    twice("ips", "gc", "--network", "blue", "--yes", "--grace", "0s", says="nothing to collect")
    twice("vm", "detach", "web", "--network", "big")
    twice("vm", "detach", "db", "--network", "blue")
    for reading in (
        *(("network", "list"), ("network", "describe", "blue"), ("vm", "list"), ("ips", "list"), ("ips", "check")),
        *(("ips", "show", host(blue, 7)), ("ips", "list", "--free")),
    ):
        twice(*reading, says="")
    check(installed, yoshi.namespace, settled=True)


def test_objects_created_for_a_network_are_removed_with_it(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    """Deleted with plain kubectl: Kubernetes takes the blocks, `ips gc` what Kubernetes cannot."""
    yoshi.done("network", "create", "big", "--cidr", cidr(18))
    yoshi.done("ips", "reserve", "big", "--count", "2")
    assert len(get(installed, "addressblocks", namespace=yoshi.namespace)["items"]) == 1
    installed.kubectl("delete", "networkwizard", "big", "-n", yoshi.namespace)
    installed.kubectl("wait", "--for=delete", "addressblocks", "--all", "-n", yoshi.namespace, "--timeout=60s")
    pool = f"{yoshi.namespace}.big"
    assert get(installed, POOLS, pool)["spec"]["disabled"] is False
    assert f"delete ippool {pool}" in yoshi.done("ips", "gc", "--yes")
    assert pool not in installed.kubectl("get", POOLS, "-o", "name")
