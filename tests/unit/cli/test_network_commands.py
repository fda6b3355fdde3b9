"""`network create` and `network delete` of several networks, on a small cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.command_runner import run
from tests.unit.cli.test_confirmation import Terminal
from tests.unit.plan.fake_cluster import FakeCluster, wizard


@pytest.fixture
def empty() -> FakeCluster:
    """A cluster without networks."""
    return FakeCluster()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Somebody types yes twice."""
    typed = Terminal("y\ny\n")
    monkeypatch.setattr(sys, "stdin", typed)
    return typed


def create(
    cluster: FakeCluster, folder: Path, *networks: dict[str, Any], dry_run: str = "none"
) -> tuple[int, list[str]]:
    file = folder / "networks.yaml"
    file.write_text(yaml.safe_dump_all(networks))
    said = run(cluster, "network", "create", "-f", str(file), f"--dry-run={dry_run}")
    return said.code, [*said.out.splitlines(), *said.err.splitlines()]


ONE, WITHIN, THREE = (
    wizard(name, cidr) for name, cidr in (("one", "10.51.0.0/24"), ("two", "10.51.0.0/25"), ("three", "10.53.0.0/24"))
)
CREATED = "networkwizard.plumber.k8s.pf9.io/{} created"
WHY = "error: prod/two: network prod/two cannot be created: 10.51.0.0/25 overlaps network prod/one (10.51.0.0/24)"


def test_create_of_several_networks_reports_the_failed_ones(empty: FakeCluster, tmp_path: Path) -> None:
    code, said = create(empty, tmp_path, ONE, WITHIN, THREE)
    assert (code, empty.networks()) == (1, ["one", "three"])
    assert said == [CREATED.format("one"), CREATED.format("three"), WHY, "error: 1 of 3 networks failed"]


@pytest.mark.parametrize("dry_run", ["client", "server"])
def test_dry_run_refuses_overlapping_networks_of_one_file(empty: FakeCluster, tmp_path: Path, dry_run: str) -> None:
    code, said = create(empty, tmp_path, ONE, WITHIN, THREE, dry_run=dry_run)
    assert (code, empty.networks()) == (1, [])
    assert said[-2:] == [WHY, "error: 1 of 3 networks failed"]
    assert [line.split(" (")[0] for line in said if "networkwizard" in line] == [
        CREATED.format("one"),
        CREATED.format("three"),
    ]


def test_dry_run_refuses_two_networks_of_one_name(empty: FakeCluster, tmp_path: Path) -> None:
    code, said = create(empty, tmp_path, ONE, ONE, {**THREE, "metadata": ONE["metadata"]}, dry_run="client")
    assert code == 1
    assert "network prod/one exists already, with another cidr" in said[-2]
    assert [line.split()[1] for line in said if line.startswith("networkwizard")] == ["created", "unchanged"]


def test_create_of_one_refused_network_is_an_error(empty: FakeCluster, tmp_path: Path) -> None:
    empty.network("one", "10.51.0.0/24")
    code, said = create(empty, tmp_path, WITHIN)
    assert (code, said[0]) == (1, WHY.replace("prod/two: ", ""))
    assert said[-1].startswith("Choose another CIDR")


def test_delete_of_several_networks_reports_the_failed_ones(empty: FakeCluster) -> None:
    for name, cidr in (("a", "10.51.0.0/24"), ("b", "10.52.0.0/24"), ("c", "10.53.0.0/24")):
        empty.network(name, cidr)
    empty.reserve("10.52.0.9", network="b")
    said = run(empty, "network", "delete", "a", "nope", "b", "prod/c", "a")
    assert (said.code, empty.networks()) == (1, ["b"])
    assert said.out.splitlines() == [f"networkwizard.plumber.k8s.pf9.io/{name} deleted" for name in ("a", "c")]
    first, second, last = said.err.splitlines()
    assert first.startswith('error: prod/nope: network "nope" not found')
    assert second.startswith("error: prod/b: network prod/b is in use: 10.52.0.9 reserved")
    assert last == "error: 2 of 4 networks failed"


@pytest.mark.usefixtures("terminal")
def test_forced_deletion_names_the_affected_vms_before_and_after(
    empty: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    empty.network("blue")
    for name in ("web-1", "web-2"):
        empty.vm(name)
    empty.attach("web-1", "web-2")
    empty.reserve("10.133.0.9", note="printer")
    said = run(empty, "network", "delete", "blue", "--force")
    question = "Delete network prod/blue, detach 2 VMs (prod/web-1, prod/web-2) from it and release 1 reservation?"
    assert question in capsys.readouterr().err
    assert said.code == 0
    assert sorted(said.out.splitlines()) == [
        "10.133.0.9 released (was reserved (printer))",
        "networkwizard.plumber.k8s.pf9.io/blue deleted",
        "virtualmachine.kubevirt.io/web-1 detached from blue (was 10.133.0.1)",
        "virtualmachine.kubevirt.io/web-2 detached from blue (was 10.133.0.2)",
    ]


@pytest.mark.usefixtures("terminal")
def test_forced_deletion_counts_many_vms_and_yes_skips_the_prompt(
    empty: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    empty.network("blue")
    names = [f"web-{number}" for number in range(7)]
    for name in names:
        empty.vm(name)
    empty.attach(*names)
    empty.network("red", "10.52.0.0/24")
    said = run(empty, "network", "delete", "blue", "red", "--force")
    asked = capsys.readouterr().err
    assert "detach 7 VMs (prod/web-0, prod/web-1, prod/web-2, prod/web-3, prod/web-4, and 2 more) from it?" in asked
    assert "No address of network prod/red is in use. Delete it?" in asked
    assert said.out.count("detached from blue") == 7
    empty.network("blue")
    assert run(empty, "network", "delete", "blue", "--force", "--yes").code == 0
    assert capsys.readouterr().err == ""
