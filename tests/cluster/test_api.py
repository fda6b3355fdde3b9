"""The API's verbs against a real API server, for what fakes cannot prove."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from kubectl_yoshi.engine.apply import apply_plan
from kubectl_yoshi.engine.read import run_queries
from kubectl_yoshi.kube import client as api_module
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions
from kubectl_yoshi.kube.discovery import discover
from kubectl_yoshi.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotServedError,
    PatchTestFailedError,
    UnauthorizedError,
)
from kubectl_yoshi.model.jsonpatch import PatchBuilder
from kubectl_yoshi.model.objects import Json, ObjectRef, Resource, dig, name_of, resource_version_of, uid_of
from kubectl_yoshi.model.plan import Change, Plan, Verb
from kubectl_yoshi.model.snapshot import Query, Unreadable
from lab.testing import Cluster

MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
MACHINES = Resource("kubevirt.io", "v1", "virtualmachines", "VirtualMachine")

THEIRS = {"metadata": {"annotations": {"someone.else/odd": "{}"}}, "binaryData": {"raw": "AAA="}}


@pytest.fixture
def api(cluster: Cluster) -> Iterator[Api]:
    connection = Connection.open(ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context))
    yield Api(connection)
    connection.close()


@pytest.fixture
def ref(namespace: str) -> ObjectRef:
    return MAPS.ref("book", namespace)


@pytest.fixture
def book(api: Api, ref: ObjectRef) -> Json:
    return api.create(ref, map_named("book", title="I"))


def map_named(name: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def claim(api: Api, ref: ObjectRef, key: str, owner: str) -> str:
    """Writes a key if nobody has, as an address is recorded."""
    patch = PatchBuilder().test(("data", key), None).add(("data", key), owner)
    try:
        api.patch(ref, patch.ops)
    except PatchTestFailedError:
        return "TestFailed"
    return "done"


def test_concurrent_patches_of_one_key_let_exactly_one_writer_succeed(api: Api, ref: ObjectRef, book: Json) -> None:
    start = threading.Barrier(12)

    def write(number: int) -> str:
        start.wait()
        return claim(api, ref, "10.0.0.1", f"writer-{number}")

    with ThreadPoolExecutor(12) as pool:
        results = Counter(pool.map(write, range(12)))
    assert results == {"done": 1, "TestFailed": 11}
    assert dig(api.get(ref), "data", "10.0.0.1", default="").startswith("writer-")


def test_concurrent_patches_of_different_keys_all_succeed(api: Api, ref: ObjectRef, book: Json) -> None:
    with ThreadPoolExecutor(12) as pool:
        results = Counter(pool.map(lambda number: claim(api, ref, f"10.0.0.{number}", "x"), range(48)))
    assert results == {"done": 48}
    assert len(api.get(ref)["data"]) == 49


@pytest.mark.parametrize(
    "ops",
    [
        [{"op": "test", "path": "/data/title", "value": "II"}],
        [{"op": "test", "path": "/data/author", "value": "me"}],
        [{"op": "test", "path": "/metadata/uid", "value": "another"}],
        [{"op": "test", "path": "/no/such/path", "value": None}],
        [{"op": "remove", "path": "/data/author"}],
        [{"op": "add", "path": "/no/such/path", "value": 1}],
    ],
)
def test_patch_with_a_failed_test_raises_patch_test_failed(
    api: Api, ref: ObjectRef, book: Json, ops: list[Json]
) -> None:
    with pytest.raises(PatchTestFailedError):
        api.patch(ref, ops)
    assert api.get(ref) == book


@pytest.mark.parametrize(
    "ops",
    [
        [{"op": "add", "path": "/data/not~1a~1key", "value": "x"}],
        [{"op": "add", "path": "/metadata/labels", "value": {"a": "not a label!"}}],
        [{"op": "replace", "path": "/metadata/uid", "value": "another"}],
        [{"op": "add", "path": "/data", "value": [1, 2]}],
    ],
)
def test_invalid_patch_raises_invalid_error(api: Api, ref: ObjectRef, book: Json, ops: list[Json]) -> None:
    with pytest.raises(InvalidError) as caught:
        api.patch(ref, ops)
    assert len(str(caught.value).splitlines()) <= 5
    assert api.get(ref) == book


def test_patch_test_of_null_succeeds_for_a_missing_key(api: Api, ref: ObjectRef, book: Json) -> None:
    api.patch(ref, [{"op": "test", "path": "/data/author", "value": None}])


def test_create_violating_a_crd_schema_raises_invalid_error(api: Api, namespace: str) -> None:
    ref = MACHINES.ref("web", namespace)
    body = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"}, "spec": {}}
    with pytest.raises(InvalidError, match="template"):
        api.create(ref, body)


def test_patch_preserves_unknown_fields(api: Api, ref: ObjectRef, book: Json) -> None:
    original = api.patch(ref, THEIRS)
    patched = api.patch(ref, PatchBuilder().set_in(original, ("metadata", "annotations", "ours"), "1").ops)
    assert patched["metadata"]["annotations"] == {"someone.else/odd": "{}", "ours": "1"}
    assert (patched["data"], patched["binaryData"]) == (original["data"], original["binaryData"])


@pytest.mark.I6
def test_patch_does_not_overwrite_concurrent_changes(api: Api, ref: ObjectRef, book: Json) -> None:
    """I6: without its test of what was read, the patch would replace all annotations by its own."""
    theirs = api.patch(ref, THEIRS)
    with pytest.raises(PatchTestFailedError):
        api.patch(ref, PatchBuilder().set_in(book, ("metadata", "annotations", "ours"), "1").ops)
    assert api.get(ref) == theirs


def test_list_returns_all_pages(api: Api, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "PAGE_SIZE", 4)
    names = {f"m{number:02}" for number in range(10)}
    for name in names:
        api.create(MAPS.ref(name, namespace), map_named(name))
    found = api.list(MAPS, namespace)
    assert {name_of(obj) for obj in found} >= names
    assert len(found) == len({uid_of(obj) for obj in found})
    assert {(obj["apiVersion"], obj["kind"]) for obj in found} == {("v1", "ConfigMap")}
    assert api.list(MAPS, namespace, field_selector="metadata.name=m03")[0]["metadata"]["name"] == "m03"


def test_apply_creates_and_updates_and_preserves_foreign_fields(api: Api, ref: ObjectRef) -> None:
    made = api.apply(ref, map_named("book", title="I"))
    assert api.apply(ref, map_named("book", title="I")) == made
    api.patch(ref, {"data": {"author": "me"}})
    assert api.apply(ref, map_named("book", title="II"))["data"] == {"title": "II", "author": "me"}
    managers = {entry["manager"] for entry in dig(api.get(ref), "metadata", "managedFields")}
    assert managers == {"kubectl-yoshi"}


def test_apply_without_force_conflicts_with_another_field_manager(api: Api, ref: ObjectRef, cluster: Cluster) -> None:
    base = ("-n", ref.namespace or "", "create", "configmap", "book", "--from-literal=title=theirs")
    cluster.kubectl(*base)
    with pytest.raises(ConflictError, match="title"):
        api.apply(ref, map_named("book", title="ours"), force=False)
    assert api.apply(ref, map_named("book", title="ours"))["data"] == {"title": "ours"}


def test_delete_checks_its_preconditions(api: Api, ref: ObjectRef, book: Json) -> None:
    with pytest.raises(ConflictError):
        api.delete(ref, uid="another")
    changed = api.patch(ref, {"data": {"title": "II"}})
    with pytest.raises(ConflictError):
        api.delete(ref, uid=uid_of(book), resource_version=resource_version_of(book))
    api.delete(ref, uid=uid_of(book), resource_version=resource_version_of(changed), dry_run=True)
    api.get(ref)
    api.delete(ref, uid=uid_of(book), resource_version=resource_version_of(changed))
    with pytest.raises(NotFoundError):
        api.get(ref)


def test_replace_of_a_changed_object_is_a_conflict(api: Api, ref: ObjectRef, book: Json) -> None:
    api.replace(ref, {**book, "data": {"title": "II"}})
    with pytest.raises(ConflictError):
        api.replace(ref, {**book, "data": {"title": "III"}})


def test_dry_run_stores_nothing(api: Api, ref: ObjectRef) -> None:
    assert uid_of(api.create(ref, map_named("book", title="I"), dry_run=True))
    assert uid_of(api.apply(ref, map_named("book", title="I"), dry_run=True))
    with pytest.raises(NotFoundError):
        api.get(ref)
    book = api.create(ref, map_named("book", title="I"))
    api.patch(ref, {"data": {"title": "II"}}, dry_run=True)
    api.patch(ref, [{"op": "add", "path": "/data/title", "value": "II"}], dry_run=True)
    api.replace(ref, {**book, "data": {}}, dry_run=True)
    api.apply(ref, map_named("book", title="II"), dry_run=True)
    api.delete(ref, dry_run=True)
    api.delete(ref, uid=uid_of(book), dry_run=True)
    assert api.get(ref) == book


def test_create_and_get_errors_for_existing_and_missing_objects(api: Api, ref: ObjectRef, book: Json) -> None:
    with pytest.raises(AlreadyExistsError):
        api.create(ref, map_named("book"))
    with pytest.raises(NotFoundError, match="no namespace"):
        api.create(MAPS.ref("book", "no-such-namespace"), map_named("book"))
    with pytest.raises(NotServedError):
        api.list(Resource("no.such.group", "v1", "things", "Thing"))
    with pytest.raises(NotServedError):
        api.list(Resource("", "v1", "things", "Thing"))


def test_watch_continues_from_the_resource_version_of_a_list(api: Api, ref: ObjectRef) -> None:
    start = api.listing(MAPS, ref.namespace).resource_version
    api.create(ref, map_named("book", title="I"))
    api.patch(ref, {"data": {"title": "II"}})
    api.delete(ref)
    begun = time.monotonic()
    events = api.watch(MAPS, ref.namespace, resource_version=start, timeout_seconds=300)
    seen = []
    for kind, obj in events:
        if name_of(obj) == "book":
            seen.append((kind, dig(obj, "data", "title")))
            if kind == "DELETED":
                break
    events.close()  # type: ignore[attr-defined]
    assert seen == [("ADDED", "I"), ("MODIFIED", "II"), ("DELETED", "II")]
    assert time.monotonic() - begun < 200, "they came when the watch ended"


def test_watch_ends_after_its_timeout(api: Api, namespace: str) -> None:
    start = api.listing(MAPS, namespace).resource_version
    begun = time.monotonic()
    list(api.watch(MAPS, namespace, resource_version=start, timeout_seconds=1))
    assert time.monotonic() - begun < 200


def test_watch_from_an_old_resource_version_is_expired(api: Api) -> None:
    with pytest.raises(ExpiredError):
        list(api.watch(MACHINES, resource_version="1", timeout_seconds=5))


def test_api_warnings_are_reported_once(cluster: Cluster, ref: ObjectRef) -> None:
    said: list[str] = []
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
    api = Api(Connection.open(options), on_warning=said.append)
    for title in ("I", "II"):
        api.apply(ref, map_named("book", title=title))
        api.patch(ref, {"data": {"title": title}, "floor": 3})
    assert said == ['unknown field "floor"']


def test_forbidden_error_names_the_missing_permission(cluster: Cluster, namespace: str) -> None:
    options = ConnectionOptions(
        kubeconfig=str(cluster.kubeconfig), context=cluster.context, as_user="carl", as_groups=("guests",)
    )
    api = Api(Connection.open(options))
    with pytest.raises(ForbiddenError) as caught:
        api.list(MAPS, namespace)
    assert caught.value.message == f'User "carl" may not list configmaps in namespace {namespace}'
    query = Query(MAPS, namespace)
    answer = run_queries(api, [query])[query]
    assert isinstance(answer, Unreadable)
    assert answer.reason.startswith(f"may not list configmaps in namespace {namespace}")


def test_wrong_credentials_are_reported(cluster: Cluster) -> None:
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context, token="wrong")
    connection = Connection.open(options)
    if connection._loaded.configuration.cert_file:
        pytest.skip("this cluster's administrator has a certificate, which counts before a token")
    with pytest.raises(UnauthorizedError):
        Api(connection).list(NODES)


def test_discovery_matches_kubectl_api_resources(api: Api, cluster: Cluster) -> None:
    served = discover(api)
    listed = cluster.kubectl("api-resources", "-o", "name", "--cached=false").split()
    assert {name for name in listed if "." in name} <= set(served.resources), "every group but the core group"
    assert served.resources["virtualmachines.kubevirt.io"] == MACHINES
    assert MACHINES in served
    assert not served.resources["clusterroles.rbac.authorization.k8s.io"].namespaced


def test_plan_is_applied_as_dry_run_and_then_for_real(api: Api, namespace: str) -> None:
    made, other = MAPS.ref("made", namespace), MAPS.ref("other", namespace)
    patch = [{"op": "test", "path": "/data/title", "value": "I"}, {"op": "add", "path": "/data/n", "value": "1"}]
    plan = Plan(
        (
            (
                Change(Verb.CREATE, made, "make", map_named("made", title="I"), owner="a"),
                Change(Verb.PATCH, other, "patch what is not there", patch, owner="b"),
            ),
            (Change(Verb.PATCH, made, "patch", patch, owner="a"),),
            (Change(Verb.DELETE, made, "delete", owner="a", ignore_not_found=True),),
            (Change(Verb.WAIT, made, "wait", owner="a", wait_for="deleted"),),
        )
    )
    trial = apply_plan(plan, api, dry_run=True)
    assert [change.summary for change in trial.skipped] == ["patch"]
    assert not run_queries(api, [Query(MAPS, namespace, "made")])[Query(MAPS, namespace, "made")]
    outcome = apply_plan(plan, api)
    assert [change.summary for change, _ in outcome.executed] == ["make", "patch", "delete", "wait"]
    assert [type(error) for _, error in outcome.failed] == [NotFoundError]
