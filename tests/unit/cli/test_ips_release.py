"""`ips release` tells what became of every address that was named."""

from __future__ import annotations

from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.vm import VM
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster


def test_released_and_kept_addresses_are_both_printed(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.90")
    cluster.reserve("10.133.0.100", "10.133.0.101", note="printer")
    said = run(cluster, "ips", "release", "blue", "10.133.0.100", "10.133.0.90", "10.133.0.101", "10.133.0.102")
    assert [*cluster.holders()] == ["10.133.0.90"]
    assert said.out.splitlines() == [
        "10.133.0.100 released (was reserved (printer))",
        "10.133.0.101 released (was reserved (printer))",
        "10.133.0.102 is free already",
    ]
    stays, hint, count = said.err.splitlines()
    assert stays.startswith("error: 10.133.0.90 stays recorded for prod/web-1")
    assert "kubectl yoshi vm detach web-1" in hint
    assert count == "error: 1 of 4 addresses could not be released"
    assert said.code == 1


def test_one_kept_address_is_one_error(cluster: FakeCluster) -> None:
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.90")
    said = run(cluster, "ips", "release", "blue", "10.133.0.90")
    assert (said.code, said.out, said.err.count("error:")) == (1, "", 1)


def test_dry_run_prints_every_address_that_would_be_kept(cluster: FakeCluster) -> None:
    for name, ip in (("web-1", "10.133.0.90"), ("web-2", "10.133.0.91")):
        cluster.vm(name)
        cluster.attach(name, ip=ip)
    said = run(cluster, "ips", "release", "blue", "10.133.0.90", "10.133.0.91", "--dry-run=client")
    assert "10.133.0.90 stays" in said.err
    assert "10.133.0.91 stays" in said.err
    assert (said.code, said.out) == (1, "")


def test_no_address_is_printed_as_released_if_the_write_failed(cluster: FakeCluster) -> None:
    cluster.reserve("10.133.0.100", "10.133.0.101")
    cluster.api.refuse("patch", NETWORKWIZARD)
    said = run(cluster, "ips", "release", "blue", "10.133.0.100", "10.133.0.101")
    assert (said.code, said.out) == (1, "")
    assert "patch" in said.err
    assert {*cluster.holders()} == {"10.133.0.100", "10.133.0.101"}


def test_forbidden_vm_write_keeps_only_its_own_address(cluster: FakeCluster) -> None:
    """The VM is written first, so that no attachment is under way (docs/design.md)."""
    cluster.vm("web-1")
    cluster.attach("web-1", ip="10.133.0.90")
    cluster.reserve("10.133.0.100")
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["metadata"].pop("annotations"))
    cluster.api.refuse("patch", VM)
    said = run(cluster, "ips", "release", "blue", "10.133.0.90", "10.133.0.100")
    assert [*cluster.holders()] == ["10.133.0.90"]
    assert said.out == "10.133.0.100 released (was reserved)\n"
    assert "virtualmachine" in said.err
    assert said.err.endswith("error: 1 of 2 addresses could not be released\n")
    assert said.code == 1
