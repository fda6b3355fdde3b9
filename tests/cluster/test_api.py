"""The API's verbs against a real API server: what fakes cannot vouch for."""

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


def test_of_many_writers_of_one_key_exactly_one_succeeds(api: Api, ref: ObjectRef, book: Json) -> None:
    start = threading.Barrier(12)

    def write(number: int) -> str:
        start.wait()
        return claim(api, ref, "10.0.0.1", f"writer-{number}")

    with ThreadPoolExecutor(12) as pool:
        results = Counter(pool.map(write, range(12)))
    assert results == {"done": 1, "TestFailed": 11}
    assert dig(api.get(ref), "data", "10.0.0.1", default="").startswith("writer-")


def test_writers_of_different_keys_never_hinder_each_other(api: Api, ref: ObjectRef, book: Json) -> None:
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
def test_a_patch_that_does_not_fit_is_told_from_one_that_is_refused(
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
def test_a_patch_that_is_refused_is_invalid_and_not_out_of_date(
    api: Api, ref: ObjectRef, book: Json, ops: list[Json]
) -> None:
    with pytest.raises(InvalidError) as caught:
        api.patch(ref, ops)
    assert len(str(caught.value).splitlines()) <= 5
    assert api.get(ref) == book


def test_a_test_of_null_holds_where_the_key_is_missing(api: Api, ref: ObjectRef, book: Json) -> None:
    api.patch(ref, [{"op": "test", "path": "/data/author", "value": None}])


def test_a_custom_resources_own_rules_are_told_as_invalid(api: Api, namespace: str) -> None:
    ref = MACHINES.ref("web", namespace)
    body = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web"}, "spec": {}}
    with pytest.raises(InvalidError, match="template"):
        api.create(ref, body)


def test_what_this_program_does_not_know_survives_its_patch(api: Api, ref: ObjectRef, book: Json) -> None:
    original = api.patch(ref, THEIRS)
    patched = api.patch(ref, PatchBuilder().set_in(original, ("metadata", "annotations", "ours"), "1").ops)
    assert patched["metadata"]["annotations"] == {"someone.else/odd": "{}", "ours": "1"}
    assert (patched["data"], patched["binaryData"]) == (original["data"], original["binaryData"])


@pytest.mark.I6
def test_what_somebody_else_wrote_meanwhile_is_not_overwritten(api: Api, ref: ObjectRef, book: Json) -> None:
    """I6: without its test of what was read, the patch would replace all annotations by its own."""
    theirs = api.patch(ref, THEIRS)
    with pytest.raises(PatchTestFailedError):
        api.patch(ref, PatchBuilder().set_in(book, ("metadata", "annotations", "ours"), "1").ops)
    assert api.get(ref) == theirs


def test_a_list_is_whole_however_many_pages_it_has(api: Api, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "PAGE_SIZE", 4)
    names = {f"m{number:02}" for number in range(10)}
    for name in names:
        api.create(MAPS.ref(name, namespace), map_named(name))
    found = api.list(MAPS, namespace)
    assert {name_of(obj) for obj in found} >= names
    assert len(found) == len({uid_of(obj) for obj in found})
    assert {(obj["apiVersion"], obj["kind"]) for obj in found} == {("v1", "ConfigMap")}
    assert api.list(MAPS, namespace, field_selector="metadata.name=m03")[0]["metadata"]["name"] == "m03"


def test_apply_makes_and_changes_and_minds_others_fields(api: Api, ref: ObjectRef) -> None:
    made = api.apply(ref, map_named("book", title="I"))
    assert api.apply(ref, map_named("book", title="I")) == made
    api.patch(ref, {"data": {"author": "me"}})
    assert api.apply(ref, map_named("book", title="II"))["data"] == {"title": "II", "author": "me"}
    managers = {entry["manager"] for entry in dig(api.get(ref), "metadata", "managedFields")}
    assert managers == {"kubectl-yoshi"}


def test_apply_without_force_respects_another_manager(api: Api, ref: ObjectRef, cluster: Cluster) -> None:
    base = ("-n", ref.namespace or "", "create", "configmap", "book", "--from-literal=title=theirs")
    cluster.kubectl(*base)
    with pytest.raises(ConflictError, match="title"):
        api.apply(ref, map_named("book", title="ours"), force=False)
    assert api.apply(ref, map_named("book", title="ours"))["data"] == {"title": "ours"}


def test_a_deletion_minds_its_preconditions(api: Api, ref: ObjectRef, book: Json) -> None:
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


def test_replacing_what_has_changed_is_a_conflict(api: Api, ref: ObjectRef, book: Json) -> None:
    api.replace(ref, {**book, "data": {"title": "II"}})
    with pytest.raises(ConflictError):
        api.replace(ref, {**book, "data": {"title": "III"}})


def test_a_dry_run_keeps_nothing(api: Api, ref: ObjectRef) -> None:
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


def test_what_is_there_already_and_what_is_nowhere(api: Api, ref: ObjectRef, book: Json) -> None:
    with pytest.raises(AlreadyExistsError):
        api.create(ref, map_named("book"))
    with pytest.raises(NotFoundError, match="no namespace"):
        api.create(MAPS.ref("book", "no-such-namespace"), map_named("book"))
    with pytest.raises(NotServedError):
        api.list(Resource("no.such.group", "v1", "things", "Thing"))
    with pytest.raises(NotServedError):
        api.list(Resource("", "v1", "things", "Thing"))


def test_a_watch_goes_on_where_a_list_ended(api: Api, ref: ObjectRef) -> None:
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


def test_a_watch_ends_after_its_time(api: Api, namespace: str) -> None:
    start = api.listing(MAPS, namespace).resource_version
    begun = time.monotonic()
    list(api.watch(MAPS, namespace, resource_version=start, timeout_seconds=1))
    assert time.monotonic() - begun < 200


def test_a_watch_from_long_ago_is_expired(api: Api) -> None:
    with pytest.raises(ExpiredError):
        list(api.watch(MACHINES, resource_version="1", timeout_seconds=5))


def test_deprecated_and_unknown_are_told_once(cluster: Cluster, ref: ObjectRef) -> None:
    said: list[str] = []
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context)
    api = Api(Connection.open(options), on_warning=said.append)
    for title in ("I", "II"):
        api.apply(ref, map_named("book", title=title))
        api.patch(ref, {"data": {"title": title}, "shelf": 3})
    assert said == ['unknown field "shelf"']


