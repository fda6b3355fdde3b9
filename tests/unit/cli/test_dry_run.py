"""What a dry run says where there is nothing to do: what the real run would, and that it was a dry run."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.network import NETWORKWIZARD
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster

MIGRATABLE = {
    "metadata": {"annotations": {"kubevirt.io/allow-pod-bridge-network-live-migration": "true"}},
    "spec": {"domain": {"devices": {}}},
}
DRY = pytest.mark.parametrize(("how", "suffix"), [("client", " (dry run)"), ("server", " (server dry run)")])


@DRY
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("vm attach web-1 --network blue", "virtualmachine.kubevirt.io/web-1 unchanged"),
        ("vm detach web-2 --network blue", "virtualmachine.kubevirt.io/web-2 unchanged"),
        ("ips gc", "nothing to collect"),
        ("ips rebuild", "unchanged: every address is recorded as it should be"),
        ("ips reserve blue 10.133.0.50", "unchanged"),
        ("ips release blue 10.133.0.60", "unchanged"),
        ("network create blue --cidr 10.133.0.0/24", "networkwizard.plumber.k8s.pf9.io/blue unchanged"),
    ],
)
def test_dry_run_without_changes_prints_unchanged(
    cluster: FakeCluster, line: str, says: str, how: str, suffix: str
) -> None:
    cluster.vm("web-1", template=MIGRATABLE)
    cluster.vm("web-2")
    cluster.attach("web-1")
    cluster.reserve("10.133.0.50")
    said = run(cluster, *line.split(), f"--dry-run={how}")
    assert (said.code, said.out, said.err) == (0, f"{says}{suffix}\n", "")


@DRY
def test_dry_run_names_the_unchanged_vms(cluster: FakeCluster, how: str, suffix: str) -> None:
    for name in ("web-1", "web-2", "web-3"):
        cluster.vm(name)
    cluster.attach("web-1", "web-3")
    said = run(cluster, "vm", "attach", "web-1", "web-2", "web-3", "--network", "blue", f"--dry-run={how}")
    unchanged = [line for line in said.out.splitlines() if "unchanged" in line]
    assert unchanged == [f"virtualmachine.kubevirt.io/{name} unchanged{suffix}" for name in ("web-1", "web-3")]
    assert "virtualmachine.kubevirt.io/web-2 patched" in said.out


def test_dry_run_prints_no_note_twice(cluster: FakeCluster) -> None:
    cluster.running("web-1")
    said = run(cluster, "vm", "attach", "web-1", "--network", "blue", "--dry-run=server").err.splitlines()
    assert len(said) == len(set(said)) > 0


@pytest.mark.parametrize(("flag", "suffix"), [("--yes", ""), ("--dry-run=client", " (dry run)")])
def test_rebuild_with_contradictions_does_not_report_that_all_is_consistent(
    cluster: FakeCluster, flag: str, suffix: str
) -> None:
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.80")
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["spec"].update(gateway="10.133.0.80"))
    said = run(cluster, "ips", "rebuild", flag)
    assert (said.code, said.out) == (0, f"unchanged: no record is to be written, but see the contradictions{suffix}\n")
    assert "it stays recorded for prod/web-1" in said.err
