"""Every way to configure server and user, on the real API server, each as a process of its own.

files         KUBECONFIG with several, each with a part; flags before and after the subcommand, in the place of a file
who           client certificates, tokens, token files, credential plugins; --as and --as-group
how           a proxy, by the file and by the environment; a pod's service account
what is shown -v, with the credentials cut out
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from lab.profiles.core import CLIENT_USER
from lab.testing import Cluster
from tests.cluster.harness import ROOT, wait_for_role


@dataclass(frozen=True)
class Access:
    """A way in, part by part.

    Attributes:
        server: the API server's URL.
        folder: with ca.crt, client.crt and client.key.
        namespace: a namespace of the test's own, in which the service account `reader` may read everything of ours.
        token: the service account's.
        admin: the administrator's token.
    """

    server: str
    folder: Path
    namespace: str
    token: str
    admin: str

    def flags(self, *names: str) -> list[str]:
        """kubectl's flags of that name."""
        values = {
            "server": self.server,
            "certificate-authority": self.folder / "ca.crt",
            "client-certificate": self.folder / "client.crt",
            "client-key": self.folder / "client.key",
            "token": self.token,
        }
        return [f"--{name}={values[name]}" for name in names]

    def cluster(self, **more: str) -> dict[str, Any]:
        return {"name": "c", "cluster": {"server": self.server, "certificate-authority": "ca.crt", **more}}

    def write(self, name: str, **parts: Any) -> Path:
        """A kubeconfig with these parts only."""
        (self.folder / name).write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **parts}))
        return self.folder / name

    def kubeconfig(self, user: dict[str, Any], **cluster: str) -> Path:
        """A kubeconfig of a user, whose context has the test's namespace."""
        context = {"cluster": "c", "user": "u", "namespace": self.namespace}
        return self.write(
            "kubeconfig",
            **{
                "clusters": [self.cluster(**cluster)],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": context}],
                "current-context": "x",
            },
        )


