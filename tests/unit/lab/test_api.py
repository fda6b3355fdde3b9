"""The lab's own client: it keeps connections alive, and finds resources by what the server says that it serves."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from lab.api import Api, ApiError
from lab.pki import make_authority
from lab.profiles.core import admin_api, write_kubeconfig
from tests.unit.kube.fault_server import Behaviour, closes, refuses, says, serving

GROUPS = {
    "/api": [("", "v1", "services", "Service", ["svc"])],
    "/apis": [
        ("crd.projectcalico.org", "v1", "bgppeers", "BGPPeer", []),
        ("kubevirt.io", "v1", "virtualmachines", "VirtualMachine", ["vm", "vms"]),
        ("metallb.io", "v1beta2", "bgppeers", "BGPPeer", []),
    ],
}


class Server:
    """Answers by its behaviour; `clients` are the addresses that requests came from."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = says(200, {})
        self.clients: list[tuple[str, int]] = []

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.clients.append(handler.client_address)
        self.behaviour(handler)


def says_what_it_serves(handler: BaseHTTPRequestHandler) -> None:
    items = []
    for group, version, plural, kind, short in GROUPS[handler.path]:
        resource = {
            "resource": plural, "singularResource": kind.lower(), "shortNames": short,
            "responseKind": {"kind": kind}, "scope": "Namespaced",
        }  # fmt: skip
        items.append({"metadata": {"name": group}, "versions": [{"version": version, "resources": [resource]}]})
    says(200, {"items": items})(handler)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def api(server: Server, tmp_path: Path) -> Iterator[Api]:
    authority = make_authority(tmp_path, "ca")
    pair = authority.issue(tmp_path, "server", "server", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with serving(server.answer, context) as url:
        write_kubeconfig(tmp_path / "kubeconfig", authority, url.removeprefix("https://"), "secret")
        yield admin_api(tmp_path)


def test_sequential_requests_use_one_connection(api: Api, server: Server) -> None:
    for _ in range(3):
        assert api.get("/") == {}
    assert len({*server.clients}) == 1


def test_connection_closed_by_the_server_is_not_reused(api: Api, server: Server) -> None:
    server.behaviour = closes(says(200, {}))
    for _ in range(3):
        assert api.get("/") == {}
    assert len({*server.clients}) == 3


def test_refusal_has_its_status(api: Api, server: Server) -> None:
    server.behaviour = refuses(404, "NotFound", "it is not there")
    with pytest.raises(ApiError, match="404 it is not there") as refused:
        api.get("/it")
    assert refused.value.status == 404
    server.behaviour = says(200, {})
    assert api.get("/") == {}
    assert len({*server.clients}) == 1


def test_request_during_storage_initialization_is_retried(api: Api, server: Server) -> None:
    busy = refuses(429, "TooManyRequests", "storage is (re)initializing", Retry_After="0")
    answers = iter((busy, busy, says(200, {"it": 1})))
    server.behaviour = lambda handler: next(answers)(handler)
    assert api.get("/it") == {"it": 1}
    server.behaviour = busy
    with pytest.raises(ApiError, match="429 storage"):
        api.get("/it")


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("vm", "/apis/kubevirt.io/v1/namespaces/prod/virtualmachines"),
        ("VirtualMachine", "/apis/kubevirt.io/v1/namespaces/prod/virtualmachines"),
        ("bgppeers.metallb.io", "/apis/metallb.io/v1beta2/namespaces/prod/bgppeers"),
        ("svc", "/api/v1/namespaces/prod/services"),
    ],
)
def test_resource_is_found_by_kubectl_names(api: Api, server: Server, word: str, path: str) -> None:
    server.behaviour = says_what_it_serves
    assert api.find_resource(word).path("prod") == path
    assert api.find_kind("v1", "Service").path() == "/api/v1/services"
    assert len(server.clients) == 2, "it is asked once what it serves"
    with pytest.raises(Exception, match="serves no resource pods"):
        api.find_resource("pods")
    assert len(server.clients) == 4, "and again before it is given up"