def test_a_stranger_is_told_which_right_is_missing(cluster: Cluster, namespace: str) -> None:
    options = ConnectionOptions(
        kubeconfig=str(cluster.kubeconfig), context=cluster.context, as_user="carl", as_groups=("guests",)
    )
    api = Api(Connection.open(options))
    with pytest.raises(ForbiddenError) as caught:
        api.list(MAPS, namespace)
    assert caught.value.message == f'User "carl" may not list configmaps in namespace {namespace}'
    wish = Query(MAPS, namespace)
    answer = run_queries(api, [wish])[wish]
    assert isinstance(answer, Unreadable)
    assert answer.reason.startswith(f"may not list configmaps in namespace {namespace}")


def test_wrong_credentials_are_told(cluster: Cluster) -> None:
    options = ConnectionOptions(kubeconfig=str(cluster.kubeconfig), context=cluster.context, token="wrong")
    connection = Connection.open(options)
    if connection._loaded.configuration.cert_file:
        pytest.skip("this cluster's administrator has a certificate, which counts before a token")
    with pytest.raises(UnauthorizedError):
        Api(connection).list(NODES)


def test_discovery_agrees_with_kubectl(api: Api, cluster: Cluster) -> None:
    served = discover(api)
    listed = cluster.kubectl("api-resources", "-o", "name", "--cached=false").split()
    assert {name for name in listed if "." in name} <= set(served.resources), "every group but the core group"
    assert served.resources["virtualmachines.kubevirt.io"] == MACHINES
    assert MACHINES in served
    assert not served.resources["clusterroles.rbac.authorization.k8s.io"].namespaced


def test_a_plan_is_tried_and_then_done(api: Api, namespace: str) -> None:
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
