"""Plans: a line per change, the objects as they would be, and their differences."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from kubectl_yoshi.model.errors import YoshiError
from kubectl_yoshi.model.network import NETWORKWIZARD
from kubectl_yoshi.model.objects import Json, Resource
from kubectl_yoshi.model.plan import Change, Plan, Verb, sequential
from kubectl_yoshi.output.plan_printer import (
    ObjectChange,
    diff_file_name,
    format_change,
    object_changes,
    show_plan,
    write_diff,
)

VM = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
ROLE = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
BLUE = NETWORKWIZARD.ref("blue", "prod")
WEB = VM.ref("web-1", "prod")


def network(**more: object) -> Json:
    return {
        "apiVersion": "plumber.k8s.pf9.io/v1",
        "kind": "NetworkWizard",
        "metadata": {"name": "blue", "namespace": "prod", "managedFields": [{"manager": "x"}]},
        "spec": {"cidr": "10.0.0.0/24"},
        **more,
    }


def patch(path: str, value: object, before: Json | None = None, **more: str) -> Change:
    ops = [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": value}]
    return Change(Verb.PATCH, BLUE, "record 10.0.0.10", body=ops, before=before or network(), **more)


ROLE_BODY = {"apiVersion": ROLE.api_version, "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": []}
AT_REST = {**ROLE_BODY, "metadata": {"name": "r", "uid": "1", "resourceVersion": "5"}}


@pytest.mark.parametrize(
    ("change", "dry_run", "line"),
    [
        (
            Change(Verb.CREATE, BLUE, "", body=network()),
            "client",
            "networkwizard.plumber.k8s.pf9.io/blue created (dry run)",
        ),
        (Change(Verb.CREATE, BLUE, ""), "server", "networkwizard.plumber.k8s.pf9.io/blue created (server dry run)"),
        (Change(Verb.DELETE, WEB, ""), "none", "virtualmachine.kubevirt.io/web-1 deleted"),
        (Change(Verb.REPLACE, WEB, ""), "none", "virtualmachine.kubevirt.io/web-1 replaced"),
        (patch("/x", 1), "client", "networkwizard.plumber.k8s.pf9.io/blue patched (dry run): record 10.0.0.10"),
        (Change(Verb.CALL, WEB, "", subresource="restart"), "none", "virtualmachine.kubevirt.io/web-1 restarted"),
        (
            Change(Verb.APPLY, ROLE.ref("r"), "", body=ROLE_BODY),
            "none",
            "clusterrole.rbac.authorization.k8s.io/r created",
        ),
        (
            Change(Verb.APPLY, ROLE.ref("r"), "", body=ROLE_BODY, before=AT_REST),
            "client",
            "clusterrole.rbac.authorization.k8s.io/r unchanged (dry run)",
        ),
        (
            Change(Verb.APPLY, ROLE.ref("r"), "", body={**ROLE_BODY, "rules": [{}]}, before=AT_REST),
            "client",
            "clusterrole.rbac.authorization.k8s.io/r configured (dry run)",
        ),
    ],
)
def test_change_is_printed_like_kubectl(change: Change, dry_run: str, line: str) -> None:
    assert format_change(change, dry_run) == line


def test_server_response_decides_between_configured_and_unchanged() -> None:
    change = Change(Verb.APPLY, ROLE.ref("r"), "", body={**ROLE_BODY, "rules": [{}]}, before=AT_REST)
    answer = {**AT_REST, "metadata": {**AT_REST["metadata"], "resourceVersion": "6", "managedFields": []}}
    assert format_change(change, "none", answer).endswith(" unchanged")


def test_default_output_omits_waits() -> None:
    out = io.StringIO()
    show_plan(sequential(Change(Verb.DELETE, WEB, ""), Change(Verb.WAIT, WEB, "", wait_for="deleted")), out)
    assert out.getvalue() == "virtualmachine.kubevirt.io/web-1 deleted (dry run)\n"


def test_objects_are_shown_after_all_changes() -> None:
    plan = sequential(
        patch("/status", {"a": 1}), patch("/status/b", 2, subresource="status"), Change(Verb.DELETE, WEB, "")
    )
    changed, deleted = object_changes(plan)
    assert changed.after is not None
    assert changed.after["status"] == {"a": 1, "b": 2}
    assert deleted.after is None


def test_object_changes_do_not_modify_their_input() -> None:
    before = network(status={"allocations": {}})
    copy = json.loads(json.dumps(before))
    object_changes(sequential(patch("/status/allocations/x", 1, before)))
    assert before == copy


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (Change(Verb.APPLY, BLUE, "", body={"spec": {"b": 1}}, before={"spec": {"a": 1}}), {"spec": {"a": 1, "b": 1}}),
        (Change(Verb.REPLACE, BLUE, "", body={"spec": {}}, before={"spec": {"a": 1}}), {"spec": {}}),
        (
            Change(Verb.REPLACE, BLUE, "", body={"status": {}}, before={"spec": 1}, subresource="status"),
            {"spec": 1, "status": {}},
        ),
        (Change(Verb.DELETE, BLUE, "", before={"spec": {}}), None),
    ],
)
def test_each_verb_determines_the_object_after_it(change: Change, after: Json | None) -> None:
    assert [changed.after for changed in object_changes(sequential(change))] == [after]


def test_diff_shows_changes_without_server_fields() -> None:
    before = network(status={"created": True})
    after = {**before, "spec": {"cidr": "10.0.0.0/24", "exclude": ["10.0.0.1"]}}
    out = io.StringIO()
    assert write_diff([ObjectChange(BLUE, before, after)], out, {})
    lines = out.getvalue().splitlines()
    name = "plumber.k8s.pf9.io.v1.NetworkWizard.prod.blue"
    assert lines[:3] == [f"diff -u -N LIVE/{name} MERGED/{name}", f"--- LIVE/{name}", f"+++ MERGED/{name}"]
    assert [line for line in lines[3:] if line[0] in "+-"] == ["+  exclude:", "+  - 10.0.0.1"]
    assert "status" not in out.getvalue() and "managedFields" not in out.getvalue()


def test_diff_shows_status_changes() -> None:
    out = io.StringIO()
    assert write_diff(object_changes(sequential(patch("/status", {"created": True}))), out, {})
    assert "+  created: true" in out.getvalue()


def test_diff_without_changes_is_empty() -> None:
    out = io.StringIO()
    assert not write_diff([ObjectChange(BLUE, network(), network()), *object_changes(Plan())], out, {})
    assert out.getvalue() == ""


def test_diff_shows_created_and_deleted_objects_in_full() -> None:
    out = io.StringIO()
    write_diff([ObjectChange(BLUE, None, network()), ObjectChange(WEB, network(), None)], out, {})
    assert "+kind: NetworkWizard" in out.getvalue() and "-kind: NetworkWizard" in out.getvalue()


def test_diff_file_name_of_a_cluster_scoped_object() -> None:
    assert diff_file_name(ROLE.ref("r")) == "rbac.authorization.k8s.io.v1.ClusterRole..r"


def test_external_diff_program_is_called(tmp_path: Path) -> None:
    program = tmp_path / "differ.py"
    program.write_text("import os, sys\nprint(*(sorted(os.listdir(folder)) for folder in sys.argv[1:]))\nsys.exit(1)\n")
    out = io.StringIO()
    environ = {"KUBECTL_EXTERNAL_DIFF": f"{sys.executable} {program}"}
    assert write_diff([ObjectChange(BLUE, None, network())], out, environ)
    assert out.getvalue() == "[] ['plumber.k8s.pf9.io.v1.NetworkWizard.prod.blue']\n"


@pytest.mark.parametrize(("program", "words"), [("/does/not/exist", "cannot run"), ("false-2", "cannot run")])
def test_external_diff_program_that_cannot_run_is_named(program: str, words: str) -> None:
    with pytest.raises(YoshiError, match=words):
        write_diff([ObjectChange(BLUE, None, network())], io.StringIO(), {"KUBECTL_EXTERNAL_DIFF": program})
