"""Two API servers, the second of which reads what is written later than the first.

An allocation is written by way of the first, and the VM by way of the second, whose policies do not know the allocation
yet.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lab
from kubectl_yoshi.kube.connection import Connection, ConnectionOptions, HttpRequest
from lab.api import Api, ApiError, api_of_kubeconfig
from lab.processes import spawn
from lab.testing import Cluster
from tests.cluster.harness import ForkServer, Yoshi, make, make_vms, wait_for_role
from tests.cluster.scripted_fault_proxy import ScriptedFaultProxy, write_kubeconfig
from tests.unit.kube.fault_server import serving
from tests.waiting import wait_for

RBAC = "rbac.authorization.k8s.io"
IP_ADDRS = "cni.projectcalico.org/ipAddrs"
NETWORKS = {"blue": "10.95.0.0/24", "big": "10.98.0.0/20"}
"""One whose allocations are in its own object, one that has AddressBlocks."""
VMS = 4
LAG = 0.3
"""How much later the second API server reads what is written, in seconds."""


class DelayedPort:
    """Forwards TCP connections to a server, whose data the client receives later.

    Attributes:
        port: where it listens, on 127.0.0.1.
        delay: how much later, in seconds.
    """

    def __init__(self, target: int) -> None:
        self.target, self.delay = target, 0.0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """Forward a connection in both directions until both ends have closed it."""
        received: queue.Queue[tuple[float, bytes]] = queue.Queue()
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            threads = [
                threading.Thread(target=self._receive, args=(server, received), daemon=True),
                threading.Thread(target=_send, args=(client, received), daemon=True),
            ]
            for thread in threads:
                thread.start()
            with suppress(OSError):
                while data := client.recv(65536):
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
            for thread in threads:
                thread.join()

    def _receive(self, server: socket.socket, received: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            try:
                data = server.recv(65536)
            except OSError:
                data = b""
            received.put((time.monotonic() + self.delay, data))


def _send(client: socket.socket, received: queue.Queue[tuple[float, bytes]]) -> None:
    with suppress(OSError):
        while True:
            due, data = received.get()
            time.sleep(max(due - time.monotonic(), 0))
            if not data:
                client.shutdown(socket.SHUT_WR)
                return
            client.sendall(data)


@dataclass
class SplitConnection:
    """Sends the patches of VMs to the second server, and all other requests to the first."""

    first: Connection
    second: Connection

    def send(self, request: HttpRequest) -> Any:
        """Send a request; return the response."""
        is_vm = request.method == "PATCH" and "/virtualmachines/" in request.path
        return (self.second if is_vm else self.first).send(request)


@dataclass
class TwoServers:
    """A cluster, ann's client of the second API server, and the proxy through which ann's requests go to both."""

    cluster: Cluster
    second: Api
    proxy: ScriptedFaultProxy
    kubeconfig: Path


@pytest.fixture
def two_servers(request: pytest.FixtureRequest, forks: ForkServer, tmp_path: Path) -> Iterator[TwoServers]:
    if request.config.getoption("cluster") != "lab":
        pytest.skip("starts a second API server, and another cluster was chosen")
    with ExitStack() as stack:
        running = stack.enter_context(lab.start())
        etcd = stack.enter_context(closing(DelayedPort(running.program("etcd").launch.port)))
        second = _start_second_server(running, etcd.port, tmp_path / "second")
        cluster = Cluster(running.kubeconfig, "lab")
        Yoshi(cluster.kubeconfig, cluster.context, forks).done("install")
        etcd.delay = LAG
        connections = [
            stack.enter_context(closing(Connection.open(ConnectionOptions(kubeconfig=str(path), as_user="ann"))))
            for path in (running.kubeconfig, second)
        ]
        proxy = ScriptedFaultProxy("", SplitConnection(*connections))  # type: ignore[arg-type]
        proxy.url = stack.enter_context(serving(proxy.answer))
        ann = api_of_kubeconfig(second, "lab").impersonate("ann")
        yield TwoServers(cluster, ann, proxy, write_kubeconfig(tmp_path / "ann", proxy.url))


def _start_second_server(running: lab.Lab, etcd_port: int, kubeconfig: Path) -> Path:
    """Start an API server that reads etcd by way of a port, and write a kubeconfig for it."""
    first = running.program("kube-apiserver").launch
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    replaced = {"--secure-port": str(port), "--etcd-servers": f"http://127.0.0.1:{etcd_port}"}
    names = [word.partition("=")[0] for word in first.command]
    command = [
        f"{name}={replaced[name]}" if name in replaced else word
        for name, word in zip(names, first.command, strict=True)
    ]
    spawn(replace(first, name="kube-apiserver-2", command=command, port=port), running.folder)
    config = json.loads(running.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    kubeconfig.write_text(json.dumps(config))
    wait_for(api_of_kubeconfig(kubeconfig, "lab").is_ready, "the second API server is ready")
    return kubeconfig


def test_attach_succeeds_where_the_policies_read_the_allocation_later(
    two_servers: TwoServers, forks: ForkServer
) -> None:
    cluster = two_servers.cluster
    yoshi = Yoshi(cluster.kubeconfig, cluster.context, forks)
    ann = Yoshi(two_servers.kubeconfig, "it", forks)
    names = [f"vm-{number}" for number in range(VMS)]
    with cluster.namespace() as shared, cluster.namespace() as own:
        make_vms(cluster, own, "first", *names)
        _grant(cluster, shared, own)
        for network, cidr in NETWORKS.items():
            yoshi.done("network", "create", network, "--cidr", cidr, "-n", shared)
            yoshi.done("vm", "attach", "first", "-n", own, "--network", f"{shared}/{network}")  # also creates the block
            taken = yoshi.done("ips", "list", network, "-n", shared, "-o", "jsonpath={.items[0].spec.address}")
            body = {"spec": {"template": {"metadata": {"annotations": {IP_ADDRS: f'["{taken}"]'}}}}}
            path = f"/apis/kubevirt.io/v1/namespaces/{own}/virtualmachines/{names[0]}?dryRun=All"
            wait_for(partial(_is_denied, two_servers.second, path, body), "the second server applies the policies")
            asked = two_servers.proxy.asked
            asked.clear()

            ann.done("vm", "attach", *names, "-n", own, "--network", f"{shared}/{network}")

            patches = [line for line in asked if line.startswith("PATCH") and "/virtualmachines/" in line]
            assert len(patches) > VMS, "no patch was refused and sent again"
            assert f"{VMS + 1} addresses, all as recorded" in yoshi.done("ips", "check", "-A")
            yoshi.done("vm", "detach", "first", *names, "-n", own, "--network", f"{shared}/{network}")


def _is_denied(api: Api, path: str, body: dict[str, Any]) -> bool:
    try:
        api.patch(path, body)
    except ApiError as error:
        return "is allocated to" in str(error)
    return False


def _grant(cluster: Cluster, shared: str, own: str) -> None:
    """Let ann allocate addresses of the networks in one namespace for the VMs in another one."""
    rules = [{"apiGroups": ["kubevirt.io"], "resources": ["*"], "verbs": ["*"]}]
    make(cluster, {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "vms"}, "rules": rules})
    for namespace, role in ((shared, "yoshi-user"), (own, "yoshi-user"), (own, "vms"), ("", "yoshi-calico-reader")):
        make(
            cluster,
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
                "metadata": {"name": role, **({"namespace": namespace} if namespace else {})},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "ann"}],
            },
        )
    for namespace in (shared, own):
        wait_for_role(cluster, "ann", namespace)
