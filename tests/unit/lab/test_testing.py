"""Tests never run on an existing cluster: they delete its BGP configuration, MetalLB's pools and more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.testing import Cluster
from tests import conftest
from tests.documents import ROOT

KIND = """#!/bin/sh
echo "$@" >> {calls}
[ "$1 $2" != "get clusters" ] || echo pytest-kind
for word; do case $word in --kubeconfig=*) cp {kubeconfig} "${{word#*=}}";; esac; done
"""
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: it, user: {token: t}}]
contexts: [{name: it, context: {cluster: it, user: it}}]
"""


def test_existing_context_cannot_be_chosen() -> None:
    command = [sys.executable, "-m", "pytest", "--cluster=production", "--collect-only", __file__]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == pytest.ExitCode.USAGE_ERROR
    assert "argument --cluster: invalid choice: 'production'" in ran.stderr


def test_kind_cluster_is_new_and_deleted_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    program, calls, kubeconfig = (tmp_path / name for name in ("kind", "calls", "kubeconfig"))
    kubeconfig.write_text(KUBECONFIG)
    program.write_text(KIND.format(calls=calls, kubeconfig=kubeconfig))
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(Cluster, "kubectl", lambda *_: "")
    monkeypatch.setattr(conftest, "crd_documents", lambda *_, **__: [])
    with conftest.new_kind_cluster(pytestconfig) as found:
        name = found.context.removeprefix("kind-")
        assert found.kubeconfig.is_relative_to(tmp_path)
    asked = [line.split(" --kubeconfig=")[0] for line in calls.read_text().splitlines()]
    assert asked == ["get clusters", f"create cluster --name={name}", f"delete cluster --name={name}"]
    assert name.startswith("yoshi-test-")