def run(*args: str, code: int = 0, before: tuple[str, ...] = (), **environment: object) -> tuple[str, str]:
    """Stdout and stderr of the program in an environment without any kubeconfig."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*before, sys.executable, "-m", "kubectl_yoshi", *args],
        env={**clean, **{name: str(value) for name, value in environment.items()}},
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    assert ran.returncode == code, ran
    return ran.stdout, ran.stderr


def found_none(access: Access) -> str:
    """What a list says that was answered, and is empty."""
    return f"No networks found in {access.namespace} namespace."


@pytest.fixture
def access(installed: Cluster, namespace: str, tmp_path: Path) -> Access:
    config = yaml.safe_load(installed.kubectl("config", "view", "--raw", "--minify"))
    cluster = config["clusters"][0]["cluster"]
    issued = Path(cluster.get("certificate-authority", "")).parent
    if not (issued / f"{CLIENT_USER}.crt").exists():
        pytest.skip("only a lab has a client certificate for the tests")
    shutil.copy(issued / "ca.crt", tmp_path)
    for kind in ("crt", "key"):
        shutil.copy(issued / f"{CLIENT_USER}.{kind}", tmp_path / f"client.{kind}")
    installed.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    who = (f"--serviceaccount={namespace}:reader", f"--user={CLIENT_USER}")
    installed.kubectl("create", "rolebinding", "reader", "-n", namespace, "--clusterrole=view", *who)
    for user in (f"system:serviceaccount:{namespace}:reader", CLIENT_USER):
        wait_for_role(installed, user, namespace)
    token = installed.kubectl("create", "token", "reader", "-n", namespace).strip()
    return Access(cluster["server"], tmp_path, namespace, token, config["users"][0]["user"]["token"])


LIST = ("network", "list")
CERTIFICATE = {"client-certificate": "client.crt", "client-key": "client.key"}


def test_kubeconfig_is_merged_from_several_files(access: Access) -> None:
    context = {"cluster": "c", "user": "u", "namespace": access.namespace}
    files = [
        access.write("1", **{"current-context": "x"}),
        access.write("2", clusters=[access.cluster()]),
        access.write("3", users=[{"name": "u", "user": CERTIFICATE}]),
        access.write("4", contexts=[{"name": "x", "context": context}]),
    ]
    together = os.pathsep.join([str(access.folder / "not-there"), *map(str, files)])
    assert found_none(access) in "".join(run(*LIST, KUBECONFIG=together))


def test_connection_flags_override_the_kubeconfig_before_and_after_the_subcommand(access: Access) -> None:
    where = access.flags("server", "certificate-authority", "client-certificate", "client-key")
    for args in (
        [*where, "-n", access.namespace, *LIST],
        [*LIST, *where, "-n", access.namespace],
        [*where, "network", "-n", access.namespace, "list"],
    ):
        assert found_none(access) in "".join(run(*args))


def test_tokens_from_flags_fields_and_files_are_sent(access: Access) -> None:
    here = found_none(access)
    by_flag = [*LIST, *access.flags("server", "certificate-authority", "token"), "-n", access.namespace]
    assert here in "".join(run(*by_flag))
    assert here in "".join(run(*LIST, KUBECONFIG=access.kubeconfig({"token": access.token})))
    (access.folder / "token").write_text(f"{access.token}\n")
    assert here in "".join(run(*LIST, KUBECONFIG=access.kubeconfig({"tokenFile": "token"})))
    _, said = run(*LIST, code=1, KUBECONFIG=access.kubeconfig({"token": "wrong"}))
    assert said.startswith("error: ")
    assert "Traceback" not in said


@pytest.mark.parametrize("gives", ["token", "certificate"])
def test_credential_plugin_is_called(access: Access, gives: str) -> None:
    status = {"token": access.token}
    if gives == "certificate":
        crt, key = ((access.folder / name).read_text() for name in ("client.crt", "client.key"))
        status = {"clientCertificateData": crt, "clientKeyData": key}
    version = "client.authentication.k8s.io/v1"
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})
    plugin = access.folder / "plugin"
    plugin.write_text(f"#!/bin/sh\ncat <<'EOF'\n{answer}\nEOF\n")
    plugin.chmod(0o755)
    wanted = {"exec": {"apiVersion": version, "command": "./plugin", "interactiveMode": "Never"}}
    out = "".join(run(*LIST, KUBECONFIG=access.kubeconfig(wanted)))
    assert found_none(access) in out


def test_impersonated_user_is_named_in_the_refusal(access: Access) -> None:
    file = access.kubeconfig({"token": access.admin})
    assert 'User "eve"' in run(*LIST, "--as=eve", code=1, KUBECONFIG=file)[1]
    for groups in (["--as-group=system:masters"], ["--as-group", "some", "--as-group", "system:masters"]):
        assert "No networks" in "".join(run(*LIST, "--as", "eve", *groups, KUBECONFIG=file))


# -- proxies and pods ------------------------------------------------------------------------------------------------


class _Tunnel(socketserver.StreamRequestHandler):
    """CONNECT (RFC 9110, 9.3.6), to wherever it is asked for."""

    server: Proxy

    def handle(self) -> None:
        method, target, _ = self.rfile.readline().decode().split(" ")
        self.server.asked.append(f"{method} {target}")
        while self.rfile.readline().strip():
            pass
        host, _, port = target.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=60) as onward:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(onward, self.connection), daemon=True)
            back.start()
            self._pump(self.connection, onward)
            back.join(60)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(65536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@dataclass
class Proxy(socketserver.ThreadingTCPServer):
    """A proxy that keeps what it was asked for."""

    asked: list[str] = field(default_factory=list)
    daemon_threads = True

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_requests_go_through_the_configured_proxy(access: Access, proxy: Proxy) -> None:
    through = [f"CONNECT {urlsplit(access.server).netloc}"]
    run(*LIST, KUBECONFIG=access.kubeconfig(CERTIFICATE, **{"proxy-url": proxy.url}))
    assert proxy.asked[:1] == through
    proxy.asked.clear()
    file = access.kubeconfig(CERTIFICATE)
    run(*LIST, KUBECONFIG=file, HTTPS_PROXY=proxy.url)
    assert proxy.asked[:1] == through
    proxy.asked.clear()
    run(*LIST, KUBECONFIG=file, HTTPS_PROXY=proxy.url, NO_PROXY=urlsplit(access.server).hostname)
    assert proxy.asked == []


def test_service_account_is_used_inside_a_pod(access: Access) -> None:
    """In a mount namespace with the files that the kubelet puts into a pod."""
    if os.geteuid() != 0:
        pytest.skip("making a mount namespace needs root")
    script = (
        "mount -t tmpfs tmpfs /run && mkdir -p /run/secrets/kubernetes.io/serviceaccount && "
        'cd "$ACCOUNT" && cp ca.crt token namespace /run/secrets/kubernetes.io/serviceaccount && cd / && exec "$@"'
    )
    (access.folder / "token").write_text(access.token)
    (access.folder / "namespace").write_text(access.namespace)
    server = urlsplit(access.server)
    out, err = run(
        *LIST,
        before=("unshare", "--mount", "sh", "-ec", script, "sh"),
        ACCOUNT=access.folder,
        KUBERNETES_SERVICE_HOST=server.hostname,
        KUBERNETES_SERVICE_PORT=server.port,
    )
    assert found_none(access) in out + err


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_verbose_output_shows_requests_without_credentials(access: Access) -> None:
    file = access.kubeconfig({"token": access.token})
    for level in ("6", "9"):
        out, err = run(*LIST, "-v", level, KUBECONFIG=file)
        assert f"GET {access.server}/apis/plumber.k8s.pf9.io/v1/" in err
        assert access.token not in out + err
    assert "Request headers:" in err
    assert "Response body:" in err
    assert "Bearer" not in err
