"""`ips import` on a real API server: running addresses and files become allocations and pins; never two owners."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.testing import Cluster
from tests.cluster.calico_ipam import Calico
from tests.cluster.checker import check, violations
from tests.cluster.harness import Json, Run, Yoshi, get, make, make_vms, resource_versions, vm
from tests.cluster.killing import ProxiedProgram
from tests.cluster.public_scene import PublicScene
from tests.cluster.raw_state import read_raw_state
from tests.cluster.request_gate import RequestGate

pytestmark = [pytest.mark.I1, pytest.mark.I2]

PIN, MAC = "cni.projectcalico.org/ipAddrs", "cni.projectcalico.org/hwAddr"
WRITTEN = ("networkwizards.plumber.k8s.pf9.io", "addressblocks.plumber.k8s.pf9.io", "virtualmachines.kubevirt.io")


@pytest.fixture
def base(yoshi: Yoshi, cidr: Callable[[int], str]) -> str:
    """A network of the name blue; gives the first three numbers of its addresses and a dot."""
    text = cidr(24)
    yoshi.done("network", "create", "blue", "--cidr", text)
    return text.removesuffix("0/24")


def runs(cluster: Cluster, namespace: str, **addresses: str) -> None:
    """VMs that run with addresses that nobody has pinned, as virt-handler tells it."""
    for number, (name, address) in enumerate(addresses.items()):
        (made,) = make_vms(cluster, namespace, name, run_strategy="Always")
        owner = {key: made[key] for key in ("apiVersion", "kind")}
        owner |= {"name": name, "uid": made["metadata"]["uid"], "controller": True}
        interface = {"name": "default", "ipAddress": address, "mac": f"0a:00:00:00:00:{number:02x}"}
        instance = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstance",
            "metadata": {"name": name, "namespace": namespace, "ownerReferences": [owner]},
            "spec": {"domain": {"devices": {}}},
            "status": {"phase": "Running", "interfaces": [interface]},
        }
        make(cluster, instance)


def pins(cluster: Cluster, namespace: str) -> dict[str, tuple[str, str]]:
    """VM -> the address and the MAC address on its template."""
    found = {}
    for obj in get(cluster, "virtualmachines", namespace=namespace)["items"]:
        annotations = (obj["spec"]["template"].get("metadata") or {}).get("annotations") or {}
        if addresses := json.loads(annotations.get(PIN, "[]")):
            found[obj["metadata"]["name"]] = addresses[0], annotations.get(MAC, "")
    return found


def results(yoshi: Yoshi, *args: str, code: int) -> dict[str, str]:
    """VM -> what became of it."""
    ran = yoshi.run("ips", "import", *args, "-o", "json")
    assert ran.code == code, str(ran)
    items: list[Json] = json.loads(ran.out)["items"]
    return {item["spec"]["vm"]: outcome(item["status"]) for item in items}


def outcome(status: Json) -> str:
    """The outcome of an Attachment: refused, changed or unchanged."""
    return "refused" if "error" in status else "changed" if status["changed"] else "unchanged"


def test_import_from_running_vms_needs_no_restart(yoshi: Yoshi, installed: Cluster, base: str) -> None:
    namespace = yoshi.namespace
    runs(installed, namespace, a=f"{base}40", b=f"{base}41", other="192.0.2.7")
    make_vms(installed, namespace, "halted")
    versions = resource_versions(installed, namespace, *WRITTEN)
    assert f"{base}40" in yoshi.done("ips", "import", "--from", "vms", "--dry-run=client")
    assert results(yoshi, "--from", "vms", "--dry-run=server", code=0) == dict.fromkeys("ab", "changed")
    assert yoshi.run("diff", "ips", "import", "--from", "vms").code == 1
    assert resource_versions(installed, namespace, *WRITTEN) == versions

    ran = yoshi.run("ips", "import", "--from", "vms")
    assert ran.code == 0, str(ran)
    assert "restart" not in ran.err
    assert f"virtualmachineinstance/a in namespace {namespace} runs with it" in ran.out
    assert pins(installed, namespace) == {
        "a": (f"{base}40", "0a:00:00:00:00:00"), "b": (f"{base}41", "0a:00:00:00:00:01"),
    }  # fmt: skip
    check(installed, namespace, settled=True)
    yoshi.done("ips", "check")
    versions = resource_versions(installed, namespace, *WRITTEN)
    assert results(yoshi, "--from", "vms", code=0) == dict.fromkeys("ab", "unchanged")
    assert yoshi.run("diff", "ips", "import", "--from", "vms").code == 0
    assert resource_versions(installed, namespace, *WRITTEN) == versions


def test_import_from_a_file_reports_each_refused_line(
    yoshi: Yoshi, installed: Cluster, base: str, tmp_path: Path
) -> None:
    namespace = yoshi.namespace
    make_vms(installed, namespace, "web-1", "web-2", "web-3", "owner")
    yoshi.done("vm", "attach", "owner", "--network", "blue", "--ip", f"{base}50")
    yoshi.done("ips", "reserve", "blue", f"{base}51")
    file = tmp_path / "ports.csv"
    ports = f"""\
        "ID","Name","MAC Address","Fixed IP Addresses","Status"
        1,web-1,fa:16:3e:00:00:01,"[{{'subnet_id': '0a1b', 'ip_address': '{base}60'}}]",UP
        2,web-2,fa:16:3e:00:00:02,"[{{'subnet_id': '0a1b', 'ip_address': '{base}50'}}]",UP
        3,web-3,fa:16:3e:00:00:03,"[{{'subnet_id': '0a1b', 'ip_address': '{base}51'}}]",UP
        4,gone,fa:16:3e:00:00:04,"[{{'subnet_id': '0a1b', 'ip_address': '{base}61'}}]",UP
        5,owner,,"[{{'subnet_id': '0a1b', 'ip_address': '{base}50'}}]",UP
        """
    lines = [line.strip() for line in ports.splitlines()]
    file.write_text("\n".join([*lines[:-1], "6,web-3,,ip_address='10.0.0.999',UP"]))
    before = resource_versions(installed, namespace, *WRITTEN)
    assert "line 7: address" in yoshi.refused("ips", "import", "-f", str(file), "--network", "blue", code=2)
    assert resource_versions(installed, namespace, *WRITTEN) == before

    file.write_text("\n".join(lines))
    ran = yoshi.run("ips", "import", "-f", str(file), "--network", "blue")
    assert ran.code == 1, str(ran)
    assert ran.err.endswith("error: 3 of 5 addresses refused\n")
    told = {line.split()[2].partition("/")[2]: " ".join(line.split()[3:]) for line in ran.out.splitlines()[1:]}
    assert told["web-1"] == f"adopted {file}, line 2"
    assert told["owner"] == f"already right {file}, line 6"
    assert told["web-2"].startswith(f"refused {base}50 is also used by virtualmachine/owner")
    assert "reserved" in told["web-3"]
    assert 'VM "gone" not found' in told["gone"]
    assert pins(installed, namespace)["web-1"] == (f"{base}60", "fa:16:3e:00:00:01")
    check(installed, namespace)


# -- from Calico's IPAM ---------------------------------------------------------------------------------------------


def owner(namespace: str, pod: str, **more: str) -> Json:
    """Whom Calico's CNI plugin says an address is for while the pod is there; after the pod, nothing of it is left."""
    return {"namespace": namespace, "node": "node1", "pod": pod, "timestamp": "2026-01-01 00:00:00 +0000 UTC", **more}


