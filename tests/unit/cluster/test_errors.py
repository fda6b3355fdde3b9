"""HTTP answers and the errors they become. The texts of the server are a kube-apiserver 1.36's.

status  answer                                     error
------  -----------------------------------------  --------------
401     Unauthorized                               Unauthorized
403     RBAC                                       Forbidden
403     quota, a namespace that ends, a webhook    Invalid
404     of an object, of its namespace             NotFound
404     of the kind                                NotServed
409     AlreadyExists / anything else              AlreadyExists / Conflict
410                                                Expired
422     a JSON Patch that does not fit             TestFailed
422     CEL, schema; any webhook                   Invalid
429                                                Busy
503     of an aggregated API                       NotAnswering
5xx, 3xx, HTML, plain text                         ServerError
"""

from __future__ import annotations

import json

import pytest

from kubectl_yoshi.cluster import errors
from kubectl_yoshi.cluster.errors import Asked, error_of
from kubectl_yoshi.model.objects import Resource
from tests.unit.cluster.fault_server import status_body

BLOCKS = Resource("projectcalico.org", "v3", "ipamblocks", "IPAMBlock", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
POOLS = Resource("projectcalico.org", "v3", "ippools", "IPPool", namespaced=False)
SERVICES = Resource("", "v1", "services", "Service")
WIZARDS = Resource("plumber.k8s.pf9.io", "v1", "networkwizards", "NetworkWizard")
GET = Asked("get", WIZARDS, "blue", "prod")
SERVER = "https://10.0.0.1:6443"
GENERIC = "the server rejected our request due to an error in our request"


def told(status: int, reason: str, message: str, details: dict | None = None, asked: Asked = GET) -> errors.ApiError:
    body = json.dumps(status_body(status, reason, message, details)).encode()
    return error_of(status, body, asked, SERVER)


@pytest.mark.parametrize(
    ("status", "reason", "message", "details", "kind"),
    [
        (401, "Unauthorized", "Unauthorized", {}, errors.Unauthorized),
        (404, "NotFound", 'networkwizards.plumber.k8s.pf9.io "blue" not found', {"name": "blue"}, errors.NotFound),
        (404, "NotFound", "the server could not find the requested resource", {}, errors.NotServed),
        (404, "NotFound", 'namespaces "prod" not found', {"name": "prod", "kind": "namespaces"}, errors.NotFound),
        (409, "AlreadyExists", 'networkwizards "blue" already exists', {"name": "blue"}, errors.AlreadyExists),
        (409, "Conflict", "Operation cannot be fulfilled: the UID in the precondition", {}, errors.Conflict),
        (410, "Expired", "too old resource version: 1 (205)", {}, errors.Expired),
        (422, "Invalid", GENERIC, {}, errors.TestFailed),
        (422, "Invalid", 'NetworkWizard "blue" is invalid: spec: cidr never changes', {"kind": "x"}, errors.Invalid),
        (422, "Invalid", f'admission webhook "x.y" denied the request: {GENERIC}', {}, errors.Invalid),
        (403, "Forbidden", 'admission webhook "x.y" denied the request: no', {}, errors.Invalid),
        (403, "Forbidden", 'networkwizards "blue" is forbidden: exceeded quota: q', {}, errors.Invalid),
        (400, "BadRequest", "error decoding patch", {}, errors.Invalid),
        (429, "TooManyRequests", "please try again later", {}, errors.Busy),
        (500, "InternalError", "etcd is on fire", {}, errors.ServerError),
        (504, "Timeout", "request did not complete within 30s", {}, errors.ServerError),
        (503, "ServiceUnavailable", "the server is currently unable to handle the request", {}, errors.NotAnswering),
    ],
)
def test_an_answer_becomes_the_error_of_its_meaning(status, reason, message, details, kind) -> None:
    error = told(status, reason, message, details)
    assert type(error) is kind
    assert (error.status, error.reason, error.ref) == (status, reason, GET.ref)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html><title>Bad Gateway</title>" + b"<p>x" * 9000, b"\xff\xfe\x00" * 500])
def test_any_answer_is_told_in_five_short_lines_at_most(status: int, body: bytes) -> None:
    for asked in (GET, Asked("list", POOLS), Asked("get", path="/version")):
        text = str(error_of(status, body, asked, SERVER))
        assert len(text.splitlines()) <= 5
        assert len(text) < 900
        assert "<" not in text
        assert text.isprintable() or "\n" in text


def test_a_web_page_is_told_by_its_title() -> None:
    error = error_of(502, b"<!DOCTYPE html><html><title>502 Bad\nGateway</title></html>", GET, SERVER)
    assert "502 Bad Gateway" in error.message
    assert SERVER in error.message
    assert "proxy" in error.way_out


def test_a_pages_long_webhook_text_is_cut() -> None:
    error = told(422, "Invalid", 'admission webhook "x" denied the request: ' + "because\n" * 5000)
    assert len(error.message) < 450


def test_forbidden_names_user_verb_resource_namespace_and_who_can_help() -> None:
    message = (
        'networkwizards.plumber.k8s.pf9.io is forbidden: User "bob" cannot list resource "networkwizards" in API group '
        '"plumber.k8s.pf9.io" in the namespace "prod"'
    )
    error = told(403, "Forbidden", message, asked=Asked("list", WIZARDS, namespace="prod"))
    assert isinstance(error, errors.Forbidden)
    assert error.message == 'User "bob" may not list networkwizards.plumber.k8s.pf9.io in namespace prod.'
    assert error.missing == "may not list networkwizards.plumber.k8s.pf9.io in namespace prod"
    assert "the ClusterRole yoshi-user (or yoshi-admin) holds it" in error.way_out


@pytest.mark.parametrize(
    ("asked", "who"),
    [
        (Asked("update", BLOCKS, "10-133-0-0-26"), "; the ClusterRole yoshi-admin holds it."),
        (Asked("list", BLOCKS), "; the ClusterRole yoshi-user (or yoshi-admin) holds it."),
        (Asked("patch", SERVICES, "web", "prod"), "; the ClusterRole yoshi-user (or yoshi-admin) holds it."),
        (Asked("patch", SERVICES, "web", "prod", "status"), "; the ClusterRole yoshi-admin holds it."),
        (Asked("delete", PODS, "web", "prod"), "delete pods in namespace prod."),
    ],
)
def test_forbidden_names_the_least_role_that_holds_the_right(asked: Asked, who: str) -> None:
    assert told(403, "Forbidden", 'User "bob" cannot do it', asked=asked).way_out.endswith(who)


def test_forbidden_names_the_subresource_and_a_cluster_wide_resource_without_namespace() -> None:
    assert Asked("patch", WIZARDS, "b", "prod", "status").right == (
        "patch networkwizards/status.plumber.k8s.pf9.io in namespace prod"
    )
    assert Asked("list", POOLS).right == "list ippools.projectcalico.org"
    assert Asked("list", WIZARDS).right == "list networkwizards.plumber.k8s.pf9.io in all namespaces"


def test_a_missing_crd_of_ours_says_how_to_install_it() -> None:
    error = error_of(404, b"404 page not found\n", Asked("list", WIZARDS), SERVER)
    assert isinstance(error, errors.NotServed)
    assert "kubectl yoshi install" in error.way_out


def test_a_missing_namespace_is_named_and_not_the_object() -> None:
    details = {"name": "prod", "kind": "namespaces"}
    error = told(404, "NotFound", 'namespaces "prod" not found', details, Asked("create", WIZARDS, "blue", "prod"))
    assert error.message == "Cannot create networkwizard/blue in namespace prod: there is no namespace prod."


def test_an_aggregated_api_that_does_not_answer_is_named_by_its_apiservice() -> None:
    error = error_of(503, b"service unavailable", Asked("list", POOLS), SERVER)
    assert isinstance(error, errors.NotAnswering)
    assert "v3.projectcalico.org" in error.way_out


def test_http_to_an_https_server_is_a_wrong_url_and_no_wrong_request() -> None:
    error = error_of(400, b"Client sent an HTTP request to an HTTPS server.\n", Asked("get", path="/version"), SERVER)
    assert isinstance(error, errors.ServerError)
    assert "kubeconfig" in error.way_out
