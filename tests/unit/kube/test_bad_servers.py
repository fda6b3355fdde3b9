"""Bad kubeconfigs and servers, by the whole command line: the message, and how soon it gives up.

kubeconfigs   broken, none, of another shape
servers       unreachable (soon given up), silent, of another kind, out of order

Time passes by waiting only, and a server that cannot be reached is given up after CONNECT_SECONDS; with real time, and
a cluster behind the server: tests/cluster/test_bad_servers.py.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubectl_yoshi.__main__ import run
from kubectl_yoshi.kube import connection
from kubectl_yoshi.kube.retry import Clock
from tests.cluster.bad_scene import check_message
from tests.cluster.harness import CommandResult
from tests.cluster.scripted_fault_proxy import blackhole_port, closed_port, deaf_port, write_kubeconfig
from tests.unit.kube.fault_server import Behaviour, cuts, cuts_within, fault_server, refuses, says

CONNECT_SECONDS = 0.3
LONGEST_SECONDS = 25.0
"""Within this an unreachable server is given up: half of it is for a busy machine, and an answer is waited for 30 s."""
LONGEST_BUSY_SECONDS = 60.0
"""Within this a server is given up that has too much to do and asks to wait."""

LIST = ("ips", "list")
CREATE = ("network", "create", "red", "--cidr", "10.98.0.0/24")
CHECK_URL = "Check the server's URL in the kubeconfig, and any proxy or VPN between."
HTML = "<html><head><title>Sign in to ACME</title></head><body>…</body></html>"

Yoshi = Callable[..., CommandResult]


@pytest.fixture
def yoshi(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Yoshi:
    """Runs the program in this process; its seconds are those that passed, and those that it believes it has slept."""
    slept: defaultdict[int, float] = defaultdict(float)  # by thread

    def all_slept() -> float:
        return max(slept.values(), default=0.0)

    def sleep(_: Clock, seconds: float) -> None:
        slept[threading.get_ident()] += seconds

    monkeypatch.setattr(Clock, "sleep", sleep)
    monkeypatch.setattr(Clock, "now", lambda _: time.monotonic() + all_slept())
    monkeypatch.setattr(connection, "CONNECT_SECONDS", CONNECT_SECONDS)

    def run_it(*words: str) -> CommandResult:
        start = time.monotonic()
        slept.clear()
        code = run(list(words), "kubectl yoshi")
        return CommandResult(words, code, *capsys.readouterr(), time.monotonic() - start + all_slept())

    return run_it


# -- kubeconfigs -----------------------------------------------------------------------------------------------------

CONTEXTS = "kind: Config\ncurrent-context: it\ncontexts: [{name: it, context: {cluster: c, user: u}}]\n"
CLUSTERS = "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"


@pytest.mark.parametrize(
    ("text", "trouble", "way_out"),
    [
        ("", "no kubeconfig: {file} does not exist or is empty", "Set KUBECONFIG, or give --kubeconfig FILE."),
        ("clusters: [", "cannot be read: while parsing", "kubectl config view"),
        ("\0", "cannot be read: ", "kubectl config view"),
        ("- 1\n- 2\n", "{file} is not a valid kubeconfig", "kubectl config view"),
        ("just words", "{file} is not a valid kubeconfig", "kubectl config view"),
        ("kind: Config\nclusters: 3\n", "{file} is not a valid kubeconfig", "kubectl config view"),
        ("kind: Config\n", "the kubeconfig has no current context", "kubectl config use-context NAME"),
        (CONTEXTS, 'the kubeconfig has no cluster "c"', "It has: none."),
        (
            CONTEXTS + "clusters: [{name: c, cluster: {server: 'https://x', certificate-authority: /none/ca.crt}}]\n",
            "/none/ca.crt",
            "kubectl config view",
        ),
        (
            CONTEXTS + "clusters: [{name: c, cluster: {server: 'ftp://x'}}]\n",
            '"ftp://x" is not a URL',
            "https://10.0.0.1:6443",
        ),
        (
            CONTEXTS + CLUSTERS + "users: [{name: u, user: {exec: "
            "{apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin}}}]\n",
            'credential plugin "no-such-plugin" is not installed',
            "Install no-such-plugin",
        ),
    ],
)
def test_invalid_kubeconfig_is_reported(yoshi: Yoshi, tmp_path: Path, text: str, trouble: str, way_out: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    ran = yoshi(f"--kubeconfig={file}", *LIST)
    check_message(ran, 1, trouble.replace("{file}", str(file)), way_out)


def test_missing_kubeconfig_is_reported(yoshi: Yoshi) -> None:
    check_message(
        yoshi("--kubeconfig=/none/config", *LIST),
        1,
        "kubeconfig file /none/config not found",
        "Check --kubeconfig.",
    )


# -- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "port", "trouble"),
    [
        ("https", closed_port, "Connection refused"),
        ("http", closed_port, "Connection refused"),
        ("https", blackhole_port, "no answer in time"),
        ("https", deaf_port, "did not answer in time"),
    ],
)
@pytest.mark.parametrize("words", [LIST, CREATE])
def test_unreachable_server_is_reported_within_the_timeout(
    yoshi: Yoshi, tmp_path: Path, scheme: str, port: Callable[[], Any], trouble: str, words: tuple[str, ...]
) -> None:
    with port() as number:
        server = f"{scheme}://127.0.0.1:{number}"
        ran = yoshi(f"--kubeconfig={write_kubeconfig(tmp_path / 'config', server)}", *words)
    check_message(ran, 1, server, trouble, "can be reached from here")
    assert ran.seconds < LONGEST_SECONDS


def test_silent_server_is_reported_after_the_request_timeout(yoshi: Yoshi, tmp_path: Path) -> None:
    with deaf_port() as port:
        file = write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{port}")
        ran = yoshi(f"--kubeconfig={file}", "--request-timeout=1s", *LIST)
    check_message(ran, 1, f"http://127.0.0.1:{port} did not answer in time", "--request-timeout=2m waits longer")
    assert 1 <= ran.seconds < LONGEST_SECONDS


@pytest.mark.parametrize(
    ("behaviour", "trouble", "way_out"),
    [
        (refuses(500, "InternalError", "etcd is on fire"), "HTTP 500: etcd is on fire", "again later"),
        (says(500, "oops"), "answered HTTP 500, which is not a response of a Kubernetes API server: oops", CHECK_URL),
        (says(502, "<html><title>502 Bad Gateway</title></html>"), "HTTP 502", CHECK_URL),
        (refuses(503, "ServiceUnavailable", "starting"), "HTTP 503: starting", "Run the same command again later"),
        (refuses(504, "Timeout", "too slow"), "too slow", "run the same command again"),
        (refuses(429, "TooManyRequests", "busy", Retry_After="1"), "is overloaded", "again later"),
        (refuses(429, "TooManyRequests", "busy", Retry_After="3600"), "is overloaded", "again later"),
        (refuses(401, "Unauthorized", "Unauthorized"), "does not accept these credentials", "Log in again"),
        (says(200, HTML), "not a response of a Kubernetes API server: Sign in to ACME", CHECK_URL),
        (says(403, HTML), "HTTP 403, which is not a response of a Kubernetes API server: Sign in to ACME", CHECK_URL),
        (says(302, "", Location="https://login.example/"), "HTTP 302, which is not a response of", CHECK_URL),
        (says(200, "\x01\x02\x03"), "not a response of a Kubernetes API server: no readable text", CHECK_URL),
        (says(200, [1, 2]), "not a response of a Kubernetes API server: [1, 2]", CHECK_URL),
        (says(200, {"hello": "world"}), "which is not a response of a Kubernetes API server", CHECK_URL),
        (says(200, ""), "which is not a response of a Kubernetes API server", CHECK_URL),
        (says(404, "404 page not found"), "does not serve /api", CHECK_URL),
        (cuts, "ended the connection before it had answered", "can be reached from here"),
        (cuts_within, "ended the connection before it had answered", "can be reached from here"),
    ],
    ids=[
        "500", "500-text", "502-html", "503", "504", "429", "429-for-an-hour", "401", "200-html", "403-html", "302",
        "garbage", "array", "other-json", "empty", "404", "cuts", "cuts-within",
    ],
)  # fmt: skip
@pytest.mark.parametrize("words", [LIST, CREATE], ids=["list", "create"])
def test_invalid_response_is_reported(
    yoshi: Yoshi, tmp_path: Path, behaviour: Behaviour, trouble: str, way_out: str, words: tuple[str, ...]
) -> None:
    with fault_server() as server:
        server.then(behaviour)
        ran = yoshi(f"--kubeconfig={write_kubeconfig(tmp_path / 'config', server.url)}", *words)
        assert {request.method for request in server.requests} == {"GET"}
    check_message(ran, 1, trouble, way_out)
    assert ran.seconds < (LONGEST_BUSY_SECONDS if "is overloaded" in ran.err else LONGEST_SECONDS)
