"""What the CRDs take in a status on real API servers, the oldest and the newest that the lab builds.

- a cluster that had Platform9 yoshi's CRD and objects: nothing is lost, also not what breaks the new rules
- the YAML of Platform9 yoshi's README and samples, unchanged
- guarded patches of allocations: which `test` holds when, and with which status code it fails
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

import lab
from lab.demo import NETWORK
from tests.cluster.crds_scene import (
    APPLY,
    BGP,
    NETWORKS,
    ORIGINAL_OBJECTS,
    RECORD,
    Server,
    manifest,
)
from tests.cluster.legacy_fixtures import README_PUBLIC

# --- a cluster of Platform9 yoshi ---


@pytest.mark.parametrize("name", ORIGINAL_OBJECTS)
def test_legacy_objects_keep_all_fields_under_the_new_crds(server: Server, name: str) -> None:
    before = server.before[name]
    after = server.api.get(f"{NETWORKS}/{name}")
    assert after.pop("spec") == (before.pop("spec", None) or {})
    for told in (before, after):
        told["metadata"].pop("managedFields", None)
    if name == "newarjunpool":
        assert len(after["status"]["allocations"]) == 300
        assert after["status"]["allocations"]["10.133.1.0"] == "vm-256"
    assert after == before


def test_legacy_allocations_are_converted_one_by_one(server: Server) -> None:
    path = server.network("names", status={"allocations": {"10.1.0.1": "vm-1", "10.1.0.2": "vm-2"}})
    status = server.patch_status(
        path,
        ("test", "/status/allocations/10.1.0.1", "vm-1"),
        ("add", "/status/allocations/10.1.0.1", RECORD),
    )
    assert status["allocations"] == {"10.1.0.1": RECORD, "10.1.0.2": "vm-2"}
    assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.2", "vm-1"))


def test_object_violating_a_new_rule_accepts_other_writes_and_can_be_fixed(server: Server) -> None:
    path = f"{NETWORKS}/oldrange"
    write = ("add", "/status/allocations/10.9.0.9", RECORD)
    if server.lab.options.kubernetes == "1.31":
        # Until 1.33 a status write is checked as if the spec were written with it.
        assert "spec.range_start: Invalid value" in server.refusal(path, write)
    else:
        server.patch_status(path, write)
    server.api.patch(path, {"metadata": {"labels": {"a": "b"}}})
    with pytest.raises(lab.LabError, match="must be an address such as"):
        server.api.patch(path, {"spec": {"range_start": "CgkACw=="}})
    server.api.patch(path, {"spec": {"range_start": "10.9.0.10"}})
    assert server.patch_status(path, write)["allocations"] == {"10.9.0.9": RECORD}


ORIGINAL_YAML = {
    "the README's Calico network": NETWORK,
    "the README's public network": README_PUBLIC,
    "config/samples": """
apiVersion: plumber.k8s.pf9.io/v1
kind: NetworkWizard
metadata:
  labels:
    app.kubernetes.io/name: networkwizard
  name: networkwizard-sample
spec:
  # TODO(user): Add fields here
