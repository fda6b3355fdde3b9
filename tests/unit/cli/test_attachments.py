"""`vm attach`, `vm detach` and `ips move` with -o: an Attachment for each VM and network, and no more."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubectl_yoshi.backends.public.services import SERVICE
from kubectl_yoshi.model.network import NETWORKWIZARD
from tests.output_schema import API_VERSION
from tests.unit.cli.command_runner import CliResult, run
from tests.unit.plan.fake_cluster import FakeCluster
from tests.unit.plan.test_public import FIRST, public

ATTACH = "vm attach {} --network blue -o json"
DETACH = "vm detach {} --network blue -o json"


def items(said: CliResult) -> list[tuple[str, str, dict[str, Any]]]:
    """VM, network and status of each Attachment of a List."""
    found = json.loads(said.out)
    assert found["kind"] == "List"
    assert {(one["apiVersion"], one["kind"]) for one in found["items"]} == {(API_VERSION, "Attachment")}
    return [(one["spec"]["vm"], one["spec"]["network"], one["status"]) for one in found["items"]]


def test_attach_of_one_vm_prints_its_attachment_also_when_nothing_changes(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    found = json.loads(run(cluster, *ATTACH.format("web-1").split()).out)
    assert found["spec"] == {"vm": "web-1", "network": "prod/blue"}
    bound = {"address": "10.133.0.1", "mac": cluster.mac("web-1"), "state": "Bound"}
    assert found["status"] == {**bound, "changed": True}
    assert json.loads(run(cluster, *ATTACH.format("web-1").split()).out)["status"] == {**bound, "changed": False}


def test_address_of_an_attached_vm_is_printed_by_jsonpath(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    words = ("vm", "attach", "web-1", "--network", "blue", "-o")
    assert run(cluster, *words, "jsonpath={.status.address}").out == "10.133.0.1"
    assert run(cluster, *words, "name").out == "attachment.cli.plumber.k8s.pf9.io/web-1\n"
    columns = "custom-columns=VM:.spec.vm,IP:.status.address,ERROR:.status.error"
    assert [line.split() for line in run(cluster, *words, columns).out.splitlines()] == [
        ["VM", "IP", "ERROR"],
        ["web-1", "10.133.0.1", "<none>"],
    ]


def test_running_vm_needs_a_restart() -> None:
    cluster = FakeCluster(keeps=False)
    cluster.network()
    cluster.running("web-1")
    said = run(cluster, *ATTACH.format("web-1").split())
    assert json.loads(said.out)["status"]["state"] == "RestartNeeded"
    assert "runs without 10.133.0.1" in said.err


def test_failed_vm_has_an_attachment_with_its_error(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    said = run(cluster, *ATTACH.format("web-1 gone").split())
    assert said.code == 1
    (_, _, done), (vm, network, failed) = items(said)
    assert (done["address"], vm, network) == ("10.133.0.1", "gone", "prod/blue")
    assert 'VM "gone" not found' in failed.pop("error")
    assert failed == {"address": "", "mac": "", "state": "Unknown", "changed": False}
    assert said.err.endswith("error: 1 of 2 VMs failed\n")


@pytest.mark.parametrize("network", ["blue", "missing"])
def test_only_vm_that_fails_has_an_attachment(cluster: FakeCluster, network: str) -> None:
    said = run(cluster, "vm", "attach", "gone", "--network", network, "-o", "json")
    assert (said.code, said.err.count("error: ")) == (1, 1)
    found = json.loads(said.out)
    assert found["spec"] == {"vm": "gone", "network": f"prod/{network}"}
    assert found["status"]["error"] in said.err


def test_error_of_the_template_does_not_hide_that_of_the_vm(cluster: FakeCluster) -> None:
    said = run(cluster, "vm", "attach", "gone", "--network", "blue", "-o", "jsonpath={.status[0]}")
    assert said.code == 1
    assert "error executing jsonpath" in said.err
    assert 'VM "gone" not found' in said.err


def test_dry_run_prints_the_attachments_that_would_result(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.vm("web-2")
    cluster.attach("web-1")
    for how in ("client", "server"):
        said = run(cluster, *ATTACH.format("web-1 web-2").split(), f"--dry-run={how}")
        assert said.code == 0
        assert [(vm, status["address"], status["changed"]) for vm, _, status in items(said)] == [
            ("web-1", "10.133.0.1", False),
            ("web-2", "10.133.0.2", True),
        ]
    said = run(cluster, *DETACH.format("web-1").split(), "--dry-run=client")
    assert json.loads(said.out)["status"]["state"] == "Released"
    assert cluster.holders() == {"10.133.0.1": "prod/web-1"}


def test_detach_prints_the_released_address(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.attach("web-1")
    mac = cluster.mac("web-1")
    released = {"address": "10.133.0.1", "mac": mac, "state": "Released", "changed": True}
    assert json.loads(run(cluster, *DETACH.format("web-1").split()).out)["status"] == released
    again = json.loads(run(cluster, *DETACH.format("web-1").split()).out)["status"]
    assert again == {"address": "", "mac": "", "state": "Released", "changed": False}


@pytest.mark.parametrize(("flags", "state"), [((), "RestartNeeded"), (("--restart",), "Released")])
def test_address_of_a_running_vm_is_released_by_a_restart(
    cluster: FakeCluster, flags: tuple[str, ...], state: str
) -> None:
    cluster.running("web-1")
    cluster.attach("web-1", restart=True)
    cluster.time_passes()
    status = json.loads(run(cluster, *DETACH.format("web-1").split(), *flags).out)["status"]
    assert (status["address"], status["state"], status["changed"]) == ("10.133.0.1", state, True)


def test_selected_vms_are_always_a_list(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.api.change(cluster.now("web-1").ref, lambda obj: obj["metadata"].update(labels={"app": "web"}))
    said = run(cluster, "vm", "attach", "-l", "app=web", "--network", "blue", "-o", "json")
    assert [vm for vm, _, _ in items(said)] == ["web-1"]


def test_two_networks_are_one_list_also_if_the_second_fails() -> None:
    cluster = public(announce="metallb-l2")
    cluster.network()
    both = ("--network", "blue", "--public-network", "pub", "-o", "json")
    said = run(cluster, "vm", "attach", "a", *both)
    assert [(vm, network, status["address"]) for vm, network, status in items(said)] == [
        ("a", "prod/blue", *cluster.holders()),
        ("a", "prod/pub", *cluster.holders("pub")),
    ]
    cluster.api.refuse("create", SERVICE)
    said = run(cluster, "vm", "attach", "b", *both)
    assert said.code == 1
    assert [(network, "error" in status) for _, network, status in items(said)] == [
        ("prod/blue", True),
        ("prod/pub", True),
    ]
    said = run(cluster, "vm", "attach", "b", "--network", "blue", "--public-network", "missing", "-o", "json")
    assert [network for _, network, _ in items(said)] == ["prod/blue", "prod/missing"]


def test_move_prints_the_attachment_of_the_vm_that_gets_the_address() -> None:
    cluster = public()
    cluster.attach("a", network="prod/pub", ip=FIRST)
    words = ("ips", "move", FIRST, "--to", "b", "-o", "json")
    for flags, changed in ((("--dry-run=client",), True), ((), True), ((), False)):
        found = json.loads(run(cluster, *words, *flags).out)
        assert found["spec"] == {"vm": "b", "network": "prod/pub"}
        assert found["status"] == {"address": FIRST, "mac": "", "state": "Bound", "changed": changed}
    cluster.api.refuse("patch", NETWORKWIZARD)
    said = run(cluster, "ips", "move", FIRST, "--to", "a", "--network", "pub", "-o", "json")
    assert said.code == 1
    assert json.loads(said.out)["status"]["error"]
