"""`ips check` and `diff`: exit codes.

| outcome                                   | exit code                                     |
|-------------------------------------------|-----------------------------------------------|
| as recorded                               | 0                                             |
| VMs that need a restart                   | 0 with a warning, 1 with --strict             |
| anything else that differs                | 1                                             |
| not everything can be read                | 3, or 1 if what can be read differs           |
| failure                                   | 3                                             |
| usage error                               | 2                                             |
"""

from __future__ import annotations

import json

import pytest

from kubectl_yoshi.kube.errors import ForbiddenError
from kubectl_yoshi.model.objects import ObjectRef, Resource
from kubectl_yoshi.model.vm import VM, VMI
from tests.unit.cli.command_runner import run
from tests.unit.plan.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with network prod/blue and a VM on it."""
    cluster = FakeCluster()
    cluster.network("blue")
    cluster.vm()
    cluster.attach()
    return cluster


def hide(cluster: FakeCluster, resource: Resource) -> None:
    """From now on objects of a kind may not be read."""

    def refuse(verb: str, ref: ObjectRef) -> None:
        if ref.resource == resource:
            raise ForbiddenError("Forbidden.", missing_permission=f"may not {verb} {resource.full_name}")

    cluster.api.before.append(refuse)


def unpin(cluster: FakeCluster) -> None:
    """Remove the address from the VM, and let its allocation grow old."""
    cluster.api.change(VM.ref("web-1", "prod"), lambda obj: obj["spec"]["template"].pop("metadata"))
    cluster.time_passes()


def test_check_without_differences_exits_0(cluster: FakeCluster) -> None:
    said = run(cluster, "ips", "check")
    assert (said.code, said.out, said.err) == (0, "1 addresses, all as recorded\n", "")


def test_vm_that_needs_a_restart_is_a_warning_unless_strict() -> None:
    cluster = FakeCluster()
    cluster.network()
    cluster.running(pin="10.133.0.9")
    cluster.attach()
    cluster.detach()
    restart = "it needs a restart (`virtctl restart web-1 -n prod`)"
    message = f"10.133.0.9 on prod/blue: prod/web-1 runs without its template's latest changes; {restart}\n"
    said = run(cluster, "ips", "check")
    assert (said.code, said.out) == (0, f"warning: {message}1 addresses, all as recorded\n")
    assert [run(cluster, "ips", "check", *words).code for words in (["--strict"], ["--strict", "-o", "json"])] == [1, 1]
    assert run(cluster, "ips", "check", "--strict").out == message
    (problem,) = json.loads(run(cluster, "ips", "check", "-o", "json").out)["items"]
    assert (problem["severity"], problem["status"]["state"]) == ("Warning", "RestartNeeded")


def test_check_that_cannot_read_everything_exits_3_without_findings(cluster: FakeCluster) -> None:
    hide(cluster, VMI)
    said = run(cluster, "ips", "check")
    assert (said.code, said.out) == (3, "1 addresses, all as recorded as far as it can be read\n")
    assert "may not list virtualmachineinstances" in said.err


def test_findings_exit_1_even_if_not_everything_can_be_read() -> None:
    cluster = FakeCluster()
    cluster.network("blue")
    cluster.running("web-1", pin="10.133.0.7")
    hide(cluster, VMI)
    assert run(cluster, "ips", "check").code == 1


@pytest.mark.parametrize("words", ["ips check --network nope", "diff vm attach web-1 --network nope"])
def test_failure_of_a_command_that_reports_findings_exits_3(cluster: FakeCluster, words: str) -> None:
    said = run(cluster, *words.split())
    assert said.code == 3
    assert "not found" in said.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("diff vm attach web-1 --network blue", 0),
        ("diff vm detach web-1 --network blue", 1),
        ("diff vm attach web-1 nope --network blue", 3),
        ("diff vm attach web-1 --netwrok blue", 2),
        ("ips check --netwrok blue", 2),
    ],
)
def test_exit_codes_of_diff_and_usage_errors(cluster: FakeCluster, words: str, code: int) -> None:
    assert run(cluster, *words.split()).code == code
