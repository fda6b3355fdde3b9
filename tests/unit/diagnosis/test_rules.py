"""All rules: each has a test of what it finds, and a healthy cluster has no findings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kubectl_yoshi.diagnosis.rule import Rule
from kubectl_yoshi.diagnosis.rules import RULES
from tests.unit.diagnosis.clusters import healthy, template_of
from tests.unit.diagnosis.diagnosing import diagnosis_of
from tests.unit.diagnosis.remedies import check_command

FINDERS = {"findings_of", "finding_of"}


def test_healthy_cluster_has_no_findings() -> None:
    cluster = healthy()
    cluster.network()
    cluster.network("big", "10.135.0.0/16")
    cluster.vm()
    cluster.running("web-2", template=template_of({"name": "default", "masquerade": {}}))
    cluster.running("web-3", runStrategy="Always")
    cluster.attach("web-1", "web-2", restart=True)
    cluster.attach("web-3", network="prod/big", restart=True)
    cluster.running("idle")
    cluster.reserve("10.133.0.77")
    diagnosis = diagnosis_of(cluster)
    assert [finding.observation.message for finding in diagnosis.findings] == []
    assert diagnosis.unchecked == ()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_has_a_test_of_its_findings(rule: Rule) -> None:
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("test_*_rules.py")]
    nodes = [node for module in modules for node in ast.walk(module)]
    by_function = {
        argument.attr if isinstance(argument, ast.Attribute) else argument.id
        for call in nodes
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in FINDERS
        for argument in call.args
        if isinstance(argument, (ast.Attribute, ast.Name))
    }
    by_number = {node.value for node in nodes if isinstance(node, ast.Constant)}  # in the tables of faults
    assert rule.check.__name__ in by_function or rule.number in by_number


@pytest.mark.parametrize(
    "command",
    [
        "kubectl yoshi ips gc --no-such-flag",
        "kubectl yoshi vm",
        "kubectl frobnicate pod/a",
        "kubectl get pods --watch-only",
        "kubectl edit networkwizards",
        "kubectl patch vm a -p '{'",
        "virtctl restart",
        "kubectl get pod <NAME>",
        "calicoctl ipam check",
    ],
)
def test_invalid_remedies_are_refused(command: str) -> None:
    with pytest.raises((AssertionError, ValueError, IndexError)):
        check_command(command)
