"""Several refusals: each is printed, and what was done for the others."""

from __future__ import annotations

import pytest

from kubectl_yoshi.model.objects import Json
from kubectl_yoshi.model.vm import VM
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster


@pytest.mark.parametrize("how", [["--dry-run=client"], ["--dry-run=server"]])
def test_dry_run_prints_every_refused_vm(cluster: FakeCluster, how: list[str]) -> None:
    cluster.network("red", "10.20.0.0/24")
    for name in ("web-1", "web-2", "web-3"):
        cluster.vm(name)
    cluster.attach("web-1", "web-2", network="prod/red")
    said = run(cluster, "vm", "attach", "web-1", "web-2", "web-3", "--network", "blue", *how)
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert [error.split(" already")[0] for error in errors] == ["error: VM prod/web-1", "error: VM prod/web-2"]
    assert "pass --replace" in said.err.splitlines()[-1]
    assert "virtualmachine.kubevirt.io/web-3 patched" in said.out
    assert said.code == 1


def test_gc_prints_released_and_failed_addresses(cluster: FakeCluster) -> None:
    """web-1 is gone; web-2 has its address no more, and may not be written."""
    for name in ("web-1", "web-2"):
        cluster.vm(name)
    cluster.attach("web-1", "web-2")
    cluster.delete_vm("web-1")

    def off(obj: Json) -> None:
        obj["spec"]["template"].pop("metadata")
        obj["metadata"].pop("annotations")

    cluster.api.change(VM.ref("web-2", "prod"), off)
    cluster.api.refuse("patch", VM)
    said = run(cluster, "ips", "gc", "--grace", "0", "--yes")
    assert {*cluster.holders().values()} == {"prod/web-2"}
    assert "release 10.133.0.1 of prod/web-1" in said.out.splitlines()
    assert "virtualmachine" in said.err
    assert said.code == 1
