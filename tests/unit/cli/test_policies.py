"""The admission policies: how they are loaded, which mode `install` chooses, and their state.

What `install --policy` does with them: the golden traces (tests/golden/scenarios/installing.py).
"""

from __future__ import annotations

import copy

import pytest

from kubectl_yoshi import __version__
from kubectl_yoshi.cli.installation import PART_OF_LABEL
from kubectl_yoshi.cli.policies import (
    POLICY,
    POLICY_BINDING,
    VERSION_ANNOTATION,
    PolicyMode,
    choose_mode,
    list_policy_states,
    load_policies,
    policy_ref,
)
from kubectl_yoshi.model.objects import Json, ObjectRef, name_of


def installed(mode: PolicyMode) -> dict[ObjectRef, Json]:
    return {policy_ref(obj): obj for obj in load_policies(mode)}


def test_policies_come_before_bindings_and_all_have_label_and_version() -> None:
    objects = load_policies()
    assert [obj["kind"] for obj in objects] == sorted(obj["kind"] for obj in objects)
    assert all(obj["metadata"]["labels"] == dict([PART_OF_LABEL]) for obj in objects)
    assert all(obj["metadata"]["annotations"][VERSION_ANNOTATION] == __version__ for obj in objects)
    policies = {name_of(obj) for obj in objects if obj["kind"] == POLICY.kind}
    assert {obj["spec"]["policyName"] for obj in objects if obj["kind"] == POLICY_BINDING.kind} == policies


@pytest.mark.parametrize(("mode", "actions"), [(PolicyMode.ENFORCE, ["Deny"]), (PolicyMode.AUDIT, ["Warn", "Audit"])])
def test_mode_decides_what_bindings_do(mode: PolicyMode, actions: list[str]) -> None:
    bindings = [obj for obj in load_policies(mode) if obj["kind"] == POLICY_BINDING.kind]
    assert {tuple(obj["spec"]["validationActions"]) for obj in bindings} == {tuple(actions)}
    assert load_policies(PolicyMode.OFF) == []


def without_bindings() -> dict[ObjectRef, Json]:
    """What an installation leaves that is killed after its first objects."""
    return {ref: obj for ref, obj in installed(PolicyMode.ENFORCE).items() if ref.resource == POLICY}


@pytest.mark.parametrize(
    ("requested", "found", "is_installed", "chosen"),
    [
        (None, {}, False, PolicyMode.ENFORCE),
        (None, {}, True, PolicyMode.OFF),
        (None, installed(PolicyMode.ENFORCE), True, PolicyMode.ENFORCE),
        (None, installed(PolicyMode.AUDIT), True, PolicyMode.AUDIT),
        (None, without_bindings(), False, PolicyMode.ENFORCE),
        (PolicyMode.AUDIT, installed(PolicyMode.ENFORCE), True, PolicyMode.AUDIT),
        (PolicyMode.OFF, installed(PolicyMode.ENFORCE), True, PolicyMode.OFF),
        (PolicyMode.ENFORCE, {}, True, PolicyMode.ENFORCE),
    ],
)
def test_existing_installation_keeps_its_mode(
    requested: PolicyMode | None, found: dict[ObjectRef, Json], is_installed: bool, chosen: PolicyMode
) -> None:
    assert choose_mode(requested, found, is_installed) is chosen


def test_status_shows_what_is_missing_and_the_warnings_of_type_checking() -> None:
    found = copy.deepcopy(installed(PolicyMode.AUDIT))
    first, *others = [obj for obj in found.values() if obj["kind"] == POLICY.kind]
    first["status"] = {"typeChecking": {"expressionWarnings": [{"fieldRef": "spec.x", "warning": "no such field"}]}}
    del found[POLICY_BINDING.ref(name_of(others[0]))]
    states = {state.name: state for state in list_policy_states(found, active=True, unbound_namespaces=["shop"])}
    state = states[name_of(first)]
    assert (state.installed, state.mode, state.active) == (True, PolicyMode.AUDIT, True)
    assert (state.version, state.warnings) == (__version__, ("spec.x: no such field",))
    unbound = states[name_of(others[0])]
    assert (unbound.installed, unbound.mode, unbound.active) == (True, PolicyMode.OFF, False)
    assert {state.installed for state in list_policy_states({}, active=False, unbound_namespaces=None)} == {False}


@pytest.mark.parametrize("known", [["shop"], None])
def test_namespaces_without_binding_concern_the_policies_for_the_use_of_addresses(known: list[str] | None) -> None:
    states = list_policy_states(installed(PolicyMode.ENFORCE), active=True, unbound_namespaces=known)
    assert {state.name: state.unbound_namespaces for state in states} == {
        "yoshi-address-blocks": (),
        "yoshi-address-format": (),
        "yoshi-address-use": known and ("shop",),
        "yoshi-address-use-blocks": known and ("shop",),
        "yoshi-allocations": (),
    }
