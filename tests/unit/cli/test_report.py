"""`report`: what the archive has, and what it never has."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path

import pytest
import yaml

from kubectl_yoshi.backends.ovs.cloud_init import SECRET
from kubectl_yoshi.diagnosis.report import without_secrets
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import EVENT, NODE
from kubectl_yoshi.model.vm import VM
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_api import served
from tests.unit.plan.fake_cluster import SERVED, FakeCluster

SECRET_TEXT = "correct horse"


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with network shop/blue, a VM that runs on it, one that does not exist any more, events and a Secret."""
    cluster = FakeCluster()
    cluster.api.served = served((*SERVED, EVENT))
    cluster.network("blue", namespace="shop")
    cluster.running("web-1", "shop")
    cluster.vm("db-1", "shop")
    cluster.attach("shop/web-1", "shop/db-1", network="shop/blue")
    cluster.delete_vm("db-1", "shop")
    cluster.time_passes()
    for namespace, number in (("shop", 1), ("elsewhere", 2)):
        involved = {"kind": "VirtualMachine", "name": "web-1", "namespace": namespace}
        event = {"metadata": {"name": f"web-1.{number}", "namespace": namespace}, "involvedObject": involved}
        cluster.api.put(EVENT, {**event, "message": "VM web-1 started on node-a"})
    cluster.api.put(SECRET, {"metadata": {"name": "bgp", "namespace": "shop"}, "stringData": {"password": SECRET_TEXT}})
    cluster.api.change(
        NETWORKWIZARD.ref("blue", "shop"), lambda obj: obj["metadata"].update(managedFields=[{"manager": "kubectl"}])
    )
    return cluster


def files_of(path: Path) -> dict[str, str]:
    """Return the files of an archive, in its order."""
    with tarfile.open(path) as tar:
        return {entry.name: tar.extractfile(entry).read().decode() for entry in tar}  # type: ignore[union-attr]


def written(cluster: FakeCluster, folder: Path, *words: str) -> dict[str, str]:
    """Return the files of the report of namespace shop."""
    path = folder / "report.tar.gz"
    said = run(cluster, "report", "-o", str(path), *words, namespace="shop")
    assert said.code == 0, said.err
    return files_of(path)


def test_archive_has_status_findings_versions_objects_and_events(cluster: FakeCluster, tmp_path: Path) -> None:
    files = written(cluster, tmp_path)
    assert [*files] == sorted(files)
    assert json.loads(files["report/status.json"])["kind"] == "Status"
    assert json.loads(files["report/findings.json"])["findings"][0]["code"] == "YOSHI-0001"
    assert "clientVersion" in json.loads(files["report/versions.json"])
    (network,) = yaml.safe_load(files[f"report/objects/{NETWORKWIZARD.full_name}.yaml"])["items"]
    assert network["metadata"]["name"] == "blue"
    events = yaml.safe_load(files["report/objects/events.yaml"])["items"]
    assert [event["metadata"]["namespace"] for event in events] == ["shop"]
    assert files["report/unreadable.txt"] == ""


def test_same_cluster_gives_the_same_archive(cluster: FakeCluster, tmp_path: Path) -> None:
    contents = []
    for name in ("a", "b"):
        run(cluster, "report", "-A", "-o", str(tmp_path / name))
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def test_archive_has_no_secrets(cluster: FakeCluster, tmp_path: Path) -> None:
    text = "".join(f"{path}\n{content}" for path, content in written(cluster, tmp_path, "-A").items())
    assert SECRET_TEXT not in text
    assert "kind: Secret" not in text
    assert "managedFields" not in text


def test_secret_texts_are_removed_and_references_stay() -> None:
    volume = {"cloudInitNoCloud": {"userData": SECRET_TEXT, "networkDataBase64": "eA==", "secretRef": {"name": "init"}}}
    last = {"kubectl.kubernetes.io/last-applied-configuration": SECRET_TEXT, "kept": "yes"}
    obj = {
        "metadata": {"annotations": last, "managedFields": []},
        "spec": {
            "peers": [{"password": SECRET_TEXT, "passwordSecret": "bgp"}],
            "template": {"metadata": {"annotations": last}, "spec": {"volumes": [volume]}},
        },
    }
    kept = {"annotations": {"kept": "yes"}}
    removed = {"userData": "<removed>", "networkDataBase64": "<removed>", "secretRef": {"name": "init"}}
    assert without_secrets(obj) == {
        "metadata": kept,
        "spec": {
            "peers": [{"password": "<removed>", "passwordSecret": "bgp"}],
            "template": {"metadata": kept, "spec": {"volumes": [{"cloudInitNoCloud": removed}]}},
        },
    }


def test_redacted_archive_has_none_of_the_names(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.api.put(NODE, {"metadata": {"name": "node-a"}})
    plain = written(cluster, tmp_path)
    redacted = written(cluster, tmp_path, "--redact", "--force")
    assert [*plain] == [*redacted]
    text = "".join(f"{path}\n{content}" for path, content in redacted.items())
    for name in ("shop", "blue", "web-1", "db-1"):
        assert not re.search(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", text), name
    finding = json.loads(redacted["report/findings.json"])["findings"][0]
    vms = yaml.safe_load(redacted["report/objects/virtualmachines.kubevirt.io.yaml"])["items"]
    assert finding["spec"]["network"] == "NAMESPACE-1/NETWORK-1"
    assert [vm["metadata"]["name"] for vm in vms] == ["VM-2"]
    assert finding["spec"]["vm"] == "NAMESPACE-1/VM-1"


def test_what_cannot_be_read_is_listed(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.api.refuse("list", VM)
    cluster.api.refuse("list", EVENT)
    files = written(cluster, tmp_path)
    lines = files["report/unreadable.txt"].splitlines()
    assert "may not list events in namespace shop" in lines
    assert "YOSHI-0008 not checked: may not list virtualmachines.kubevirt.io in namespace shop" in lines


def test_file_is_private_and_not_replaced_without_force(cluster: FakeCluster, tmp_path: Path) -> None:
    path = tmp_path / "report.tar.gz"
    words = ("report", "-o", str(path))
    assert run(cluster, *words).code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("mine")
    said = run(cluster, *words)
    assert (said.code, path.read_text()) == (1, "mine")
    assert said.err == f"error: {path} exists\nName another file, or replace it with --force.\n"
    assert run(cluster, *words, "--force").code == 0
    assert path.read_bytes() != b"mine"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_folder_that_does_not_exist_is_an_error(cluster: FakeCluster, tmp_path: Path) -> None:
    said = run(cluster, "report", "-o", str(tmp_path / "missing" / "report.tar.gz"))
    assert said.code == 1
    assert "cannot be written: No such file or directory" in said.err


def test_archive_is_written_to_a_pipe(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()

    class Pipe(io.StringIO):
        buffer = raw

    monkeypatch.setattr("tests.unit.cli.command_runner.io.StringIO", Pipe)
    assert run(cluster, "report", "-o", "-").code == 0
    with tarfile.open(fileobj=io.BytesIO(raw.getvalue())) as tar:
        assert "report/status.json" in tar.getnames()
