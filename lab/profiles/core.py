"""The core profile: etcd, the API server, the controller manager, and the custom resources loaded."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.api import Api, api_of_kubeconfig, wait_until
from lab.errors import LabError
from lab.lab_ids import LabId
from lab.pki import Authority, make_authority, make_signing_key
from lab.processes import Launch, ProgramRecord, spawn

CLIENT_USER = "lab-client"
"""A user that a lab has a client certificate for, pki/lab-client.crt, and no permissions."""
CONTEXT = "lab"
"""The context of a lab's kubeconfig."""
READY_SECONDS = 300
"""How long an API server may take to begin on a busy machine; one that ends is noticed at once."""
SERVICE_RANGE = "10.96.0.0/16,fd00:10:96::/112"


@dataclass(frozen=True)
class Core:
    """A running core, and what the full profile builds on."""

    folder: Path
    lab_id: LabId
    programs: Mapping[str, Path]
    authority: Authority
    api: Api
    kubeconfig: Path


def start_core(folder: Path, lab_id: LabId, programs: Mapping[str, Path], host: str) -> Core:
    """Start etcd, the API server and the controller manager; returns when the server is ready.

    `host` is the address that the API server has: the loopback, or the bridge's for the full profile, whose nodes are
    in network namespaces of their own.
    """
    certificates = folder / "pki"
    certificates.mkdir()
    authority = make_authority(certificates, "lab-ca")
    token = secrets.token_urlsafe(24)
    kubeconfig = folder / "kubeconfig"
    write_kubeconfig(kubeconfig, authority, f"{host}:{lab_id.port('kube-apiserver')}", token)
    etcd = spawn(_etcd(folder, lab_id, programs), folder)
    server = spawn(_api_server(certificates, authority, lab_id, programs, host, token), folder)
    api = admin_api(folder)
    wait_ready(api, [etcd, server])
    spawn(_controller_manager(folder, lab_id, programs), folder)
    return Core(folder, lab_id, programs, authority, api, kubeconfig)


def admin_api(folder: Path) -> Api:
    """The client that the lab's kubeconfig is for."""
    return api_of_kubeconfig(folder / "kubeconfig", CONTEXT)


def wait_ready(api: Api, records: Sequence[ProgramRecord]) -> None:
    """Wait until the API server is ready; when one of its programs ends instead, a LabError shows its last words."""

    def ready() -> bool:
        for record in records:
            if not record.running:
                raise LabError(f"{record.launch.name} ended at its start:\n{tail_log(record.log)}")
        return api.is_ready()

    wait_until("the API server is ready", ready, seconds=READY_SECONDS)


def tail_log(log: Path) -> str:
    """The end of a log, as much as one wants to read."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return "\n".join(line[:300] for line in lines[-8:]) or f"({log} is empty)"


def load_crds(api: Api, documents: Sequence[bytes]) -> None:
    """Create CRDs side by side and wait until the API server serves every one.

    They are created, not applied: at half a megabyte each, a copy of one does not fit into an annotation.
    """
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(api.create_document, documents))
    wanted = {crd for document in documents if (crd := _group_and_plural(document))}
    wait_until("the custom resources are served", lambda: wanted <= api.list_served_resources())


def write_kubeconfig(file: Path, authority: Authority, server: str, token: str) -> None:
    """A kubeconfig (JSON, which is YAML) for one user of the lab's API server, readable by its owner only."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "lab",
                "cluster": {"server": f"https://{server}", "certificate-authority": str(authority.file)},
            }
        ],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": "lab", "user": "lab", "namespace": "default"}}],
        "current-context": CONTEXT,
    }
    file.touch(mode=0o600)
    file.write_text(json.dumps(config, indent=2) + "\n")


def _group_and_plural(document: bytes) -> tuple[str, str] | None:
    """Which resource a CRD document defines; from its name, which Kubernetes wants to be `<plural>.<group>`."""
    if document.startswith(b"{"):
        found = json.loads(document)
        if found["kind"] != "CustomResourceDefinition":
            return None
        return found["spec"]["group"], found["spec"]["names"]["plural"]
    if not re.search(rb"(?m)^kind: CustomResourceDefinition\s*$", document):
        return None
    name = re.search(rb"(?m)^  name: ([a-z0-9-]+)\.([a-z0-9.-]+)\s*$", document)
    if not name:
        raise LabError(f"a CRD without a name: {document[:200]!r}")
    return name.group(2).decode(), name.group(1).decode()


def _etcd(folder: Path, lab_id: LabId, programs: Mapping[str, Path]) -> Launch:
    client, peer = (f"http://127.0.0.1:{lab_id.port(name)}" for name in ("etcd", "etcd-peer"))
    command = [
        str(programs["etcd"]),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the data is thrown away; waiting for the disk makes every write ten times slower
        "--log-level=warn",
    ]
    return Launch("etcd", command, lab_id.port("etcd"))


def _api_server(
    certificates: Path, authority: Authority, lab_id: LabId, programs: Mapping[str, Path], host: str, token: str
) -> Launch:
    hosts = ["127.0.0.1", "localhost", lab_id.gateway, "10.96.0.1", "kubernetes.default.svc"]
    serving = authority.issue(certificates, "apiserver", "kube-apiserver", hosts)
    proxy = authority.issue(certificates, "front-proxy", "front-proxy-client")
    authority.issue(certificates, CLIENT_USER, CLIENT_USER)
    signing = make_signing_key(certificates, "service-accounts")
    tokens = certificates / "tokens.csv"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{token},admin,1,system:masters\n")
    port = lab_id.port("kube-apiserver")
    command = [
        str(programs["kube-apiserver"]),
        f"--etcd-servers=http://127.0.0.1:{lab_id.port('etcd')}",
        f"--secure-port={port}",
        f"--bind-address={host}",
        f"--advertise-address={host}",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--client-ca-file={authority.file}",
        f"--requestheader-client-ca-file={authority.file}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={proxy.certificate}",
        f"--proxy-client-key-file={proxy.key}",
        "--enable-aggregator-routing",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={signing.key}",
        f"--service-account-key-file={signing.certificate}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--allow-privileged=true",
    ]
    return Launch("kube-apiserver", command, port)


def _controller_manager(folder: Path, lab_id: LabId, programs: Mapping[str, Path]) -> Launch:
    name = "kube-controller-manager"
    command = [
        str(programs[name]),
        *component_flags(folder / "kubeconfig", lab_id.port(name)),
        f"--service-account-private-key-file={folder / 'pki' / 'service-accounts.key'}",
        f"--root-ca-file={folder / 'pki' / 'ca.crt'}",
        "--use-service-account-credentials",
    ]
    return Launch(name, command, lab_id.port(name))


def component_flags(kubeconfig: Path, port: int) -> list[str]:
    """What the controller manager and the scheduler have in common."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
    ]