def test_import_from_calico_ipam_includes_stopped_vms(
    yoshi: Yoshi, installed: Cluster, base: str, calico: Calico
) -> None:
    namespace = yoshi.namespace
    runs(installed, namespace, up=f"{base}40")
    make_vms(installed, namespace, "stopped", "both")
    uid = get(installed, "virtualmachine", "up", namespace=namespace)["metadata"]["uid"]
    of_up = owner(namespace, "virt-launcher-up-abcde", **{"vmi-name": "up", "vm-uid": uid, "vmi-uid": "2"})
    calico.hold(f"{base}40", vm="up", owner=of_up)
    calico.hold(f"{base}41", vm="stopped")
    calico.hold(f"{base}42", vm="gone")
    calico.hold(f"{base}43", handle="k8s-pod-network.0123abcd", owner=owner(namespace, "plain-pod"))
    calico.hold(f"{base}44", f"{base}45", vm="both")
    books, versions = calico.holders(), resource_versions(installed, namespace, *WRITTEN)
    assert f"{base}41" in yoshi.done("ips", "import", "--from", "calico", "--dry-run=client", code=1)
    assert resource_versions(installed, namespace, *WRITTEN) == versions

    ran = yoshi.run("ips", "import", "--from", "calico")
    assert ran.code == 1, str(ran)
    told = {(line.split()[2], line.split()[1]): " ".join(line.split()[3:]) for line in ran.out.splitlines()[1:]}
    assert {(vm.partition("/")[2], address.removeprefix(base)) for vm, address in told} == {
        ("up", "40"), ("stopped", "41"), ("gone", "42"), ("both", "44"), ("both", "45"),
    }  # fmt: skip
    assert told[(f"{namespace}/stopped", f"{base}41")].startswith("adopted ipamblock/")
    assert told[(f"{namespace}/up", f"{base}40")].startswith("adopted ")
    assert 'VM "gone" not found' in told[(f"{namespace}/gone", f"{base}42")]
    assert "are both reported for the VM" in told[(f"{namespace}/both", f"{base}44")]
    assert {name: address for name, (address, _) in pins(installed, namespace).items()} == {
        "up": f"{base}40", "stopped": f"{base}41",
    }  # fmt: skip
    assert calico.holders() == books
    check(installed, namespace, settled=True)
    versions = resource_versions(installed, namespace, *WRITTEN)
    again = results(yoshi, "--from", "calico", code=1)
    assert again == {"up": "unchanged", "stopped": "unchanged", "gone": "refused", "both": "refused"}
    assert resource_versions(installed, namespace, *WRITTEN) == versions
    make_vms(installed, namespace, "late")
    yoshi.done("vm", "attach", "late", "--network", "blue")
    assert pins(installed, namespace)["late"][0] not in books


