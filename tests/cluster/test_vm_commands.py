"""`vm attach`, `detach` and `list`: everything else of a VM stays as it was; recreated; moved; many at once."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check
from tests.cluster.harness import Json, Yoshi, get, make, make_vms, reported_address, vm
from tests.cluster.vm_assertions import MAC, NETWORK_NAME, PIN, annotations, host, pinned, template_annotations

Cidrs = Callable[[int], str]


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
    for of, keys in ((bare["metadata"], (NETWORK_NAME,)), (bare["spec"]["template"].get("metadata", {}), (PIN, MAC))):
        for key in keys:
            of.get("annotations", {}).pop(key, None)
    for key in ("resourceVersion", "generation", "managedFields"):
        bare["metadata"].pop(key, None)
    return bare


def test_attach_and_detach_preserve_all_other_fields_of_a_vm(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
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
        assert annotations(attached)[NETWORK_NAME] == "blue"
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
def test_mac_flag_sets_the_mac_unless_the_interface_has_one(
    yoshi: Yoshi, installed: Cluster, blue: str, mac: str, interface: Json | None, written: str | None
) -> None:
    more = {"interfaces": [interface], "networks": [{"name": "default", "pod": {}}]} if interface else {}
    make_vms(installed, yoshi.namespace, "web", **more)
    yoshi.done("vm", "attach", "web", "--network", "blue", "--mac", mac)
    found = get(installed, "virtualmachine", "web", namespace=yoshi.namespace)
    assert template_annotations(found).get(MAC) == written


def test_recreated_vm_is_another_vm(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "other")
    yoshi.done("vm", "attach", "web", "--network", "blue", "--ip", host(blue, 10))
    installed.kubectl("delete", "vm", "web", "-n", yoshi.namespace)
    (again,) = make_vms(installed, yoshi.namespace, "web")
    said = yoshi.refused("vm", "attach", "other", "--network", "blue", "--ip", host(blue, 10))
    assert f"{host(blue, 10)} is not free" in said
    assert reported_address(yoshi.run("vm", "attach", "web", "--network", "blue")) == host(blue, 10)
    record = get(installed, "networkwizard", "blue", namespace=yoshi.namespace)["status"]["allocations"]
    assert record[host(blue, 10)]["uid"] == again["metadata"]["uid"]
    check(installed, yoshi.namespace, settled=True)


def test_restored_vm_gets_its_old_address_only_if_it_is_free(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    pin = {"template_annotations": {PIN: f'["{host(blue, 10)}"]'}}
    make_vms(installed, yoshi.namespace, "web", **pin)
    assert reported_address(yoshi.run("vm", "attach", "web", "--network", "blue")) == host(blue, 10)
    make_vms(installed, yoshi.namespace, "copy", **pin)
    said = yoshi.refused("vm", "attach", "copy", "--network", "blue")
    assert f"is not free: {yoshi.namespace}/web holds it" in said
    assert "copy" in yoshi.run("ips", "check").out
    yoshi.done("vm", "detach", "copy", "--network", "blue")
    check(installed, yoshi.namespace, settled=True)
    assert pinned(installed, yoshi.namespace, "web") == [host(blue, 10)]


def test_vm_on_another_private_network_is_moved_with_replace(
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
    ran = yoshi.run("vm", "attach", "web", "--network", "green", "--ip", host(green, 77), "--replace")
    assert reported_address(ran) == host(green, 77)
    assert pinned(installed, yoshi.namespace, "web") == [host(green, 77)]
    check(installed, yoshi.namespace, settled=True)


def test_attach_to_a_network_of_another_namespace(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    with installed.namespace() as other:
        make_vms(installed, other, "guest")
        there = yoshi.within(other)
        ran = there.run("vm", "attach", "guest", "--network", f"{yoshi.namespace}/blue")
        assert reported_address(ran) == host(blue, 1)
        found = get(installed, "virtualmachine", "guest", namespace=other)
        assert annotations(found)[NETWORK_NAME] == f"{yoshi.namespace}/blue"
        check(installed, yoshi.namespace, other, settled=True)
        assert f"{yoshi.namespace}/blue" in there.done("vm", "list")
        there.done("vm", "detach", "guest", "--network", f"{yoshi.namespace}/blue")
        check(installed, yoshi.namespace, other, settled=True)


def test_attach_by_selector_and_by_file_reports_each_vm(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
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


def test_vm_list_shows_missing_addresses(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
    make_vms(installed, yoshi.namespace, "web", "idle", "busy")
    yoshi.done("vm", "attach", "web", "busy", "--network", "blue")
    make(installed, instance(installed, yoshi.namespace, "busy", "10.0.0.1"))
    header, *rows = [line.split("  ") for line in yoshi.done("vm", "list").splitlines()]
    assert [cell.strip() for cell in header if cell] == ["VM", "NETWORK", "ADDRESS", "RUNNING WITH", "STATE", "REASON"]
    cells = {row[0]: [cell.strip() for cell in row if cell.strip()] for row in rows}
    assert cells["web"][:3] == ["web", "blue", host(blue, 1)]
    assert "Bound" in cells["web"]
    assert cells["busy"][-2:] == ["RestartNeeded", "the VM runs without its template's latest changes"]
    assert blue not in cells["idle"]
    shown = json.loads(yoshi.done("vm", "list", "web", "-o", "json"))
    assert shown["status"]["address"] == host(blue, 1)
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


def test_address_is_released_only_when_nothing_runs_with_it(yoshi: Yoshi, installed: Cluster, blue: str) -> None:
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
    assert "release" in yoshi.done("ips", "gc", "--network", "blue", "--grace", "0s", "--yes")
    ran = yoshi.run("vm", "attach", "next", "--network", "blue", "--ip", host(blue, 1))
    assert reported_address(ran) == host(blue, 1)
    check(installed, yoshi.namespace, settled=True)
