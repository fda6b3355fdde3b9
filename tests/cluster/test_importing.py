"""`ips import` on a real API server: what runs, and files, become records and pins; never two owners."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.testing import Cluster
from tests.cluster.checker import check, look, violations
from tests.cluster.harness import Json, Run, Yoshi, get, make, make_vms, resource_versions

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
    return {item["spec"]["vm"]: item["status"]["result"] for item in items}


def test_what_vms_run_with_becomes_theirs_without_a_restart(yoshi: Yoshi, installed: Cluster, base: str) -> None:
    namespace = yoshi.namespace
    runs(installed, namespace, a=f"{base}40", b=f"{base}41", other="192.0.2.7")
    make_vms(installed, namespace, "halted")
    versions = resource_versions(installed, namespace, *WRITTEN)
    assert f"{base}40" in yoshi.done("ips", "import", "--from", "vms", "--dry-run=client")
    assert results(yoshi, "--from", "vms", "--dry-run=server", code=0) == dict.fromkeys("ab", "to be adopted")
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
    assert results(yoshi, "--from", "vms", code=0) == dict.fromkeys("ab", "already right")
    assert yoshi.run("diff", "ips", "import", "--from", "vms").code == 0
    assert resource_versions(installed, namespace, *WRITTEN) == versions


def test_a_file_is_adopted_line_by_line_and_what_is_refused_says_why(
    yoshi: Yoshi, installed: Cluster, base: str, tmp_path: Path
) -> None:
    namespace = yoshi.namespace
    make_vms(installed, namespace, "web-1", "web-2", "web-3", "owner")
    yoshi.done("vm", "attach", "owner", "--network", "blue", "--ip", f"{base}50")
    yoshi.done("ips", "reserve", "blue", f"{base}51")
    file = tmp_path / "ports.csv"
    ports = f"""\
        "ID","Name","MAC Address","Fixed IP Addresses"
        1,web-1,fa:16:3e:00:00:01,"[{{'subnet_id': '0a1b', 'ip_address': '{base}60'}}]"
        2,web-2,fa:16:3e:00:00:02,"[{{'subnet_id': '0a1b', 'ip_address': '{base}50'}}]"
        3,web-3,fa:16:3e:00:00:03,"[{{'subnet_id': '0a1b', 'ip_address': '{base}51'}}]"
        4,gone,fa:16:3e:00:00:04,"[{{'subnet_id': '0a1b', 'ip_address': '{base}61'}}]"
        5,owner,,"[{{'subnet_id': '0a1b', 'ip_address': '{base}50'}}]"
        """
    lines = [line.strip() for line in ports.splitlines()]
    file.write_text("\n".join([*lines[:-1], '6,web-3,,"10.0.0.999"']))
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
    assert told["web-2"].startswith(f"refused {base}50 is not the VM's alone: virtualmachine/owner")
    assert "reserved" in told["web-3"]
    assert 'VM "gone" not found' in told["gone"]
    assert pins(installed, namespace)["web-1"] == (f"{base}60", "fa:16:3e:00:00:01")
    check(installed, namespace)


def test_misuse_is_told(yoshi: Yoshi) -> None:
    assert "say where addresses are taken from" in yoshi.refused("ips", "import", code=2)
    assert "needs a file" in yoshi.refused("ips", "import", "--from", "csv", code=2)
    assert "does not go with" in yoshi.refused("ips", "import", "--from", "vms", "-f", "x.csv", code=2)
    assert "cannot read" in yoshi.refused("ips", "import", "-f", "/none.csv", code=2)
    assert "no column" in yoshi.refused("ips", "import", "-f", "-", code=2, input="a,b\n1,2\n")
    assert "not found" in yoshi.refused("ips", "import", "--from", "vms", "--network", "none")


def test_imports_and_attachments_at_the_same_moment_and_imports_that_are_killed(
    yoshi: Yoshi, installed: Cluster, base: str, tmp_path: Path
) -> None:
    namespace, told = yoshi.namespace, {f"t-{number}": f"{base}{number + 1}" for number in range(24)}
    fresh = [f"n-{number}" for number in range(4)]
    make_vms(installed, namespace, *told, *fresh)
    file = tmp_path / "told.csv"
    file.write_text("name,ip\n" + "".join(f"{name},{address}\n" for name, address in told.items()))
    command = ("ips", "import", "-f", str(file), "--network", "blue")
    whole = yoshi.run(*command, "--dry-run=server").seconds
    killed = [Run(command, kill_after=whole * part) for part in (0.6, 0.9)]
    attach = [Run(("vm", "attach", name, "--network", "blue")) for name in fresh]
    rans = yoshi.together(*killed, *attach, Run(command))
    for ran in rans[2:-1]:
        assert ran.code == 0, str(ran)
    moment = violations(look(installed), [namespace])
    assert [sentence for sentence in moment if not sentence.startswith("I3") or "carries" in sentence] == []
    last = yoshi.run(*command)
    taken = {address for name, (address, _) in pins(installed, namespace).items() if name in fresh}
    has = {name: address for name, (address, _) in pins(installed, namespace).items() if name in told}
    assert has == {name: address for name, address in told.items() if address not in taken}
    assert last.code == (1 if taken & {*told.values()} else 0), str(last)
    yoshi.done("ips", "gc", "--grace", "0s", "--yes")
    check(installed, namespace, settled=True)
