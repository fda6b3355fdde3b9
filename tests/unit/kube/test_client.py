"""The requests of each verb, and how lists and watches continue."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from kubectl_yoshi.kube import request_log
from kubectl_yoshi.kube.client import Api
from kubectl_yoshi.kube.errors import ExpiredError, ServerError, UnreachableError
from kubectl_yoshi.model.errors import UsageError
from kubectl_yoshi.model.objects import Resource
from tests.unit.kube.fault_server import FaultServer, cuts, refuses, says, status_body, streams

THINGS = Resource("try.example", "v1", "things", "Thing")
THING = THINGS.ref("a", "prod")
CALLS = Resource("subresources.kubevirt.io", "v1", "virtualmachines", "VirtualMachine")
BODY = {"apiVersion": "try.example/v1", "kind": "Thing", "metadata": {"name": "a"}}
OPS = [{"op": "add", "path": "/x", "value": 1}]


def item(name: str) -> dict:
    return {"metadata": {"name": name, "namespace": "prod"}}


def page(*names: str, more: str = "", version: str = "7") -> dict:
    return {
        "kind": "ThingList",
        "metadata": {"resourceVersion": version, "continue": more},
        "items": [item(name) for name in names],
    }


def names(objects: object) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "arguments", "options", "verb", "path", "content_type", "query"),
    [
        ("create", (THING, BODY), {}, "POST", "", "application/json", {}),
        ("patch", (THING, OPS), {}, "PATCH", "/a", "application/json-patch+json", {}),
        ("patch", (THING, BODY), {"subresource": "status"}, "PATCH", "/a/status", "application/merge-patch+json", {}),
        ("replace", (THING, BODY), {}, "PUT", "/a", "application/json", {}),
        ("apply", (THING, BODY), {}, "PATCH", "/a", "application/apply-patch+yaml", {"force": ["true"]}),
        ("apply", (THING, BODY), {"force": False}, "PATCH", "/a", "application/apply-patch+yaml", {}),
    ],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_write_has_field_manager_and_dry_run_parameters(
    api: Api, server: FaultServer, method, arguments, options, verb, path, content_type, query, dry_run
) -> None:
    server.then(says(200, BODY))
    assert getattr(api, method)(*arguments, **options, dry_run=dry_run) == BODY
    request = server.requests[0]
    url = urlsplit(request.path)
    assert (request.method, url.path) == (verb, f"/apis/try.example/v1/namespaces/prod/things{path}")
    trial = {"dryRun": ["All"]} if dry_run else {}
    assert parse_qs(url.query) == {"fieldManager": ["kubectl-yoshi"], **query, **trial}
    assert request.headers["Content-Type"] == content_type
    assert request.body == arguments[1]


def test_delete_sends_its_preconditions(api: Api, server: FaultServer) -> None:
    server.then(says(200, {}))
    api.delete(THING, uid="u", resource_version="5", dry_run=True)
    assert server.requests[0].body["dryRun"] == ["All"]
    assert server.requests[0].body["preconditions"] == {"uid": "u", "resourceVersion": "5"}
    assert server.requests[0].body["propagationPolicy"] == "Background"


def test_subresource_call_sends_dry_run_in_its_body(api: Api, server: FaultServer) -> None:
    server.then(says(202))
    api.call(CALLS.ref("web", "prod"), "restart", {"gracePeriodSeconds": 3}, dry_run=True)
    request = server.requests[0]
    assert request.method == "PUT"
    assert request.path == "/apis/subresources.kubevirt.io/v1/namespaces/prod/virtualmachines/web/restart?dryRun=All"
    assert request.body == {"gracePeriodSeconds": 3, "dryRun": ["All"]}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../secrets/x", "a%2fb"])
def test_invalid_name_is_never_sent(api: Api, server: FaultServer, name: str) -> None:
    with pytest.raises(UsageError):
        api.get(THINGS.ref(name, "prod"))
    if name:
        with pytest.raises(UsageError):
            api.list(THINGS, name)
    assert not server.requests


def test_special_characters_in_names_are_escaped(api: Api, server: FaultServer) -> None:
    server.then(says(200, {}))
    roles = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
    api.get(roles.ref("system:x y?"))
    assert server.requests[0].path.endswith("/clusterroles/system:x%20y%3F")


def test_list_reads_pages_and_completes_its_items(api: Api, server: FaultServer) -> None:
    server.then(says(200, page("a", "b", more="next/1")), says(200, page("c")))
    listing = api.listing(THINGS, "prod", label_selector="x in (1,2)")
    assert names(listing.items) == ["a", "b", "c"]
    assert listing.resource_version == "7"
    assert {(obj["apiVersion"], obj["kind"]) for obj in listing.items} == {("try.example/v1", "Thing")}
    queries = [parse_qs(urlsplit(request.path).query) for request in server.requests]
    assert queries[0] == {"limit": ["500"], "labelSelector": ["x in (1,2)"]}
    assert queries[1] == {**queries[0], "continue": ["next/1"]}


def test_list_expired_between_pages_is_restarted(api: Api, server: FaultServer) -> None:
    server.then(
        says(200, page("a", "gone", more="next")),
        refuses(410, "Expired", "The provided continue parameter is too old"),
        says(200, page("a", "b", version="9")),
    )
    listing = api.listing(THINGS)
    assert names(listing.items) == ["a", "b"]
    assert listing.resource_version == "9"
    assert "limit" not in server.requests[-1].path


def test_list_that_always_expires_is_an_error(api: Api, server: FaultServer) -> None:
    server.then(refuses(410, "Expired", "too old"))
    with pytest.raises(ExpiredError):
        api.list(THINGS)


def test_response_that_is_no_list_is_an_error(api: Api, server: FaultServer) -> None:
    server.then(says(200, {"login": "here"}))
    with pytest.raises(ServerError):
        api.list(THINGS)


def test_list_without_items_is_empty(api: Api, server: FaultServer) -> None:
    server.then(says(200, {"kind": "ThingList", "metadata": {}, "items": None}))
    assert api.list(THINGS) == ()


def test_watch_yields_events_until_the_server_ends_it(api: Api, server: FaultServer) -> None:
    events = [{"type": "ADDED", "object": item("a")}, {"type": "BOOKMARK", "object": item("")}]
    server.then(streams(*events))
    got = list(api.watch(THINGS, "prod", resource_version="5", timeout_seconds=9))
    assert got == [(event["type"], event["object"]) for event in events]
    query = parse_qs(urlsplit(server.requests[0].path).query)
    assert query == {
        "watch": ["true"],
        "allowWatchBookmarks": ["true"],
        "resourceVersion": ["5"],
        "timeoutSeconds": ["9"],
    }


@pytest.mark.parametrize(
    "fault",
    [
        refuses(410, "Expired", "too old resource version"),
        streams({"type": "ERROR", "object": status_body(410, "Expired", "too old resource version: 1 (205)")}),
    ],
)
def test_watch_from_an_old_resource_version_is_expired(api: Api, server: FaultServer, fault) -> None:
    server.then(fault)
    with pytest.raises(ExpiredError):
        list(api.watch(THINGS))


def test_interrupted_watch_yields_its_events_and_raises(api: Api, server: FaultServer) -> None:
    server.then(streams({"type": "ADDED", "object": item("a")}, then=cuts))
    got = []
    with pytest.raises(UnreachableError):
        for event in api.watch(THINGS):
            got.append(event)  # noqa: PERF402
    assert [kind for kind, _ in got] == ["ADDED"]


def test_watch_with_invalid_data_is_an_error(api: Api, server: FaultServer) -> None:
    server.then(streams("<html>"))
    with pytest.raises(ServerError):
        list(api.watch(THINGS))


def test_error_of_the_event_consumer_is_not_converted(api: Api, server: FaultServer) -> None:
    server.then(streams({"type": "ADDED", "object": item("a")}))
    with pytest.raises(OSError, match="mine"):
        for _ in api.watch(THINGS):
            raise OSError("mine")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    text = io.StringIO()
    yield text
    for handler in list(request_log.logger.handlers):
        request_log.logger.removeHandler(handler)
    request_log.logger.setLevel(logging.NOTSET)
    request_log.logger.propagate = True


@pytest.mark.parametrize(
    ("verbosity", "line", "headers", "body", "whole"),
    [
        (5, False, False, False, False),
        (6, True, False, False, False),
        (7, True, True, False, False),
        (8, True, True, True, False),
        (9, True, True, True, True),
    ],
)
def test_request_log_grows_with_verbosity(
    api: Api, server: FaultServer, log: io.StringIO, verbosity, line, headers, body, whole
) -> None:
    request_log.enable_request_log(verbosity, log)
    server.then(says(200, {"first": 1, "pad": "x" * 3000, "last": 2}, Set_Cookie="session"))
    api.raw("/version")
    text = log.getvalue()
    shown = (f"GET {server.url}/version 200 in" in text, "User-Agent:" in text, '"first"' in text, '"last"' in text)
    assert shown == (line, headers, body, whole)
    assert "session" not in text


def test_request_log_has_no_credentials_and_secrets(api: Api, server: FaultServer, log: io.StringIO) -> None:
    request_log.enable_request_log(9, log)
    server.then(says(200, {"data": {"password": "aGlkZGVu"}}))
    api.connection._loaded.configuration.api_key["authorization"] = "Bearer hidden"
    secret = Resource("", "v1", "secrets", "Secret").ref("s", "prod")
    api.get(secret)
    api.patch(secret, {"stringData": {"password": "hidden"}})
    assert server.requests[0].headers["Authorization"] == "Bearer hidden"
    assert "hidden" not in log.getvalue()
    assert "aGlkZGVu" not in log.getvalue()
    assert "bytes masked" in log.getvalue()


def test_request_log_has_unanswered_requests(api: Api, server: FaultServer, log: io.StringIO) -> None:
    request_log.enable_request_log(6, log)
    server.then(cuts)
    with pytest.raises(UnreachableError):
        api.raw("/version")
    assert log.getvalue().count(" failed in ") == 2
