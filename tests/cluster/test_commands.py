"""Each command on the real API server: what it prints, what is there afterwards, and that a second run changes nothing.

networks     create from flags, files and stdin; both dry runs; every -o; list, describe, delete
VMs          attach and detach leave everything else of a VM as it was; made anew; moved; lists
addresses    list, who, reserve, release; check's findings and exit codes; gc
diff         exits 0, 1, more than 1
twice (I7)   every command's second run leaves every resourceVersion as it was
gone (I8)    what was made for a network goes away with it
"""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable

import pytest
import yaml

from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import Json, Yoshi, get, make, make_vms, resource_versions, vm

Cidrs = Callable[[int], str]

POOLS = "ippools.crd.projectcalico.org"
PIN = "cni.projectcalico.org/ipAddrs"
MAC = "cni.projectcalico.org/hwAddr"
WISH = "plumber.k8s.pf9.io/networkName"


def annotations(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("annotations", {})
    return found


def template_annotations(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["spec"]["template"].get("metadata", {}).get("annotations", {})
    return found


def pinned(cluster: Cluster, namespace: str, name: str) -> list[str]:
    """The addresses on a VM's template."""
    found = get(cluster, "virtualmachine", name, namespace=namespace)
    return list(json.loads(template_annotations(found).get(PIN, "[]")))


def host(cidr: str, number: int) -> str:
    """The address with that last octet, of a CIDR that begins at 0."""
    return f"{cidr.rpartition('.')[0]}.{number}"


@pytest.fixture
def blue(yoshi: Yoshi, cidr: Cidrs) -> str:
    """The CIDR of a network of that name."""
    network = cidr(24)
    yoshi.done("network", "create", "blue", "--cidr", network)
    return network


# -- networks --------------------------------------------------------------------------------------------------------


def test_a_network_is_made_with_its_pool_and_says_that_it_is_ready(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
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


def test_flags_become_the_spec(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    network = cidr(24)
    yoshi.done(
        "network", "create", "tuned", "--cidr", host(network, 77) + "/24", "--gateway", host(network, 1),
        "--range", f"{host(network, 10)}-{host(network, 99)}", "--exclude", host(network, 16) + "/30",
        "--exclude", f"{host(network, 50)}-{host(network, 59)}", "--encapsulation", "VXLANCrossSubnet",
        "--no-nat-outgoing", "--block-size", "27",
    )  # fmt: skip
    spec = get(installed, "networkwizard", "tuned", namespace=yoshi.namespace)["spec"]
    assert spec["range_start"], spec["range_end"] == (host(network, 10), host(network, 99))
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


def test_what_live_migration_needs_of_calico_is_one_flag(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
    yoshi.done("network", "create", "moving", "--cidr", cidr(24), "--live-migration")
    pool = get(installed, POOLS, f"{yoshi.namespace}.moving")["spec"]
    assert (pool["vxlanMode"], pool["ipipMode"], pool["natOutgoing"]) == ("Never", "Never", False)


@pytest.mark.parametrize("way", ["a file", "stdin"])
def test_networks_come_from_manifests(
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


@pytest.mark.parametrize(("dry_run", "said"), [("client", "dry run"), ("server", "server dry run")])
def test_a_dry_run_tells_everything_and_makes_nothing(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, dry_run: str, said: str
) -> None:
    network = cidr(24)
    command = ("network", "create", "blue", "--cidr", network, f"--dry-run={dry_run}")
    pool = f"{yoshi.namespace}.blue"
    assert yoshi.done(*command).splitlines() == [
        f"networkwizard.plumber.k8s.pf9.io/blue created ({said}): make network {yoshi.namespace}/blue with {network}",
        f"ippool.crd.projectcalico.org/{pool} created ({said}): make ippool {pool} with {network}",
    ]
    shown = list(yaml.safe_load_all(yoshi.done(*command, "-o", "yaml")))
    assert [obj["kind"] for obj in shown] == ["NetworkWizard", "IPPool"]
    assert [obj["spec"]["cidr"] for obj in shown] == [network, network]
    assert yoshi.done(*command, "-o", "name") == (
        f"networkwizard.plumber.k8s.pf9.io/blue ({said})\nippool.crd.projectcalico.org/{pool} ({said})\n"
    )
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert pool not in installed.kubectl("get", POOLS, "-o", "name")


def test_a_created_network_is_printed_as_asked_for(yoshi: Yoshi, cidr: Cidrs) -> None:
    network = cidr(24)
    shown = yaml.safe_load(yoshi.done("network", "create", "blue", "--cidr", network, "-o", "yaml"))
    assert (shown["kind"], shown["metadata"]["name"]) == ("NetworkWizard", "blue")
    assert shown["status"]["created"] is True
    again = ("network", "create", "blue", "--cidr", network)
    assert json.loads(yoshi.done(*again, "-o", "json"))["spec"]["cidr"] == network
    assert yoshi.done(*again, "-o", "name") == "networkwizard.plumber.k8s.pf9.io/blue\n"
    assert yoshi.done(*again, "-o", "jsonpath={.spec.cidr}") == network


def test_networks_are_listed_in_every_way(yoshi: Yoshi, cidr: Cidrs, blue: str) -> None:
    big = cidr(18)
    yoshi.done("network", "create", "big", "--cidr", big)
    yoshi.done("ips", "reserve", "big", "--count", "3")
    header, *rows = [line.split() for line in yoshi.done("network", "list").splitlines()]
    assert header == ["NAME", "PLUGIN", "CIDR", "READY", "USED", "FREE", "AGE"]
    assert [row[:6] for row in rows] == [
        ["big", "calico", big, "True", "3", "16379"],
        ["blue", "calico", blue, "True", "0", "254"],
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


def test_a_network_is_described_with_who_holds_what(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer")
    told = yoshi.done("network", "describe", "blue")
    words = {" ".join(line.split()) for line in told.splitlines()}
    assert {"Name: blue", f"CIDR: {blue}", "Ready: True", "Used: 2", "Free: 252", "Kept In: its own status"} <= words
    assert any(line.startswith(f"{host(blue, 1)} bound {yoshi.namespace}/web") for line in words)
    assert any(line.startswith(f"{host(blue, 9)} reserved reserved (printer)") for line in words)


def test_a_network_in_use_is_deleted_by_force_only(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
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
    assert "take virtualmachine/web" in shown

    assert yoshi.done("network", "delete", "blue", "--force", "--yes").split() == [
        "networkwizard.plumber.k8s.pf9.io/blue",
        "deleted",
    ]
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []
    assert f"{yoshi.namespace}.blue" not in installed.kubectl("get", POOLS, "-o", "name")
    left = get(installed, "virtualmachine", "web", namespace=yoshi.namespace)
    assert (annotations(left), template_annotations(left)) == ({}, {})


@pytest.mark.parametrize(("answer", "goes"), [("n", False), ("y", True)])
def test_who_is_asked_before_a_deletion_may_say_no(
    yoshi: Yoshi, installed: Cluster, blue: str, answer: str, goes: bool
) -> None:
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    terminal, stdin = pty.openpty()
    os.write(terminal, f"{answer}\n".encode())
    with yoshi.alone("network", "delete", "blue", "--force", stdin=stdin) as process:
        said = "".join(process.communicate(timeout=60))
    os.close(terminal)
    os.close(stdin)
    assert f"Detach every VM from network {yoshi.namespace}/blue and delete it? [y/N]" in said
    assert process.returncode == (0 if goes else 130), said
    assert (get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []) == goes


def test_a_deletion_that_was_begun_and_given_up_is_completed_or_taken_back(
    yoshi: Yoshi, installed: Cluster, blue: str
) -> None:
    make_vms(installed, yoshi.namespace, "web")
    begun = json.dumps({"status": {"deleting": "2026-01-01T00:00:00Z"}})
    mark = (
        "patch",
        "networkwizard",
        "blue",
        "-n",
        yoshi.namespace,
        "--subresource=status",
        "--type=merge",
        "-p",
        begun,
    )
    installed.kubectl(*mark)
    assert "is being deleted" in yoshi.refused("vm", "attach", "web", "--network", "blue")
    assert "is being deleted" in yoshi.refused("ips", "reserve", "blue")
    yoshi.done("network", "create", "blue", "--cidr", blue)
    assert "deleting" not in get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]
    yoshi.done("vm", "attach", "web", "--network", "blue")
    yoshi.done("vm", "detach", "web", "--network", "blue")
    installed.kubectl(*mark)
    yoshi.done("network", "delete", "blue")
    assert get(installed, "networkwizards", namespace=yoshi.namespace)["items"] == []


def test_a_network_of_another_spec_under_the_same_name_is_refused(yoshi: Yoshi, cidr: Cidrs, blue: str) -> None:
    said = yoshi.refused("network", "create", "blue", "--cidr", cidr(24))
    assert f"network {yoshi.namespace}/blue exists already, with another cidr: {blue}" in said


# -- VMs -------------------------------------------------------------------------------------------------------------

RICH_VM: Json = {
    "labels": {"app": "db"},
    "annotations": {"someone.else/says": "hello", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
    "template_annotations": {"someone.else/template": "x", "kubevirt.io/allow-pod-bridge-network-live-migration": ""},
    "interfaces": [{"name": "default", "masquerade": {}, "ports": [{"port": 80}]}, {"name": "second", "bridge": {}}],
    "networks": [{"name": "default", "pod": {}}, {"name": "second", "multus": {"networkName": "other"}}],
    "dataVolumeTemplates": [
        {
            "metadata": {"name": "disk", "unknown": {"to": ["us"]}},
            "spec": {"pvc": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
        }
    ],
    "updateVolumesStrategy": "Migration",
}


def without_ours(obj: Json) -> Json:
    """A VM without what attaching may write."""
    bare: Json = json.loads(json.dumps(obj))
    for of, keys in ((bare["metadata"], (WISH,)), (bare["spec"]["template"].get("metadata", {}), (PIN, MAC))):
        for key in keys:
            of.get("annotations", {}).pop(key, None)
    for key in ("resourceVersion", "generation", "managedFields"):
        bare["metadata"].pop(key, None)
    return bare


def test_attaching_and_detaching_leave_everything_else_of_a_vm_as_it_was(
    yoshi: Yoshi, installed: Cluster, blue: str
) -> None:
    changes = json.loads(json.dumps(RICH_VM))
    body = vm(yoshi.namespace, "db", **changes)
    body["metadata"]["finalizers"] = ["example.com/keep"]
    body["spec"]["template"]["metadata"]["unknown"] = {"deep": [1, {"er": None}]}
    (before,) = make(installed, body)
    try:
        yoshi.done("vm", "attach", "db", "--network", "blue", "--ip", host(blue, 10))
        attached = get(installed, "virtualmachine", "db", namespace=yoshi.namespace)
        assert without_ours(attached) == without_ours(before)
        assert template_annotations(attached)[PIN] == f'["{host(blue, 10)}"]'
        assert annotations(attached)[WISH] == "blue"
        mac = template_annotations(attached)[MAC]
        record = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]["allocations"]
        assert record[host(blue, 10)]["mac"] == mac
        assert record[host(blue, 10)]["uid"] == before["metadata"]["uid"]

        yoshi.done("vm", "detach", "db", "--network", "blue")
        detached = get(installed, "virtualmachine", "db", namespace=yoshi.namespace)
        for key in ("resourceVersion", "generation", "managedFields"):
            before["metadata"].pop(key, None)
            detached["metadata"].pop(key, None)
        assert detached == before
    finally:
        installed.kubectl(
            "patch", "vm", "db", "-n", yoshi.namespace, "--type=merge", "-p", '{"metadata": {"finalizers": null}}'
        )


@pytest.mark.parametrize(
    ("mac", "interface", "written"),
    [
        ("none", None, None),
        ("02:00:00:AB:CD:EF", None, "02:00:00:ab:cd:ef"),
        ("auto", {"name": "default", "masquerade": {}, "macAddress": "02:11:22:33:44:55"}, None),
    ],
)
def test_the_mac_address_is_written_as_asked_for_unless_the_interface_has_one(
    yoshi: Yoshi, installed: Cluster, blue: str, mac: str, interface: Json | None, written: str | None
) -> None:
    more = {"interfaces": [interface], "networks": [{"name": "default", "pod": {}}]} if interface else {}
    make_vms(installed, yoshi.namespace, "web", **more)
    yoshi.done("vm", "attach", "web", "--network", "blue", "--mac", mac)
    found = get(installed, "virtualmachine", "web", namespace=yoshi.namespace)
    assert template_annotations(found).get(MAC) == written


def test_a_vm_made_anew_is_another_vm(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "other")
    yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", host(blue, 10))
    installed.kubectl("delete", "vm", "web", "-n", yoshi.namespace)
    (again,) = make_vms(installed, yoshi.namespace, "web")
    said = yoshi.refused("vm", "attach", "other", "--network", "blue", "--ip", host(blue, 10))
    assert f"{host(blue, 10)} is not free" in said
    assert host(blue, 10) in yoshi.done("vm", "attach", "web", "--network", "blue")
    record = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]["allocations"]
    assert record[host(blue, 10)]["uid"] == again["metadata"]["uid"]
    check(installed, yoshi.namespace, settled=True)


def test_a_vm_restored_with_its_old_address_gets_it_again_only_if_it_is_free(
    yoshi: Yoshi, installed: Cluster, blue: str
) -> None:
    pin = {"template_annotations": {PIN: f'["{host(blue, 10)}"]'}}
    make_vms(installed, yoshi.namespace, "web", **pin)
    assert host(blue, 10) in yoshi.done("vm", "attach", "web", "--network", "blue")
    make_vms(installed, yoshi.namespace, "copy", **pin)
    said = yoshi.refused("vm", "attach", "copy", "--network", "blue")
    assert f"is not free: {yoshi.namespace}/web holds it" in said
    assert "copy" in yoshi.run("ips", "check").out
    yoshi.done("vm", "detach", "copy", "--network", "blue")
    check(installed, yoshi.namespace, settled=True)
    assert pinned(installed, yoshi.namespace, "web") == [host(blue, 10)]


def test_a_vm_is_on_one_such_network_and_is_moved_when_told_to(
    yoshi: Yoshi, installed: Cluster, cidr: Cidrs, blue: str
) -> None:
    green = cidr(22)
    yoshi.done("network", "create", "green", "--cidr", green)
    make_vms(installed, yoshi.namespace, "web")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    said = yoshi.refused("vm", "attach", "web", "--network", "green")
    assert f"already has {host(blue, 1)} on network blue" in said
    assert "--replace" in said
    yoshi.done("vm", "attach", "web", "--network", "green", "--replace")
    assert get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]["allocations"] == {}
    check(installed, yoshi.namespace, settled=True)
    said = yoshi.refused("vm", "attach", "web", "--network", "green", "--ip", host(green, 77))
    assert "--replace" in said
    assert host(green, 77) in yoshi.done(
        "vm", "attach", "web", "--network", "green", "--ip", host(green, 77), "--replace"
    )
    assert pinned(installed, yoshi.namespace, "web") == [host(green, 77)]
    check(installed, yoshi.namespace, settled=True)


def test_a_network_of_another_namespace_is_named_with_it(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    with installed.namespace() as other:
        make_vms(installed, other, "guest")
        there = yoshi.within(other)
        assert host(blue, 1) in there.done("vm", "attach", "guest", "--network", f"{yoshi.namespace}/blue")
        found = get(installed, "virtualmachine", "guest", namespace=other)
        assert annotations(found)[WISH] == f"{yoshi.namespace}/blue"
        check(installed, yoshi.namespace, other, settled=True)
        assert f"{yoshi.namespace}/blue" in there.done("vm", "list")
        there.done("vm", "detach", "guest", "--network", f"{yoshi.namespace}/blue")
        check(installed, yoshi.namespace, other, settled=True)


def test_many_vms_are_attached_by_selector_and_by_file_and_each_is_reported(
    yoshi: Yoshi, installed: Cluster, blue: str
) -> None:
    names = [f"db-{number}" for number in range(6)]
    make_vms(installed, yoshi.namespace, *names[:4], labels={"app": "db"})
    told = yoshi.done("vm", "attach", "-l", "app=db", "--network", "blue").splitlines()
    assert told == [
        f"virtualmachine.kubevirt.io/{name} attached to blue: {host(blue, number)}"
        for number, name in enumerate(names[:4], 1)
    ]
    text = "\n---\n".join(json.dumps(vm(yoshi.namespace, name)) for name in names[3:5])
    make_vms(installed, yoshi.namespace, names[4])
    ran = yoshi.run("vm", "attach", "-f", "-", "--network", "blue", input=text)
    assert ran.code == 0, str(ran)
    assert "db-3 attached to blue" in ran.out
    assert "(unchanged)" in ran.out.splitlines()[0]
    ran = yoshi.run("vm", "attach", *names, "--network", "blue")
    assert ran.code == 1
    assert len(ran.out.splitlines()) == 5
    assert f'VM "db-5" not found in namespace "{yoshi.namespace}"' in ran.err
    assert "1 of 6 VMs failed" in ran.err
    check(installed, yoshi.namespace, settled=True)


def test_vms_are_listed_with_what_is_missing(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "idle", "busy")
    yoshi.done("vm", "attach", "web", "busy", "--network", "blue")
    make(installed, instance(installed, yoshi.namespace, "busy", "10.0.0.1"))
    header, *rows = [line.split("  ") for line in yoshi.done("vm", "list").splitlines()]
    assert [cell.strip() for cell in header if cell] == ["VM", "NETWORK", "ADDRESS", "RUNNING WITH", "STATE", "MISSING"]
    cells = {row[0]: [cell.strip() for cell in row if cell.strip()] for row in rows}
    assert cells["web"][:3] == ["web", "blue", host(blue, 1)]
    assert "bound" in cells["web"]
    assert cells["busy"][-2:] == ["restart needed", "restart"]
    assert blue not in cells["idle"]
    shown = json.loads(yoshi.done("vm", "list", "web", "-o", "json"))
    assert shown["spec"]["address"] == host(blue, 1)
    said = yoshi.run("vm", "attach", "busy", "--network", "blue").err
    assert "restart needed" in said


def instance(cluster: Cluster, namespace: str, name: str, address: str, phase: str = "Running") -> Json:
    """A VirtualMachineInstance that runs with an address, as virt-controller makes it."""
    owner = get(cluster, "virtualmachine", name, namespace=namespace)
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "ownerReferences": [
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "VirtualMachine",
                    "name": name,
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {"domain": {"devices": {}}},
        "status": {"phase": phase, "interfaces": [{"name": "default", "ipAddress": address}]},
    }


def test_an_address_is_given_back_only_when_nothing_runs_with_it(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "next", run_strategy="Always")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    make(installed, instance(installed, yoshi.namespace, "web", host(blue, 1)))
    ran = yoshi.run("vm", "detach", "web", "--network", "blue")
    assert ran.code == 0
    assert f"{host(blue, 1)} stays recorded" in ran.err
    assert pinned(installed, yoshi.namespace, "web") == []
    assert "is not free" in yoshi.refused("vm", "attach", "next", "--network", "blue", "--ip", host(blue, 1))
    assert "nothing to collect" in yoshi.done("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
    assert "stays recorded" in yoshi.refused("ips", "release", "blue", host(blue, 1))
    check(installed, yoshi.namespace)
    installed.kubectl("delete", "vmi", "web", "-n", yoshi.namespace)
    assert "give back" in yoshi.done("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
    assert host(blue, 1) in yoshi.done("vm", "attach", "next", "--network", "blue", "--ip", host(blue, 1))
    check(installed, yoshi.namespace, settled=True)


# -- addresses -------------------------------------------------------------------------------------------------------


def test_addresses_are_reserved_released_and_told(yoshi: Yoshi, blue: str) -> None:
    assert yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer") == (
        f"{host(blue, 9)} reserved on blue\n"
    )
    assert yoshi.done("ips", "reserve", "blue", host(blue, 9), "--note", "printer").endswith("(unchanged)\n")
    assert yoshi.done("ips", "reserve", "blue", "--count", "2").split() == [
        *(host(blue, 1), "reserved", "on", "blue"),
        *(host(blue, 2), "reserved", "on", "blue"),
    ]
    assert "is not free" in yoshi.refused("ips", "reserve", "blue", host(blue, 9), "--note", "another")
    told = yoshi.done("ips", "who", host(blue, 9))
    assert {"State:", "reserved", "(printer)", f"{yoshi.namespace}/blue"} <= set(told.split())
    assert "is free" in yoshi.done("ips", "who", host(blue, 3))
    assert "never given out" in yoshi.done("ips", "who", host(blue, 255))
    header, *rows = yoshi.done("ips", "list", "--network", "blue").splitlines()
    assert header.split() == ["ADDRESS", "NETWORK", "STATE", "HOLDER", "RUNNING", "AGE"]
    assert [row.split()[0] for row in rows] == [host(blue, 1), host(blue, 2), host(blue, 9)]
    free = yoshi.done("ips", "list", "--free", "-o", "jsonpath={.items[*].spec.range}").split()
    assert free == [f"{host(blue, 3)}-{host(blue, 8)}", f"{host(blue, 10)}-{host(blue, 254)}"]
    assert "released (was reserved (printer))" in yoshi.done("ips", "release", "blue", host(blue, 9))
    assert "is free already" in yoshi.done("ips", "release", "blue", host(blue, 9))


def test_check_finds_what_does_not_agree_and_exits_1(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "gone", "unpinned", "rightly")
    yoshi.done("vm", "attach", "gone", "unpinned", "rightly", "--network", "blue")
    assert yoshi.done("ips", "check") == "3 addresses, all as recorded\n"
    installed.kubectl("delete", "vm", "gone", "-n", yoshi.namespace)
    make_vms(installed, yoshi.namespace, "stranger", template_annotations={PIN: f'["{host(blue, 77)}"]'})
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
        (host(blue, 1), "the VM is gone"),
        (host(blue, 3), "uses it too"),
        (host(blue, 77), "the ledger does not say so"),
    ):
        assert any(line.startswith(address) and words in line for line in found), str(ran)
    assert any("unpinned" in line and "does not want it" in line for line in found), str(ran)
    assert len(found) == 4, str(ran)
    shown = yoshi.run("ips", "check", "-o", "json")
    assert shown.code == 1
    assert {item["kind"] for item in json.loads(shown.out)["items"]} == {"AddressProblem"}


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


def test_collecting_gives_back_what_nobody_uses_and_leaves_young_records_alone(
    yoshi: Yoshi, installed: Cluster, blue: str
) -> None:
    make_vms(installed, yoshi.namespace, "gone", "here")
    yoshi.done("vm", "attach", "gone", "here", "--network", "blue")
    yoshi.done("ips", "reserve", "blue", host(blue, 9))
    installed.kubectl("delete", "vm", "gone", "-n", yoshi.namespace)
    assert yoshi.done("ips", "gc", "--network", "blue", "--yes") == "nothing to collect\n"
    age_records(installed, yoshi.namespace, "blue")
    said = yoshi.refused("ips", "gc", "--network", "blue", code=2)
    assert "--yes" in said
    assert f"give back {host(blue, 1)} of {yoshi.namespace}/gone" in said
    told = yoshi.done("ips", "gc", "--network", "blue", "--yes")
    assert told == f"give back {host(blue, 1)} of {yoshi.namespace}/gone\n"
    left = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]
    assert set(left["allocations"]) == {host(blue, 2), host(blue, 9)}
    assert (left["used"], left["free"]) == (2, 252)


# -- diff ------------------------------------------------------------------------------------------------------------


def test_diff_exits_0_1_or_more(yoshi: Yoshi, installed: Cluster, cidr: Cidrs, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "other")
    yoshi.done("vm", "attach", "web", "--network", "blue")
    before = resource_versions(installed, yoshi.namespace, "networkwizards", "virtualmachines")
    shown = yoshi.done("diff", "network", "create", "new", "--cidr", cidr(24), code=1)
    assert "+kind: IPPool" in shown
    shown = yoshi.done("diff", "vm", "attach", "other", "--network", "blue", code=1)
    assert f"+        {PIN}: '[\"{host(blue, 2)}\"]'" in shown
    assert "-" in yoshi.done("diff", "vm", "detach", "web", "--network", "blue", code=1)
    assert "-kind: NetworkWizard" in yoshi.done("diff", "network", "delete", "blue", "--force", code=1)
    for command in (
        ("network", "create", "blue", "--cidr", blue),
        ("vm", "attach", "web", "--network", "blue"),
        ("vm", "detach", "other", "--network", "blue"),
        ("ips", "gc", "--network", "blue", "--grace", "0s"),
        ("ips", "release", "blue", host(blue, 99)),
    ):
        assert yoshi.done("diff", *command) == ""
    assert "not found" in yoshi.refused("diff", "vm", "attach", "web", "--network", "no-such", code=2)
    assert "not found" in yoshi.refused("diff", "vm", "attach", "no-such", "--network", "blue", code=2)
    assert "changes nothing" in yoshi.refused("diff", "vm", "list", code=2)
    assert resource_versions(installed, yoshi.namespace, "networkwizards", "virtualmachines") == before


# -- twice, and gone -------------------------------------------------------------------------------------------------

KINDS = ("networkwizards", "addressblocks", "virtualmachines", POOLS)


def test_every_command_may_be_run_twice(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
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
        *(("ips", "who", host(blue, 7)), ("ips", "list", "--free")),
    ):
        twice(*reading, says="")
    check(installed, yoshi.namespace, settled=True)


def test_what_was_made_for_a_network_goes_away_with_it(yoshi: Yoshi, installed: Cluster, cidr: Cidrs) -> None:
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
