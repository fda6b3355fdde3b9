"""The files of examples/: objects satisfy their schemas, and command lines are those of the program.

tests/cluster/test_example_files.py gives those of Kubernetes, KubeVirt and the program to an API server.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from kubectl_yoshi.cli.installation import load_manifests
from kubectl_yoshi.model.network import parse_network
from tests.documents import commands_of_program, parse

Json = dict[str, Any]
EXAMPLES = Path(__file__).parents[3] / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))
K9S = EXAMPLES / "k9s-plugins.yaml"
HEALTH = EXAMPLES / "gitops" / "argocd-health.yaml"
SCHEMAS: Json = yaml.safe_load((Path(__file__).parent / "example_schemas.yaml").read_text())
OBJECTS = [
    (path, obj) for path in FILES if path not in (K9S, HEALTH) for obj in yaml.safe_load_all(path.read_text()) if obj
]
NETWORKS = [obj for _, obj in OBJECTS if obj["kind"] == "NetworkWizard"]


def find_errors(obj: Json, schema: Json) -> list[str]:
    """Return what is wrong with an object, each with its path."""
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(obj)]


def schema_of(kind: str) -> Json:
    """Return a schema of example_schemas.yaml."""
    return {**SCHEMAS[kind], "$defs": SCHEMAS["$defs"]}


def schema_of_networks() -> Json:
    """Return the schema of NetworkWizards; it rejects unknown fields, as `kubectl apply` does."""
    crd = next(obj for obj in load_manifests() if obj["metadata"]["name"].startswith("networkwizards."))
    schema = _closed(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    return {**schema, "properties": {**schema["properties"], "apiVersion": {}, "kind": {}, "metadata": {}}}


def _closed(schema: Json) -> Json:
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {name: _closed(field) for name, field in schema["properties"].items()}
        closed.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    return closed


def pods_of(obj: Json) -> list[Json]:
    """Return the pod specs of a workload."""
    spec = obj.get("spec", {})
    template = spec.get("jobTemplate", {}).get("spec", spec).get("template", {})
    return [template["spec"]] if "containers" in template.get("spec", {}) else []


def test_every_kind_of_network_has_an_example() -> None:
    kinds = {(obj["spec"]["plugin"], obj["spec"].get("public", {}).get("announce", "")) for obj in NETWORKS}
    assert kinds == {("calico", ""), ("public", "metallb-l2"), ("public", "metallb-bgp"), ("ovs", "")}


@pytest.mark.parametrize("obj", NETWORKS, ids=lambda obj: obj["metadata"]["name"])
def test_network_satisfies_the_crd_and_the_program(obj: Json) -> None:
    assert find_errors(obj, schema_of_networks()) == []
    assert parse_network({**obj, "metadata": {**obj["metadata"], "namespace": "shop", "uid": "1"}}).usable.size > 0


def test_unknown_field_of_a_network_is_found() -> None:
    (error,) = find_errors({"spec": {"plugin": "calico", "cidrs": "10.0.0.0/24"}}, schema_of_networks())
    assert "cidrs" in error


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("gitops/*.yaml")), ids=lambda path: path.name)
def test_gitops_objects_satisfy_their_schemas(path: Path) -> None:
    for obj in yaml.safe_load_all(path.read_text()):
        if path == HEALTH:
            ((key, lua),) = obj["data"].items()
            assert key == "resource.customizations.health.plumber.k8s.pf9.io_NetworkWizard"
            assert re.findall(r'"(Healthy|Degraded|Progressing)"', lua) == ["Progressing", "Healthy", "Degraded"]
        else:
            assert find_errors(obj, schema_of(f"{obj['kind']}.{obj['apiVersion']}")) == []


def test_k9s_plugins_satisfy_the_schema_and_run_commands_of_the_program() -> None:
    plugins = yaml.safe_load(K9S.read_text())
    assert find_errors(plugins, schema_of("k9s")) == []
    for plugin in plugins["plugins"].values():
        (words,) = commands_of_program(re.sub(r"\$[A-Z]+", "blue", plugin["args"][1]).replace("2>&1", ""))
        parse(words)


def test_workloads_run_commands_of_the_program() -> None:
    commands = [pod["containers"][0]["command"] for _, obj in OBJECTS for pod in pods_of(obj)]
    assert [words[:3] for words in commands] == [
        ["kubectl-yoshi", "ips", "check"],
        ["kubectl-yoshi", "ips", "gc"],
        ["kubectl-yoshi", "sync", "--all-namespaces"],
    ]
    for words in commands:
        parse(words[1:])


def test_bindings_refer_to_roles_of_install_or_kubernetes() -> None:
    installed = {obj["metadata"]["name"] for obj in load_manifests() if obj["kind"] == "ClusterRole"}
    bound = {obj["roleRef"]["name"] for _, obj in OBJECTS if "roleRef" in obj}
    assert bound == {"edit", "yoshi-admin", "yoshi-calico-reader"} <= {*installed, "edit"}


def test_index_lists_every_example() -> None:
    listed = set(re.findall(r"\]\(([^).]\S*)\)", (EXAMPLES / "README.md").read_text()))
    files = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*") if path.is_file()}
    assert listed == files - {"README.md"}
