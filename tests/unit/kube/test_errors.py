"""HTTP responses and their errors. The texts of the server are a kube-apiserver 1.36's.

status  answer                                     error
------  -----------------------------------------  --------------
401     Unauthorized                               Unauthorized
403     RBAC                                       Forbidden
403     quota, a namespace that ends, a webhook    Invalid
404     of an object, of its namespace             NotFound
404     of the kind                                NotServedError
409     AlreadyExists / anything else              AlreadyExists / Conflict
410                                                Expired
422     a JSON Patch that does not fit             PatchTestFailedError
422     CEL, schema; any webhook                   Invalid
413, or 500 with the words of etcd                 Invalid
429                                                Busy
503     of an aggregated API                       ApiServiceUnavailableError
5xx, 3xx, HTML, plain text                         ServerError
"""

from __future__ import annotations

import json

import pytest

from kubectl_yoshi.kube import errors
from kubectl_yoshi.kube.errors import RequestInfo, error_from_response
from kubectl_yoshi.model.objects import Resource
from tests.unit.kube.fault_server import status_body

BLOCKS = Resource("projectcalico.org", "v3", "ipamblocks", "IPAMBlock", namespaced=False)
PODS = Resource("", "v1", "pods", "Pod")
POOLS = Resource("projectcalico.org", "v3", "ippools", "IPPool", namespaced=False)
SERVICES = Resource("", "v1", "services", "Service")
WIZARDS = Resource("plumber.k8s.pf9.io", "v1", "networkwizards", "NetworkWizard")
GET = RequestInfo("get", WIZARDS, "blue", "prod")
SERVER = "https://10.0.0.1:6443"
GENERIC = "the server rejected our request due to an error in our request"


def told(
    status: int, reason: str, message: str, details: dict | None = None, asked: RequestInfo = GET
) -> errors.ApiError:
    body = json.dumps(status_body(status, reason, message, details)).encode()
    return error_from_response(status, body, asked, SERVER)


@pytest.mark.parametrize(
    ("status", "reason", "message", "details", "kind"),
    [
        (401, "Unauthorized", "Unauthorized", {}, errors.UnauthorizedError),
        (404, "NotFound", 'networkwizards.plumber.k8s.pf9.io "blue" not found', {"name": "blue"}, errors.NotFoundError),
        (404, "NotFound", "the server could not find the requested resource", {}, errors.NotServedError),
        (404, "NotFound", 'namespaces "prod" not found', {"name": "prod", "kind": "namespaces"}, errors.NotFoundError),
        (409, "AlreadyExists", 'networkwizards "blue" already exists', {"name": "blue"}, errors.AlreadyExistsError),
        (409, "Conflict", "Operation cannot be fulfilled: the UID in the precondition", {}, errors.ConflictError),
        (410, "Expired", "too old resource version: 1 (205)", {}, errors.ExpiredError),
        (422, "Invalid", GENERIC, {}, errors.PatchTestFailedError),
        (
            422,
            "Invalid",
            'NetworkWizard "blue" is invalid: spec: cidr never changes',
            {"kind": "x"},
            errors.InvalidError,
        ),
        (422, "Invalid", f'admission webhook "x.y" denied the request: {GENERIC}', {}, errors.InvalidError),
        (403, "Forbidden", 'admission webhook "x.y" denied the request: no', {}, errors.InvalidError),
        (403, "Forbidden", 'networkwizards "blue" is forbidden: exceeded quota: q', {}, errors.InvalidError),
        (400, "BadRequest", "error decoding patch", {}, errors.InvalidError),
        (429, "TooManyRequests", "please try again later", {}, errors.TooManyRequestsError),
        (500, "InternalError", "etcd is on fire", {}, errors.ServerError),
        (504, "Timeout", "request did not complete within 30s", {}, errors.ServerError),
        (
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
            {},
            errors.ApiServiceUnavailableError,
        ),
    ],
)
def test_response_is_mapped_to_its_error_class(status, reason, message, details, kind) -> None:
    error = told(status, reason, message, details)
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"),
        (500, "", "etcdserver: request is too large"),
        (
            500,
            "",
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2391080 vs. 2097152)",
        ),
    ],
)
def test_too_large_object_is_an_invalid_error(status: int, reason: str, message: str) -> None:
    error = told(status, reason, message, asked=RequestInfo("patch", WIZARDS, "blue", "prod", "status"))
    assert type(error) is errors.InvalidError
    assert error.message == (
        f"cannot patch networkwizard/blue in namespace prod (status): the object would be too large ({message})"
    )
    assert error.hint == "etcd holds at most 1.5 MiB in one object: use another network for more addresses."


def test_too_large_request_refused_by_a_proxy_is_an_invalid_error() -> None:
    error = error_from_response(413, b"", RequestInfo("patch", WIZARDS, "blue", "prod"), SERVER)
    assert type(error) is errors.InvalidError
    assert "would be too large (HTTP 413)" in error.message


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html><title>Bad Gateway</title>" + b"<p>x" * 9000, b"\xff\xfe\x00" * 500])
def test_any_response_is_reported_in_at_most_five_lines(status: int, body: bytes) -> None:
    for asked in (GET, RequestInfo("list", POOLS), RequestInfo("get", path="/version")):
        text = str(error_from_response(status, body, asked, SERVER))
        assert len(text.splitlines()) <= 5
        assert len(text) < 900
        assert "<" not in text
        assert text.isprintable() or "\n" in text


