"""The fake API server is as strict as a real one."""

from __future__ import annotations

import pytest

from kubectl_yoshi.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotServedError,
    PatchTestFailedError,
)
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.objects import Resource, owner_reference
from tests.unit.plan.fake_api import FakeApi

THING = Resource("try.example", "v1", "things", "Thing")
OTHER = Resource("try.example", "v1", "others", "Other")
REF = THING.ref("a", "prod")
BODY = {
    "apiVersion": "try.example/v1",
    "kind": "Thing",
    "metadata": {"name": "a", "namespace": "prod"},
    "spec": {"x": 1},
}


@pytest.fixture
def api() -> FakeApi:
    made = FakeApi([THING])
    made.create(REF, BODY)
    return made


def test_create_of_an_existing_name_is_refused(api: FakeApi) -> None:
    with pytest.raises(AlreadyExistsError):
        api.create(REF, BODY)


def test_patch_with_a_failed_test_changes_nothing(api: FakeApi) -> None:
    before = api.get(REF)
    ops = PatchBuilder().add(("spec", "y"), 2).test(("spec", "x"), 5).ops
    with pytest.raises(PatchTestFailedError):
        api.patch(REF, ops)
    assert api.get(REF) == before


def test_status_and_main_patches_are_separate(api: FakeApi) -> None:
    ops = PatchBuilder().add(("spec", "x"), 2).add(("status",), {"used": 1}).ops
    assert api.patch(REF, ops, subresource="status")["spec"] == {"x": 1}
    after = api.patch(REF, PatchBuilder().add(("spec", "x"), 3).add(("status", "used"), 7).ops)
    assert (after["spec"], after["status"]) == ({"x": 3}, {"used": 1})
    assert after["metadata"]["generation"] == 2


def test_write_without_changes_keeps_the_resource_version(api: FakeApi) -> None:
    before = api.get(REF)
    assert api.patch(REF, PatchBuilder().add(("spec", "x"), 1).ops) == before


def test_stale_object_is_not_written(api: FakeApi) -> None:
    stale = api.get(REF)
    api.patch(REF, PatchBuilder().add(("spec", "x"), 2).ops)
    with pytest.raises(ConflictError):
        api.replace(REF, stale)
    with pytest.raises(ConflictError):
        api.delete(REF, resource_version=stale["metadata"]["resourceVersion"])
    with pytest.raises(ConflictError, match="UID in the precondition"):
        api.delete(REF, uid="another")
    api.delete(REF, uid=stale["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        api.get(REF)


def test_owned_objects_are_deleted_with_their_owner(api: FakeApi) -> None:
    owned = {"metadata": {"name": "b", "namespace": "prod", "ownerReferences": [owner_reference(api.get(REF))]}}
    api.put(THING, owned)
    api.delete(REF)
    assert api.list(THING) == ()


def test_lists_filter_by_namespace_and_labels(api: FakeApi) -> None:
    api.put(THING, {"metadata": {"name": "b", "namespace": "dev", "labels": {"x": "y"}}})
    assert [obj["metadata"]["name"] for obj in api.list(THING)] == ["b", "a"]
    assert [obj["metadata"]["name"] for obj in api.list(THING, "prod")] == ["a"]
    assert [obj["metadata"]["name"] for obj in api.list(THING, label_selector="x=y")] == ["b"]


def test_unserved_and_forbidden_requests_are_refused(api: FakeApi) -> None:
    with pytest.raises(NotServedError):
        api.list(OTHER)
    api.refuse("list", THING)
    with pytest.raises(ForbiddenError, match="may not list things"):
        api.list(THING)
    api.get(REF)