# -- from foreign Services --------------------------------------------------------------------------


def balanced(cluster: Cluster, namespace: str, name: str, address: str, selector: Json, **spec: Any) -> None:
    """A foreign Service with an address assigned by MetalLB, or as its status says."""
    spec = {"type": "LoadBalancer", "selector": selector, "ports": [{"port": 80}], **spec}
    make(
        cluster,
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec},
    )
    if spec["type"] == "LoadBalancer":
        status = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
        where = ("service", name, "-n", namespace, "--subresource=status", "--type=merge")
        cluster.kubectl("patch", *where, "-p", status)


def labelled(cluster: Cluster, namespace: str, **labels: Json) -> None:
    """VMs whose templates bear labels."""
    for name, some in labels.items():
        one = vm(namespace, name)
        one["spec"]["template"]["metadata"] = {"labels": some}
        make(cluster, one)


@pytest.fixture
def shop(public: PublicScene, cidr: Callable[[int], str]) -> str:
    """Services that others made, before there was a public network; gives the first three numbers and a dot."""
    text = cidr(28)
    base = text.rpartition(".")[0] + "."
    cluster, namespace = public.cluster, public.namespace
    pair = {"app": "pair"}
    labelled(
        cluster, namespace, front={"kubevirt.io/domain": "front"}, back={"app": "back"}, one=pair, two=pair, late={}
    )
    balanced(cluster, namespace, "front-lb", f"{base}3", {"kubevirt.io/domain": "front"})
    external = {"type": "ClusterIP", "externalIPs": [f"{base}4"]}
    balanced(cluster, namespace, "back-ext", f"{base}4", {"app": "back"}, **external)
    balanced(cluster, namespace, "pair-lb", f"{base}5", {"app": "pair"})
    balanced(cluster, namespace, "pods-lb", f"{base}6", {"app": "no-vm"})
    public.yoshi.done("network", "create", "pub", "--plugin", "public", "--announce", "metallb-l2", "--cidr", text)
    return base


