"""`doctor`: exit codes, VMs in files, and --preflight.

| outcome                                            | exit code                              |
|----------------------------------------------------|----------------------------------------|
| no finding as serious as --fail-on                 | 0                                      |
| such a finding, or an address that would be lost   | 1                                      |
| usage error                                        | 2                                      |
| none of these, and something could not be checked  | 3                                      |
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from kubectl_yoshi.backends.calico.annotations import IP_ADDRS_ANNOTATION
from kubectl_yoshi.model.objects import NODE, POLICY_BINDING, Json
from kubectl_yoshi.model.vm import VM, VMI
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.diagnosis.clusters import healthy, template_of
from tests.unit.plan.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """A healthy cluster with prod/web-1 on network prod/blue."""
    cluster = healthy()
    cluster.network()
    cluster.vm(template=template_of({"name": "default", "masquerade": {}}))
    cluster.attach()
    return cluster


def doctor(cluster: FakeCluster, line: str = "") -> CliResult:
    return run(cluster, "doctor", *line.split())


def write(path: Path, *documents: Json) -> str:
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return str(path)


def manifest(name: str, pin: str = "", **metadata: object) -> Json:
    annotations = {IP_ADDRS_ANNOTATION: json.dumps([pin])} if pin else {}
    spec = {"runStrategy": "Halted", "template": template_of({"name": "default", "masquerade": {}}, annotations)}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def test_healthy_cluster_exits_0(cluster: FakeCluster) -> None:
    for line in ("", "-A", "vm/web-1", "web-1", "--network blue", "-o short"):
        assert (doctor(cluster, line).code, doctor(cluster, line).out) == (0, "no findings\n"), line


@pytest.mark.parametrize(
    ("line", "code"), [("", 0), ("--fail-on warning", 1), ("--fail-on never", 0), ("vm/web-1 --fail-on warning", 0)]
)
def test_exit_code_depends_on_the_severity(cluster: FakeCluster, line: str, code: int) -> None:
    cluster.api.change(
        POLICY_BINDING.ref("yoshi-allocations"), lambda obj: obj["spec"].update(validationActions=["Audit"])
    )
    assert doctor(cluster, line).code == code


def test_rules_that_cannot_check_exit_3(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", POLICY_BINDING)
    result = doctor(cluster)
    assert result.code == 3
    assert "? not checked, may not list validatingadmissionpolicybindings" in result.out
    assert doctor(cluster, "--fail-on never").code == 0
    assert doctor(cluster, "vm/web-1").code == 0  # these rules are not about VMs


def test_vm_that_does_not_exist_is_an_error(cluster: FakeCluster) -> None:
    result = doctor(cluster, "web-1 nope")
    assert (result.code, result.out) == (3, "")
    assert 'VM "nope" not found in namespace "prod"' in result.err


def test_selector_limits_findings_to_its_vms(cluster: FakeCluster) -> None:
    cluster.vm("copy", pin="10.133.0.9")
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["metadata"].update(labels={"app": "web"}))
    assert doctor(cluster).code == 1
    assert doctor(cluster, "-l app=web").code == 0
    assert doctor(cluster, "copy").code == 1


def test_vm_in_a_file_is_checked_as_if_it_had_been_applied(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.vm("other", pin="10.133.0.77")  # reported, but not for the file
    file = write(tmp_path / "vm.yaml", manifest("new", "10.133.0.1"), manifest("newer", namespace="dev"))
    before = cluster.api.every(VM)
    result = doctor(cluster, f"-f {file}")
    assert result.code == 1
    assert "recorded for prod/web-1, but virtualmachine/new in namespace prod uses it too" in result.out
    assert "10.133.0.77" not in result.out
    assert run(cluster, "doctor", "-f", file, "-o", "json").code == 1
    assert cluster.api.every(VM) == before


def test_file_of_an_existing_vm_is_merged_into_it(cluster: FakeCluster, tmp_path: Path) -> None:
    assert doctor(cluster, f"-f {write(tmp_path / 'same.yaml', manifest('web-1'))}").code == 0
    result = doctor(cluster, f"-f {write(tmp_path / 'other.yaml', manifest('web-1', '10.133.0.9'))}")
    assert result.code == 1
    assert "10.133.0.9 on prod/blue: virtualmachine/web-1 in namespace prod uses it" in result.out


def test_vm_is_read_from_stdin(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(manifest("new", "10.133.0.1"))))
    assert doctor(cluster, "-f -").code == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "ConfigMap"}, "ConfigMap 'new' in the file is not a VirtualMachine"),
        ({"spec": []}, "spec is not an object"),
        (
            {"spec": {"template": {"spec": {"networks": {"a": 1}}}}},
            "spec.template.spec.networks is not a list of objects",
        ),
        ({"spec": {"template": {"spec": {"domain": {"devices": {"interfaces": ["a"]}}}}}}, "interfaces is not a list"),
        ({"metadata": {"name": "new", "annotations": {"a": 1}}}, "metadata.annotations is not a map of strings"),
    ],
)
def test_invalid_file_is_a_usage_error(cluster: FakeCluster, tmp_path: Path, change: Json, message: str) -> None:
    result = doctor(cluster, f"-f {write(tmp_path / 'vm.yaml', manifest('new') | change)}")
    assert result.code == 2
    assert message in result.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("web-1 -l app=web", "name the VMs, or give -l SELECTOR, or -f FILE"),
        ("--preflight restart", "name the VMs, or give -l SELECTOR, or -f FILE"),
        ("--preflight restart web-1 --network blue", "--preflight and --network exclude each other"),
        ("--preflight reboot web-1", "'reboot' is not one of"),
        ("node/node1", "node/NAME is for --preflight"),
        ("--explain YOSHI-9999", 'there is no rule "YOSHI-9999"'),
    ],
)
def test_contradictory_flags_are_usage_errors(cluster: FakeCluster, line: str, message: str) -> None:
    result = doctor(cluster, line)
    assert (result.code, message in result.err) == (2, True), result.err


def test_preflight_prints_a_row_for_each_address_and_exits_by_the_worst(cluster: FakeCluster) -> None:
    kept = doctor(cluster, "--preflight restart web-1")
    assert kept.code == 0
    assert kept.out.splitlines()[0].split("  ")[0] == "VM"
    assert kept.out.splitlines()[1].split()[:5] == [
        "prod/web-1",
        "prod/blue",
        "10.133.0.1",
        "masquerade",
        cluster.mac(),
    ]
    assert doctor(cluster, "--preflight delete web-1").code == 1
    cluster.running("free")
    assert doctor(cluster, "--preflight restart web-1 free").code == 3
    assert doctor(cluster, "--preflight delete web-1 free").code == 1


def test_preflight_objects_have_words(cluster: FakeCluster) -> None:
    found = json.loads(doctor(cluster, "--preflight delete vm/web-1 -o json").out)
    (row,) = found["items"]
    assert row["spec"] == {"action": "delete", "vm": "web-1", "network": "prod/blue", "address": "10.133.0.1"}
    assert row["status"]["keepsAddress"] == "No"


def test_preflight_of_a_node_lists_the_vms_that_run_there(cluster: FakeCluster) -> None:
    cluster.running("web-2")
    cluster.attach("web-2", restart=True)
    cluster.time_passes()
    cluster.api.change(VMI.ref("web-2", "prod"), lambda obj: obj["status"].update(nodeName="node1"))
    result = doctor(cluster, "--preflight restart node/node1")
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == ["prod/web-2"]
    cluster.api.put(NODE, {"metadata": {"name": "empty"}})
    assert (doctor(cluster, "--preflight restart node/empty").err) == "No VMs found.\n"
    missing = doctor(cluster, "--preflight restart node/nope")
    assert (missing.code, 'node "nope" not found' in missing.err) == (3, True)


def test_preflight_without_permission_exits_3(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", VM)
    result = doctor(cluster, "--preflight restart web-1")
    assert (result.code, "may not list virtualmachines" in result.err) == (3, True)
