"""`status`: what is printed, the exit code, and --wait.

| outcome                                              | exit code |
|------------------------------------------------------|-----------|
| whatever is found or cannot be read                  | 0         |
| the CRDs are missing, or nothing answers             | 1         |
| --wait: still not ready at the end of the timeout    | 1         |
"""

from __future__ import annotations

import io
import json

import pytest

from kubectl_yoshi.cli.cluster_status import print_status
from kubectl_yoshi.diagnosis.rules import RULES
from kubectl_yoshi.diagnosis.status import compute_status
from kubectl_yoshi.kube.errors import NotServedError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import ObjectRef
from tests.unit.cli.command_runner import run
from tests.unit.diagnosis.clusters import healthy
from tests.unit.diagnosis.diagnosing import facts_of
from tests.unit.plan.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster with network prod/blue and a VM on it."""
    cluster = healthy()
    cluster.network("blue")
    cluster.vm()
    cluster.attach()
    return cluster


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        label, rest = line[:13].strip(), line[13:]
        found.setdefault(label or [*found][-1], []).append(rest)
    return found


def test_healthy_cluster_has_no_section_about_troubles(cluster: FakeCluster) -> None:
    said = run(cluster, "status")
    assert (said.code, said.err) == (0, "")
    found = sections(said.out)
    assert [*found] == ["VERSIONS", "NETWORKS", "VMS", "ADDRESSES", "POLICIES", "FINDINGS"]
    assert found["NETWORKS"][1].split() == [
        "prod/blue", "calico", "10.133.0.0/24", "True", "1", "0", "253", "[#---------]", "1%",
    ]  # fmt: skip
    assert found["VMS"] + found["ADDRESSES"] + found["FINDINGS"] == [
        "1: 1 with an address, 0 without",
        "1 Bound",
        "none",
    ]
    assert len(said.out.splitlines()) < 24


def test_what_cannot_be_read_is_a_question_mark_and_no_failure(cluster: FakeCluster) -> None:
    cluster.api.refuse("list", NETWORKWIZARD)
    said = run(cluster, "status", "-A")
    found = sections(said.out)
    assert (said.code, found["NETWORKS"], found["VMS"], found["FINDINGS"]) == (0, ["?"], ["?"], ["?"])
    assert found["UNREADABLE"][0] == "? may not list networkwizards.plumber.k8s.pf9.io in all namespaces"
    shown = json.loads(run(cluster, "status", "-A", "-o", "json").out)
    assert (shown["networks"], shown["vms"], shown["findings"], shown["ready"]) == (None, None, None, False)


def test_findings_and_restarts_are_counted(cluster: FakeCluster) -> None:
    cluster.running("web-2", pin="10.133.0.9")
    cluster.attach("web-2")
    cluster.detach("web-2")
    cluster.delete_vm("web-1")
    cluster.time_passes()
    found = sections(run(cluster, "status").out)
    assert found["VMS"] == ["1: 1 with an address, 0 without, 1 to be restarted"]
    assert found["FINDINGS"] == ["1 error, 1 warning; see `kubectl yoshi doctor`"]


def test_terminals_get_colours(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    status = compute_status(facts_of(cluster), RULES)
    texts = {}
    for force in ("0", "1"):
        monkeypatch.setenv("FORCE_COLOR", force)
        monkeypatch.delenv("NO_COLOR", raising=False)
        print_status(status, out := io.StringIO())
        texts[force] = out.getvalue()
    assert "\x1b[" not in texts["0"]
    assert "1 \x1b[32mBound\x1b[0m" in texts["1"]


def test_missing_crds_are_an_error_that_suggests_install(cluster: FakeCluster) -> None:
    def refuse(verb: str, ref: ObjectRef) -> None:
        if ref.resource == NETWORKWIZARD:
            raise NotServedError("networkwizards are not served", "Run `kubectl yoshi install`.")

    cluster.api.before.append(refuse)
    said = run(cluster, "status")
    assert (said.code, said.out) == (1, "")
    assert "kubectl yoshi install" in said.err


def test_wait_returns_as_soon_as_crds_are_served_and_networks_ready(cluster: FakeCluster) -> None:
    set_ready(cluster, "False")
    reads: list[str] = []

    def happens(verb: str, ref: ObjectRef) -> None:
        if verb == "list" and ref.resource == NETWORKWIZARD:
            reads.append(verb)
            if len(reads) == 1:
                raise NotServedError("networkwizards are not served", "Run `kubectl yoshi install`.")
            if len(reads) == 3:
                set_ready(cluster, "True")

    cluster.api.before.append(happens)
    said = run(cluster, "status", "--wait")
    assert (said.code, said.err) == (0, "")
    assert len(reads) > 3
    assert "VERSIONS" in said.out


def test_wait_fails_at_its_timeout_with_what_is_not_ready(cluster: FakeCluster) -> None:
    set_ready(cluster, "False")
    said = run(cluster, "status", "--wait", "--timeout", "5s")
    assert said.code == 1
    assert "False" in sections(said.out)["NETWORKS"][1]
    assert said.err.startswith("error: not ready after 5 s: network prod/blue is not ready")


def set_ready(cluster: FakeCluster, status: str) -> None:
    """Set the condition Ready of network prod/blue."""
    conditions = [{"type": "Ready", "status": status}]
    cluster.api.change(NETWORKWIZARD.ref("blue", "prod"), lambda obj: obj["status"].update(conditions=conditions))