SERVICES = ("services",)


def test_import_from_foreign_services_does_not_change_the_services(public: PublicScene, shop: str) -> None:
    cluster, namespace, yoshi = public.cluster, public.namespace, public.yoshi
    theirs = resource_versions(cluster, namespace, *SERVICES)
    before = resource_versions(cluster, namespace, *WRITTEN)
    assert f"{shop}3" in yoshi.done("ips", "import", "--from", "services", "--dry-run=client", code=1)
    assert resource_versions(cluster, namespace, *WRITTEN) == before
    ran = yoshi.run("ips", "import", "--from", "services")
    assert ran.code == 1, str(ran)
    told = {line.split()[2].partition("/")[2]: " ".join(line.split()[3:]) for line in ran.out.splitlines()[1:]}
    assert told["front"] == f"adopted service/front-lb in namespace {namespace} selects the VM"
    assert told["back"] == f"adopted service/back-ext in namespace {namespace} selects the VM"
    for name in ("one", "two"):
        assert told[name].startswith(f"refused {shop}5 is also used by service/pair-lb")
    assert told.keys() == {"front", "back", "one", "two"}
    assert {address: (record["name"], record["note"]) for address, record in public.records("pub").items()} == {
        f"{shop}3": ("front", "by service/front-lb"), f"{shop}4": ("back", "by service/back-ext"),
    }  # fmt: skip
    check(cluster, namespace, settled=True)

    written = resource_versions(cluster, namespace, *WRITTEN)
    assert results(yoshi, "--from", "services", code=1)["front"] == "unchanged"
    yoshi.done("vm", "attach", "front", "--public-network", "pub", "--wait", "--timeout", "5s")
    yoshi.done("sync")
    assert "unchanged" in yoshi.done("ips", "rebuild", "--yes")
    assert resource_versions(cluster, namespace, *WRITTEN) == written
    listed = {item["metadata"]["name"]: item for item in json.loads(yoshi.done("ips", "list", "-o", "json"))["items"]}
    assert listed[f"{shop}3"]["status"]["state"] == "Bound"
    checked = yoshi.done("ips", "check", code=1)
    assert f"{shop}5" in checked
    assert not any(f"{shop}{last} " in checked for last in "34")

    said = yoshi.refused("ips", "move", f"{shop}3", "--to", "late")
    assert "service/front-lb" in said
    assert "is not managed by yoshi" in said
    assert "uses it" in yoshi.refused("vm", "attach", "late", "--public-ip", f"{shop}6")
    yoshi.done("vm", "detach", "front", "--public-network", "pub")
    assert public.records("pub").keys() == {f"{shop}4"}
    assert "uses it" in yoshi.refused("vm", "attach", "late", "--public-ip", f"{shop}3")
    yoshi.done("vm", "attach", "late", "--public-network", "pub")
    ((given, _),) = [(a, r) for a, r in public.records("pub").items() if r["name"] == "late"]
    assert given.removeprefix(shop) not in "3456"
    after = resource_versions(cluster, namespace, *SERVICES)
    assert theirs.items() <= after.items()
    assert len(after) == len(theirs) + 1
    check(cluster, namespace, settled=True)


