"""KubeVirt in the full profile: virt-controller, and virt-api with its webhooks and subresources.

There is no virt-operator. The objects that it would create are created here: the permissions, the certificates, the
webhooks (rewritten from a Service to a URL, since no kube-proxy makes Services reachable), and the status of the
KubeVirt object.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.lab_ids import LabId
from lab.manifests import kubevirt_documents
from lab.pki import Authority
from lab.processes import Launch
from lab.programs import VIRT_API

NAMESPACE = "kubevirt"
ACCOUNTS = ("kubevirt-controller", "kubevirt-apiserver")


def objects(authority: Authority) -> list[Mapping[str, Any]]:
    """The namespace, the permissions, and the authority that virt-api's clients are checked against."""
    rbac = [json.loads(document) for document in kubevirt_documents("rbac")]
    bundle = {"ca-bundle": authority.pem.decode()}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        *rbac,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "kubevirt-ca", "namespace": NAMESPACE},
            "data": bundle,
        },
    ]


def kubevirt_object() -> dict[str, Any]:
    """The KubeVirt object: emulation, and bridge binding on the pod network, as installations have it by default."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
        "spec": {
            "configuration": {
                "developerConfiguration": {"useEmulation": True},
                "network": {"defaultNetworkInterface": "bridge", "permitBridgeInterfaceOnPodNetwork": True},
            }
        },
    }


def kubevirt_status() -> dict[str, Any]:
    """What virt-operator writes when it is done."""
    version = VIRT_API.version
    return {
        "phase": "Deployed",
        "defaultArchitecture": "amd64",
        "operatorVersion": version,
        "observedKubeVirtVersion": version,
        "targetKubeVirtVersion": version,
    }


def webhooks(authority: Authority, lab_id: LabId) -> list[Mapping[str, Any]]:
    """virt-api's webhooks, and the subresource API with the Service and endpoint that lead to it."""
    bundle = base64.b64encode(authority.pem).decode()
    port = lab_id.port("virt-api")
    made = [json.loads(document) for what in ("apiservices", "webhooks") for document in kubevirt_documents(what)]
    for found in made:
        if found["kind"] == "APIService":
            found["spec"]["caBundle"] = bundle
        elif found["kind"] == "Service":
            del found["spec"]["selector"]  # its endpoint is not a pod
            found["spec"]["ports"] = [{"name": "https", "port": 443, "targetPort": port}]
        else:
            for hook in found["webhooks"]:
                path = hook["clientConfig"]["service"]["path"]
                hook["clientConfig"] = {"url": f"https://{lab_id.gateway}:{port}{path}", "caBundle": bundle}
    # Kubernetes 1.31 routes by it, later ones by the EndpointSlice that the controller manager makes of it.
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "virt-api", "namespace": NAMESPACE},
        "subsets": [
            {
                "addresses": [{"ip": lab_id.gateway}],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
        ],
    }
    return [*made, endpoints]


def controller_launch(folder: Path, lab_id: LabId, programs: Mapping[str, Path], authority: Authority) -> Launch:
    # A folder of its own for each program's certificates: it watches the folder, and spins when something else changes.
    certificates = folder / "virt-controller"
    certificates.mkdir()
    pair = authority.issue(certificates, "tls", "virt-controller", ["virt-controller"])
    port = lab_id.port("virt-controller")
    command = [
        str(programs["virt-controller"]),
        f"--kubeconfig={folder / 'kubevirt-controller.kubeconfig'}",
        "--listen=127.0.0.1",
        f"--port={port}",
        "--launcher-image=quay.io/kubevirt/virt-launcher",
        "--exporter-image=quay.io/kubevirt/virt-exportserver",
        f"--prom-cert-file={pair.certificate}",
        f"--prom-key-file={pair.key}",
    ]
    return Launch("virt-controller", command, port)


def api_launch(folder: Path, lab_id: LabId, programs: Mapping[str, Path], authority: Authority) -> Launch:
    certificates = folder / "virt-api"
    certificates.mkdir()
    serving = authority.issue(certificates, "tls", "virt-api.kubevirt.svc", [lab_id.gateway])
    handler = authority.issue(certificates, "handler", "kubevirt.io:system:client:virt-handler")
    port = lab_id.port("virt-api")
    command = [
        str(programs["virt-api"]),
        f"--kubeconfig={folder / 'kubevirt-apiserver.kubeconfig'}",
        f"--listen={lab_id.gateway}",
        f"--port={port}",
        f"--console-server-port={lab_id.port('virt-api-console')}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-key-file={serving.key}",
        f"--handler-cert-file={handler.certificate}",
        f"--handler-key-file={handler.key}",
    ]
    return Launch("virt-api", command, port)
