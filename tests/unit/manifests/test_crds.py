"""The CRD manifests: no duplicated schemas, and the lab's have the names of the real ones."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

import lab

OURS = {
    crd["spec"]["names"]["kind"]: crd
    for crd in yaml.safe_load_all(resources.files("kubectl_yoshi.manifests").joinpath("crds.yaml").read_text())
}
LABS = sorted(Path(lab.__file__).parent.glob("crds/*/*.yaml"))


def schema(kind: str, *path: str) -> Any:
    [version] = OURS[kind]["spec"]["versions"]
    found = version["schema"]["openAPIV3Schema"]
    for step in path:
        found = found["properties"][step]
    return found


def test_allocation_schema_is_the_same_in_both_kinds() -> None:
    small, large = (schema(kind, "status", "allocations") for kind in ("NetworkWizard", "AddressBlock"))
    assert small["additionalProperties"] == large["additionalProperties"]
    assert small["x-kubernetes-map-type"] == large["x-kubernetes-map-type"] == "atomic"


def test_crds_have_no_yaml_aliases() -> None:
    seen: set[int] = set()

    def visit(value: Any) -> None:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if children:
            assert id(value) not in seen, f"{value} is an alias"
            seen.add(id(value))
        for child in children:
            visit(child)

    visit(OURS)


def test_every_validation_rule_has_a_message() -> None:
    def rules(value: Any) -> list[Any]:
        if isinstance(value, list):
            return [rule for child in value for rule in rules(child)]
        if not isinstance(value, dict):
            return []
        found: list[Any] = value.get("x-kubernetes-validations", [])
        return found + [rule for child in value.values() for rule in rules(child)]

    for rule in rules(OURS):
        assert rule.get("message"), rule
        # Kubernetes 1.31 takes the cost of comparing addresses for boundless.
        assert "ip() ==" not in rule["rule"]
        assert ") == ip(" not in rule["rule"]


@pytest.mark.parametrize("kind", OURS)
def test_crds_have_the_label_for_install(kind: str) -> None:
    assert OURS[kind]["metadata"]["labels"]["app.kubernetes.io/part-of"] == "kubectl-yoshi"


@pytest.mark.parametrize("file", LABS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_lab_crds_are_named_like_their_files(file: Path) -> None:
    [crd] = yaml.safe_load_all(file.read_text())
    spec = crd["spec"]
    assert crd["metadata"]["name"] == f"{file.stem}.{spec['group']}" == f"{spec['names']['plural']}.{spec['group']}"
    assert [version["name"] for version in spec["versions"] if version["storage"]]


def test_lab_has_no_networkwizard_crd() -> None:
    assert not [file for file in LABS if file.stem == "networkwizards"]
