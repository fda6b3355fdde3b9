"""`network create`, `list`, `describe` and `delete`: from flags, files and stdin; both dry runs; every -o."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from lab.testing import Cluster
from tests.cluster.harness import ROOT, Yoshi, get, make_vms, patch
from tests.cluster.vm_assertions import POOLS, annotations, host, template_annotations
from tests.waiting import wait_for

Cidrs = Callable[[int], str]


def test_network_create_creates_the_pool_and_sets_ready(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    made = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)
    assert made["spec"] == {"plugin": "calico", "cidr": blue}
    status = made["status"]
    assert (status["created"], status["reason"]) == (True, "")
    assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == ["True"]
    assert (status["used"], status["free"]) == (0, 254)
    pool = get(installed, POOLS, f"{yoshi.namespace}.blue")
    assert pool["spec"] == {
        "cidr": blue,
        "blockSize": 26,
        "ipipMode": "Never",
        "vxlanMode": "Always",
        "natOutgoing": True,
        "nodeSelector": "all()",
        "allowedUses": ["Workload"],
        "disabled": False,
        "disableBGPExport": True,
        "assignmentMode": "Manual",
    }


def test_network_create_flags_set_the_spec(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    network = cidr(24)
    yoshi.done(
        "network", "create", "tuned", "--cidr", host(network, 77) + "/24", "--gateway", host(network, 1),
        "--range", f"{host(network, 10)}-{host(network, 99)}", "--exclude", host(network, 16) + "/30",
        "--exclude", f"{host(network, 50)}-{host(network, 59)}", "--encapsulation", "VXLANCrossSubnet",
        "--no-nat-outgoing", "--block-size", "27",
    )  # fmt: skip
    spec = get(installed, "networkwizard", "tuned", namespace=yoshi.namespace)["spec"]
    assert (spec["range_start"], spec["range_end"]) == (host(network, 10), host(network, 99))
    assert spec["exclude"] == [host(network, 16) + "/30", f"{host(network, 50)}-{host(network, 59)}"]
    assert spec["gateway"] == host(network, 1)
    pool = get(installed, POOLS, f"{yoshi.namespace}.tuned")["spec"]
    assert (pool["cidr"], pool["vxlanMode"], pool["natOutgoing"], pool["blockSize"]) == (
        network,
        "CrossSubnet",
        False,
        27,
    )
    free = yoshi.done("ips", "list", "--network", "tuned", "--free", "--no-headers")
    assert [line.split()[1:] for line in free.splitlines()] == [
        [f"{host(network, 10)}-{host(network, 15)}", "6"],
        [f"{host(network, 20)}-{host(network, 49)}", "30"],
        [f"{host(network, 60)}-{host(network, 99)}", "40"],
    ]


def test_long_and_short_flags_are_equivalent(yoshi: Yoshi, installed: Cluster, cidr: Cidrs, tmp_path: Path) -> None:
    file = tmp_path / "blue.yaml"
    named = {"apiVersion": "plumber.k8s.pf9.io/v1", "kind": "NetworkWizard", "metadata": {"name": "blue"}}
    file.write_text(json.dumps({**named, "spec": {"plugin": "calico", "cidr": cidr(24)}}))
    assert "blue created" in yoshi.done("network", "create", "--filename", str(file))
    make_vms(installed, yoshi.namespace, "web", labels={"app": "web"})
    make_vms(installed, yoshi.namespace, "db", labels={"app": "db"})
    yoshi.done("vm", "attach", "--selector", "app=web", "--network", "blue")
    listed = yoshi.done("vm", "list", "--selector", "app=web", "--all-namespaces", "--output", "json")
    assert listed == yoshi.done("vm", "list", "-l", "app=web", "-A", "-o", "json")
    assert '"web"' in listed
    assert '"db"' not in listed
    green = cidr(24)
    yoshi.done("network", "create", "green", "--cidr", green, "--nat-outgoing")
    assert get(installed, "networkwizard", "green", namespace=yoshi.namespace)["spec"] == {
        "plugin": "calico", "cidr": green, "calico": {"natOutgoing": True},
    }  # fmt: skip
    assert get(installed, POOLS, f"{yoshi.namespace}.green")["spec"]["natOutgoing"] is True


def test_live_migration_flag_configures_the_pool(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    yoshi.done("network", "create", "moving", "--cidr", cidr(24), "--live-migration")
    pool = get(installed, POOLS, f"{yoshi.namespace}.moving")["spec"]
    assert (pool["vxlanMode"], pool["ipipMode"], pool["natOutgoing"]) == ("Never", "Never", False)


@pytest.mark.parametrize("way", ["a file", "stdin"])
def test_network_create_from_manifests(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, tmp_path_factory: pytest.TempPathFactory, way: str
) -> None:
    one, two = cidr(24), cidr(24)
    text = f"""
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata: {{name: one, labels: {{team: red}}, annotations: {{why: because}}}}
spec: {{plugin: calico, cidr: {host(one, 9)}/24}}
---
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata: {{name: two, namespace: {yoshi.namespace}}}
spec: {{plugin: calico, cidr: {two}}}
"""
    if way == "stdin":
        ran = yoshi.run("network", "create", "-f", "-", input=text)
    else:
        file = tmp_path_factory.mktemp("manifests") / "networks.yaml"
        file.write_text(text)
        ran = yoshi.run("network", "create", "-f", str(file))
    assert ran.code == 0, str(ran)
    assert ran.out.splitlines() == [f"networkwizard.plumber.k8s.pf9.io/{name} created" for name in ("one", "two")]
    assert ran.err == f"note: {host(one, 9)}/24 has host bits; the network is {one}\n"
    made = get(installed, "networkwizard", "one", namespace=yoshi.namespace)
    assert made["metadata"]["labels"] == {"team": "red"}
    assert annotations(made)["why"] == "because"
    assert get(installed, POOLS, f"{yoshi.namespace}.one")["spec"]["cidr"] == one


def test_unknown_field_in_a_manifest_is_refused_before_any_write(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    network = cidr(24)
    text = f"""
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata: {{name: typo}}
spec: {{plugin: calico, cidr: {network}, gatway: {host(network, 1)}}}
"""
    for more in ((), ("--dry-run=server",)):
        said = yoshi.refused("network", "create", "-f", "-", *more, input=text)
        assert 'strict decoding error: unknown field "spec.gatway"' in said
        assert "Warning" not in said
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert f"{yoshi.namespace}.typo" not in installed.kubectl("get", POOLS, "-o", "name")
    status = "status: {created: true, allocations: {10.0.0.1: web-1}, whatever: 1}"
    mended = text.replace("gatway", "gateway") + status
    assert "typo created" in yoshi.done("network", "create", "-f", "-", input=mended)
    assert get(installed, "networkwizard", "typo", namespace=yoshi.namespace)["status"]["allocations"] == {}


@pytest.mark.parametrize(("dry_run", "said"), [("client", "dry run"), ("server", "server dry run")])
def test_network_create_dry_run_prints_every_object_and_creates_none(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, dry_run: str, said: str
) -> None:
    network = cidr(24)
    command = ("network", "create", "blue", "--cidr", network, f"--dry-run={dry_run}")
    pool = f"{yoshi.namespace}.blue"
    assert yoshi.done(*command).splitlines() == [
        f"networkwizard.plumber.k8s.pf9.io/blue created ({said}): create network {yoshi.namespace}/blue with {network}",
        f"ippool.crd.projectcalico.org/{pool} created ({said}): create ippool {pool} with {network}",
    ]
    shown = yaml.safe_load(yoshi.done(*command, "-o", "yaml"))["items"]
    assert [obj["kind"] for obj in shown] == ["NetworkWizard", "IPPool"]
    assert [obj["spec"]["cidr"] for obj in shown] == [network, network]
    assert yoshi.done(*command, "-o", "name") == (
        f"networkwizard.plumber.k8s.pf9.io/blue\nippool.crd.projectcalico.org/{pool}\n"
    )
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert pool not in installed.kubectl("get", POOLS, "-o", "name")


def test_network_create_output_formats(yoshi: Yoshi, cidr: Cidrs) -> None:
    network = cidr(24)
    shown = yaml.safe_load(yoshi.done("network", "create", "blue", "--cidr", network, "-o", "yaml"))
    assert (shown["kind"], shown["metadata"]["name"]) == ("NetworkWizard", "blue")
    assert shown["status"]["created"] is True
    again = ("network", "create", "blue", "--cidr", network)
    assert json.loads(yoshi.done(*again, "-o", "json"))["spec"]["cidr"] == network
    assert yoshi.done(*again, "-o", "name") == "networkwizard.plumber.k8s.pf9.io/blue\n"
    assert yoshi.done(*again, "-o", "jsonpath={.spec.cidr}") == network


def test_network_list_flags_and_formats(yoshi: Yoshi, cidr: Cidrs, blue: str) -> None:
    big = cidr(18)
    yoshi.done("network", "create", "big", "--cidr", big)
    yoshi.done("ips", "reserve", "big", "--count", "3")
    header, *rows = [line.split() for line in yoshi.done("network", "list").splitlines()]
    assert header == ["NAME", "PLUGIN", "CIDR", "READY", "SIZE", "USED", "FREE", "USE%", "AGE"]
    assert [row[:8] for row in rows] == [
        ["big", "calico", big, "True", "16382", "3", "16379", "1"],
        ["blue", "calico", blue, "True", "254", "0", "254", "0"],
    ]
    assert yoshi.done("network", "list", "blue", "--no-headers").split()[:3] == ["blue", "calico", blue]
    assert yoshi.done("network", "list", "-o", "name").splitlines() == [
        "networkwizard.plumber.k8s.pf9.io/big",
        "networkwizard.plumber.k8s.pf9.io/blue",
    ]
    assert yoshi.done("network", "list", "-o", "jsonpath={.items[*].metadata.name}") == "big blue"
    assert yoshi.done("network", "list", "blue", "-o", "jsonpath={.spec.cidr}") == blue
    columns = "custom-columns=N:.metadata.name,C:.spec.cidr"
    assert [line.split() for line in yoshi.done("network", "list", "-o", columns).splitlines()] == [
        ["N", "C"],
        ["big", big],
        ["blue", blue],
    ]
    assert json.loads(yoshi.done("network", "list", "-o", "json"))["items"][1]["spec"]["cidr"] == blue
    assert yaml.safe_load(yoshi.done("network", "list", "-o", "yaml"))["kind"] == "List"
    assert "REASON" in yoshi.done("network", "list", "-o", "wide")
    everywhere = yoshi.done("network", "list", "-A")
    assert everywhere.split()[0] == "NAMESPACE"
    assert f"{yoshi.namespace} " in everywhere


def test_network_describe_lists_the_allocations(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer")
    told = yoshi.done("network", "describe", "blue")
    words = {" ".join(line.split()) for line in told.splitlines()}
    assert {"Name: blue", f"CIDR: {blue}", "Ready: True", "Used: 2", "Free: 252", "Kept In: its own status"} <= words
    assert any(line.startswith(f"{host(blue, 1)} Bound {yoshi.namespace}/web") for line in words)
    assert any(line.startswith(f"{host(blue, 9)} Reserved reserved (printer)") for line in words)


def test_network_in_use_is_deleted_only_with_force(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer")
    said = yoshi.refused("network", "delete", "blue")
    assert f"is in use: {host(blue, 1)} {yoshi.namespace}/web, {host(blue, 9)} reserved (printer)" in said
    assert "--force" in said
    assert get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"].get("deleting") is None
    said = yoshi.refused("network", "delete", "blue", "--force", code=2)
    assert "--yes" in said
    shown = yoshi.done("network", "delete", "blue", "--force", "--dry-run=client")
    assert "detach virtualmachine/web" in shown

    assert yoshi.done("network", "delete", "blue", "--force", "--yes").splitlines()[-1] == (
        "networkwizard.plumber.k8s.pf9.io/blue deleted"
    )
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert f"{yoshi.namespace}.blue" not in installed.kubectl("get", POOLS, "-o", "name")
    left = get(installed, "virtualmachine", "web", namespace=yoshi.namespace)
    assert (annotations(left), template_annotations(left)) == ({}, {})


@pytest.mark.parametrize(("answer", "goes"), [("n", False), ("y", True)])
def test_network_delete_confirmation(yoshi: Yoshi, installed: Cluster, blue: str, answer: str, goes: bool) -> None:
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    terminal, stdin = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    with yoshi.alone("network", "delete", "blue", "--force", stdin=stdin) as process:
        said = "".join(process.communicate(timeout=60))
    os.close(terminal)
    os.close(stdin)
    where = yoshi.namespace
    assert f"Delete network {where}/blue, detach 1 VM ({where}/web) from it? [y/N]" in said
    assert process.returncode == (0 if goes else 1), said
    assert ("error: not confirmed\nNothing was changed." in said) != goes
    assert (get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []) == goes


def test_interrupted_network_deletion_is_completed_or_rolled_back(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web")
    begun = {"status": {"deleting": "2026-01-01T00:00:00Z"}}
    patch(installed, "networkwizard", "blue", begun, namespace=yoshi.namespace, subresource="status")
    assert "is being deleted" in yoshi.refused("vm", "attach", "web", "--network", "blue")
    assert "is being deleted" in yoshi.refused("ips", "reserve", "blue")
    yoshi.done("network", "create", "blue", "--cidr", blue)
    assert "deleting" not in get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]
    yoshi.done("vm", "attach", "web", "--network", "blue")
    yoshi.done("vm", "detach", "web", "--network", "blue")
    patch(installed, "networkwizard", "blue", begun, namespace=yoshi.namespace, subresource="status")
    yoshi.done("network", "delete", "blue")
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []


def test_network_create_with_another_spec_for_an_existing_name_is_refused(yoshi: Yoshi, cidr: Cidrs, blue: str) -> None:
    said = yoshi.refused("network", "create", "blue", "--cidr", cidr(24))
    assert f"network {yoshi.namespace}/blue exists already, with another cidr: {blue}" in said


def test_network_list_watch_prints_changes_of_large_networks(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, tmp_path: Path
) -> None:
    yoshi.done("network", "create", "large", "--cidr", cidr(16))
    shown = tmp_path / "shown"
    command = yoshi.program("network", "list", "-w", "--no-headers")
    with shown.open("w") as out, subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out) as watching:
        try:
            wait_for(lambda: _used(shown), "it shows something")
            end = time.monotonic() + 120
            while set(_used(shown)) == {"0"}:
                assert time.monotonic() < end, "it does not show what was taken"
                yoshi.done("ips", "reserve", "large")  # one may be taken before it watches
                time.sleep(0.2)
        finally:
            watching.kill()


def _used(shown: Path) -> list[str]:
    """How many addresses were in use each time that the list was shown."""
    return [line.split()[5] for line in shown.read_text().splitlines() if line.endswith("s")]
