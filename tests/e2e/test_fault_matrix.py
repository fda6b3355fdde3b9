"""The fault matrix: each fault is found by its rule, and by `trace` at its hop; the printed remedy repairs it.

The table is docs/rules/fault-matrix.md. Rules that no fault of this lab provokes have unit tests only.
"""

from __future__ import annotations

import json

import pytest

import lab
from tests.cluster.harness import ForkServer, wait_for_role
from tests.e2e.fault_scene import FaultScene, open_fault_scene
from tests.e2e.fault_table import PAGE, read_page, row, write_page
from tests.e2e.faults import FAULTS, Fault, begin, finish
from tests.waiting import wait_for

rows: dict[str, str] = {}
"""Case -> its line in the table."""


@pytest.fixture(scope="module")
def scene(frr_k8s_lab: lab.Lab, forks: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> FaultScene:
    return open_fault_scene(frr_k8s_lab, forks, tmp_path_factory.mktemp("programs"))


def test_healthy_lab_has_no_findings(scene: FaultScene) -> None:
    scene.wait_until_healthy()
    assert scene.doctor()["unchecked"] == []
    assert scene.first_break() == ""
    (address,) = scene.records("pub")
    assert scene.hops(f"{address}/32") == [scene.lab.nodes[0].address]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.identifier)
def test_fault_is_found_and_repaired(scene: FaultScene, fault: Fault) -> None:
    started = begin(fault, scene)
    try:
        findings = scene.wait_for_codes(*fault.codes, count=fault.count)
        wait_for(lambda: scene.first_break() == fault.hop, f"trace breaks first at {fault.hop or 'no hop'}", 45)
        commands = [command for finding in findings for command in finding["remedy"]["commands"]]
        for command in commands:
            scene.shell(command, fault.editor)
        if not fault.by_hand:
            scene.wait_until_healthy()
    finally:
        cleaned_up = finish(started)
    if cleaned_up:
        scene.wait_until_healthy()
    rows[fault.identifier] = row(fault, commands)


def test_missing_permission_is_no_success(scene: FaultScene) -> None:
    role = json.loads(scene.kubectl("get", "clusterrole", "yoshi-viewer", "-o", "json"))
    rules = [rule for rule in role["rules"] if "metallb.io" not in rule["apiGroups"]]
    less = {"apiVersion": role["apiVersion"], "kind": "ClusterRole", "metadata": {"name": "less"}, "rules": rules}
    scene.kubectl("create", "-f", "-", input=json.dumps(less))
    unchecked = {}
    for user in ("yoshi-viewer", "less"):
        scene.kubectl("create", "clusterrolebinding", user, f"--clusterrole={user}", f"--user={user}")
        wait_for_role(scene.cluster, user, scene.namespace)
        ran = scene.yoshi.run("doctor", "-A", "-o", "json", f"--as={user}")
        found = json.loads(ran.out)
        assert (ran.code, found["success"], found["findings"]) == (3, False, [])
        unchecked[user] = {one["code"]: one["reason"] for one in found["unchecked"]}
    missing = {code: reason for code, reason in unchecked["less"].items() if code not in unchecked["yoshi-viewer"]}
    assert {"YOSHI-0001", "YOSHI-2103", "YOSHI-2202", "YOSHI-2203"} <= set(missing)
    assert all("metallb.io" in reason for reason in missing.values())


def test_page_of_the_documentation_is_current() -> None:
    missing = [fault.identifier for fault in FAULTS if fault.identifier not in rows]
    assert not missing, f"not run, or failed: {', '.join(missing)}"
    text = write_page(rows[fault.identifier] for fault in FAULTS)
    assert text == read_page(), f"copy build/{PAGE.name} to {PAGE}"