""",
}


@pytest.mark.parametrize("text", ORIGINAL_YAML.values(), ids=ORIGINAL_YAML.keys())
def test_legacy_manifests_are_accepted_unchanged(server: Server, text: str) -> None:
    for _ in range(2):
        server.lab.kubectl("apply", "-f", "-", input=text)
        wanted = yaml.safe_load(text)
        assert server.api.get(f"{NETWORKS}/{wanted['metadata']['name']}")["spec"] == (wanted["spec"] or {})


def test_peers_as_text_or_list_survive_server_side_apply(server: Server) -> None:
    for peers in ("10.240.0.5, 10.240.0.4", [{"peerIP": "10.240.0.5", "more": 1}], "10.240.0.6"):
        wanted = manifest("applied", {**BGP, "bgpConfig": {"peers": peers}})
        made = server.api.patch(f"{NETWORKS}/applied?fieldManager=t&force=true", wanted, APPLY)
        assert made["spec"]["bgpConfig"]["peers"] == peers


# --- patches of allocations ---


def test_allocation_is_added_once_and_removed_only_by_its_owner(server: Server) -> None:
    path = server.network("allocations", status={"allocations": {}})
    take = (("test", "/status/allocations/10.1.0.9", None), ("add", "/status/allocations/10.1.0.9", RECORD))
    assert server.patch_status(path, *take)["allocations"] == {"10.1.0.9": RECORD}
    taken = server.refusal(path, *take)
    assert " 422 " in taken
    assert "the server rejected our request" in taken  # all that a failed `test` says; it names no cause
    give_back = ("remove", "/status/allocations/10.1.0.9")
    assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.9/uid", "u-2"), give_back)
    assert server.patch_status(path, ("test", "/status/allocations/10.1.0.9", RECORD), give_back)["allocations"] == {}
    assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.9", RECORD), give_back)
    assert " 422 " in server.refusal(path, give_back)


@pytest.mark.parametrize(
    ("status", "guard", "write"),
    [
        (None, "/status", {"allocations": {"10.1.0.9": RECORD}}),
        ({"created": True}, "/status/allocations", {"10.1.0.9": RECORD}),
        ({"allocations": {}}, "/status/allocations/10.1.0.9", RECORD),
        ({"allocations": {"10.1.0.8": "vm"}}, "/status/allocations/10.1.0.9", RECORD),
    ],
    ids=["no status", "no allocations", "no address", "another's address"],
)
def test_patch_test_of_null_requires_an_existing_parent(server: Server, status: Any, guard: str, write: Any) -> None:
    path = server.network("guarded", status=status)
    try:
        see_that_the_guard_holds(server, path, guard, write)
    finally:
        server.lab.kubectl("delete", "networkwizard", "guarded")


def see_that_the_guard_holds(server: Server, path: str, guard: str, write: Any) -> None:
    before = server.api.get(path).get("status", {})
    # A step too deep fails like a taken address does; a step too high would overwrite.
    if guard != "/status/allocations/10.1.0.9":
        assert " 422 " in server.refusal(path, ("test", "/status/allocations/10.1.0.9", None), ("add", guard, write))
    after = server.patch_status(path, ("test", guard, None), ("add", guard, write))
    assert after == {**before, "allocations": {**before.get("allocations", {}), "10.1.0.9": RECORD}}
    # The second writer's guard, which was right when it read, fails now.
    assert " 422 " in server.refusal(path, ("test", guard, None), ("add", guard, write))


def test_patch_with_the_old_uid_fails_for_a_recreated_network(server: Server) -> None:
    path = server.network("recreated")
    uid = server.api.get(path)["metadata"]["uid"]
    server.lab.kubectl("delete", "networkwizard", "recreated")
    gone = server.refusal(path, ("test", "/metadata/uid", uid), ("add", "/status", {}))
    assert " 404 " in gone
    server.network("recreated")
    assert " 422 " in server.refusal(path, ("test", "/metadata/uid", uid), ("add", "/status", {}))


def test_allocation_without_a_kind_is_refused_with_its_address(server: Server) -> None:
    path = server.network("record", status={"allocations": {}})
    said = server.refusal(path, ("add", "/status/allocations/10.1.0.9", {"name": "web-1"}))
    assert " 422 " in said
    assert "status.allocations.10.1.0.9.kind: Required" in said
    kept = {**RECORD, "since": "2026-01-02T03:04:05Z", "note": "n", "mac": "02:00:00:00:00:01", "later": {"x": 1}}
    assert server.patch_status(path, ("add", "/status/allocations/10.1.0.9", kept))["allocations"] == {"10.1.0.9": kept}


def test_allocations_are_one_atomic_field_in_managed_fields(server: Server) -> None:
    path = server.network("atomic", status={"allocations": {f"10.1.0.{i}": RECORD for i in range(1, 200)}})
    server.patch_status(path, ("add", "/status/allocations/10.1.0.200", RECORD))
    fields = server.api.get(path)["metadata"]["managedFields"]
    assert [entry["fieldsV1"] for entry in fields if entry.get("subresource") == "status"] == [
        {"f:status": {".": {}, "f:allocations": {}}}
    ]
    assert len(json.dumps(fields)) < 1000
