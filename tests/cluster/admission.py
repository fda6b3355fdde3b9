"""A webhook that holds changes of VMs within the API server itself: to kill the server in the middle of them."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from lab.pki import make_authority
from lab.testing import Cluster
from tests.cluster.harness import Json, make
from tests.cluster.request_gate import RequestGate
from tests.unit.kube.fault_server import says, serving
from tests.waiting import wait_for

NAME = "gate.tests.yoshi"


@dataclass
class Admission:
    """A webhook that admits changes of VMs when its gate lets them pass.

    Attributes:
        gate: may be another one for each command; None where all go on.
        asked: how many changes there were.
    """

    gate: RequestGate | None = None
    asked: int = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        review = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.asked += 1
        if self.gate:
            self.gate.wait_for_turn()
        response = {"uid": review["request"]["uid"], "allowed": True}
        says(200, {**review, "request": None, "response": response}, Content_Type="application/json")(handler)


@contextmanager
def admission(cluster: Cluster, folder: Path, namespace: str, vm: str) -> Iterator[Admission]:
    """Open the webhook.

    Args:
        folder: for its certificates.
        namespace, vm: a VM to try it with; it stays as it is.
    """
    authority = make_authority(folder, "gate")
    pair = authority.issue(folder, "gate", "localhost", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    found = Admission()
    with serving(found.answer, context) as url:
        make(cluster, _configuration(url, base64.b64encode(authority.pem).decode()))

        def is_asked() -> bool:
            """Return whether the API server calls the webhook, which it does a moment after its creation."""
            cluster.kubectl("-n", namespace, "label", "vm", vm, "gate=tried", "--dry-run=server")
            return found.asked > 0

        try:
            wait_for(is_asked, "the API server asks the webhook")
            yield found
        finally:
            cluster.kubectl("delete", "validatingwebhookconfiguration", NAME)


def _configuration(url: str, authority: str) -> Json:
    rule = {
        "operations": ["UPDATE"], "apiGroups": ["kubevirt.io"], "apiVersions": ["*"], "resources": ["virtualmachines"],
    }  # fmt: skip
    webhook = {
        "name": NAME, "rules": [rule], "clientConfig": {"url": url, "caBundle": authority}, "timeoutSeconds": 30,
        "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
    }  # fmt: skip
    return {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": NAME}, "webhooks": [webhook],
    }  # fmt: skip
