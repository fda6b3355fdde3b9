"""Every command with a result accepts every format of -o, and prints only objects of the kinds that it declares.

The command runner validates the objects. `vm attach`, `vm detach` and `ips move` are tested in test_attachments.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubectl_yoshi.cli.installation import CLUSTER_ROLE, load_manifests
from kubectl_yoshi.cli.result_objects import REFERENCE
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import CRD, POLICY, POLICY_BINDING
from kubectl_yoshi.output.format_option import FORMATS
from tests.output_schema import API_VERSION, load_schema, printed_objects
from tests.unit.cli.command_runner import run
from tests.unit.diagnosis.public_cluster import set_strategy
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster
from tests.unit.plan.test_public import FIRST, public
from tools.documents.tree import pages

WITHOUT_RESULT = {
    "completion install",
    "completion bash",
    "completion zsh",
    "completion fish",
    "diff",
    "help",
    "options",
    "report",
}
LINES = {
    "install": "install --dry-run=client",
    "uninstall": "uninstall --dry-run=client",
    "network create": "network create red --cidr 10.134.0.0/24",
    "network update": "network update blue --cooldown 10m",
    "network list": "network list",
    "network describe": "network describe blue",
    "network delete": "network delete blue --force --yes",
    "vm attach": "vm attach idle --network blue",
    "vm detach": "vm detach web-1 --network blue",
    "vm list": "vm list",
    "ips list": "ips list blue",
    "ips show": "ips show 10.133.0.50",
    "ips map": "ips map blue",
    "ips reserve": "ips reserve blue 10.133.0.60 --note printer",
    "ips release": "ips release blue 10.133.0.50",
    "ips move": f"ips move {FIRST} --to b",
    "ips check": "ips check",
    "ips gc": "ips gc --grace 0s --yes",
    "ips import": "ips import -f ports.csv --network blue",
    "ips rebuild": "ips rebuild --yes",
    "doctor": "doctor --fail-on never",
    "status": "status",
    "trace": "trace vm/web-1",
    "sync": "sync",
    "policy status": "policy status",
    "policy explain": "policy explain 10.133.0.50",
    "policy print": "policy print",
    "version": "version --client",
}
"""A command line for each command with a result."""
SINGLE = {
    "network create", "network update", "network describe", "vm attach", "vm detach",
    "ips show", "ips map", "ips reserve", "ips release", "ips move", "doctor", "trace", "status",
    "policy explain", "version",
}  # fmt: skip
"""Commands whose line names one object."""


def new_cluster(command: str) -> FakeCluster:
    """Return a cluster in which the line of a command has a result."""
    cluster = public() if command == "ips move" else FakeCluster()
    if command == "ips move":
        cluster.attach("a", network="prod/pub", ip=FIRST)
    if command in ("install", "uninstall", "policy status"):
        cluster.api.served = served((*SERVED, CRD, CLUSTER_ROLE, POLICY, POLICY_BINDING))
    if command == "uninstall":
        for obj in load_manifests():
            cluster.api.put(CRD if obj["kind"] == CRD.kind else CLUSTER_ROLE, obj)
        return cluster
    cluster.network()
    for name in ("web-1", "gone", "idle"):
        cluster.vm(name)
    cluster.attach("web-1", "gone")
    cluster.reserve("10.133.0.50", note="printer")
    cluster.delete_vm("gone")
    if command == "trace":
        set_strategy(cluster, "Always")
    if command in ("ips check", "ips rebuild"):
        cluster.vm("restored", pin="10.133.0.80")
    return cluster


def test_every_command_with_a_result_has_a_line_here() -> None:
    commands = {" ".join(page.words[1:]): page for page in pages() if page.words[1:] and not page.below}
    assert {name for name, page in commands.items() if page.kinds is not None} == {*LINES}
    assert commands.keys() - LINES.keys() == WITHOUT_RESULT


@pytest.mark.parametrize("command", LINES)
def test_command_accepts_every_format(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ports.csv").write_text("name,address,mac,namespace\nidle,10.133.0.90\n", encoding="utf-8")
    Path("template").write_text("{.kind}", encoding="utf-8")
    Path("columns").write_text("KIND\nkind\n", encoding="utf-8")
    values = {
        "jsonpath": "={.kind}",
        "jsonpath-file": "=template",
        "custom-columns": "=KIND:kind",
        "custom-columns-file": "=columns",
    }
    said = {}
    for name in FORMATS:
        result = run(new_cluster(command), *shlex.split(LINES[command]), "-o", name + values.get(name, ""))
        assert result.code == (1 if command == "ips check" else 0), f"-o {name}: {result.err}"
        assert result.out, f"-o {name}"
        said[name] = result.out
    found = json.loads(said["json"])
    listed: list[dict[str, Any]] = found["items"] if found["kind"] == "List" else [found]
    assert (found["kind"] != "List") == (command in SINGLE)
    assert listed
    assert said["jsonpath"] == said["jsonpath-file"] == found["kind"]
    assert yaml.safe_load(said["yaml"])["kind"] == found["kind"]
    assert len(said["name"].splitlines()) == len(listed)
    assert said["custom-columns"] == said["custom-columns-file"]
    assert said["custom-columns"].split() == ["KIND", *(obj["kind"] for obj in listed)]
    check_declared(command, listed)


def check_declared(command: str, listed: list[dict[str, Any]]) -> None:
    """Check that the documentation of a command names the kinds of these objects."""
    [page] = [page for page in pages() if page.words[1:] == tuple(command.split())]
    declared = page.kinds or ()
    own = {obj["kind"] for obj in listed if REFERENCE not in declared or obj["apiVersion"] == API_VERSION}
    assert own <= {*declared}


def test_schema_has_every_kind_of_the_program() -> None:
    declared = {kind for page in pages() for kind in page.kinds or ()}
    of_the_api_server = {REFERENCE, "NetworkWizard", CRD.kind, CLUSTER_ROLE.kind, POLICY.kind, POLICY_BINDING.kind}
    assert {one["$ref"].rpartition("/")[2] for one in load_schema()["oneOf"]} == declared - of_the_api_server


def objects(cluster: FakeCluster, line: str, code: int = 0) -> list[dict[str, Any]]:
    """Return the objects that a command line prints."""
    words = [*shlex.split(line), "-o", "json"]
    said = run(cluster, *words)
    assert said.code == code, said.err
    return printed_objects(words, said.out)


def test_each_address_to_release_has_its_result() -> None:
    found = objects(new_cluster(""), "ips release blue 10.133.0.50 10.133.0.1 10.133.0.77", code=1)
    first, kept, free = (one["status"] for one in found)
    assert first == {"state": "Released", "previousHolder": "reserved (printer)", "changed": True}
    assert "10.133.0.1 stays recorded for prod/web-1" in kept.pop("error")
    assert kept == {"state": "Unknown", "holder": "prod/web-1", "changed": False}
    assert free == {"state": "Released", "previousHolder": "", "changed": False}


def test_reservation_that_exists_is_unchanged() -> None:
    cluster = new_cluster("")
    found = objects(cluster, "ips reserve blue 10.133.0.50 10.133.0.51 --note printer")
    assert [(one["spec"]["address"], one["status"]["changed"]) for one in found] == [
        ("10.133.0.50", False),
        ("10.133.0.51", True),
    ]
    assert {one["status"]["holder"] for one in found} == {"reserved (printer)"}
    held = cluster.holders()
    assert len(objects(cluster, "ips reserve blue --count 3 --dry-run=client")) == 3
    assert cluster.holders() == held


def test_gc_prints_what_it_would_release_and_what_it_released() -> None:
    cluster = new_cluster("")
    for flag in ("--dry-run=client", "--yes"):
        (found,) = objects(cluster, f"ips gc --grace 0s {flag}")
        assert found["spec"] == {"network": "blue", "address": "10.133.0.2"}
        assert found["status"]["previousHolder"] == "prod/gone"
    assert objects(cluster, "ips gc --grace 0s --yes") == []


def test_network_delete_prints_references_and_what_it_released() -> None:
    cluster = new_cluster("")
    assert objects(cluster, "network delete blue", code=1) == []
    *released, deleted = objects(cluster, "network delete blue --force --yes")
    assert deleted == {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "NetworkWizard",
        "metadata": {"name": "blue", "namespace": "prod"},
    }
    assert {one["metadata"]["name"] for one in released} == {"web-1", "gone", "10.133.0.50"}


def test_rebuild_prints_the_records_that_it_writes() -> None:
    cluster = new_cluster("ips rebuild")
    for flag in ("--dry-run=client", "--yes"):
        (found,) = objects(cluster, f"ips rebuild {flag}")
        assert found["spec"] == {"network": "blue", "address": "10.133.0.80"}
        assert found["status"].pop("evidence") == "it is set on the VM"
        assert found["status"] == {"state": "Bound", "holder": "prod/restored", "changed": True}


def test_sync_prints_an_attachment_for_each_request() -> None:
    cluster = new_cluster("")
    requested = {"plumber.k8s.pf9.io/networkName": "blue"}
    cluster.api.change(cluster.now("idle").ref, lambda obj: obj["metadata"].update(annotations=requested))
    found = [one for one in objects(cluster, "sync") if one["kind"] == "Attachment"]
    assert {one["spec"]["vm"]: one["status"]["changed"] for one in found} == {"idle": True, "web-1": False}
    said = run(cluster, "sync", "--watch", "-o", "json")
    assert (said.code, said.out) == (2, "")


def test_other_objects_of_the_program_fit_the_schema() -> None:
    cluster = new_cluster("ips check")
    assert {one["kind"] for one in objects(cluster, "ips list --free")} == {"FreeAddresses"}
    objects(cluster, "ips release blue 10.133.0.50")
    for address in ("10.133.0.50", "10.133.0.255"):
        (found,) = objects(cluster, f"ips show {address}")
        assert found["status"]["holder"] == ""
    cluster.api.drop(NETWORKWIZARD.ref("blue", "prod"))
    (finding,) = objects(cluster, "ips check", code=1)
    assert (finding["metadata"]["name"], finding["kind"]) == ("web-1", "Finding")


def test_import_prints_refusals_as_errors(tmp_path: Path) -> None:
    file = tmp_path / "ports.csv"
    file.write_text("name,address,mac,namespace\nidle,10.133.0.90\nweb-1,10.133.0.1\nnobody,10.133.0.91\n")
    listed = objects(new_cluster(""), f"ips import -f {file} --network blue", code=1)
    found = {one["spec"]["vm"]: one["status"] for one in listed}
    assert {vm: status["changed"] for vm, status in found.items()} == {"idle": True, "web-1": False, "nobody": False}
    assert [vm for vm, status in found.items() if "error" in status] == ["nobody"]


def test_gc_prints_whether_an_address_is_free_or_reserved_again() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.reserve("10.133.0.7", reserved_for="vm/prod/web-1")
    for name in ("web-1", "web-2"):
        cluster.vm(name)
        cluster.attach(name)
        cluster.delete_vm(name)
    found = {one["spec"]["address"]: one["status"] for one in objects(cluster, "ips gc --grace 0s --yes")}
    assert {address: (status["state"], status.get("holder", "")) for address, status in found.items()} == {
        "10.133.0.1": ("Released", ""),
        "10.133.0.7": ("Reserved", "reserved for VM prod/web-1"),
    }