def test_foreign_service_with_a_changed_selector_moves_the_address_to_the_other_vm(
    public: PublicScene, shop: str
) -> None:
    cluster, namespace, yoshi = public.cluster, public.namespace, public.yoshi
    yoshi.run("ips", "import", "--from", "services")
    selector = json.dumps({"spec": {"selector": {"vm.kubevirt.io/name": "late", "kubevirt.io/domain": None}}})
    cluster.kubectl("patch", "service", "front-lb", "-n", namespace, "--type=merge", "-p", selector)
    theirs = resource_versions(cluster, namespace, *SERVICES)
    assert "uses it too" in yoshi.done("ips", "check", code=1)
    yoshi.done("ips", "move", f"{shop}3", "--to", "late")
    assert public.records("pub")[f"{shop}3"]["name"] == "late"
    assert resource_versions(cluster, namespace, *SERVICES) == theirs
    yoshi.done("sync")
    assert resource_versions(cluster, namespace, *SERVICES) == theirs
    check(cluster, namespace, settled=True)


def test_import_into_a_network_without_a_cidr(public: PublicScene) -> None:
    cluster, namespace, yoshi = public.cluster, public.namespace, public.yoshi
    labelled(cluster, namespace, front={"app": "front"})
    balanced(cluster, namespace, "front-lb", "198.51.100.7", {"app": "front"})
    yoshi.done("network", "create", "any", "--plugin", "public", "--announce", "metallb-l2")
    assert "No addresses found" in yoshi.run("ips", "import", "--from", "services").err
    assert results(yoshi, "--from", "services", "--network", "any", code=0) == {"front": "changed"}
    assert public.records("any")["198.51.100.7"]["name"] == "front"
    assert len(public.services()) == 1
    check(cluster, namespace, settled=True)
    yoshi.done("ips", "check")
    yoshi.done("vm", "detach", "front", "--public-network", "any")
    assert public.records("any") == {}
    assert len(public.services()) == 1


def test_import_usage_errors(yoshi: Yoshi) -> None:
    assert "specify where addresses are imported from" in yoshi.refused("ips", "import", code=2)
    assert "needs a file" in yoshi.refused("ips", "import", "--from", "csv", code=2)
    assert "cannot be combined with" in yoshi.refused("ips", "import", "--from", "vms", "-f", "x.csv", code=2)
    assert "cannot read" in yoshi.refused("ips", "import", "-f", "/none.csv", code=2)
    said = yoshi.refused("ips", "import", "-f", "-", code=2, input="a,b\n1,2\n")
    assert "the header is not name,address,mac,namespace" in said
    assert "not found" in yoshi.refused("ips", "import", "--from", "vms", "--network", "none")


def test_import_concurrent_with_attach_and_killed(
    proxied: ProxiedProgram, yoshi: Yoshi, installed: Cluster, base: str, tmp_path: Path
) -> None:
    namespace, told = yoshi.namespace, {f"t-{number}": f"{base}{number + 1}" for number in range(24)}
    fresh = [f"n-{number}" for number in range(4)]
    make_vms(installed, namespace, *told, *fresh)
    file = tmp_path / "told.csv"
    file.write_text("name,address,mac,namespace\n" + "".join(f"{name},{address}\n" for name, address in told.items()))
    command = ("ips", "import", "-f", str(file), "--network", "blue")
    attach = [Run(("vm", "attach", name, "--network", "blue")) for name in fresh]
    assert proxied.is_killed(1, *command)
    with proxied.held(RequestGate(6), *command) as process:
        assert process.poll() is None, "it is killed only when the others have come and gone"
        *attached, _ = yoshi.together(*attach, Run(command))
    for ran in attached:
        assert ran.code == 0, str(ran)
    moment = violations(read_raw_state(installed, [namespace]), [namespace])
    assert [sentence for sentence in moment if not sentence.startswith("I3") or "carries" in sentence] == []
    last = yoshi.run(*command)
    taken = {address for name, (address, _) in pins(installed, namespace).items() if name in fresh}
    has = {name: address for name, (address, _) in pins(installed, namespace).items() if name in told}
    assert has == {name: address for name, address in told.items() if address not in taken}
    assert last.code == (1 if taken & {*told.values()} else 0), str(last)
    yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    check(installed, namespace, settled=True)
