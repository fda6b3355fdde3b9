"""The role manifests: each complete in itself, none with more than it needs."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Iterator
from importlib import import_module, resources
from typing import Any

import pytest
import yaml

import kubectl_yoshi
from kubectl_yoshi.backends.calico.api import CalicoApi
from kubectl_yoshi.model.network import ADDRESSBLOCK, NETWORKWIZARD
from kubectl_yoshi.model.objects import Resource
from kubectl_yoshi.plan.conflicts import SERVICECIDR

ROLES = {
    role["metadata"]["name"]: role
    for role in yaml.safe_load_all(resources.files("kubectl_yoshi.manifests").joinpath("roles.yaml").read_text())
}
AGGREGATED = {
    "yoshi-viewer": "view",
    "yoshi-user": "edit",
    "yoshi-aggregate-to-admin": "admin",
}


def rights(role: str) -> set[tuple[str, str, str, str]]:
    """Every (group, resource, name, verb) that a role gives."""
    return {
        (group, resource, name, verb)
        for rule in ROLES[role]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def resources_of_the_code() -> Iterator[str]:
    """The full name of every kind that a module of the program has to do with."""
    yield SERVICECIDR  # in whatever version it is served
    for module in pkgutil.walk_packages(kubectl_yoshi.__path__, "kubectl_yoshi."):
        if not module.name.endswith("__main__"):
            for value in vars(import_module(module.name)).values():
                if isinstance(value, Resource):
                    yield value.full_name
                elif isinstance(value, CalicoApi):
                    yield from (getattr(value, field.name).full_name for field in dataclasses.fields(value))


@pytest.mark.parametrize("role", ROLES)
def test_permissions_are_limited_to_resources_in_the_code(role: str) -> None:
    given = {Resource(group, "", resource.partition("/")[0], "").full_name for group, resource, *_ in rights(role)}
    assert given - set(resources_of_the_code()) == set()


@pytest.mark.parametrize("role", ROLES)
def test_watch_is_allowed_only_for_watched_kinds(role: str) -> None:
    followed = {"networkwizards", "addressblocks", "virtualmachines", "virtualmachineinstances"}
    assert {resource for _, resource, _, verb in rights(role) if verb == "watch"} <= followed


def test_expected_roles_exist() -> None:
    assert set(ROLES) == {
        *(f"yoshi-{name}" for name in ("viewer", "user", "admin")),
        *AGGREGATED,
        "yoshi-calico-reader",
    }


@pytest.mark.parametrize(
    ("less", "more"),
    [("viewer", "user"), ("user", "admin"), ("aggregate-to-admin", "admin"), ("calico-reader", "viewer")],
)
def test_greater_role_includes_the_lesser_one(less: str, more: str) -> None:
    assert rights(f"yoshi-{less}") < rights(f"yoshi-{more}")


def test_viewer_role_is_read_only() -> None:
    assert {verb for *_, verb in rights("yoshi-viewer")} == {"get", "list", "watch"}


@pytest.mark.parametrize("role", ROLES)
def test_permissions_are_unique_and_without_wildcards(role: str) -> None:
    given = [
        (group, resource, verb)
        for rule in ROLES[role]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert len(given) == len(set(given))
    assert not [right for right in given if "*" in "".join(right)]
    assert not {verb for *_, verb in given} & {"escalate", "bind", "impersonate", "deletecollection"}
    assert not {resource for _, resource, _ in given} & {"secrets", "pods/exec", "serviceaccounts/token"}
    assert "rbac.authorization.k8s.io" not in {group for group, *_ in given}


@pytest.mark.parametrize("role", ROLES)
def test_cluster_configuration_is_only_read(role: str) -> None:
    groups = {"apiextensions.k8s.io", "admissionregistration.k8s.io"}
    found = {(group, name, verb) for group, _, name, verb in rights(role) if group in groups}
    assert {verb for *_, verb in found} <= {"get", "list"}
    assert {name for group, name, _ in found if group == "apiextensions.k8s.io"} <= {
        NETWORKWIZARD.full_name,
        ADDRESSBLOCK.full_name,
    }
    assert role == "yoshi-admin" or "admissionregistration.k8s.io" not in {group for group, *_ in found}


@pytest.mark.parametrize("role", AGGREGATED)
def test_aggregated_roles_reach_no_other_tenant(role: str) -> None:
    changed = {resource for _, resource, _, verb in rights(role) if verb not in {"get", "list", "watch"}}
    assert not changed & {"services/status", "hostnetworktemplates", "ippools", "bgpconfigurations", "bgppeers"}


def test_only_the_expected_roles_are_aggregated() -> None:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    labels: dict[str, Any] = {name: role["metadata"]["labels"] for name, role in ROLES.items()}
    found = {
        (name, key.removeprefix(prefix), value)
        for name, of_role in labels.items()
        for key, value in of_role.items()
        if key.startswith(prefix)
    }
    assert found == {(name, to, "true") for name, to in AGGREGATED.items()}


@pytest.mark.parametrize("role", ROLES)
def test_roles_have_the_label_for_install(role: str) -> None:
    assert ROLES[role]["metadata"]["labels"]["app.kubernetes.io/part-of"] == "kubectl-yoshi"
