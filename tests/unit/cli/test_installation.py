"""install and uninstall: what is planned for what is there."""

from __future__ import annotations

import copy
import io
import json

import pytest
import yaml

from kubectl_yoshi import __version__
from kubectl_yoshi.cli.installation import (
    CLUSTER_ROLE,
    CRD,
    PART_OF_LABEL,
    find_lost_networks,
    format_lost_networks,
    is_established,
    load_manifests,
    manifest_ref,
    names_conflict_reason,
    plan_install,
    plan_uninstall,
)
from kubectl_yoshi.cli.policies import VERSION_ANNOTATION, load_policies
from kubectl_yoshi.cli.session import Session
from kubectl_yoshi.cli.uninstall import UninstallOptions, refuse_or_warn
from kubectl_yoshi.model.errors import PreconditionFailed, UsageError
from kubectl_yoshi.model.objects import Json, name_of
from kubectl_yoshi.model.plan import Verb
from kubectl_yoshi.output.format_option import OutputFormat

FOUND = {manifest_ref(obj): obj for obj in load_manifests()}
YOSHI_USER = CLUSTER_ROLE.ref("yoshi-user")


def foreign(kind: str, name: str, **spec: object) -> Json:
    return {"apiVersion": "x", "kind": kind, "metadata": {"name": name, "uid": "u"}, "spec": spec}


def test_manifests_have_labels_and_crds_come_first() -> None:
    objects = load_manifests()
    assert all(obj["metadata"]["labels"][PART_OF_LABEL[0]] == PART_OF_LABEL[1] for obj in objects)
    assert [obj["kind"] for obj in objects] == sorted((obj["kind"] for obj in objects), reverse=True)
    assert {name_of(obj) for obj in objects} >= {"networkwizards.plumber.k8s.pf9.io", "yoshi-admin", "yoshi-viewer"}


def test_install_applies_crds_before_roles() -> None:
    plan = plan_install(load_manifests(), {})
    assert [{change.ref.resource for change in stage} for stage in plan.stages] == [{CRD}, {CLUSTER_ROLE}]
    assert {change.verb for change in plan} == {Verb.APPLY}


def test_install_replaces_the_legacy_crd() -> None:
    theirs = foreign("CustomResourceDefinition", "networkwizards.plumber.k8s.pf9.io", group="plumber.k8s.pf9.io")
    plan = plan_install(load_manifests(), {manifest_ref(theirs): theirs})
    assert [change.before for change in plan if change.before] == [theirs]


@pytest.mark.parametrize(
    ("theirs", "refused"), [("", False), ("0.0.9", False), (__version__, False), ("0.10.0", True), ("99.0", True)]
)
def test_install_over_a_newer_version_is_refused(theirs: str, refused: bool) -> None:
    there = copy.deepcopy(FOUND)
    for obj in there.values():
        obj["metadata"]["annotations"][VERSION_ANNOTATION] = theirs
    if not refused:
        assert len(list(plan_install(load_manifests(), there))) == len(there)
        return
    with pytest.raises(PreconditionFailed, match=f"was installed by kubectl yoshi {theirs}, and this is {__version__}"):
        plan_install(load_manifests(), there)


def test_install_refuses_a_foreign_role_of_the_same_name() -> None:
    with pytest.raises(PreconditionFailed, match="clusterrole/yoshi-user exists and was not created by kubectl yoshi"):
        plan_install(load_manifests(), {YOSHI_USER: foreign("ClusterRole", "yoshi-user")})


def test_uninstall_deletes_existing_objects_by_uid_and_waits_for_the_crds() -> None:
    found = [{**obj, "metadata": {**obj["metadata"], "uid": "u"}} for obj in FOUND.values()]
    plan = plan_uninstall(found)
    deletions = [change for change in plan if change.verb is Verb.DELETE]
    assert {change.ref for change in deletions} == set(FOUND)
    assert {change.uid for change in deletions} == {"u"}
    assert {change.ref.resource for change in plan if change.verb is Verb.WAIT} == {CRD}
    assert not plan_uninstall([])


def test_uninstall_keeps_a_foreign_role_with_a_note() -> None:
    plan = plan_uninstall([foreign("ClusterRole", "yoshi-user")])
    assert not plan
    assert plan.notes == ("clusterrole/yoshi-user was not created by kubectl yoshi; it is kept",)


def test_lost_networks_count_addresses_in_blocks() -> None:
    def obj(name: str, spec: Json, held: int) -> Json:
        allocations = {str(number): {} for number in range(held)}
        return {"metadata": {"name": name, "namespace": "prod"}, "spec": spec, "status": {"allocations": allocations}}

    networks = [obj("blue", {}, 1), obj("big", {}, 0), {"metadata": {"name": "new", "namespace": "prod"}}]
    blocks = [obj("big.1", {"network": "big"}, 2), obj("big.2", {"network": "big"}, 3)]
    lost = find_lost_networks(networks, blocks)
    assert (
        format_lost_networks(lost)
        == "prod/blue (1 address held), prod/big (5 addresses held), prod/new (0 addresses held)"
    )
    assert format_lost_networks(lost, limit=1) == "prod/blue (1 address held) and 2 more"


def session() -> Session:
    return Session(out=io.StringIO(), err=io.StringIO())


def test_uninstall_with_networks_is_refused_and_lists_the_losses() -> None:
    lost = find_lost_networks([{"metadata": {"name": "blue", "namespace": "prod"}}], [])
    with pytest.raises(PreconditionFailed, match="1 network would be lost: prod/blue"):
        refuse_or_warn(session(), UninstallOptions(force=False, yes=True, dry_run="none", output=OutputFormat()), lost)


def test_forced_uninstall_without_terminal_requires_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = find_lost_networks([{"metadata": {"name": "blue", "namespace": "prod"}}], [])
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UsageError, match="confirmation"):
        refuse_or_warn(session(), UninstallOptions(force=True, yes=False, dry_run="none", output=OutputFormat()), lost)
    refuse_or_warn(session(), UninstallOptions(force=True, yes=True, dry_run="none", output=OutputFormat()), lost)
    refuse_or_warn(session(), UninstallOptions(force=True, yes=False, dry_run="client", output=OutputFormat()), lost)


@pytest.mark.parametrize(
    ("conditions", "established", "why_not"),
    [
        ([], False, ""),
        ([{"type": "Established", "status": "True"}], True, ""),
        ([{"type": "Established", "status": "False"}], False, ""),
        ([{"type": "NamesAccepted", "status": "False", "message": '"nw" is taken'}], False, '"nw" is taken'),
    ],
)
def test_crd_conditions_determine_whether_it_is_established(
    conditions: list[Json], established: bool, why_not: str
) -> None:
    crd = {"status": {"conditions": conditions}}
    assert (is_established(crd), names_conflict_reason(crd)) == (established, why_not)


def test_install_dry_run_needs_no_cluster(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from kubectl_yoshi.__main__ import run

    monkeypatch.setenv("KUBECONFIG", "/does/not/exist")
    assert run(["install", "--dry-run", "-o", "yaml"], "kubectl yoshi") == 0
    assert yaml.safe_load(capsys.readouterr().out)["items"] == [*load_policies(), *load_manifests()]
    assert run(["install", "--dry-run", "-o", "json"], "kubectl yoshi") == 0
    assert json.loads(capsys.readouterr().out)["items"] == [*load_policies(), *load_manifests()]
