"""The manifests of examples/ whose kinds the lab serves are accepted by its API server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.testing import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted({*EXAMPLES.rglob("*.yaml")} - {*EXAMPLES.glob("gitops/*"), EXAMPLES / "k9s-plugins.yaml"})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_api_server_accepts_the_example(path: Path, installed: Cluster, namespace: str) -> None:
    text = re.sub(r"^(\s+namespace:) \S+$", rf"\1 {namespace}", path.read_text(), flags=re.MULTILINE)
    installed.kubectl("apply", "--namespace", namespace, "--dry-run=server", "--filename", "-", input=text)