def test_html_response_is_reported_by_its_title() -> None:
    error = error_from_response(502, b"<!DOCTYPE html><html><title>502 Bad\nGateway</title></html>", GET, SERVER)
    assert "502 Bad Gateway" in error.message
    assert SERVER in error.message
    assert "proxy" in error.hint


def test_long_webhook_message_is_truncated() -> None:
    error = told(422, "Invalid", 'admission webhook "x" denied the request: ' + "because\n" * 5000)
    assert len(error.message) < 450


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("address 10.0.0.5 (VM a/web): to change this requires permission", "kubectl yoshi ips show 10.0.0.5"),
        ("address fd00::5 (VM a/web) and 2 more: to change this", "kubectl yoshi ips show fd00::5"),
        ("status.created: to change this requires permission", "kubectl yoshi policy status"),
    ],
)
def test_denial_by_a_policy_names_the_address_and_the_command_that_shows_it(reason: str, hint: str) -> None:
    for status, name in ((403, "Forbidden"), (422, "Invalid")):
        message = (
            'networkwizards.plumber.k8s.pf9.io "blue" is forbidden: '
            f"ValidatingAdmissionPolicy 'yoshi-allocations' with binding 'yoshi-allocations' denied request: {reason}"
        )
        error = told(status, name, message, asked=RequestInfo("patch", WIZARDS, "blue", "prod", "status"))
        assert isinstance(error, errors.PolicyDeniedError)
        assert error.message.endswith(f"(status): {reason} (policy yoshi-allocations)")
        assert error.hint == f"Look at it with: {hint}"


def test_forbidden_names_user_verb_resource_and_namespace() -> None:
    message = (
        'networkwizards.plumber.k8s.pf9.io is forbidden: User "bob" cannot list resource "networkwizards" in API group '
        '"plumber.k8s.pf9.io" in the namespace "prod"'
    )
    error = told(403, "Forbidden", message, asked=RequestInfo("list", WIZARDS, namespace="prod"))
    assert isinstance(error, errors.ForbiddenError)
    assert error.message == 'User "bob" may not list networkwizards.plumber.k8s.pf9.io in namespace prod'
    assert error.missing_permission == "may not list networkwizards.plumber.k8s.pf9.io in namespace prod"
    assert "the ClusterRole yoshi-user (or yoshi-admin) grants it" in error.hint


@pytest.mark.parametrize(
    ("asked", "who"),
    [
        (RequestInfo("update", BLOCKS, "10-133-0-0-26"), "; the ClusterRole yoshi-admin grants it."),
        (RequestInfo("list", BLOCKS), "; the ClusterRole yoshi-user (or yoshi-admin) grants it."),
        (RequestInfo("patch", SERVICES, "web", "prod"), "; the ClusterRole yoshi-user (or yoshi-admin) grants it."),
        (RequestInfo("patch", SERVICES, "web", "prod", "status"), "; the ClusterRole yoshi-admin grants it."),
        (RequestInfo("delete", PODS, "web", "prod"), "delete pods in namespace prod."),
    ],
)
def test_forbidden_names_the_least_role_with_the_permission(asked: RequestInfo, who: str) -> None:
    assert told(403, "Forbidden", 'User "bob" cannot do it', asked=asked).hint.endswith(who)


def test_forbidden_names_subresources_and_cluster_scoped_resources() -> None:
    assert RequestInfo("patch", WIZARDS, "b", "prod", "status").permission == (
        "patch networkwizards/status.plumber.k8s.pf9.io in namespace prod"
    )
    assert RequestInfo("list", POOLS).permission == "list ippools.projectcalico.org"
    assert RequestInfo("list", WIZARDS).permission == "list networkwizards.plumber.k8s.pf9.io in all namespaces"


def test_missing_yoshi_crd_suggests_install() -> None:
    error = error_from_response(404, b"404 page not found\n", RequestInfo("list", WIZARDS), SERVER)
    assert isinstance(error, errors.NotServedError)
    assert "kubectl yoshi install" in error.hint


def test_missing_namespace_is_named_instead_of_the_object() -> None:
    details = {"name": "prod", "kind": "namespaces"}
    error = told(
        404, "NotFound", 'namespaces "prod" not found', details, RequestInfo("create", WIZARDS, "blue", "prod")
    )
    assert error.message == "cannot create networkwizard/blue in namespace prod: there is no namespace prod"


def test_unavailable_aggregated_api_is_named_by_its_apiservice() -> None:
    error = error_from_response(503, b"service unavailable", RequestInfo("list", POOLS), SERVER)
    assert isinstance(error, errors.ApiServiceUnavailableError)
    assert "v3.projectcalico.org" in error.hint


def test_http_request_to_an_https_server_is_reported_as_a_wrong_url() -> None:
    error = error_from_response(
        400, b"Client sent an HTTP request to an HTTPS server.\n", RequestInfo("get", path="/version"), SERVER
    )
    assert isinstance(error, errors.ServerError)
    assert "kubeconfig" in error.hint
